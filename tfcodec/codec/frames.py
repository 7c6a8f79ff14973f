"""What goes into an encoder, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MediaError
from ..samples import Samples, check_samples

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


def check_speech(audio: ArrayLike | None) -> Samples | None:
    """[n] float32 in -1...1 of mono speech, float or int16. Raises MediaError for anything else."""
    return None if audio is None else check_samples(audio)


def check_silent(speech: Samples | None) -> None:
    """Raise MediaError if there is speech, in a stream that began without."""
    if speech is not None and len(speech):
        raise MediaError("speech after a beginning without: give Encoder audio=True")
