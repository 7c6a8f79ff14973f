"""Writing videos: H.264 with AAC in MP4 for players, FFV1 with PCM in Matroska where every bit counts."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfcodec import arguments
from tfcodec.errors import MediaError
from tfcodec.files import check_place, destination, is_special, put_in_place, temporary_prefix
from tfcodec.media import threads
from tfcodec.media.frames import check_size
from tfcodec.media.timing import checked_rate
from tfcodec.resample import is_rate, resample

if TYPE_CHECKING:
    import av

CRF = 14
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_BT709 = 1  # the number of BT.709 in the tables of primaries, transfer and matrix alike (ITU-T H.273)
_MPEG_RANGE = 1


class VideoWriter:
    """Writes pictures, and sound, to a video file. A context manager.

    Writes under a temporary name in the same directory; leaving the `with` block renames it to `path`,
    leaving it by an exception deletes it, so that `path` never holds half a video. A link is followed; into a
    device or a named pipe the finished video is written.

    path         .mp4 (or .m4v, .mov, .mkv); .mkv with lossless=True
    fps          frames per second
    size         width, or (width, height), of the pictures; both even unless lossless
    audio        float [n] mono samples in -1...1 that begin with the first picture, or None; with write_sound
                 more follow, () being none to begin with
    sample_rate  of `audio`, Hz
    crf          of H.264: 14 for pictures to keep, more for smaller files
    lossless     FFV1 RGB with 32-bit float PCM, which gives back exactly what was written; otherwise H.264
                 with AAC, tagged BT.709 and laid out so that browsers can begin to play it before they have
                 all of it

    Raises MediaError when something cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float = 25.0,
        size: int | tuple[int, int] = 256,
        audio: ArrayLike | None = None,
        sample_rate: float | None = None,
        lossless: bool = False,
        crf: int = CRF,
    ) -> None:
        self.path = arguments.path("out", path)
        self.lossless = lossless
        self._crf = crf
        self.width, self.height = (size, size) if isinstance(size, int) else size
        check_size(self.width, self.height)
        self._format = _container_format(self.path, lossless)
        if not lossless and (self.width % 2 or self.height % 2):
            raise MediaError(f"H.264 needs an even width and height, not {self.width}x{self.height}")
        self.fps = checked_rate(fps).limit_denominator(1001)
        self._sound = _Sound(audio, sample_rate, lossless) if audio is not None else None
        self.frames_written = 0
        self._container: Any = None
        self._video: Any = None
        self._reformatter: Any = None
        self._target = destination(self.path)
        # Beside its place, or, if that is a device or a pipe, where temporary files are; absolute, so that FFmpeg takes
        # no part of it for a protocol.
        folder = Path(tempfile.gettempdir()) if is_special(self._target) else self._target.absolute().parent
        self._temporary = folder / f"{temporary_prefix(self._target)}{secrets.token_hex(4)}.tmp"

    def __enter__(self) -> VideoWriter:
        import av
        from av.video.reformatter import VideoReformatter

        check_place(self.path)
        options = {"movflags": "faststart"} if self._format in ("mp4", "mov") else {}
        try:
            self._container = av.open(str(self._temporary), "w", format=self._format, options=options)
            self._video = self._add_video()
            if self._sound is not None:
                self._sound.add_to(self._container)
        except (av.error.FFmpegError, OSError) as error:
            self._discard()
            raise MediaError(f"{self.path}: cannot be written ({error})") from error
        self._reformatter = VideoReformatter()
        return self

    def _add_video(self) -> Any:
        if self.lossless:
            # slicecrc: the file itself tells when it was damaged
            options = {"level": "3", "slicecrc": "1", "g": "1"}
            stream = self._container.add_stream("ffv1", rate=self.fps, options=options)
            stream.pix_fmt = "bgr0"
        else:
            options = {"crf": str(self._crf), "preset": "fast"}
            stream = self._container.add_stream("libx264", rate=self.fps, options=options)
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = _BT709
            context.color_range = _MPEG_RANGE
        stream.codec_context.thread_count = threads.count
        stream.width, stream.height = self.width, self.height
        stream.codec_context.time_base = 1 / self.fps
        return stream

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add a picture, [height, width, 3] uint8 RGB."""
        import av
        from av.video.reformatter import Colorspace, Interpolation

        if self._container is None:
            raise MediaError("VideoWriter is used inside a with block")
        picture = np.asarray(frame)
        if picture.dtype != np.uint8 or picture.shape != (self.height, self.width, 3):
            raise MediaError(f"picture must be uint8 [{self.height}, {self.width}, 3], not {list(picture.shape)}")
        try:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if self.lossless:
                image = self._reformatter.reformat(image, format="bgr0")
            else:
                image = self._reformatter.reformat(
                    image,
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
                )
            image.pts, image.time_base = self.frames_written, 1 / self.fps
            self._container.mux(self._video.encode(image))
            self.frames_written += 1
            if self._sound is not None:
                self._sound.write_until(self._container, self.frames_written / self.fps)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: cannot be written ({error})") from error

    def write_sound(self, samples: ArrayLike) -> None:
        """Add sound, float [n], before the pictures that it goes with; only to a video made with ``audio``."""
        if self._sound is None:
            raise MediaError(f"{self.path}: this video is written without sound")
        self._sound.add(samples)

    @property
    def samples_written(self) -> int:
        """Samples of sound that the writer has been given."""
        return 0 if self._sound is None else self._sound.given

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        import av

        if kind is not None:
            self._discard()
            return
        try:
            if not self.frames_written:
                raise MediaError(f"{self.path}: no frames to write")
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.finish(self._container)
            self._container.close()
            self._container = None
            put_in_place(self._temporary, self._target)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: cannot be written ({error})") from error
        finally:
            self._discard()

    def _discard(self) -> None:
        import contextlib

        import av

        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
            self._container = None
        self._temporary.unlink(missing_ok=True)


class _Sound:
    """The sound of a file being written, encoded along with the pictures so that the two lie side by side in it."""

    def __init__(self, audio: ArrayLike, sample_rate: float | None, lossless: bool) -> None:
        if sample_rate is None or not is_rate(sample_rate):
            raise MediaError(f"audio needs a whole sample_rate from 1000 to 768000 Hz, not {sample_rate!r}")
        self._codec = "pcm_f32le" if lossless else "aac"
        self._rate = int(sample_rate)
        self._samples = np.zeros(0, np.float32)  # those that are not written yet
        self.given = self._done = 0
        self._stream: Any = None
        first = _checked_sound(audio)
        if not lossless and self._rate not in _AAC_RATES:
            first = np.clip(np.nan_to_num(first), -1, 1)
            first, self._rate = resample(first, self._rate, 48_000), 48_000
            self._fixed = True
        else:
            self._fixed = False
        self._take(first)

    def add(self, samples: ArrayLike) -> None:
        if self._fixed:
            raise MediaError(f"sound can be added at the rates of AAC only: {', '.join(map(str, _AAC_RATES))} Hz")
        self._take(_checked_sound(samples))

    def _take(self, samples: NDArray[np.float32]) -> None:
        self.given += len(samples)
        if self._codec == "aac":
            samples = np.clip(np.nan_to_num(samples), -1, 1)
        self._samples = np.concatenate([self._samples, samples])

    def add_to(self, container: Any) -> None:
        self._stream = container.add_stream(self._codec, rate=self._rate, layout="mono")
        if self._codec == "aac":
            self._stream.bit_rate = min(96_000, 6 * self._rate)

    def write_until(self, container: Any, seconds: Fraction) -> None:
        self._write(container, min(self.given, int(seconds * self._rate)))

    def _write(self, container: Any, stop: int) -> None:
        import av

        count = stop - self._done
        if count <= 0:
            return
        block = np.ascontiguousarray(self._samples[None, :count])
        form = "flt" if self._codec == "pcm_f32le" else "fltp"
        frame: av.AudioFrame = av.AudioFrame.from_ndarray(block, format=form, layout="mono")
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._done, Fraction(1, self._rate)
        container.mux(self._stream.encode(frame))
        self._samples, self._done = self._samples[count:], stop

    def finish(self, container: Any) -> None:
        self._write(container, self.given)
        container.mux(self._stream.encode(None))


def _checked_sound(audio: ArrayLike) -> NDArray[np.float32]:
    samples = np.asarray(audio) if np.size(audio) else np.zeros(0, np.float32)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise MediaError(f"audio must be float [n], not {samples.dtype} {list(samples.shape)}")
    return samples.astype(np.float32)


def _container_format(path: Path, lossless: bool) -> str:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS and is_special(path):  # a device or a pipe, whose name says nothing
        return "matroska"
    if lossless:
        if suffix != ".mkv":
            raise MediaError(f"{path}: a lossless video is written as .mkv (FFV1 in Matroska)")
        return "matroska"
    if suffix not in _FORMATS:
        raise MediaError(f"{path}: the name of a video must end in {', '.join(_FORMATS)}")
    return _FORMATS[suffix]


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[NDArray[np.uint8]],
    fps: float = 25.0,
    audio: ArrayLike | None = None,
    sample_rate: float | None = None,
    lossless: bool = False,
) -> None:
    """Write pictures (an iterable of [H, W, 3] uint8 RGB, all of one size) and sound to `path`; see VideoWriter.

    Raises MediaError when there are no pictures or they cannot be written.
    """
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise MediaError(f"{path}: no frames to write")
    shape = np.shape(first)
    if len(shape) != 3:
        raise MediaError(f"pictures must be [H, W, 3] uint8, not {list(shape)}")
    with VideoWriter(path, fps, (shape[1], shape[0]), audio, sample_rate, lossless) as writer:
        writer.write(first)
        for picture in pictures:
            writer.write(picture)
