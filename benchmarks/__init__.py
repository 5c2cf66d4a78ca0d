"""What dbpool and its peers cost, on the same work in one run: `python -m benchmarks`, or `make bench`."""
