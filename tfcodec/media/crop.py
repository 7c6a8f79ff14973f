"""Crop geometry: which square of the source becomes the 256x256 picture, and cutting it out."""

from __future__ import annotations

from bisect import bisect_right
from typing import cast

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Square = tuple[int, int, int, int]  # first frame, x, y, size

SIZE = 256


def centre_square(width: int, height: int) -> Square:
    """The largest square in the middle of a `width` x `height` picture, as (0, x, y, size)."""
    size = min(width, height)
    return 0, (width - size) // 2, (height - size) // 2, size


def plan(found: object, width: int, height: int) -> list[Square]:
    raise NotImplementedError


class Cropper:
    """Cuts squares out of pictures and scales them to 256x256 (Lanczos; the square itself where it has that
    size)."""

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
        import av
        from av.video.reformatter import Interpolation as How

        frame = av.VideoFrame.from_ndarray(square, format="rgb24")
        # full chroma: swscale goes through YUV on the way, which must not be at half the width
        how = How.LANCZOS | How.ACCURATE_RND | How.FULL_CHR_H_INP | How.FULL_CHR_H_INT
        out = self._reformatter.reformat(frame, width=SIZE, height=SIZE, format="rgb24", interpolation=how)
        return cast(Picture, out.to_ndarray())
