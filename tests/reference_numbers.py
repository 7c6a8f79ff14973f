"""Second decoders of the layers of numbers, in plain Python, written from bitstream_spec.md and not from the package.

The specification says that motion and displacement are coded as tiny frames are, with rows of 16 and 12 and other
tables; so these build on the second decoder of tiny frames.
"""

from __future__ import annotations

from pathlib import Path

import reference_decoder as tiny
from reference_decoder import Coder, Malformed, ReferenceDecoder


def read_motion_tables(path: Path) -> dict[str, list]:  # type: ignore[type-arg]
    """Section 22.2: the arrays of section 10.2 with 16 for 96, and `forward` of 32 bits."""
    return _read_tables(path, b"TFMOTTA1", 16)


def read_displacement_tables(path: Path) -> dict[str, list]:  # type: ignore[type-arg]
    """Section 23.2: the same with 12."""
    return _read_tables(path, b"TFDSPTA1", 12)


def _read_tables(path: Path, magic: bytes, numbers: int) -> dict[str, list]:  # type: ignore[type-arg]
    shapes = [
        (name, 4 if name == "forward" else width, tuple(numbers if side == 96 else side for side in shape))
        for name, width, shape in tiny.SHAPES
    ]
    return tiny.read_arrays(path, magic, shapes)


class _Numbers(ReferenceDecoder):
    def __init__(self, tables: dict[str, list]) -> None:  # type: ignore[type-arg]
        super().__init__(tables)
        self.reset([])

    def reset(self, samples: list[int]) -> None:
        del samples  # everything starts from 0
        self.state = [0] * self.samples
        self.began = self.known = False

    def output(self, state: list[int]) -> list[int]:
        return [
            min(max((sum(w * c for w, c in zip(row, state, strict=True)) + 8192) >> 14, -32767), 32767)
            for row in self.t["inverse"]
        ]


class ReferenceDisplacementDecoder(_Numbers):
    """Section 23.3."""

    samples = 12

    def lose(self, frames: int) -> list[list[int]]:
        """Section 23.4."""
        self.began, self.known = True, False
        return [self.output(self.state)] * frames


class ReferenceMotionDecoder(_Numbers):
    samples = 16

    def decode(self, payload: bytes, frames: int) -> tuple[list[list[int]], list[bool]]:  # type: ignore[override]
        """Numbers [frames][16], and whether there is a face, of one payload."""
        coder = Coder(payload)
        if not self.began or coder.bit(2**24 // 32):
            self.start_history()
            self.step = coder.bits(6)
            self.present = True
        elif not self.known:
            raise Malformed("contexts are lost")
        elif coder.bit(2**24 // 64):
            self.step = coder.bits(6)
        self.began = self.known = True
        there = []
        for _ in range(frames):
            if coder.bit(2**24 // 256 if self.present else 2**24 // 16):
                self.present = not self.present
            there.append(self.present)
        left = sum(there)
        held = self.output(self.state)
        coded: list[list[int]] = []
        while left > len(coded):
            size = 0
            for s in range(5, 0, -1):
                if tiny.SIZES[s] <= left - len(coded) and coder.bit(
                    self.odds(self.t["group_split"][self.last_size][s])
                ):
                    size = s
                    break
            coded += self.group(coder, size)
        if len(payload) > 4 * coder.words:
            raise Malformed("bytes left over")
        numbers = []
        for present in there:
            held = coded.pop(0) if present else held
            numbers.append(held)
        return numbers, there
