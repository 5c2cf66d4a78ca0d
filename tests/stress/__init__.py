"""Real threads that do everything at once."""
