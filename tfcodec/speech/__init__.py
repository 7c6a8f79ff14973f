"""Speech codecs: 16 kHz mono sound to packets and back. Opus (`opus`) needs nothing that tfcodec does not have."""

from tfcodec.speech.opus import (
    MAX_PACKET_BYTES,
    PACKET_MS,
    PRE_SKIP,
    SAMPLE_RATE,
    SpeechDecoder,
    SpeechEncoder,
    SpeechTrack,
    bitrate_of,
    check_track,
    decode_speech,
    encode_speech,
    packet_duration_ms,
)

__all__ = [
    "MAX_PACKET_BYTES",
    "PACKET_MS",
    "PRE_SKIP",
    "SAMPLE_RATE",
    "SpeechDecoder",
    "SpeechEncoder",
    "SpeechTrack",
    "bitrate_of",
    "check_track",
    "decode_speech",
    "encode_speech",
    "packet_duration_ms",
]
