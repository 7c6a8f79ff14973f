"""The rates that all parts share, and the way between the two clocks of speech."""

from __future__ import annotations

FPS = 25
"""Frames per second of everything that tfcodec writes."""
FRAME_MS = 1000 // FPS
SAMPLE_RATE = 16_000
"""Of speech as it goes in and comes out, in Hz."""
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
OPUS_RATE = 48_000
"""Opus' own clock, in Hz: the stream counts speech in its samples."""
OPUS_PER_SAMPLE = OPUS_RATE // SAMPLE_RATE
OPUS_PER_MS = OPUS_RATE // 1000
