"""What a file holds, without decoding it."""

from __future__ import annotations

from typing import Literal

from ...bitstream import InterKeyframeChunk, ParsedStream, account_stream, read_stream
from ...errors import BitstreamError
from ..parts import speech
from ..results import StreamInfo

Errors = Literal["raise", "conceal"]


def describe_bytes(data: bytes, *, errors: Errors = "raise") -> StreamInfo:
    """What a file holds. Raises BitstreamError."""
    return describe(read_stream(data, errors=errors), len(data))


def describe(stream: ParsedStream, size: int) -> StreamInfo:
    """What a file of ``size`` bytes holds. Raises BitstreamError if that is not even one frame."""
    if not stream.frame_count:
        raise BitstreamError("the stream has no frames")
    header = stream.header
    return StreamInfo(
        frames=stream.frame_count,
        fps=header.fps,
        model_id=header.model_id,
        model_hash=header.model_hash.hex(),
        keyframes=len(stream.keyframes),
        inter_keyframes=tuple(i for i, key in enumerate(stream.keyframes) if isinstance(key, InterKeyframeChunk)),
        has_audio=header.audio is not None,
        bytes=account_stream(stream, size),
        damaged=tuple(reason for _, _, reason in stream.damaged),
        speech="" if header.audio is None else speech.chosen(header.audio).label,
    )
