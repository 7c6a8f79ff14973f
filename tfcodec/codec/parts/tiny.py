"""The layer of tiny frames."""

from __future__ import annotations

import numpy as np

from ...tinyframe import TinyDecoder, TinyEncoder, tiny_from_frames, tiny_to_rgb
from ...tinyframe.rangecoder import RangeDecoder, RangeEncoder
from .. import policy
from .layer import NEVER, Carrying, Frames, Refining, Said, Sending, Trying

GREY = 128
WORTH = 0.03
"""The share of the error that a byte for each frame is worth: it makes a stream of quality 5 a tenth longer."""


class TinyLayerEncoder(Carrying):
    """Tiny frames of pictures: box means, or with a refiner what the network draws best from."""

    def __init__(self, coder: TinyEncoder, refiner: Refining | None = None) -> None:
        self._coder, self._refiner = coder, refiner
        self._keyframe: Frames | None = None

    def reset(self, keyframe: Frames) -> None:
        self._coder.reset(tiny_from_frames(keyframe[None]))
        self._keyframe = keyframe

    def set_quality(self, quality: int) -> None:
        self._coder.set_quality(policy.tiny_quality(quality))

    def encode(self, frames: Frames, beside: Said) -> bytes:
        if isinstance(self._refiner, Trying) and self._keyframe is not None:
            return self._best(self._refiner, self._keyframe, frames, beside)
        coder = RangeEncoder()
        self.encode_into(coder, frames, beside)
        return coder.finish()

    def _best(self, refiner: Trying, keyframe: Frames, frames: Frames, beside: Said) -> bytes:
        """The payload that the best pictures are drawn from, bits being worth something, too."""
        tries, error = refiner.tries(keyframe, frames, tiny_from_frames(frames), beside.get("motion"))
        found: list[tuple[float, bytes, TinyEncoder]] = []
        for planes in tries:
            coder = self._coder.fork()
            payload = coder.encode(planes)
            cost = error(coder.reconstruction) * (1 + WORTH * len(payload) / len(frames))
            found.append((cost, payload, coder))
        _, payload, self._coder = min(found, key=lambda one: one[0])
        return payload

    def encode_into(self, coder: RangeEncoder, frames: Frames, beside: Said) -> None:
        planes = tiny_from_frames(frames)
        if self._refiner is not None and self._keyframe is not None:
            planes = self._refiner.refine(self._keyframe, frames, planes, beside.get("motion"))
        self._coder.encode_into(coder, planes)

    @property
    def said(self) -> Frames:
        return tiny_to_rgb(self._coder.reconstruction)


class TinyLayerDecoder(Carrying):
    """Payloads to tiny frames [n, 8, 8, 3] uint8 RGB."""

    def __init__(self) -> None:
        self._coder = TinyDecoder()
        self._begun = False

    def reset(self, keyframe: Frames) -> None:
        self._coder.reset(tiny_from_frames(keyframe[None]))
        self._begun = True

    def decode(self, payload: bytes, frames: int) -> Frames:
        return tiny_to_rgb(self._coder.decode(payload, frames))

    def decode_from(self, coder: RangeDecoder, frames: int) -> Frames:
        return tiny_to_rgb(self._coder.decode_from(coder, frames))

    def lose(self, frames: int) -> Frames:
        if not self._begun:
            return np.full((frames, 8, 8, 3), GREY, np.uint8)
        return tiny_to_rgb(self._coder.conceal(frames))


def encoder(sending: Sending) -> TinyLayerEncoder:
    coder = TinyEncoder(policy.tiny_quality(sending.quality), mode=sending.mode, refresh=NEVER)
    return TinyLayerEncoder(coder, sending.refiner)


def decoder(announced: None) -> TinyLayerDecoder:
    del announced  # all streams have tiny frames
    return TinyLayerDecoder()
