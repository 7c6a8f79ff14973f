"""The container: chunks, packets, checksums, limits.

Bytes only: nothing here knows pictures, sound or networks. `bitstream_spec.md` defines the format; the rule
numbers ``[R1]`` ... in error messages are those of that document.
"""

from tfcodec.bitstream.account import account_bytes, account_chunk, account_stream
from tfcodec.bitstream.call_packets import (
    MAX_PACKET,
    MAX_REFERENCE,
    MAX_UNIT_FRAMES,
    MAX_UNITS,
    CallPacket,
    EndPacket,
    FeedbackPacket,
    KeyframePacket,
    KeyframeParts,
    MediaPacket,
    TinyUnit,
    fragment,
    parse_packet,
)
from tfcodec.bitstream.chunks import (
    MAX_CHAIN,
    MAX_FRAMES_PER_CHUNK,
    TAGS,
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
from tfcodec.bitstream.framing import SIGNATURE, write_signature
from tfcodec.bitstream.header import (
    AUDIO_CODEC_CODEC2,
    AUDIO_CODEC_LYRA,
    AUDIO_CODEC_OPUS,
    VERSION,
    AudioConfig,
    StreamHeader,
)
from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.meta import CropRegion, MetaChunk, PaddingChunk, UnknownChunk
from tfcodec.bitstream.parse import iter_chunks, parse_chunk
from tfcodec.bitstream.parts import BY_CLASS, LAYERS, Chunk, Part
from tfcodec.bitstream.sequence import WRAP, SequenceCounter, extend
from tfcodec.bitstream.stream import ParsedStream, check_signature, read_stream

__all__ = [
    "AUDIO_CODEC_CODEC2",
    "AUDIO_CODEC_LYRA",
    "AUDIO_CODEC_OPUS",
    "BY_CLASS",
    "DEFAULT_LIMITS",
    "LAYERS",
    "MAX_CHAIN",
    "MAX_FRAMES_PER_CHUNK",
    "MAX_PACKET",
    "MAX_REFERENCE",
    "MAX_UNITS",
    "MAX_UNIT_FRAMES",
    "SIGNATURE",
    "TAGS",
    "VERSION",
    "WRAP",
    "AudioConfig",
    "CallPacket",
    "Chunk",
    "CropRegion",
    "DisplacementChunk",
    "DisplacementTablesChunk",
    "EndChunk",
    "EndPacket",
    "FeedbackPacket",
    "InterKeyframeChunk",
    "KeyframeChunk",
    "KeyframePacket",
    "KeyframeParts",
    "LayerChunk",
    "Limits",
    "MediaPacket",
    "MetaChunk",
    "MotionChunk",
    "MotionTablesChunk",
    "MovedTinyChunk",
    "PaddingChunk",
    "ParsedStream",
    "Part",
    "SequenceCounter",
    "SpeechChunk",
    "StreamHeader",
    "TinyChunk",
    "TinyUnit",
    "UnknownChunk",
    "account_bytes",
    "account_chunk",
    "account_stream",
    "check_signature",
    "extend",
    "fragment",
    "iter_chunks",
    "parse_chunk",
    "parse_packet",
    "read_stream",
    "write_signature",
]
