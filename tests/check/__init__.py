"""The command check: what it reads, asks, finds and says."""
