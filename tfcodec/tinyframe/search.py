"""Rate-distortion choices of the encoder: which levels, and which group lengths.

Floats are at home here: whatever this module chooses is then coded and reconstructed in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfcodec.tinyframe.entropy import SHIFT, Context, GroupContext, History, Model
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.tables import SCORE_LIMIT, SIZES

FloatArray = npt.NDArray[np.float64]
TOP = 2 * SCORE_LIMIT - 1


@dataclass
class Group:
    """One coded group: `rows` [N, 96] levels, `state` [N, 96] reconstructed coefficients, `bits` that it costs, and its
    `error`, weighted, in squared quantiser steps."""

    size: int
    rows: IntArray
    state: IntArray
    bits: float
    error: float


class Search:
    """Cost tables of one model, and the choices made with them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        one = np.array(model.one, np.float64) / (1 << 24)
        self._zero_cost, self._one_cost = -np.log2(1 - one), -np.log2(one)
        self._zeros, self._ones = self._zero_cost.tolist(), self._one_cost.tolist()
        t = model.tables
        self._large = t.large.tolist()
        self._large_score = t.large_score.tolist()
        scores = [float(x) for x in t.larger]
        self._tail = [0.0]
        total = 0.0
        for score in scores:
            index = int(min(max(score + SCORE_LIMIT, 0), TOP))
            self._tail.append(total + self._zeros[index])
            total += self._ones[index]
        self._tail_total = total
        chroma = np.square(model.inverse[64:].astype(np.float64)).sum(axis=0) / (1 << 2 * SHIFT)
        luma = np.square(model.inverse[:64].astype(np.float64)).sum(axis=0) / (1 << 2 * SHIFT)
        self.luma_share, self.chroma_share = luma, chroma

    def weight(self, rho: float) -> FloatArray:
        """Distortion weight of each coefficient when chroma errors count `rho` times as much as luma errors."""
        return self.luma_share + rho * self.chroma_share

    def _magnitude_cost(self, kind: int, k: int, index: int, size: int) -> float:
        bits = 0.0
        for i in range(2):
            score = self._large[i][kind][k] + self._large_score[i][kind][index // 32]
            at = min(max(score + SCORE_LIMIT, 0), TOP)
            if size == i + 1:
                return bits + self._zeros[at]
            bits += self._ones[at]
        if size - 2 < len(self._tail):
            return bits + self._tail[size - 2]
        return bits + self._tail_total + 2 * float(np.log2(size - 13)) + 1

    def row(self, context: Context, target: FloatArray, weight: FloatArray, rate: float) -> tuple[IntArray, float]:
        """Levels for one row and what they cost.

        `target` is the wanted row in quantiser steps, `weight` the distortion weight of each coefficient, `rate` the
        price of a bit in the same units. The context is left as it was.
        """
        filled, score, sign, kind = context
        at_filled = min(max(filled + SCORE_LIMIT, 0), TOP)
        levels = np.zeros(self.model.samples, np.int64)
        size = np.abs(target)
        candidates = np.flatnonzero(size > 0.55)
        if not len(candidates):
            return levels, self._zeros[at_filled]
        score = score.copy()
        sign = sign.copy()
        zeros, ones = self._zeros, self._ones
        t = self.model.tables
        chosen = False
        for k, a in zip(candidates.tolist(), size[candidates].tolist(), strict=True):
            at = min(max(int(score[k]) + SCORE_LIMIT, 0), TOP)
            scale = float(weight[k])
            best, best_cost = 0, scale * a * a + rate * zeros[at]
            negative = target[k] < 0
            at_sign = min(max(-int(sign[k]) + SCORE_LIMIT, 0), TOP)
            sign_bits = ones[at_sign] if negative else zeros[at_sign]
            high = int(a + 0.5)
            for level in (high, high - 1):
                if level < 1:
                    continue
                bits = ones[at] + sign_bits + self._magnitude_cost(kind, k, at, level)
                cost = scale * (a - level) ** 2 + rate * bits
                if cost < best_cost:
                    best, best_cost = level, cost
            if best:
                chosen = True
                levels[k] = -best if negative else best
                strength = min(best + 1, 4)
                score[k + 1 :] += t.zero_current[kind, k, k + 1 :] * strength
                sign[k + 1 :] += t.sign_current[kind, k, k + 1 :] * (-strength if negative else strength)
        if not chosen:
            return levels, zeros[at_filled]
        bits = self.row_bits(context, levels, score, sign)
        gain = float(np.sum(weight * (size**2 - np.square(target - levels))))
        if gain < rate * (bits - zeros[at_filled]):
            return np.zeros(self.model.samples, np.int64), zeros[at_filled]
        return levels, bits

    def row_bits(self, context: Context, levels: IntArray, score: IntArray, sign: IntArray) -> float:
        """Cost of a non-empty row whose final scores (after all updates) are `score` and `sign`."""
        filled, _, _, kind = context
        index = np.clip(score + SCORE_LIMIT, 0, TOP)
        present = levels != 0
        bits = self._ones[min(max(filled + SCORE_LIMIT, 0), TOP)]
        bits += float(np.where(present, self._one_cost[index], self._zero_cost[index]).sum())
        for k in np.flatnonzero(present).tolist():
            at = min(max(-int(sign[k]) + SCORE_LIMIT, 0), TOP)
            bits += self._ones[at] if levels[k] < 0 else self._zeros[at]
            bits += self._magnitude_cost(kind, k, int(index[k]), abs(int(levels[k])))
        return bits

    def group(
        self, size: int, wanted: IntArray, base: IntArray, step: int, history: History, weight: FloatArray, rate: float
    ) -> Group:
        """Code `wanted` [N, 96] coefficients as one group after the frame `base`."""
        model = self.model
        delta = float(model.steps[step])
        target = (model.temporal[size] @ (wanted - base)) / (delta * (1 << SHIFT))
        rows = np.zeros((SIZES[size], model.samples), np.int64)
        bits = 0.0
        context = GroupContext(model, size, step, history)
        for n, row in enumerate(rows):
            row[:], bits_of_row = self.row(context.scores(), target[n], weight, rate)
            context.push(row)
            bits += bits_of_row
        state = model.reconstruct(size, rows, step, base)
        error = float((np.square((wanted - state) / delta) @ weight).sum())
        return Group(size, rows, state, bits, error)

    def size_bits(self, size: int, left: int, history: History) -> float:
        bits = 0.0
        for s in range(len(SIZES) - 1, 0, -1):
            if SIZES[s] <= left:
                at = min(max(int(self.model.tables.group_split[history.last_size, s]) + SCORE_LIMIT, 0), TOP)
                if s == size:
                    return bits + self._ones[at]
                bits += self._zeros[at]
        return bits

    def tree(
        self,
        wanted: IntArray,
        base: IntArray,
        step: int,
        history: History,
        weight: FloatArray,
        rate: float,
        left: int,
        largest: int,
    ) -> tuple[list[Group], History]:
        """The best division of `wanted` (a power-of-two number of frames) into groups, halving from the top."""
        size = SIZES.index(len(wanted))
        whole = None
        if size <= largest:
            group = self.group(size, wanted, base, step, history, weight, rate)
            group.bits += self.size_bits(size, left, history)
            after = history.copy()
            after.add(size, group.rows)
            whole = [group], after
            if size == 0 or not group.rows.any():
                return whole
        half = len(wanted) // 2
        one, middle = self.tree(wanted[:half], base, step, history, weight, rate, left, largest)
        two, end = self.tree(wanted[half:], one[-1].state[-1], step, middle, weight, rate, left - half, largest)
        split = one + two
        if whole is not None and cost(whole[0], rate) <= cost(split, rate):
            return whole
        return split, end

    def divide(
        self,
        wanted: IntArray,
        base: IntArray,
        step: int,
        history: History,
        weight: FloatArray,
        rate: float,
        largest: int = len(SIZES) - 1,
    ) -> list[Group]:
        """Groups for any number of frames `wanted`, none longer than `SIZES[largest]`."""
        groups: list[Group] = []
        done = 0
        while done < len(wanted):
            left = len(wanted) - done
            n = SIZES[largest]
            while n > left:
                n //= 2
            new, history = self.tree(wanted[done : done + n], base, step, history, weight, rate, left, largest)
            groups += new
            base = new[-1].state[-1]
            done += n
        return groups


def cost(groups: list[Group], rate: float) -> float:
    return sum(g.error + rate * g.bits for g in groups)
