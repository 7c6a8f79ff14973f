"""Speech as a part of a stream: the same five things as a layer, at a pace of its own.

Encode: `Encoder.push`, samples to packets. Decode, and lose: `Decoder.decode`, of None for a lost packet, and of an
empty one for what was not sent. Reset: a new object; keyframes do not concern speech. What the stream says about it is
here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...bitstream import AUDIO_CODEC_CODEC2, AUDIO_CODEC_LYRA, AUDIO_CODEC_OPUS, AudioConfig
from ...errors import SpeechCodecMissing, TfcodecError, UnsupportedVersion
from ...rates import OPUS_PER_MS, OPUS_PER_SAMPLE
from ...samples import Samples
from ...speech import indices, lyra
from ...speech.choice import Choice, Name
from ...speech.comfort import GapDecoder
from ...speech.gate import GatedEncoder
from ...speech.packets import Decoder, Encoder

Silence = Literal["gate", "send"]
"""Leave out packets in which nobody speaks, or send them all."""
LONGEST_GATED = 120

_NUMBERS: dict[Name, int] = {
    "opus": AUDIO_CODEC_OPUS, "codec2": AUDIO_CODEC_CODEC2, "lyra": AUDIO_CODEC_LYRA,
}  # fmt: skip
_NAMES = {number: name for name, number in _NUMBERS.items()}
_UNITS: dict[Name, int] = {"opus": 0, "codec2": 100, "lyra": lyra.BIT_RATE}
"""Bit/s of one step of the header's `audio_mode`; Opus' packets say everything themselves."""


class Mute:
    """Stands in for a decoder that is missing: silence.

    Attributes:
        missing: what is, and how to get it, in one line.
    """

    def __init__(self, missing: str, samples: int) -> None:
        self.missing = missing
        self._samples = samples

    def decode(self, packet: bytes | None) -> Samples:
        """Silence, [n] float32 at 16 kHz, as long as a packet."""
        return np.zeros(self._samples, np.float32)


def audio_config(choice: Choice, packet_ms: int, samples: int = 0) -> AudioConfig:
    """What HEADER says about speech in packets of ``packet_ms``; ``samples`` at 16 kHz, 0 if not known yet."""
    unit = _UNITS[choice.name]
    tables = (indices.TABLES_ID, indices.tables_hash()) if choice.name == "lyra" else (0, b"")
    return AudioConfig(
        OPUS_PER_MS * packet_ms, OPUS_PER_SAMPLE * choice.pre_skip, OPUS_PER_SAMPLE * samples,
        _NUMBERS[choice.name], choice.bit_rate // unit if unit else 0, *tables,
    )  # fmt: skip


def packets_for(audio: AudioConfig, samples: int) -> int:
    """Packets that hold so many samples at 16 kHz."""
    return audio.packets_for(OPUS_PER_SAMPLE * samples)


def chosen(audio: AudioConfig) -> Choice:
    """The codec that HEADER names; Opus' bit rate is not known."""
    name = _NAMES[audio.codec]
    return Choice(name, audio.mode * _UNITS[name])


def encoder(choice: Choice, packet_ms: int, silence: Silence, *, lookback: int = 0) -> Encoder:
    """An encoder of packets of this duration; ``silence`` "gate": they are empty while nobody speaks.

    Packets longer than `LONGEST_GATED` are sent as they are: there is a word in most of them.
    Raises SpeechCodecMissing.
    """
    made = choice.encoder(packet_ms)
    return GatedEncoder(made, lookback) if silence == "gate" and packet_ms <= LONGEST_GATED else made


def check_silence(silence: str) -> Silence:
    """What to do with silence, if it is one of the two. Raises TfcodecError."""
    if silence not in ("gate", "send"):
        raise TfcodecError(f'silence must be "gate" or "send", not {silence!r}')
    return silence  # type: ignore[return-value]


def decoder(audio: AudioConfig) -> Decoder | Mute:
    """A decoder for what HEADER says; one that is not installed here is replaced by silence."""
    try:
        if audio.codec == AUDIO_CODEC_LYRA:
            indices.check_tables(audio.tables_id, audio.tables_hash)
        return GapDecoder(chosen(audio).decoder(audio.packet_samples / OPUS_PER_MS))
    except (SpeechCodecMissing, UnsupportedVersion) as error:
        return Mute(str(error), audio.packet_samples // OPUS_PER_SAMPLE)


def missing(made: Decoder | Mute) -> str:
    """What a stream's speech needs that is not here, in one line; empty if it can be decoded."""
    return made.missing if isinstance(made, Mute) else ""
