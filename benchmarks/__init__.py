"""Measuring, searching and publishing; each script is started as ``python -m benchmarks.measure.speed``."""
