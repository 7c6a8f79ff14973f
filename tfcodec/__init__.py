"""tfcodec: talking-face video at very low bit rates."""

__version__ = "0.1.0"
