"""What encoder and decoder share: transforms, prediction, and the log-odds of every decision.

A *group* of N frames becomes N *rows* of 96 quantised coefficients, one per temporal frequency; a group of one frame
is plain prediction from the frame before. Rows are coded one after the other; the scores of a row come from tables
indexed by the rows coded before it. The motion layer uses all this with tables of its own and rows of 16.
"""

from __future__ import annotations

from dataclasses import dataclass

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
TRACE_SPEED = (2, 4, 6, 10, 14, 16)  # in 1/16, by group length
# half-octave logarithm of a trace 0..256: 0, then 2 * (bits) + the bit after the leading one
TRACE_LEVELS = np.array([0] + [2 * e.bit_length() + (2 * e >> e.bit_length() - 1 & 1) for e in range(1, 257)])


def activity_level(count: int, edges: tuple[int, ...]) -> int:
    level = 0
    for edge in edges:
        level += count >= edge
    return level


def capped(levels: IntArray) -> IntArray:
    """Quantised levels as context weights: 0, ±1, ±2 -> 0, ±2, ±3 and everything larger ±4."""
    return np.sign(levels) * np.minimum(np.abs(levels) + 1, 4)


Context = tuple[int, IntArray, IntArray, int]  # scores: the row is not empty, [96] non-zero, [96] sign; the row's class


class History:
    """Contexts carried from group to group.

    Attributes:
        first: [96] capped levels of the last group's first row.
        trend: [96] signed running sum of first rows.
        trace: [96] running mean of capped magnitudes per frame, in 1/64.
        density: running mean of non-zero levels per frame, in 1/16.
        last_size: index of the last group's length; 6 before the first group.
    """

    def __init__(self, samples: int = SAMPLES) -> None:
        self.first = np.zeros(samples, np.int64)
        self.trend = np.zeros(samples, np.int64)
        self.trace = np.full(samples, 4, np.int64)
        self.density = 48
        self.last_size = len(SIZES)

    def copy(self) -> History:
        other = History.__new__(History)
        other.__dict__.update(self.__dict__)  # the arrays are replaced, never written to
        return other

    def add(self, size: int, rows: IntArray) -> None:
        """Take in a coded group."""
        frames = SIZES[size]
        self.first = capped(rows[0])
        self.trend = (self.trend >> 1) + 8 * self.first
        mean = 64 * np.abs(capped(rows)).sum(axis=0) // frames
        self.trace = self.trace + ((mean - self.trace) * TRACE_SPEED[size] >> 4)
        now = int(np.count_nonzero(rows)) * 16 // frames
        self.density += (now - self.density) * min(frames, 4) // 4
        self.last_size = size


@dataclass(frozen=True, eq=False)
class CoderState:
    """Everything that the coding of the next payload depends on; the same in encoder and decoder after each payload."""

    coefficients: IntArray
    history: History | None
    step: int
    first: bool


class Model:
    """The tables in the shape the coder uses them; `samples` is 96, or what another layer's tables are for."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.samples = len(tables.inverse)
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


class GroupContext:
    """Contexts of one group's rows, in coding order: ask :meth:`scores`, then :meth:`push` the row."""

    def __init__(self, model: Model, size: int, step: int, history: History) -> None:
        self._model, self._size, self._bin = model, size, step // 4
        self._density = activity_level(history.density, DENSITY_EDGES)
        self._previous, self._trend, self._trace = history.first, history.trend, history.trace
        self._row = 0

    def scores(self) -> Context:
        """Scores of the next row before anything of it is known."""
        t = self._model.tables
        kind = (0 if self._size == 0 else 1) if self._row == 0 else min(self._row + 1, 3)
        index = SIZES[self._size] - 1 + self._row
        recent = activity_level(int(np.count_nonzero(self._previous)), BIN_EDGES)
        filled = int(
            t.filled_row[index]
            + t.filled_recent[kind, recent]
            + t.filled_density[kind, self._density]
            + t.filled_step[kind, self._bin]
        )
        score = TRACE_LEVELS[np.minimum(self._trace, 256)] @ t.zero_trace[kind]
        score += t.zero_row[index]
        score += t.zero_recent[kind, recent]
        score += t.zero_density[kind, self._density]
        score += t.zero_step[kind, self._bin]
        for k in np.flatnonzero(self._previous).tolist():
            score += t.zero_previous[kind, k] * abs(self._previous[k])
        sign = np.zeros(self._model.samples, np.int64)
        for k in np.flatnonzero(self._trend).tolist():
            sign += t.sign_previous[kind, k] * self._trend[k]
        return filled, score, sign >> 3, kind

    def push(self, row: IntArray) -> None:
        """Go on to the next row, `row` [96] being the levels of this one."""
        self._previous = capped(row)
        self._trend = 8 * self._previous
        self._trace = self._trace + ((64 * np.abs(self._previous) - self._trace) >> 1)
        self._row += 1


def clip_score(score: int) -> int:
    """Index into `weight_of_one`."""
    return min(max(score + SCORE_LIMIT, 0), 2 * SCORE_LIMIT - 1)
