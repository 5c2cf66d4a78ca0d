"""What other libraries need so that they can use a pool; each module imports its own."""
