"""Reading and writing video and sound. Every video here is made by the test itself."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import there
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcodec.errors import MediaError
from tfcodec.media import VideoWriter, open_source, timing, write_video
from tfcodec.media.source import _rate


def numbered(count: int, size: tuple[int, int] = (64, 64), rate: float = 25) -> list[np.ndarray]:
    """Frames [h, w, 3] that tell by their grey (16 + 200 * time in seconds / 4, at most 4 s) when they appear."""
    return [np.full((size[1], size[0], 3), round(16 + 50 * i / rate), np.uint8) for i in range(count)]


def mux(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: Fraction | int = 25,
    *,
    times: list[Fraction] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int | None = None,
    aspect: Fraction | None = None,
    sound: tuple[str, int, str, np.ndarray] | None = None,
    sound_delay: Fraction = Fraction(0),
) -> Path:
    """Write a video with PyAV itself; `sound` is (codec, rate, layout, float samples [channels, n])."""
    frames = list(frames)
    with av.open(str(path), "w") as out:
        options = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}
        stream: Any = out.add_stream(codec, rate=Fraction(rate), options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if times else 1 / Fraction(rate)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        speech: Any = None
        if sound is not None:
            name, hertz, layout, samples = sound
            speech = out.add_stream(name, rate=hertz, layout=layout)
        for i, picture in enumerate(frames):
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.time_base = stream.codec_context.time_base
            image.pts = round(times[i] / image.time_base) if times else i
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))
        if sound is not None:
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
            block.sample_rate, block.time_base, block.pts = hertz, Fraction(1, hertz), round(sound_delay * hertz)
            form = "s16" if name == "flac" else None
            for part in av.AudioResampler(format=form).resample(block) if form else [block]:
                out.mux(speech.encode(part))
            out.mux(speech.encode(None))
    return path


def greys(path: Any, **options: Any) -> np.ndarray:
    with open_source(path, crop="none", **options) as clip:
        return np.array([frame.mean() for frame in clip.frames_iter()])


# ---- time ----


@settings(max_examples=50)
@given(
    gaps=st.lists(
        st.fractions(min_value=Fraction(1, 240), max_value=2, max_denominator=90_000), min_size=1, max_size=60
    )
)
def test_every_output_frame_shows_what_is_on_screen_at_its_middle(gaps: list[Fraction]) -> None:
    starts = [sum(gaps[:i], Fraction(0)) for i in range(len(gaps))]
    end = sum(gaps, Fraction(0))
    shown = list(timing.at_constant_rate([(t, t) for t in starts], end))
    assert len(shown) == timing.frame_count(end)
    assert abs(Fraction(len(shown), 25) - end) <= Fraction(1, 50) or len(shown) == 1
    for k, start in enumerate(shown):
        middle = Fraction(2 * k + 1, 50)
        expected = max((t for t in starts if t <= middle), default=starts[0])
        assert start == expected


@settings(max_examples=50)
@given(rate=st.sampled_from([15, 24, 25, 30, 50, 60, 120]), count=st.integers(1, 400))
def test_constant_rates_keep_their_duration(rate: int, count: int) -> None:
    times = [(Fraction(i, rate), i) for i in range(count)]
    shown = list(timing.at_constant_rate(times, Fraction(count, rate)))
    assert len(shown) == max(1, math.ceil(Fraction(count * 25, rate) - Fraction(1, 2)))
    assert shown == sorted(shown)
    if rate == 25:
        assert shown == list(range(count))


@settings(max_examples=50)
@given(st.lists(st.fractions(min_value=-5, max_value=5, max_denominator=1000), min_size=1, max_size=30))
def test_unordered_times_never_fail(times: list[Fraction]) -> None:
    end = Fraction(2)
    assert len(list(timing.at_constant_rate([(t, 0) for t in times], end))) == 50


def test_a_broken_timestamp_is_refused_and_does_not_run_forever() -> None:
    with pytest.raises(MediaError, match="stands still"):
        list(timing.at_constant_rate([(Fraction(0), 0), (Fraction(10**9), 1)], Fraction(10**9)))


def test_ntsc_rates_are_exact() -> None:
    assert _rate(29.97) == Fraction(30000, 1001)
    assert _rate(23.976) == Fraction(24000, 1001)
    assert _rate(30) == 30
    assert _rate(12.5) == Fraction(25, 2)


# ---- pictures ----


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001), Fraction(24), Fraction(12), Fraction(60)])
def test_any_frame_rate_becomes_25_with_its_duration(tmp_path: Path, rate: Fraction) -> None:
    count = round(2 * rate)
    path = mux(tmp_path / "a.mp4", numbered(count, rate=float(rate)), rate)
    with open_source(path, crop="none") as clip:
        assert clip.duration_seconds == pytest.approx(float(count / rate), abs=0.02)
        shown = [frame.mean() for frame in clip.frames_iter()]
    assert len(shown) == clip.frame_count_hint == 50
    middles = (np.arange(50) + 0.5) / 25
    expected = 16 + 50 * np.floor(middles * float(rate)) / float(rate)
    assert np.abs(np.array(shown) - expected).max() < 2.5


def test_variable_frame_rate_goes_by_timestamps(tmp_path: Path) -> None:
    times = [Fraction(n, 1000) for n in (0, 33, 66, 500, 533, 566, 1200, 1233, 1500)]
    frames = [np.full((64, 64, 3), 20 + 25 * i, np.uint8) for i in range(len(times))]
    shown = greys(mux(tmp_path / "a.mkv", frames, 30, times=times))
    middles = (np.arange(len(shown)) + 0.5) / 25
    expected = [20 + 25 * max(i for i, t in enumerate(times) if float(t) <= m) for m in middles]
    assert np.abs(shown - expected).max() < 3
    assert len(shown) == pytest.approx(1.533 * 25, abs=1)


def corners() -> np.ndarray:
    """[64, 96, 3]: red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48] = (220, 20, 20)
    picture[:32, 48:] = (20, 220, 20)
    picture[32:, :48] = (20, 20, 220)
    picture[32:, 48:] = (220, 220, 220)
    return picture


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_the_rotation_flag_is_honoured(tmp_path: Path, angle: int) -> None:
    path = mux(tmp_path / "a.mp4", [corners()] * 5, rotation=angle)
    with av.open(str(path)) as file:
        turned = next(file.decode(video=0)).rotation  # counter-clockwise, by PyAV's own account
    with open_source(path, crop="none") as clip:
        whole = next(clip.upright_iter())
    expected = np.rot90(corners(), turned // 90)
    assert whole.shape == expected.shape
    assert np.abs(whole.astype(int) - expected).mean() < 8
    assert (turned % 360 == 0) == (angle == 0)


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mp4", [corners()] * 3, aspect=Fraction(4, 3))
    with open_source(path, crop="none") as clip:
        assert (clip.width, clip.height) == (128, 64)
        assert clip.crop == [(0, 32, 0, 64)]


def test_odd_sizes(tmp_path: Path) -> None:
    frames = [np.full((51, 77, 3), 90, np.uint8)] * 3
    shown = greys(mux(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="bgr0"))
    assert np.abs(shown - 90).max() < 1


def test_256_square_is_taken_as_it_is_and_the_lossless_file_is_lossless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)
    sound = rng.uniform(-1, 1, 2560).astype(np.float32)
    write_video(tmp_path / "a.mkv", frames, 25, sound, 16000, lossless=True)
    given: list[tuple[Any, dict[str, Any]]] = [
        (tmp_path / "a.mkv", {}), (frames, {"fps": 25, "audio": sound, "sample_rate": 16000})
    ]  # fmt: skip
    for source, options in given:
        with open_source(source, crop="auto", **options) as clip:
            assert clip.crop is None
            assert (np.stack(list(clip.frames_iter())) == frames).all()
            assert clip.audio is not None
            assert np.abs(clip.audio - sound).max() < 1e-4


