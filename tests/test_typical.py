"""Budgets for streams that cannot be tried first: what is chosen, and how a call keeps to it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import there

import tfcodec
from benchmarks.publish import typical as measured
from tfcodec.codec import typical
from tfcodec.codec.file.budget import expect_within
from tfcodec.codec.results import Packet
from tfcodec.codec.typical import LAYERS_KBPS, SPAN, RateControl
from tfcodec.motion import NUMBERS, MotionDecoder, MotionEncoder
from tfcodec.speech import codec2, lyra
from tfcodec.speech.choice import Choice
from tfcodec.tinyframe import TinyDecoder, TinyEncoder, tiny_from_frames

LATENCIES: tuple[typical.Latency, ...] = ("call", "file")


def test_the_tables_are_what_was_measured() -> None:
    assert tuple(measured.files()) == typical.FILE_KBPS
    assert tuple(measured.call_layers()) == LAYERS_KBPS
    assert measured.header() == typical.HEADER_KBPS
    assert measured.speech() == typical.SPEECH_KBPS


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("speech", ["auto", "opus", "none"])
def test_more_bits_never_make_it_worse(latency: typical.Latency, speech: str) -> None:
    """A better codec of speech comes before better pictures: without Lyra, Opus at quality 0 before Codec2 at 4."""
    best, codec = -1, None
    for kbps in np.arange(1.0, 60.0, 0.5):
        try:
            quality, choice = expect_within(float(kbps), latency, speech, speech != "none")
        except tfcodec.TfcodecError:
            assert best == -1
            continue
        assert typical.video_kbps(quality, latency) + typical.speech_kbps(choice, latency) <= kbps
        assert quality >= best or (choice and choice.name) != codec
        assert codec != "opus" or (choice and choice.name == "opus")
        assert (choice is None) == (speech == "none")
        best, codec = quality, choice.name if choice else None
    assert best == 10


def test_rates_between_those_known() -> None:
    known = typical.SPEECH_KBPS["call"]["lyra"]
    rates = [typical.speech_kbps(Choice("lyra", rate), "call") for rate in range(200, 9201, 200)]
    assert all(a < b for a, b in pairwise(rates))
    assert {rate: round(rates[rate // 200 - 1], 2) for rate in known} == known
    assert rates[-1] == pytest.approx(9.2 / max(known) * 1000 * known[max(known)], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kbps": 5, "quality": 5}, "two ways to say the same"),
        ({"kbps": 0}, "positive number"),
        ({"kbps": float("nan")}, "positive number"),
        ({"kbps": "5"}, "positive number"),
        ({"kbps": 0.4}, r"0.4 kbit/s are not enough: the fewest bits of a call with .* are typically \d\.\d kbit/s"),
        ({"kbps": 0.4, "speech": "none"}, r"of a call with no speech are typically \d\.\d"),
        ({"kbps": 3, "speech": "opus", "latency": "file"}, "of a file with Opus are typically"),
    ],
)
def test_budgets_that_cannot_be_met(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(tfcodec.TfcodecError, match=message):
        tfcodec.Encoder(motion=False, refine=False, **settings)


def test_the_encoder_takes_what_is_typical() -> None:
    assert tfcodec.Encoder(kbps=30, motion=False).quality > tfcodec.Encoder(kbps=12, motion=False).quality
    if not lyra.missing():
        assert tfcodec.Encoder(kbps=5, motion=False).quality > 0  # Opus alone would be more
    elif codec2.missing():
        with pytest.raises(tfcodec.TfcodecError, match="with Opus"):
            tfcodec.Encoder(kbps=5, motion=False)
    silent = tfcodec.Encoder(kbps=5, motion=False, audio=False)
    assert silent.quality > tfcodec.Encoder(kbps=5.5 + typical.speech_kbps(Choice("opus", 6000), "call")).quality - 3


def packet(layers: int, speech: int = 0, *, keyframe: int = 0) -> Packet:
    if keyframe:
        return Packet(bytes(keyframe), True, {"header": 9, "keyframe": keyframe - 9})
    return Packet(bytes(10 + layers + speech), False, {"header": 10, "tiny": layers, "speech": speech})


def settled(control: RateControl, weight: float, speech: int, frames: int = 20 * SPAN) -> tuple[int, float]:
    """Let units of two frames whose layers take ``weight`` of what is typical be sent; the last quality and kbit/s."""
    sizes: list[int] = []
    for frame in range(0, frames, 2):
        layers = weight * LAYERS_KBPS[control.at(frame)] * 1000 / 8 * 2 / 25
        sent = packet(round(layers), speech)
        control.sent([sent])
        sizes.append(len(sent))
    tail = sizes[-4 * SPAN :]
    return control.quality, sum(tail) * 8 / 1000 / len(tail) * 25 / 2


@pytest.mark.parametrize("weight", [0.3, 1.0, 2.0, 2.5])
def test_a_call_settles_within_its_budget(weight: float) -> None:
    control = RateControl(5.0, 5, 2.5)
    quality, kbps = settled(control, weight, 25)
    assert kbps <= 5.0
    assert 0 <= quality <= 10
    if quality < 10:  # one step finer would be too much
        more = weight * (LAYERS_KBPS[quality + 1] - LAYERS_KBPS[quality])
        assert kbps + more > 4.9


def test_a_budget_that_is_too_small_ends_at_the_coarsest() -> None:
    assert settled(RateControl(1.2, 5, 0.0), 3.0, 0)[0] == 0


def test_the_first_keyframe_is_free_and_later_ones_are_paid_for() -> None:
    first, later = RateControl(5.0, 5, 2.5), RateControl(5.0, 5, 2.5)
    first.sent([packet(0, keyframe=1200), packet(0, keyframe=700)])
    begun = settled(first, 1.0, 25, 2 * SPAN)[0]
    later.sent([packet(20, 25)])
    later.sent([packet(0, keyframe=1900)])
    assert settled(later, 1.0, 25, 2 * SPAN)[0] < begun
    assert settled(later, 1.0, 25)[0] == settled(first, 1.0, 25)[0]


def test_a_pause_is_not_spent_on_pictures() -> None:
    talking, pausing = RateControl(5.0, 5, 2.5), RateControl(5.0, 5, 2.5)
    assert settled(pausing, 1.0, 0)[0] == settled(talking, 1.0, 25)[0]


def test_a_real_call_uses_its_budget_and_stays_decodable(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """Without motion it takes less than is typical, so that pictures become finer while it runs."""
    frames = np.concatenate([moving_face[0], moving_face[0][::-1]] * 5)
    made = [
        tfcodec.Encoder(audio=False, motion=False, origin=0, **settings)
        for settings in ({"kbps": 2.4}, {"quality": tfcodec.Encoder(audio=False, motion=False, kbps=2.4).quality})
    ]
    sizes = []
    for encoder in made:
        receiver, sent = tfcodec.Decoder(), []
        for frame in frames:
            for one in encoder.push(frame):
                receiver.push(one)
                sent.append(one)
            receiver.pull(draw=False)
        assert there(receiver.shown).state == "fresh"
        assert not receiver.stats.lost
        sizes.append(sum(len(p) for p in sent if not p.keyframe and p.time > 14))
    kbps = [size * 8 / 1000 / 10 for size in sizes]
    assert 1.25 * kbps[1] < kbps[0] <= 2.4


def test_layers_change_their_quality_in_the_middle(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    planes = tiny_from_frames(moving_face[0])
    tiny, shown = TinyEncoder(0, "call"), TinyDecoder()
    tiny.reset(planes[:1])
    shown.reset(planes[:1])
    errors = []
    for at in range(0, 60, 2):
        if at == 30:
            tiny.set_quality(8)
        payload = tiny.encode(planes[at : at + 2])
        assert np.array_equal(shown.decode(payload, 2).samples(), tiny.reconstruction.samples())
        errors.append(sum(tiny.reconstruction.mse(planes[at : at + 2])))
    assert np.mean(errors[-8:]) < 0.4 * np.mean(errors[7:15])
    motion, moved = MotionEncoder(0, "call"), MotionDecoder()
    motion.reset()
    moved.reset()
    rng = np.random.default_rng(3)
    numbers = 200 * np.sin(np.arange(40)[:, None] / 5 + rng.random(NUMBERS) * 6)
    errors = []
    for at, row in enumerate(numbers):
        if at == 20:
            motion.set_quality(10)
        values, _ = moved.decode(motion.encode(row[None]), 1)
        assert np.array_equal(values, motion.reconstruction[0])
        errors.append(float(np.square(values - row).mean()))
    assert np.mean(errors[-8:]) < 0.3 * np.mean(errors[10:20])
    for coder in (tiny, motion):
        with pytest.raises(tfcodec.TfcodecError, match=r"0\.\.10"):
            coder.set_quality(11)
