"""Speech of a call, decoded as far as the pictures have got."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from ...bitstream import AudioConfig
from ...errors import BitstreamError
from ...model.inputs import REACH
from ...model.logmel import log_mel
from ...rates import OPUS_PER_SAMPLE, SAMPLE_RATE, SAMPLES_PER_FRAME
from ..parts import speech

KEEP = 2 * SAMPLE_RATE  # more than lips from speech listen to
MAX_PENDING = 4096


class SpeechJitter:
    """Packets in any order, samples in order; missing packets are concealed when their time has come, and those that
    were not sent are noise like that of the pause.

    May be used by several threads; none of them waits longer than the decoding of a few packets.
    """

    def __init__(self, audio: AudioConfig) -> None:
        self._lock = threading.Lock()
        self._skip = audio.pre_skip // OPUS_PER_SAMPLE
        self._packet = audio.packet_samples // OPUS_PER_SAMPLE
        self._decoder = speech.decoder(audio)
        self._packets: dict[int, bytes] = {}
        self._next = 0
        self._pcm = np.zeros(0, np.float32)
        self._start = -self._skip  # time of _pcm[0] in samples; sample 0 is the beginning of frame 0

    @property
    def missing(self) -> str:
        """The codec that is not installed, and how to get it, in one line; empty if the speech can be decoded."""
        return speech.missing(self._decoder)

    @property
    def per_frame(self) -> int:
        """Packets that last as long as a frame."""
        return max(1, SAMPLES_PER_FRAME // self._packet)

    def add(self, index: int, packet: bytes) -> None:
        """Take a packet; an empty one stands for one that was not sent, and never for one that is here."""
        with self._lock:
            if not packet and self._packets.get(index):
                return
            if index >= self._next and len(self._packets) < MAX_PENDING:
                self._packets[index] = packet

    def frame(self, frame: int) -> NDArray[np.float32]:
        """Speech of a frame, [640] float32."""
        first = frame * SAMPLES_PER_FRAME
        out = np.zeros(SAMPLES_PER_FRAME, np.float32)
        with self._lock:
            self._decode_until(first + SAMPLES_PER_FRAME)
            piece = self._pcm[max(0, first - self._start) : max(0, first + SAMPLES_PER_FRAME - self._start)]
        out[: len(piece)] = piece
        return out

    def mel(self, frame: int, future: int, past: int = REACH, after: int = REACH) -> NDArray[np.float32]:
        """Log-mel of frames ``frame - past ... frame + after``, four columns each, [n, 80]; speech is decoded
        ``future`` frames ahead."""
        # The codec's own delay keeps the last samples of a frame back until the next frame's packet; leaving them out
        # always makes the picture independent of when packets happen to come.
        end = (frame + future + 1) * SAMPLES_PER_FRAME - self._skip
        with self._lock:
            self._decode_until(end, only_present=True)
            known = self._pcm[: max(0, end - self._start)]
            start = (frame - past) * SAMPLES_PER_FRAME - self._start
        if start < 0:
            return log_mel(np.pad(known, (-start, 0)), past + after + 1)
        return log_mel(known, past + after + 1, start=start)

    def _decode_until(self, end: int, only_present: bool = False) -> None:
        parts = [self._pcm]
        # A receiver that joins late has nothing to decode before its first packet.
        if self._next == 0 and self._packets and not len(self._pcm) and 0 not in self._packets:
            self._next = min(self._packets)
            self._start = self._next * self._packet - self._skip
        have = self._start + len(self._pcm)
        if not only_present and end - have > KEEP:  # after a long gap nobody can hear what was before it
            self._next += (end - have) // self._packet
            self._start, have, parts = self._next * self._packet - self._skip, 0, []
            have = self._start
            self._packets = {i: p for i, p in self._packets.items() if i >= self._next}
        while have < end:
            packet = self._packets.pop(self._next, None)
            if packet is None and only_present:
                break
            try:
                decoded = self._decoder.decode(packet)
            except BitstreamError:
                decoded = self._decoder.decode(None)
            parts.append(decoded)
            have += len(decoded)
            self._next += 1
        self._pcm = np.concatenate(parts)
        extra = len(self._pcm) - KEEP
        if extra > 0:
            self._pcm = self._pcm[extra:]
            self._start += extra
