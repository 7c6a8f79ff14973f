"""What goes into an encoder, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MediaError

Frame = NDArray[np.uint8]


def check_frames(frame: Frame | None) -> Frame:
    """[n, 256, 256, 3] uint8 of one frame, several or none. Raises MediaError for anything else."""
    if frame is None:
        return np.zeros((0, 256, 256, 3), np.uint8)
    good = isinstance(frame, np.ndarray) and frame.shape[-3:] == (256, 256, 3) and frame.ndim <= 4
    if not good or frame.dtype != np.uint8:
        got = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise MediaError(f"a frame must be [256, 256, 3] uint8 RGB, not {got}")
    return frame[None] if frame.ndim == 3 else frame


def check_silent(audio: ArrayLike | None) -> None:
    """Raise MediaError if there is speech, in a stream that began without."""
    if audio is not None and np.size(audio):
        raise MediaError("speech after a beginning without: give Encoder audio=True")
