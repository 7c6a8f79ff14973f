"""Decoding of motion payloads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfcodec.motion.geometry import NUMBERS
from tfcodec.motion.tables import load_tables
from tfcodec.tinyframe.entropy import CoderState
from tfcodec.tinyframe.numbers import BoolArray, NumbersDecoder, numbers_of
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import TOTAL, RangeDecoder

PRESENCE_CHANGE = (TOTAL // 16, TOTAL // 256)  # weight of a change: after a frame without a face, with one
NAME = "motion"
Motion = tuple[IntArray, BoolArray]
"""Numbers [n, 16] in 1/1024, and presence [n]: whether a frame has a face."""


@dataclass(frozen=True, eq=False)
class MotionState(CoderState):
    """A coder's state [16], and whether the last frame has a face."""

    present: bool


START = MotionState(np.zeros(NUMBERS, np.int64), None, 0, True, True)


class MotionDecoder(NumbersDecoder[MotionState, Motion]):
    """Payloads back to numbers [n, 16] in 1/1024 and presence [n]; exact on every machine.

    A frame without a face has the numbers of the last frame with one; they mean nothing. At a keyframe the face is
    where the keyframe shows it.
    """

    def __init__(self) -> None:
        super().__init__(load_tables(), START, NAME)

    def decode_from(self, coder: RangeDecoder, frames: int) -> Motion:
        """As `decode`, out of a range coder that may hold other layers before and after."""
        history, step, fresh = self._head(coder, frames)
        if history is None:
            return self.conceal(frames)
        last = fresh or self._state.present
        present = np.zeros(frames, np.bool_)
        for t in range(frames):
            last ^= bool(coder.decode(PRESENCE_CHANGE[last]))
            present[t] = last
        states = self._groups(coder, int(present.sum()), step, history)
        self._state = MotionState(states[-1], history, step, False, last)
        return spread(numbers_of(self._model, states), present)

    def conceal(self, frames: int) -> Motion:
        """Stand-in for `frames` lost frames: the last one, held."""
        s = self._state
        self._state = MotionState(s.coefficients, None, s.step, False, s.present)
        return self._held(frames), np.full(frames, s.present)


def spread(numbers: IntArray, present: BoolArray) -> Motion:
    """Numbers [1 + frames with a face, 16], the first from before the payload, to every frame's place."""
    return numbers[np.cumsum(present)], present
