"""The workloads: what is done with the pools, each in a file of its own."""
