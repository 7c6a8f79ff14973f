"""The HEADER chunk: what a reader has to know before the first keyframe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tfcodec.bitstream.framing import CRITICAL, LONG_CRC, build_chunk
from tfcodec.bitstream.limits import Limits
from tfcodec.bitstream.primitives import FieldReader, fail, write_varint
from tfcodec.errors import BitstreamError, LimitExceeded, UnsupportedVersion
from tfcodec.rates import OPUS_RATE

VERSION = 1
"""Version of the format that this package writes, and the newest minimum reader version that it satisfies."""

_FLAG_EXPERIMENTAL = 1
_FLAG_RATE = 2
_FLAG_AUDIO = 4
_DEFAULT_RATE = (25, 1)
_HASH_BYTES = 4
AUDIO_CODEC_OPUS, AUDIO_CODEC_CODEC2, AUDIO_CODEC_LYRA = 1, 2, 3
_OPUS_TICK = 120
_OPUS_DURATIONS = (8, 16, 24, 32, 40, 48)
_CODEC2_FRAMES = {32: 960, 24: 960, 16: 1920, 14: 1920, 13: 1920, 12: 1920}
"""Samples at 48 kHz of a frame, by the mode's rate in 100 bit/s."""
_LYRA_FRAME = 960
_LYRA_QUANTISERS = 46
_MAX_PACKET_SAMPLES = 5 * OPUS_RATE


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """How the speech is coded, mono. All counts are samples at 48 kHz, Opus' clock, whatever the codec."""

    packet_samples: int = 2_880
    """Duration of every packet. Opus: 960 (20 ms), 1920, 2880, 3840, 4800 or 5760 (120 ms); others: 1 to 250 of the
    codec's frames, 5 s at most."""
    pre_skip: int = 312
    """Decoded samples to drop before the sample of time 0."""
    total_samples: int = 0
    """Length of the speech after `pre_skip`; 0 if unknown (streams whose frame count is unknown)."""
    codec: int = AUDIO_CODEC_OPUS
    """1 Opus, 2 Codec2, 3 Lyra v2."""
    mode: int = 0
    """Codec2: its rate in 100 bit/s, 32, 24, 16, 14, 13 or 12. Lyra: number of quantisers, 1 to 46. Opus: 0."""
    tables_id: int = 0
    """Lyra: registry number of the integer tables that its indices are coded with ..."""
    tables_hash: bytes = b""
    """... and the first 4 bytes of the SHA-256 of their file."""

    @property
    def sample_rate(self) -> int:
        """Clock of the counts in Hz."""
        return OPUS_RATE

    @property
    def frame_samples(self) -> int:
        """Samples of one frame of Codec2 or Lyra; of Opus, of 2.5 ms. Raises BitstreamError for an unknown mode."""
        if self.codec == AUDIO_CODEC_OPUS and self.mode == 0:
            return _OPUS_TICK
        if self.codec == AUDIO_CODEC_CODEC2 and self.mode in _CODEC2_FRAMES:
            return _CODEC2_FRAMES[self.mode]
        if self.codec == AUDIO_CODEC_LYRA and 1 <= self.mode <= _LYRA_QUANTISERS:
            return _LYRA_FRAME
        raise BitstreamError(f"audio codec {self.codec} has no mode {self.mode}")

    @property
    def packet_frames(self) -> int:
        """Frames of a packet; of Opus, multiples of 2.5 ms. Raises BitstreamError if that is not a permitted number."""
        frames, rest = divmod(self.packet_samples, self.frame_samples)
        if self.codec == AUDIO_CODEC_OPUS:
            if rest or frames not in _OPUS_DURATIONS:
                raise BitstreamError(f"an Opus packet cannot last {self.packet_samples} samples at 48 kHz")
        elif rest or not 1 <= frames <= 250 or self.packet_samples > _MAX_PACKET_SAMPLES:
            raise BitstreamError(f"a speech packet cannot last {self.packet_samples} samples at 48 kHz")
        return frames

    def packets_for(self, total_samples: int) -> int:
        """Number of packets that hold `total_samples` after the pre-skip."""
        return -(-(self.pre_skip + total_samples) // self.packet_samples)

    def to_bytes(self) -> bytes:
        """The header's audio fields."""
        if self.codec not in (AUDIO_CODEC_OPUS, AUDIO_CODEC_CODEC2, AUDIO_CODEC_LYRA):
            raise BitstreamError(f"audio codec {self.codec} is not in the registry")
        if (self.codec == AUDIO_CODEC_LYRA) != (len(self.tables_hash) == _HASH_BYTES):
            raise BitstreamError("Lyra, and no other audio codec, names its tables")
        out = bytes([self.codec, self.packet_frames])
        if self.codec != AUDIO_CODEC_OPUS:
            out += bytes([self.mode])
        if self.codec == AUDIO_CODEC_LYRA:
            out += write_varint(self.tables_id) + self.tables_hash
        return out + write_varint(self.pre_skip) + write_varint(self.total_samples)

    @classmethod
    def read(cls, reader: FieldReader, frame_count: int, limits: Limits) -> AudioConfig:
        """Parse the header's audio fields."""
        start = reader.position
        codec = reader.byte("audio_codec")
        if codec not in (AUDIO_CODEC_OPUS, AUDIO_CODEC_CODEC2, AUDIO_CODEC_LYRA):
            fail(UnsupportedVersion, 19, start, f"audio codec {codec} is unknown to this reader")
        frames = reader.byte("packet_duration")
        mode = reader.byte("audio_mode") if codec != AUDIO_CODEC_OPUS else 0
        tables_id, tables_hash = 0, b""
        if codec == AUDIO_CODEC_LYRA:
            tables_id, tables_hash = reader.varint("speech_tables_id"), reader.take(_HASH_BYTES, "speech_tables_hash")
        try:
            samples = frames * cls(codec=codec, mode=mode).frame_samples
        except BitstreamError as error:
            fail(UnsupportedVersion, 19, start, str(error))
        try:
            cls(samples, codec=codec, mode=mode).packet_frames  # noqa: B018 - raises
        except BitstreamError as error:
            fail(BitstreamError, 20, start + 1, str(error))
        pre_skip = reader.varint("pre_skip")
        position = reader.position
        total = reader.varint("total_samples")
        if (total == 0) != (frame_count == 0):
            fail(
                BitstreamError,
                20,
                position,
                "total_samples and frame_count must be known or unknown together",
            )
        if total + pre_skip > limits.max_duration_seconds * OPUS_RATE:
            fail(LimitExceeded, 21, position, f"speech of {total} samples is longer than the limit")
        return cls(samples, pre_skip, total, codec, mode, tables_id, tables_hash)


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """The HEADER chunk, first in a file and repeated with every keyframe in a call."""

    TYPE: ClassVar[int] = CRITICAL | LONG_CRC | 1

    frame_count: int = 0
    """Frames of the stream, 0 if unknown when the header was written (then an END chunk gives it)."""
    model_id: int = 0
    """Registry number of the network, 0 if none is named."""
    model_hash: bytes = bytes(_HASH_BYTES)
    """First 4 bytes of the SHA-256 of the network's safetensors file."""
    tables_id: int = 1
    """Registry number of the entropy coder's integer tables."""
    audio: AudioConfig | None = None
    """How the speech is coded, None without sound."""
    rate: tuple[int, int] = _DEFAULT_RATE
    """Frames per second as (numerator, denominator) in lowest terms."""
    profile: int = 0
    """0: 256 x 256 pictures, tiny frames of 8 x 8 luma and 4 x 4 chroma samples."""
    experimental: bool = False
    """Written by an encoder whose format is not final; refused by default."""
    version: int = VERSION
    """Version of the format that the writer followed."""
    min_reader_version: int = VERSION
    """Oldest reader version that can read the stream."""

    @property
    def fps(self) -> float:
        """Frames per second, for display; arithmetic on time uses `rate`."""
        return self.rate[0] / self.rate[1]

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        if not 1 <= self.min_reader_version <= self.version <= 15:
            raise BitstreamError(f"versions {self.version}, {self.min_reader_version} cannot be written")
        if self.profile != 0:
            raise BitstreamError(f"profile {self.profile} is not defined")
        if len(self.model_hash) != _HASH_BYTES or (self.model_id == 0 and any(self.model_hash)):
            raise BitstreamError(f"model hash must be {_HASH_BYTES} bytes, all zero without a model")
        numerator, denominator = self.rate
        if min(self.rate) < 1 or math.gcd(numerator, denominator) != 1:
            raise BitstreamError(f"frame rate {numerator}/{denominator} is not a fraction in lowest terms")
        if self.audio is not None and (self.audio.total_samples == 0) != (self.frame_count == 0):
            raise BitstreamError("total_samples and frame_count must be known or unknown together")
        flags = _FLAG_EXPERIMENTAL * self.experimental
        flags |= _FLAG_RATE * (self.rate != _DEFAULT_RATE) | _FLAG_AUDIO * (self.audio is not None)
        payload = bytes([self.version << 4 | self.min_reader_version, self.profile << 4 | flags])
        if self.rate != _DEFAULT_RATE:
            payload += write_varint(numerator) + write_varint(denominator)
        payload += write_varint(self.frame_count) + write_varint(self.model_id) + self.model_hash
        payload += write_varint(self.tables_id)
        if self.audio is not None:
            payload += self.audio.to_bytes()
        return build_chunk(self.TYPE, payload)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> StreamHeader:
        """Parse the payload of a HEADER chunk."""
        start = reader.position
        version, minimum = divmod(reader.byte("version"), 16)
        if not 1 <= minimum <= version:
            fail(BitstreamError, 13, start, f"version {version} with minimum reader version {minimum}")
        if minimum > VERSION:
            fail(
                UnsupportedVersion,
                14,
                start,
                f"the stream needs a reader of version {minimum}; this one is of version {VERSION}",
            )
        profile, flags = divmod(reader.byte("profile_flags"), 16)
        if profile != 0 or flags & ~(_FLAG_EXPERIMENTAL | _FLAG_RATE | _FLAG_AUDIO):
            fail(
                UnsupportedVersion,
                15,
                start + 1,
                f"profile {profile} with flags {flags} is unknown to this reader",
            )
        experimental = bool(flags & _FLAG_EXPERIMENTAL)
        if experimental and not limits.allow_experimental:
            fail(UnsupportedVersion, 16, start + 1, "experimental stream (set allow_experimental to read it)")
        rate = _read_rate(reader, limits) if flags & _FLAG_RATE else _DEFAULT_RATE
        position = reader.position
        frame_count = reader.varint("frame_count")
        check_frame_count(frame_count, rate, position, limits)
        position = reader.position
        model_id = reader.varint("model_id")
        model_hash = reader.take(_HASH_BYTES, "model_hash")
        if model_id == 0 and any(model_hash):
            fail(BitstreamError, 18, position, "a model hash without a model")
        tables_id = reader.varint("tables_id")
        audio = AudioConfig.read(reader, frame_count, limits) if flags & _FLAG_AUDIO else None
        if version <= VERSION:
            # A newer writer that this reader satisfies may have appended fields; one of this version may not.
            reader.finish("HEADER")
        return cls(frame_count, model_id, model_hash, tables_id, audio, rate, profile, experimental, version, minimum)


def check_frame_count(frame_count: int, rate: tuple[int, int], offset: int, limits: Limits) -> None:
    """Raise LimitExceeded if that many frames are more, or last longer, than the limits allow."""
    numerator, denominator = rate
    if frame_count > limits.max_frames or frame_count * denominator > limits.max_duration_seconds * numerator:
        fail(LimitExceeded, 21, offset, f"{frame_count} frames are more than the limit allows")


def _read_rate(reader: FieldReader, limits: Limits) -> tuple[int, int]:
    start = reader.position
    numerator, denominator = reader.varint("rate_numerator"), reader.varint("rate_denominator")
    if numerator == 0 or denominator == 0 or math.gcd(numerator, denominator) != 1:
        fail(
            BitstreamError,
            17,
            start,
            f"frame rate {numerator}/{denominator} is not a fraction in lowest terms",
        )
    if (numerator, denominator) == _DEFAULT_RATE:
        fail(BitstreamError, 17, start, "the default frame rate 25/1 must not be written out")
    if not denominator <= numerator <= limits.max_frame_rate * denominator:
        fail(
            LimitExceeded,
            21,
            start,
            f"frame rate {numerator}/{denominator} is outside 1 to {limits.max_frame_rate} frames per second",
        )
    return numerator, denominator
