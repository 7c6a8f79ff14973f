"""The gate: silence and steady noise are not sent, speech is; what was not sent is not what was lost."""

from __future__ import annotations

import numpy as np
import pytest

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.codec.call.receiver import Receiver
from tfcodec.codec.parts import speech
from tfcodec.errors import TfcodecError
from tfcodec.speech.choice import Choice
from tfcodec.speech.comfort import GapDecoder
from tfcodec.speech.gate import GatedEncoder, VoiceActivity

RATE = 16000


def noise(seconds: float, level_db: float) -> np.ndarray:
    count = round(seconds * RATE)
    return np.random.default_rng(5).standard_normal(count, np.float32) * np.float32(10 ** (level_db / 20))


def tone(seconds: float) -> np.ndarray:
    """A buzz, like a vowel's."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.sum([0.03 * np.sin(2 * np.pi * 140 * n * t) for n in range(1, 20)], axis=0).astype(np.float32)


def coded(sound: np.ndarray, piece: int = 640, lookback: int = 0) -> list[bytes]:
    coder = speech.encoder(Choice.named("opus", 5), 40, "gate", lookback=lookback)
    packets = [p for i in range(0, len(sound), piece) for p in coder.push(sound[i : i + piece])]
    return packets + coder.flush()


def test_digital_silence_and_steady_noise_are_not_sent() -> None:
    assert not any(coded(np.zeros(8 * RATE, np.float32))[10:])
    sent = coded(noise(16, -50))[100:]
    assert 8 * sum(map(len, sent)) / 40 / len(sent) < 0.4
    assert any(sent), "now and then a packet says what the noise is like"


@pytest.mark.parametrize("level", [-60, -45])
def test_a_word_is_sent_from_its_very_beginning(level: float) -> None:
    sound = noise(8, level)
    for start in (5.0, 5.01, 5.03, 5.039):
        said = sound.copy()
        said[round(start * RATE) :][: RATE // 2] += tone(0.5)
        packets = coded(said)
        first = int(start / 0.04)
        assert all(packets[first : first + 12]), start
        assert not any(packets[first + 30 : first + 40])


def test_pieces_make_no_difference() -> None:
    sound = np.concatenate([noise(3, -55), tone(0.3), noise(1, -55)])
    assert coded(sound, 640) == coded(sound, 999) == coded(sound, len(sound))


def test_the_noise_goes_on_as_it_was() -> None:
    sound = noise(10, -42)
    decoder = speech.decoder(speech.audio_config(Choice.named("opus", 5), 40))
    assert isinstance(decoder, GapDecoder)
    heard = np.concatenate([decoder.decode(packet) for packet in coded(sound)])[6 * RATE :]
    assert abs(10 * np.log10(np.square(heard).mean()) + 42) < 2
    pieces = np.square(heard[: len(heard) // 640 * 640].reshape(-1, 640)).mean(1)
    assert pieces.min() > 0.3 * pieces.mean(), "no holes"


def test_a_loss_within_a_pause_is_noise_and_one_within_speech_is_the_codecs() -> None:
    packets = coded(np.concatenate([tone(1), noise(6, -50)]))
    pause = [i for i, packet in enumerate(packets) if not packet][5]
    a = speech.decoder(speech.audio_config(Choice.named("opus", 5), 40))
    b = speech.decoder(speech.audio_config(Choice.named("opus", 5), 40))
    heard = [a.decode(packet) for packet in packets[: pause + 1]]
    lost = [b.decode(None if i == pause else packet) for i, packet in enumerate(packets[: pause + 1])]
    assert np.array_equal(np.concatenate(heard), np.concatenate(lost))
    inner = Choice.named("opus", 5)
    assert inner is not None
    plain, gap = inner.decoder(40), GapDecoder(inner.decoder(40))
    for packet in packets[:5]:
        plain.decode(packet)
        gap.decode(packet)
    assert np.array_equal(plain.decode(None), gap.decode(None))


def test_nothing_said_is_nothing_heard() -> None:
    decoder = speech.decoder(speech.audio_config(Choice.named("opus", 5), 40))
    assert not np.any(np.concatenate([decoder.decode(b"") for _ in range(5)]))


def test_looking_back() -> None:
    class Plain:
        pre_skip, packet_ms = 0, 40

        def push(self, pcm: np.ndarray) -> list[bytes]:
            return [b"x"] * (len(pcm) // 640)

        def flush(self) -> list[bytes]:
            return []

    sound = np.concatenate([np.zeros(20 * 640, np.float32), tone(0.04), np.zeros(640, np.float32)])
    found = {}
    for lookback in (0, 1):
        coder = GatedEncoder(Plain(), lookback)  # type: ignore[arg-type]
        packets = [p for i in range(0, len(sound), 640) for p in coder.push(sound[i : i + 640])] + coder.flush()
        assert len(packets) == 22
        found[lookback] = [i for i, packet in enumerate(packets) if packet and i > 8]
    assert found == {0: [20, 21], 1: [19, 20, 21]}


def test_background_is_known_after_a_while() -> None:
    activity = VoiceActivity()
    said = activity.push(noise(4, -40))
    assert all(said[:100])
    assert sum(said[200:]) < 3
    assert abs(10 * np.log10(activity.background) + 40) < 2


def test_calls_say_without_bytes_that_nobody_speaks() -> None:
    picture = np.full((256, 256, 3), 90, np.uint8)
    for silence in ("gate", "send"):
        encoder, receiver = tfcodec.Encoder(3, "call", audio=True, motion=False, silence=silence), Receiver()
        sizes: list[int] = []
        for _ in range(40):
            for packet in encoder.push(picture, np.zeros(640, np.float32)):
                receiver.push(packet)
                parsed = bs.parse_packet(packet)
                if isinstance(parsed, bs.MediaPacket):
                    sizes.append(packet.parts["speech"])
                    assert bool(parsed.speech) == (packet.parts["speech"] > 0)
        assert (sum(sizes[-8:]) == 0) == (silence == "gate")
        assert receiver.speech is not None
        assert len(receiver.speech.frame(38)) == 640
        # Nothing was lost: every packet is there, or known not to have been sent.
        assert receiver.speech._next >= 38
    for packet in encoder.flush():
        receiver.push(packet)
    assert receiver.end == 40


def test_other_words_for_it_are_refused() -> None:
    with pytest.raises(TfcodecError, match="gate"):
        tfcodec.Encoder(silence="off")  # type: ignore[arg-type]
