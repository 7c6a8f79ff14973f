"""What `fast` is built of: convolutions in bfloat16 whose weights lie as oneDNN wants them, sampling as sums of rows,
enlarging and reducing as matrix products.

Feature maps are bfloat16 and channels-last; flows, places and pictures are float32 and planar.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import pixel_centres, rise_of

CPU = torch.device("cpu")


def scripted(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """In TorchScript, for what a recording does not take as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out: Callable[..., Tensor] = torch.jit.script(function)
        return out


@scripted
def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int, stride: int, then: str) -> Tensor:
    # A recording does not take the empty list of scalars.
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [pad, pad], [stride, stride], [1, 1], 1, then, [], ""
    )  # fmt: skip


@scripted
def _convolve_onto(x: Tensor, onto: Tensor, weight: Tensor, bias: Tensor | None, pad: int, stride: int) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        x, onto, weight, bias, [pad, pad], [stride, stride], [1, 1], 1, "add", 1.0, None, [], None
    )  # fmt: skip


class Packed(nn.Module):
    """A convolution of maps [N, in, ``size``] with weights [out, in, k, k], in oneDNN's own layout.

    Without ``size`` it is a layout that suits most.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, size: tuple[int, int] | None, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.pad = stride, (weight.shape[-1] - 1) // 2
        pads, strides = [self.pad] * 2, [stride] * 2
        laid = weight.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        given = [] if size is None else [[1, weight.shape[1], *size]]
        packed = torch.ops.mkldnn._reorder_convolution_weight(laid, pads, strides, [1, 1], 1, *given)
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.to(torch.bfloat16), persistent=False)

    def forward(self, x: Tensor, then: str = "none") -> Tensor:
        """``then``: swish (x times its sigmoid), or none."""
        out: Tensor = _convolve(x, self.weight, self.bias, self.pad, self.stride, then)
        return out

    def onto(self, x: Tensor, other: Tensor) -> Tensor:
        """The result and ``other``, added."""
        out: Tensor = _convolve_onto(x, other, self.weight, self.bias, self.pad, self.stride)
        return out


def laid(*planar: Tensor) -> Tensor:
    """Planar maps [N, *, h, w] float32 side by side, as a feature map."""
    whole = planar[0] if len(planar) == 1 else torch.cat(planar, 1)
    # One after the other: at once torch goes through it value by value.
    return whole.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


def twice(x: Tensor) -> Tensor:
    """A feature map, enlarged bilinearly. In float32: torch's loop for bfloat16 takes twice as long."""
    return F.interpolate(x.float(), scale_factor=2.0, mode="bilinear", align_corners=False).to(torch.bfloat16)


@lru_cache(maxsize=32)
def rise(small: int, size: int, mode: str = "bilinear") -> Tensor:
    """What enlarges a line, [size, small]."""
    with torch.inference_mode(False):
        return rise_of(small, size, mode, CPU).contiguous()


@lru_cache(maxsize=32)
def fall(large: int, size: int) -> Tensor:
    """What reduces a line to means, [size, large]."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=torch.float32, device=CPU).repeat_interleave(large // size, 1) * (size / large)


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Planar maps [N, C, h, w], enlarged bilinearly."""
    down, across = (rise(n, factor * n) for n in (x.shape[-2], x.shape[-1]))
    return down @ x @ across.T


def means(x: Tensor, size: int) -> Tensor:
    """Box means [N, C, size, size] of planar maps."""
    line = fall(x.shape[-1], size)
    return line @ x @ line.T


@lru_cache(maxsize=16)
def pixels(height: int, width: int) -> Tensor:
    """Where a picture's pixels are, [2, height, width], x first, in pixels."""
    with torch.inference_mode(False):
        lines = (torch.arange(n, dtype=torch.float32, device=CPU) for n in (height, width))
        y, x = torch.meshgrid(*lines, indexing="ij")
        return torch.stack((x, y))


@lru_cache(maxsize=16)
def centres(height: int, width: int) -> Tensor:
    """The same in -1..1."""
    with torch.inference_mode(False):
        return pixel_centres(width, height, CPU).permute(2, 0, 1).contiguous()


def sample(x: Tensor, places: Tensor, padding: str = "border") -> Tensor:
    """Planar maps [N, C, H, W] at places [N, 2, h, w] in -1..1."""
    grid = places.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


@lru_cache(maxsize=8)
def _corners(size: int) -> tuple[Tensor, Tensor]:
    """How far the four pixels about a place are from the first; their weights by 1, x, y and x * y."""
    with torch.inference_mode(False):
        steps = torch.tensor([0, 1, size, size + 1], dtype=torch.int32, device=CPU)
        weights = [[1, 0, 0, 0], [-1, 1, 0, 0], [-1, 0, 1, 0], [1, -1, -1, 1]]
        return steps, torch.tensor(weights, dtype=torch.float32, device=CPU)


def moved(rows: Tensor, flow: Tensor) -> Tensor:
    """A feature map, the same for all frames, moved by flows [N, 2, S, S]: [N, C, S, S].

    Args:
        rows: the map's pixels, one after the other, [S * S, C] bfloat16.

    The same as `blocks.warp`: each pixel is a weighted sum of four rows, which lie together in memory.
    """
    count, size = flow.shape[0], flow.shape[-1]
    steps, weights = _corners(size)
    at = torch.add(pixels(size, size), flow, alpha=size / 2).clamp_(0, size - 1)
    low = at.clamp(max=size - 2).floor_()
    x, y = (at - low).transpose(0, 1).reshape(2, -1).unbind()
    share = (torch.stack((torch.ones_like(x), x, y, x * y)).T @ weights).to(rows.dtype).flatten()
    first = torch.add(low[:, 0], low[:, 1], alpha=size).to(torch.int32).reshape(-1, 1)
    index = (first + steps).flatten()
    bags = torch.arange(0, 4 * count * size * size, 4, dtype=torch.int32, device=CPU)
    out: Tensor = torch.embedding_bag(rows, index, bags, False, 0, False, share)[0]
    return out.view(count, size, size, -1).permute(0, 3, 1, 2)


def rows_of(x: Tensor) -> Tensor:
    """A map [1, C, S, S] as `moved` takes it."""
    return x[0].flatten(1).T.to(torch.bfloat16).contiguous()
