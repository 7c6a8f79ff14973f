"""The kinds of odd inputs, each named by its fault, with the right value beside it. A new report becomes a line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from .make import Sound, Video, corners, jpeg, shade, shades, tone, write, write_packets

Make = Callable[[Path], Path]


@dataclass(frozen=True)
class Kind:
    """An odd input, and what must become of it.

    Attributes:
        name: of the fault.
        make: writes the input into a folder.
        seconds: duration.
        size: of the upright picture.
        grey: the grey at a time in seconds; each of the 25 frames a second is held against it at its middle.
        picture: the first picture [h, w, 3], upright.
        loudness: root mean square of the sound.
        hertz: of the tone that is heard.
        combs: whether every other line is of another time.
        together: the flash and the click are within a frame of each other.
        warnings: regular expressions, one for each warning, in order.
        error: regular expression of the error that says why it cannot be read.
    """

    name: str
    make: Make
    seconds: float | None = None
    size: tuple[int, int] | None = None
    grey: Callable[[float], float] | None = None
    picture: np.ndarray | None = None
    loudness: float | None = None
    hertz: float | None = None
    combs: bool | None = None
    together: bool = False
    warnings: tuple[str, ...] = ()
    error: str | None = None
    tolerance: float = 3.0


SINE = 0.4 / 2**0.5
B_FRAMES = {"preset": "medium", "x264-params": "bframes=3:b-adapt=0:keyint=250"}


def _stepped(rate: float) -> Callable[[float], float]:
    """The grey on the screen when pictures come at ``rate``."""
    return lambda time: shade(int(time * rate + 1e-6) / rate)


# 1: side data


def exif(orientation: int) -> Make:
    return lambda folder: _file(folder / "a.jpg", jpeg(corners(), orientation))


def mjpeg_exif(suffix: str) -> Make:
    return lambda folder: write_packets(folder / f"a.{suffix}", "mjpeg", (96, 64), [jpeg(corners(), 6)] * 5)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def png(folder: Path) -> Path:
    return write(folder / "a.png", Video([corners()], codec="png", form="rgb24"))


# 3, 12: times


def pause(suffix: str) -> Make:
    times = [i / 25 + 3 * (i >= 15) for i in range(30)]
    return lambda folder: write(
        folder / f"a.{suffix}", Video([_paint(t) for t in times], times=times, options=B_FRAMES)
    )


def _paint(time: float, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), round(shade(time)), np.uint8)


def _paused(time: float) -> float:
    at = int(time * 25 + 1e-6) / 25
    return shade(0.56 if 0.56 < at < 3.6 else at)


def b_frames(suffix: str, codec: str) -> Make:
    options = B_FRAMES if codec == "libx264" else {"bf": "2", "qmin": "1", "qmax": "2"}
    return lambda folder: write(folder / f"a.{suffix}", Video(shades(50), codec=codec, options=options))


def flash(suffix: str, codec: str, sound: str) -> Make:
    """A white frame 0.8 s after the beginning, and a click."""
    options = B_FRAMES if codec == "libx264" else {"bf": "2", "qmin": "1", "qmax": "2"}
    pictures = [np.full((64, 64, 3), 235 if i == 20 else 20, np.uint8) for i in range(40)]
    click = np.zeros((1, 25_600))
    click[0, 12_800:12_832] = 0.9
    return lambda folder: write(
        folder / f"a.{suffix}", Video(pictures, codec=codec, options=options), Sound(click, codec=sound)
    )


# 4: tracks


def two_video_tracks(folder: Path) -> Path:
    small = Video([np.full((64, 64, 3), 200, np.uint8)] * 10, default=False)
    large = Video([np.full((64, 96, 3), 60, np.uint8)] * 10, default=True)
    return write(folder / "a.mkv", small, large)


def two_equal_video_tracks(folder: Path) -> Path:
    small = Video([np.full((64, 64, 3), 200, np.uint8)] * 10, default=True)
    large = Video([np.full((64, 96, 3), 60, np.uint8)] * 10, default=True)
    return write(folder / "a.mkv", small, large)


def two_sound_tracks(folder: Path) -> Path:
    first = Sound(tone(300, 1)[None], default=False)
    return write(folder / "a.mkv", Video(shades(25)), first, Sound(tone(1000, 1)[None], default=True))


def cover_picture(folder: Path) -> Path:
    from av.stream import Disposition

    with av.open(str(folder / "a.mp4"), "w") as out:
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj444p"
        cover.disposition = Disposition.attached_pic
        stream: Any = out.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        packet: Any = av.Packet(jpeg(corners()))
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 25)
        out.mux(packet)
        for i, picture in enumerate(shades(25)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return folder / "a.mp4"


# 5: wide range and gamut


def ramp(transfer: int, signals: tuple[float, ...], primaries: int = 9, form: str = "yuv420p10le") -> Make:
    """Grey patches of 32x64 with these signals, 0..1."""

    def make(folder: Path) -> Path:
        frame = av.VideoFrame(32 * len(signals), 64, form)
        for number, plane in enumerate(frame.planes):
            levels = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
            levels[:] = 512
            for i, signal in enumerate(signals if number == 0 else ()):
                levels[:, 32 * i : 32 * i + 32] = round(64 + 876 * signal)
        tags = {"color_trc": transfer, "color_primaries": primaries, "colorspace": 9, "color_range": 1}
        for name, value in tags.items():
            setattr(frame, name, value)
        return write(folder / "a.mkv", Video([frame], codec="ffv1", form=form, tags=tags))

    return make


def _patches(levels: tuple[int, ...]) -> np.ndarray:
    return np.repeat(np.array(levels, np.uint8), 32)[None, :, None] * np.ones((64, 1, 3), np.uint8)


# 6: sizes


def changing_size(*sizes: tuple[int, int]) -> Make:
    """Half a second of each size, in an MPEG transport stream; the picture is white."""

    def make(folder: Path) -> Path:
        path = folder / "a.ts"
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream("libx264", rate=25)
            stream.width, stream.height = sizes[0]
            stream.pix_fmt = "yuv420p"
            for part, (width, height) in enumerate(sizes):
                context: Any = av.CodecContext.create("libx264", "w")
                context.width, context.height, context.pix_fmt = width, height, "yuv420p"
                context.time_base, context.options = Fraction(1, 25), {"crf": "4", "tune": "zerolatency"}
                white = np.full((height, width, 3), 235, np.uint8)
                for i in [*range(12), None]:
                    frame = None
                    if i is not None:
                        frame = av.VideoFrame.from_ndarray(white, format="rgb24")
                        frame.pts, frame.time_base = 12 * part + i, Fraction(1, 25)
                    for packet in context.encode(frame):
                        packet.stream, packet.time_base = stream, Fraction(1, 25)
                        out.mux(packet)
        return path

    return make


# 7, 16: channels


def channels(layout: str, gains: tuple[float, ...], codec: str = "pcm_s16le") -> Make:
    samples = np.stack([gain * tone(440, 1) for gain in gains])
    return lambda folder: write(folder / "a.mkv", Video(shades(25)), Sound(samples, layout, codec))


# 8: what used to be accepted in silence


def moving(count: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    wall = np.kron(rng.integers(0, 255, (24, 24, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return [np.ascontiguousarray(wall[i : i + 64, 2 * i % 96 :][:, :64]) for i in range(count)]


def corrupt(folder: Path) -> Path:
    """A keyframe every 20 frames; the packet of frame 25 is overwritten."""
    path = write(folder / "a.mp4", Video(moving(), options={"g": "20", "bf": "0"}))
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][25]
        place, size = int(packet.pos or 0), packet.size
    data = bytearray(path.read_bytes())
    data[place + 6 : place + size] = b"\xff" * (size - 6)
    return _file(path, bytes(data))


def fragmented_cut(folder: Path) -> Path:
    path = write(
        folder / "a.mp4", Video(moving(100), rate=25, options={"g": "25", "bf": "0"}),
        options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )  # fmt: skip
    data = path.read_bytes()
    return _file(path, data[: data.rindex(b"moof") + 600])


def interlaced(folder: Path) -> Path:
    """A white bar that moves 8 pixels from one field to the next, the top field first."""
    frames = []
    for i in range(12):
        picture = np.full((64, 96, 3), 30, np.uint8)
        for line in (0, 1):
            left = 8 * (2 * i + line) % 80
            picture[line::2, left : left + 12] = 220
        frames.append(picture)
    return write(
        folder / "a.mkv", Video(frames, options={"x264-params": "tff=1:bframes=0", "preset": "ultrafast", "crf": "1"})
    )


def alpha(folder: Path) -> Path:
    """Left half opaque grey 120; right half fully transparent over a hidden bright red."""
    frame = np.zeros((64, 96, 4), np.uint8)
    frame[:, :48] = (120, 120, 120, 255)
    frame[:, 48:] = (255, 0, 0, 0)
    made = av.VideoFrame.from_ndarray(frame, format="rgba")
    return write(folder / "a.mov", Video([made] * 3, codec="qtrle", form="argb"))


def _over_black() -> np.ndarray:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :48] = 120
    return picture


def turned(angle: int) -> Make:
    return lambda folder: write(folder / "a.mp4", Video([corners()] * 3, rotation=angle))


STILL = ("single picture, which is shown for",)

KINDS = (
    *(Kind(f"exif-{n}", exif(n), picture=made, size=(made.shape[1], made.shape[0]), warnings=STILL) for n, made in {
        1: corners(), 2: corners()[:, ::-1], 3: np.rot90(corners(), 2), 4: corners()[::-1],
        5: np.rot90(corners()[:, ::-1]), 6: np.rot90(corners(), 3), 7: np.rot90(corners()[:, ::-1], 3),
        8: np.rot90(corners()),
    }.items()),
    Kind("exif-mjpeg-avi", mjpeg_exif("avi"), seconds=0.2, picture=np.rot90(corners(), 3)),
    Kind("exif-mjpeg-mkv", mjpeg_exif("mkv"), seconds=0.2, picture=np.rot90(corners(), 3)),
    Kind("png", png, picture=corners(), seconds=0.04, warnings=STILL),
    Kind("empty-file", lambda folder: _file(folder / "a.mp4", b""), error="a.mp4: is empty"),
    Kind("empty-device", lambda folder: Path(os.devnull), error="is empty"),
    Kind("pause-with-b-frames", pause("mp4"), seconds=4.2, grey=_paused),
    Kind("pause-with-b-frames-mkv", pause("mkv"), seconds=4.2, grey=_paused),
    Kind("avi-b-frames-h264", b_frames("avi", "libx264"), seconds=2, grey=_stepped(25)),
    Kind("avi-b-frames-mpeg4", b_frames("avi", "mpeg4"), seconds=2, grey=_stepped(25)),
    Kind("wmv-b-frames-h264", b_frames("wmv", "libx264"), seconds=2, grey=_stepped(25)),
    Kind("wmv-b-frames-mpeg4", b_frames("wmv", "mpeg4"), seconds=2, grey=_stepped(25)),
    Kind("avi-lip-sync", flash("avi", "libx264", "pcm_s16le"), together=True),
    Kind("avi-mpeg4-lip-sync", flash("avi", "mpeg4", "pcm_s16le"), together=True),
    Kind("wmv-lip-sync", flash("wmv", "libx264", "pcm_s16le"), together=True),
    Kind("b-frames-lip-sync", flash("mp4", "libx264", "aac"), together=True),
    Kind("h264-alone", b_frames("h264", "libx264"), seconds=2, grey=_stepped(25)),
    Kind("two-video-tracks", two_video_tracks, size=(96, 64), grey=lambda time: 60),
    Kind("two-equal-video-tracks", two_equal_video_tracks, size=(96, 64), warnings=("2 video tracks.*96x64",)),
    Kind("two-sound-tracks", two_sound_tracks, hertz=1000, loudness=SINE),
    Kind("cover-picture", cover_picture, size=(64, 64), seconds=1),
    # reference: 18 % grey at 38 % is 26 cd/m2, white at 75 % (HLG) and 58 % (PQ) 203 cd/m2 (ITU-R BT.2408, table 1)
    Kind(
        "hlg", ramp(18, (0, 0.22, 0.38, 0.55, 0.75, 1)), picture=_patches((0, 62, 108, 158, 230, 255)), warnings=STILL
    ),
    Kind(
        "pq", ramp(16, (0, 0.2, 0.38, 0.45, 0.58, 0.7518)), picture=_patches((0, 39, 107, 146, 230, 255)),
        warnings=STILL,
    ),
    Kind("bt2020-sdr", ramp(14, (0, 0.25, 0.5, 1)), picture=_patches((0, 64, 128, 255)), warnings=STILL),
    Kind("size-grows", changing_size((32, 32), (64, 64)), seconds=0.96, size=(64, 64), grey=lambda time: 235),
    Kind("phone-turned", changing_size((96, 64), (64, 96)), seconds=0.96, size=(96, 64)),
    Kind("anti-phase", channels("stereo", (1, -1)), loudness=SINE),
    Kind("one-side-only", channels("stereo", (0, 1)), loudness=SINE),
    Kind("one-side-louder", channels("stereo", (1, 0.3)), loudness=SINE),
    Kind("stereo", channels("stereo", (1, 1)), loudness=SINE),
    Kind("centre-of-5.1", channels("5.1", (0, 0, 1, 0, 0, 0)), loudness=SINE),
    Kind("front-of-5.1", channels("5.1(side)", (1, 1, 0, 0, 0, 0)), loudness=SINE),
    Kind("bass-only-of-5.1", channels("5.1", (0, 0, 1, 1, 0, 0)), loudness=SINE),
    Kind("one-of-7.1", channels("7.1", (0, 0, 1, 0, 0, 0, 0, 0)), loudness=SINE),
    Kind("one-of-4-unknown", channels("4 channels", (0, 0, 1, 0)), loudness=SINE),
    Kind("corrupt-middle", corrupt, seconds=2.4, warnings=(r"damaged from 1\.0 s to 1\.6 s",)),
    Kind("fragmented-cut", fragmented_cut, seconds=3.04, warnings=(r"cut short.*after 3\.0 s",)),
    Kind("interlaced", interlaced, size=(96, 64), seconds=0.48, combs=False),
    Kind("alpha", alpha, picture=_over_black()),
    Kind("turned-90", turned(90), picture=np.rot90(corners())),
    Kind("turned-30", turned(30), picture=corners(), warnings=("stay turned by 30 degrees",)),
)  # fmt: skip
