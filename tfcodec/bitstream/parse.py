"""From bytes to one chunk."""

from __future__ import annotations

from collections.abc import Iterator

from tfcodec.bitstream.framing import CRITICAL, LONG_CRC, NUMBER_MASK, crc_bytes
from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.meta import UnknownChunk
from tfcodec.bitstream.parts import BY_TYPE, NAMES, RESERVED, Chunk, chunk_name
from tfcodec.bitstream.primitives import FieldReader, crc16, crc32, fail, read_length
from tfcodec.errors import BitstreamError, ChecksumError, LimitExceeded, TruncatedError, UnsupportedVersion

KNOWN_TYPES = frozenset(NAMES)


def payload_limit(chunk_type: int, limits: Limits) -> int:
    """Longest payload, in bytes, that a chunk of that type may have."""
    part = BY_TYPE.get(chunk_type)
    if part is not None:
        return part.longest(limits)
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
    part = BY_TYPE.get(chunk_type)
    if part is not None:
        chunk: Chunk = part.chunk.read(FieldReader(data, start, end), limits)
        return chunk, stop
    if chunk_type in RESERVED:
        fail(BitstreamError, 31, offset, f"{chunk_name(chunk_type)} has no place in a file")
    if chunk_type & CRITICAL:
        fail(UnsupportedVersion, 9, offset, f"critical {chunk_name(chunk_type)} is unknown to this reader")
    return UnknownChunk(chunk_type, data[start:end]), stop


def iter_chunks(packet: bytes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Chunk]:
    """Yield the chunks of a keyframe object in order; unknown ancillary chunks come as `UnknownChunk`.

    Raises LimitExceeded for an object that is too long, and what `parse_chunk` raises; chunks before the
    faulty one have been yielded then and are good. An object stands alone, so the order rules of files do not
    apply.
    """
    if not packet:
        fail(TruncatedError, 7, 0, "empty packet")
    if len(packet) > limits.max_packet_bytes:
        fail(LimitExceeded, 6, 0, f"packet of {len(packet)} bytes, limit {limits.max_packet_bytes}")
    offset = 0
    while offset < len(packet):
        chunk, offset = parse_chunk(packet, offset, limits)
        yield chunk
