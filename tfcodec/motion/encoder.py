"""Encoding of motion: payloads at a fixed step for each quality, with the levels that are worth their bits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from tfcodec.errors import TfcodecError
from tfcodec.motion.decoder import NUMBER_LIMIT, PRESENCE_CHANGE, START, BoolArray, MotionState, numbers_of, spread
from tfcodec.motion.geometry import HEAD, NUMBERS
from tfcodec.motion.tables import load_tables
from tfcodec.tinyframe.entropy import MAX_FRAMES, History, Model
from tfcodec.tinyframe.payload import REFRESH, check_settings, write_groups, write_head
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeEncoder
from tfcodec.tinyframe.search import Group, Search
from tfcodec.tinyframe.tables import SIZES

FILE_STEP, CALL_STEP = 24, 20  # step indices at quality 5; 24 is the nominal one
STEPS_PER_QUALITY = 3  # eighths of an octave
FILE_RATE, CALL_RATE = 0.14, 0.08  # price of a bit, in squared quantiser steps
# what a squared error, in quantiser steps, weighs in the choice of levels: mouth and lids more than the rest
WEIGHTS = (0.8,) * HEAD + (1.5,) * 4 + (2.0,) * 2 + (0.8,) * 6


class MotionEncoder:
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
        check_settings(quality, mode, refresh)
        self._call, self._refresh = mode == "call", refresh
        self._model = Model(load_tables())
        self._search = Search(self._model)
        self.set_quality(quality)
        self._rate = CALL_RATE if self._call else FILE_RATE
        self._state = START
        self._since_fresh = 0
        self._reconstruction = np.zeros((0, NUMBERS), np.int64), np.zeros(0, np.bool_)

    def set_quality(self, quality: int) -> None:
        """Code the next payloads at this quality, whatever those before were coded at. Raises TfcodecError."""
        check_settings(quality, "call" if self._call else "file", self._refresh)
        self._step = (CALL_STEP if self._call else FILE_STEP) + STEPS_PER_QUALITY * (5 - quality)

    @property
    def reconstruction(self) -> tuple[IntArray, BoolArray]:
        """Numbers [n, 16] and presence [n] that the decoder gets from the last payload."""
        return self._reconstruction

    def reset(self) -> None:
        """Start a keyframe group: predict from the keyframe's own landmarks, where all numbers are 0."""
        self._state = START

    @property
    def state(self) -> MotionState:
        """What the next payload would be predicted from."""
        return self._state

    def restore(self, state: MotionState) -> None:
        """Predict the next payload from an earlier state, which the decoder has to restore too."""
        self._state = state

    def encode(self, numbers: npt.ArrayLike, present: npt.ArrayLike | None = None) -> bytes:
        """One payload for the numbers [n, 16] (in 1/1024) of 1..128 frames, predicted from all since :meth:`reset`.

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
        values, there = _checked(numbers, present)
        before = self._state
        fresh = before.history is None or not self._call or self._since_fresh >= self._refresh
        history = History(NUMBERS) if fresh or before.history is None else before.history
        wanted = self._model.analyse(values[there])
        largest = 0 if self._call else len(SIZES) - 1  # in calls each frame by itself, in files the best lengths
        groups = self._search.divide(
            wanted, before.coefficients, self._step, history, np.array(WEIGHTS), self._rate, largest
        )
        write_head(coder, self._step, fresh, before.first, before.step)
        last = True if fresh else before.present
        for now in there.tolist():
            coder.encode(now != last, PRESENCE_CHANGE[last])
            last = now
        history = self._write(coder, groups, history)
        states = np.concatenate([before.coefficients[None], *(g.state for g in groups)])
        self._state = MotionState(states[-1], history, self._step, False, last)
        self._since_fresh = (0 if fresh else self._since_fresh) + len(there)
        self._reconstruction = spread(numbers_of(self._model, states), there)

    def _write(self, coder: RangeEncoder, groups: list[Group], history: History) -> History:
        return write_groups(coder, self._model, self._step, groups, history)


def _checked(numbers: npt.ArrayLike, present: npt.ArrayLike | None) -> tuple[IntArray, BoolArray]:
    values = np.asarray(numbers, np.float64)
    if values.ndim != 2 or values.shape[1] != NUMBERS:
        raise TfcodecError(f"motion numbers must have shape [n, {NUMBERS}], not {list(values.shape)}")
    there = np.ones(len(values), np.bool_) if present is None else np.asarray(present, np.bool_)
    if there.shape != (len(values),):
        raise TfcodecError(f"presence must have shape [{len(values)}], not {list(there.shape)}")
    if not 1 <= len(values) <= MAX_FRAMES:
        raise TfcodecError(f"a motion payload holds 1..{MAX_FRAMES} frames, not {len(values)}")
    if not np.isfinite(values[there]).all():
        raise TfcodecError("motion numbers of frames with a face must be finite")
    limited = np.clip(np.where(there[:, None], values, 0), -NUMBER_LIMIT, NUMBER_LIMIT)
    return np.rint(limited).astype(np.int64), there
