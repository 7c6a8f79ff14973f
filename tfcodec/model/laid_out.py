"""What `rearranged` is built of: convolutions with weights as oneDNN wants them, and what they are added to."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, box_down
from .landmarks import HINTS
from .moving import planar
from .places import FLOW_UNIT

_LAST = torch.channels_last


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, pad: int, stride: int, then: str
) -> Tensor:  # fmt: skip
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [pad, pad], [stride, stride], [1, 1], 1, then, [], ""
    )  # fmt: skip


def _convolve_onto(
    y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, pad: int, stride: int
) -> Tensor:  # fmt: skip
    return torch.ops.mkldnn._convolution_pointwise_(
        y, x, weight, bias, [pad, pad], [stride, stride], [1, 1], 1, "add", 1.0, None, [], ""
    )  # fmt: skip


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


Features = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Of `Prepared`, ``f128`` to ``part8``."""


class Coarse(NamedTuple):
    """Stage 1's: features, picture, its change, flow, hints as seen from the flow."""

    x: Tensor
    picture: Tensor
    paint: Tensor
    flow: Tensor
    told: Tensor


class Precision(NamedTuple):
    """What is computed in float32, and what in bfloat16."""

    maps: torch.dtype
    """Feature maps from block to block, and convolutions outside of blocks."""
    products: torch.dtype
    """Convolutions of blocks, and of maps that are added: most of the arithmetic."""


EXACT = Precision(torch.float32, torch.float32)
PRODUCTS = Precision(torch.float32, torch.bfloat16)
FAST = Precision(torch.bfloat16, torch.bfloat16)


class Convolution(nn.Module):
    """A convolution of maps [N, in, *size] with weights [out, in, k, k], with zeros around the maps.

    The weights lie as oneDNN wants them; without ``size`` in a way that suits most. It computes in ``dtype``, and what
    it gives is of that and channels-last.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, size: Sequence[int] | None, dtype: torch.dtype, stride: int = 1
    ) -> None:
        super().__init__()
        self.dtype, self.pad, self.stride = dtype, weight.shape[-1] // 2, stride
        plain = weight.detach().to(dtype).contiguous(memory_format=_LAST)
        given = [] if size is None else [[1, weight.shape[1], *size]]
        laid = torch.ops.mkldnn._reorder_convolution_weight(plain, [self.pad] * 2, [stride] * 2, [1, 1], 1, *given)
        self.register_buffer("weight", laid, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype).contiguous(), persistent=False)

    def forward(self, x: Tensor, then: str = "none") -> Tensor:
        """Of a map of any layout and precision. ``then``: swish (`F.silu`) of what it gives, or none."""
        out: Tensor = run().convolve(self.laid(x), self.weight, self.bias, self.pad, self.stride, then)
        return out

    def onto(self, y: Tensor, x: Tensor) -> Tensor:
        """What it makes of ``x`` added to ``y``, float32 or as it computes, which is changed."""
        if y.dtype != self.dtype:
            return y.add_(self(x))
        out: Tensor = run().onto(y, self.laid(x), self.weight, self.bias, self.pad, self.stride)
        return out

    def laid(self, x: Tensor) -> Tensor:
        """A map as it takes it."""
        # One after the other: at once torch goes through it value by value.
        return x.to(self.dtype).contiguous(memory_format=_LAST)


class Block(nn.Module):
    """`ResBlock`, which changes the map that it is given."""

    def __init__(self, block: nn.Module, size: Sequence[int] | None, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(block, ResBlock)
        self.first = Convolution(block.conv1.weight, block.conv1.bias, size, dtype)
        self.second = Convolution(block.conv2.weight, block.conv2.bias, size, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.second.onto(x, self.first(F.silu(x), "swish"))


def blocks(its: Iterable[nn.Module], size: int | Sequence[int], dtype: torch.dtype) -> nn.Sequential:
    """`Block`s, one after another."""
    return nn.Sequential(*(Block(block, _square(size), dtype) for block in its))


class Sum(nn.Module):
    """Convolutions of several maps, added; ``maps`` is the precision of what it gives."""

    def __init__(
        self, weights: Sequence[Tensor], bias: Tensor | None, size: int | Sequence[int], dtype: torch.dtype,
        maps: torch.dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        self.maps, self.together = maps, dtype == torch.bfloat16  # there copying costs less than adding several times
        if self.together:
            weights = [torch.cat(tuple(weights), 1)]
        self.parts = nn.ModuleList(
            Convolution(weight, None if i else bias, _square(size), dtype) for i, weight in enumerate(weights)
        )

    def forward(self, *maps: Tensor, onto: Tensor | None = None) -> Tensor:
        """``onto``: a map to which it is added, which is changed."""
        parts = [part for part in self.parts if isinstance(part, Convolution)]
        if self.together:
            maps = (torch.cat([parts[0].laid(x) for x in maps], 1),)
        y = parts[0](maps[0]) if onto is None else parts[0].onto(onto, maps[0])
        for part, x in zip(parts[1:], maps[1:], strict=True):
            y = part.onto(y, x)
        return y.to(self.maps)


class Paint(nn.Module):
    """What to add to a picture, [N, 3, 2 h, 2 w], and how much of another to mix in, [N, 1, 2 h, 2 w], of maps
    [N, C, h, w]: as `F.pixel_shuffle` of a convolution with 16 channels gives them, but by copies of whole rows.

    ``shift`` is added to what is mixed in, before its sigmoid.
    """

    def __init__(self, layer: nn.Conv2d, size: Sequence[int], shift: float, dtype: torch.dtype) -> None:
        super().__init__()
        assert layer.bias is not None
        bias = layer.bias.detach().clone()
        bias[12:] += shift
        weight, bias = (x.reshape(4, 4, *x.shape[1:]).transpose(0, 1).flatten(0, 1) for x in (layer.weight, bias))
        self.size = size
        self.convolution = Convolution(weight, bias, size, dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self.size
        x = self.convolution(x).permute(0, 2, 3, 1).reshape(-1, height, width, 2, 8).transpose(2, 3)
        x = planar(x.reshape(-1, 2 * height, 2 * width, 4).permute(0, 3, 1, 2))
        return x[:, :3], x[:, 3:].sigmoid()


def of_layer(
    layer: nn.Conv2d, size: int | Sequence[int], dtype: torch.dtype, stride: int = 1, scale: float = 1.0
) -> Convolution:
    assert layer.bias is not None
    return Convolution(scale * layer.weight, scale * layer.bias, _square(size), dtype, stride)


def _square(size: int | Sequence[int]) -> Sequence[int]:
    return (size, size) if isinstance(size, int) else size


def heads(paint: nn.Conv2d, flow: nn.Conv2d, dtype: torch.dtype) -> Convolution:
    """Stage 1's last at 64 pixels: 3 channels of change of the picture, 2 of flow."""
    assert paint.bias is not None
    assert flow.bias is not None
    weight, bias = torch.cat((paint.weight, FLOW_UNIT * flow.weight)), torch.cat((paint.bias, FLOW_UNIT * flow.bias))
    return Convolution(weight, bias, (64, 64), dtype)


def bias_of(*layers: nn.Conv2d) -> Tensor:
    return torch.stack([x.bias for x in layers if x.bias is not None]).sum(0)


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
