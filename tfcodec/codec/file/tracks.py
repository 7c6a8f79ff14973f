"""A file's keyframes and layers, decoded in stream order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bitstream import BY_CLASS, Chunk, KeyframeChunk, LayerChunk, MovedTinyChunk, StreamHeader
from ...errors import BitstreamError
from ...tinyframe import Move
from ..parts import StreamDecoder
from ..parts.keyframes import Chain
from ..parts.layer import State
from ..parts.tiny import TinyLayerDecoder


class Track:
    """Follows keyframes and layers in stream order.

    ``strict``: errors are raised. Otherwise what cannot be decoded is held from the frame before, and noted in
    ``damaged``; frames of a keyframe that never came are held too, because they mean nothing without it.
    """

    def __init__(self, header: StreamHeader, chunks: Iterable[Chunk] = (), *, strict: bool) -> None:
        self.strict = strict
        self.damaged: list[str] = []
        self._decoder = StreamDecoder(header, chunks)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that the stream has."""
        return tuple(self._decoder.layers)

    def keyframe(self, chunk: KeyframeChunk) -> NDArray[np.uint8] | None:
        """The picture [256, 256, 3] uint8, and prediction starts anew from it; None if it is damaged."""
        try:
            return self._decoder.keyframe(chunk)
        except BitstreamError as error:
            self._note(f"keyframe at frame {chunk.frame_index}", error)
            return None

    def layer(self, chunk: LayerChunk, motion: NDArray[Any] | None = None) -> NDArray[Any]:
        """What the chunk says of its frames: of tiny frames [n, 8, 8, 3] uint8.

        ``motion``: what the layer of motion says of the same frames, [n, 17].
        """
        name = BY_CLASS[type(chunk)].key
        layer, held = self._decoder.layers[name], self._decoder.tag
        if held is None or (chunk.keyframe_tag != held and not self.strict):
            if self.strict:
                raise BitstreamError(f"{name} frames from {chunk.first_frame} on have no keyframe")
            self.damaged.append(f"frames from {chunk.first_frame} on: their keyframe is missing")
            return layer.lose(chunk.frame_count)
        try:
            if isinstance(chunk, MovedTinyChunk) and isinstance(layer, TinyLayerDecoder) and motion is not None:
                move = Move(chunk.shape, chunk.x, chunk.y, chunk.distance)
                return layer.decode_moved(chunk.payload, move, motion)
            return layer.decode(chunk.payload, chunk.frame_count)
        except BitstreamError as error:
            self._note(f"{name} frames from {chunk.first_frame} on", error)
            return layer.lose(chunk.frame_count)

    def lose(self, name: str, frames: int) -> NDArray[Any]:
        """Stand-ins for so many frames of a layer that are missing."""
        return self._decoder.layers[name].lose(frames)

    @property
    def state(self) -> State:
        """What the next chunks' decoding depends on, under the keyframe that came last."""
        return self._decoder.tag, self._decoder.state, self._decoder.chain

    @state.setter
    def state(self, state: State) -> None:
        self._decoder.tag, self._decoder.state, self._decoder.chain = state

    def follow(self, chain: Chain) -> None:
        """Begin with a keyframe that refers to the last of these."""
        self._decoder.chain = chain

    def _note(self, what: str, error: BitstreamError) -> None:
        if self.strict:
            raise type(error)(f"{what}: {error}") from None
        self.damaged.append(f"{what}: {error}")
