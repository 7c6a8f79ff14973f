"""Codec2: 3200 to 1200 bit/s of narrow-band speech, through `pycodec2` (the library behind it is under the LGPL).

Its frames are of fixed length, 20 ms at 3200 and 2400 bit/s and 40 ms below. A packet is the bits of its frames one
after the other, the last byte filled with zeros. The codec works at 8 kHz; samples are converted here.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from tfcodec.errors import BitstreamError, MediaError, SpeechCodecMissing
from tfcodec.rates import SAMPLE_RATE
from tfcodec.samples import Samples
from tfcodec.speech.packets import FADE, FrameEncoder

FRAME_MS = {3200: 20, 2400: 20, 1600: 40, 1400: 40, 1300: 40, 1200: 40}
"""Duration of a frame by the mode's bit rate; a frame has their product in bits."""
MAX_PACKET_MS = 5000
TAPS = 63
DELAY = 320 + (TAPS - 1)
"""Samples at 16 kHz: the codec's own delay, 160 at 8 kHz, and that of both conversions of the rate."""
MURMUR = 40.0
"""Frames whose rms is below this (of 32768) are silence: the codec makes a murmur of rms 20 to 31 of it."""


def missing() -> str:
    """What has to be installed, in one line; empty if nothing has."""
    if importlib.util.find_spec("pycodec2") is None:
        return "speech is coded with Codec2: pip install 'tfcodec[codec2]'"
    return ""


def frame_bits(bit_rate: int) -> int:
    """Bits of a frame."""
    return bit_rate * FRAME_MS[bit_rate] // 1000


def packet_bytes(bit_rate: int, frames: int) -> int:
    """Bytes of a packet of so many frames."""
    return -(-frame_bits(bit_rate) * frames // 8)


class Codec2Encoder(FrameEncoder[bytes]):
    """Codec2 encoder for a stream of sound.

    Args:
        bit_rate: a key of :data:`FRAME_MS`.
        packet_ms: duration of a packet, a multiple of the frame's, at most 5000.

    Raises:
        SpeechCodecMissing: `pycodec2` is not installed.
        MediaError: no such bit rate or duration.
    """

    def __init__(self, bit_rate: int, packet_ms: int) -> None:
        if bit_rate not in FRAME_MS:
            raise MediaError(f"Codec2 has {', '.join(map(str, FRAME_MS))} bit/s, not {bit_rate!r}")
        frame_ms = FRAME_MS[bit_rate]
        if packet_ms % frame_ms or not 0 < packet_ms <= MAX_PACKET_MS:
            raise MediaError(f"Codec2 packets last 1 to {MAX_PACKET_MS // frame_ms} frames of {frame_ms} ms")
        super().__init__(frame_ms * SAMPLE_RATE // 1000, packet_ms // frame_ms, DELAY)
        self._codec = _open(bit_rate)
        self._bits = frame_bits(bit_rate)
        self._past = np.zeros(TAPS - 1, np.float32)

    def _frame(self, samples: Samples) -> bytes:
        joined = np.concatenate([self._past, samples])
        self._past = joined[len(joined) - (TAPS - 1) :]
        narrow = np.convolve(joined, _low_pass(), "valid")[::2]
        return bytes(self._codec.encode(np.clip(np.round(narrow * 32768), -32768, 32767).astype(np.int16)))

    def _packet(self, frames: list[bytes]) -> bytes:
        frames = frames + [frames[-1]] * (self._frames - len(frames))  # all packets are of one length
        bits = [np.unpackbits(np.frombuffer(frame, np.uint8))[: self._bits] for frame in frames]
        return np.packbits(np.concatenate(bits)).tobytes()


class Codec2Decoder:
    """Codec2 decoder for a stream of packets. Its output lags behind the encoder's input by :data:`DELAY`.

    The codec fills unvoiced bands from a random generator that all decoders of a process share: samples differ from one
    decoding to the next.

    Args:
        bit_rate, frames: of the packets.

    Raises:
        SpeechCodecMissing: `pycodec2` is not installed.
    """

    def __init__(self, bit_rate: int, frames: int) -> None:
        self._codec = _open(bit_rate)
        self._bits, self._frames = frame_bits(bit_rate), frames
        self._bytes = packet_bytes(bit_rate, frames)
        self._samples = FRAME_MS[bit_rate] * 8
        self._past = np.zeros((TAPS - 1) // 2, np.float32)
        self._last: bytes | None = None
        self._lost = 0

    def decode(self, packet: bytes | None) -> Samples:
        """Decode one packet to [n] float32 at 16 kHz; None stands for a lost packet: the last frame again, fading.

        Raises:
            BitstreamError: the packet has another length, or bits behind its last frame. The decoder stays usable.
        """
        if packet is None:
            return np.concatenate([self._widen(self._conceal()) for _ in range(self._frames)])
        packet = bytes(packet)
        if len(packet) != self._bytes:
            raise BitstreamError(f"speech: Codec2 packet of {len(packet)} bytes instead of {self._bytes} [R69]")
        bits = np.unpackbits(np.frombuffer(packet, np.uint8))
        if bits[self._bits * self._frames :].any():
            raise BitstreamError("speech: a Codec2 packet's unused bits are not zero [R69]")
        out = []
        for k in range(self._frames):
            self._last = np.packbits(bits[self._bits * k : self._bits * (k + 1)]).tobytes()
            self._lost = 0
            out.append(self._widen(self._narrow(self._last)))
        return np.concatenate(out)

    def _narrow(self, frame: bytes) -> Samples:
        sound = np.asarray(self._codec.decode(frame), np.float32)
        return sound if np.sqrt(np.square(sound).mean()) >= MURMUR else np.zeros_like(sound)

    def _conceal(self) -> Samples:
        self._lost += 1
        if self._last is None or self._lost > len(FADE):
            return np.zeros(self._samples, np.float32)
        before = FADE[self._lost - 2] if self._lost > 1 else 1.0
        return self._narrow(self._last) * np.linspace(before, FADE[self._lost - 1], self._samples, dtype=np.float32)

    def _widen(self, narrow: Samples) -> Samples:
        joined = np.concatenate([self._past, narrow / np.float32(32768)])
        self._past = joined[len(joined) - len(self._past) :]
        taps = 2 * _low_pass()
        out = np.empty(2 * len(narrow), np.float32)
        # every second sample between is zero: the even taps make one half of the output, the odd ones the other
        out[::2] = np.convolve(joined, taps[::2], "valid")
        out[1::2] = np.convolve(joined, taps[1::2], "valid")[1:]
        return np.clip(out, -1, 1)


def _low_pass() -> Samples:
    """[63] taps of a low-pass filter at 4 kHz for 16 kHz (windowed sinc; -6 dB at 3.9 kHz)."""
    at = np.arange(TAPS) - TAPS // 2
    taps = np.sinc(at * 2 * 3900 / SAMPLE_RATE) * np.hamming(TAPS)
    return (taps / taps.sum()).astype(np.float32)


def _open(bit_rate: int) -> Any:
    line = missing()
    if line:
        raise SpeechCodecMissing(line)
    import pycodec2

    try:
        return pycodec2.Codec2(bit_rate)
    except Exception as error:
        raise SpeechCodecMissing(f"speech is coded with Codec2, which does not work here: {error}") from error
