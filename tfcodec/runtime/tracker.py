"""`tfcodec.model.tracker` in numpy around the looks that ncnn takes: the landmarks of a keyframe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model.places import COUNT, EYE_HALF, FACE_HALF, FACE_MIDDLE, LOOKS, MOUTH, MOUTH_HALF, MOUTH_PER_UNIT
from .landmarks import Floats, State, centres, linear, silu

_MIRRORED = [3, 2, 1, 0, 5, 4]

Look = Callable[[str, Floats | None], Mapping[str, NDArray[Any]]]
"""Name of a look and where, [2, h, w] -> ``seen``, ``narrow`` and ``heat`` [C, h, w]."""


class Head(NamedTuple):
    """As `tfcodec.model.tracker.Head`, of one picture."""

    middle: Floats
    across: Floats
    down: Floats


def track(state: State, look: Look) -> tuple[Floats, float]:
    """Landmarks [70, 2] in -1..1 and the score of the picture that ``look`` looks at."""
    coarse, far = _points(state, "coarse", COUNT, look("coarse", None))
    head = _head(coarse)
    middle = head.middle + np.float32(FACE_MIDDLE) * head.down
    face, near = _look(state, look, "face", COUNT, middle, head, FACE_HALF)
    x = np.concatenate((far, near))
    x = linear(state, "tracker.present.2", silu(linear(state, "tracker.present.0", x)))

    head = _head(face)
    lips, _ = _look(state, look, "mouth", 20, face[MOUTH].mean(0), head, MOUTH_HALF)
    one, _ = _look(state, look, "eye", 7, face[36:42].mean(0), head, EYE_HALF)
    mirrored = Head(head.middle, -head.across, head.down)
    other, _ = _look(state, look, "eye", 7, face[42:48].mean(0), mirrored, EYE_HALF)
    marks = np.concatenate((face[:36], one[:6], other[_MIRRORED], lips, one[6:], other[6:]))
    return np.ascontiguousarray(marks, np.float32), float(1 / (1 + np.exp(-x[0])))


def _look(
    state: State, look: Look, name: str, count: int, middle: Floats, head: Head, half: tuple[float, float]
) -> tuple[Floats, Floats]:
    height, width = LOOKS[name]
    grid = (
        half[0] * centres(width) * head.across[:, None, None]
        + half[1] * centres(height)[:, None] * head.down[:, None, None]
        + middle[:, None, None]
    )
    points, seen = _points(state, name, count, look(name, np.ascontiguousarray(grid, np.float32)))
    across, down = half[0] * points[:, :1] * head.across, half[1] * points[:, 1:] * head.down
    return (across + down + middle).astype(np.float32), seen


def _points(state: State, name: str, count: int, found: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    heat, seen = found["heat"], found["seen"]
    share = np.exp(heat - heat.max((1, 2), keepdims=True))
    share /= share.sum((1, 2), keepdims=True)
    points = np.stack(
        ((share.sum(1) * centres(heat.shape[2])).sum(-1), (share.sum(2) * centres(heat.shape[1])).sum(-1)), -1
    )
    points = points + linear(state, f"tracker.{name}.shape", found["narrow"].ravel()).reshape(count, 2)
    return points, seen.mean((1, 2))


def _head(marks: Floats) -> Head:
    left, right, mouth = marks[36:42].mean(0), marks[42:48].mean(0), marks[MOUTH].mean(0)
    middle, apart = (left + right) / 2, right - left
    length = max(float(np.linalg.norm(apart)), 1e-3)
    unit = np.clip(max(length, MOUTH_PER_UNIT * float(np.linalg.norm(mouth - middle))), 0.1, 1.2)
    across = (apart / length * unit).astype(np.float32)
    return Head(middle, across, np.array((-across[1], across[0]), np.float32))
