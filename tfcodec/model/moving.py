"""What moves, enlarges and reduces maps on a processor: as sums of rows and as matrix products."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import pixel_centres, rise_of

_CPU = torch.device("cpu")


def beside(*parts: Tensor) -> Tensor:
    """Maps side by side."""
    return torch.cat(parts, 1)


def planar(x: Tensor) -> Tensor:
    """A map in float32 and channels-first."""
    return x.to(torch.float32, memory_format=torch.contiguous_format)


def spread(x: Tensor, count: int) -> Tensor:
    """The same for so many frames, to be changed."""
    return x.expand(count, -1, -1, -1).clone(memory_format=torch.channels_last)


class Rise(NamedTuple):
    """Enlarges pictures of a few channels by two matrix products."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, height: int, width: int, factor: int, mode: str = "bilinear") -> Rise:
        rows, columns = (rise_of(n, factor * n, mode, _CPU) for n in (height, width))
        return cls(rows.contiguous(), columns.T.contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        return self.rows @ x.contiguous() @ self.columns


def doubled(x: Tensor) -> Tensor:
    """A map, enlarged bilinearly. In float32: torch's loop for bfloat16 takes twice as long."""
    return F.interpolate(x.float(), scale_factor=2.0, mode="bilinear", align_corners=False).to(x.dtype)


@lru_cache(maxsize=32)
def _fall(large: int, size: int) -> Tensor:
    """What reduces a line to means, [size, large]."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=torch.float32, device=_CPU).repeat_interleave(large // size, 1) * (size / large)


def means(x: Tensor, size: int) -> Tensor:
    """Box means [N, C, size, size] of planar maps."""
    line = _fall(x.shape[-1], size)
    return line @ x @ line.T


@lru_cache(maxsize=16)
def _pixels(height: int, width: int) -> Tensor:
    """Where a picture's pixels are, [2, height, width], x first, in pixels."""
    with torch.inference_mode(False):
        lines = (torch.arange(n, dtype=torch.float32, device=_CPU) for n in (height, width))
        y, x = torch.meshgrid(*lines, indexing="ij")
        return torch.stack((x, y))


@lru_cache(maxsize=16)
def centres(height: int, width: int) -> Tensor:
    """The same in -1..1."""
    with torch.inference_mode(False):
        return pixel_centres(width, height, _CPU).permute(2, 0, 1).contiguous()


def places(flow: Tensor) -> Tensor:
    """Where flows [N, 2, h, w] lead from their pixels."""
    return (centres(flow.shape[-2], flow.shape[-1]) + flow).permute(0, 2, 3, 1)


def sampled(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


@cache
def _shares() -> Tensor:
    """Weights of the four pixels about a place by 1, x, y and x * y."""
    with torch.inference_mode(False):
        weights = [[1, 0, 0, 0], [-1, 1, 0, 0], [-1, 0, 1, 0], [1, -1, -1, 1]]
        return torch.tensor(weights, dtype=torch.float32, device=_CPU)


def moved(rows: Tensor, flow: Tensor) -> Tensor:
    """A feature map, the same for all frames, moved by flows [N, 2, S, S]: [N, C, S, S].

    Args:
        rows: the map's pixels, one after the other, [S * S, C] (`rows_of`).

    The same as `blocks.warp`: each pixel is a weighted sum of four rows, which lie together in memory.
    """
    count, size = flow.shape[0], flow.shape[-1]
    two = torch.arange(2, dtype=torch.int32, device=_CPU)
    steps = (two[:, None] * size + two).flatten()  # how far the four pixels about a place are from the first
    at = torch.add(_pixels(size, size), flow, alpha=size / 2).clamp_(0, size - 1)
    low = at.clamp(max=size - 2).floor_()
    x, y = (at - low).transpose(0, 1).reshape(2, -1).unbind()
    share = (torch.stack((torch.ones_like(x), x, y, x * y)).T @ _shares()).to(rows.dtype).flatten()
    first = torch.add(low[:, 0], low[:, 1], alpha=size).to(torch.int32).reshape(-1, 1)
    index = (first + steps).flatten()
    bags = torch.arange(0, 4 * count * size * size, 4, dtype=torch.int32, device=_CPU)
    out: Tensor = torch.embedding_bag(rows, index, bags, False, 0, False, share)[0]
    return out.view(count, size, size, -1).permute(0, 3, 1, 2)


def rows_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A map [1, C, S, S] as `moved` takes it."""
    _shares()  # made before a network is recorded, which would warn of a constant
    return x[0].flatten(1).T.to(dtype).contiguous()
