"""A second maker of moved keyframes, in plain Python, written from section 24 of bitstream_spec.md.

It shares no code with the package, and builds on the second decoders of tiny frames and motion. A picture is a list of
256 rows of 256 pixels of 3 channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reference_decoder import Malformed, ReferenceDecoder
from reference_numbers import ReferenceMotionDecoder

Picture = Sequence[Sequence[Sequence[int]]]
Grid = list[list[list[int]]]
"""[channel][row][column]"""

REACHES = (14, 18, 22, 27, 33, 40, 50, 64)
SHARES = (16, 12, 8, 4)


def clip(x: int, lo: int, hi: int) -> int:
    return min(max(x, lo), hi)


def sums(picture: Picture, side: int) -> Grid:
    """Of each channel over squares of so many pixels."""
    count = 256 // side
    return [
        [
            [
                sum(picture[side * j + y][side * i + x][channel] for y in range(side) for x in range(side))
                for i in range(count)
            ]
            for j in range(count)
        ]
        for channel in range(3)
    ]


def added(grid: Grid, side: int) -> Grid:
    """The same of a grid: sums over so many rows and columns."""
    count = len(grid[0]) // side
    return [
        [
            [sum(plane[side * j + y][side * i + x] for y in range(side) for x in range(side)) for i in range(count)]
            for j in range(count)
        ]
        for plane in grid
    ]


def samples(s: Grid) -> list[int]:
    """Section 10.1: 64 luma, 16 Cb, 16 Cr from the sums over 32 x 32 pixels."""
    u = added(s, 2)
    luma = [
        clip((13933 * s[0][r][c] + 46871 * s[1][r][c] + 4732 * s[2][r][c] + 2**21) >> 22, 0, 4080)
        for r in range(8)
        for c in range(8)
    ]
    cb = [
        clip(((-7509 * u[0][r][c] - 25259 * u[1][r][c] + 32768 * u[2][r][c] + 2**23) >> 24) + 2048, 0, 4080)
        for r in range(4)
        for c in range(4)
    ]
    cr = [
        clip(((32768 * u[0][r][c] - 29763 * u[1][r][c] - 3005 * u[2][r][c] + 2**23) >> 24) + 2048, 0, 4080)
        for r in range(4)
        for c in range(4)
    ]
    return luma + cb + cr


def restored(coded: Sequence[int], moved: Sequence[int], still: Sequence[int]) -> list[int]:
    """Section 24.1."""
    return [clip(c + m - s, 0, 4080) for c, m, s in zip(coded, moved, still, strict=True)]


class ReferenceMoved:
    """Section 24.2: the moved samples of a keyframe, and those of the one that stands still."""

    def __init__(self, picture: Picture) -> None:
        self.k = sums(picture, 4)
        self.still = samples(added(self.k, 8))
        self.made: dict[tuple[int, ...], list[int]] = {}

    def weights(self, shape: int, x: int, y: int, distance: int) -> list[list[int]]:
        wide = max((REACHES[shape >> 4] * distance) >> 4, 1)
        high = max((wide * 21) >> 4, 1)
        across = [(64 * (4 * i + 2 - x) ** 2) // (wide * wide) for i in range(64)]
        down = [(64 * (4 * j + 2 - y + ((distance * 5) >> 4)) ** 2) // (high * high) for j in range(64)]
        return [[clip(96 - across[i] - down[j], 0, 64) for i in range(64)] for j in range(64)]

    def frame(self, shape: int, x: int, y: int, distance: int, motion: Sequence[int] | None) -> list[int]:
        """96 samples; ``motion``: the frame's numbers, or None if it has none or they are lost."""
        head = (0, 0, 0, 0) if motion is None else tuple(motion[:4])
        key = (shape, x, y, distance, *head)
        if key not in self.made:
            self.made[key] = self._frame(shape, x, y, distance, head)
        return self.made[key]

    def _frame(self, shape: int, x: int, y: int, distance: int, m: tuple[int, ...]) -> list[int]:
        weight = self.weights(shape, x, y, distance)
        far, turned = SHARES[(shape >> 2) & 3], SHARES[shape & 3]
        a = clip((m[0] * turned) >> 4, -512, 1024) + 1024
        n = clip((m[1] * turned) >> 4, -1024, 1024)
        gx = clip((m[2] * far * distance) >> 10, -4096, 4096)
        gy = clip((m[3] * far * distance) >> 10, -4096, 4096)
        big_a = (a * 2**22) // (a * a + n * n)
        big_n = (n * 2**22) // (a * a + n * n)
        moved: Grid = [[[0] * 64 for _ in range(64)] for _ in range(3)]
        for j in range(64):
            for i in range(64):
                p, q = 16 * (4 * i + 2), 16 * (4 * j + 2)
                u, v = p - 16 * x - gx, q - 16 * y - gy
                p2 = p + (((16 * x + ((big_a * u + big_n * v) >> 12) - p) * weight[j][i]) >> 6)
                q2 = q + (((16 * y + ((big_a * v - big_n * u) >> 12) - q) * weight[j][i]) >> 6)
                s, t = clip(p2, 32, 4064) - 32, clip(q2, 32, 4064) - 32
                i2, j2 = min(s >> 6, 62), min(t >> 6, 62)
                f, g = s - 64 * i2, t - 64 * j2
                for channel in range(3):
                    k = self.k[channel]
                    upper = (64 - f) * k[j2][i2] + f * k[j2][i2 + 1]
                    lower = (64 - f) * k[j2 + 1][i2] + f * k[j2 + 1][i2 + 1]
                    moved[channel][j][i] = (64 - g) * upper + g * lower
        squares = [[[(total + 2048) >> 12 for total in row] for row in plane] for plane in added(moved, 8)]
        return samples(squares)


