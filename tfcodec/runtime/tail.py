"""What the full and the light network have in common between their stages and behind them."""

from __future__ import annotations

import numpy as np

from .builder import Blob, Builder


def wrong(b: Builder, picture: Blob) -> Blob:
    """What a picture's box means lack of the tiny frame, four times."""
    return b.times(b.minus(b.input("now", 3, 8, 8), b.box(picture, 8)), 4.0)


def finish(b: Builder, x: Blob, pixels: Blob, coarse: Blob) -> Blob:
    """The picture before its close-ups, of stage 2's features and the keyframe's pixels, moved."""
    paint, blend = b.split(b.shuffle(b.conv(b.silu(x), "stage2.paint", shift=-4.0)), 3)
    change = b.minus(b.up(coarse, 4), pixels)
    picture = b.plus(b.plus(pixels, b.times(b.sigmoid(blend), change)), paint)
    share = 1 / (1 + np.exp(-np.float64(b.state["stage2.projection"])))
    lacking = b.times(b.minus(b.input("now", 3, 8, 8), b.box(picture, 8)), float(share))
    picture = b.plus(picture, b.up(lacking, 32, bicubic=True))
    b.name(picture, "frame")
    return picture