def test_the_centre_square_is_scaled_without_a_shift() -> None:
    y, x = np.mgrid[0:512, 0:700]
    picture = np.stack([x * 255 / 699, y * 255 / 511, 0 * x + 100], axis=-1).round().astype(np.uint8)
    with open_source(picture[None], fps=25, crop="none") as clip:
        assert clip.crop == [(0, 94, 0, 512)]
        out = next(clip.frames_iter()).astype(float)
    at = 94 + (np.arange(256) + 0.5) * 2 - 0.5
    assert np.abs(out[4:-4, 4:-4, 0] - at[None, 4:-4] * 255 / 699).max() < 2.5
    assert np.abs(out[..., 2] - 100).max() < 2


def test_colours_survive_writing_and_reading(tmp_path: Path) -> None:
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128), (220, 180, 150)]
    for colour in colours:
        frame = np.full((256, 256, 3), colour, np.uint8)
        write_video(tmp_path / "a.mp4", [frame] * 3)
        with open_source(tmp_path / "a.mp4") as clip:
            assert np.abs(next(clip.frames_iter()).astype(int) - colour).max() <= 4
        with av.open(str(tmp_path / "a.mp4")) as file:
            context = file.streams.video[0].codec_context
            assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)


# ---- sound ----


def test_sound_is_mono_16k_for_the_whole_video_at_its_level(tmp_path: Path) -> None:
    time = np.arange(int(2.5 * 44100)) / 44100
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 440 * time)] * 2)
    path = mux(tmp_path / "a.mp4", numbered(50), sound=("aac", 44100, "stereo", stereo))
    with open_source(path, crop="none") as clip:
        assert clip.audio is not None
        assert clip.audio.shape == (32000,)
        assert clip.audio.dtype == np.float32
        middle = clip.audio[8000:24000]
        spectrum = np.abs(np.fft.rfft(middle))
        assert np.argmax(spectrum) == 440
        assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / math.sqrt(2), rel=0.05)


