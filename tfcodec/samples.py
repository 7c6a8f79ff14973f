"""Sound as an array: checked, and made float32. Everything that takes sound from outside comes by here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import MediaError

Samples = npt.NDArray[np.float32]
INT16_FULL = np.float32(32768)


def to_float(sound: npt.ArrayLike) -> Samples:
    """Sound of any shape as float32: float as it is, int16 divided by 32768.

    Raises:
        MediaError: another type, or a sample that is not a finite number.
    """
    try:
        samples = np.asarray(sound)
    except (TypeError, ValueError) as error:
        raise MediaError("sound must be an array of numbers") from error
    kind = samples.dtype.kind
    if kind == "i" and samples.dtype.itemsize == 2:
        return samples.astype(np.float32) / INT16_FULL
    if kind != "f":
        raise MediaError(f"sound must be float in -1...1 or int16, not {samples.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        first = int(np.argmin(np.isfinite(samples.reshape(len(samples), -1)).all(axis=1))) if samples.ndim else 0
        raise MediaError(f"sound: sample {first} is not a finite number")
    return samples


def check_samples(pcm: npt.ArrayLike) -> Samples:
    """Mono sound, [n] float in -1...1 or int16, as [n] float32, clipped to -1...1.

    Raises:
        MediaError: another type or shape, or a sample that is not a finite number.
    """
    samples = to_float(pcm)
    if samples.ndim != 1:
        raise MediaError(f"speech must be mono, [n], not {list(samples.shape)}")
    return np.clip(samples, -1, 1)
