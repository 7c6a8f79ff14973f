"""A file's keyframes, layers and speech, decoded in stream order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bitstream import BY_CLASS, AudioConfig, Chunk, KeyframeChunk, LayerChunk, StreamHeader
from ...errors import BitstreamError
from ...rates import OPUS_PER_SAMPLE
from ..parts import StreamDecoder, speech


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

    def layer(self, chunk: LayerChunk) -> NDArray[Any]:
        """What the chunk says of its frames: of tiny frames [n, 8, 8, 3] uint8."""
        name = BY_CLASS[type(chunk)].key
        layer, held = self._decoder.layers[name], self._decoder.tag
        if held is None or (chunk.keyframe_tag != held and not self.strict):
            if self.strict:
                raise BitstreamError(f"{name} frames from {chunk.first_frame} on have no keyframe")
            self.damaged.append(f"frames from {chunk.first_frame} on: their keyframe is missing")
            return layer.lose(chunk.frame_count)
        try:
            return layer.decode(chunk.payload, chunk.frame_count)
        except BitstreamError as error:
            self._note(f"{name} frames from {chunk.first_frame} on", error)
            return layer.lose(chunk.frame_count)

    def lose(self, name: str, frames: int) -> NDArray[Any]:
        """Stand-ins for frames of a layer that are not there."""
        return self._decoder.layers[name].lose(frames)

    def _note(self, what: str, error: BitstreamError) -> None:
        if self.strict:
            raise type(error)(f"{what}: {error}") from None
        self.damaged.append(f"{what}: {error}")


def decode_speech_packets(
    audio: AudioConfig, packets: dict[int, bytes], samples_48k: int, damaged: list[str] | None = None
) -> NDArray[np.float32]:
    """All speech as float32 at 16 kHz; missing packets are concealed.

    ``samples_48k`` is the length after the pre-skip at the codec's clock of 48 kHz. With ``damaged`` packets that are
    not valid are concealed too and noted there; otherwise they raise BitstreamError.
    """
    decoder = speech.decoder(audio)
    parts = []
    for i in range(audio.packets_for(samples_48k)):
        try:
            parts.append(decoder.decode(packets.get(i) or None))
        except BitstreamError as error:
            if damaged is None:
                raise type(error)(f"speech packet {i}: {error}") from None
            damaged.append(f"speech packet {i}: {error}")
            parts.append(decoder.decode(None))
    pcm = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    skip, length = audio.pre_skip // OPUS_PER_SAMPLE, samples_48k // OPUS_PER_SAMPLE
    pcm = pcm[skip : skip + length]
    return np.pad(pcm, (0, length - len(pcm)))
