"""What encoder and decoder share: transforms, prediction, and the log-odds of every decision.

A *group* of N frames becomes N *rows* of 96 quantised coefficients, one per temporal frequency; a group of one frame
is plain prediction from the frame before. Rows are coded one after the other; the scores of a row come from tables
indexed by the rows coded before it.
"""

from __future__ import annotations

import numpy as np

from tfcodec.tinyframe.planes import SAMPLES, IntArray
from tfcodec.tinyframe.tables import SCORE_LIMIT, SIZES, Tables

SHIFT = 14  # fraction bits of all transform matrices
ROUND = 1 << (SHIFT - 1)
STATE_LIMIT = 1 << 17
LEVEL_LIMIT = 1 << 15
MAX_FRAMES = 128
BIN_EDGES = (1, 2, 3, 5, 7, 10, 15)  # number of non-zero coefficients -> activity level 0..7
DENSITY_EDGES = (4, 16, 32, 56, 88, 136, 220)  # the same for the running mean in 1/16 coefficient per frame


def activity_level(count: int, edges: tuple[int, ...]) -> int:
    level = 0
    for edge in edges:
        level += count >= edge
    return level


def capped(levels: IntArray) -> IntArray:
    """Quantised levels as context weights: 0, ±1, ±2 -> 0, ±2, ±3 and everything larger ±4."""
    return np.sign(levels) * np.minimum(np.abs(levels) + 1, 4)


Context = tuple[int, IntArray, IntArray, int]  # row has any, [96] non-zero, [96] sign, class


class History:
    """Contexts carried from group to group: the last two groups' first rows, and how dense recent frames were."""

    def __init__(self) -> None:
        self.first = np.zeros(SAMPLES, np.int64)
        self.before = np.zeros(SAMPLES, np.int64)
        self.density = 48
        self.last_size = len(SIZES)  # none yet

    def copy(self) -> History:
        other = History()
        other.first, other.before = self.first, self.before
        other.density, other.last_size = self.density, self.last_size
        return other

    def add(self, size: int, rows: IntArray) -> None:
        frames = SIZES[size]
        self.before, self.first = self.first, capped(rows[0])
        now = int(np.count_nonzero(rows)) * 16 // frames
        self.density += (now - self.density) * min(frames, 4) // 4
        self.last_size = size


class Model:
    """The tables in the shape the coder uses them."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.forward, self.inverse = tables.forward, tables.inverse
        self.steps = [int(s) for s in tables.steps]
        self.one = [int(w) for w in tables.weight_of_one]
        self.temporal: list[IntArray] = []
        offset = 0
        for n in SIZES:
            self.temporal.append(tables.temporal[offset : offset + n * n].reshape(n, n))
            offset += n * n

    def analyse(self, samples: IntArray) -> IntArray:
        """`[T, 96]` samples to `[T, 96]` coefficients, both in 1/16 grey level."""
        return (samples @ self.forward.T + ROUND) >> SHIFT

    def synthesise(self, state: IntArray) -> IntArray:
        """Inverse of :meth:`analyse`; the result is not clamped to the sample range."""
        return (state @ self.inverse.T + ROUND) >> SHIFT

    def reconstruct(self, size: int, rows: IntArray, step: int, base: IntArray) -> IntArray:
        """Coefficients `[N, 96]` of a group's frames from its quantised rows and the frame before it."""
        change = (self.temporal[size].T @ (rows * self.steps[step]) + ROUND) >> SHIFT
        return np.clip(base + change, -STATE_LIMIT, STATE_LIMIT)

    def row_context(
        self, size: int, row: int, step: int, rows: IntArray, history: History
    ) -> Context:
        """Scores before anything of the row is known: (row has any, [96] non-zero, [96] sign, class)."""
        t = self.tables
        if row == 0:
            kind = 0 if size == 0 else 1
            previous, before = history.first, history.before
        else:
            kind = 2 if row == 1 else 3
            previous = capped(rows[row - 1])
            before = capped(rows[row - 2]) if row >= 2 else history.first
        index = SIZES[size] - 1 + row
        recent = activity_level(int(np.count_nonzero(previous)), BIN_EDGES)
        density = activity_level(history.density, DENSITY_EDGES)
        filled = int(
            t.filled_row[index] + t.filled_recent[kind, recent] + t.filled_density[kind, density]
            + t.filled_step[kind, step // 4]
        )
        score = t.zero_row[index] + t.zero_recent[kind, recent]
        score += t.zero_density[kind, density]
        score += t.zero_step[kind, step // 4]
        sign = np.zeros(SAMPLES, np.int64)
        for k in np.flatnonzero(previous):
            weight = previous[k]
            score += t.zero_previous[kind, k] * abs(weight)
            sign += t.sign_previous[kind, k] * weight
        for k in np.flatnonzero(before):
            score += t.zero_before[kind, k] * abs(before[k])
        return filled, score, sign, kind


def clip_score(score: int) -> int:
    """Index into `weight_of_one`."""
    return min(max(score + SCORE_LIMIT, 0), 2 * SCORE_LIMIT - 1)


