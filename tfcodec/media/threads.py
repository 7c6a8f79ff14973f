"""How many threads FFmpeg's video decoders and encoders may use in this process."""

from __future__ import annotations

count = 0
"""0: as FFmpeg sees fit."""
