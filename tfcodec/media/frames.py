"""Pictures out of a video file: upright, with square pixels, as RGB, with their times."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from tfcodec.errors import MediaError

if TYPE_CHECKING:
    import av
    import av.container

Picture = NDArray[np.uint8]

MAX_SIDE = 8192  # pixels; a frame of this size is 200 MB of RGB


def check_size(width: int, height: int) -> None:
    """Raise MediaError unless 1 <= width, height <= MAX_SIDE."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise MediaError(f"picture size {width}x{height} is outside 1x1 to {MAX_SIDE}x{MAX_SIDE}")


def scaled(width: int, height: int, scale: Fraction) -> tuple[int, int]:
    """A size times `scale`, at least 1x1."""
    return max(1, round(width * scale)), max(1, round(height * scale))


@contextmanager
def opened(file: BinaryIO, name: str) -> Iterator[av.container.InputContainer]:
    """A PyAV container on an open file, from its beginning, closed afterwards; PyAV's errors become MediaError.

    PyAV reads through the Python file object, so that names with special meaning to FFmpeg ("-",
    "concat:...", URLs) have none here, and a playlist inside the file cannot make it open other files or the
    network.
    """
    import av

    try:
        file.seek(0)
        with av.open(file, "r", options={"protocol_whitelist": "none"}, metadata_errors="replace") as container:
            yield container
    except MediaError:
        raise
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise MediaError(f"{name}: not a video that can be read, or damaged ({_reason(error)})") from error
    except av.error.FFmpegError as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """The first video stream that is no cover picture. Raises MediaError when there is none or it is too large."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise MediaError(f"{name}: its video is in a format that this build of FFmpeg cannot decode")
        if stream.codec_context.width or stream.codec_context.height:
            check_size(stream.codec_context.width, stream.codec_context.height)
        stream.thread_type = "AUTO"
        # the size may change within the stream
        stream.codec_context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
        return stream
    raise MediaError(f"{name}: has no video")


def frame_step(stream: av.VideoStream) -> Fraction:
    """How long one frame is shown where the file does not say: from the stream's average rate, else 1/25 s."""
    rate = stream.average_rate or stream.guessed_rate
    if rate is None or not 0 < rate <= 1000:
        return Fraction(1, 25)
    return 1 / Fraction(rate)


@dataclass(frozen=True)
class Orientation:
    """How stored pictures become upright ones: stretch to square pixels, then mirror, then quarter turns."""

    width: int  # of the upright picture, square pixels
    height: int
    mirror: bool  # left and right swapped, before turning
    turns: int  # quarter turns counter-clockwise

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: av.VideoStream) -> Orientation:
        """From a first frame: its size, its display matrix, and the stream's sample aspect ratio."""
        width, height = frame.width, frame.height
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        if aspect is not None and Fraction(1, 8) <= aspect <= 8 and aspect != 1:
            # the longer way is stretched, so that no detail is lost
            if aspect > 1:
                width = max(1, round(width * aspect))
            else:
                height = max(1, round(height / aspect))
        check_size(width, height)
        mirror, turns = _display_matrix(frame)
        if turns % 2:
            width, height = height, width
        return cls(width, height, mirror, turns)

    def upright(self, frame: av.VideoFrame, reformatter: Any, scale: Fraction = Fraction(1)) -> Picture:
        """The frame as [height, width, 3] uint8 RGB. A frame of another size (the stream may change it) is scaled."""
        from av.video.reformatter import Interpolation

        width, height = scaled(self.width, self.height, scale)
        if self.turns % 2:
            width, height = height, width
        if frame.width == width and frame.height == height and frame.colorspace != _UNSPECIFIED:
            picture = cast(Picture, frame.to_ndarray(format="rgb24"))
        else:
            out = reformatter.reformat(
                frame,
                width=width,
                height=height,
                format="rgb24",
                src_colorspace=_guess_colorspace(frame),
                interpolation=Interpolation.BICUBIC if scale == 1 else Interpolation.AREA,
            )
            picture = cast(Picture, out.to_ndarray())
        if self.mirror:
            picture = picture[:, ::-1]
        if self.turns:
            picture = np.rot90(picture, self.turns)
        return np.ascontiguousarray(picture)


_UNSPECIFIED = 2


def _guess_colorspace(frame: av.VideoFrame) -> Any:
    # Untagged video: players take BT.709 from 720 lines up and BT.601 below, swscale alone takes BT.601
    # always.
    from av.video.reformatter import Colorspace

    if frame.colorspace != _UNSPECIFIED:
        return None
    return Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601


def _display_matrix(frame: av.VideoFrame) -> tuple[bool, int]:
    """(mirror, quarter turns counter-clockwise) from the display matrix; turns by other angles are not honoured."""
    from av.sidedata.sidedata import Type

    side_data = cast(Any, frame.side_data)
    raw = bytes(side_data[Type.DISPLAYMATRIX]) if Type.DISPLAYMATRIX in side_data else b""
    if len(raw) < 36:
        return False, 0
    # 3x3 of 16.16 fixed point, row vectors: (x', y') = (x, y) [[a, b], [c, d]], y downwards
    a, b, _, c, d, *_ = struct.unpack("=9i", raw[:36])
    mirror = a * d - b * c < 0
    if mirror:
        a, b = -a, -b  # mirror first, the rest is a rotation
    if abs(a) >= abs(b):
        return mirror, 0 if a >= 0 else 2
    return mirror, 3 if b > 0 else 1


def timed_frames(
    container: av.container.InputContainer, stream: av.VideoStream, step: Fraction, name: str
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Decoded frames with their times in seconds since the first of them.

    Raises MediaError for a packet that cannot be decoded, but not before the first frame: a recording that
    was cut out of a running stream begins with packets that refer to pictures it does not have.
    """
    import av

    first: Fraction | None = None
    index = 0
    base = stream.time_base or Fraction(1, 1000)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if first is None:
                continue
            at = float(index * step)
            raise MediaError(f"{name}: damaged at about {at:.1f} s, frame {index} ({_reason(error)})") from error
        for frame in frames:
            stamp = frame.pts if frame.pts is not None else frame.dts
            # a frame may bring its own time base, a stream without timestamps has none
            time = stamp * Fraction(frame.time_base or base) if stamp is not None else None
            if first is None:
                first = time if time is not None else Fraction(0)
            yield (time - first if time is not None else index * step), frame
            index += 1
