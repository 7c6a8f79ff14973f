"""Which speech codec, at which rate: what users say, and what quality means to each codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfcodec.errors import MediaError, SpeechCodecMissing
from tfcodec.speech import codec2, lyra, opus
from tfcodec.speech.indices import QUANTISERS
from tfcodec.speech.packets import Decoder, Encoder

Name = Literal["opus", "codec2", "lyra"]
NAMES: tuple[Name, ...] = ("opus", "codec2", "lyra")
LABELS = {"opus": "Opus", "codec2": "Codec2", "lyra": "Lyra"}

_CODEC2_LADDER = (1200, 1200, 1300, 1400, 1600, 2400, 2400, 3200, 3200, 3200, 3200)
_LYRA_LADDER = (1800, 1800, 2600, 2600, 3600, 3600, 3600, 6000, 6000, 9200, 9200)
LYRA_RATES = range(lyra.BIT_RATE, lyra.BIT_RATE * QUANTISERS + 1, lyra.BIT_RATE)


@dataclass(frozen=True)
class Choice:
    """A speech codec and its nominal bit rate, in bit/s. Lyra's is that before its indices are coded with contexts."""

    name: Name
    bit_rate: int

    @classmethod
    def named(cls, speech: str, quality: int) -> Choice:
        """Of "opus", "codec2" or "lyra", with or without a bit rate; whether it is installed is not looked at.

        Raises:
            MediaError: no such codec or bit rate.
        """
        name, colon, rate = speech.partition(":") if isinstance(speech, str) else ("", "", "")
        for known in NAMES:
            if name == known:
                return cls(known, _checked(known, rate) if colon else _at(known, quality))
        raise MediaError(f'speech must be "auto", "opus", "codec2", "lyra" or "none", not {speech!r}')

    @property
    def label(self) -> str:
        """"Opus", "Codec2 1200", "Lyra 3600"."""
        return LABELS[self.name] if self.name == "opus" else f"{LABELS[self.name]} {self.bit_rate}"

    def missing(self) -> str:
        """What has to be installed, in one line; empty if nothing has."""
        return {"opus": lambda: "", "codec2": codec2.missing, "lyra": lyra.missing}[self.name]()

    def encoder(self, packet_ms: int) -> Encoder:
        """An encoder for packets of this duration. Raises SpeechCodecMissing."""
        if self.name == "opus":
            return opus.SpeechEncoder(self.bit_rate, packet_ms)
        if self.name == "codec2":
            return codec2.Codec2Encoder(self.bit_rate, packet_ms)
        return lyra.LyraEncoder(self.bit_rate // lyra.BIT_RATE, packet_ms)

    def decoder(self, packet_ms: float) -> Decoder:
        """A decoder for packets of this duration. Raises SpeechCodecMissing."""
        if self.name == "opus":
            return opus.SpeechDecoder(packet_ms)
        if self.name == "codec2":
            return codec2.Codec2Decoder(self.bit_rate, round(packet_ms) // codec2.FRAME_MS[self.bit_rate])
        return lyra.LyraDecoder(self.bit_rate // lyra.BIT_RATE, round(packet_ms) // lyra.FRAME_MS)

    @property
    def pre_skip(self) -> int:
        """Samples at 16 kHz by which the decoded sound lags behind."""
        return {"opus": opus.PRE_SKIP, "codec2": codec2.DELAY, "lyra": 0}[self.name]

    @property
    def file_packet_ms(self) -> int:
        """Duration of packets in files: what costs the fewest bits."""
        if self.name == "opus":
            return 120
        if self.name == "codec2":
            return 80  # all of one length, which costs nothing to say; one is padding at most
        # contexts start anew with each packet; 46 quantisers of 5 s would be more than a packet may have
        return 5000 if self.bit_rate <= 6000 else 2500


def choose(speech: str, quality: int) -> Choice | None:
    """The codec that a user asks for: "auto", "opus", "codec2", "lyra", each of the last three also with a bit rate
    ("lyra:2400"), or "none", which gives None.

    Raises:
        MediaError: no such codec or bit rate.
        SpeechCodecMissing: it is not installed.
    """
    if speech == "none":
        return None
    made = Choice.named("opus" if speech == "auto" else speech, quality)
    if made.missing():
        raise SpeechCodecMissing(made.missing())
    return made


def _at(name: Name, quality: int) -> int:
    if name == "opus":
        return opus.bitrate_of(quality)
    return (_CODEC2_LADDER if name == "codec2" else _LYRA_LADDER)[quality]


def _checked(name: Name, rate: str) -> int:
    value = int(rate) if rate.isdecimal() else -1
    if name == "opus" and 6000 <= value <= 24000:
        return value
    if (name == "codec2" and value in codec2.FRAME_MS) or (name == "lyra" and value in LYRA_RATES):
        return value
    rates = {
        "opus": "6000 to 24000", "codec2": ", ".join(map(str, codec2.FRAME_MS)),
        "lyra": f"{LYRA_RATES[0]} to {LYRA_RATES[-1]} in steps of {LYRA_RATES.step}",
    }  # fmt: skip
    raise MediaError(f"{LABELS[name]} has {rates[name]} bit/s, not {rate!r}")
