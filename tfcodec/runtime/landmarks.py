"""What `tfcodec.model` does with landmarks, in numpy: the guess, the hints, squares and dots.

Coordinates are those of `tfcodec.model.landmarks`: x, y in -1..1 over the picture, 70 points.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model.inputs import REACH
from ..model.places import COUNT, EDGE, EYES_SQUARE, MOUTH, MOUTH_SQUARE, PEN

Floats = NDArray[np.float32]
State = Mapping[str, NDArray[Any]]
SQUARES = {"mouth": MOUTH_SQUARE, "eyes": EYES_SQUARE}
_LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)


class HeadFrame(NamedTuple):
    """As `tfcodec.model.closeup.HeadFrame`, of one picture: ``middle`` [2], ``turn`` [2, 2]."""

    middle: Floats
    turn: Floats


@cache
def centres(count: int) -> Floats:
    """Pixel centres of a line in -1..1."""
    return np.asarray((np.arange(count, dtype=np.float32) * 2 + 1) / np.float32(count) - 1, np.float32)


@cache
def identity(height: int, width: int) -> Floats:
    """Where the pixels of a picture are, [2, height, width], x first."""
    x, y = np.meshgrid(centres(width), centres(height))
    return np.ascontiguousarray(np.stack((x, y)), np.float32)


@cache
def rise(small: int, size: int) -> Floats:
    """What enlarges a line bilinearly, [size, small]."""
    place = np.clip((np.arange(size) + 0.5) * small / size - 0.5, 0, small - 1)
    low = np.floor(place).astype(int)
    out = np.zeros((size, small), np.float32)
    out[np.arange(size), low] = 1 - (place - low)
    out[np.arange(size), np.minimum(low + 1, small - 1)] += (place - low).astype(np.float32)
    return out


def enlarged(x: Floats, size: int) -> Floats:
    """Bilinearly, [C, s, s] -> [C, size, size]."""
    matrix = rise(x.shape[-1], size)
    return np.asarray(matrix @ x @ matrix.T, np.float32)


def refine_chroma(tiny: Floats, reference: Floats) -> Floats:
    """`tfcodec.model.blocks.refine_chroma` of tiny frames [N, 3, 8, 8] and a keyframe's [3, 8, 8]."""
    luma = _luma(tiny)
    colour = reference - _luma(reference)
    change = (tiny - luma - colour).reshape(len(tiny), 3, 4, 2, 4, 2).mean((3, 5))
    return np.asarray(luma + colour + change.repeat(2, 2).repeat(2, 3), np.float32)


def _luma(x: Floats) -> Floats:
    return np.tensordot(_LUMA, x, (0, x.ndim - 3))[..., None, :, :] if x.ndim == 3 else (
        _LUMA[0] * x[:, :1] + _LUMA[1] * x[:, 1:2] + _LUMA[2] * x[:, 2:]
    )  # fmt: skip


def guess(state: State, marks: Floats, key8: Floats, tiny: Floats) -> Floats:
    """Landmarks [70, 2] of a frame by its tiny frames [5, 3, 8, 8], chroma refined (`LandmarkPrior.guess`)."""
    of_key = _values(key8[None])[0]
    change = 6 * (_values(tiny) - of_key)
    at = "stage1.prior.motion"
    x = linear(state, f"{at}.start", np.concatenate((of_key, change.ravel(), 2 * marks.ravel())))
    number = 0
    while f"{at}.blocks.{number}.0.weight" in state:
        y = (x - x.mean()) / np.sqrt(x.var() + np.float32(1e-5))
        y = y * state[f"{at}.blocks.{number}.0.weight"] + state[f"{at}.blocks.{number}.0.bias"]
        y = silu(linear(state, f"{at}.blocks.{number}.1", y))
        x = x + linear(state, f"{at}.blocks.{number}.4", y)
        number += 1
    moved = np.float32(0.1) * linear(state, f"{at}.out", silu(x))
    return marks + moved.reshape(COUNT, 2)


