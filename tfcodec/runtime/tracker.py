"""`tfcodec.model.tracker` in numpy around the looks that ncnn takes: the landmarks of a keyframe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .landmarks import COUNT, MOUTH, Floats, State, _linear, centres, silu
from .network import LOOKS

FOUND = 0.5
"""As in `tfcodec.model.tracker`, and so are the following."""
_FACE_MIDDLE, _FACE_HALF = np.float32(0.6), (1.6, 1.6)
_MOUTH_HALF = (0.75, 0.5625)
_EYE_HALF = (0.42, 0.35)
_MOUTH_PER_UNIT = 0.8
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
    middle = head.middle + _FACE_MIDDLE * head.down
    face, near = _look(state, look, "face", COUNT, middle, head, _FACE_HALF)
    x = np.concatenate((far, near))
    x = _linear(state, "tracker.present.2", silu(_linear(state, "tracker.present.0", x)))

    head = _head(face)
    lips, _ = _look(state, look, "mouth", 20, face[MOUTH].mean(0), head, _MOUTH_HALF)
    one, _ = _look(state, look, "eye", 7, face[36:42].mean(0), head, _EYE_HALF)
    mirrored = Head(head.middle, -head.across, head.down)
    other, _ = _look(state, look, "eye", 7, face[42:48].mean(0), mirrored, _EYE_HALF)
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
    points = points + _linear(state, f"tracker.{name}.shape", found["narrow"].ravel()).reshape(count, 2)
    return points, seen.mean((1, 2))


def _head(marks: Floats) -> Head:
    left, right, mouth = marks[36:42].mean(0), marks[42:48].mean(0), marks[MOUTH].mean(0)
    middle, apart = (left + right) / 2, right - left
    length = max(float(np.linalg.norm(apart)), 1e-3)
    unit = np.clip(max(length, _MOUTH_PER_UNIT * float(np.linalg.norm(mouth - middle))), 0.1, 1.2)
    across = (apart / length * unit).astype(np.float32)
    return Head(middle, across, np.array((-across[1], across[0]), np.float32))
