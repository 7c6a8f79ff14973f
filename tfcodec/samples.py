"""Sound as an array, checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import MediaError

Samples = npt.NDArray[np.float32]


def check_samples(pcm: npt.ArrayLike) -> Samples:
    """Mono sound as `[n] float32`, clipped to -1...1. Raises MediaError if it is not one-dimensional and finite."""
    try:
        samples = np.asarray(pcm, np.float32)
    except (TypeError, ValueError) as error:
        raise MediaError("speech must be an array of numbers") from error
    if samples.ndim != 1:
        raise MediaError(f"speech must be mono, [n], not {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise MediaError(f"speech: sample {int(np.argmin(np.isfinite(samples)))} is not a finite number")
    return np.clip(samples, -1, 1)
