"""Encoding of motion."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from tfcodec.errors import TfcodecError
from tfcodec.motion.decoder import NAME, PRESENCE_CHANGE, START, Motion, MotionState, spread
from tfcodec.motion.geometry import HEAD, NUMBERS
from tfcodec.motion.tables import load_tables
from tfcodec.tinyframe.numbers import BoolArray, Course, NumbersEncoder, numbers_of, rounded
from tfcodec.tinyframe.payload import REFRESH
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeEncoder

FILE, CALL = Course(24, 0.14), Course(20, 0.08)
# what a squared error, in quantiser steps, weighs in the choice of levels: mouth and lids more than the rest
WEIGHTS = (0.8,) * HEAD + (1.5,) * 4 + (2.0,) * 2 + (0.8,) * 6


class MotionEncoder(NumbersEncoder[MotionState, Motion]):
    """Motion numbers to payloads.

    The numbers should be smooth in time (:func:`tfcodec.motion.smooth`): the encoder does not smooth them.

    Args:
        quality: 0..10; each step makes the quantiser 1.3 times finer.
        mode: "file" looks ahead over the frames of a payload and uses temporal transforms; "call" codes every frame
            by itself from the frames before it.
        refresh: in calls, frames between payloads that do not rely on earlier payloads' contexts (each costs
            about 11 bits more).

    Raises:
        TfcodecError: parameters out of range.
    """

    def __init__(self, quality: int = 5, mode: Literal["file", "call"] = "file", *, refresh: int = REFRESH) -> None:
        super().__init__(load_tables(), START, WEIGHTS, NAME, quality, mode, CALL if mode == "call" else FILE, refresh)
        self._reconstruction = np.zeros((0, NUMBERS), np.int64), np.zeros(0, np.bool_)

    @property
    def reconstruction(self) -> Motion:
        """Numbers [n, 16] and presence [n] that the decoder gets from the last payload."""
        return self._reconstruction

    def encode(self, numbers: npt.ArrayLike, present: npt.ArrayLike | None = None) -> bytes:
        """One payload for the numbers [n, 16] (in 1/1024) of 1..128 frames, predicted from all since `reset`.

        `present` [n] says which frames have a face (None: all); the numbers of the others are not looked at.
        An empty payload is valid: nothing changed.

        Raises:
            TfcodecError: wrong shapes, or numbers of present frames that are not finite.
        """
        coder = RangeEncoder()
        self.encode_into(coder, numbers, present)
        return coder.finish()

    def encode_into(self, coder: RangeEncoder, numbers: npt.ArrayLike, present: npt.ArrayLike | None = None) -> None:
        """As :meth:`encode`, into a range coder that may hold other layers before and after."""
        values, there = self._with_presence(numbers, present)

        def say_presence(fresh: bool) -> None:
            last = True if fresh else self._state.present
            for now in there.tolist():
                coder.encode(now != last, PRESENCE_CHANGE[last])
                last = now

        states, history = self._code(coder, values[there], len(there), say_presence)
        self._state = MotionState(states[-1], history, self._step, False, bool(there[-1]))
        self._reconstruction = spread(numbers_of(self._model, states), there)

    def _with_presence(self, numbers: npt.ArrayLike, present: npt.ArrayLike | None) -> tuple[IntArray, BoolArray]:
        values = self._checked(numbers)
        there = np.ones(len(values), np.bool_) if present is None else np.asarray(present, np.bool_)
        if there.shape != (len(values),):
            raise TfcodecError(f"presence must have shape [{len(values)}], not {list(there.shape)}")
        if not np.isfinite(values[there]).all():
            raise TfcodecError("motion numbers of frames with a face must be finite")
        return rounded(np.where(there[:, None], values, 0)), there