def _values(tiny: Floats) -> Floats:
    luma = _luma(tiny)
    red_blue = (tiny[:, ::2] - luma).reshape(len(tiny), 2, 4, 2, 4, 2).mean((3, 5))
    return np.concatenate((luma.reshape(len(tiny), -1) - np.float32(0.5), red_blue.reshape(len(tiny), -1)), 1)


def linear(state: State, name: str, x: Floats) -> Floats:
    return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"], np.float32)


def silu(x: Floats) -> Floats:
    """x * sigmoid(x), as the networks have it."""
    return np.asarray(x / (1 + np.exp(-x)), np.float32)


class Hints(NamedTuple):
    """As `tfcodec.model.landmarks.Hints`, of one frame: [2, 64, 64], [1, 64, 64], [2, 64, 64], [4, 64, 64]."""

    motion: Floats
    cover: Floats
    shape: Floats
    drawing: Floats


def draw(state: State, marks: Floats, now: Floats) -> Hints:
    """Dense hints for landmarks ``now`` [70, 2] that were at ``marks`` in the keyframe (`LandmarkPrior.draw`)."""
    moved = now - marks
    motion, cover = _spread(state, now, -moved)
    change = mouth_change(marks, moved)
    shape, _ = _spread(state, marks + change, -change)
    across, down = _bumps(marks + change, np.full(COUNT, np.float32(PEN / 128)))
    members = state["stage1.prior.members"]
    drawing = (down.T[None] * members[:, None]).reshape(-1, COUNT) @ across
    drawing = np.minimum(drawing, 1).reshape(len(members), 64, 64)
    return Hints(motion, cover / (cover + np.float32(0.2)), shape, drawing)


def _spread(state: State, points: Floats, values: Floats) -> tuple[Floats, Floats]:
    across, down = _bumps(points, state["stage1.prior.reach"])
    rows = (down * state["stage1.prior.say"][:, None]).T
    weighted = np.stack((rows, rows * values[:, 0], rows * values[:, 1])).reshape(-1, COUNT)
    cover, x, y = (weighted @ across).reshape(3, 64, 64)
    return np.stack((x, y)) / (cover + np.float32(0.02)), cover[None]


def _bumps(points: Floats, reach: Floats) -> tuple[Floats, Floats]:
    away = (centres(64) - points.T[..., None]) ** 2 / (2 * reach[:, None] ** 2)
    bumps = np.exp(-np.minimum(away, 30), dtype=np.float32)
    return bumps[0], bumps[1]


