"""Packets of calls: one or more whole chunks in a datagram, and keyframes cut into parts that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tfcodec.bitstream.chunks import KeyframeChunk, KeyframePartChunk
from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.parse import Chunk, parse_chunk
from tfcodec.bitstream.primitives import fail
from tfcodec.errors import BitstreamError, LimitExceeded, TruncatedError

_PART_OVERHEAD = 1 + 3 + 5 + 3 + 3 + 4
"""Type, length, index with tag, total length, offset and CRC-32 of a KEYFRAME_PART at their longest."""


def iter_chunks_of_packet(packet: bytes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Chunk]:
    """Yield the chunks of one packet in order; unknown ancillary chunks come as `UnknownChunk`.

    Raises LimitExceeded for a packet that is too long, and what `parse_chunk` raises; chunks before the
    faulty one have been yielded then and are good. A packet stands alone, so the order rules of files do not
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


def split_keyframe(chunk: KeyframeChunk, max_chunk_bytes: int) -> list[KeyframeChunk | KeyframePartChunk]:
    """Cut a keyframe into chunks of at most `max_chunk_bytes`, framing included; a short one stays whole."""
    if len(chunk.to_bytes()) <= max_chunk_bytes:
        return [chunk]
    step = max_chunk_bytes - _PART_OVERHEAD
    if step < 1:
        raise BitstreamError(f"a keyframe part does not fit into {max_chunk_bytes} bytes")
    total = len(chunk.data)
    return [
        KeyframePartChunk(chunk.frame_index, total, at, chunk.data[at : at + step], chunk.keyframe_tag)
        for at in range(0, total, step)
    ]


def join_keyframe_parts(parts: Iterable[KeyframePartChunk]) -> KeyframeChunk | None:
    """Put parts, in any order and with repetitions, together; None while bytes are missing.

    Raises BitstreamError if the parts are not of one keyframe.
    """
    ordered = sorted(parts, key=lambda part: part.offset)
    if not ordered:
        return None
    first = ordered[0]
    joined = bytearray()
    for part in ordered:
        if (part.frame_index, part.keyframe_tag, part.total_length) != (
            first.frame_index,
            first.keyframe_tag,
            first.total_length,
        ):
            raise BitstreamError(f"parts of the keyframes at {first.frame_index} and {part.frame_index} are mixed")
        if part.offset > len(joined):
            return None
        joined += part.data[len(joined) - part.offset :]
    if len(joined) < first.total_length:
        return None
    return KeyframeChunk(first.frame_index, bytes(joined), first.keyframe_tag)