def test_short_sound_is_followed_by_silence_and_no_sound_is_none(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(16000) / 5)[None]
    path = mux(tmp_path / "a.mkv", numbered(50), sound=("flac", 16000, "mono", tone))
    with open_source(path, crop="none") as clip:
        assert clip.audio is not None
        assert len(clip.audio) == 32000
        assert np.abs(clip.audio[:15000]).max() > 0.4
        assert np.abs(clip.audio[16100:]).max() == 0
    with open_source(mux(tmp_path / "b.mp4", numbered(5)), crop="none") as clip:
        assert clip.audio is None


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "delay"),
    [
        ("mp4", "aac", 44100, 0),
        ("mp4", "aac", 16000, 0),
        ("mkv", "libopus", 48000, 0),
        ("mkv", "flac", 16000, 0),
        ("mkv", "flac", 22050, Fraction(1, 4)),
        ("mov", "aac", 48000, 0),
    ],
)
def test_a_flash_and_a_click_stay_together(tmp_path: Path, suffix: str, codec: str, rate: int, delay: Fraction) -> None:
    frames = [np.full((64, 64, 3), 235 if i in (20, 45) else 20, np.uint8) for i in range(60)]
    click = np.zeros((1, int(2.4 * rate)))
    for second in (0.8, 1.8):  # at the beginning of frames 20 and 45
        click[0, round((second - float(delay)) * rate) :][: rate // 500] = 0.9
    path = mux(tmp_path / f"a.{suffix}", frames, sound=(codec, rate, "mono", click), sound_delay=Fraction(delay))
    with open_source(path, crop="none") as clip:
        shown = np.array([frame.mean() for frame in clip.frames_iter()])
        assert np.flatnonzero(shown > 128).tolist() == [20, 45]
        assert clip.audio is not None
        for second in (0.8, 1.8):
            window = np.abs(clip.audio[round((second - 0.2) * 16000) : round((second + 0.2) * 16000)])
            assert abs(np.argmax(window) / 16000 - 0.2) < 0.01


def test_what_is_written_stays_together_too(tmp_path: Path) -> None:
    frames = [np.full((64, 64, 3), 235 if i == 30 else 20, np.uint8) for i in range(50)]
    sound = np.zeros(32000, np.float32)
    sound[19200:19216] = 0.9  # at the beginning of frame 30
    write_video(tmp_path / "a.mp4", frames, 25, sound, 16000)
    with open_source(tmp_path / "a.mp4", crop="none") as clip:
        assert np.argmax([frame.mean() for frame in clip.frames_iter()]) == 30
        assert clip.audio is not None
        assert abs(int(np.argmax(np.abs(clip.audio))) - 19204) < 80


@pytest.mark.parametrize(("shape", "rate"), [((48000,), 48000), ((44100, 2), 44100), ((8000, 1), 8000)])
def test_sound_as_an_array(shape: tuple[int, ...], rate: int) -> None:
    time = np.arange(shape[0]) / rate
    audio = np.broadcast_to(0.4 * np.sin(2 * np.pi * 300 * time).reshape(-1, *[1] * (len(shape) - 1)), shape)
    with open_source(np.zeros((25, 256, 256, 3), np.uint8), fps=25, audio=audio, sample_rate=rate) as clip:
        assert clip.audio is not None
        assert clip.audio.shape == (16000,)
        expected = 0.4 * np.sin(2 * np.pi * 300 * np.arange(16000) / 16000)
        assert np.abs(clip.audio - expected)[200:-200].max() < 0.01


# ---- sources ----


def test_bytes_and_pipes_give_what_the_file_gives(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mp4", numbered(10))
    data = path.read_bytes()

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = data

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part, self.rest = self.rest[: min(len(buffer), 1000)], self.rest[min(len(buffer), 1000) :]
            buffer[: len(part)] = part
            return len(part)

    expected = greys(path)
    for source in (data, memoryview(data), io.BytesIO(data), Pipe(), str(path)):
        assert (greys(source) == expected).all()


def test_frames_can_be_read_again_and_in_parallel(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mp4", numbered(10))
    with open_source(path, crop="none") as clip:
        first = [f.mean() for f in clip.frames_iter()]
        assert [f.mean() for f in clip.frames_iter()] == first
        assert len(next(clip.frames_iter())) == 256  # an iterator that is left half read
        assert [f.mean() for f in clip.frames_iter()] == first


def test_reading_is_lazy(tmp_path: Path) -> None:
    import tracemalloc

    path = mux(tmp_path / "a.mp4", (np.full((512, 512, 3), i % 200, np.uint8) for i in range(60)))
    tracemalloc.start()
    try:
        with open_source(path, crop="none") as clip:
            assert sum(1 for _ in clip.frames_iter()) == 60
        assert tracemalloc.get_traced_memory()[1] < 20 * 512 * 512 * 3
    finally:
        tracemalloc.stop()


# ---- bad input ----


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("/no/such/file.mp4", {}, "no such file"),
        ("/", {}, "directory"),
        (b"", {}, "not a video"),
        (b"GIF89a but no more", {}, "not a video|no video|picture"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", {}, "not a video|cannot be read|no video"),
        (np.zeros((2, 256, 256, 3), np.float32), {"fps": 25}, "uint8"),
        (np.zeros((256, 256, 3), np.uint8), {"fps": 25}, "shape"),
        (np.zeros((2, 256, 256, 4), np.uint8), {"fps": 25}, "shape"),
        (np.zeros((0, 256, 256, 3), np.uint8), {"fps": 25}, "no frames"),
        (np.zeros((1, 1, 8193, 3), np.uint8), {"fps": 25}, "8192"),
        (np.zeros((1, 0, 5, 3), np.uint8), {"fps": 25}, "picture size"),
        (np.zeros((2, 256, 256, 3), np.uint8), {}, "fps="),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": float("nan")}, "fps"),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": 0}, "fps"),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": 25, "audio": np.zeros(5)}, "sample_rate"),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": 25, "audio": np.zeros(5, int), "sample_rate": 8000}, "float"),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": 25, "audio": np.zeros((5, 65)), "sample_rate": 8000}, "must"),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": 25, "audio": np.full(5, np.nan), "sample_rate": 8000}, "finite"),
        (np.zeros((2, 256, 256, 3), np.uint8), {"fps": 25, "crop": "face"}, "crop"),
        (io.StringIO("text"), {}, "binary"),
        (None, {}, "source must be"),
        (7, {}, "source must be"),
    ],
)  # fmt: skip
def test_bad_sources_are_refused_in_a_sentence(
    source: Any, options: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MediaError, match=message):
        open_source(source, **{"crop": "none", **options})
    assert capfd.readouterr().err == ""  # FFmpeg has nothing to add


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
    with pytest.raises(MediaError, match="has no video"):
        open_source(path, crop="none")


