"""Benchmarks: every figure that Thunderline states, reproduced by `make bench`."""
