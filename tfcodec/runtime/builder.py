"""Writes networks for ncnn, layer by layer: its text of layers and its file of weights, with numpy alone.

Blobs are [channels, height, width].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_MAGIC = 7767517
_HALVES, _FLOATS = 0x01306B47, 0
"""How ncnn marks weights stored in float16 and in float32."""
_ADD, _SUB, _MUL = 0, 1, 2
NO_WINOGRAD = 1 << 6
"""For layers that run once a keyframe: the transformed weights would take longer to make than they save."""


class Blob(NamedTuple):
    """What a layer gives: its name and its shape."""

    name: str
    channels: int
    height: int
    width: int


class _Layer(NamedTuple):
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[Blob, ...]
    parameters: tuple[str, ...]


Parts = Sequence[tuple[Blob, Array]]
"""Blobs side by side, and the weights [out, in, k, k] that a convolution has for each."""


class Builder:
    """Collects layers; `text` and `weights` are what ncnn loads.

    Args:
        state: the network's weights by name; a prefix of names stands for a layer.
    """

    def __init__(self, state: Mapping[str, Array]) -> None:
        self.state = state
        self.once = False
        """Whether layers that are added now run once a keyframe."""
        self._layers: list[_Layer] = []
        self._weights: list[bytes] = []
        self.inputs: dict[str, Blob] = {}
        """What is given from outside, by name."""

    # -- what ncnn loads

    def text(self) -> str:
        """ncnn's .param file."""
        uses = Counter(name for layer in self._layers for name in layer.inputs)
        taken: Counter[str] = Counter()
        lines = []
        for number, (kind, inputs, outputs, parameters) in enumerate(self._layers):
            names = []
            for name in inputs:
                names.append(name if uses[name] == 1 else f"{name}_{taken[name]}")
                taken[name] += 1
            tops = [blob.name for blob in outputs]
            lines.append(_line(kind, f"l{number}", names, tops, [*parameters, _hint(outputs)]))
            for blob in outputs:  # each blob of ncnn has one reader
                if uses[blob.name] > 1:
                    copies = [f"{blob.name}_{i}" for i in range(uses[blob.name])]
                    lines.append(_line("Split", f"s{blob.name}", [blob.name], copies, [_hint([blob] * len(copies))]))
        blobs = sum(len(layer.outputs) + sum(uses[b.name] for b in layer.outputs if uses[b.name] > 1)
                    for layer in self._layers)  # fmt: skip
        return "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n"

    def weights(self) -> bytes:
        """ncnn's .bin file."""
        return b"".join(self._weights)

    # -- layers

    def add(
        self, kind: str, inputs: Sequence[Blob], shape: tuple[int, int, int], *parameters: str, name: str = ""
    ) -> Blob:  # fmt: skip
        """A layer of one output."""
        blob = Blob(name or f"b{len(self._layers)}", *shape)
        self._layers.append(_Layer(kind, tuple(x.name for x in inputs), (blob,), parameters))
        return blob

    def input(self, name: str, channels: int, height: int, width: int) -> Blob:
        """What is given from outside; the same blob for the same name."""
        if name not in self.inputs:
            self.inputs[name] = self.add("Input", (), (channels, height, width), name=name)
        return self.inputs[name]

    def conv(self, x: Blob, name: str, stride: int = 1, scale: float = 1.0, shift: float | None = None) -> Blob:
        """The convolution called ``name`` with as many zeros around as its kernel needs; its result times ``scale``.

        ``shift`` is added to the last quarter of the channels, which `shuffle` makes one.
        """
        weight, bias = self.of(name)
        bias = bias * np.float32(scale)
        if shift is not None:
            bias[-len(bias) // 4 :] += np.float32(shift)
        return self.conv_of([(x, weight if scale == 1 else weight * np.float32(scale))], bias, stride)

    def of(self, name: str) -> tuple[Array, NDArray[np.float32]]:
        """Weights [out, in, k, k] and bias [out] of a convolution."""
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"].astype(np.float32)

    def conv_of(self, parts: Parts, bias: NDArray[np.float32] | None, stride: int = 1) -> Blob:
        """A convolution of blobs side by side."""
        weight = beside(*(weight for _, weight in parts))
        out, kernel = weight.shape[0], weight.shape[2]
        x = self.join([blob for blob, _ in parts])
        assert weight.shape[1] == x.channels, (weight.shape, x)
        self._keep(weight)
        if bias is not None:
            self._weights.append(bias.astype("<f4").tobytes())
        parameters = [
            f"0={out}", f"1={kernel}", f"3={stride}", f"4={kernel // 2}", f"5={int(bias is not None)}",
            f"6={weight.size}",
        ]  # fmt: skip
        if self.once:
            parameters.append(f"31={NO_WINOGRAD}")
        return self.add("Convolution", [x], (out, x.height // stride, x.width // stride), *parameters)

    def merged(self, parts: Parts, bias: Array, whole: int = 2) -> Blob:
        """A convolution of blobs side by side, of which the first ``whole`` have many channels.

        ncnn keeps 4, 8 or 16 channels together where it can, and joins blobs as the one of them has it that keeps the
        fewest: so where there are several small ones, they are joined first.
        """
        large, small = parts[:whole], parts[whole:]
        if len(small) > 5:
            small = [(self.join([blob for blob, _ in small]), beside(*(weight for _, weight in small)))]
        return self.conv_of([*large, *small], bias)

    def join(self, blobs: Sequence[Blob]) -> Blob:
        """Side by side along the channels."""
        if len(blobs) == 1:
            return blobs[0]
        first = blobs[0]
        assert all((x.height, x.width) == (first.height, first.width) for x in blobs), blobs
        return self.add("Concat", blobs, (sum(x.channels for x in blobs), first.height, first.width), "0=0")

    def silu(self, x: Blob) -> Blob:
        return self.add("Swish", [x], x[1:])

    def sigmoid(self, x: Blob) -> Blob:
        return self.add("Sigmoid", [x], x[1:])

    def plus(self, x: Blob, y: Blob | float) -> Blob:
        return self._binary(_ADD, x, y)

    def minus(self, x: Blob, y: Blob | float) -> Blob:
        return self._binary(_SUB, x, y)

    def times(self, x: Blob, y: Blob | float) -> Blob:
        """The product; ``x`` may have one channel, which then counts for all of ``y``'s."""
        return self._binary(_MUL, x, y)

    def _binary(self, kind: int, x: Blob, y: Blob | float) -> Blob:
        if not isinstance(y, Blob):
            return self.add("BinaryOp", [x], x[1:], f"0={kind}", "1=1", f"2={y:.9e}")
        assert x[2:] == y[2:], (x, y)
        return self.add("BinaryOp", [x, y], (max(x.channels, y.channels), *x[2:]), f"0={kind}")

    def block(self, x: Blob, name: str) -> Blob:
        """`tfcodec.model.blocks.ResBlock` without a condition."""
        y = self.conv(self.silu(x), f"{name}.conv1")
        return self.plus(x, self.conv(self.silu(y), f"{name}.conv2"))

    def blocks(self, x: Blob, name: str) -> Blob:
        """As many blocks as there are weights of, one after another."""
        number = 0
        while f"{name}.{number}.conv1.weight" in self.state:
            x = self.block(x, f"{name}.{number}")
            number += 1
        return x

    def up(self, x: Blob, factor: int, bicubic: bool = False) -> Blob:
        """Enlarged, bilinearly or bicubically."""
        if factor == 1:
            return x
        kind = 3 if bicubic else 2
        shape = x.channels, factor * x.height, factor * x.width
        return self.add("Interp", [x], shape, f"0={kind}", f"3={shape[1]}", f"4={shape[2]}")

    def box(self, x: Blob, size: int) -> Blob:
        """Box means down to a height of ``size``."""
        step = x.height // size
        if step == 1:
            return x
        return self.add("Pooling", [x], (x.channels, size, x.width // step), "0=1", f"1={step}", f"2={step}", "5=1")

    def sample(self, x: Blob, grid: Blob, shape: tuple[int, int] | None = None) -> Blob:
        """``x`` at the places [2, h, w] in -1..1; what lies outside is as at the edge."""
        height, width = shape or grid[2:]
        return self.add("GridSample", [x, grid], (x.channels, height, width), "0=1", "1=2", "2=0", "3=1")

    def grid(self, flow: Blob, size: int) -> Blob:
        """Where a flow [2, s, s] leads from the pixels of a picture of ``size``."""
        return self.plus(self.up(flow, size // flow.height), self.input(f"grid{size}", 2, size, size))

    def unshuffle(self, x: Blob) -> Blob:
        """Squares of 2x2 pixels as channels."""
        return self.add("Reorg", [x], (4 * x.channels, x.height // 2, x.width // 2), "0=2")

    def shuffle(self, x: Blob) -> Blob:
        """The reverse."""
        return self.add("PixelShuffle", [x], (x.channels // 4, 2 * x.height, 2 * x.width), "0=2")

    def split(self, x: Blob, first: int) -> tuple[Blob, Blob]:
        """The first channels, and the rest."""
        name = f"b{len(self._layers)}"
        out = Blob(name, first, *x[2:]), Blob(f"{name}r", x.channels - first, *x[2:])
        self._layers.append(_Layer("Slice", (x.name,), out, (f"-23300=2,{first},-233", "1=0")))
        return out

    def name(self, x: Blob, name: str) -> None:
        """Give a blob a name to ask for it."""
        self.add("Noop", [x], x[1:], name=name)

    def _keep(self, weight: Array) -> None:
        if weight.dtype == np.float16:
            data = weight.astype("<f2").tobytes()
            self._weights.append(np.uint32(_HALVES).astype("<u4").tobytes() + data + bytes(-len(data) % 4))
        else:
            self._weights.append(np.uint32(_FLOATS).astype("<u4").tobytes() + weight.astype("<f4").tobytes())


def beside(*weights: Array) -> Array:
    """Weights [out, in, k, k] of several inputs as those of all; in float16 if all are."""
    if all(x.dtype == np.float16 for x in weights):
        return np.concatenate(weights, 1)
    return np.concatenate([np.asarray(x, np.float32) for x in weights], 1)


def _line(kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], parameters: Sequence[str]) -> str:
    return " ".join([kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, *parameters])


def _hint(outputs: Sequence[Blob]) -> str:
    """The shapes, by which ncnn chooses how to compute."""
    numbers = [f"3,{x.width},{x.height},{x.channels}" for x in outputs]
    return f"-23330={4 * len(numbers)},{','.join(numbers)}"
