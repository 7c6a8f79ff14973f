"""Landmarks of a talking face as 16 numbers a frame, relative to a reference frame's landmarks, and back.

A frame's 70 landmarks (68-point layout, then both irises; pixels, y down) are described by

* a similarity of the head (numbers 0-3): change of scale and cosine `a`, sine `n`, translation `x`, `y` of the
  landmarks' centre in units of the inter-ocular distance of the reference;
* what is left, in the head's own frame (the line between the reference's eyes is horizontal there) and in inter-ocular
  units, as components: mouth, lids, irises, brows, and the rest of the face (head turns and jaw), which moves the other
  parts along. In fitting, the openings of mouth and eyes counted more than other movements.

The numbers are in units of 1/1024. The components are integers in a file of the package, fitted on the `train` clips by
`benchmarks/search/fit_motion.py`. Floats are at home here: no symbol of the bitstream depends on this module's results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from tfcodec.errors import MediaError, WeightsError
from tfcodec.tinyframe.tables import packaged

POINTS = 70
UNIT = 1024  # numbers are in 1/1024
BASES_ID = 1
BASES_SHA256 = "46cf9973260bcdee59b9ed64667a66999f1e80ec88c896c86cff779b772395a6"
BASES_SHIFT = 14  # 1.0 is stored as 2^14
MAGIC = b"TFMOTBA1"
MIN_DISTANCE = 4.0  # pixels: a smaller inter-ocular distance counts as this

HEAD_POINTS: tuple[int, ...] = tuple(range(POINTS))  # landmarks that the head's similarity is fitted to
HEAD = 4
ABSENT, SENT, LOST = 0, 1, 2
"""The last of a frame's 17 numbers of motion: there are none, they were sent, or they are those of another frame, since
this one's were lost: the head's still serve, the mouth's do not."""


@dataclass(frozen=True)
class Part:
    """A part of the face: its landmarks and the numbers that move them."""

    name: str
    points: tuple[int, ...]
    first: int  # number of its first component
    count: int

    @property
    def numbers(self) -> slice:
        return slice(self.first, self.first + self.count)


PARTS: tuple[Part, ...] = (
    Part("mouth", tuple(range(48, 68)), 4, 4),
    Part("lids", tuple(range(36, 48)), 8, 2),
    Part("irises", (68, 69), 10, 2),
    Part("brows", tuple(range(17, 27)), 12, 2),
    Part("face", (*range(0, 17), *range(27, 36)), 14, 2),
)
NUMBERS = 16
SHAPE = (NUMBERS - HEAD, 2 * POINTS)

FloatArray = npt.NDArray[np.float64]
Landmarks = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bases:
    """The components `[12, 140]` (x and y of each landmark in turn): landmarks to numbers, numbers to landmarks."""

    forward: FloatArray
    inverse: FloatArray


def basis_bytes(forward: npt.NDArray[np.int16], inverse: npt.NDArray[np.int16]) -> bytes:
    """The file's content: magic, then both matrices `[12, 140]`, big-endian 16-bit, row by row."""
    for matrix in (forward, inverse):
        if matrix.shape != SHAPE or matrix.dtype != np.int16:
            raise WeightsError(f"a motion basis must be int16 of shape {SHAPE}, not {matrix.dtype} {matrix.shape}")
    return MAGIC + forward.astype(">i2").tobytes() + inverse.astype(">i2").tobytes()


def parse_bases(content: bytes) -> Bases:
    """Read a file of bases; the caller checks its hash."""
    expected = len(MAGIC) + 4 * SHAPE[0] * SHAPE[1]
    if len(content) != expected or not content.startswith(MAGIC):
        raise WeightsError(f"the motion bases are not {expected} bytes beginning with {MAGIC!r}")
    both = np.frombuffer(content, ">i2", offset=len(MAGIC)).astype(np.float64).reshape(2, *SHAPE) / (1 << BASES_SHIFT)
    return Bases(both[0], both[1])


@cache
def load_bases() -> Bases:
    """The bases that come with the package.

    Raises:
        WeightsError: the file is missing or is not the one this version was made with.
    """
    return parse_bases(bases_content())


def bases_content() -> bytes:
    """The file of components, checked. Raises WeightsError as :func:`load_bases`."""
    return packaged("motion", "bases", BASES_SHA256)


@dataclass(frozen=True)
class _Frame:
    """Where the reference's head is: centre of the head's points, inter-ocular distance, direction of the eye line."""

    centre: FloatArray
    distance: float
    axes: FloatArray  # [2, 2]: picture axes -> head axes, right-multiplied


