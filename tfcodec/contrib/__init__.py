"""Bridges to other projects; each needs its extra to be installed."""
