"""Decoding of tiny-frame payloads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfcodec.errors import BitstreamError, TfcodecError
from tfcodec.tinyframe.entropy import MAX_FRAMES, CoderState, Model
from tfcodec.tinyframe.payload import read_groups, read_head
from tfcodec.tinyframe.planes import SAMPLES, TinyPlanes
from tfcodec.tinyframe.rangecoder import RangeDecoder
from tfcodec.tinyframe.tables import load_tables


class TinyDecoder:
    """Payloads back to tiny frames; exact on every machine."""

    def __init__(self) -> None:
        self._model = Model(load_tables())
        self._state: CoderState | None = None
        self._last = TinyPlanes.concatenate([])

    def reset(self, reference: TinyPlanes) -> None:
        """Start a keyframe group: predict from `reference`, the one tiny frame of the decoded keyframe."""
        if len(reference) != 1:
            raise TfcodecError(f"the reference is one tiny frame, not {len(reference)}")
        self._state = CoderState(self._model.analyse(reference.samples())[0], None, 0, True)
        self._last = reference

    @property
    def state(self) -> CoderState:
        """What the next payload is predicted from. Raises TfcodecError before the first :meth:`reset`."""
        if self._state is None:
            raise TfcodecError("TinyDecoder.reset must come first")
        return self._state

    @property
    def known(self) -> bool:
        """Whether the last frames were decoded, and not made up for those that were lost."""
        return self.state.history is not None

    def restore(self, state: CoderState) -> None:
        """Go on from an earlier state, as the encoder did."""
        self._state = state
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
        before = self.state, self._last
        planes = self.decode_from(coder, frames)
        if self.known:  # a payload that could not be read was not read to its end
            try:
                coder.finish()
            except BitstreamError:
                self._state, self._last = before
                raise
        return planes

    def decode_from(self, coder: RangeDecoder, frames: int) -> TinyPlanes:
        """As :meth:`decode`, out of a range coder that may hold another layer before."""
        before = self.state
        if not 1 <= frames <= MAX_FRAMES:
            raise BitstreamError(f"a tiny-frame payload holds 1..{MAX_FRAMES} frames, not {frames}")
        history, step, _ = read_head(coder, SAMPLES, before.first, before.history, before.step)
        if history is None:
            return self.conceal(frames)
        states = np.concatenate(read_groups(coder, self._model, step, frames, before.coefficients, history))
        self._state = CoderState(states[-1], history, step, False)
        planes = TinyPlanes.from_samples(self._model.synthesise(states))
        self._last = planes[-1]
        return planes

    def conceal(self, frames: int) -> TinyPlanes:
        """Stand-in for `frames` lost tiny frames: the last one, held."""
        self._state = replace(self.state, history=None, first=False)
        return TinyPlanes.concatenate([self._last] * frames)
