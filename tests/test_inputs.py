"""Odd inputs of every kind (`tests/inputs/`): each gives the right value, or an honest sentence."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from inputs.kinds import KINDS, Kind, interlaced
from inputs.make import Sound, Video, corners, write

from tfcodec.errors import MediaError
from tfcodec.media import open_source, streams, tone


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_right_value(kind: Kind, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = kind.make(tmp_path)
    capfd.readouterr()
    if kind.error is not None:
        with pytest.raises(MediaError, match=kind.error):
            open_source(path, crop="none")
        return
    said: list[str] = []
    with open_source(path, crop="none", warn=said.append) as clip:
        whole = [picture.copy() for picture in clip.upright_iter()]
        assert len(whole) == clip.frame_count
        if kind.seconds is not None:
            assert clip.duration_seconds == pytest.approx(kind.seconds, abs=0.021)
        if kind.size is not None:
            assert (clip.width, clip.height) == kind.size
        if kind.grey is not None:
            shown = np.array([picture.mean() for picture in whole])
            expected = np.array([kind.grey((i + 0.5) / 25) for i in range(len(whole))])
            assert np.abs(shown - expected).max() < kind.tolerance
        if kind.picture is not None:
            assert whole[0].shape == kind.picture.shape
            inner = _inner(kind.picture)
            assert np.abs(whole[0].astype(int) - kind.picture)[inner].max() <= 2 * kind.tolerance
        if kind.loudness is not None or kind.hertz is not None:
            assert clip.audio is not None
            middle = clip.audio[1600:14400]
            if kind.loudness is not None:
                assert np.sqrt((middle**2).mean()) == pytest.approx(kind.loudness, rel=0.03)
            if kind.hertz is not None:
                assert np.argmax(np.abs(np.fft.rfft(middle))) * 16000 / len(middle) == pytest.approx(kind.hertz, abs=2)
        if kind.combs is not None:
            comb = [np.abs(np.diff(picture[1:-1].astype(int), axis=0)).max(axis=(1, 2)).min() for picture in whole]
            assert (max(comb) > 60) == kind.combs
        if kind.together:
            assert clip.audio is not None
            white, click = np.argmax([picture.mean() for picture in whole]), np.argmax(np.abs(clip.audio)) / 16000
            assert abs(white / 25 - click) <= 0.041
        assert clip.warnings == said
        assert len(said) == len(kind.warnings)
        for text, pattern in zip(said, kind.warnings, strict=True):
            assert re.search(pattern, text)
    assert capfd.readouterr().err == ""  # FFmpeg has nothing to add
    if kind.warnings:
        with pytest.raises(MediaError, match=kind.warnings[0]), open_source(path, crop="none", strict=True) as clip:
            for _ in clip.upright_iter():
                pass


def _inner(picture: np.ndarray) -> np.ndarray:
    """Where a picture is even around a pixel: not at edges, which compression blurs."""
    flat = np.ones(picture.shape[:2], bool)
    for axis in (0, 1):
        for by in (-4, 4):
            flat &= (np.roll(picture, by, axis) == picture).all(axis=-1)
    return flat


TAGGED = {
    "bt709": ("yuv420p", {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}),
    "bt601": ("yuv420p", {"colorspace": 5, "color_primaries": 5, "color_trc": 6, "color_range": 1}),
    "full range": ("yuvj420p", {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 2}),
    "4:2:2, 10 bits": ("yuv422p10le", {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}),
}


@pytest.mark.parametrize("name", TAGGED)
def test_colours_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    form, tags = TAGGED[name]
    options = {"level": "3"}
    codec = "mjpeg" if form == "yuvj420p" else "ffv1"
    options = {"qmin": "1", "qmax": "1"} if codec == "mjpeg" else options
    path = write(tmp_path / "a.mkv", Video([corners()], codec=codec, form=form, tags=tags, options=options))
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=file.streams.video[0]), graph.add("scale")]
        nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
        for one, following in pairwise(nodes):
            one.link_to(following)
        graph.configure()
        graph.vpush(frame)
        expected = graph.vpull().to_ndarray().astype(int)
    with open_source(path, crop="none") as clip:
        picture = next(clip.upright_iter())
    assert np.abs(picture - expected)[_inner(corners())].max() <= 2


def test_what_is_at_rest_with_combs_is_told_from_what_is_not(tmp_path: Path) -> None:
    """The interlaced kind has combs, as it is stored; so the test of it can fail."""
    with av.open(str(interlaced(tmp_path))) as file:
        frames = list(file.decode(video=0))
    assert all(frame.interlaced_frame for frame in frames)
    pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in frames]
    assert max(np.abs(np.diff(p[1:-1], axis=0)).max(axis=(1, 2)).min() for p in pictures) > 60


def test_a_turned_picture_is_not_stretched(tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == "phone-turned")
    with open_source(kind.make(tmp_path), crop="none") as clip:
        later = list(clip.upright_iter())[-1]
    columns, rows = np.flatnonzero(later.mean(axis=(0, 2)) > 128), np.flatnonzero(later.mean(axis=(1, 2)) > 64)
    assert len(rows) == 64
    assert len(columns) == pytest.approx(64 * 64 / 96, abs=1)
    assert abs(int(columns[0]) + int(columns[-1]) - 95) <= 1  # in the middle


# ---- times ----

EVERY = 0.5
"""Seconds from click to click, by the timestamps."""


def _clicking(path: Path, stamps: np.ndarray, chunk: int, rate: int) -> Path:
    """Four seconds of pictures, and sound in pieces of ``chunk`` samples at these times, with clicks that say when."""
    with av.open(str(path), "w") as out:
        pictures = out.add_stream("mpeg4", rate=25)
        pictures.width = pictures.height = 64
        sound = out.add_stream("pcm_s16le", rate=rate, layout="mono")
        packets = []
        for i in range(100):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += pictures.encode(frame)
        for i, stamp in enumerate(stamps):
            lasts = stamps[i + 1] - stamp if i + 1 < len(stamps) else chunk / rate
            times = stamp + np.arange(chunk) * min(lasts, 1.02 * chunk / rate) / chunk
            samples = np.where((times + 1e-6) % EVERY < 0.002, 29_000, 0).astype(np.int16)
            piece = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            piece.sample_rate, piece.time_base, piece.pts = rate, Fraction(1, 1000), round(1000 * stamp)
            packets += sound.encode(piece)
        packets += [*pictures.encode(None), *sound.encode(None)]
        for packet in sorted(packets, key=lambda packet: Fraction(packet.dts or 0) * packet.time_base):
            out.mux(packet)
    return path


CLOCKS = {
    "right": (np.arange(125) * 0.032, 512, 16_000),
    "1 % slow": (np.arange(125) * 0.032 * 1.01, 512, 16_000),
    "1 % fast": (np.arange(125) * 0.032 * 0.99, 512, 16_000),
    "a gap of 30 ms": (np.delete(np.arange(134) * 0.03, 40), 480, 16_000),
    "gaps of 30 ms": (np.delete(np.arange(134) * 0.03, [20, 40, 70, 100]), 480, 16_000),
    "jitter of 30 ms": (np.arange(125) * 0.032 + 0.03 * (np.arange(125) * 7 % 5) / 4, 512, 16_000),
    "begins late, at 8 kHz": (0.3 + np.arange(115) * 0.032, 256, 8_000),
    "begins early, at 96 kHz": (np.arange(130) * 0.032 - 0.064, 3_072, 96_000),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_sound_is_within_20_ms_of_its_timestamps(name: str, tmp_path: Path) -> None:
    stamps, chunk, rate = CLOCKS[name]
    with open_source(_clicking(tmp_path / "a.mkv", stamps, chunk, rate), crop="none") as clip:
        assert clip.audio is not None
        at = np.flatnonzero(np.abs(clip.audio) > 0.3) / 16_000
    first = at[np.flatnonzero(np.diff(at, prepend=-1) > 0.1)]
    assert len(first) >= 6
    assert np.abs(first - np.round(first / EVERY) * EVERY).max() <= (0.02 if name != "right" else 0.0015)


@pytest.mark.parametrize(("suffix", "codec", "sound"), [("ts", "libx264", "aac"), ("mpg", "mpeg2video", "mp2")])
def test_streams_that_were_put_together(suffix: str, codec: str, sound: str, tmp_path: Path) -> None:
    """``cat a.ts b.ts``: timestamps begin anew in the middle, for one track sooner than for the other."""
    parts = []
    options = {"bf": "2", "preset": "medium"} if codec == "libx264" else {"bf": "2"}
    for part in range(2):
        pictures = [np.full((64, 64, 3), 40 + 80 * part + i, np.uint8) for i in range(50)]
        pictures[20][:] = 250  # a flash, and a click
        click = np.zeros((1, 88_200))
        click[0, 35_280:35_400] = 0.9
        made = Video(pictures, codec=codec, options=options)
        parts.append(write(tmp_path / f"{part}.{suffix}", made, Sound(click, codec=sound, rate=44_100)).read_bytes())
    (tmp_path / f"both.{suffix}").write_bytes(b"".join(parts))
    with open_source(tmp_path / f"both.{suffix}", crop="none") as clip:
        shown = np.array([picture.mean() for picture in clip.upright_iter()])
        assert clip.audio is not None
        loud = np.flatnonzero(np.abs(clip.audio) > 0.3) / 16_000
    assert 98 <= len(shown) <= 105
    assert (np.diff(shown[np.r_[0:19, 22:48]]) > -2).all()
    flashes = np.flatnonzero(shown > 200)
    assert len(flashes) == 2
    clicks = loud[np.flatnonzero(np.diff(loud, prepend=-1) > 0.1)]
    assert clicks == pytest.approx(flashes / 25, abs=0.041)


# ---- range and gamut ----


def test_pq_is_st_2084() -> None:
    # SMPTE ST 2084 and ITU-R BT.2408: code values in percent of light in cd/m2
    signals = np.array([0.0, 0.5081, 0.5807, 0.7518, 1.0])
    assert tone.pq_to_light(signals) == pytest.approx([0, 100, 203, 1000, 10000], rel=2e-3)
    assert tone.light_to_pq(np.array([100.0, 203, 1000, 10_000])) == pytest.approx(signals[1:], abs=1e-4)


def test_hlg_is_bt_2100() -> None:
    assert tone.hlg_to_scene(np.array([0, 0.5, 0.75, 1.0])) == pytest.approx([0, 1 / 12, 0.265, 1.0], abs=1e-3)


def test_the_curve_leaves_faces_alone_and_nothing_is_clipped() -> None:
    light = np.array([0.1, 1, 10, 26, 65, 90.0])
    assert tone.roll_off(light) == pytest.approx(light, rel=0.01)
    above = tone.roll_off(np.linspace(90, 1000, 50))
    assert (np.diff(above) > 0).all()
    assert above[-1] == pytest.approx(203, rel=1e-3)


@pytest.mark.parametrize("transfer", [14, 16, 18])
def test_colours_of_bt709_in_the_wide_gamut_come_back(transfer: int) -> None:
    patches = np.array([[0.6, 0.3, 0.25], [0.3, 0.5, 0.3], [0.25, 0.3, 0.6], [0.45, 0.45, 0.45]])
    wide = patches**2.4 @ np.linalg.inv(np.array(tone._TO_709[9])).T  # light, white being 1; all of it below the knee
    if transfer == 16:
        signal = tone.light_to_pq(wide * 203)
    elif transfer == 18:
        luma = (wide * 0.203) @ np.array([0.2627, 0.6780, 0.0593])
        scene = wide * 0.203 * luma[:, None] ** (-0.2 / 1.2)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    else:
        signal = wide ** (1 / 2.4)
    stored = (signal[None] * 65535).round().astype(np.uint16)
    assert np.abs(tone.to_bt709(stored, transfer, 9)[0] - patches * 255).max() <= 2


# ---- channels ----


@pytest.mark.parametrize(
    ("name", "count", "settled"),
    [
        ("mono", 1, "mono"), ("stereo", 2, "stereo"), ("5.1(side)", 6, "5.1(side)"), ("7.1", 8, "7.1"),
        ("4 channels", 4, "4 channels"), ("3 channels (FL+FR+BC)", 3, "3 channels"), ("ambisonic 1", 4, "4 channels"),
        ("", 2, "2 channels"), ("mono", 0, None),
    ],
)  # fmt: skip
def test_layouts_are_settled_before_anything_is_decoded(name: str, count: int, settled: str | None) -> None:
    assert streams.settled_layout(name, count) == settled


def test_the_decoder_is_given_the_settled_layout(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Sound(np.zeros((4, 1600)), "4 channels", "pcm_s16le"))
    with av.open(str(path)) as file:
        context = file.streams.audio[0].codec_context
        assert streams.settle_layout(context) == "4 channels"
        assert not context.is_open
        assert context.layout.name == "4 channels"
        assert {frame.layout.name for frame in file.decode(audio=0)} == {"4 channels"}
