"""What all metrics ask of their input."""

from __future__ import annotations

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
