"""What Codec2 and Lyra have in common: frames of fixed length, several of which make a packet."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tfcodec.errors import MediaError
from tfcodec.rates import SAMPLE_RATE
from tfcodec.samples import Samples, check_samples

Frame = TypeVar("Frame")
FADE = (0.9, 0.7, 0.45, 0.2)
"""Shares of the last frame in lost ones, before silence alone: gains at which Codec2 repeats it, weights with which
Lyra's features go over from it to those of silence."""


class Encoder(Protocol):
    """Samples to packets, as they come."""

    pre_skip: int
    """Samples at 16 kHz by which the decoded sound lags behind the input."""
    packet_ms: int
    """Duration of every packet."""

    def push(self, pcm: npt.ArrayLike) -> list[bytes]:
        """Take samples [n] at 16 kHz, float in -1...1 or int16; give the packets that are ready.

        Raises:
            MediaError: another type or shape, or a sample that is not a finite number.
        """

    def flush(self) -> list[bytes]:
        """Give the last packets, so that all samples pushed can be decoded, and close the encoder."""


class Decoder(Protocol):
    """Packets to samples."""

    def decode(self, packet: bytes | None) -> Samples:
        """One packet to [n] float32 at 16 kHz, always the same n; None stands for a lost one, which is concealed.

        Raises:
            BitstreamError: the packet is malformed. The decoder stays usable.
        """


class FrameEncoder(Generic[Frame]):
    """Cuts sound into frames and puts packets together.

    Args:
        samples: of a frame, at 16 kHz.
        frames: of a packet.
        pre_skip: samples at 16 kHz by which the decoded sound lags behind.
    """

    def __init__(self, samples: int, frames: int, pre_skip: int) -> None:
        self.pre_skip = pre_skip
        self.packet_ms = 1000 * samples * frames // SAMPLE_RATE
        self._samples, self._frames = samples, frames
        self._rest = np.zeros(0, np.float32)
        self._waiting: list[Frame] = []
        self._pushed = 0
        self._open = True

    def push(self, pcm: npt.ArrayLike) -> list[bytes]:
        """See :class:`Encoder`."""
        if not self._open:
            raise MediaError("the speech encoder has been flushed")
        samples = check_samples(pcm)
        self._pushed += len(samples)
        return self._code(samples)

    def flush(self) -> list[bytes]:
        """See :class:`Encoder`. The last packet may hold fewer frames than the others."""
        if not self._open:
            return []
        length = self._pushed + self.pre_skip if self._pushed else 0
        packets = self._code(np.zeros(length - self._pushed + -length % self._samples, np.float32))
        self._open = False
        if self._waiting:
            packets.append(self._packet(self._waiting))
            self._waiting = []
        return packets

    def _code(self, samples: Samples) -> list[bytes]:
        buffered = np.concatenate([self._rest, samples])
        packets = []
        end = len(buffered) - len(buffered) % self._samples
        for start in range(0, end, self._samples):
            self._waiting.append(self._frame(buffered[start : start + self._samples]))
            if len(self._waiting) == self._frames:
                packets.append(self._packet(self._waiting))
                self._waiting = []
        self._rest = buffered[end:]
        return packets

    def _frame(self, samples: Samples) -> Frame:
        raise NotImplementedError

    def _packet(self, frames: list[Frame]) -> bytes:
        raise NotImplementedError