def _frame(reference: FloatArray) -> _Frame:
    across = reference[42:48].mean(axis=0) - reference[36:42].mean(axis=0)
    length = float(np.hypot(*across))
    x, y = across / length if length > 1e-6 else (1.0, 0.0)
    return _Frame(
        reference[list(HEAD_POINTS)].mean(axis=0), max(length, MIN_DISTANCE), np.array([[x, -y], [y, x]], np.float64)
    )


def _landmarks(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    array = np.asarray(value, np.float64)
    if array.ndim != len(shape) or array.shape[-2:] != shape[-2:]:
        raise MediaError(f"{name} must have shape {list(shape)} (-1: any), not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise MediaError(f"{name} holds values that are not finite")
    return array


def distance(reference: npt.ArrayLike) -> float:
    """Inter-ocular distance of landmarks [70, 2] in pixels: the unit of the numbers."""
    return _frame(_landmarks("reference", reference, (POINTS, 2))).distance


def similarity(
    reference: FloatArray, marks: FloatArray, points: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Least-squares similarity from reference [70, 2] to marks [T, 70, 2] over some points.

    Returns `c` [T], `n` [T] (scale times cosine and sine) and translation [T, 2] of the points' centre in pixels.
    """
    index = list(points)
    a = reference[index] - reference[index].mean(axis=0)
    b = marks[:, index] - marks[:, index].mean(axis=1, keepdims=True)
    size = max(float(np.square(a).sum()), 1e-6)
    c = np.einsum("pi,tpi->t", a, b) / size
    n = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(axis=1) / size
    return c, n, marks[:, index].mean(axis=1) - reference[index].mean(axis=0)


def residual(reference: FloatArray, marks: FloatArray, head: FloatArray) -> FloatArray:
    """What the head's numbers [T, 4] leave, in the head's axes and inter-ocular units: [T, 70, 2]."""
    frame = _frame(reference)
    c, n = 1 + head[:, 0, None] / UNIT, head[:, 1, None] / UNIT
    moved = marks - (frame.centre + head[:, 2:4] / UNIT * frame.distance)[:, None]
    scale = np.maximum(np.square(c) + np.square(n), 1e-3)
    x, y = moved[..., 0], moved[..., 1]
    back = np.stack([(c * x + n * y) / scale, (c * y - n * x) / scale], axis=-1)
    return np.asarray((back - (reference - frame.centre)) / frame.distance @ frame.axes)


def head_numbers(reference: FloatArray, marks: FloatArray) -> FloatArray:
    """The similarity of the head as numbers [T, 4]."""
    c, n, move = similarity(reference, marks, HEAD_POINTS)
    return np.concatenate([np.stack([c - 1, n], axis=1), move / _frame(reference).distance], axis=1) * UNIT


def analyse(reference: npt.ArrayLike, marks: npt.ArrayLike) -> FloatArray:
    """Numbers [T, 16], unrounded, in 1/1024, that move `reference` [70, 2] to `marks` [T, 70, 2] (pixels).

    Raises:
        MediaError: wrong shape, or values that are not finite (leave out the frames without a face).
    """
    start = _landmarks("reference", reference, (POINTS, 2))
    target = _landmarks("marks", marks, (-1, POINTS, 2))
    head = head_numbers(start, target)
    left = residual(start, target, head)
    return np.concatenate([head, left.reshape(len(left), -1) @ load_bases().forward.T * UNIT], axis=1)


def synthesise(reference: npt.ArrayLike, numbers: npt.ArrayLike) -> Landmarks:
    """Landmarks [T, 70, 2] float32 in pixels that the numbers [T, 16] (in 1/1024) make of `reference` [70, 2].

    Raises:
        MediaError: wrong shape, or values that are not finite.
    """
    start = _landmarks("reference", reference, (POINTS, 2))
    values = np.asarray(numbers, np.float64)
    if values.ndim != 2 or values.shape[1] != NUMBERS or not np.isfinite(values).all():
        raise MediaError(f"motion numbers must be finite and of shape [T, {NUMBERS}], not {list(values.shape)}")
    frame = _frame(start)
    left = (values[:, HEAD:] / UNIT @ load_bases().inverse).reshape(-1, POINTS, 2)
    shape = start - frame.centre + left @ frame.axes.T * frame.distance
    c, n = 1 + values[:, 0, None] / UNIT, values[:, 1, None] / UNIT
    x, y = shape[..., 0], shape[..., 1]
    turned = np.stack([c * x - n * y, n * x + c * y], axis=-1)
    return np.asarray(turned + (frame.centre + values[:, 2:4] / UNIT * frame.distance)[:, None], np.float32)
