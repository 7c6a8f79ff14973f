"""Crop geometry: which square of the source becomes the 256x256 picture, and cutting it out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

    from tfcodec.media.face import Found, Sighting

Picture = NDArray[np.uint8]
Square = tuple[int, int, int, int]  # first frame, x, y, size

SIZE = 256

# How far the face may move before the crop follows, in sides of the crop: at 0.18 the hair touches the
# border.
_TOLERANCE = 0.18
_ZOOM = 1.5  # how much larger the largest face under one crop may be than the smallest
_PATIENCE = 3  # sightings in a row, 0.6 s, before the crop follows


def centre_square(width: int, height: int) -> Square:
    """The largest square in the middle of a `width` x `height` picture, as (0, x, y, size)."""
    size = min(width, height)
    return 0, (width - size) // 2, (height - size) // 2, size


def plan(found: Found, width: int, height: int) -> list[Square]:
    """Squares (first frame, x, y, size) inside the picture that keep the face in view, as few as possible.

    One square holds still for as long as the face stays within it; when it leaves for more than half a
    second, or the scene changes, the next square begins there. The crop never glides: a picture that moves as
    a whole costs bits all the time, a new keyframe costs them once.
    """
    runs: list[list[Sighting]] = []
    strays: list[Sighting] = []
    for seen in found.sightings:
        if runs and not _fits(runs[-1], seen):
            strays.append(seen)
            cut = any(runs[-1][-1].frame < frame <= strays[0].frame for frame in found.cuts)
            if len(strays) < (1 if cut else _PATIENCE):
                continue
            runs.append([strays[-1]])
            for stray in reversed(strays[:-1]):
                if _fits(runs[-1], stray):
                    runs[-1].insert(0, stray)
            strays = []
            continue
        strays = []
        if not runs:
            runs.append([])
        runs[-1].append(seen)
    squares: list[Square] = []
    for index, run in enumerate(runs):
        start = 0 if index == 0 else _begin(runs[index - 1][-1].frame, run[0].frame, found.cuts)
        squares.append((start, *_square(run, width, height)))
    return [s for i, s in enumerate(squares) if i == 0 or s[1:] != squares[i - 1][1:]]


def _fits(run: Sequence[Sighting], seen: Sighting) -> bool:
    """Whether one square can serve a run of sightings and one more."""
    sides = [s.side for s in run]
    if max(*sides, seen.side) > _ZOOM * min(*sides, seen.side):
        return False
    room = 2 * _TOLERANCE * float(np.median(sides))
    xs, ys = [*(s.x for s in run), seen.x], [*(s.y for s in run), seen.y]
    return max(xs) - min(xs) <= room and max(ys) - min(ys) <= room


def _begin(last: int, first: int, cuts: Sequence[int]) -> int:
    """The frame at which a new square begins: at the scene's change if there is one, else at the sighting."""
    return next((frame for frame in cuts if last < frame <= first), first)


def _square(run: Sequence[Sighting], width: int, height: int) -> tuple[int, int, int]:
    side = float(np.median([s.side for s in run]))
    size = max(2, min(round(side / 2) * 2, width, height))
    corner = []
    for values, room in (([s.x for s in run], width), ([s.y for s in run], height)):
        # the usual place of the face, but so that its farthest is within tolerance
        low, high = max(values) - _TOLERANCE * side, min(values) + _TOLERANCE * side
        middle = min(max(float(np.median(values)), low), high) if low <= high else (low + high) / 2
        corner.append(min(max(round(middle - size / 2), 0), room - size))
    return corner[0], corner[1], size


class Cropper:
    """Cuts squares out of pictures and scales them to 256x256 with Lanczos."""

    def __init__(self, squares: list[Square]) -> None:
        from av.video.reformatter import VideoReformatter

        self._squares = squares
        self._starts = [square[0] for square in squares]
        self._reformatter = VideoReformatter()

    def key(self, index: int) -> int:
        """Which of the squares holds for frame `index`."""
        return max(0, bisect_right(self._starts, index) - 1)

    def cut(self, index: int, picture: Picture) -> Picture:
        """[H, W, 3] uint8 -> the square for frame `index` as [256, 256, 3] uint8."""
        _, x, y, size = self._squares[self.key(index)]
        square = np.ascontiguousarray(picture[y : y + size, x : x + size])
        if size == SIZE:
            return square
        return resize(square, SIZE, SIZE, self._reformatter)


def resize(picture: Picture, width: int, height: int, reformatter: VideoReformatter | None = None) -> Picture:
    """[H, W, 3] uint8 -> [height, width, 3] uint8, by Lanczos. A reformatter kept between calls saves its set-up."""
    import av
    from av.video.reformatter import Interpolation as How
    from av.video.reformatter import VideoReformatter

    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    # full chroma: swscale goes through YUV on the way, which must not be at half the width
    how = How.LANCZOS | How.ACCURATE_RND | How.FULL_CHR_H_INP | How.FULL_CHR_H_INT
    tool = reformatter or VideoReformatter()
    out = tool.reformat(frame, width=width, height=height, format="rgb24", interpolation=how)
    return cast(Picture, out.to_ndarray())
