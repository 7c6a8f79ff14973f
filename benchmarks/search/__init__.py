"""Fits and searches: they settle tables, components and constants of the package, on clips of `train`."""
