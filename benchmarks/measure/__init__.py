"""Runs that measure the codec and write their results as JSON into `benchmarks/results/`."""
