"""The registry of the parts of a stream: one row for each type of chunk.

Parsing, order, limits and accounts follow these rows; so do the encoders and decoders of files and calls
(`tfcodec.codec.parts`). A new part is one row here, one module with its coder, and one section of the specification:
see docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tfcodec.bitstream.chunks import (
    DisplacementChunk,
    DisplacementTablesChunk,
    EndChunk,
    InterKeyframeChunk,
    KeyframeChunk,
    LayerChunk,
    MotionChunk,
    MotionTablesChunk,
    MovedTinyChunk,
    SpeechChunk,
    TinyChunk,
)
from tfcodec.bitstream.framing import CRITICAL
from tfcodec.bitstream.header import StreamHeader
from tfcodec.bitstream.limits import Limits
from tfcodec.bitstream.meta import MetaChunk, PaddingChunk, UnknownChunk
from tfcodec.bitstream.primitives import write_varint

Chunk: TypeAlias = (
    StreamHeader
    | KeyframeChunk
    | MotionTablesChunk
    | DisplacementTablesChunk
    | LayerChunk
    | SpeechChunk
    | EndChunk
    | MetaChunk
    | PaddingChunk
    | UnknownChunk
)


@dataclass(frozen=True)
class Part:
    """One row: a type of chunk, how long it may be, and what its bytes count as."""

    name: str
    """As the specification and error messages name the chunk; of layers also, in small letters, the coder's module."""
    chunk: Any
    """The class of its chunks, with ``TYPE``, ``to_bytes`` and ``read``."""
    limit: str = "max_ancillary_bytes"
    """The field of `Limits` that bounds its payload ..."""
    room: int = 0
    """... and bytes beside it, for fields that the limit does not count."""
    account: str = "container"
    """What its bytes count as in `account_bytes` ..."""
    count: Callable[[Any], int] = lambda chunk: 0
    """... and how many of a chunk's do; the rest is container."""
    announced_by: Any = None
    """Of layers: the class of the chunk behind HEADER that says that a stream has the layer; None: all streams do."""

    in_calls: bool = True
    """Of layers: whether calls may have it, too."""
    other: str = ""
    """Of a layer's second type of chunk: the layer's name."""

    @property
    def ancillary(self) -> bool:
        """Whether a reader that does not know its chunks skips them."""
        return not self.chunk.TYPE & CRITICAL

    @property
    def layer(self) -> bool:
        """Whether its chunks hold consecutive frames under a keyframe, with a state that goes from one to the next."""
        return issubclass(self.chunk, LayerChunk) and not self.other

    @property
    def key(self) -> str:
        """The name in small letters; of layers, the layer's."""
        return (self.other or self.name).lower()

    def longest(self, limits: Limits) -> int:
        """Longest payload in bytes."""
        return int(getattr(limits, self.limit)) + self.room


PARTS = (
    Part("KEYFRAME", KeyframeChunk, "max_keyframe_bytes", 16, "keyframe", lambda chunk: len(chunk.data)),
    Part(
        "KEYFRAME_INTER", InterKeyframeChunk, "max_keyframe_bytes", 16, "keyframe", lambda chunk: len(chunk.data),
    ),
    Part("MOTION_TABLES", MotionTablesChunk, "max_header_bytes"),
    # Before the tiny frames: how they are best chosen depends on what the motion says.
    Part(
        "MOTION", MotionChunk, "max_motion_bytes", 0, "motion", lambda chunk: len(chunk.payload),
        announced_by=MotionTablesChunk,
    ),
    Part("TINY", TinyChunk, "max_tiny_bytes", 0, "tiny", lambda chunk: len(chunk.payload)),
    Part("TINY_MOVED", MovedTinyChunk, "max_tiny_bytes", 0, "tiny", lambda chunk: 4 + len(chunk.payload), other="TINY"),
    Part("DISPLACEMENT_TABLES", DisplacementTablesChunk, "max_header_bytes"),
    # After the tiny frames, which change where the network draws.
    Part(
        "DISPLACEMENT", DisplacementChunk, "max_displacement_bytes", 0, "displacement",
        lambda chunk: len(chunk.payload), announced_by=DisplacementTablesChunk, in_calls=False,
    ),
    Part("SPEECH", SpeechChunk, "max_speech_bytes", 0, "audio", lambda chunk: len(chunk.to_bytes())),
    Part(
        "HEADER", StreamHeader, "max_header_bytes", 0, "audio",
        lambda chunk: 0 if chunk.audio is None else len(chunk.audio.to_bytes()),
    ),
    Part(
        "END", EndChunk, "max_header_bytes", 0, "audio",
        lambda chunk: 0 if chunk.audio_samples is None else len(write_varint(chunk.audio_samples)),
    ),
    Part("META", MetaChunk),
    Part("PADDING", PaddingChunk),
)  # fmt: skip
RESERVED = {0xC3: "KEYFRAME_PART", 0x09: "KEYFRAME_REQUEST"}
"""Types of drafts of calls, which no file may hold [R31]; never to be given to other chunks."""

BY_TYPE = {part.chunk.TYPE: part for part in PARTS}
BY_CLASS = {part.chunk: part for part in PARTS}
LAYERS = tuple(part for part in PARTS if part.layer)
ACCOUNTS = tuple(dict.fromkeys(part.account for part in PARTS if part.account != "container"))
NAMES = {number: part.name for number, part in BY_TYPE.items()} | RESERVED


def chunk_name(chunk_type: int) -> str:
    """Name of a chunk type for messages."""
    return NAMES.get(chunk_type, f"chunk of type 0x{chunk_type:02X}")
