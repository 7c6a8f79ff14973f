"""Where the bytes of a file go."""

from __future__ import annotations

from typing import Literal

from tfcodec.bitstream.chunks import EndChunk, KeyframeChunk, KeyframePartChunk, MotionChunk, SpeechChunk, TinyChunk
from tfcodec.bitstream.header import StreamHeader
from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.parse import Chunk
from tfcodec.bitstream.primitives import write_varint
from tfcodec.bitstream.stream import ParsedStream, read_stream


def account_chunk(chunk: Chunk) -> dict[str, int]:
    """Bytes of one chunk by purpose, and their ``total``; see `account_bytes`."""
    return _account(len(chunk.to_bytes()), _media_bytes(chunk))


def account_bytes(
    data: bytes, *, errors: Literal["raise", "conceal"] = "raise", limits: Limits = DEFAULT_LIMITS
) -> dict[str, int]:
    """Bytes of a file by purpose; the parts add up to ``total``, which is ``len(data)``.

    ``keyframe`` is the pictures' data, ``tiny`` and ``motion`` the payloads of those layers, ``audio`` all of the
    SPEECH chunks and the audio fields of HEADER and END, and ``container`` everything else: signature,
    framing, checksums, indices, metadata and, with ``errors="conceal"``, damaged bytes. Raises what
    `read_stream` raises.
    """
    return account_stream(read_stream(data, errors=errors, limits=limits), len(data))


def account_stream(stream: ParsedStream, total: int) -> dict[str, int]:
    """`account_bytes` of a file of ``total`` bytes that has been read already."""
    parts = [_media_bytes(chunk) for chunk in stream.chunks]
    keyframe, tiny, motion, audio = (sum(part[which] for part in parts) for which in range(4))
    return _account(total, (keyframe, tiny, motion, audio))


def _account(total: int, media: tuple[int, int, int, int]) -> dict[str, int]:
    keyframe, tiny, motion, audio = media
    parts = {"container": total - sum(media), "keyframe": keyframe, "tiny": tiny, "motion": motion, "audio": audio}
    return parts | {"total": total}


def _media_bytes(chunk: Chunk) -> tuple[int, int, int, int]:
    if isinstance(chunk, KeyframeChunk | KeyframePartChunk):
        return len(chunk.data), 0, 0, 0
    if isinstance(chunk, TinyChunk):
        return 0, len(chunk.payload), 0, 0
    if isinstance(chunk, MotionChunk):
        return 0, 0, len(chunk.payload), 0
    if isinstance(chunk, SpeechChunk):
        return 0, 0, 0, len(chunk.to_bytes())
    if isinstance(chunk, StreamHeader) and chunk.audio is not None:
        return 0, 0, 0, len(chunk.audio.to_bytes())
    if isinstance(chunk, EndChunk) and chunk.audio_samples is not None:
        return 0, 0, 0, len(write_varint(chunk.audio_samples))
    return 0, 0, 0, 0
