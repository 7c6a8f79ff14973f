"""From bytes to one chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tfcodec.bitstream import registry
from tfcodec.bitstream.chunks import (
    EndChunk,
    KeyframeChunk,
    KeyframePartChunk,
    KeyframeRequestChunk,
    MotionChunk,
    MotionTablesChunk,
    SpeechChunk,
    TinyChunk,
)
from tfcodec.bitstream.header import StreamHeader
from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.meta import MetaChunk, PaddingChunk, UnknownChunk
from tfcodec.bitstream.primitives import FieldReader, crc16, crc32, fail, read_length
from tfcodec.bitstream.registry import CRITICAL, LONG_CRC, NUMBER_MASK, chunk_name, crc_bytes
from tfcodec.errors import BitstreamError, ChecksumError, LimitExceeded, TruncatedError, UnsupportedVersion

Chunk: TypeAlias = (
    StreamHeader
    | KeyframeChunk
    | KeyframePartChunk
    | TinyChunk
    | MotionTablesChunk
    | MotionChunk
    | SpeechChunk
    | EndChunk
    | MetaChunk
    | PaddingChunk
    | KeyframeRequestChunk
    | UnknownChunk
)

_READERS: dict[int, Callable[[FieldReader, Limits], Chunk]] = {
    registry.HEADER: StreamHeader.read,
    registry.KEYFRAME: KeyframeChunk.read,
    registry.KEYFRAME_PART: KeyframePartChunk.read,
    registry.TINY: TinyChunk.read,
    registry.SPEECH: SpeechChunk.read,
    registry.END: EndChunk.read,
    registry.META: MetaChunk.read,
    registry.PADDING: PaddingChunk.read,
    registry.KEYFRAME_REQUEST: KeyframeRequestChunk.read,
    registry.MOTION_TABLES: MotionTablesChunk.read,
    registry.MOTION: MotionChunk.read,
}

KNOWN_TYPES = frozenset(_READERS)

_FIELD_BYTES = 16
"""Room for the fields in front of a keyframe's data, which the keyframe limit does not count."""


def payload_limit(chunk_type: int, limits: Limits) -> int:
    """Longest payload, in bytes, that a chunk of that type may have."""
    if chunk_type in (registry.HEADER, registry.END, registry.MOTION_TABLES):
        return limits.max_header_bytes
    if chunk_type in (registry.KEYFRAME, registry.KEYFRAME_PART):
        return limits.max_keyframe_bytes + _FIELD_BYTES
    if chunk_type == registry.TINY:
        return limits.max_tiny_bytes
    if chunk_type == registry.MOTION:
        return limits.max_motion_bytes
    if chunk_type == registry.SPEECH:
        return limits.max_speech_bytes
    return limits.max_ancillary_bytes


def measure_chunk(data: bytes, offset: int, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int, int]:
    """Read a chunk's type and length and check them against the limits and against the bytes that are there.

    Returns (start of the payload, end of the payload, end of the chunk).
    """
    if offset >= len(data):
        fail(TruncatedError, 7, offset, "the data end where a chunk should begin")
    chunk_type = data[offset]
    if chunk_type & NUMBER_MASK == 0:
        fail(BitstreamError, 2, offset, f"0x{chunk_type:02X} is not a chunk type")
    measured = read_length(data, offset + 1, len(data))
    if measured is None:
        fail(TruncatedError, 7, offset, f"the data end within the length of {chunk_name(chunk_type)}")
    length, start = measured
    if length == 0:
        fail(BitstreamError, 5, offset, f"{chunk_name(chunk_type)} with an empty payload")
    if length > payload_limit(chunk_type, limits):
        fail(
            LimitExceeded,
            6,
            offset,
            f"{chunk_name(chunk_type)} of {length} bytes, limit {payload_limit(chunk_type, limits)}",
        )
    stop = start + length + crc_bytes(chunk_type)
    if stop > len(data):
        fail(
            TruncatedError,
            7,
            offset,
            f"{chunk_name(chunk_type)} needs {stop - offset} bytes, {len(data) - offset} are left",
        )
    return start, start + length, stop


def parse_chunk(data: bytes, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Chunk, int]:
    """Read the chunk that begins at `offset`; returns it and the offset of the byte after it.

    Raises TruncatedError, ChecksumError, UnsupportedVersion (unknown critical chunk, newer version),
    LimitExceeded, or BitstreamError itself; every message begins with the byte offset and ends with the
    number of the broken rule.
    """
    start, end, stop = measure_chunk(data, offset, limits)
    chunk_type = data[offset]
    covered = data[offset:end]
    checksum = crc32(covered) if chunk_type & LONG_CRC else crc16(covered)
    if checksum != int.from_bytes(data[end:stop], "big"):
        fail(ChecksumError, 8, offset, f"{chunk_name(chunk_type)} does not match its checksum")
    read = _READERS.get(chunk_type)
    if read is not None:
        return read(FieldReader(data, start, end), limits), stop
    if chunk_type & CRITICAL:
        fail(UnsupportedVersion, 9, offset, f"critical {chunk_name(chunk_type)} is unknown to this reader")
    return UnknownChunk(chunk_type, data[start:end]), stop
