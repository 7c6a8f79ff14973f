"""Lowers the graphs that `portable` exports to programs of the engine for browsers: see `program`.

Operators that the network does not have are not known here; `lower` refuses graphs with others.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import MediaError
from .program import Array, Binary, Buffer, Code, Program, Reduce, Unary, View, dense, folded

_BINARY = {
    "Add": Binary.ADD, "Sub": Binary.SUB, "Mul": Binary.MUL, "Div": Binary.DIV, "Less": Binary.LESS,
    "Greater": Binary.GREATER, "Max": Binary.MAXIMUM,
}  # fmt: skip
_UNARY = {"Sigmoid": Unary.SIGMOID, "Exp": Unary.EXP, "Neg": Unary.NEG, "Sqrt": Unary.SQRT, "Round": Unary.ROUND}
_REDUCE = {"ReduceSum": Reduce.SUM, "ReduceMean": Reduce.MEAN, "ReduceL2": Reduce.L2}


@dataclass(frozen=True)
class _Late:
    """What is computed where it is used: maps side by side, and whether SiLU comes behind. For convolutions it is then
    done as they are given their margin."""

    parts: tuple[View, ...]
    active: bool


Value = View | Array | _Late


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


class _Lowering:
    def __init__(self, model: Any, io: dict[str, Buffer]) -> None:
        from onnx import helper, numpy_helper

        self.program = Program()
        graph = model.graph
        self.nodes = list(graph.node)
        self.attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in self.nodes]
        self.makers = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.uses.update(x.name for x in graph.output)
        self.users = {name: i for i, node in enumerate(self.nodes) for name in node.input}
        self.values: dict[str, Value] = {t.name: _constant(numpy_helper.to_array(t)) for t in graph.initializer}
        self.constants: dict[bytes, Buffer] = {}
        self.padded: dict[tuple[Any, ...], tuple[View, int, int]] = {}
        for x in graph.input:
            shape = tuple(d.dim_value for d in x.type.tensor_type.shape.dim)
            buffer = io.setdefault(x.name, Buffer(prod(shape), kept=True))
            self.program.inputs[x.name] = buffer
            self.values[x.name] = View(buffer, shape, dense(shape))
        for x in graph.output:
            value = self.view(x.name)
            buffer = io.setdefault(x.name, Buffer(prod(value.shape), kept=True))
            self.program.outputs[x.name] = buffer
            self.copy(value, View(buffer, value.shape, dense(value.shape)))

    # -- values

    def value(self, name: str) -> Value:
        """What a name stands for; computes it when it is asked for the first time."""
        if name not in self.values:
            at = self.makers[name]
            node = self.nodes[at]
            if node.op_type in _BINARY:
                method: Callable[[Any, dict[str, Any]], None] = self._binary
            elif node.op_type in _UNARY:
                method = self._unary
            elif node.op_type in _REDUCE:
                method = self._reduce
            else:
                method = getattr(self, f"_{node.op_type.lower()}", self._unknown)
            method(node, self.attributes[at])
        return self.values[name]

    def _unknown(self, node: Any, a: dict[str, Any]) -> None:
        raise MediaError(f"the engine for browsers has no {node.op_type}")

    def view(self, name: str) -> View:
        """A value as numbers in memory."""
        value = self.value(name)
        if isinstance(value, _Late):
            value = self._now(value)
            self.values[name] = value
        return value if isinstance(value, View) else self.constant(value)

    def known(self, name: str) -> Array:
        """A value that has to be constant."""
        value = self.value(name)
        if not isinstance(value, np.ndarray):
            raise MediaError(f"{name} is not constant")
        return value

    def constant(self, values: Array) -> View:
        """Constant numbers in memory, once."""
        if values.dtype != np.int32:
            values = np.asarray(values, np.float32)
        key = str(values.dtype).encode() + str(values.shape).encode() + values.tobytes()
        if key not in self.constants:
            self.constants[key] = Buffer(values.size, np.ascontiguousarray(values))
        return View(self.constants[key], values.shape, dense(values.shape))

    def new(self, shape: Sequence[int], order: Sequence[int] | None = None) -> View:
        """Room for a tensor whose dimensions lie in an order, from the outermost on."""
        order = list(range(len(shape))) if order is None else order
        steps = dense([shape[d] for d in order])
        strides = [0] * len(shape)
        for d, step in zip(order, steps, strict=True):
            strides[d] = step
        return View(Buffer(prod(shape)), tuple(shape), tuple(strides))

    def whole(self, name: str) -> View:
        """A value whose numbers lie one after the other."""
        return self._whole(self.view(name))

    def _whole(self, view: View) -> View:
        if view.whole:
            return view
        out = self.new(view.shape)
        self.copy(view, out)
        return out

    def copy(self, source: View, target: View) -> None:
        """From one place to another. Innermost is the longest row that one of them has in a piece."""
        live = [d for d, n in enumerate(source.shape) if n > 1]
        rows = [d for d in live if 1 in (source.strides[d], target.strides[d])]
        if rows:
            last = max(rows, key=lambda d: source.shape[d])
            live = [d for d in live if d != last] + [last]
        source, target = source.moved(live), target.moved(live)
        sizes, (steps, others) = folded(source.shape, source.strides, target.strides)
        self.program.add(Code.COPY, prod(sizes), source, target, *sizes, *steps, *others)

    def _now(self, late: _Late) -> View:
        view = late.parts[0] if len(late.parts) == 1 else self._side_by_side(late.parts, 1)
        return self._of_each(Unary.SILU, view) if late.active else view

    # -- element by element

    def _binary(self, node: Any, a: dict[str, Any]) -> None:
        name = node.output[0]
        if node.op_type == "Mul" and (silu := self._silu(node)):
            self.values[name] = silu
            return
        if node.op_type == "Add" and self._fused(node):
            return
        left, right = (self.value(x) for x in node.input)
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            raise MediaError(f"{name}: constants that are not folded")
        self.values[name] = self.combine(_BINARY[node.op_type], *(self._operand(x) for x in node.input))

    def _operand(self, name: str) -> View | Array:
        value = self.value(name)
        return value if isinstance(value, np.ndarray) else self.view(name)

    def combine(self, kind: Binary, left: View | Array, right: View | Array) -> View:
        """A binary operation; the result lies in memory as the larger of the two does."""
        shape = np.broadcast_shapes(left.shape, right.shape)
        full = [x for x in (left, right) if isinstance(x, View) and x.shape == shape and 0 not in x.moving]
        order = full[0].order if full else list(range(len(shape)))
        out = self.new(shape, order)
        pair = []
        for x in (left, right):
            if isinstance(x, np.ndarray):
                x = x.reshape((1,) * (len(shape) - x.ndim) + x.shape).transpose(order)
                pair.append(self.constant(np.ascontiguousarray(x)).spread([shape[d] for d in order]))
            else:
                pair.append(x.spread(shape).moved(order))
        moved = out.moved(order)
        sizes, (steps, others, _) = folded(moved.shape, pair[0].strides, pair[1].strides, moved.strides)
        self.program.add(Code.BINARY, prod(sizes), int(kind), pair[0], pair[1], out, *sizes, *steps, *others)
        return out

    def _unary(self, node: Any, a: dict[str, Any]) -> None:
        self.values[node.output[0]] = self._of_each(_UNARY[node.op_type], self.view(node.input[0]))

    def _clip(self, node: Any, a: dict[str, Any]) -> None:
        ends = [-3.4e38, 3.4e38]
        for k, name in enumerate(node.input[1:]):
            if name:
                ends[k] = float(self.known(name).item())
        self.values[node.output[0]] = self._of_each(Unary.CLIP, self.view(node.input[0]), *ends)

    def _of_each(self, kind: Unary, view: View, low: float = 0, high: float = 0) -> View:
        order = view.order
        if not view.moved(order).whole:
            view, order = self._whole(view), list(range(len(view.shape)))
        out = self.new(view.shape, order)
        count = prod(view.shape)
        self.program.add(Code.UNARY, 8 * count, int(kind), view, out, count, _bits(low), _bits(high))
        return out

    def _silu(self, node: Any) -> _Late | None:
        """x * sigmoid(x), if that is what a product is."""
        for x, gate in (node.input, reversed(node.input)):
            at = self.makers.get(gate)
            if at is not None and self.nodes[at].op_type == "Sigmoid" and self.nodes[at].input[0] == x:
                value = self.value(x)
                if isinstance(value, _Late) and not value.active:
                    return _Late(value.parts, True)
                return _Late((self.view(x),), True)
        return None

    def _pow(self, node: Any, a: dict[str, Any]) -> None:
        if self.known(node.input[1]).item() != 2:
            raise MediaError("the engine for browsers has no powers but squares")
        x = self.view(node.input[0])
        self.values[node.output[0]] = self.combine(Binary.MUL, x, x)

    def _where(self, node: Any, a: dict[str, Any]) -> None:
        condition, one, other = (self._operand(name) for name in node.input)
        not_so = self.combine(Binary.SUB, np.ones((), np.float32), condition)
        taken = self.combine(Binary.MUL, condition, one), self.combine(Binary.MUL, not_so, other)
        self.values[node.output[0]] = self.combine(Binary.ADD, *taken)

    def _cast(self, node: Any, a: dict[str, Any]) -> None:
        self.values[node.output[0]] = self.view(node.input[0])  # all is computed in floats, pixels too

    # -- what only moves numbers

    def _unsqueeze(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        rank = len(view.shape) + self.known(node.input[1]).size
        axes = {int(x) % rank for x in self.known(node.input[1])}
        shape, strides = list(view.shape), list(view.strides)
        for axis in sorted(axes):
            shape.insert(axis, 1)
            strides.insert(axis, 0)
        self.values[node.output[0]] = View(view.buffer, tuple(shape), tuple(strides), view.offset)

    def _squeeze(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        axes = {int(x) % len(view.shape) for x in self.known(node.input[1])}
        kept = [d for d in range(len(view.shape)) if d not in axes]
        self.values[node.output[0]] = view.moved(kept)

    def _transpose(self, node: Any, a: dict[str, Any]) -> None:
        self.values[node.output[0]] = self.view(node.input[0]).moved(a["perm"])

    def _reshape(self, node: Any, a: dict[str, Any]) -> None:
        view = self.whole(node.input[0])
        wanted = [int(n) or view.shape[d] for d, n in enumerate(self.known(node.input[1]))]
        if -1 in wanted:
            wanted[wanted.index(-1)] = prod(view.shape) // -prod(wanted)
        self.values[node.output[0]] = View(view.buffer, tuple(wanted), dense(wanted), view.offset)

    def _flatten(self, node: Any, a: dict[str, Any]) -> None:
        view = self.whole(node.input[0])
        axis = a.get("axis", 1)
        shape = prod(view.shape[:axis]), prod(view.shape[axis:])
        self.values[node.output[0]] = View(view.buffer, shape, dense(shape), view.offset)

    def _slice(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        starts, ends = (self.known(name) for name in node.input[1:3])
        axes = self.known(node.input[3]) if len(node.input) > 3 else range(len(starts))
        steps = self.known(node.input[4]) if len(node.input) > 4 else [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            taken = range(view.shape[axis])[slice(int(start), int(end), int(step))]
            view = view.part(int(axis) % len(view.shape), taken.start, len(taken), int(step))
        self.values[node.output[0]] = view

    def _split(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        axis = a.get("axis", 0) % len(view.shape)
        each = view.shape[axis] // len(node.output)
        sizes = self.known(node.input[1]) if len(node.input) > 1 else [each] * len(node.output)
        start = 0
        for name, size in zip(node.output, sizes, strict=True):
            self.values[name] = view.part(axis, start, int(size))
            start += int(size)

    def _gather(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        axis = a.get("axis", 0) % len(view.shape)
        index = self.known(node.input[1])
        places = [int(i) % view.shape[axis] for i in index.ravel()]
        if index.ndim == 0:
            one = view.part(axis, places[0], 1)
            self.values[node.output[0]] = one.moved([d for d in range(len(view.shape)) if d != axis])
        else:
            self.values[node.output[0]] = self._side_by_side([view.part(axis, i, 1) for i in places], axis)

    def _concat(self, node: Any, a: dict[str, Any]) -> None:
        views = [self.view(name) for name in node.input]
        axis = a["axis"] % len(views[0].shape)
        if axis == 1 and len(views[0].shape) == 4:
            self.values[node.output[0]] = _Late(tuple(views), False)
        else:
            self.values[node.output[0]] = self._side_by_side(views, axis)

    def _side_by_side(self, views: Sequence[View], axis: int) -> View:
        shape = list(views[0].shape)
        shape[axis] = sum(view.shape[axis] for view in views)
        # One after the other in memory, so that each part is copied in a piece.
        out = self.new(shape, [axis, *(d for d in range(len(shape)) if d != axis)])
        start = 0
        for view in views:
            self.copy(view, out.part(axis, start, view.shape[axis]))
            start += view.shape[axis]
        return out

    def _pad(self, node: Any, a: dict[str, Any]) -> None:
        view = self.view(node.input[0])
        ends = [int(x) for x in self.known(node.input[1])]
        before, after = ends[: len(ends) // 2], ends[len(ends) // 2 :]
        out = self.new([n + b + e for n, b, e in zip(view.shape, before, after, strict=True)])
        self.copy(self.constant(np.zeros((), np.float32)).spread(out.shape), out)
        inner = out
        for axis, (start, count) in enumerate(zip(before, view.shape, strict=True)):
            inner = inner.part(axis, start, count)
        self.copy(view, inner)
        self.values[node.output[0]] = out

    def _depthtospace(self, node: Any, a: dict[str, Any]) -> None:
        view = self.whole(node.input[0])
        side = a["blocksize"]
        n, channels, height, width = view.shape
        apart: tuple[int, ...] = (n, channels // side**2, side, side, height, width)
        order = [0, 1, 4, 2, 5, 3]
        if a.get("mode", b"DCR") == b"DCR":
            apart, order = (n, side, side, channels // side**2, height, width), [0, 3, 4, 1, 5, 2]
        moved = self._whole(View(view.buffer, apart, dense(apart), view.offset).moved(order))
        shape = n, channels // side**2, height * side, width * side
        self.values[node.output[0]] = View(moved.buffer, shape, dense(shape))

    # -- convolutions

    def _fused(self, node: Any) -> bool:
        """Whether a sum was computed by the convolution that is one of its terms."""
        for name, other in (node.input, reversed(node.input)):
            at = self.makers.get(name)
            if at is None or name in self.values or self.nodes[at].op_type != "Conv" or self.uses[name] > 1:
                continue
            residual = self.view(other)
            out = self.convolve(self.nodes[at], self.attributes[at], self._whole(residual))
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
        if side == 1 or not isinstance(late, _Late):
            late = _Late((self.whole(source) if side == 1 else self.view(source),), False)
        count = late.parts[0].shape[0]
        height, width = (n // stride[0] for n in late.parts[0].shape[2:])
        bias = np.zeros(-(-outputs // 4) * 4, np.float32)
        if len(node.input) > 2:
            bias[:outputs] = self.known(node.input[2])
        packed = np.zeros((len(bias), inputs, side**2), np.float32)
        packed[:outputs] = weights.reshape(outputs, inputs, -1)
        packed = np.ascontiguousarray(packed.reshape(-1, 4, inputs, side**2).transpose(0, 2, 3, 1))
        fast = side == 3 and stride[0] == 1 and height % 4 == 0
        matrix = Buffer(2 * packed.size, packed, inputs) if fast else self.constant(packed).buffer
        out = self.new((count, outputs, height, width))
        for i in range(count):
            if side == 1:
                given: View = late.parts[0].part(0, i, 1)
                plane, row, offsets = height * width, width, [0]
            else:
                one = _Late(tuple(part.part(0, i, 1) for part in late.parts), late.active)
                given, plane, row = self._with_margin(one, stride[0], fast)
                offsets = _taps(side, stride[0], plane, row)
            self.program.add(
                Code.CONV4 if fast else Code.CONV, weights.size * height * width, given, matrix, self.constant(bias),
                0 if residual is None else residual.part(0, i, 1), out.part(0, i, 1), inputs, outputs, height, width,
                plane, row, side**2, self.constant(np.array(offsets, np.int32)), int(side == 3 and stride[0] == 1),
            )  # fmt: skip
        return out

    def _without_zeros(self, name: str, weights: Array) -> tuple[str, int]:
        """What a convolution takes, without channels that were added for WebGPU; how many channels that are."""
        at = self.makers.get(name)
        if at is not None and self.nodes[at].op_type == "Pad" and self.nodes[at].name.endswith(".wide"):
            before = self.nodes[at].input[0]
            return before, weights.shape[1] - int(self.known(self.nodes[at].input[1])[5])
        return name, weights.shape[1]

    def _with_margin(self, late: _Late, stride: int, fast: bool) -> tuple[View, int, int]:
        """Maps with zeros around, and the strides of channels and rows."""
        key = late.parts, late.active, stride, fast
        if key not in self.padded:
            height, width = late.parts[0].shape[2:]
            row = width + 2 if stride == 1 else (width + 3) // 2
            rows = height + 2 if stride == 1 else (height + 3) // 2
            if fast:  # six transformed rows of four
                row, rows = -(-row // 4) * 4, height // 4 * 6
            plane = rows * row * stride**2
            channels = sum(part.shape[1] for part in late.parts)
            buffer = Buffer(plane * channels)
            start = 0
            for part in late.parts:
                if part.strides[3] != 1 and width > 1:
                    part = self._whole(part)
                count = part.shape[1]
                self.program.add(
                    Code.PAD4 if fast else Code.PAD, count * height * width * (8 if late.active else 1), part,
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
            grid = self._whole(grid)
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
        moved = self._whole(view.moved([*rest, *axes]))
        kept = [view.shape[d] for d in rest]
        out = self.new(kept)
        count = prod(view.shape[d] for d in axes)
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
            _bits(a.get("epsilon", 1e-5)),
        )  # fmt: skip
        self.values[node.output[0]] = out


def _constant(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype in (np.float16, np.float64) else values


def _bits(x: float) -> int:
    """A float as the integer of the same bits."""
    return int(struct.unpack("<i", struct.pack("<f", x))[0])


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
