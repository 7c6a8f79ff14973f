"""Decoding of displacement payloads."""

from __future__ import annotations

import numpy as np

from tfcodec.displacement.tables import NUMBERS, load_tables
from tfcodec.tinyframe.entropy import CoderState
from tfcodec.tinyframe.numbers import NumbersDecoder, numbers_of
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeDecoder

NAME = "displacement"
START = CoderState(np.zeros(NUMBERS, np.int64), None, 0, True)


def held(state: CoderState) -> CoderState:
    """The state after frames of which nothing is known: the last one, held."""
    return CoderState(state.coefficients, None, state.step, False)


class DisplacementDecoder(NumbersDecoder[CoderState, IntArray]):
    """Payloads back to numbers [n, 12] in 1/32 pixel; exact on every machine."""

    def __init__(self) -> None:
        super().__init__(load_tables(), START, NAME)

    def decode_from(self, coder: RangeDecoder, frames: int) -> IntArray:
        """As `decode`, out of a range coder that may hold other layers before and after."""
        history, step, _ = self._head(coder, frames)
        if history is None:
            return self.conceal(frames)
        states = self._groups(coder, frames, step, history)
        self._state = CoderState(states[-1], history, step, False)
        return numbers_of(self._model, states[1:])

    def conceal(self, frames: int) -> IntArray:
        """Stand-in for `frames` frames that are lost or were not sent: the last one, held."""
        self._state = held(self._state)
        return self._held(frames)
