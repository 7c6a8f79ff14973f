"""Decoding of motion payloads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfcodec.errors import BitstreamError
from tfcodec.motion.geometry import NUMBERS
from tfcodec.motion.tables import load_tables
from tfcodec.tinyframe.entropy import MAX_FRAMES, History, Model
from tfcodec.tinyframe.payload import read_groups, read_head
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import TOTAL, RangeDecoder

BoolArray = npt.NDArray[np.bool_]
NUMBER_LIMIT = 32_767  # 32 inter-ocular distances
PRESENCE_CHANGE = (TOTAL // 16, TOTAL // 256)  # weight of a change: after a frame without a face, with one
NAME = "motion"


@dataclass(frozen=True, eq=False)
class MotionState:
    """Everything that the coding of the next payload depends on; the same in encoder and decoder after each payload."""

    coefficients: IntArray  # [16]
    history: History | None  # None: only a fresh payload can be read
    step: int
    first: bool
    present: bool


START = MotionState(np.zeros(NUMBERS, np.int64), None, 0, True, True)


def numbers_of(model: Model, states: IntArray) -> IntArray:
    """Coefficients [T, 16] as numbers."""
    return np.clip(model.synthesise(states), -NUMBER_LIMIT, NUMBER_LIMIT)


class MotionDecoder:
    """Payloads back to numbers; exact on every machine.

    A new decoder is in the state after :meth:`reset`.
    """

    def __init__(self) -> None:
        self._model = Model(load_tables())
        self._state = START

    def reset(self) -> None:
        """Start a keyframe group: the face is where the keyframe shows it, and all numbers are 0."""
        self._state = START

    @property
    def state(self) -> MotionState:
        """What the next payload is predicted from."""
        return self._state

    def restore(self, state: MotionState) -> None:
        """Go on from an earlier state, as the encoder did."""
        self._state = state

    def decode(self, payload: bytes, frames: int) -> tuple[IntArray, BoolArray]:
        """Numbers [frames, 16] in 1/1024 and presence [frames] of one payload of 1..128 frames.

        A frame without a face has the numbers of the last frame with one; they mean nothing. After :meth:`conceal` a
        payload that builds on lost contexts cannot be read; its frames are then concealed too, until one comes that
        starts anew.

        Raises:
            BitstreamError: the payload is malformed or `frames` out of range; the decoder's state is as before.
        """
        coder = RangeDecoder(payload, NAME)
        before = self._state
        result = self.decode_from(coder, frames)
        if self._state.history is not None:  # a payload that could not be read was not read to its end
            try:
                coder.finish()
            except BitstreamError:
                self._state = before
                raise
        return result

    def decode_from(self, coder: RangeDecoder, frames: int) -> tuple[IntArray, BoolArray]:
        """As :meth:`decode`, out of a range coder that may hold other layers before and after."""
        if not 1 <= frames <= MAX_FRAMES:
            raise BitstreamError(f"a motion payload holds 1..{MAX_FRAMES} frames, not {frames}")
        before = self._state
        history, step, fresh = read_head(coder, NUMBERS, before.first, before.history, before.step)
        if history is None:
            return self.conceal(frames)
        last = fresh or before.present
        present = np.zeros(frames, np.bool_)
        for t in range(frames):
            last ^= bool(coder.decode(PRESENCE_CHANGE[last]))
            present[t] = last
        groups = read_groups(coder, self._model, step, int(present.sum()), before.coefficients, history)
        states = np.concatenate([before.coefficients[None], *groups])
        self._state = MotionState(states[-1], history, step, False, last)
        return spread(numbers_of(self._model, states), present)

    def conceal(self, frames: int) -> tuple[IntArray, BoolArray]:
        """Stand-in for `frames` lost frames: the last one, held."""
        s = self._state
        self._state = MotionState(s.coefficients, None, s.step, False, s.present)
        held = numbers_of(self._model, s.coefficients[None])
        return np.repeat(held, frames, axis=0), np.full(frames, s.present)


def spread(numbers: IntArray, present: BoolArray) -> tuple[IntArray, BoolArray]:
    """Numbers [1 + frames with a face, 16], the first from before the payload, to every frame's place."""
    return numbers[np.cumsum(present)], present
