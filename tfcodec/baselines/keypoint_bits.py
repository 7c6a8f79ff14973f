"""Entropy coding of keypoint tracks: integers in, bytes out, with tfcodec's own range coder. No torch.

A track is [T, N] integers (N numbers a frame: coordinates, and Jacobians where there are some). Each frame is predicted
from the frame before, and the residuals are coded as binary decisions whose weights come from integer counts that
adapt as they go, so that nothing is trained and nothing is sent beside the decisions. No float decides a symbol.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError, TfcodecError
from ..tinyframe.rangecoder import TOTAL, RangeDecoder, RangeEncoder

IntArray = NDArray[np.int64]

LIMIT = 1 << 15
"""Numbers lie in -LIMIT+1 ... LIMIT-1."""
_LARGE = 14  # magnitudes from here on are Exp-Golomb
_LEVELS = 3  # what is known of the neighbourhood: 0, 1, more
_FULL = 1024  # counts are halved here: what was long ago counts less
_RATE = 32


class Counts:
    """One binary model: how often 0 and 1 have come."""

    __slots__ = ("one", "zero")

    def __init__(self) -> None:
        # Half a count each, in units of a count of 32, which is the Krichevsky-Trofimov estimator.
        self.zero = self.one = _RATE // 2

    def weight(self) -> int:
        """Weight of a 1 out of 2^24, strictly between."""
        return min(TOTAL - 1, max(1, TOTAL * self.one // (self.zero + self.one)))

    def update(self, bit: int) -> None:
        if bit:
            self.one += _RATE
        else:
            self.zero += _RATE
        if self.zero + self.one > _FULL * _RATE:
            self.zero = (self.zero + 1) // 2
            self.one = (self.one + 1) // 2


class _Models:
    def __init__(self, numbers: int) -> None:
        # Context: which number of a frame; how large its last residual was; how large those just coded are.
        self.still = Counts()
        self.zero = [[[Counts() for _ in range(_LEVELS)] for _ in range(_LEVELS)] for _ in range(numbers)]
        self.sign = [[Counts() for _ in range(3)] for _ in range(numbers)]
        self.more = [[[Counts() for _ in range(_LARGE)] for _ in range(_LEVELS)] for _ in range(2)]
        self.large = [Counts() for _ in range(2 * LIMIT.bit_length() + 2)]


class _Writer:
    def __init__(self) -> None:
        self.coder = RangeEncoder()

    def bit(self, model: Counts, bit: int) -> int:
        self.coder.encode(bit, model.weight())
        model.update(bit)
        return bit


class _Reader:
    def __init__(self, payload: bytes) -> None:
        self.coder = RangeDecoder(payload)

    def bit(self, model: Counts, _: int = 0) -> int:
        bit = self.coder.decode(model.weight())
        model.update(bit)
        return bit


def _number(io: _Writer | _Reader, models: _Models, at: int, last: int, around: int, value: int) -> int:
    # One residual; writing returns what was given, reading what was found.
    near = min(_LEVELS - 1, abs(last))
    if io.bit(models.zero[at][near][around], int(value == 0)):
        return 0
    before = 0 if last == 0 else 1 if last > 0 else 2
    negative = io.bit(models.sign[at][before], int(value < 0))
    size, ladder = 1, models.more[at % 2][max(near, around)]
    while size <= _LARGE and io.bit(ladder[size - 1], int(abs(value) > size)):
        size += 1
    if size > _LARGE:
        size += _golomb(io, models.large, abs(value) - size)
    return -size if negative else size


def _golomb(io: _Writer | _Reader, models: list[Counts], rest: int) -> int:
    length, wanted = 0, (rest + 1).bit_length() - 1
    while io.bit(models[length], int(length < wanted)):
        length += 1
        if length > LIMIT.bit_length() + 1:
            raise BitstreamError("keypoint payload holds a number beyond all limits")
    value = 1
    for position in range(length - 1, -1, -1):
        value = value << 1 | io.bit(models[LIMIT.bit_length() + 2 + position], (rest + 1) >> position & 1)
    return value - 1


def _frames(io: _Writer | _Reader, out: IntArray, given: IntArray | None) -> None:
    count, numbers = out.shape
    models = _Models(numbers)
    before, last = [0] * numbers, [0] * numbers
    for t in range(count):
        now = before if given is None else [int(v) for v in given[t]]
        same = io.bit(models.still, int(now == before))
        residuals = [0] * numbers
        if not same:
            for i in range(numbers):
                # The keypoints of one axis move together with the head.
                recent = abs(residuals[i - 2]) if i >= 2 else 0
                other = abs(residuals[i - 4]) if i >= 4 else recent
                around = min(_LEVELS - 1, (recent + other + 1) // 2)
                residuals[i] = _number(io, models, i, last[i], around, now[i] - before[i])
        before = [b + r for b, r in zip(before, residuals, strict=True)]
        if max(map(abs, before)) >= LIMIT:
            raise BitstreamError("keypoint payload leaves the limits")
        # After the first frame, which is predicted from nothing, all begins anew.
        last = residuals if t else [0] * numbers
        out[t] = before


def encode_track(track: IntArray) -> bytes:
    """Code integers [T, N]. Raises TfcodecError when they are not such, or beyond `LIMIT`."""
    if track.ndim != 2 or not track.size or not np.issubdtype(track.dtype, np.integer):
        raise TfcodecError(f"a keypoint track must be [T, N] integers, not {list(track.shape)} {track.dtype}")
    if np.abs(track.astype(np.int64)).max() >= LIMIT:
        raise TfcodecError(f"keypoint numbers must lie within +-{LIMIT - 1}")
    io = _Writer()
    _frames(io, np.empty(track.shape, np.int64), track.astype(np.int64))
    return io.coder.finish()


def decode_track(payload: bytes, count: int, numbers: int) -> IntArray:
    """The integers [count, numbers] back. Raises BitstreamError when the payload does not hold them."""
    io = _Reader(payload)
    out = np.empty((count, numbers), np.int64)
    _frames(io, out, None)
    io.coder.finish()
    return out
