"""RGB to the planes that AV1 codes, and back in integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE = 256
Planes = tuple[npt.NDArray[np.uint8], ...]
"""Y [256, 256], U and V [128, 128], uint8."""

# BT.709, full range. Forward in 1/65536 (not normative), inverse in 1/16384 (normative).
_Y = (13933, 46871, 4732)
_CB = (-7509, -25259, 32768)
_CR = (32768, -29763, -3005)
_R_CR, _B_CB, _G_CR, _G_CB = 25802, 30402, 7670, 3069


def to_planes(rgb: npt.NDArray[np.uint8]) -> Planes:
    """Y [256, 256] and U, V [128, 128] of a picture [256, 256, 3], all uint8. Not normative."""
    wide = rgb.astype(np.int32)
    luma = (wide @ np.array(_Y, np.int32) + (1 << 15)) >> 16
    quads = wide.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).sum((1, 3), dtype=np.int32)
    chroma = (((quads @ np.array(row, np.int32) + (1 << 17)) >> 18) + 128 for row in (_CB, _CR))
    return (luma.astype(np.uint8), *(np.clip(plane, 0, 255).astype(np.uint8) for plane in chroma))


def _double(x: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Twice as many rows: a sample's two children lie a quarter to either side of it. Units of 1/4."""
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    return np.stack([3 * x + before, 3 * x + after], axis=1).reshape(2 * x.shape[0], *x.shape[1:])


def to_rgb(luma: npt.NDArray[np.uint8], cb: npt.NDArray[np.uint8], cr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture [256, 256, 3] uint8 of decoded planes: section 8.3 of the specification."""
    y = (luma.astype(np.int32) << 18) + (1 << 17)
    u, v = (_double(_double(plane.astype(np.int32) - 128).T).T for plane in (cb, cr))  # in units of 1/16
    rgb = np.stack([y + _R_CR * v, y - _G_CR * v - _G_CB * u, y + _B_CB * u], axis=-1) >> 18
    pixels: npt.NDArray[np.uint8] = np.clip(rgb, 0, 255).astype(np.uint8)
    return pixels
