"""Where the network looks closer, and the units of what it says: known to all that draws. Needs no torch.

Squares are in the head's frame: its origin lies between the eyes, its x axis goes through them, their distance is the
unit.
"""

from __future__ import annotations

from typing import NamedTuple

HALF = 128
"""Pixels between the middle of a picture and its edge: landmarks in -1..1 are so many of them."""
COUNT = 70
"""Landmarks: the 68-point layout, then both irises."""
MOUTH = slice(48, 68)
PEN = 3.0
"""Radius of the dots that landmarks are drawn as at 64x64, in pixels at 256."""
FLOW_UNIT = 0.1  # head output 1.0 = 12.8 pixels at 256
EDGE = 0.12
"""Share of a square, on each side, over which what is pasted fades out."""


class Square(NamedTuple):
    """What a close-up looks at: its edges in the head's frame, its size in pixels, its landmarks by plane."""

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    planes: tuple[tuple[int, ...], ...]
    pen: float  # radius of a landmark's dot


MOUTH_SQUARE = Square(
    -0.75, 0.42, 0.75, 1.62, 80, 64, ((*range(48, 60),), (*range(60, 68),), (*range(3, 14),)), 0.045
)  # fmt: skip
EYES_SQUARE = Square(
    -0.85, -0.425, 0.85, 0.425, 96, 48,
    ((36, 37, 38, 39, 42, 43, 44, 45), (36, 41, 40, 39, 42, 47, 46, 45), (68, 69), (*range(17, 27),)), 0.03,
)  # fmt: skip
SQUARES = (MOUTH_SQUARE, EYES_SQUARE)

# The face tracker's: places and extents of the closer looks, in units of the head (see `tracker.head_of`).
FACE_MIDDLE, FACE_HALF = 0.6, (1.6, 1.6)
MOUTH_HALF = (0.75, 0.5625)
EYE_HALF = (0.42, 0.35)
MOUTH_PER_UNIT = 0.8  # eyes and mouth are 1.2 eye distances apart: it tells the size where a turned head's eyes do not
LOOKS = {"coarse": (64, 64), "face": (96, 96), "mouth": (48, 64), "eye": (40, 48)}
"""Height and width of what each look sees."""
FOUND = 0.5
"""The score from which on there is a face."""