@pytest.mark.parametrize("kind", ["index last.mp4", "index first.mp4", "matroska.mkv"])
def test_truncated_and_damaged_files_fail_cleanly(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    tone = 0.3 * np.sin(np.arange(48000) / 9)[None]
    rng = np.random.default_rng(1)
    noisy = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(75)]
    if kind == "index first.mp4":
        write_video(tmp_path / kind, noisy, 25, tone[0], 16000)
    else:
        mux(tmp_path / kind, noisy, sound=("aac", 16000, "mono", tone))
    whole = (tmp_path / kind).read_bytes()
    refused = 0
    for size in range(0, len(whole), max(1, len(whole) // 20)):
        try:
            shown = greys(whole[:size])
        except MediaError:
            refused += 1
        else:
            # a Matroska file that lacks its last second is still one, and MP4 may lack its closing remarks
            assert len(shown) >= 49 if kind.endswith("mkv") else len(shown) == 75
            assert len(shown) <= 75
    assert refused >= (11 if kind.endswith("mkv") else 18)
    for _ in range(20):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            damaged[place] ^= 1 << int(rng.integers(8))
        try:
            assert len(greys(bytes(damaged))) < 10_000
        except MediaError:
            continue
    assert capfd.readouterr().err == ""


@settings(max_examples=50)
@given(st.binary(max_size=2000))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(MediaError):
        open_source(data, crop="none")


def test_a_jump_in_the_timestamps_is_refused_when_the_file_is_opened(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", numbered(3), times=[Fraction(0), Fraction(1), Fraction(12_000)])
    with pytest.raises(MediaError, match="stands still"):
        open_source(path, crop="none")


# ---- writing ----


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_video(target, (np.full((64, 64, 3), 9 // (2 - i), np.uint8) for i in range(3)))
    with pytest.raises(MediaError, match="no frames"), VideoWriter(target, size=64):
        pass
    with pytest.raises(MediaError, match="picture must be"), VideoWriter(target, size=64) as writer:
        writer.write(np.zeros((64, 65, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert target.read_bytes() == b"old"
    write_video(target, [np.zeros((64, 64, 3), np.uint8)])
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert len(greys(target)) == 1


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("a.avi", 64, {}, "must end in"),
        ("a.mp4", 64, {"lossless": True}, "mkv"),
        ("a.mp4", (63, 64), {}, "even"),
        ("a.mp4", 0, {}, "picture size"),
        ("none/a.mp4", 64, {}, "No such file or directory"),
        ("a.mp4", 64, {"fps": 0}, "fps"),
        ("a.mp4", 64, {"audio": np.zeros(5)}, "sample_rate"),
        ("a.mp4", 64, {"audio": np.zeros((5, 2)), "sample_rate": 8000}, "audio"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, size: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(MediaError, match=message), VideoWriter(tmp_path / name, size=size, **options):
        pass
    assert list(tmp_path.iterdir()) == []


def test_names_mean_nothing_to_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:1.mp4", "-.mp4", "a%03d.mp4", "concat:b.mp4", "a b'\u00e9.mp4"):
        write_video(name, numbered(3))
        assert len(greys(name)) == 3


def test_mp4_begins_with_its_index_and_keeps_rate_and_sound(tmp_path: Path) -> None:
    sound = 0.2 * np.sin(np.arange(22_050 * 2) / 8).astype(np.float32)
    write_video(tmp_path / "a.mp4", numbered(60), 30, sound, 22_050)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert video.average_rate == 30
        assert (audio.codec_context.name, video.frames) == ("aac", 60)
        assert float(there(audio.duration) * there(audio.time_base)) == pytest.approx(2, abs=0.1)
