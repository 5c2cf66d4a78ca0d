"""The monitor in a terminal."""
