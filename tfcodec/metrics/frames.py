"""What all metrics ask of their input, and the baseline that everything is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError

Frames = NDArray[np.uint8]


def check_frames(frames: Frames, what: str = "frames", least: int = 1) -> None:
    """Raise TfcodecError unless ``frames`` is [T, H, W, 3] uint8 with at least ``least`` frames."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise TfcodecError(f"{what} must be [T, H, W, 3] uint8, not {list(frames.shape)} {frames.dtype}")
    if len(frames) < least:
        raise TfcodecError(f"{what}: this metric needs {least} frames or more, not {len(frames)}")


def check_pair(a: Frames, b: Frames, least: int = 1) -> None:
    """Raise TfcodecError unless both are [T, H, W, 3] uint8 of one shape."""
    check_frames(a, "first video", least)
    check_frames(b, "second video", least)
    if a.shape != b.shape:
        raise TfcodecError(f"the videos differ in shape: {list(a.shape)} and {list(b.shape)}")


def frozen_keyframes(keyframes: Sequence[tuple[int, Frames]], wanted: int | NDArray[np.int64]) -> Frames:
    """The frozen keyframe: each keyframe shown until the next, [n, H, W, 3] uint8.

    Args:
        keyframes: (index of the first frame drawn with it, [H, W, 3] uint8), as in `tfcodec.Clip.keyframes`. The first
            one serves the frames before it too.
        wanted: how many frames, from the first on; or the numbers of the frames.

    With one keyframe the result is a read-only view of it. Raises TfcodecError without any.
    """
    if not keyframes:
        raise TfcodecError("there is no keyframe to freeze")
    numbers = np.arange(wanted) if isinstance(wanted, int) else wanted
    pictures = np.stack([picture for _, picture in keyframes])
    if len(pictures) == 1:
        return np.broadcast_to(pictures[0], (len(numbers), *pictures.shape[1:]))
    starts = [first for first, _ in keyframes[1:]]
    return np.asarray(pictures[np.searchsorted(starts, numbers, side="right")])
