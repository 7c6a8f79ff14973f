"""What the payloads of all layers have in common: how they begin, and the groups of frames in them.

A payload begins with whether its contexts start anew and with its step; then each group says how long it is, and its
rows follow.
"""

from __future__ import annotations

import numpy as np

from tfcodec.errors import TfcodecError
from tfcodec.tinyframe.entropy import GroupContext, History, Model, clip_score
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeDecoder, RangeEncoder
from tfcodec.tinyframe.rows import read_row, write_row
from tfcodec.tinyframe.search import Group
from tfcodec.tinyframe.tables import SIZES

FRESH = (1 << 24) // 32  # weight of "contexts start anew" in a payload that could go on from the one before
STEP_CHANGE = (1 << 24) // 64
STEP_BITS = 6
REFRESH = 25  # frames between payloads that can be read after a loss, in calls


def check_settings(quality: int, mode: str, refresh: int) -> None:
    """Raises TfcodecError unless they are what a layer's encoder takes."""
    if quality not in range(11):
        raise TfcodecError(f"quality must be 0..10, not {quality!r}")
    if mode not in ("file", "call"):
        raise TfcodecError(f"mode must be 'file' or 'call', not {mode!r}")
    if refresh < 1:
        raise TfcodecError(f"refresh must be at least 1 frame, not {refresh}")


def write_head(coder: RangeEncoder, step: int, fresh: bool, first: bool, before: int) -> None:
    """Begin a payload.

    Args:
        coder: where it goes.
        step: index of its step.
        fresh: its contexts start anew.
        first: it is the keyframe's first payload, which cannot but start anew.
        before: the step of the payload before.
    """
    if not first:
        coder.encode(fresh, FRESH)
    if not fresh:
        coder.encode(step != before, STEP_CHANGE)
    if fresh or step != before:
        coder.encode_bits(step, STEP_BITS)


def read_head(
    coder: RangeDecoder, samples: int, first: bool, history: History | None, before: int
) -> tuple[History | None, int, bool]:
    """What `write_head` wrote: history, step, and whether the contexts start anew.

    ``history`` is that of the payload before, None if it is lost; the result is None if the payload builds on it, and
    then cannot be read on. ``samples``: coefficients of a frame.
    """
    if first or coder.decode(FRESH):
        return History(samples), coder.decode_bits(STEP_BITS), True
    if history is None:
        return None, before, False
    return history.copy(), coder.decode_bits(STEP_BITS) if coder.decode(STEP_CHANGE) else before, False


def write_groups(coder: RangeEncoder, model: Model, step: int, groups: list[Group], history: History) -> History:
    """Code groups; returns the history after them."""
    left = sum(len(group.rows) for group in groups)
    history = history.copy()
    for group in groups:
        for size in range(len(SIZES) - 1, 0, -1):
            if SIZES[size] <= left:
                coder.encode(size == group.size, _split(model, history, size))
                if size == group.size:
                    break
        context = GroupContext(model, group.size, step, history)
        for row in group.rows:
            write_row(coder, model, context.scores(), row)
            context.push(row)
        history.add(group.size, group.rows)
        left -= len(group.rows)
    return history


def read_groups(
    coder: RangeDecoder, model: Model, step: int, frames: int, base: IntArray, history: History
) -> list[IntArray]:
    """Coefficients of so many frames, group by group, each [n, samples]; ``history`` is carried on.

    ``base``: coefficients [samples] of the frame before.
    """
    groups: list[IntArray] = []
    while frames:
        size = _read_size(coder, model, frames, history)
        rows = np.zeros((SIZES[size], model.samples), np.int64)
        context = GroupContext(model, size, step, history)
        for row in rows:
            row[:] = read_row(coder, model, context.scores())
            context.push(row)
        groups.append(model.reconstruct(size, rows, step, base))
        base = groups[-1][-1]
        history.add(size, rows)
        frames -= SIZES[size]
    return groups


def _read_size(coder: RangeDecoder, model: Model, left: int, history: History) -> int:
    for size in range(len(SIZES) - 1, 0, -1):
        if SIZES[size] <= left and coder.decode(_split(model, history, size)):
            return size
    return 0


def _split(model: Model, history: History, size: int) -> int:
    """Weight of "the next group has this length"."""
    return model.one[clip_score(int(model.tables.group_split[history.last_size, size]))]
