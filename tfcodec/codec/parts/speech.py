"""Speech as a part of a stream: the same five things as a layer, at a pace of its own.

Encode: `SpeechEncoder.push`, samples to packets. Decode, and lose: `SpeechDecoder.decode`, of None for a lost packet.
Reset: a new object; keyframes do not concern speech. What the stream says about it is here.
"""

from __future__ import annotations

from ...bitstream import AudioConfig
from ...rates import OPUS_PER_MS, OPUS_PER_SAMPLE
from ...speech import PRE_SKIP, SpeechDecoder, SpeechEncoder, bitrate_of


def audio_config(packet_ms: int, samples: int = 0) -> AudioConfig:
    """What HEADER says about speech in packets of ``packet_ms``; ``samples`` at 16 kHz, 0 if not known yet."""
    return AudioConfig(OPUS_PER_MS * packet_ms, OPUS_PER_SAMPLE * PRE_SKIP, OPUS_PER_SAMPLE * samples)


def packets_for(audio: AudioConfig, samples: int) -> int:
    """Packets that hold so many samples at 16 kHz."""
    return audio.packets_for(OPUS_PER_SAMPLE * samples)


def encoder(quality: int, packet_ms: int) -> SpeechEncoder:
    """An encoder for quality 0 to 10."""
    return SpeechEncoder(bitrate_of(quality), packet_ms)


def decoder(audio: AudioConfig) -> SpeechDecoder:
    """A decoder for what HEADER says."""
    return SpeechDecoder(audio.packet_samples / OPUS_PER_MS)
