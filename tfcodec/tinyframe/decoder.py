"""Decoding of tiny-frame payloads."""

from __future__ import annotations

import numpy as np

from tfcodec.errors import BitstreamError, TfcodecError
from tfcodec.tinyframe.entropy import MAX_FRAMES, CoderState, GroupContext, History, Model, clip_score
from tfcodec.tinyframe.planes import SAMPLES, IntArray, TinyPlanes
from tfcodec.tinyframe.rangecoder import RangeDecoder
from tfcodec.tinyframe.rows import read_row
from tfcodec.tinyframe.tables import SIZES, load_tables

FRESH = (1 << 24) // 32  # weight of "contexts start anew" in a payload that could go on from the one before
STEP_CHANGE = (1 << 24) // 64


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
        history, step = self._history, self._step
        if self._first or coder.decode(FRESH):
            history, step = History(), coder.decode_bits(6)
        elif history is None:
            return self.conceal(frames)
        else:
            history = history.copy()
            if coder.decode(STEP_CHANGE):
                step = coder.decode_bits(6)
        state, done = self._state, 0
        parts: list[IntArray] = []
        while done < frames:
            size = self._read_size(coder, history, frames - done)
            rows = np.zeros((SIZES[size], SAMPLES), np.int64)
            context = GroupContext(self._model, size, step, history)
            for row in rows:
                row[:] = read_row(coder, self._model, context.scores())
                context.push(row)
            parts.append(self._model.reconstruct(size, rows, step, state))
            state = parts[-1][-1]
            history.add(size, rows)
            done += SIZES[size]
        self._state, self._history, self._step, self._first = state, history, step, False
        planes = TinyPlanes.from_samples(self._model.synthesise(np.concatenate(parts)))
        self._last = planes[-1]
        return planes

    def _read_size(self, coder: RangeDecoder, history: History, left: int) -> int:
        for size in range(len(SIZES) - 1, 0, -1):
            if SIZES[size] <= left:
                score = int(self._model.tables.group_split[history.last_size, size])
                if coder.decode(self._model.one[clip_score(score)]):
                    return size
        return 0

    def conceal(self, frames: int) -> TinyPlanes:
        """Stand-in for `frames` lost tiny frames: the last one, held."""
        if self._state is None:
            raise TfcodecError("TinyDecoder.reset must come before conceal")
        self._history, self._first = None, False
        return TinyPlanes.concatenate([self._last] * frames)
