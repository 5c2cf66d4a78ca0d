"""Explores the schedules of the shipped, threaded pool: real threads, of which one runs at a time."""
