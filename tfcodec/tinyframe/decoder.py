"""Decoding of tiny-frame payloads."""

from __future__ import annotations

import numpy as np

from tfcodec.errors import BitstreamError, TfcodecError
from tfcodec.tinyframe.entropy import MAX_FRAMES, CoderState, History, Model
from tfcodec.tinyframe.payload import read_groups, read_head
from tfcodec.tinyframe.planes import SAMPLES, IntArray, TinyPlanes
from tfcodec.tinyframe.rangecoder import RangeDecoder
from tfcodec.tinyframe.tables import load_tables


class TinyDecoder:
    """Payloads back to tiny frames; exact on every machine."""

    def __init__(self) -> None:
        self._model = Model(load_tables())
        self._state: IntArray | None = None
        self._history: History | None = None  # None: only a fresh payload can be read
        self._first = True
        self._step = 0
        self._last = TinyPlanes.concatenate([])

    def reset(self, reference: TinyPlanes) -> None:
        """Start a keyframe group: predict from `reference`, the one tiny frame of the decoded keyframe."""
        if len(reference) != 1:
            raise TfcodecError(f"the reference is one tiny frame, not {len(reference)}")
        self._state = self._model.analyse(reference.samples())[0]
        self._history, self._first = None, True
        self._last = reference

    @property
    def state(self) -> CoderState:
        """What the next payload is predicted from. Raises TfcodecError before the first :meth:`reset`."""
        if self._state is None:
            raise TfcodecError("TinyDecoder.reset must come before state")
        return CoderState(self._state, self._history, self._step, self._first)

    def restore(self, state: CoderState) -> None:
        """Go on from an earlier state, as the encoder did."""
        self._state, self._history = state.coefficients, state.history
        self._step, self._first = state.step, state.first
        self._last = TinyPlanes.from_samples(self._model.synthesise(state.coefficients[None]))

    def decode(self, payload: bytes, frames: int) -> TinyPlanes:
        """The `frames` (1..128) tiny frames of one payload.

        After :meth:`conceal` a payload that builds on lost contexts cannot be read; its frames are then concealed
        too, until one comes that starts anew.

        Raises:
            BitstreamError: the payload is malformed; the decoder's state is as before the call.
            TfcodecError: no :meth:`reset` yet, or `frames` out of range.
        """
        coder = RangeDecoder(payload)
        before = self._state, self._history, self._step, self._first, self._last
        planes = self.decode_from(coder, frames)
        if self._history is not None:  # a payload that could not be read was not read to its end
            try:
                coder.finish()
            except BitstreamError:
                self._state, self._history, self._step, self._first, self._last = before
                raise
        return planes

    def decode_from(self, coder: RangeDecoder, frames: int) -> TinyPlanes:
        """As :meth:`decode`, out of a range coder that may hold another layer before."""
        if self._state is None:
            raise TfcodecError("TinyDecoder.reset must come before decode")
        if not 1 <= frames <= MAX_FRAMES:
            raise BitstreamError(f"a tiny-frame payload holds 1..{MAX_FRAMES} frames, not {frames}")
        history, step, _ = read_head(coder, SAMPLES, self._first, self._history, self._step)
        if history is None:
            return self.conceal(frames)
        states = np.concatenate(read_groups(coder, self._model, step, frames, self._state, history))
        self._state, self._history, self._step, self._first = states[-1], history, step, False
        planes = TinyPlanes.from_samples(self._model.synthesise(states))
        self._last = planes[-1]
        return planes

    def conceal(self, frames: int) -> TinyPlanes:
        """Stand-in for `frames` lost tiny frames: the last one, held."""
        if self._state is None:
            raise TfcodecError("TinyDecoder.reset must come before conceal")
        self._history, self._first = None, False
        return TinyPlanes.concatenate([self._last] * frames)
