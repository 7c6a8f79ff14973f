"""A file's speech, decoded piece by piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...bitstream import ParsedStream
from ...errors import BitstreamError
from ...rates import OPUS_PER_SAMPLE, SAMPLE_RATE
from ..parts import speech

KEEP = SAMPLE_RATE
"""Samples before the last ones read that are kept, so that they can be read again without decoding."""
RUN_UP = SAMPLE_RATE
"""Samples before those asked for that are decoded after a jump: by then Opus has found its state again."""


class FileSpeech:
    """The speech of a stream that has some.

    Read in order from the beginning it is exact. After a jump it differs by less than can be heard, for a moment, since
    the decoder knows nothing of what was before.

    Args:
        stream: the file.
        strict: packets that are not valid raise BitstreamError; otherwise they are concealed and noted.

    Attributes:
        length: samples at 16 kHz.
        missing: the codec that is not installed, and how to get it, in one line; all sound is silence then. Else empty.
        damaged: what was concealed, one sentence each.
    """

    def __init__(self, stream: ParsedStream, *, strict: bool) -> None:
        audio = stream.header.audio
        if audio is None:
            raise ValueError("the stream has no speech")
        self._audio, self._strict = audio, strict
        self._packets = {
            chunk.first_packet + i: packet for chunk in stream.speech for i, packet in enumerate(chunk.packets)
        }
        # With damage the total may be unknown; the video's length stands in for it.
        rate = stream.header.rate
        total = stream.audio_samples or stream.frame_count * rate[1] * audio.sample_rate // rate[0]
        self.length = total // OPUS_PER_SAMPLE
        self._count = audio.packets_for(total)
        self._size, self._skip = audio.packet_samples // OPUS_PER_SAMPLE, audio.pre_skip // OPUS_PER_SAMPLE
        self._noted: dict[int, str] = {}
        self._begin(0)

    @property
    def damaged(self) -> list[str]:
        return [self._noted[i] for i in sorted(self._noted)]

    def samples(self, first: int, end: int) -> NDArray[np.float32]:
        """Samples [end - first] float32 at 16 kHz; what lies outside the speech is silence. Raises BitstreamError."""
        a, b = min(max(first, 0), self.length), min(max(end, 0), self.length)
        if a < b:
            self._read(a, b)
        piece = self._pcm[a - self._start : b - self._start] if a < b else np.zeros(0, np.float32)
        before = min(max(0, -first), end - first)
        return np.pad(piece, (before, end - first - before - len(piece)))

    def whole(self, pieces: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """All speech, [length] float32: ``pieces``, which were read from the first sample on, and the rest.

        Raises BitstreamError.
        """
        return np.concatenate([*pieces, self.rest(sum(map(len, pieces)))])[: self.length]

    def rest(self, first: int) -> NDArray[np.float32]:
        """Samples from ``first`` to the end of the speech, which may be later than that of the video."""
        return self.samples(first, max(first, self.length))

    @property
    def missing(self) -> str:
        return speech.missing(self._decoder)

    def _begin(self, packet: int) -> None:
        self._decoder = speech.decoder(self._audio)
        self._next = packet
        self._start = packet * self._size - self._skip  # time of _pcm[0]; 0 is the beginning of frame 0
        self._pcm = np.zeros(0, np.float32)

    def _read(self, first: int, end: int) -> None:
        have = self._start + len(self._pcm)
        if first < self._start or first - have > RUN_UP:
            self._begin(max(0, (first - RUN_UP + self._skip) // self._size))
            have = self._start
        parts = [self._pcm]
        while have < end and self._next < self._count:
            parts.append(self._decode(self._next))
            have += len(parts[-1])
            self._next += 1
        self._pcm = np.concatenate(parts)
        if have < end:
            self._pcm = np.pad(self._pcm, (0, end - have))
        extra = min(first - KEEP - self._start, len(self._pcm))
        if extra > 0:
            self._pcm, self._start = self._pcm[extra:], self._start + extra

    def _decode(self, index: int) -> NDArray[np.float32]:
        try:
            return self._decoder.decode(self._packets.get(index))
        except BitstreamError as error:
            if self._strict:
                raise type(error)(f"speech packet {index}: {error}") from None
            self._noted[index] = f"speech packet {index}: {error}"
            return self._decoder.decode(None)
