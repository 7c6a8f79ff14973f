"""Decoding of the exact parts: keyframes and tiny frames in order, and speech. Shared by files and calls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import speech
from ..bitstream import AudioConfig, KeyframeChunk, TinyChunk
from ..errors import BitstreamError, UnsupportedVersion
from ..keyframe import decode_keyframe
from ..tinyframe import TABLES_ID, TinyDecoder, tiny_from_frames, tiny_to_rgb

GREY = 128


class TinyTrack:
    """Follows keyframes and tiny frames in stream order.

    ``strict``: errors are raised. Otherwise what cannot be decoded is held from the frame before, and noted in
    ``damaged``; tiny frames of a keyframe that never came are held too, because they mean nothing without it.
    """

    def __init__(self, tables_id: int, *, strict: bool) -> None:
        if tables_id != TABLES_ID:
            raise UnsupportedVersion(f"the stream uses entropy tables {tables_id}; this version has {TABLES_ID}")
        self.strict = strict
        self.damaged: list[str] = []
        self.broken = True
        """Whether the picture is held or drifting, so that a new keyframe is wanted."""
        self._decoder = TinyDecoder()
        self._tag: int | None = None

    @property
    def started(self) -> bool:
        """Whether there is a keyframe to start from."""
        return self._tag is not None

    def keyframe(self, chunk: KeyframeChunk) -> NDArray[np.uint8] | None:
        """The picture [256, 256, 3] uint8, and prediction starts anew from it; None if it is damaged."""
        try:
            picture = decode_keyframe(chunk.data)
        except BitstreamError as error:
            if self.strict:
                raise type(error)(f"keyframe at frame {chunk.frame_index}: {error}") from None
            self.damaged.append(f"keyframe at frame {chunk.frame_index}: {error}")
            self.broken = True
            return None
        self._decoder.reset(tiny_from_frames(picture[None]))
        self._tag = chunk.keyframe_tag
        self.broken = False
        return picture

    def tiny(self, chunk: TinyChunk) -> NDArray[np.uint8]:
        """The chunk's tiny frames as [n, 8, 8, 3] uint8."""
        if self._tag is None or (chunk.keyframe_tag != self._tag and not self.strict):
            if self.strict:
                raise BitstreamError(f"tiny frames from {chunk.first_frame} on have no keyframe")
            self.damaged.append(f"frames from {chunk.first_frame} on: their keyframe is missing")
            return self.hold(chunk.frame_count)
        try:
            return tiny_to_rgb(self._decoder.decode(chunk.payload, chunk.frame_count))
        except BitstreamError as error:
            if self.strict:
                raise type(error)(f"tiny frames from {chunk.first_frame} on: {error}") from None
            self.damaged.append(f"tiny frames from {chunk.first_frame} on: {error}")
            return self.hold(chunk.frame_count)

    def hold(self, frames: int) -> NDArray[np.uint8]:
        """Stand-in for lost tiny frames, [frames, 8, 8, 3] uint8."""
        self.broken = True
        if self._tag is None:
            return np.full((frames, 8, 8, 3), GREY, np.uint8)
        return tiny_to_rgb(self._decoder.conceal(frames))


def decode_speech_packets(
    audio: AudioConfig, packets: dict[int, bytes], samples_48k: int, damaged: list[str] | None = None
) -> NDArray[np.float32]:
    """All speech as float32 at 16 kHz; missing packets are concealed.

    ``samples_48k`` is the length after the pre-skip at the codec's clock of 48 kHz. With ``damaged`` packets that are
    not valid are concealed too and noted there; otherwise they raise BitstreamError.
    """
    decoder = speech.SpeechDecoder(packet_ms=audio.packet_samples // 48)
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
    skip, length = audio.pre_skip // 3, samples_48k // 3
    pcm = pcm[skip : skip + length]
    return np.pad(pcm, (0, length - len(pcm)))
