"""Lowers the graphs that `portable` exports to programs of the engine for browsers: see `program`.

Operators that the network does not have are not known here; `lower` refuses graphs with others.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..errors import MediaError
from .lowering_values import Late, Values, bits
from .program import MOST_THREADS, Array, Binary, Buffer, Code, Program, Reduce, View, dense

_REDUCE = {"ReduceSum": Reduce.SUM, "ReduceMean": Reduce.MEAN, "ReduceL2": Reduce.L2}
FEW_TILES = 64
"""Tiles of 4 rows and 2 columns that a convolution does together; of maps with no more, threads share the channels."""


def lower(model: Any, io: dict[str, Buffer]) -> Program:
    """The program of a graph for single pictures.

    Args:
        model: as `onnx` loads it; constants are folded, all shapes are known, the batch is 1.
        io: the buffers of what goes in and comes out, by name; those that are missing are put there. Graphs that hand
            something over are given the same.

    Raises:
        MediaError: something in the graph is none of what the engine can.
    """
    return _Lowering(model, io).program


class _Lowering(Values):
    # -- convolutions

    def _fused(self, node: Any) -> bool:
        """Whether a sum was computed by the convolution that is one of its terms."""
        for name, other in (node.input, reversed(node.input)):
            at = self.makers.get(name)
            if at is None or name in self.values or self.nodes[at].op_type != "Conv" or self.uses[name] > 1:
                continue
            residual = self.view(other)
            out = self.convolve(self.nodes[at], self.attributes[at], self.as_whole(residual))
            self.values[name] = self.values[node.output[0]] = out
            return True
        return False

    def _conv(self, node: Any, a: dict[str, Any]) -> None:
        self.values[node.output[0]] = self.convolve(node, a, None)

    def convolve(self, node: Any, a: dict[str, Any], residual: View | None) -> View:
        """A convolution, and what is added to it."""
        weights = np.asarray(self.known(node.input[1]), np.float32)
        outputs, inputs, side, across = weights.shape
        stride = a.get("strides", [1, 1])
        if (side, across) not in ((1, 1), (3, 3)) or a.get("group", 1) != 1 or a.get("dilations", [1, 1]) != [1, 1]:
            raise MediaError(f"{node.name}: the engine for browsers has no convolutions but those of 1 and 3 pixels")
        if list(stride) not in ([1, 1], [2, 2])[: side // 2 + 1] or a.get("pads", [0] * 4) != [side // 2] * 4:
            raise MediaError(f"{node.name}: the engine for browsers has no convolution with these edges")
        source, inputs = self._without_zeros(node.input[0], weights)
        weights = weights[:, :inputs]
        late = self.value(source)
        if side == 1 or not isinstance(late, Late):
            late = Late((self.whole(source) if side == 1 else self.view(source),), False)
        count = late.parts[0].shape[0]
        height, width = (n // stride[0] for n in late.parts[0].shape[2:])
        bias = np.zeros(-(-outputs // 4) * 4, np.float32)
        if len(node.input) > 2:
            bias[:outputs] = self.known(node.input[2])
        packed = np.zeros((len(bias), inputs, side**2), np.float32)
        packed[:outputs] = weights.reshape(outputs, inputs, -1)
        packed = np.ascontiguousarray(packed.reshape(-1, 4, inputs, side**2).transpose(0, 2, 3, 1))
        out = self.new((count, outputs, height, width))
        if side == 3 and stride[0] == 1 and width % 2 == 0 and width <= 512:
            matrix = Buffer(24 * packed.size // 9, packed, inputs)
            for i in range(count):
                self._square(late, i, matrix, bias, residual, out)
            return out
        matrix = self.constant(packed).buffer
        for i in range(count):
            if side == 1:
                given: View = late.parts[0].part(0, i, 1)
                plane, row, offsets = height * width, width, [0]
            else:
                given, plane, row = self._with_margin(_one(late, i), stride[0])
                offsets = _taps(side, stride[0], plane, row)
            self.program.add(
                Code.CONV, weights.size * height * width, given, matrix, self.constant(bias),
                0 if residual is None else residual.part(0, i, 1), out.part(0, i, 1), inputs, outputs, height, width,
                plane, row, side**2, self.constant(np.array(offsets, np.int32)),
            )  # fmt: skip
        return out

    def _square(self, late: Late, i: int, matrix: Buffer, bias: Array, residual: View | None, out: View) -> None:
        """A convolution of 3x3 pixels of one picture, by Winograd's algorithm."""
        parts = [self._in_rows(part.part(0, i, 1)) for part in late.parts]
        inputs = sum(part.shape[1] for part in parts)
        outputs, height, width = out.shape[1:]
        strips, across = -(-height // 4), width // 2
        by_groups = strips * across <= FEW_TILES
        together = strips if by_groups else max(1, min(strips // 4, FEW_TILES // across))
        columns = -(-together * across // 8) * 8
        size = 24 * ((inputs + len(bias)) * columns + 32) + 2 * inputs * (width + 16) + 64
        maps = [x for part in parts for x in (part, part.shape[1], part.strides[1], part.strides[2])]
        self.program.add(
            Code.CONV4, 9 * inputs * outputs * height * width, matrix, self.constant(bias),
            0 if residual is None else residual.part(0, i, 1), out.part(0, i, 1), inputs, outputs, height, width,
            Buffer(MOST_THREADS * size), size, together, int(by_groups), int(late.active), len(parts), *maps,
        )  # fmt: skip

    def _in_rows(self, view: View) -> View:
        """Maps whose rows' numbers lie one after the other."""
        return self.as_whole(view) if view.strides[3] != 1 and view.shape[3] > 1 else view

    def _without_zeros(self, name: str, weights: Array) -> tuple[str, int]:
        """What a convolution takes, without channels that were added for WebGPU; how many channels that are."""
        at = self.makers.get(name)
        if at is not None and self.nodes[at].op_type == "Pad" and self.nodes[at].name.endswith(".wide"):
            before = self.nodes[at].input[0]
            return before, weights.shape[1] - int(self.known(self.nodes[at].input[1])[5])
        return name, weights.shape[1]

    def _with_margin(self, late: Late, stride: int) -> tuple[View, int, int]:
        """Maps with zeros around, and the strides of channels and rows."""
        key = late.parts, late.active, stride
        if key not in self.padded:
            height, width = late.parts[0].shape[2:]
            row = width + 2 if stride == 1 else (width + 3) // 2
            rows = height + 2 if stride == 1 else (height + 3) // 2
            plane = rows * row * stride**2
            channels = sum(part.shape[1] for part in late.parts)
            buffer = Buffer(plane * channels)
            start = 0
            for part in map(self._in_rows, late.parts):
                count = part.shape[1]
                self.program.add(
                    Code.PAD, count * height * width * (8 if late.active else 1), part,
                    View(buffer, (count * plane,), (1,), start * plane), count, height, width, part.strides[1],
                    part.strides[2], plane, row, stride, int(late.active),
                )  # fmt: skip
                start += count
            self.padded[key] = View(buffer, (buffer.count,), (1,)), plane, row
        return self.padded[key]

    # -- places

    def _gridsample(self, node: Any, a: dict[str, Any]) -> None:
        mode, padding = a.get("mode", b"bilinear"), a.get("padding_mode", b"zeros")
        if mode not in (b"bilinear", b"linear") or padding == b"reflection" or a.get("align_corners", 0):
            raise MediaError("the engine for browsers samples bilinearly alone")
        picture, grid = self.whole(node.input[0]), self.view(node.input[1])
        count, channels, height, width = picture.shape
        _, rows, columns, _ = grid.shape
        if grid.strides[1] != columns * grid.strides[2]:
            grid = self.as_whole(grid)
        out = self.new((count, channels, rows, columns))
        for i in range(count):
            self.program.add(
                Code.GRID, 4 * channels * rows * columns, picture.part(0, i, 1), grid.part(0, i, 1), out.part(0, i, 1),
                channels, height, width, rows * columns, int(padding == b"border"), grid.strides[2], grid.strides[3],
            )  # fmt: skip
        self.values[node.output[0]] = out

    def _resize(self, node: Any, a: dict[str, Any]) -> None:
        picture = self.whole(node.input[0])
        count, channels, height, width = picture.shape
        sizes = [int(n) for n in self.known(node.input[3])] if len(node.input) > 3 else [
            int(n * s) for n, s in zip(picture.shape, self.known(node.input[2]), strict=True)
        ]  # fmt: skip
        if width > 512:
            raise MediaError("the engine for browsers enlarges no more than 512 columns")
        tables = []
        for before, after in ((height, sizes[2]), (width, sizes[3])):
            tables += [self.constant(x) for x in _around(before, after, a)]
        out = self.new((count, channels, *sizes[2:]))
        maps = count * channels
        self.program.add(Code.RESIZE, 4 * out.buffer.count, picture, out, maps, height, width, *sizes[2:], *tables)
        self.values[node.output[0]] = out

    def _averagepool(self, node: Any, a: dict[str, Any]) -> None:
        side = a["kernel_shape"][0]
        if a["kernel_shape"] != a["strides"] or any(a.get("pads", ())):
            raise MediaError("the engine for browsers averages over squares side by side alone")
        picture = self.whole(node.input[0])
        count, channels, height, width = picture.shape
        out = self.new((count, channels, height // side, width // side))
        self.program.add(Code.POOL, prod(picture.shape), picture, out, count * channels, height, width, side)
        self.values[node.output[0]] = out

    # -- matrices and rows

    def _matmul(self, node: Any, a: dict[str, Any]) -> None:
        self.values[node.output[0]] = self.product(self.whole(node.input[0]), self.whole(node.input[1]))

    def product(self, left: View, right: View) -> View:
        """A product of matrices, or of rows of them."""
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        m, inner, n = left.shape[-2], left.shape[-1], right.shape[-1]
        count = prod(batch)
        one, other = prod(left.shape[:-2]), prod(right.shape[:-2])
        if one not in (1, count) or other not in (1, count):
            raise MediaError("the engine for browsers has no products of matrices in several dimensions")
        out = self.new((*batch, m, n))
        rows, times = (count * m, 1) if other == 1 and one == count else (m, count)
        steps = (0 if one == 1 else m * inner), (0 if other == 1 else inner * n)
        self.program.add(Code.MATMUL, count * m * inner * n, left, right, out, times, rows, inner, n, *steps)
        return out

    def _gemm(self, node: Any, a: dict[str, Any]) -> None:
        if a.get("alpha", 1) != 1 or a.get("beta", 1) != 1 or a.get("transA"):
            raise MediaError("the engine for browsers has no such products of matrices")
        weights = self.known(node.input[1])
        matrix = self.constant(np.ascontiguousarray(weights.T if a.get("transB") else weights))
        out = self.product(self.whole(node.input[0]), matrix)
        if len(node.input) > 2:
            out = self.combine(Binary.ADD, out, self._operand(node.input[2]))
        self.values[node.output[0]] = out

    def _reduce(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        rank = len(view.shape)
        given = a["axes"] if "axes" in a else self.known(node.input[1])
        axes = sorted(int(x) % rank for x in given)
        rest = [d for d in range(rank) if d not in axes]
        moved = self.as_whole(view.moved([*rest, *axes]))
        kept = [view.shape[d] for d in rest]
        out = self.new(kept)
        count = prod(view.shape[d] for d in axes)
        if node.op_type not in _REDUCE:
            self._unknown(node, a)
        kind = _REDUCE[node.op_type]
        self.program.add(Code.REDUCE, prod(view.shape), int(kind), moved, out, prod(kept), count, 1)
        if a.get("keepdims", 1):
            shape = [1 if d in axes else n for d, n in enumerate(view.shape)]
            out = View(out.buffer, tuple(shape), dense(shape))
        self.values[node.output[0]] = out

    def _softmax(self, node: Any, a: dict[str, Any]) -> None:
        view = self.whole(node.input[0])
        if a.get("axis", -1) % len(view.shape) != len(view.shape) - 1:
            raise MediaError("the engine for browsers has no such softmax")
        out = self.new(view.shape)
        self.program.add(
            Code.SOFTMAX, 8 * out.buffer.count, view, out, prod(view.shape[:-1]), view.shape[-1],
        )  # fmt: skip
        self.values[node.output[0]] = out

    def _layernormalization(self, node: Any, a: dict[str, Any]) -> None:
        view = self.whole(node.input[0])
        scale, bias = (self.constant(self.known(name)) for name in node.input[1:3])
        if a.get("axis", -1) not in (-1, len(view.shape) - 1):
            raise MediaError("the engine for browsers normalises the last dimension alone")
        out = self.new(view.shape)
        self.program.add(
            Code.NORM, 4 * out.buffer.count, view, scale, bias, out, prod(view.shape[:-1]), view.shape[-1],
            bits(a.get("epsilon", 1e-5)),
        )  # fmt: skip
        self.values[node.output[0]] = out


def _one(late: Late, i: int) -> Late:
    """Of one picture."""
    return Late(tuple(part.part(0, i, 1) for part in late.parts), late.active)


def _taps(side: int, stride: int, plane: int, row: int) -> list[int]:
    """Where a convolution's taps lie, from the first one on, in maps with a margin."""
    steps = [(y, x) for y in range(side) for x in range(side)]
    if stride == 1:
        return [y * row + x for y, x in steps]
    return [((y & 1) * 2 + (x & 1)) * (plane // 4) + (y >> 1) * row + (x >> 1) for y, x in steps]


def _around(before: int, after: int, a: dict[str, Any]) -> tuple[Array, Array]:
    """The two rows around each of an enlarged picture [after, 2], and how far it is from the first to the second."""
    places = np.arange(after, dtype=np.float64)
    mode, how = a.get("mode", b"nearest"), a.get("coordinate_transformation_mode", b"half_pixel")
    if mode == b"nearest" and how == b"asymmetric" and a.get("nearest_mode") == b"floor":
        first = (places * before / after).astype(np.int32)
        return np.stack((first, first), 1), np.zeros(after, np.float32)
    if mode != b"linear" or how not in (b"half_pixel", b"pytorch_half_pixel"):
        raise MediaError(f"the engine for browsers has no enlargement of the mode {mode!r}, {how!r}")
    at = np.clip((places + 0.5) * before / after - 0.5, 0, before - 1)
    first = np.floor(at).astype(np.int32)
    return np.stack((first, np.minimum(first + 1, before - 1)), 1), (at - first).astype(np.float32)
