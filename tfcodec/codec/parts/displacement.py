"""The layer of displacement: where the picture lies beside where the network would draw it.

The sender's aligner finds out, from the keyframe and from what the layers before say. Only files have the layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...bitstream import DisplacementTablesChunk
from ...displacement import (
    DISPLACEMENT_ID,
    NUMBERS,
    DisplacementDecoder,
    DisplacementEncoder,
    check_displacement,
    displacement_hash,
)
from ...errors import TfcodecError
from ...tinyframe.rangecoder import RangeDecoder, RangeEncoder
from .. import policy
from .layer import Aligning, Carrying, Frames, Said, Sending

Numbers = NDArray[np.int32]
"""[n, 12] in 1/32 pixel."""
MOST_CHUNKS = 900
"""Chunks of a stream at most: readers that do not know them count them among the ancillary ones, and take 1000."""


def announcement() -> DisplacementTablesChunk:
    """What says that a stream has the layer."""
    return DisplacementTablesChunk(DISPLACEMENT_ID, displacement_hash())


class DisplacementLayerEncoder(Carrying):
    """Codes what the aligner finds; nothing where that is no displacement at all."""

    def __init__(self, coder: DisplacementEncoder, aligner: Aligning) -> None:
        self._coder, self._aligner = coder, aligner
        self._keyframe: Frames | None = None
        self._sent = 0

    def reset(self, keyframe: Frames) -> None:
        self._coder.reset()
        self._keyframe = keyframe

    def set_quality(self, quality: int) -> None:
        self._coder.set_quality(policy.displacement_quality(quality))

    def encode(self, frames: Frames, beside: Said) -> bytes:
        """The payload; empty if the frames are as displaced as the one before."""
        before, payload = self._coder.state, b""
        if self._sent < MOST_CHUNKS:
            payload = self._payload(frames, beside)
        same = np.array_equal(self._coder.state.coefficients, before.coefficients)
        if not payload or (same and not np.ptp(self._coder.reconstruction, axis=0).any()):
            self._coder.restore(before)
            self._coder.leave_out(len(frames))
            return b""
        self._sent += 1
        return payload

    def _payload(self, frames: Frames, beside: Said) -> bytes:
        coder = RangeEncoder()
        self.encode_into(coder, frames, beside)
        return coder.finish()

    def encode_into(self, coder: RangeEncoder, frames: Frames, beside: Said) -> None:
        if self._keyframe is None:
            raise TfcodecError("the layer of displacement begins with a keyframe")
        found = np.zeros((len(frames), NUMBERS))
        if self._sent < MOST_CHUNKS - 1:  # the last one leads back to where the network draws
            found = self._aligner.fit(self._keyframe, frames, beside["tiny"], beside.get("motion"))
        self._coder.encode_into(coder, found)

    @property
    def said(self) -> Numbers:
        return self._coder.reconstruction.astype(np.int32)


class DisplacementLayerDecoder(Carrying):
    """Payloads to numbers [n, 12] int32."""

    def __init__(self) -> None:
        self._coder = DisplacementDecoder()

    def reset(self, keyframe: Frames) -> None:
        del keyframe
        self._coder.reset()

    def decode(self, payload: bytes, frames: int) -> Numbers:
        return self._coder.decode(payload, frames).astype(np.int32)

    def decode_from(self, coder: RangeDecoder, frames: int) -> Numbers:
        return self._coder.decode_from(coder, frames).astype(np.int32)

    def lose(self, frames: int) -> Numbers:
        return self._coder.conceal(frames).astype(np.int32)


def encoder(sending: Sending) -> DisplacementLayerEncoder | None:
    if sending.mode != "file" or sending.aligner is None:
        return None
    coder = DisplacementEncoder(policy.displacement_quality(sending.quality))
    return DisplacementLayerEncoder(coder, sending.aligner)


def decoder(announced: DisplacementTablesChunk) -> DisplacementLayerDecoder:
    check_displacement(announced.displacement_id, announced.displacement_hash)
    return DisplacementLayerDecoder()
