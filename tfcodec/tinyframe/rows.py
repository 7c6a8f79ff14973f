"""Reading and writing one row of 96 quantised coefficients."""

from __future__ import annotations

import numpy as np

from tfcodec.errors import BitstreamError
from tfcodec.tinyframe.entropy import LEVEL_LIMIT, Context, Model, clip_score
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeDecoder, RangeEncoder
from tfcodec.tinyframe.tables import SCORE_LIMIT

UNARY = 12  # decisions with a table entry each before the Exp-Golomb escape


def update(model: Model, context: Context, k: int, level: int) -> None:
    """Add to the scores of later coefficients what a coded non-zero level says about them."""
    _, score, sign, kind = context
    weight = min(abs(level) + 1, 4)
    later = slice(k + 1, None)
    score[later] += model.tables.zero_current[kind, k, later] * weight
    sign[later] += model.tables.sign_current[kind, k, later] * (weight if level > 0 else -weight)


def write_row(coder: RangeEncoder, model: Model, context: Context, row: IntArray) -> None:
    """Code `row` [96]; the context's arrays are changed."""
    filled, score, sign, kind = context
    one, encode = model.one, coder.encode
    positions = [int(k) for k in np.flatnonzero(row)]
    encode(bool(positions), one[clip_score(filled)])
    start = 0
    for k in positions:
        indices = np.clip(score[start : k + 1] + SCORE_LIMIT, 0, 2 * SCORE_LIMIT - 1).tolist()
        for index in indices[:-1]:
            encode(0, one[index])
        encode(1, one[indices[-1]])
        level = int(row[k])
        encode(level < 0, one[clip_score(-int(sign[k]))])
        _write_magnitude(coder, model, kind, k, indices[-1] // 32, abs(level))
        update(model, context, k, level)
        start = k + 1
    if positions:
        for index in np.clip(score[start:] + SCORE_LIMIT, 0, 2 * SCORE_LIMIT - 1).tolist():
            encode(0, one[index])


def _write_magnitude(coder: RangeEncoder, model: Model, kind: int, k: int, level_bin: int, size: int) -> None:
    t = model.tables
    for i in range(2):
        score = int(t.large[i, kind, k] + t.large_score[i, kind, level_bin])
        coder.encode(size > i + 1, model.one[clip_score(score)])
        if size == i + 1:
            return
    for i in range(UNARY):
        coder.encode(size > i + 3, model.one[clip_score(int(t.larger[i]))])
        if size == i + 3:
            return
    rest = size - UNARY - 2  # at least 1
    length = rest.bit_length()
    coder.encode_bits(0, length - 1)
    coder.encode_bits(rest, length)


def read_row(coder: RangeDecoder, model: Model, context: Context) -> IntArray:
    """Inverse of :func:`write_row`."""
    filled, score, sign, kind = context
    one, decode = model.one, coder.decode
    row = np.zeros(model.samples, np.int64)
    if not decode(one[clip_score(filled)]):
        return row
    start = 0
    while start < model.samples:
        indices = np.clip(score[start:] + SCORE_LIMIT, 0, 2 * SCORE_LIMIT - 1).tolist()
        offset = next((i for i, index in enumerate(indices) if decode(one[index])), None)
        if offset is None:
            break
        k = start + offset
        negative = decode(one[clip_score(-int(sign[k]))])
        size = _read_magnitude(coder, model, kind, k, indices[offset] // 32)
        level = -size if negative else size
        row[k] = level
        update(model, context, k, level)
        start = k + 1
    if start == 0:
        raise BitstreamError(f"{coder.name} row announced as non-zero holds only zeros")
    return row


def _read_magnitude(coder: RangeDecoder, model: Model, kind: int, k: int, level_bin: int) -> int:
    t = model.tables
    for i in range(2):
        score = int(t.large[i, kind, k] + t.large_score[i, kind, level_bin])
        if not coder.decode(model.one[clip_score(score)]):
            return i + 1
    for i in range(UNARY):
        if not coder.decode(model.one[clip_score(int(t.larger[i]))]):
            return i + 3
    length = 1
    while not coder.decode_bits(1):
        length += 1
        if length > 15:
            raise BitstreamError(f"{coder.name} level is out of range")
    rest = 1 << (length - 1) | coder.decode_bits(length - 1)
    return min(rest + UNARY + 2, LEVEL_LIMIT)
