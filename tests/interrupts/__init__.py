"""What an interrupt may break: KeyboardInterrupt at every point of an operation, and at random."""
