"""Chunk types and the framing that all chunks share.

A chunk is ``type (1 byte) | payload length (varint) | payload | checksum over all before it``. Bit 7 of the
type says that a reader that does not know the type must give up (critical), bit 6 that the checksum is a
CRC-32 instead of a CRC-16; so chunks of unknown type can be checked and skipped.
"""

from __future__ import annotations

from tfcodec.bitstream.primitives import crc16, crc32, write_varint
from tfcodec.errors import BitstreamError

CRITICAL = 0x80
LONG_CRC = 0x40
NUMBER_MASK = 0x3F

HEADER = CRITICAL | LONG_CRC | 1
KEYFRAME = CRITICAL | LONG_CRC | 2
KEYFRAME_PART = CRITICAL | LONG_CRC | 3
TINY = CRITICAL | 4
SPEECH = CRITICAL | 5
END = CRITICAL | LONG_CRC | 6
META = 7
PADDING = 8
KEYFRAME_REQUEST = 9
MOTION_TABLES = CRITICAL | 10
MOTION = CRITICAL | 11

NAMES = {
    HEADER: "HEADER",
    KEYFRAME: "KEYFRAME",
    KEYFRAME_PART: "KEYFRAME_PART",
    TINY: "TINY",
    SPEECH: "SPEECH",
    END: "END",
    META: "META",
    PADDING: "PADDING",
    KEYFRAME_REQUEST: "KEYFRAME_REQUEST",
    MOTION_TABLES: "MOTION_TABLES",
    MOTION: "MOTION",
}

AUDIO_CODEC_OPUS = 1

SIGNATURE = b"\xc6T\r\n"
"""First bytes of a file: not UTF-8, broken by 7-bit transfer and by every conversion of line ends."""


def write_signature() -> bytes:
    """The 4 bytes that open a file."""
    return SIGNATURE


def chunk_name(chunk_type: int) -> str:
    """Name of a chunk type for messages."""
    return NAMES.get(chunk_type, f"chunk of type 0x{chunk_type:02X}")


def crc_bytes(chunk_type: int) -> int:
    """Length of the checksum of chunks of that type: 2 or 4 bytes."""
    return 4 if chunk_type & LONG_CRC else 2


def build_chunk(chunk_type: int, payload: bytes) -> bytes:
    """Frame `payload` as a chunk. Raises BitstreamError for an empty payload or a type that cannot exist."""
    if not payload:
        raise BitstreamError(f"{chunk_name(chunk_type)} would have an empty payload")
    if not 0 <= chunk_type <= 0xFF or chunk_type & NUMBER_MASK == 0:
        raise BitstreamError(f"0x{chunk_type:02X} is not a chunk type")
    body = bytes([chunk_type]) + write_varint(len(payload)) + payload
    checksum = crc32(body) if chunk_type & LONG_CRC else crc16(body)
    return body + checksum.to_bytes(crc_bytes(chunk_type), "big")
