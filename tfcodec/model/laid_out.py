"""What `rearranged` is built of: convolutions with weights as oneDNN wants them, and what moves and enlarges maps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, box_down, rise_of
from .landmarks import HINTS
from .packed import centres
from .places import FLOW_UNIT

_LAST = torch.channels_last


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], stride: list[int], then: str
) -> Tensor:  # fmt: skip
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, [1, 1], 1, then, [], "")


def _convolve_onto(
    y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], stride: list[int]
) -> Tensor:  # fmt: skip
    return torch.ops.mkldnn._convolution_pointwise_(
        y, x, weight, bias, padding, stride, [1, 1], 1, "add", 1.0, None, [], ""
    )


class _Scripts(NamedTuple):
    convolve: Any
    onto: Any
    paste: Any


@cache
def scripts() -> _Scripts | None:
    """What cannot be recorded: calls with an empty list of numbers, and what decides by numbers how much to compute.

    None where this torch lacks the operators, which are no part of its public interface.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Scripts(*(torch.jit.script(of) for of in (_convolve, _convolve_onto, _paste)))
    except (AttributeError, RuntimeError):
        return None


def run() -> _Scripts:
    found = scripts()
    assert found is not None
    return found


class Prepared(NamedTuple):
    """What a frame wants to know of its keyframe, [1, ...]."""

    picture: Tensor
    small: Tensor
    key8: Tensor
    f128: Tensor
    f64: Tensor
    f32: Tensor
    f16: Tensor
    part16: Tensor
    part8: Tensor
    marks: Tensor
    face: Tensor
    mouth: Tensor
    mouth_stem: Tensor
    eyes: Tensor
    eyes_stem: Tensor


Maps = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Of `Prepared`, ``f128`` to ``part8``."""


class Coarse(NamedTuple):
    """Stage 1's: features, moved features of the keyframe, picture, its change, flow, hints."""

    x: Tensor
    f64: Tensor
    picture: Tensor
    paint: Tensor
    flow: Tensor
    told: Tensor
    drawn: Tensor


