"""Graphs in ONNX made into programs for the engine of the module for browsers (tfcodec/web/engine/engine.c).

The engine computes one picture at a time and lays nothing out: every operation's sizes and addresses are decided here.
What only moves numbers (slices, transpositions, ...) becomes a `View` where it can, and no operation at all.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

Array = NDArray[Any]
MAGIC = b"TFPROG02"
SHARED = 128 * 1024
"""Where threads meet: the engine's structure of that name. Below are the engine's own stack and constants."""
STACKS = SHARED + 4096
"""Stacks of the threads but the first, of 64 KiB each."""
MOST_THREADS = 8
FIRST = STACKS + MOST_THREADS * 65536
"""Where programs, constants and what is computed begin."""
_SLACK = 128  # bytes that vectors may read or write past a buffer's end


class Code(IntEnum):
    """Operations; the order is the engine's."""

    END, CONV, PAD, COPY, BINARY, UNARY, GRID, RESIZE, MATMUL, REDUCE, POOL, SOFTMAX, NORM, CONV4 = range(14)


class Binary(IntEnum):
    """Kinds of `Code.BINARY`."""

    ADD, SUB, MUL, DIV, LESS, GREATER, MAXIMUM = range(7)


class Unary(IntEnum):
    """Kinds of `Code.UNARY`."""

    SIGMOID, SILU, EXP, NEG, CLIP, SQRT, ROUND = range(7)


class Reduce(IntEnum):
    """Kinds of `Code.REDUCE`."""

    SUM, MEAN, L2 = range(3)


@dataclass(eq=False)
class Buffer:
    """A piece of the engine's memory of ``count`` 32-bit numbers; constants have ``values``."""

    count: int
    values: Array | None = None
    inputs: int = 0
    """Of weights that the engine transforms when they are loaded, 9 of ``values`` to 24 numbers: input channels."""
    kept: bool = False
    """Whether it keeps its place between programs, as what goes in and comes out does."""
    address: int = -1


