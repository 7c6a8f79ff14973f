"""Encoding of displacement. Only files have it: payloads look ahead over their frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfcodec.displacement.decoder import NAME, START, held
from tfcodec.displacement.tables import NUMBERS, load_tables
from tfcodec.errors import TfcodecError
from tfcodec.tinyframe.entropy import CoderState
from tfcodec.tinyframe.numbers import Course, NumbersEncoder, numbers_of, rounded
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeEncoder

FILE = Course(24, 0.14)
WEIGHTS = (1.0,) * NUMBERS  # of squared errors in quantiser steps, which are the same for all numbers


class DisplacementEncoder(NumbersEncoder[CoderState, IntArray]):
    """Displacement numbers to payloads.

    Args:
        quality: 0..10; each step makes the quantiser 1.3 times finer.

    Raises:
        TfcodecError: the quality is out of range.
    """

    def __init__(self, quality: int = 5) -> None:
        super().__init__(load_tables(), START, WEIGHTS, NAME, quality, "file", FILE)
        self._reconstruction = np.zeros((0, NUMBERS), np.int64)

    @property
    def reconstruction(self) -> IntArray:
        """Numbers [n, 12] that the decoder gets from the last payload."""
        return self._reconstruction

    def encode(self, numbers: npt.ArrayLike) -> bytes:
        """One payload for the numbers [n, 12] (in 1/32 pixel) of 1..128 frames, predicted from all since `reset`.

        Raises:
            TfcodecError: wrong shape, or numbers that are not finite.
        """
        coder = RangeEncoder()
        self.encode_into(coder, numbers)
        return coder.finish()

    def encode_into(self, coder: RangeEncoder, numbers: npt.ArrayLike) -> None:
        """As :meth:`encode`, into a range coder that may hold other layers before and after."""
        values = self._checked(numbers)
        if not np.isfinite(values).all():
            raise TfcodecError("displacement numbers must be finite")
        states, history = self._code(coder, rounded(values), len(values))
        self._state = CoderState(states[-1], history, self._step, False)
        self._reconstruction = numbers_of(self._model, states[1:])

    def leave_out(self, frames: int) -> None:
        """Send nothing of so many frames: the decoder holds the last one."""
        self._state = held(self._state)
        self._reconstruction = self._held(frames)
