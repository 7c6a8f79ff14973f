"""The displacement layer as an optical flow: twelve numbers a frame, a polynomial for each axis. Needs no torch.

Numbers 0-5 displace horizontally, 6-11 vertically, by 1, x, y, x y, (3 x^2 - 1) / 2 and (3 y^2 - 1) / 2, with x and y
in -1..1 over the picture. Each is a product of a Legendre polynomial of x and one of y, so that the whole is a product
of three small matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .places import HALF

DISPLACEMENTS = 12
"""Numbers of a frame."""
PER_PIXEL = 32
"""Numbers are in so many parts of a pixel of the picture of 256x256 pixels."""
SIDE = 64
"""Of the flow, in pixels."""
_DEGREES = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))  # of y and of x


def _lines() -> NDArray[np.float32]:
    at = (2 * np.arange(SIDE) + 1) / SIDE - 1
    return np.stack((np.ones(SIDE), at, (3 * at**2 - 1) / 2)).astype(np.float32)


def _shares() -> NDArray[np.float32]:
    shares = np.zeros((len(_DEGREES), 3, 3), np.float32)
    for i, (of_y, of_x) in enumerate(_DEGREES):
        shares[i, of_y, of_x] = 1 / HALF
    return shares.reshape(len(_DEGREES), 9)


LINES = _lines()
"""The polynomials of degree 0, 1 and 2 at the centres of the flow's pixels, [3, 64]."""
SHARES = _shares()
"""What each of an axis's numbers, in pixels, brings to a product of two polynomials, [6, 9], in half sides."""


def in_pixels(numbers: NDArray[np.int32] | None, count: int) -> NDArray[np.float32]:
    """Numbers of the layer in pixels, [N, 12]; zeros for ``count`` frames of a stream without it."""
    if numbers is None:
        return np.zeros((count, DISPLACEMENTS), np.float32)
    return np.asarray(numbers, np.float32) / np.float32(PER_PIXEL)


def field(displacement: NDArray[np.float32]) -> NDArray[np.float32]:
    """The optical flow [N, 2, 64, 64] in half sides of [N, 12] in pixels; `blocks.field` is torch's."""
    products = (displacement.reshape(-1, len(SHARES)) @ SHARES).reshape(-1, 2, 3, 3)
    return np.asarray(LINES.T @ (products @ LINES), np.float32)
