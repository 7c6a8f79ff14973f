"""The layer of tiny frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...tinyframe import (
    Move,
    MovedKeyframe,
    TinyDecoder,
    TinyEncoder,
    TinyPlanes,
    restored,
    tiny_from_frames,
    tiny_to_rgb,
    without,
)
from ...tinyframe.moving import Mover
from ...tinyframe.rangecoder import RangeDecoder, RangeEncoder
from .. import policy
from .layer import NEVER, Carrying, Frames, Refining, Said, Sending, State, Trying

GREY = 128
WORTH = 0.03
"""The share of the error that a byte for each frame is worth: it makes a stream of quality 5 a tenth longer."""


class _Moves(NamedTuple):
    """Tiny frames of the moved keyframe, and of the one that stands still."""

    moved: TinyPlanes
    still: TinyPlanes


class TinyLayerEncoder(Carrying):
    """Tiny frames of pictures: box means, or with a refiner what the network draws best from.

    Attributes:
        place: where the face is in the keyframe, for what is predicted from the moved one; see `Moving`.
        move: how the keyframe was moved for the last payload.
        may_move: whether it may be.
    """

    def __init__(self, coder: TinyEncoder, refiner: Refining | None = None, *, moves: bool = True) -> None:
        self._coder, self._refiner = coder, refiner
        self.may_move = moves
        self._keyframe: Frames | None = None
        self._mover: Mover | None = None
        self.place: tuple[int, int, int] | None = None
        self.move: Move | None = None
        self._moves: _Moves | None = None

    def reset(self, keyframe: Frames) -> None:
        self._coder.reset(tiny_from_frames(keyframe[None]))
        self._keyframe, self._mover = keyframe, None
        self.place = self.move = self._moves = None

    def set_quality(self, quality: int) -> None:
        self._coder.set_quality(policy.tiny_quality(quality))

    def encode(self, frames: Frames, beside: Said) -> bytes:
        planes, motion = tiny_from_frames(frames), beside.get("motion")
        self._move(planes, motion)
        if self._refiner is None or self._keyframe is None:
            return self._code(self._coder, planes)
        if not isinstance(self._refiner, Trying):
            return self._code(self._coder, self._refiner.refine(self._keyframe, frames, planes, motion))
        tries, error = self._refiner.tries(self._keyframe, frames, planes, motion)
        found: list[tuple[float, bytes, TinyEncoder]] = []
        for proposal in tries:
            coder = self._coder.fork()
            payload = self._code(coder, proposal)
            cost = error(self._decoded(coder)) * (1 + WORTH * len(payload) / len(frames))
            found.append((cost, payload, coder))
        _, payload, self._coder = min(found, key=lambda one: one[0])
        return payload

    def _move(self, planes: TinyPlanes, motion: NDArray[Any] | None) -> None:
        """Choose how the keyframe is moved for the next payload."""
        self.move = self._moves = None
        if not self.may_move or motion is None or self.place is None or self._keyframe is None:
            return
        if self._mover is None:
            self._mover = Mover(self._keyframe, self.place)
        chosen = self._mover.choose(planes, motion, self._coder.step)
        if chosen is not None:
            self.move, moved = chosen
            self._moves = _Moves(moved, self._mover.keyframe.still)

    def _code(self, coder: TinyEncoder, planes: TinyPlanes) -> bytes:
        return coder.encode(planes if self._moves is None else without(planes, *self._moves))

    def _decoded(self, coder: TinyEncoder) -> TinyPlanes:
        coded = coder.reconstruction
        return coded if self._moves is None else restored(coded, *self._moves)

    def encode_into(self, coder: RangeEncoder, frames: Frames, beside: Said) -> None:
        """As `encode`, but from the keyframe as it is: for calls."""
        planes, self.move, self._moves = tiny_from_frames(frames), None, None
        if self._refiner is not None and self._keyframe is not None:
            planes = self._refiner.refine(self._keyframe, frames, planes, beside.get("motion"))
        self._coder.encode_into(coder, planes)

    @property
    def said(self) -> Frames:
        return tiny_to_rgb(self._decoded(self._coder))


class TinyLayerDecoder:
    """Payloads to tiny frames [n, 8, 8, 3] uint8 RGB."""

    def __init__(self) -> None:
        self._coder = TinyDecoder()
        self._keyframe: Frames | None = None
        self._moved: MovedKeyframe | None = None

    def reset(self, keyframe: Frames) -> None:
        self._coder.reset(tiny_from_frames(keyframe[None]))
        self._keyframe, self._moved = keyframe, None

    @property
    def state(self) -> State:
        return self._coder.state, self._keyframe

    @state.setter
    def state(self, state: State) -> None:
        coder, keyframe = state
        self._coder.restore(coder)
        if keyframe is not self._keyframe:
            self._keyframe, self._moved = keyframe, None

    def decode(self, payload: bytes, frames: int) -> Frames:
        return tiny_to_rgb(self._coder.decode(payload, frames))

    def decode_moved(self, payload: bytes, move: Move, motion: NDArray[Any]) -> Frames:
        """As `decode`, of what is predicted from the keyframe, moved as the ``motion`` [n, 17] of these frames says."""
        coded = self._coder.decode(payload, len(motion))
        if self._keyframe is None or not self._coder.known:
            return tiny_to_rgb(coded)
        if self._moved is None:
            self._moved = MovedKeyframe(self._keyframe)
        return tiny_to_rgb(restored(coded, self._moved.planes(move, motion), self._moved.still))

    def decode_from(self, coder: RangeDecoder, frames: int) -> Frames:
        return tiny_to_rgb(self._coder.decode_from(coder, frames))

    def lose(self, frames: int) -> Frames:
        if self._keyframe is None:
            return np.full((frames, 8, 8, 3), GREY, np.uint8)
        return tiny_to_rgb(self._coder.conceal(frames))


def encoder(sending: Sending) -> TinyLayerEncoder:
    coder = TinyEncoder(policy.tiny_quality(sending.quality), mode=sending.mode, refresh=NEVER)
    return TinyLayerEncoder(coder, sending.refiner, moves=sending.mode == "file")


def decoder(announced: None) -> TinyLayerDecoder:
    del announced  # all streams have tiny frames
    return TinyLayerDecoder()