class Convolution:
    """A convolution of maps of ``size`` pixels with zeros around them.

    ``low``: in bfloat16, and so is what it gives.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, size: Sequence[int], stride: int = 1, low: bool = False
    ) -> None:
        kernel = weight.shape[-1]
        self._low = low
        self._padding, self._stride = [kernel // 2] * 2, [stride] * 2
        dtype = torch.bfloat16 if low else torch.float32
        self._bias = None if bias is None else bias.detach().to(dtype).contiguous()
        self.weight: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.detach().to(dtype).contiguous().to_mkldnn(), self._padding, self._stride, [1, 1], 1,
            [1, weight.shape[1], *size],  # type: ignore[call-arg]  # the stubs lack it
        )  # fmt: skip

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """``then``: swish (`F.silu`) of what it gives, or none."""
        x = x.bfloat16() if self._low else x
        out: Tensor = run().convolve(x, self.weight, self._bias, self._padding, self._stride, then)
        return out

    def onto(self, y: Tensor, x: Tensor) -> Tensor:
        """What it makes of ``x`` added to ``y``, float32 or as it computes, which is changed."""
        if self._low and y.dtype == torch.float32:
            return y.add_(self(x))
        out: Tensor = run().onto(y, x, self.weight, self._bias, self._padding, self._stride)
        return out


class Part:
    """Something made of convolutions, other parts, and lists of them."""

    def convolutions(self) -> Iterator[Convolution]:
        """All of them, in the order in which they were made."""
        for its in vars(self).values():
            for one in its if isinstance(its, list) else [its]:
                if isinstance(one, Part):
                    yield from one.convolutions()
                elif isinstance(one, Convolution):
                    yield one


class Block(Part):
    """`ResBlock`, which changes the map that it is given."""

    def __init__(self, block: nn.Module, size: Sequence[int], low: bool) -> None:
        assert isinstance(block, ResBlock)
        self._first = Convolution(block.conv1.weight, block.conv1.bias, size, low=low)
        self._second = Convolution(block.conv2.weight, block.conv2.bias, size, low=low)

    def __call__(self, x: Tensor) -> Tensor:
        return self._second.onto(x, self._first(F.silu(x), "swish"))


class Sum(Part):
    """Convolutions of several maps, added."""

    def __init__(self, weights: Sequence[Tensor], bias: Tensor | None, size: Sequence[int], low: bool) -> None:
        self._low = low
        if low:
            weights = [torch.cat(tuple(weights), 1)]
        self._parts = [Convolution(w, None if i else bias, size, low=low) for i, w in enumerate(weights)]

    def __call__(self, *maps: Tensor) -> Tensor:
        if self._low:  # copying costs less than adding several times
            return self._parts[0](joined(*(x.bfloat16() for x in maps))).float()
        y = self._parts[0](maps[0])
        for part, x in zip(self._parts[1:], maps[1:], strict=True):
            y = part.onto(y, x)
        return y


class Paint(Part):
    """What to add to a picture, [N, 3, 2 h, 2 w], and how much of another to mix in, [N, 1, 2 h, 2 w], of maps
    [N, C, h, w]: as `F.pixel_shuffle` of a convolution with 16 channels gives them, but by copies of whole rows.

    ``shift`` is added to what is mixed in, before its sigmoid.
    """

    def __init__(self, layer: nn.Conv2d, size: Sequence[int], shift: float, low: bool = False) -> None:
        assert layer.bias is not None
        bias = layer.bias.detach().clone()
        bias[12:] += shift
        weight, bias = (x.reshape(4, 4, *x.shape[1:]).transpose(0, 1).flatten(0, 1) for x in (layer.weight, bias))
        self._size = size
        self._convolution = Convolution(weight, bias, size, low=low)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self._size
        x = self._convolution(x).permute(0, 2, 3, 1).reshape(-1, height, width, 2, 8).transpose(2, 3)
        x = x.reshape(-1, 2 * height, 2 * width, 4).permute(0, 3, 1, 2)
        x = x.to(torch.float32, memory_format=torch.contiguous_format)
        return x[:, :3], x[:, 3:].sigmoid()


def of_layer(layer: nn.Conv2d, size: int | Sequence[int], stride: int = 1, scale: float = 1.0) -> Convolution:
    assert layer.bias is not None
    whole = (size, size) if isinstance(size, int) else size
    return Convolution(scale * layer.weight, scale * layer.bias, whole, stride)


def bias_of(*layers: nn.Conv2d) -> Tensor:
    return torch.stack([x.bias for x in layers if x.bias is not None]).sum(0)


def joined(*parts: Tensor) -> Tensor:
    """Small maps side by side, channels-last."""
    return torch.cat(parts, 1).contiguous(memory_format=_LAST)


def spread(x: Tensor, count: int) -> Tensor:
    """The same for so many frames, to be changed."""
    return x.expand(count, -1, -1, -1).clone(memory_format=_LAST)


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Rise(NamedTuple):
    """Enlarges pictures of a few channels by two matrix products."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, height: int, width: int, factor: int, mode: str = "bilinear") -> Rise:
        rows, columns = (rise_of(n, factor * n, mode, torch.device("cpu")) for n in (height, width))
        return cls(rows.contiguous(), columns.T.contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        return self.rows @ x.contiguous() @ self.columns


def places(flow: Tensor) -> Tensor:
    """Where flows [N, 2, h, w] lead from their pixels."""
    return (centres(flow.shape[-2], flow.shape[-1]) + flow).permute(0, 2, 3, 1)


def sampled(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _paste(
    picture: Tensor, change: Tensor, middle: Tensor, turn: Tensor, left: float, top: float, right: float, bottom: float
) -> Tensor:  # fmt: skip
    """`closeup.paste_square`, into the pixels that the square covers; a script, as it decides how many there are."""
    size = picture.shape[-1]
    a, b = 2 / (right - left), 2 / (bottom - top)
    # The corners; beyond an edge a pixel still mixes with what is inside.
    ex, ey = 1 + 2 / change.shape[-1], 1 + 2 / change.shape[-2]
    for at in range(picture.shape[0]):
        scale = turn[at].square().sum() / 2
        inverse = turn[at].t() / scale
        m00, m01 = float(inverse[0, 0]) * a, float(inverse[0, 1]) * a
        m10, m11 = float(inverse[1, 0]) * b, float(inverse[1, 1]) * b
        x0, y0 = float(middle[at, 0]), float(middle[at, 1])
        sx = m00 * x0 + m01 * y0 + (right + left) / (right - left)
        sy = m10 * x0 + m11 * y0 + (bottom + top) / (bottom - top)
        det = m00 * m11 - m01 * m10
        low_x, high_x, low_y, high_y = 1e9, -1e9, 1e9, -1e9
        for u in [-ex + sx, ex + sx]:
            for v in [-ey + sy, ey + sy]:
                x = ((m11 * u - m01 * v) / det + 1) * (size / 2)
                y = ((m00 * v - m10 * u) / det + 1) * (size / 2)
                low_x, high_x, low_y, high_y = min(low_x, x), max(high_x, x), min(low_y, y), max(high_y, y)
        left_at, right_at = int(max(0.0, min(low_x, float(size)))), int(max(0.0, min(high_x + 1, float(size))))
        top_at, bottom_at = int(max(0.0, min(low_y, float(size)))), int(max(0.0, min(high_y + 1, float(size))))
        if left_at < right_at and top_at < bottom_at:
            across = (torch.arange(left_at, right_at, dtype=torch.float32) * 2 + 1) / size - 1
            down = (torch.arange(top_at, bottom_at, dtype=torch.float32) * 2 + 1)[:, None] / size - 1
            grid = torch.stack((across * m00 + (down * m01 - sx), across * m10 + (down * m11 - sy)), -1)[None]
            pasted = torch.grid_sampler_2d(change[at : at + 1], grid, 0, 0, False)
            picture[at : at + 1, :, top_at:bottom_at, left_at:right_at] += pasted
    return picture


def hinting(layer: nn.Conv2d) -> Tensor:
    """Weights for motion, cover, shape and drawing, the motion and the shape as they are and not in units."""
    weight = layer.weight[:, -HINTS:].detach().clone()
    weight[:, :2] /= FLOW_UNIT
    weight[:, 3:5] /= FLOW_UNIT
    return weight


def wrong(now: Tensor, picture: Tensor) -> Tensor:
    """How far a picture is from the tiny frame."""
    return 4 * (now - box_down(picture, 8))
