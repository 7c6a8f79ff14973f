"""Calls as they really go: an end that begins anew, a second receiver, outages, clocks that drift, rubbish."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.codec.call import encoder as call_encoder
from tfcodec.codec.call import receiver as call_receiver
from tfcodec.codec.call.drift import Drift
from tfcodec.codec.call.origin import Listeners, Origin
from tfcodec.codec.call.pace import Pace
from tfcodec.codec.call.playout import Playout
from tfcodec.errors import MediaError

Face = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def numbers_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ends begin to count: one of sixty random numbers is too near to another to tell their ends apart."""
    numbers = itertools.count(0, 20_011)
    for module in (call_encoder, call_receiver):
        monkeypatch.setattr(module, "first_number", lambda: next(numbers) % 65_536)


def sender(audio: bool = False, **options: Any) -> tfcodec.Encoder:
    return tfcodec.Encoder(latency="call", audio=audio, motion=False, **options)


def loop(frames: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield from frames
        yield from frames[::-1]


def ticks(
    encoder: tfcodec.Encoder, decoders: list[tfcodec.Decoder], pictures: Iterator[np.ndarray], count: int
) -> None:
    """A call without losses, a tick of delay each way."""
    for _ in range(count):
        said = [decoder.feedback() for decoder in decoders]
        packets = encoder.push(next(pictures))
        for feedback in said:
            if feedback is not None:
                packets += encoder.push_feedback(feedback)
        for decoder in decoders:
            for packet in packets:
                decoder.push(packet)
            decoder.pull(draw=False)


def until_fresh(encoder: tfcodec.Encoder, decoders: list[tfcodec.Decoder], pictures: Iterator[np.ndarray]) -> int:
    """Ticks until the last of the decoders shows a frame of now."""
    for tick in range(200):
        ticks(encoder, decoders, pictures, 1)
        shown = decoders[-1].shown
        if shown is not None and shown.state == "fresh" and abs(shown.number - encoder.frames) <= 3:
            return tick + 1
    return 200


@pytest.mark.parametrize("length", [40, 300])
def test_the_other_end_begins_anew(length: int, moving_face: Face) -> None:
    pictures = loop(moving_face[0])
    decoder = tfcodec.Decoder()
    ticks(sender(), [decoder], pictures, length)
    assert decoder.position is not None
    assert decoder.position >= length - 3
    for senders in (2, 3):
        again = sender()
        assert until_fresh(again, [decoder], pictures) <= 13 + 2  # half a second and a round trip
        assert decoder.call.senders == senders
        ticks(again, [decoder], pictures, 30)
        assert not decoder.wants_keyframe


def test_a_receiver_that_joins_late_is_in_the_picture_at_once(moving_face: Face) -> None:
    pictures = loop(moving_face[0])
    encoder, first = sender(), tfcodec.Decoder()
    ticks(encoder, [first], pictures, 300)
    for late in (tfcodec.Decoder(), tfcodec.Decoder()):  # the second is the first one's restart, say
        assert until_fresh(encoder, [first, late], pictures) <= 13 + 4
    assert not first.wants_keyframe
    assert first.call.senders == 1


def test_an_outage_is_no_new_call(moving_face: Face) -> None:
    pictures = loop(moving_face[0])
    encoder, decoder = sender(bundle=1), tfcodec.Decoder()
    ticks(encoder, [decoder], pictures, 30)
    kept: list[bytes] = []
    for _ in range(75):  # 3 s
        kept += encoder.push(next(pictures))
        decoder.pull(draw=False)
    for packet in kept:  # all at one instant
        decoder.push(packet)
    decoder.pull(draw=False)
    assert decoder.call.senders == 1
    assert decoder.position is not None
    assert decoder.position >= encoder.frames - 3
    for _ in range(800):  # 36 s of which nothing comes at all
        encoder.push(next(pictures))
        decoder.pull(draw=False)
    assert until_fresh(encoder, [decoder], pictures) <= 5
    assert decoder.call.senders == 1
    assert len(decoder.call.receiver.frames) <= 130
    assert len(decoder.call.receiver._waiting) <= 130


def test_an_event_loop_that_stands_for_six_seconds(moving_face: Face) -> None:
    """Nothing is taken and nothing pulled for 150 ticks, then everything comes at once, but not the keyframe."""
    pictures, sound = loop(moving_face[0]), np.tile(moving_face[1], 5)
    encoder, decoder = sender(audio=True), tfcodec.Decoder()
    said: list[bytes] = []
    for t in range(30):
        for packet in encoder.push(next(pictures), sound[640 * t : 640 * (t + 1)]):
            decoder.push(packet)
        decoder.pull(draw=False)
        said += [packet for packet in [decoder.feedback()] if packet is not None]
    kept: list[tfcodec.Packet] = []
    for t in range(30, 180):
        if t == 100:
            encoder.request_keyframe()
        kept += encoder.push(next(pictures), sound[640 * t : 640 * (t + 1)])
    for packet in kept:
        if not packet.keyframe:
            decoder.push(packet)
    receiver = decoder.call.receiver
    assert receiver.speech is not None
    assert len(receiver.frames) <= 130
    assert len(receiver._waiting) <= 130
    decoder.pull(draw=False)
    decoder.pull_audio()
    assert len(receiver.speech._packets) <= 130
    assert len(receiver.speech._pcm) <= 2 * 16_000
    before = decoder.wants_keyframe
    for feedback in said:  # what was said before the loop stood comes late
        encoder.push_feedback(feedback)
    assert until_fresh(encoder, [decoder], pictures) <= 5
    assert (before, decoder.wants_keyframe) == (True, False)
    assert decoder.call.senders == 1


def test_packets_of_another_call_change_nothing(moving_face: Face) -> None:
    pictures = loop(moving_face[0])
    encoder, other, decoder = sender(), sender(), tfcodec.Decoder()
    strangers = [packet for _ in range(60) for packet in other.push(next(pictures))]
    rng = random.Random(2)
    for _ in range(80):
        for packet in encoder.push(next(pictures)):
            decoder.push(packet)
        decoder.push(rng.choice(strangers))
        decoder.pull(draw=False)
    assert decoder.call.senders == 1
    assert decoder.position is not None
    assert decoder.position >= 77


def test_rubbish_of_every_length_and_a_text_message(moving_face: Face) -> None:
    rng = np.random.default_rng(0)
    encoder, decoder = sender(), tfcodec.Decoder()
    pictures = loop(moving_face[0])
    ticks(encoder, [decoder], pictures, 4)
    for length in range(1501):
        decoder.push(rng.bytes(length))
        encoder.push_feedback(rng.bytes(length))
    decoder.push(b"hello, is this thing on?")
    assert decoder.stats.damaged >= 1400
    assert decoder.call.senders == 1
    assert until_fresh(encoder, [decoder], pictures) <= 3


@pytest.mark.parametrize("size", [441, 480, 639, 641])
def test_sound_in_pieces_of_any_size(size: int, moving_face: Face) -> None:
    frames, audio = moving_face
    encoder, decoder = sender(audio=True), tfcodec.Decoder()
    sound, given = [], 0
    for frame in frames[:50]:
        packets = encoder.push(frame)
        while given < (encoder.frames + 3) * 640:
            packets += encoder.push(None, audio[given : given + size])
            given += size
        for packet in packets:
            decoder.push(packet)
        decoder.pull(draw=False)
        sound.append(decoder.pull_audio())
    heard = np.concatenate(sound)[640 * 20 : 640 * 45]
    lags = range(0, 640 * 4, 40)
    assert max(np.corrcoef(heard, audio[640 * 20 - lag : 640 * 45 - lag])[0, 1] for lag in lags) > 0.7
    assert len(encoder._road._sound) < 4 * 640  # type: ignore[union-attr]


def test_sound_that_is_no_number_is_refused_and_the_call_goes_on(moving_face: Face) -> None:
    frames, audio = moving_face
    encoder = sender(audio=True)
    with pytest.raises(MediaError, match="finite"):
        encoder.push(frames[0], np.full(640, np.nan, np.float32))
    assert encoder.push(frames[0], audio[:640]) is not None
    assert encoder.frames <= 1


def test_pictures_and_sound_are_the_caller_s_own(moving_face: Face) -> None:
    encoder, decoder = sender(audio=True), tfcodec.Decoder()
    for frame, sound in zip(moving_face[0][:6], moving_face[1].reshape(-1, 640), strict=False):
        for packet in encoder.push(frame, sound):
            decoder.push(packet)
    decoder.pull(draw=False)
    before = decoder.pull_audio()
    decoder.pull_audio()[:] = 7  # a volume control, say
    assert np.array_equal(decoder.pull_audio(), before)
    decoder.pull(draw=False)[:] = 7
    assert not (decoder.pull(draw=False) == 7).all()


# ---- telling ends apart ----


def test_origin_follows_wraps_disorder_and_outages() -> None:
    origin: Origin[bytes] = Origin()
    numbers = [(65_530 + i) % 65_536 for i in range(20)]
    frames = [(65_000 + 30 * i) % 65_536 for i in range(20)]
    order = [0, 2, 1, *range(3, 20)]
    assert all(origin.take(numbers[i], frames[i], b"x") == (False, [b"x"]) for i in order)
    assert origin.take((numbers[-1] + 2000) % 65_536, (frames[-1] + 900) % 65_536, b"x") == (False, [b"x"])
    assert origin.take((numbers[-1] + 2001) % 65_536, None, b"old keyframe") == (False, [b"old keyframe"])


def test_origin_believes_a_third_packet_in_a_row() -> None:
    origin: Origin[bytes] = Origin()
    origin.take(100, 5000, b"a")
    assert origin.take(40_000, 0, b"b") == (False, [])
    assert origin.take(40_000, 0, b"b") == (False, [])  # a copy is not another one
    assert origin.take(101, 5001, b"c") == (False, [b"c"])  # the sender of now is still there
    assert origin.take(40_001, 1, b"d") == (False, [])
    assert origin.take(20_000, 1, b"e") == (False, [])  # a third one's
    assert origin.take(40_002, 2, b"f") == (False, [])
    assert origin.take(40_003, None, b"g") == (False, [])
    assert origin.take(40_004, 4, b"h") == (True, [b"f", b"g", b"h"])
    assert origin.take(40_005, 5, b"i") == (False, [b"i"])


def test_listeners_are_told_apart_and_bounded() -> None:
    listeners = Listeners()
    assert listeners.add(10)
    assert not listeners.add(10)
    assert listeners.add(30_000)
    assert listeners.add(11)
    assert listeners.add(30_001)
    assert not listeners.add(30_001)
    for start in range(0, 65_536, 1024):
        listeners.add(start)
    assert len(listeners._counters) <= 16


def test_numbers_begin_anywhere(moving_face: Face) -> None:
    starts = {bs.parse_packet(sender().push(moving_face[0][:2])[0]).sequence for _ in range(6)}
    assert len(starts) > 1


# ---- clocks that drift ----


@pytest.mark.parametrize(("camera", "card"), [(25, 16_160), (25, 15_840), (25.25, 16_000), (30, 16_000), (25, 16_000)])
def test_an_hour_of_clocks_that_differ(camera: float, card: float) -> None:
    drift, queue, sound, given = Drift(), 0, 0, 0
    most_queue = most_sound = 0
    for tick in range(round(3600 * camera)):
        now = int((tick + 1) * card / camera / 480) * 480  # in blocks of 30 ms
        drift.pushed(1, now - given)
        sound, given, queue = sound + now - given, now, queue + 1
        if drift.leaves_out(queue - 1):
            queue -= 1
        while queue and sound >= 640:
            sound -= 640 + drift.extra(sound - 640)
            queue -= 1
        if tick > 3 * camera:
            most_queue, most_sound = max(most_queue, queue), max(most_sound, sound)
    assert most_queue <= 4  # of which one is on its way in any case
    assert most_sound <= 0.08 * 16_000
    assert sound >= 0
    if (camera, card) == (25, 16_000):
        assert (drift.samples, drift.frames) == (0, 0)


@pytest.mark.parametrize(("camera", "card"), [(25, 16_160), (30, 16_000)])
def test_pictures_and_sound_stay_together_when_clocks_differ(camera: float, card: float, moving_face: Face) -> None:
    pictures, given = loop(moving_face[0]), 0
    encoder = sender(audio=True)
    encoder.push(None, np.zeros(0, np.float32))
    for tick in range(round(20 * camera)):
        now = round((tick + 1) * card / camera)
        encoder.push(next(pictures), np.full(now - given, 0.1, np.float32))
        given = now
    road = encoder._road
    assert len(road._sound) <= 0.08 * 16_000  # type: ignore[union-attr]
    assert len(road._queue) <= 3  # type: ignore[union-attr]
    samples, frames = encoder.drift
    assert (samples > 0) == (card > 16_000)
    assert (frames > 80) == (camera > 25)
    assert road._debt == 0  # type: ignore[union-attr]  # no sound was made up, and none thrown away


def test_sound_that_is_pushed_ahead_stays_ahead() -> None:
    drift = Drift()
    assert [drift.extra(3 * 640) for _ in range(500)] == [0] * 500
    assert not any(drift.leaves_out(5) for _ in range(500))
    drift.pushed(1, 100 * 640)
    assert [drift.extra(100 * 640) for _ in range(500)] == [0] * 500


@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("card", [0.99, 1.01, 1.0])
def test_an_hour_of_a_receiver_whose_clock_is_wrong(card: float, lookahead: int) -> None:
    """It pulls 24.75 or 25.25 times a second, as its sound card asks for sound. 45 ms on the way, jitter of 30 ms."""
    rng = random.Random(3)
    playout, pace = Playout(lookahead), Pace()
    newest, heard, jumps, apart, behind, drifts = -1, -1, 0, 0, 0.0, []
    arrivals = iter([(0.045 + (2 * k + 2) * 0.04 + rng.random() * 0.03, 2 * k + 1) for k in range(45_050)])
    arrival, frame = next(arrivals)
    ticks = round(3600 * 25 * card)
    for tick in range(ticks):
        now = tick * 0.04 / card
        while arrival <= now:
            newest = max(newest, frame)
            arrival, frame = next(arrivals)
        pace.tick(newest if newest >= 0 else None)
        chosen = playout.choose(newest, newest.__ge__, None)
        if chosen is None:
            playout.hold()
        else:
            playout.shown(chosen, newest)
        if playout.position is None or tick < 100:
            continue
        sound = playout.position + playout.waited - (0 if lookahead else 1)
        jumps += sound != heard + 1
        heard = sound
        apart = max(apart, abs(sound - playout.position))
        behind = max(behind, now - playout.position * 0.04)
        drifts += [pace.drift] if tick % 2500 == 0 else []
    assert apart <= 2  # 80 ms
    # Bundling and the way take 0.155 s at most, a lookahead a bundle more; what the clock adds is within 80 ms.
    assert behind <= 0.155 + 0.08 * lookahead + 0.08
    assert jumps <= 1.5 * abs(1 - card) * ticks + 5  # a frame's sound is repeated or left out once in 4 s
    assert playout.held + playout.skipped <= 1.5 * abs(1 - card) * ticks + 25
    assert all(drift == pytest.approx(1 / card - 1, abs=0.001) for drift in drifts if drift is not None)
    assert len([drift for drift in drifts if drift is not None]) > 30


def test_drift_is_told_and_forgotten_with_the_sender() -> None:
    decoder, sent = tfcodec.Decoder(), 0

    def call(ticks: int, faster: float, sequence: int) -> None:
        nonlocal sent
        sent = 0
        for tick in range(ticks):
            while 2 * sent < (tick + 1) * (1 + faster):
                unit = bs.TinyUnit(2, 1, b"x")
                packet = bs.MediaPacket((sequence + sent) % 65_536, (2 * sent + 1) % 65_536, 0, (unit,))
                if not 900 < tick < 1200:  # an outage says nothing
                    decoder.push(packet.to_bytes())
                sent += 1
            decoder.pull(draw=False)

    call(1400, 0.01, 0)
    assert decoder.stats.drift is None
    call(10, 0.01, 30_000)
    assert decoder.call.senders == 2
    for _ in range(2):
        call(3000, -0.01, 60_000 if decoder.call.senders == 2 else 20_000)
        assert decoder.stats.drift == pytest.approx(-0.01, abs=0.001)
