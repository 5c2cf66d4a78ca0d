"""What the core promises, one file for each subject; no driver and no server."""