@dataclass(frozen=True)
class View:
    """Numbers of a buffer as a tensor: strides and offset are in numbers."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def whole(self) -> bool:
        """Whether the numbers lie one after the other, as a tensor of its own would have them."""
        return all(n == 1 or s == t for n, s, t in zip(self.shape, self.strides, dense(self.shape), strict=True))

    @property
    def moving(self) -> list[int]:
        """Strides of the dimensions that have more than one number."""
        return [s for n, s in zip(self.shape, self.strides, strict=True) if n > 1]

    @property
    def order(self) -> list[int]:
        """Its dimensions, from the one with the largest stride on."""
        return sorted(range(len(self.shape)), key=lambda d: (-self.strides[d], d))

    def moved(self, order: Sequence[int]) -> View:
        """Transposed."""
        return View(
            self.buffer, tuple(self.shape[d] for d in order), tuple(self.strides[d] for d in order), self.offset
        )

    def part(self, axis: int, start: int, count: int, step: int = 1) -> View:
        """A slice."""
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = count, strides[axis] * step
        return View(self.buffer, tuple(shape), tuple(strides), self.offset + start * self.strides[axis])

    def spread(self, shape: Sequence[int]) -> View:
        """Broadcast to a shape."""
        missing = len(shape) - len(self.shape)
        own = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        taken = tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(own, shape, strides, strict=True))
        return View(self.buffer, tuple(shape), taken, self.offset)


Argument = int | View | Buffer


@dataclass
class Operation:
    """One of a program: its code, whether it is worth more than one thread, its arguments."""

    code: Code
    shared: bool
    arguments: list[Argument]


@dataclass
class Program:
    """What computes one graph. Inputs and outputs are buffers that keep their place."""

    operations: list[Operation] = field(default_factory=list)
    inputs: dict[str, Buffer] = field(default_factory=dict)
    outputs: dict[str, Buffer] = field(default_factory=dict)

    def add(self, code: Code, work: int, *arguments: Argument) -> None:
        """Append an operation; ``work`` is about how many multiplications it takes."""
        self.operations.append(Operation(code, work > 16384, list(arguments)))


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a tensor whose numbers lie one after the other."""
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def folded(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """A shape and several views' strides in it in five dimensions, joining those that can be.

    Raises MediaError where five are not enough.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(step[-1] == s[d] * n for step, s in zip(steps, strides, strict=True)):
            sizes[-1] *= n
            for step, s in zip(steps, strides, strict=True):
                step[-1] = s[d]
            continue
        sizes.append(n)
        for step, s in zip(steps, strides, strict=True):
            step.append(s[d])
    if len(sizes) > 5:
        raise MediaError(f"the engine for browsers has no operations in {len(sizes)} dimensions")
    missing = 5 - len(sizes)
    return [1] * missing + sizes, [[0] * missing + step for step in steps]


def place(programs: Iterable[Program]) -> int:
    """Give all buffers of programs that share a memory their addresses; how many bytes the memory has to have.

    Programs run one after the other: what they need in between takes the same place.
    """
    programs = list(programs)
    top = FIRST
    for program in programs:  # first what keeps its place
        top += 4 * (sum(3 + _words(op) for op in program.operations) + 1)
    top = -(-top // 64) * 64
    for program in programs:
        fixed = [b for op in program.operations for b in _buffers(op) if b.values is not None or b.kept]
        for buffer in [*program.inputs.values(), *program.outputs.values(), *fixed]:
            if buffer.address < 0:
                buffer.address = top
                top += _bytes(buffer)
    return max([top, *(_place_temporary(program, top) for program in programs)])


def _place_temporary(program: Program, base: int) -> int:
    life: dict[Buffer, tuple[int, int]] = {}
    for at, op in enumerate(program.operations):
        for buffer in _buffers(op):
            if buffer.address < 0:
                life[buffer] = life.get(buffer, (at, at))[0], at
    taken: list[tuple[Buffer, int, int]] = []
    top = base
    for buffer in sorted(life, key=lambda b: -b.count):
        first, last = life[buffer]
        at = base
        for other, begin, end in sorted(taken, key=lambda x: x[0].address):
            if begin > last or end < first:
                continue
            if other.address - at >= _bytes(buffer):
                break
            at = max(at, other.address + _bytes(other))
        buffer.address = at
        taken.append((buffer, first, last))
        top = max(top, at + _bytes(buffer))
    return top


class Written(NamedTuple):
    """Programs for the engine."""

    memory: dict[str, int]
    """What the engine's memory is like: its bytes in all, and where in it the things are that no program has."""
    files: dict[str, bytes]


def write(programs: Mapping[str, Program]) -> Written:
    """Programs that share a memory, as files.

    A file has `MAGIC`, the length of its header in 32 bits (little-endian), the header in JSON, and what belongs into
    the memory: pieces of 32-bit numbers (``i32`` and ``f32``), or of floats in 16 bits (``f16``) that have to be
    widened, each with its address, its count and `Buffer.inputs`.
    """
    staging = -(-place(programs.values()) // 64) * 64
    most = 0
    files = {}
    written: set[Buffer] = set()
    start = FIRST
    for name, program in programs.items():
        words = np.array(_encoded(program), "<i4")
        pieces = [("i32", start, words, 0)]
        for buffer in [b for op in program.operations for b in _buffers(op) if b.values is not None]:
            if buffer in written:
                continue
            written.add(buffer)
            pieces.append(_piece(buffer))
            most = max(most, 6 * len(pieces[-1][2]) + 64)
        sizes = {"i32": 4, "f32": 4, "f16": 2}
        header = {
            "program": start, "pieces": [[kind, address, len(v), inputs] for kind, address, v, inputs in pieces],
            "inputs": {k: [b.address, b.count] for k, b in program.inputs.items()},
            "outputs": {k: [b.address, b.count] for k, b in program.outputs.items()},
        }  # fmt: skip
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(MAGIC) + 4 + len(text)) % 4)
        body = [v.tobytes() + bytes(-len(v) * sizes[kind] % 4) for kind, _, v, _ in pieces]
        files[name] = MAGIC + struct.pack("<I", len(text)) + text + b"".join(body)
        start += 4 * len(words)
    memory = -(-(staging + most + _SLACK) // 65536) * 65536
    return Written(
        {"memory": memory, "staging": staging, "shared": SHARED, "stacks": STACKS, "threads": MOST_THREADS}, files
    )


def _piece(buffer: Buffer) -> tuple[str, int, Array, int]:
    assert buffer.values is not None
    values = buffer.values.ravel()
    if values.dtype == np.int32:
        return "i32", buffer.address, values.astype("<i4"), 0
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if len(values) >= 16 and np.array_equal(halves.astype(np.float32), values):
        return "f16", buffer.address, halves, buffer.inputs
    return "f32", buffer.address, values.astype("<f4"), buffer.inputs


def _encoded(program: Program) -> list[int]:
    words: list[int] = []
    for op in program.operations:
        values = [_number(x) for x in op.arguments]
        words += [op.code, 3 + len(values), int(op.shared), *values]
    return [*words, int(Code.END)]


def _number(x: Argument) -> int:
    if isinstance(x, View):
        return x.buffer.address + 4 * x.offset
    return x.address if isinstance(x, Buffer) else int(x)


def _buffers(op: Operation) -> list[Buffer]:
    found = (x.buffer if isinstance(x, View) else x for x in op.arguments)
    return [x for x in found if isinstance(x, Buffer)]


def _words(op: Operation) -> int:
    return len(op.arguments)


def _bytes(buffer: Buffer) -> int:
    return -(-(4 * buffer.count + _SLACK) // 64) * 64
