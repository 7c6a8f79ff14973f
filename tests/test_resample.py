"""Sound at any rate, as it comes: no clicks where pieces meet, nothing moved in time."""

from __future__ import annotations

import av
import numpy as np
import pytest

import tfcodec
from tfcodec.contrib.sound import TrackSound
from tfcodec.errors import MediaError
from tfcodec.resample import Resampler, resample

RATES = (8000, 11_025, 22_050, 44_100, 48_000)
Face = tuple[np.ndarray, np.ndarray]


def chirp(rate: int, seconds: float = 2) -> np.ndarray:
    """From 200 to 3000 Hz, which every rate can hold."""
    t = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * t + 1400 / seconds * t * t))).astype(np.float32)


def in_pieces(samples: np.ndarray, rate: int, size: int, **options: bool) -> np.ndarray:
    resampler = Resampler(**options)
    pieces = [resampler.push(samples[i : i + size], rate) for i in range(0, len(samples), size)]
    return np.concatenate([*pieces, resampler.flush()])


@pytest.mark.parametrize("rate", RATES)
def test_a_chirp_comes_out_as_itself_in_pieces_of_any_size(rate: int) -> None:
    whole, wanted = resample(chirp(rate), rate, 16_000), chirp(16_000)
    assert len(whole) == len(wanted)
    inside = slice(64, -64)  # at its ends a filter knows one side only
    assert np.abs(whole - wanted)[inside].max() < 0.01
    for size in (29, 441, 480, 639, 641) if rate == 44_100 else (441, 641):
        assert np.abs(in_pieces(chirp(rate), rate, size) - whole).max() < 1e-6


@pytest.mark.parametrize("rate", [*RATES, 16_000, 32_000, 96_000])
def test_prompt_sound_is_there_at_once_and_hardly_later(rate: int) -> None:
    resampler, given, got = Resampler(prompt=True), 0, 0
    sound = np.zeros(rate, np.float32)
    click = rate // 2
    sound[click - 3 : click + 4] = np.hanning(9)[1:-1]
    out = []
    for i in range(0, rate, 441):
        out.append(resampler.push(sound[i : i + 441], rate))
        given, got = given + len(sound[i : i + 441]), got + len(out[-1])
        assert got >= given * 16_000 // rate
    heard = np.concatenate(out)
    centre = (heard * np.arange(len(heard))).sum() / heard.sum() / 16
    late = {16_000: 0, 8000: 2, 11_025: 1.5}.get(rate, 1)
    assert centre - 500 == pytest.approx(late, abs=0.1)  # ms


def test_a_rate_that_changes_leaves_no_gap() -> None:
    resampler, out, delay = Resampler(prompt=True), [], 32
    order = (48_000, 44_100, 8000, 16_000, 48_000)
    for i, rate in enumerate(order):
        t = i + np.arange(rate) / rate
        out.append(resampler.push(np.sin(2 * np.pi * 250 * t).astype(np.float32), rate))
    heard = np.concatenate(out)
    assert len(heard) == pytest.approx(len(order) * 16_000, abs=delay)
    # 250 Hz all along: never a step beyond the tone's own, with something for the two ends that meet.
    assert np.abs(np.diff(heard)).max() < 2 * (2 * np.pi * 250 / 16_000)
    for second in range(len(order)):
        piece = heard[second * 16_000 + 200 : (second + 1) * 16_000 - 200]
        assert np.sqrt(np.mean(piece**2)) == pytest.approx(np.sqrt(0.5), abs=0.01)


# ---- through an encoder ----


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_a_file_of_speech_at_any_rate(rate: int, moving_face: Face) -> None:
    frames, sound = moving_face[0][:25], chirp(rate, 1)
    encoder = tfcodec.Encoder(10, "file", sample_rate=rate, refine=False, motion=False)
    size = rate // 25
    packets = [p for t, frame in enumerate(frames) for p in encoder.push(frame, sound[t * size : (t + 1) * size])]
    data = b"".join([*packets, *encoder.flush()])
    heard, wanted = tfcodec.open(data).sound(), chirp(16_000, 1)
    assert len(heard) == 16_000
    lags = np.arange(-48, 49)
    alike = [np.corrcoef(np.roll(heard, -lag)[2000:-2000], wanted[2000:-2000])[0, 1] for lag in lags]
    assert max(alike) > 0.8
    assert abs(int(lags[int(np.argmax(alike))])) <= 16  # 1 ms


