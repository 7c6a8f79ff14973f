"""Tiny frames: the 8x8 luma and 4x4 chroma box means of a 256x256 picture, and their way back to RGB.

Integer arithmetic only, so that every machine computes the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tfcodec.errors import MediaError

IntArray = npt.NDArray[np.int64]
Int16Array = npt.NDArray[np.int16]

SCALE = 16  # plane units per grey level: whole grey levels would cost 1/12 of MSE, some 2 % of the bits
PLANE_MAX = 255 * SCALE
SAMPLES = 96  # 64 luma, 16 Cb, 16 Cr

# BT.709 full range in 1/65536; each row sums to 65536 (Y) or 0 (Cb, Cr), so grey stays exactly grey.
_Y = (13933, 46871, 4732)
_CB = (-7509, -25259, 32768)
_CR = (32768, -29763, -3005)


@dataclass(frozen=True)
class TinyPlanes:
    """Tiny frames as YCbCr planes (BT.709, full range) in units of 1/16 grey level.

    Attributes:
        luma: `[T, 8, 8]` int16, 0..4080.
        chroma: `[T, 2, 4, 4]` int16 (Cb, Cr), 0..4080, neutral 2048.

    Divide by `TinyPlanes.scale` for the usual 0..255. Slicing gives frames: `planes[3:7]`; an integer index keeps
    the frame axis.
    """

    luma: Int16Array
    chroma: Int16Array
    scale: ClassVar[int] = SCALE

    def __post_init__(self) -> None:
        frames = len(self.luma)
        if self.luma.shape != (frames, 8, 8) or self.chroma.shape != (frames, 2, 4, 4):
            raise MediaError(f"tiny planes must be [T,8,8] and [T,2,4,4], got {self.luma.shape}, {self.chroma.shape}")
        if self.luma.dtype != np.int16 or self.chroma.dtype != np.int16:
            raise MediaError(f"tiny planes must be int16, got {self.luma.dtype} and {self.chroma.dtype}")

    def __len__(self) -> int:
        return len(self.luma)

    def __getitem__(self, index: int | slice) -> TinyPlanes:
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"frame {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        return TinyPlanes(self.luma[index], self.chroma[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TinyPlanes):
            return NotImplemented
        return np.array_equal(self.luma, other.luma) and np.array_equal(self.chroma, other.chroma)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TinyPlanes({len(self)} frames)"

    @staticmethod
    def concatenate(parts: Sequence[TinyPlanes]) -> TinyPlanes:
        """Join pieces along time; no pieces give zero frames."""
        if not parts:
            return TinyPlanes(np.zeros((0, 8, 8), np.int16), np.zeros((0, 2, 4, 4), np.int16))
        return TinyPlanes(np.concatenate([p.luma for p in parts]), np.concatenate([p.chroma for p in parts]))

    def samples(self) -> IntArray:
        """The planes as `[T, 96]` int64: luma by rows, then Cb by rows, then Cr."""
        flat = (self.luma.reshape(len(self), 64), self.chroma.reshape(len(self), 32))
        return np.concatenate(flat, axis=1).astype(np.int64)

    @staticmethod
    def from_samples(samples: IntArray) -> TinyPlanes:
        """Inverse of :meth:`samples`, clamping to 0..4080."""
        clamped = np.clip(samples, 0, PLANE_MAX).astype(np.int16)
        return TinyPlanes(clamped[:, :64].reshape(-1, 8, 8), clamped[:, 64:].reshape(-1, 2, 4, 4))

    def mse(self, other: TinyPlanes) -> tuple[float, float]:
        """Mean squared error against `other`: (luma, chroma), in squared grey levels of 0..255."""
        luma = np.mean(np.square(self.luma.astype(np.float64) - other.luma))
        chroma = np.mean(np.square(self.chroma.astype(np.float64) - other.chroma))
        return float(luma) / SCALE**2, float(chroma) / SCALE**2


def _dot(weights: tuple[int, int, int], rgb: IntArray) -> IntArray:
    return rgb[..., 0] * weights[0] + rgb[..., 1] * weights[1] + rgb[..., 2] * weights[2]


def tiny_from_frames(frames: npt.NDArray[np.uint8]) -> TinyPlanes:
    """Box-average 256x256 pictures to tiny frames.

    Args:
        frames: `[T, 256, 256, 3]` uint8 RGB.

    Raises:
        MediaError: wrong shape or type.
    """
    if frames.ndim != 4 or frames.shape[1:] != (256, 256, 3) or frames.dtype != np.uint8:
        raise MediaError(f"tiny frames need [T, 256, 256, 3] uint8 pictures, got {frames.shape} {frames.dtype}")
    count = len(frames)
    sums = np.empty((count, 8, 8, 3), np.int64)
    for start in range(0, count, 16):  # stays in the cache
        part = frames[start : start + 16]
        # 32 rows of at most 255 fit uint16; long contiguous rows are what numpy adds fastest
        rows = part.reshape(len(part), 8, 32, 768).sum(axis=2, dtype=np.uint16)
        sums[start : start + 16] = rows.reshape(len(part), 8, 8, 32, 3).sum(axis=3, dtype=np.int64)
    return planes_of_sums(sums)


def planes_of_sums(sums: IntArray) -> TinyPlanes:
    """Tiny frames of the sums of their 32x32 pixels, `[T, 8, 8, 3]` RGB."""
    count = len(sums)
    # sums carry 2^10 pixels, weights 2^16, and 2^4 stays as the scale: shift by 22 (chroma has four times the pixels)
    luma = (_dot(_Y, sums) + (1 << 21)) >> 22
    quads = sums.reshape(count, 4, 2, 4, 2, 3).sum(axis=(2, 4))
    chroma = np.stack([_dot(_CB, quads), _dot(_CR, quads)], axis=1)
    chroma = ((chroma + (1 << 23)) >> 24) + 128 * SCALE
    return TinyPlanes(np.clip(luma, 0, PLANE_MAX).astype(np.int16), np.clip(chroma, 0, PLANE_MAX).astype(np.int16))


def tiny_to_rgb(planes: TinyPlanes) -> npt.NDArray[np.uint8]:
    """Tiny planes as `[T, 8, 8, 3]` uint8 RGB; each chroma sample serves a 2x2 square of luma."""
    luma = planes.luma.astype(np.int64)
    chroma = planes.chroma.astype(np.int64).repeat(2, axis=2).repeat(2, axis=3) - 128 * SCALE
    cb, cr = chroma[:, 0], chroma[:, 1]
    # 1.5748, 0.18732, 0.46812, 1.8556 in 1/65536
    rgb = np.stack(
        [luma * 65536 + 103206 * cr, luma * 65536 - 12276 * cb - 30679 * cr, luma * 65536 + 121609 * cb], axis=-1
    )
    return np.clip((rgb + (1 << 19)) >> 20, 0, 255).astype(np.uint8)