def rgb(sample: Sequence[int]) -> list[list[list[int]]]:
    """Section 10.1: 8 rows of 8 pixels of a tiny frame, each of 3 channels."""

    def pixel(row: int, column: int) -> list[int]:
        y = sample[8 * row + column]
        b, r = (sample[start + 4 * (row // 2) + column // 2] - 2048 for start in (64, 80))
        red = (65536 * y + 103206 * r + 2**19) >> 20
        green = (65536 * y - 12276 * b - 30679 * r + 2**19) >> 20
        blue = (65536 * y + 121609 * b + 2**19) >> 20
        return [clip(value, 0, 255) for value in (red, green, blue)]

    return [[pixel(row, column) for column in range(8)] for row in range(8)]


class ReferenceStream:
    """Sections 10, 22 and 24 together: the tiny frames of chunks as `reference_container.read` gives them.

    Args:
        tiny, motion: tables of both layers, as `reference_decoder` and `reference_numbers` read them.
        keyframes: the decoded keyframes, in the order of the stream.
    """

    def __init__(self, tiny: dict[str, Any], motion: dict[str, Any], keyframes: Sequence[ReferenceMoved]) -> None:
        self.tiny, self.motion = ReferenceDecoder(tiny), ReferenceMotionDecoder(motion)
        self.keyframes = iter(keyframes)
        self.frames: list[list[int]] = []
        """96 samples of each frame."""
        self.moves: list[list[int] | None] = []
        """Its numbers of motion; None if it has none, or they are lost."""

    def keyframe(self) -> None:
        self.maker = next(self.keyframes)
        self.last = self.maker.still
        self.tiny.reset(self.maker.still)
        self.motion.reset([])

    def read(self, chunk: tuple[Any, ...], *, lost: bool = False) -> None:
        """Take the next chunk in; ``lost``: only its frames are known, as by a reader that bridges a gap."""
        kind = chunk[0]
        if kind == "keyframe":
            self.keyframe()
        elif kind == "motion":
            _, _, count, _, data = chunk
            try:
                numbers, there = ([], [False] * count) if lost else self.motion.decode(data, count)
            except Malformed:
                lost, there = True, [False] * count
            if lost:
                self.motion.began, self.motion.known = True, False
            self.moves += [numbers[i] if there[i] else None for i in range(count)]
        elif kind in ("tiny", "tiny moved"):
            _, _, count, _, data, *how = chunk
            try:
                coded = [] if lost else self.tiny.decode(data, count)
            except Malformed:
                lost = True
            if lost:
                self.tiny.began, self.tiny.known = True, False
                self.frames += [self.last] * count
                return
            self.last = coded[-1]
            for one in coded:
                here = len(self.frames)
                move = self.moves[here] if here < len(self.moves) else None
                if kind == "tiny moved":
                    shape, x, y, distance = how
                    moved = self.maker.frame(shape, x, y, distance, move)
                    one = restored(one, moved, self.maker.still)
                self.frames.append(one)
