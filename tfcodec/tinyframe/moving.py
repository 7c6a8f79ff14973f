"""How far the encoder lets the head take the keyframe along: the shape of a move that leaves least to be coded."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt

from tfcodec.tinyframe.entropy import Model
from tfcodec.tinyframe.moved import REACHES, SHARES, Move, MovedKeyframe, restored, without
from tfcodec.tinyframe.planes import TinyPlanes
from tfcodec.tinyframe.tables import load_tables

STRIDE = 4
"""Only every so many frames are looked at."""
WORTH = 6.0
"""Bytes that a move has to save by this estimate, since naming it takes four."""
CLIPPED = 0.5
"""Mean squared error, in grey levels, that a move may cost. What is coded is clipped to the samples' range, and where
the keyframe is bright, and dark when it has moved, the difference can lie outside."""
_FIRST = 4 * 4 * 3  # the shape to begin with: the middle of the reaches, all of the way


class Mover:
    """Chooses moves of a keyframe.

    Args:
        keyframe: the decoded picture, [256, 256, 3] uint8.
        place: x, y and distance of a `Move`.
    """

    def __init__(self, keyframe: npt.NDArray[np.uint8], place: tuple[int, int, int]) -> None:
        self._model = Model(load_tables())
        self.keyframe = MovedKeyframe(keyframe)
        self._start = Move(_FIRST, *place)

    def choose(
        self, planes: TinyPlanes, motion: npt.NDArray[np.int32], step: float
    ) -> tuple[Move, TinyPlanes] | None:  # fmt: skip
        """The best move for some tiny frames, and those of the keyframe that is moved so; None if it had better stand.

        Args:
            planes: T tiny frames, as they are.
            motion: [T, 17] of the same frames.
            step: of the quantiser they will be coded with, in 1/16 grey level.
        """
        if not (motion[:, -1] == 1).any():
            return None
        some, still = TinyPlanes(planes.luma[::STRIDE], planes.chroma[::STRIDE]), self.keyframe.still
        base = self._model.analyse(still.samples())
        known: dict[Move, float] = {}

        def cost(move: Move) -> float:
            if move not in known:
                moved = self.keyframe.planes(move, motion[::STRIDE])
                coded = without(some, moved, still)
                fits = _fits(some, coded, moved, still)
                known[move] = self._bytes(coded, base, step) if fits else float("inf")
            return known[move]

        # One after the other: what is best of one hardly depends on the others.
        best = self._start
        for _ in range(2):
            before = best
            for scale, count in ((16, len(REACHES)), (4, len(SHARES)), (1, len(SHARES))):
                rest = best.shape - best.shape // scale % count * scale
                best = min((replace(best, shape=rest + scale * i) for i in range(count)), key=cost)
            if best == before:
                break
        if cost(best) + WORTH >= self._bytes(some, base, step):
            return None
        moved = self.keyframe.planes(best, motion)
        return (best, moved) if _fits(planes, without(planes, moved, still), moved, still) else None

    def _bytes(self, planes: TinyPlanes, base: npt.NDArray[np.int64], step: float) -> float:
        """About how many bytes tiny frames take: what their spectrum in time exceeds the quantiser's step by."""
        spectrum = _cosines(len(planes)) @ (self._model.analyse(planes.samples()) - base)
        return float(np.log2(1 + np.square(spectrum) * (STRIDE / (2 * step) ** 2)).sum()) / 2


@cache
def _cosines(count: int) -> npt.NDArray[np.float64]:
    """The orthonormal DCT-II of so many values."""
    waves = np.cos(np.pi / count * np.outer(np.arange(count), np.arange(count) + 0.5)) * np.sqrt(2 / count)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves)


def _fits(planes: TinyPlanes, coded: TinyPlanes, moved: TinyPlanes, still: TinyPlanes) -> bool:
    """Whether what is coded leads back to the tiny frames."""
    return max(restored(coded, moved, still).mse(planes)) <= CLIPPED
