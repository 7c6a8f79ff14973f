"""What lowering knows of a graph's values: constants, numbers in memory, what is done element by element or only moves
them. The layers are in `lowering`.
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
from .program import Array, Binary, Buffer, Code, Program, Unary, View, dense, folded

_BINARY = {
    "Add": Binary.ADD, "Sub": Binary.SUB, "Mul": Binary.MUL, "Div": Binary.DIV, "Less": Binary.LESS,
    "Greater": Binary.GREATER, "Max": Binary.MAXIMUM,
}  # fmt: skip
_UNARY = {"Sigmoid": Unary.SIGMOID, "Exp": Unary.EXP, "Neg": Unary.NEG, "Sqrt": Unary.SQRT, "Round": Unary.ROUND}


@dataclass(frozen=True)
class Late:
    """What is computed where it is used: maps side by side, and whether SiLU comes behind. For convolutions it is then
    done as they are given their margin."""

    parts: tuple[View, ...]
    active: bool


Value = View | Array | Late


class Values:
    """The values of a graph, and the program that computes them."""

    def __init__(self, model: Any, io: dict[str, Buffer]) -> None:
        from onnx import helper, numpy_helper

        self.program = Program()
        graph = model.graph
        self.nodes = list(graph.node)
        self.attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in self.nodes]
        self.makers = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.uses.update(x.name for x in graph.output)
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
            elif node.op_type.startswith("Reduce"):
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
        if isinstance(value, Late):
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
        return self.as_whole(self.view(name))

    def as_whole(self, view: View) -> View:
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

    def _now(self, late: Late) -> View:
        view = late.parts[0] if len(late.parts) == 1 else self._side_by_side(late.parts, 1)
        return self._of_each(Unary.SILU, view) if late.active else view

    def _fused(self, node: Any) -> bool:
        """Whether a sum was computed by what computes one of its terms."""
        raise NotImplementedError

    def _reduce(self, node: Any, a: dict[str, Any]) -> None:
        raise NotImplementedError

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
            view, order = self.as_whole(view), list(range(len(view.shape)))
        out = self.new(view.shape, order)
        count = prod(view.shape)
        self.program.add(Code.UNARY, 8 * count, int(kind), view, out, count, bits(low), bits(high))
        return out

    def _silu(self, node: Any) -> Late | None:
        """x * sigmoid(x), if that is what a product is."""
        for x, gate in (node.input, reversed(node.input)):
            at = self.makers.get(gate)
            if at is not None and self.nodes[at].op_type == "Sigmoid" and self.nodes[at].input[0] == x:
                value = self.value(x)
                if isinstance(value, Late) and not value.active:
                    return Late(value.parts, True)
                return Late((self.view(x),), True)
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
            self.values[node.output[0]] = Late(tuple(views), False)
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
        moved = self.as_whole(View(view.buffer, apart, dense(apart), view.offset).moved(order))
        shape = n, channels // side**2, height * side, width * side
        self.values[node.output[0]] = View(moved.buffer, shape, dense(shape))


def _constant(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype in (np.float16, np.float64) else values


def bits(x: float) -> int:
    """A float as the integer of the same bits."""
    return int(struct.unpack("<i", struct.pack("<f", x))[0])
