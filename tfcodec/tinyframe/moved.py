"""Tiny frames predicted from the keyframe, moved as the head moves.

Where the head moves, so do hair and shoulders, and with them the tiny frames; the motion layer has said how before. So
the keyframe is moved by the motion's first four numbers, within an ellipse about the face that fades towards its edge,
and what is coded is how the tiny frames differ from those of the moved keyframe. Integer arithmetic only, as in
`planes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfcodec.tinyframe.planes import TinyPlanes, planes_of_sums, tiny_from_frames

Ints = npt.NDArray[np.int32]
"""All that is computed fits."""
SIDE = 64
"""The keyframe is moved at 64x64 pixels, each the sum of 4x4."""
CELL = 256 // SIDE
SUB = 16
"""Places are in 1/16 of the keyframe's pixels."""
REACHES = (14, 18, 22, 27, 33, 40, 50, 64)
"""Half the ellipse's width, in 1/16 of the distance between the eyes."""
SHARES = (16, 12, 8, 4)
"""How far of its way the head takes it along, in 1/16; one share of the translation, one of turn and change of size."""
SHAPES = len(REACHES) * len(SHARES) ** 2
RAISED, TALLER = 5, 21
"""The ellipse's centre lies 5/16 of that distance above the landmarks', and it is 21/16 as high as wide."""
SOLID, WEIGHT = 96, 64
_MOST_FRAMES = 16  # moved together


@dataclass(frozen=True)
class Move:
    """How the keyframe of some tiny frames moves.

    Attributes:
        shape: 16 times the number of its reach, 4 times that of its share of translation, and that of the other share.
        x, y: centre of the face's landmarks in the keyframe, in pixels, 0 to 255.
        distance: between the eyes, in pixels, 1 to 255.
    """

    shape: int
    x: int
    y: int
    distance: int

    @property
    def reach(self) -> int:
        """Half the ellipse's width in pixels."""
        return max(REACHES[self.shape >> 4] * self.distance >> 4, 1)

    @property
    def shares(self) -> tuple[int, int]:
        """Of the translation, and of turn and change of size, in 1/16."""
        return SHARES[self.shape >> 2 & 3], SHARES[self.shape & 3]


class MovedKeyframe:
    """A keyframe that can be moved.

    Args:
        keyframe: the decoded picture, [256, 256, 3] uint8.

    Attributes:
        still: its tiny frame, when nothing moves.
    """

    def __init__(self, keyframe: npt.NDArray[np.uint8]) -> None:
        rows = keyframe.reshape(SIDE, CELL, SIDE, CELL, 3).sum(axis=(1, 3), dtype=np.int32)
        self._sums = rows.reshape(SIDE * SIDE, 3)
        self.still = tiny_from_frames(keyframe[None])

    def planes(self, move: Move, motion: npt.NDArray[np.int32]) -> TinyPlanes:
        """Tiny frames of the keyframe, moved.

        Args:
            move: where the face is, and how far it takes the picture along.
            motion: [T, 17] as the motion layer decodes it. Frames without motion have the keyframe as it is.
        """
        weight = _weights(move)
        parts = [
            self._planes(move, weight, motion[at : at + _MOST_FRAMES]) for at in range(0, len(motion), _MOST_FRAMES)
        ]
        return TinyPlanes.concatenate(parts)

    def _planes(self, move: Move, weight: Ints, motion: npt.NDArray[np.int32]) -> TinyPlanes:
        far, turned = move.shares
        head = np.where(motion[:, -1:] == 1, motion[:, :4], 0).astype(np.int64)
        a = np.clip(head[:, 0] * turned >> 4, -512, 1024) + 1024
        n = np.clip(head[:, 1] * turned >> 4, -1024, 1024)
        go = np.clip(head[:, 2:4] * (far * move.distance) >> 10, -256 * SUB, 256 * SUB)
        size = a * a + n * n
        # The similarity backwards, in 1/4096. From here on 32 bits hold it all.
        a, n, go = (x.astype(np.int32) for x in ((a << 22) // size, (n << 22) // size, go))
        at = SUB * (CELL * np.arange(SIDE, dtype=np.int32) + CELL // 2)  # the pixels' centres
        u = (at - SUB * move.x)[None, None, :] - go[:, 0, None, None]
        v = (at - SUB * move.y)[None, :, None] - go[:, 1, None, None]
        a, n = a[:, None, None], n[:, None, None]
        x = SUB * move.x + ((a * u + n * v) >> 12)
        y = SUB * move.y + ((a * v - n * u) >> 12)
        x, fx = _between(at[None, None, :], x, weight)
        y, fy = _between(at[None, :, None], y, weight)
        corner, sums = SIDE * y + x, self._sums
        fx, fy = fx[..., None], fy[..., None]
        top = sums[corner] * (64 - fx) + sums[corner + 1] * fx
        bottom = sums[corner + SIDE] * (64 - fx) + sums[corner + SIDE + 1] * fx
        moved = top * (64 - fy) + bottom * fy
        cells = moved.reshape(len(motion), 8, SIDE // 8, 8, SIDE // 8, 3).sum(axis=(2, 4), dtype=np.int64)
        return planes_of_sums((cells + 2048) >> 12)


def _weights(move: Move) -> Ints:
    """How far each of the 64x64 pixels goes along, [64, 64] in 1/64."""
    wide = move.reach
    high = max(wide * TALLER >> 4, 1)
    at = CELL * np.arange(SIDE, dtype=np.int32) + CELL // 2
    across = 64 * (at - move.x) ** 2 // (wide * wide)
    down = 64 * (at - move.y + (move.distance * RAISED >> 4)) ** 2 // (high * high)
    return np.asarray(np.clip(SOLID - (down[:, None] + across[None, :]), 0, WEIGHT), np.int32)


def _between(start: Ints, end: Ints, weight: Ints) -> tuple[Ints, Ints]:
    """Number of the pixel before a place, and how far beyond its centre the place is, in 1/64 of 64x64 pixels."""
    place = start + ((end - start) * weight >> 6)
    place = np.clip(place, SUB * CELL // 2, SUB * 256 - SUB * CELL // 2) - SUB * CELL // 2
    pixel = np.minimum(place >> 6, SIDE - 2)
    return pixel, place - (pixel << 6)


def without(planes: TinyPlanes, moved: TinyPlanes, still: TinyPlanes) -> TinyPlanes:
    """What is coded of tiny frames: they less what movement changes in the keyframe's tiny frame, the ``still`` one."""
    return TinyPlanes.from_samples(planes.samples() - moved.samples() + still.samples())


def restored(coded: TinyPlanes, moved: TinyPlanes, still: TinyPlanes) -> TinyPlanes:
    """Inverse of `without`."""
    return TinyPlanes.from_samples(coded.samples() + moved.samples() - still.samples())
