"""Where the encoder's pictures and sound come from: `open_source` and `SourceClip`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfcodec import arguments
from tfcodec.errors import MediaError
from tfcodec.media import crop as crops
from tfcodec.media import frames, sound, timing
from tfcodec.media.notes import Notes
from tfcodec.media.scan import FilePictures, only_shown, scan

Picture = NDArray[np.uint8]
CropMode = Literal["auto", "none"]
Progress = Callable[[int, int], None]

MAX_FILE_BYTES = 16 << 30  # of a stream that has to be copied to disk first
SIZE = crops.SIZE


class SourceClip:
    """A clip as the codec takes it: 256x256 RGB pictures at exactly 25 a second, and 16 kHz mono sound.

    Made by `open_source`. Use it as a context manager, or call `close()`, to let go of the file.

    frame_count       number of pictures that `frames_iter` yields
    frame_count_hint  the same, under the name of interfaces that may not know it
    duration_seconds  frame_count / 25
    fps, sample_rate  25.0 and 16000
    audio             float32 [round(duration_seconds * 16000)], aligned with the first picture; None without
                      sound
    crop              list of (frame_index, x, y, size): from that picture on, the square taken out of the
                      source, in pixels of the upright source picture; None where the source is 256x256 and
                      taken as it is
    width, height     of the upright source picture, square pixels; of the largest one, if the size changes
    warnings          what could be read, but not as it was meant; grows as damage is come upon
    """

    fps = float(timing.FRAME_RATE)
    sample_rate = sound.SAMPLE_RATE

    def __init__(
        self, pictures: FilePictures | _ArrayPictures, audio: sound.Samples | None, held: ExitStack, notes: Notes
    ) -> None:
        self._pictures = pictures
        self.warnings = notes.warnings
        self._held = held
        self.audio = audio
        self.frame_count = timing.frame_count(pictures.end)
        self.frame_count_hint: int | None = self.frame_count
        self.duration_seconds = self.frame_count / self.fps
        self.width, self.height = pictures.width, pictures.height
        self.crop: list[tuple[int, int, int, int]] | None = None

    def frames_iter(self) -> Iterator[Picture]:
        """Yield the clip's pictures, [256, 256, 3] uint8 RGB, from the first on; may be called again.

        Decodes as it goes, so that a long video is never in memory. Raises MediaError where the file turns
        out to be damaged or to end early.
        """
        if self.crop is None:
            yield from self.upright_iter()
            return
        cropper = crops.Cropper(self.crop)
        last: tuple[int, Picture, Picture] | None = None
        for index, picture in enumerate(self.upright_iter()):
            key = cropper.key(index)
            # not again where a frame is shown twice
            if last is None or last[0] != key or last[1] is not picture:
                last = (key, picture, cropper.cut(index, picture))
            yield last[2]

    def upright_iter(self, scale: Fraction = Fraction(1)) -> Iterator[Picture]:
        """Yield the whole source pictures, uint8 RGB, at 25 a second, before cropping.

        They are [height, width, 3], with a `scale` below 1 made smaller by that.
        """
        try:
            yield from timing.at_constant_rate(self._pictures.timed(scale), self._pictures.end)
        except (OSError, ValueError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError(f"{self._pictures.name}: cannot be read ({error})") from error

    def close(self) -> None:
        """Let go of the file, and delete the temporary copy where there is one."""
        self._held.close()

    def __enter__(self) -> SourceClip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | ArrayLike,
    *,
    audio: ArrayLike | None = None,
    sample_rate: float | None = None,
    fps: float | None = None,
    crop: CropMode = "auto",
    progress: Progress | None = None,
    strict: bool = False,
    warn: Callable[[str], None] | None = None,
    device: str = "cpu",
) -> SourceClip:
    """Open a video for encoding.

    source       path, the bytes of a video file, a binary file object (read to its end from where it is; it
                 need not be seekable), or pictures [T, H, W, 3] uint8 RGB
    audio        [n] or [n, channels], float in -1...1 or int16; with a video file it replaces the file's own
                 sound
    sample_rate  of `audio`, Hz; needed with it
    fps          of pictures given as an array, where it is needed; not allowed with a file, which knows its
                 own
    crop         "auto": find the face and keep a steady square around it. "none": the centre square.
                 A source of 256x256 is taken as it is in both cases.
    progress     called as progress(done, total) while the face is looked for, in frames
    strict       make an error of what would be a warning
    warn         called with each warning, besides its being listed in the clip's `warnings`
    device       where the face is looked for, as torch calls it

    Raises MediaError for what cannot be read or has no pictures, NoFaceError when crop="auto" finds no face.
    """
    if crop not in ("auto", "none"):
        raise MediaError(f'crop must be "auto" or "none", not {crop!r}')
    notes = Notes("pictures", strict=strict, warn=warn)
    with ExitStack() as held:
        pictures: FilePictures | _ArrayPictures
        track: sound.Samples | None = None
        if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read"):
            if fps is not None:
                raise MediaError("fps= is for pictures given as an array; a file has its own frame rate")
            file, notes.name = _as_file(cast(Any, source), held)
            pictures, track = scan(file, notes, want_audio=audio is None)
        else:
            pictures = _array_pictures(cast(ArrayLike, source), fps)
        duration = Fraction(timing.frame_count(pictures.end), timing.FRAME_RATE)
        if audio is not None:
            track = sound.from_array(audio, sample_rate, duration)
        clip = SourceClip(pictures, track, held, notes)
        if (clip.width, clip.height) != (SIZE, SIZE):
            if crop == "auto":
                from tfcodec.media import face

                def scale(short_side: int) -> Fraction:
                    return min(Fraction(1), Fraction(short_side, min(clip.width, clip.height)))

                found = face.track(
                    lambda side: clip.upright_iter(scale(side)),
                    lambda side: float(1 / scale(side)),
                    clip.frame_count,
                    progress,
                    device,
                )
                clip.crop = crops.plan(found, clip.width, clip.height)
            else:
                clip.crop = [crops.centre_square(clip.width, clip.height)]
        clip._held = held.pop_all()
        return clip


def _as_file(source: str | os.PathLike[str] | bytes | BinaryIO, held: ExitStack) -> tuple[BinaryIO, str]:
    if isinstance(source, (str, os.PathLike)):
        path = arguments.path("source", source)
        if path.is_dir():
            raise MediaError(f"{path}: is a directory, not a video")
        if not path.exists():
            raise MediaError(f"{path}: no such file")
        if path.is_file():
            try:
                if not path.stat().st_size:
                    raise MediaError(f"{path}: is empty")
                return held.enter_context(path.open("rb")), str(path)
            except OSError as error:
                raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            with path.open("rb") as pipe:  # a named pipe or a device
                return _spooled(pipe, held), str(path)
        except OSError as error:
            raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        import io

        return held.enter_context(io.BytesIO(source)), f"video of {len(source)} bytes"
    name = getattr(source, "name", None)
    return _spooled(source, held), name if isinstance(name, str) else "video stream"


def _spooled(stream: BinaryIO, held: ExitStack) -> BinaryIO:
    # Several passes are made over a video, and its index may be at its end: a pipe must be on disk first.
    file = cast(BinaryIO, held.enter_context(tempfile.TemporaryFile(prefix="tfcodec-")))  # noqa: SIM115
    total = 0
    try:
        while (block := stream.read(1 << 20)) is None or len(block):
            if block is None:  # what is there already would be taken for all
                raise MediaError("video stream gives nothing yet: one that does not wait for its data cannot be read")
            if not isinstance(block, (bytes, bytearray, memoryview)):
                raise MediaError("source must be opened in binary mode: its read() returns text")
            total += len(block)
            if total > MAX_FILE_BYTES:
                raise MediaError(f"video stream is longer than {MAX_FILE_BYTES >> 30} GiB")
            file.write(block)
    except MediaError:
        raise
    except (OSError, ValueError) as error:  # a ValueError: the file is closed, or holds no text
        raise MediaError(f"video stream cannot be read or stored ({error})") from error
    if not total:
        raise MediaError("video stream is empty")
    return file


@dataclass(frozen=True)
class _ArrayPictures:
    pictures: Picture
    fps: Fraction
    name: str = "pictures"

    @property
    def end(self) -> Fraction:
        return len(self.pictures) / self.fps

    @property
    def width(self) -> int:
        return int(self.pictures.shape[2])

    @property
    def height(self) -> int:
        return int(self.pictures.shape[1])

    def timed(self, scale: Fraction) -> Iterator[tuple[Fraction, Picture]]:
        for time, index in only_shown((index / self.fps, index) for index in range(len(self.pictures))):
            picture = np.ascontiguousarray(self.pictures[index])
            yield (
                time,
                picture if scale == 1 else crops.resize(picture, *frames.scaled(self.width, self.height, scale)),
            )


def _array_pictures(source: ArrayLike, fps: float | None) -> _ArrayPictures:
    if source is None or isinstance(source, (int, float)):
        raise MediaError(f"source must be a path, bytes, a binary file or pictures, not {type(source).__name__}")
    try:
        pictures = np.asarray(source)
    except (TypeError, ValueError) as error:
        raise MediaError(f"pictures must be one array [T, H, W, 3] ({error})") from None
    if pictures.dtype != np.uint8:
        raise MediaError(f"pictures must be uint8, not {pictures.dtype}")
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise MediaError(f"pictures must have shape [T, H, W, 3], not {list(pictures.shape)}")
    if not len(pictures):
        raise MediaError("video has no frames")
    frames.check_size(pictures.shape[2], pictures.shape[1])
    if fps is None:
        raise MediaError("pictures given as an array need fps=")
    rate = _rate(fps)
    if len(pictures) / rate > timing.MAX_SECONDS:
        raise MediaError(f"pictures last longer than the limit of {timing.MAX_SECONDS} s")
    return _ArrayPictures(pictures, rate)


def _rate(fps: float) -> Fraction:
    """A frame rate as a fraction: 29.97 is 30000/1001. Raises MediaError outside 0.1 to 1000."""
    rate = timing.checked_rate(fps)
    for scale in (24, 30, 48, 60, 120):
        ntsc = Fraction(scale * 1000, 1001)
        if abs(ntsc - rate) < Fraction(1, 200):
            return ntsc
    return rate.limit_denominator(1001)
