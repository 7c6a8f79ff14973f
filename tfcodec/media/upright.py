"""Decoded frames as upright pictures with square pixels, RGB of BT.709, all of one size."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from tfcodec.media import tone
from tfcodec.media.frames import check_size, scaled
from tfcodec.media.notes import Notes

if TYPE_CHECKING:
    import av

Picture = NDArray[np.uint8]

_UNSPECIFIED = 2
_NEWEST_SIDE_DATA = range(28, 48)
"""Kinds of side data (AV_FRAME_DATA_...) that PyAV, up to 18.1, does not know and fails on."""


@dataclass(frozen=True)
class Orientation:
    """How stored pictures become upright ones: stretch to square pixels, then mirror, then quarter turns."""

    width: int  # of the upright picture, square pixels
    height: int
    mirror: bool  # left and right swapped, before turning
    turns: int  # quarter turns counter-clockwise
    off: int = 0  # degrees by which the picture should be turned further

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: av.VideoStream) -> Orientation:
        """From a frame: its size, its display matrix, and the stream's sample aspect ratio."""
        width, height = frame.width, frame.height
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        if aspect is not None and Fraction(1, 8) <= aspect <= 8 and aspect != 1:
            # the longer way is stretched, so that no detail is lost
            if aspect > 1:
                width = max(1, round(width * aspect))
            else:
                height = max(1, round(height / aspect))
        check_size(width, height)
        mirror, turns, off = _display_matrix(frame)
        if turns % 2:
            width, height = height, width
        return cls(width, height, mirror, turns, off)


class Uprighter:
    """Turns the frames of one pass over a video into pictures [height, width, 3] uint8 RGB of one size.

    A frame of another shape (the picture may change its size within a stream) is made to fit, with black beside it.

    Args:
        stream: the open stream, for its sample aspect ratio.
        width, height: of the pictures.
        scale: by which they are made smaller.
        notes: takes what cannot be done well.
    """

    def __init__(self, stream: av.VideoStream, width: int, height: int, scale: Fraction, notes: Notes) -> None:
        from av.video.reformatter import VideoReformatter

        self._stream, self._notes, self._scale = stream, notes, scale
        self._width, self._height = scaled(width, height, scale)
        self._full = width, height
        self._tool, self._second = VideoReformatter(), VideoReformatter()
        self._known: dict[tuple[int, int, int], Orientation] = {}

    def __call__(self, frame: av.VideoFrame) -> Picture:
        key = (frame.width, frame.height, frame.rotation)
        if key not in self._known:
            self._known[key] = Orientation.of(frame, self._stream)
            if off := self._known[key].off:
                self._notes.add(f"its pictures stay turned by {abs(off)} degrees: only quarter turns are made")
        orientation = self._known[key]
        width, height = self._width, self._height
        fits = (orientation.width, orientation.height) == self._full
        if not fits:
            share = min(Fraction(width, orientation.width), Fraction(height, orientation.height))
            width, height = (
                min(size, most)
                for size, most in zip(
                    scaled(orientation.width, orientation.height, share), (width, height), strict=True
                )
            )
        if orientation.turns % 2:
            width, height = height, width
        picture = self._rgb(frame, width, height)
        if orientation.mirror:
            picture = picture[:, ::-1]
        if orientation.turns:
            picture = np.rot90(picture, orientation.turns)
        if not fits:
            whole = np.zeros((self._height, self._width, 3), np.uint8)
            y, x = (self._height - picture.shape[0]) // 2, (self._width - picture.shape[1]) // 2
            whole[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            picture = whole
        return np.ascontiguousarray(picture)

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> Picture:
        from av.video.reformatter import Interpolation

        if has_alpha(frame):
            frame = self._over_black(frame)
        smaller = width * height < 0.9 * frame.width * frame.height
        how = Interpolation.AREA if smaller and self._scale != 1 else Interpolation.BICUBIC
        if tone.is_needed(frame.color_trc, frame.color_primaries):
            space = _wide_colorspace(frame)
            out = self._tool.reformat(
                frame, width=width, height=height, format="rgb48le", src_colorspace=space, interpolation=how
            )
            return tone.to_bt709(cast(Any, out.to_ndarray()), frame.color_trc, frame.color_primaries)
        if frame.width == width and frame.height == height and frame.colorspace != _UNSPECIFIED:
            return cast(Picture, frame.to_ndarray(format="rgb24"))
        out = self._tool.reformat(
            frame, width=width, height=height, format="rgb24", src_colorspace=_guess_colorspace(frame),
            interpolation=how,
        )  # fmt: skip
        return cast(Picture, out.to_ndarray())

    def _over_black(self, frame: av.VideoFrame) -> av.VideoFrame:
        import av

        # before anything is scaled: the hidden colours must not reach what is seen
        rgba = self._second.reformat(frame, format="rgba", src_colorspace=_guess_colorspace(frame)).to_ndarray()
        shown = cast(Any, rgba)[..., :3].astype(np.uint16) * cast(Any, rgba)[..., 3:] + 127
        return av.VideoFrame.from_ndarray((shown // 255).astype(np.uint8), format="rgb24")


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether parts of the picture may be transparent."""
    form = frame.format
    return form.name == "pal8" or any(component.is_alpha for component in form.components)


def _guess_colorspace(frame: av.VideoFrame) -> Any:
    # Untagged video: players take BT.709 from 720 lines up and BT.601 below, swscale alone takes BT.601
    # always.
    from av.video.reformatter import Colorspace

    if frame.colorspace != _UNSPECIFIED:
        return None
    return Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601


def _wide_colorspace(frame: av.VideoFrame) -> Any:
    from av.video.reformatter import Colorspace

    if frame.colorspace != _UNSPECIFIED:
        return None
    return Colorspace.ITU709 if frame.color_primaries == tone.P3 else Colorspace.BT2020


def _display_matrix(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """(mirror, quarter turns counter-clockwise, degrees left over) from the display matrix."""
    raw = _raw_matrix(frame)
    if len(raw) < 36:
        return False, 0, 0
    # 3x3 of 16.16 fixed point, row vectors: (x', y') = (x, y) [[a, b], [c, d]], y downwards
    a, b, _, c, d, *_ = struct.unpack("=9i", raw[:36])
    mirror = a * d - b * c < 0
    if mirror:
        a, b = -a, -b  # mirror first, the rest is a rotation
    angle = -math.degrees(math.atan2(b, a))
    turns = round(angle / 90)
    return mirror, turns % 4, round(angle - 90 * turns)


def _raw_matrix(frame: av.VideoFrame) -> bytes:
    from av.sidedata.sidedata import Type

    def of(one: av.VideoFrame) -> bytes:
        side_data = cast(Any, one.side_data)
        return bytes(side_data[Type.DISPLAYMATRIX]) if Type.DISPLAYMATRIX in side_data else b""

    try:
        return of(frame)
    except ValueError:  # PyAV walks all side data, and stops at kinds that are newer than it
        return of(_without_new_side_data(frame))


def _without_new_side_data(frame: av.VideoFrame) -> av.VideoFrame:
    from av.filter import Graph

    graph = Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    for kind in _NEWEST_SIDE_DATA:
        step = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(step)
        last = step
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()
