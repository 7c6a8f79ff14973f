"""Smoothing of tracked motion in time, before it is coded: a tracker's jitter costs bits and shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfcodec.errors import MediaError

WINDOW, ORDER = 5, 2
FloatArray = npt.NDArray[np.float64]


def smooth(numbers: npt.ArrayLike, present: npt.ArrayLike | None = None, *, ahead: int = 2) -> FloatArray:
    """Numbers [T, N] after a Savitzky-Golay filter of 5 frames and order 2 within each run of frames with a face.

    Args:
        numbers: `[T, N]`; rows of frames without a face are returned as they are.
        present: `[T]` bool; None: a face in every frame.
        ahead: frames that the filter may look ahead, 0..2: 2 in files, 1 in calls.

    Raises:
        MediaError: wrong shapes, or `ahead` out of range.
    """
    values = np.array(numbers, np.float64)
    there = np.ones(len(values), bool) if present is None else np.asarray(present, bool)
    if values.ndim != 2 or there.shape != (len(values),):
        raise MediaError(f"numbers [T, N] and present [T] do not match: {values.shape} and {there.shape}")
    if ahead not in range(WINDOW // 2 + 1):
        raise MediaError(f"ahead must be 0, 1 or 2 frames, not {ahead!r}")
    position = np.arange(WINDOW, dtype=np.float64)[:, None] ** np.arange(ORDER + 1)
    hat = position @ np.linalg.pinv(position)  # row i: weights that give the polynomial's value at place i
    out = values.copy()
    edges = np.flatnonzero(np.diff(np.r_[False, there, False]))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - start < WINDOW:
            continue
        for t in range(start, end):
            first = min(max(t - (WINDOW - 1 - ahead), start), end - WINDOW)
            out[t] = hat[t - first] @ values[first : first + WINDOW]
    return out