def mouth_change(marks: Floats, moved: Floats) -> Floats:
    """`tfcodec.model.landmarks.mouth_change` of one frame."""
    a = marks - marks.mean(0)
    b = a + moved - moved.mean(0)
    size = max(float(np.square(a).sum()), 1e-4)
    cos, sin = (a * b).sum() / size, (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / size
    head = np.stack((cos * a[:, 0] - sin * a[:, 1], sin * a[:, 0] + cos * a[:, 1]), -1)
    out = np.zeros((COUNT, 2), np.float32)
    rest = (b - head)[MOUTH]
    out[MOUTH] = rest - rest.mean(0)
    return out


def head_frame(marks: Floats) -> HeadFrame:
    """`tfcodec.model.closeup.head_frame` of one picture."""
    one, other = (marks[36] + marks[39]) / 2, (marks[42] + marks[45]) / 2
    x, y = other - one
    if x * x + y * y < np.float32(0.08) ** 2:
        x, y = np.float32(0.08), np.float32(0)
    return HeadFrame((one + other) / 2, np.array(((x, -y), (y, x)), np.float32))


@cache
def _points(name: str, half: bool) -> tuple[Floats, Floats]:
    square = SQUARES[name]
    step = 2 if half else 1
    across = (square.left + square.right + centres(square.width // step) * (square.right - square.left)) / 2
    down = (square.top + square.bottom + centres(square.height // step) * (square.bottom - square.top)) / 2
    return across.astype(np.float32), down.astype(np.float32)


def square_grid(name: str, frame: HeadFrame) -> Floats:
    """Where a square's pixels are in the picture, [2, height, width] (`closeup.cut_square`)."""
    across, down = _points(name, half=False)
    turn, middle = frame.turn, frame.middle
    return np.ascontiguousarray(
        turn[:, :1, None] * across + turn[:, 1:, None] * down[:, None] + middle[:, None, None], np.float32
    )


def dots(name: str, marks: Floats, frame: HeadFrame) -> Floats:
    """Landmarks as soft dots in a square, [planes, height / 2, width / 2] (`closeup.dots`)."""
    square = SQUARES[name]
    across, down = _points(name, half=True)
    head = (marks - frame.middle) @ (frame.turn / (np.square(frame.turn).sum() / 2))
    reach = np.float32(2 * square.pen**2)
    planes = []
    for members in square.planes:
        of = head[list(members)]
        x = np.exp(-np.minimum(np.square(across - of[:, :1]) / reach, 30), dtype=np.float32)
        y = np.exp(-np.minimum(np.square(down - of[:, 1:]) / reach, 30), dtype=np.float32)
        planes.append(y.T @ x)
    return np.ascontiguousarray(np.minimum(np.stack(planes), 1.5), np.float32)


@cache
def fade(name: str) -> Floats:
    """1 in a square's middle and 0 at its edges, [1, height, width]."""
    square = SQUARES[name]
    lines = []
    for count in (square.height, square.width):
        place = (np.arange(count, dtype=np.float32) + 0.5) / count
        line = np.clip((np.minimum(place, 1 - place) - 0.5 / count) / EDGE, 0, 1)
        lines.append(line * line * (3 - 2 * line))
    return np.asarray(lines[0][:, None] * lines[1], np.float32)[None]


class Paste(NamedTuple):
    """Where a square goes in a picture of 256: rows, columns, and the places in it of those pixels, [2, h, w]."""

    rows: slice
    columns: slice
    grid: Floats


def paste(name: str, frame: HeadFrame) -> Paste | None:
    """`closeup.paste_square`, for the pixels of the picture that the square covers; None if there are none."""
    square = SQUARES[name]
    line = centres(256)
    turn = frame.turn.T / (np.square(frame.turn).sum() / 2)
    width, height = square.right - square.left, square.bottom - square.top
    back = np.stack((turn[0] * (2 / width), turn[1] * (2 / height))).astype(np.float32)
    shift = back @ frame.middle + np.array(
        ((square.right + square.left) / width, (square.bottom + square.top) / height), np.float32
    )
    # The corners; beyond an edge a pixel still mixes with what is inside.
    margin = 1 + 2 / np.array((square.width, square.height))
    corners = np.array([(x, y) for x in (-margin[0], margin[0]) for y in (-margin[1], margin[1])]) + shift
    places = (corners @ np.linalg.inv(back.astype(np.float64)).T + 1) * 128
    low = np.clip(np.floor(places.min(0)).astype(int), 0, 256)
    high = np.clip(np.ceil(places.max(0)).astype(int) + 1, 0, 256)
    # ncnn takes arrays only in rows of four.
    low[0], high[0] = low[0] // 4 * 4, -(-high[0] // 4) * 4
    rows, columns = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    grid = back[:, :1, None] * line[columns] + (back[:, 1:] * line[rows] - shift[:, None])[:, :, None]
    return Paste(rows, columns, np.ascontiguousarray(grid, np.float32))


def windows_of(tiny: NDArray[np.uint8]) -> Floats:
    """Windows [N, 5, 8, 8, 3] uint8 -> [N, 5, 3, 8, 8] in 0..1."""
    return np.ascontiguousarray(np.moveaxis(tiny, -1, 2), np.float32) / np.float32(255)


NOW = REACH
"""Place of the frame to draw in its window."""
