"""Writes the odd inputs' files, with PyAV: pictures whose grey tells the time, tones, packets as they are."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

RATE = 25


def shade(time: float) -> float:
    """The grey that a picture has at a time in seconds."""
    return 16 + 50 * (time % 4)


def shades(count: int, width: int = 64, height: int = 64, rate: float = RATE) -> list[np.ndarray]:
    """``count`` pictures [height, width, 3] whose grey tells when they appear."""
    return [np.full((height, width, 3), round(shade(i / rate)), np.uint8) for i in range(count)]


def corners(width: int = 96, height: int = 64) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (220, 20, 20)
    picture[: height // 2, width // 2 :] = (20, 220, 20)
    picture[height // 2 :, : width // 2] = (20, 20, 220)
    picture[height // 2 :, width // 2 :] = (220, 220, 220)
    return picture


def tone(hertz: float, seconds: float, rate: int = 16_000, level: float = 0.4) -> np.ndarray:
    """A sine [n], of an amplitude of ``level``."""
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@dataclass
class Video:
    """A video track: pictures [h, w, 3] uint8, or frames of PyAV; ``times`` in seconds, else at ``rate``."""

    pictures: Sequence[Any]
    rate: int = RATE
    codec: str = "libx264"
    form: str = "yuv420p"
    times: Sequence[float] | None = None
    options: dict[str, str] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    default: bool | None = None
    rotation: int | None = None


@dataclass
class Sound:
    """A sound track: samples [channels, n], float."""

    samples: np.ndarray
    layout: str = "mono"
    codec: str = "flac"
    rate: int = 16_000
    default: bool | None = None


def write(path: Path, *tracks: Video | Sound, options: dict[str, str] | None = None) -> Path:
    """A file of these tracks."""
    with av.open(str(path), "w", options=options or {}) as out:
        made = [(track, _add(out, track)) for track in tracks]
        packets = []
        for track, stream in made:
            packets += _video(track, stream) if isinstance(track, Video) else _sound(track, stream)
        for packet in sorted(packets, key=lambda p: (p.dts or 0) * p.time_base):
            out.mux(packet)
    return path


def _add(out: Any, track: Video | Sound) -> Any:
    if isinstance(track, Sound):
        stream = out.add_stream(track.codec, rate=track.rate, layout=track.layout)
    else:
        options = {"crf": "4", "preset": "ultrafast", **track.options} if track.codec == "libx264" else track.options
        stream = out.add_stream(track.codec, rate=track.rate, options=options)
        first = track.pictures[0]
        stream.height, stream.width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        stream.pix_fmt = track.form
        stream.codec_context.time_base = Fraction(1, 1000) if track.times else Fraction(1, track.rate)
        for name, value in track.tags.items():
            setattr(stream.codec_context, name, value)
        if track.rotation is not None:
            stream.set_display_rotation(track.rotation)
    if track.default is not None:
        stream.disposition = Disposition.default if track.default else Disposition(0)
    return stream


def _video(track: Video, stream: Any) -> list[Any]:
    packets = []
    base = stream.codec_context.time_base or Fraction(1, track.rate)
    for i, picture in enumerate(track.pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24") if isinstance(picture, np.ndarray) else picture
        frame.time_base = base
        frame.pts = round(track.times[i] / base) if track.times else i
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _sound(track: Sound, stream: Any) -> list[Any]:
    samples = np.ascontiguousarray(track.samples.T.reshape(1, -1), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=track.layout)
    frame.sample_rate, frame.time_base, frame.pts = track.rate, Fraction(1, track.rate), 0
    packets = []
    for part in av.AudioResampler(format=stream.format.name).resample(frame):
        packets += stream.encode(part)
    return packets + stream.encode(None)


def jpeg(picture: np.ndarray, orientation: int | None = None) -> bytes:
    """A JPEG file, with an EXIF orientation (1 to 8) if one is given."""
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.time_base = "yuvj444p", Fraction(1, RATE)
    context.options = {"qmin": "1", "qmax": "1"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj444p")
    data = b"".join(bytes(packet) for packet in context.encode(frame) + context.encode(None))
    if orientation is None:
        return data
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def write_packets(path: Path, codec: str, size: tuple[int, int], packets: Iterable[bytes]) -> Path:
    """A file of one video track with these packets, 25 a second."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj444p" if codec == "mjpeg" else "yuv420p"
        for i, data in enumerate(packets):
            packet: Any = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, RATE)
            packet.pts = packet.dts = i
            packet.is_keyframe = True
            out.mux(packet)
    return path
