"""Reader limits: what a stream may ask for before the reader refuses it.

Every length and count is compared with these numbers *before* anything is allocated from it, so that the
memory and time a file can cost are bounded by its own size and by this table, whatever its fields claim.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a reader, by default the specification's. Change one with ``Limits(max_frames=250)``."""

    max_packet_bytes: int = 65_536
    """One call packet (datagram), all chunks together."""
    max_header_bytes: int = 256
    """Payload of HEADER, of END, of MOTION_TABLES and of DISPLACEMENT_TABLES."""
    max_keyframe_bytes: int = 1_048_576
    """One coded keyframe, whole or joined from its parts."""
    max_tiny_bytes: int = 65_536
    """Payload of one TINY chunk."""
    max_motion_bytes: int = 65_536
    """Payload of one MOTION chunk."""
    max_displacement_bytes: int = 65_536
    """Payload of one DISPLACEMENT chunk."""
    max_speech_bytes: int = 65_536
    """Payload of one SPEECH chunk."""
    max_speech_packet_bytes: int = 4_000
    """One speech packet; libopus recommends 4000 bytes as the largest buffer."""
    max_ancillary_bytes: int = 65_536
    """Payload of META, PADDING and of chunks of unknown type."""
    max_frames: int = 1_080_000
    """Frames of the whole stream: 12 hours at 25 frames per second."""
    max_duration_seconds: int = 43_200
    """Duration of video and of speech: 12 hours."""
    max_frame_rate: int = 120
    """Frames per second; the lower bound is 1."""
    max_gap_frames: int = 1_500
    """Longest run of lost frames bridged when damage is concealed: 60 s at 25 frames per second."""
    max_chunks: int = 2_000_000
    """Chunks of one stream."""
    max_ancillary_chunks: int = 1_000
    """META, PADDING and unknown ancillary chunks of one stream."""
    allow_experimental: bool = False
    """Read streams that carry the experimental flag."""


DEFAULT_LIMITS = Limits()
