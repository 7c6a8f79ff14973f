"""JPEG of the source, for the page to compare with. Not part of the call."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


class JpegEncoder:
    """Encodes pictures of one size."""

    def __init__(self) -> None:
        self._codec: Any = None
        self._count = 0

    def encode(self, picture: NDArray[np.uint8]) -> bytes:
        """[H, W, 3] uint8 RGB as a JPEG file."""
        if self._codec is None:
            self._codec = av.CodecContext.create("mjpeg", "w")
            self._codec.height, self._codec.width = picture.shape[:2]
            self._codec.pix_fmt, self._codec.time_base = "yuvj420p", Fraction(1, 25)
            self._codec.qmin, self._codec.qmax = 2, 4
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
        frame.pts, frame.time_base = self._count, Fraction(1, 25)
        self._count += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))