@pytest.mark.parametrize(("rate", "size"), [(8000, 320), (44_100, 441), (44_100, 1764), (48_000, 480), (48_000, 641)])
def test_a_call_with_speech_at_any_rate(rate: int, size: int, moving_face: Face) -> None:
    """No frame waits for another's speech, none is left out, and the packets do not depend on the pieces."""
    sound = chirp(rate)
    sent = []
    for piece in (size, rate // 25):
        encoder = tfcodec.Encoder(audio=True, motion=False, sample_rate=rate, origin=0)
        packets, given = [], 0
        for t in range(24):
            while given < (t + 1) * rate / 25:
                packets += encoder.push(None, sound[given : given + piece])
                given += piece
            packets += encoder.push(moving_face[0][t])
            assert encoder.frames == t + 1
        assert encoder.drift == (0, 0)
        sent.append(packets)
    assert len(sent[0]) == len(sent[1])
    assert sent[0] == sent[1]


def test_speech_that_is_refused_leaves_nothing_behind(moving_face: Face) -> None:
    encoder = tfcodec.Encoder(audio=False, motion=False, sample_rate=48_000)
    with pytest.raises(MediaError, match="audio=True"):
        encoder.push(moving_face[0][0], np.ones(1, np.float32))
    assert encoder.push(moving_face[0][:2])
    assert encoder.flush()
    with pytest.raises(tfcodec.TfcodecError, match="flushed"):
        encoder.push(None, np.ones(640, np.float32))
    encoder = tfcodec.Encoder(audio=True, motion=False, sample_rate=48_000)
    with pytest.raises(MediaError, match="finite"):
        encoder.push(moving_face[0][0], np.full(1920, np.inf, np.float32))
    encoder.push(moving_face[0][0], np.zeros(1920, np.float32))
    assert encoder.frames == 1


# ---- frames of a track ----


def frame_of(sound: np.ndarray, rate: int, form: str, layout: str) -> av.AudioFrame:
    full = {"u8": (127, 128, np.uint8), "s16": (32767, 0, np.int16), "s32": (2**31 - 1, 0, np.int32)}
    scale, middle, kind = full.get(form.rstrip("p"), (1, 0, np.float32))
    channels = np.tile((sound.astype(float) * scale + middle).astype(kind), (1 if layout == "mono" else 2, 1))
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(channels if form.endswith("p") else channels.T.reshape(1, -1)), form, layout
    )
    frame.sample_rate = rate
    return frame


def test_a_track_that_switches_its_rate_and_format() -> None:
    track, out = TrackSound(16_000), []
    forms = [(48_000, "s16", "stereo"), (44_100, "fltp", "mono"), (8000, "u8", "mono"), (16_000, "s32p", "stereo")]
    for second, (rate, form, layout) in enumerate(forms):
        tone = 0.5 * np.sin(2 * np.pi * 250 * (second + np.arange(rate) / rate))
        step = rate // 50  # frames of 20 ms, two for a picture
        frames = [frame_of(tone[i : i + step], rate, form, layout) for i in range(0, rate, step)]
        out += [track.mono(frames[i : i + 2]) for i in range(0, len(frames), 2)]
    heard = np.concatenate(out)
    assert len(heard) == pytest.approx(4 * 16_000, abs=32)
    for second in range(4):
        piece = heard[second * 16_000 + 200 : (second + 1) * 16_000 - 200]
        assert np.sqrt(np.mean(piece**2)) == pytest.approx(np.sqrt(0.125), abs=0.01)
    assert np.abs(np.diff(heard)).max() < np.pi * 250 / 16_000 * 2


def test_channels_of_a_track_never_cancel_out() -> None:
    """Reversed poles, and one silent side, keep the level; going over from one to the other does not click."""
    time = np.arange(48_000) / 48_000
    tone = (0.4 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
    track, out = TrackSound(48_000), []
    for other in (-tone, 0 * tone, tone):
        for i in range(0, 48_000, 960):
            frame = av.AudioFrame.from_ndarray(np.stack((tone, other))[:, i : i + 960].copy(), "fltp", "stereo")
            frame.sample_rate = 48_000
            out.append(track.mono([frame]))
    heard = np.concatenate(out)
    levels = np.sqrt(np.square(heard.reshape(-1, 9600)).mean(1))
    assert levels == pytest.approx(np.full(15, 0.4 / np.sqrt(2)), rel=0.3)
    assert levels[[0, 1, 2, 3, 4, 9, 14]] == pytest.approx(np.full(7, 0.4 / np.sqrt(2)), rel=0.05)  # it has settled
    assert np.abs(np.diff(heard)).max() < 1.3 * np.abs(np.diff(tone)).max()


def test_what_is_no_frame_of_a_track_stays_as_it_is() -> None:
    track, sound = TrackSound(16_000), np.ones(640, np.float32)
    assert track.mono(sound) is sound
    assert track.mono(None) is None
    assert track.mono([0.5, 0.25]) == [0.5, 0.25]
    assert len(track.mono([])) == 0
    many = av.AudioFrame.from_ndarray(np.zeros((1, 16 * 320), np.int16), "s16", "hexadecagonal")
    many.sample_rate = 16_000
    with pytest.raises(MediaError, match="8 channels, not 16"):
        track.mono([many])
    wrong = frame_of(np.array([0.0, np.nan]), 48_000, "flt", "mono")
    with pytest.raises(MediaError, match="finite"):
        track.mono([wrong])
