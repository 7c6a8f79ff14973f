"""Speech: 16 kHz mono sound as Opus packets (RFC 6716) and back.

Decoded speech is aligned with its source: sample `i` of :func:`decode_speech` is sample `i` of what went into
:func:`encode_speech`, so it belongs to time `i / 16000` s of the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfcodec.arguments import whole
from tfcodec.errors import BitstreamError, LimitExceeded, MediaError, TruncatedError
from tfcodec.rates import OPUS_PER_SAMPLE, OPUS_RATE, SAMPLE_RATE
from tfcodec.samples import Samples, check_samples

__all__ = [
    "MAX_PACKET_BYTES",
    "PACKET_MS",
    "PRE_SKIP",
    "SAMPLE_RATE",
    "SpeechDecoder",
    "SpeechEncoder",
    "SpeechTrack",
    "bitrate_of",
    "decode_speech",
    "encode_speech",
    "packet_duration_ms",
]

PACKET_MS = (20, 40, 60, 80, 100, 120)
PRE_SKIP = 104
"""Samples at 16 kHz that the Opus encoder puts before the first sample of its input (312 at 48 kHz)."""
MAX_PACKET_BYTES = 4000
"""Ten times what 120 ms take at the highest rate."""

_BITRATES = (6000, 6500, 7000, 7600, 8300, 9000, 10500, 12500, 15500, 19500, 24000)



@dataclass(frozen=True)
class SpeechTrack:
    """One coded sound track: Opus packets of `packet_ms` each; the first `pre_skip` samples are dropped."""

    packets: list[bytes]
    pre_skip: int
    """Samples at 16 kHz."""
    samples: int
    """Length of the decoded sound, in samples at 16 kHz."""
    packet_ms: int


def bitrate_of(quality: int) -> int:
    """Nominal Opus bit rate in bit/s for quality 0...10: 6000 to 24000.

    5 is the lowest at which Opus codes wide-band speech (up to 8 kHz); below it, it sounds like a telephone.
    """
    return _BITRATES[whole("speech quality", quality, 0, 10, error=MediaError)]


def packet_duration_ms(packet: bytes) -> float:
    """Duration that the packet's TOC byte declares, in ms (RFC 6716, 3.1 and 3.2).

    Raises:
        TruncatedError: if the packet is empty or lacks its frame count.
        BitstreamError: if it is not mono, holds no frame, or more than 120 ms.
    """
    config, count = _toc(packet)
    return _frame_ms(config) * count


class SpeechEncoder:
    """Opus encoder for a stream of sound.

    Args:
        bitrate: nominal rate, 6000 to 24000 bit/s; see :func:`bitrate_of`.
        packet_ms: one of :data:`PACKET_MS`. Longer packets cost fewer bits and more delay.
    """

    pre_skip = PRE_SKIP
    """Samples at 16 kHz by which the decoded sound lags behind the input."""

    def __init__(self, bitrate: int, packet_ms: int = 60) -> None:
        bitrate = whole("speech bit rate", bitrate, 6000, 24000, "bit/s", MediaError)
        if packet_ms not in PACKET_MS:
            raise MediaError(f"speech packets last {', '.join(map(str, PACKET_MS))} ms, not {packet_ms!r}")
        self.packet_ms = packet_ms
        self.packet_samples = packet_ms * SAMPLE_RATE // 1000
        self._codec = _open_encoder(bitrate, packet_ms)
        self._rest = np.zeros(0, np.float32)
        self._pushed = 0
        self._coded = 0

    def push(self, pcm: npt.ArrayLike) -> list[bytes]:
        """Take samples [n] at 16 kHz, float in -1...1 (what is beyond is clipped) or int16; give what is ready.

        Raises:
            MediaError: another type or shape, or a sample that is not a finite number.
        """
        if self._codec is None:
            raise MediaError("the speech encoder has been flushed")
        samples = check_samples(pcm)
        self._pushed += len(samples)
        return self._code(samples)

    def flush(self) -> list[bytes]:
        """Give the last packets, so that all samples pushed can be decoded, and close the encoder."""
        if self._codec is None:
            return []
        padding = self.pre_skip + -(self._pushed + self.pre_skip) % self.packet_samples if self._pushed else 0
        packets = self._code(np.zeros(padding, np.float32))
        self._codec = None
        return packets

    def _code(self, samples: Samples) -> list[bytes]:
        import av

        buffered = np.concatenate([self._rest, samples])
        size = self.packet_samples
        packets = []
        try:
            for start in range(0, len(buffered) - size + 1, size):
                frame = av.AudioFrame.from_ndarray(buffered[None, start : start + size], "flt", "mono")
                frame.sample_rate = SAMPLE_RATE
                frame.pts = self._coded
                packets += [bytes(packet) for packet in self._codec.encode(frame)]
                self._coded += size
        except av.FFmpegError as error:
            raise MediaError(f"the Opus encoder failed: {error}") from error
        self._rest = buffered[len(buffered) - len(buffered) % size :]
        return packets


class SpeechDecoder:
    """Opus decoder for a stream of packets. Its output lags behind the encoder's input by the pre-skip.

    Args:
        packet_ms: duration of every packet, 2.5 to 120; others are then refused. None: each packet says it for
            itself, and one that is lost before any has come stands for 60 ms.
    """

    def __init__(self, packet_ms: float | None = None) -> None:
        if packet_ms is not None and packet_ms not in (2.5, 5, 10, *PACKET_MS):
            raise MediaError(f"Opus packets of {packet_ms!r} ms do not exist")
        self._packet_ms = packet_ms
        self._codec = _open_decoder()
        self._last: tuple[int, int] | None = None
        self._samples = round((packet_ms or 60) * SAMPLE_RATE / 1000)

    def decode(self, packet: bytes | None) -> Samples:
        """Decode one packet to `[n] float32` at 16 kHz; None stands for a lost packet, which Opus conceals.

        Raises:
            BitstreamError: if the packet is not a mono Opus packet, or has another duration than `packet_ms`.
                The decoder stays usable.
        """
        if packet is None:
            if self._last is None:
                return np.zeros(self._samples, np.float32)
            config, count = self._last
            # Opus takes frames without a byte for lost ones (RFC 6716, 3.2.1): config, code 3, `count` frames
            # of equal size, none of which has data. PyAV has no other way to its packet loss concealment.
            return self._decode(bytes((config << 3 | 3, count)), config, count)
        packet = bytes(packet)
        config, count = _toc(packet)
        duration = _frame_ms(config) * count
        if self._packet_ms not in (None, duration):
            raise BitstreamError(f"speech: packet of {duration:g} ms instead of {self._packet_ms:g}")
        decoded = self._decode(packet, config, count)
        self._last, self._samples = (config, count), len(decoded)
        return decoded

    def _decode(self, packet: bytes, config: int, count: int) -> Samples:
        import av

        try:
            parts = [frame.to_ndarray().reshape(-1) for frame in self._codec.decode(av.Packet(packet))]
        except (av.FFmpegError, ValueError) as error:
            raise BitstreamError("speech: not a decodable Opus packet") from error
        wide = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        expected = round(_frame_ms(config) * count * OPUS_RATE / 1000)
        if wide.dtype != np.int16 or len(wide) != expected:
            raise BitstreamError(f"speech: {len(wide)} samples instead of {expected}")
        # What the encoder was given has nothing above 8 kHz, so every third sample is all there is to keep.
        return (wide[::OPUS_PER_SAMPLE] / np.float32(32768)).astype(np.float32)


def encode_speech(pcm: npt.ArrayLike, quality: int = 5, packet_ms: int = 120) -> SpeechTrack:
    """Code mono sound [n], float or int16, at 16 kHz; no samples give a track without packets.

    Raises:
        MediaError: see :class:`SpeechEncoder`.
    """
    samples = check_samples(pcm)
    encoder = SpeechEncoder(bitrate_of(quality), packet_ms)
    packets = encoder.push(samples) + encoder.flush()
    return SpeechTrack(packets, encoder.pre_skip, len(samples), packet_ms)


def decode_speech(track: SpeechTrack) -> Samples:
    """Decode a track to `[track.samples] float32` at 16 kHz; sample `i` is the source's sample `i`.

    Raises:
        BitstreamError: if a packet is damaged or does not last `packet_ms`, or if the packets are too few or
            too many for the number of samples (TruncatedError, LimitExceeded).
    """
    check_track(track)
    decoder = SpeechDecoder(track.packet_ms)
    parts = [decoder.decode(packet) for packet in track.packets]
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return sound[track.pre_skip : track.pre_skip + track.samples]


def check_track(track: SpeechTrack) -> None:
    """Raise unless the track's numbers and every packet's TOC byte agree; nothing is decoded."""
    if track.packet_ms not in PACKET_MS:
        raise BitstreamError(f"speech: packets of {track.packet_ms} ms")
    if track.samples < 0 or not 0 <= track.pre_skip <= SAMPLE_RATE:
        raise BitstreamError(f"speech: {track.samples} samples after a pre-skip of {track.pre_skip}")
    size = track.packet_ms * SAMPLE_RATE // 1000
    needed = -(-(track.samples + track.pre_skip) // size) if track.samples else 0
    if len(track.packets) != needed:
        message = f"speech: {len(track.packets)} packets for {track.samples} samples, must be {needed}"
        raise TruncatedError(message) if len(track.packets) < needed else LimitExceeded(message)
    for index, packet in enumerate(track.packets):
        duration = packet_duration_ms(packet)
        if duration != track.packet_ms:
            raise BitstreamError(f"speech: packet {index} lasts {duration:g} ms instead of {track.packet_ms}")


# Opus


def _frame_ms(config: int) -> float:
    if config < 12:
        return (10, 20, 40, 60)[config & 3]
    return (10, 20)[config & 1] if config < 16 else (2.5, 5, 10, 20)[config & 3]


def _toc(packet: bytes) -> tuple[int, int]:
    if not packet:
        raise TruncatedError("speech: empty packet")
    if len(packet) > MAX_PACKET_BYTES:
        raise LimitExceeded(f"speech: packet of {len(packet)} bytes, at most {MAX_PACKET_BYTES} are allowed")
    config, stereo, code = packet[0] >> 3, packet[0] & 4, packet[0] & 3
    if stereo:
        raise BitstreamError("speech: stereo packet, only mono is allowed")
    count = (1, 2, 2)[code] if code < 3 else 0
    if code == 3:
        if len(packet) < 2:
            raise TruncatedError("speech: packet ends before its frame count")
        count = packet[1] & 63
    if not 0 < _frame_ms(config) * count <= 120:
        raise BitstreamError(f"speech: packet of {count} frames of {_frame_ms(config):g} ms")
    return config, count


def _open_encoder(bitrate: int, packet_ms: int) -> Any:
    import av

    try:
        codec: Any = av.codec.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = SAMPLE_RATE, "mono", "flt"
        codec.bit_rate = bitrate
        codec.options = {"application": "voip", "frame_duration": str(packet_ms), "compression_level": "10"}
        codec.open()
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"this PyAV ({av.__version__}) cannot encode Opus: {error}") from error
    if codec.frame_size != packet_ms * SAMPLE_RATE // 1000 or bytes(codec.extradata)[10:12] != b"\x38\x01":
        raise MediaError("the Opus encoder has another delay or packet size than the stream format")
    return codec


def _open_decoder() -> Any:
    import av

    try:
        codec: Any = av.codec.CodecContext.create("libopus", "r")
        codec.sample_rate, codec.layout, codec.thread_count = OPUS_RATE, "mono", 1
        codec.open()
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"this PyAV ({av.__version__}) cannot decode Opus: {error}") from error
    return codec
