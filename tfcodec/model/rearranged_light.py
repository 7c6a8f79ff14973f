"""The light network's stages for `rearranged`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import box_down
from .laid_out import (
    Coarse,
    Convolution,
    Features,
    Paint,
    Precision,
    Prepared,
    blocks,
    heads,
    hinting,
    of_layer,
    wrong,
)
from .landmarks import Hints
from .light import LightStage1, LightStage2
from .moving import (
    Rise,
    beside,
    doubled,
    means,
    moved,
    places,
    rows_of,
    sampled,
    spread,
)
from .places import FLOW_UNIT
from .stage1 import KeyframeFeatures


class _Level(nn.Module):
    """A level of stage 1: features of the level below, the keyframe's moved there, and what is seen of the motion."""

    def __init__(
        self, size: int, up: nn.Conv2d, see: Tensor, bias: Tensor | None, its: Iterable[nn.Module], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.up = of_layer(up, size // 2, torch.float32)
        self.see = Convolution(see, bias, (size, size), torch.float32)
        self.blocks = blocks(its, size, dtype)

    def forward(self, below: Tensor, side: Tensor, *seen: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.see.onto(doubled(self.up(below)).add_(side), beside(*seen)))
        return out


class LightOne(nn.Module):
    """`light.LightStage1`. What places pixels, and all that runs past blocks, is float32 in any precision."""

    def __init__(self, s: LightStage1, p: Precision) -> None:
        super().__init__()
        whole, products = torch.float32, p.products
        self.tiny, self.merge8 = of_layer(s.tiny_in, 8, whole), of_layer(s.merge8, 8, whole)
        self.trunk8 = blocks(s.trunk8, 8, products)
        see16, see32 = s.see16.weight.detach().clone(), s.see32.weight.detach().clone()
        see16[:, 3:5] /= FLOW_UNIT
        see32[:, 9:11] /= FLOW_UNIT
        see64 = torch.cat((s.see64.weight[:, :9], hinting(s.see64)), 1)
        self.level16 = _Level(16, s.up16, see16, s.see16.bias, s.trunk16, whole)
        self.level32 = _Level(32, s.up32, see32, s.see32.bias, s.trunk32, products)
        self.level64 = _Level(64, s.up64, see64, s.see64.bias, s.trunk64, products)
        self.flow16 = of_layer(s.flow16, 16, whole, scale=FLOW_UNIT)
        self.flow32 = of_layer(s.flow32, 32, whole, scale=FLOW_UNIT)
        self.heads = heads(s.paint64, s.flow64, whole)
        self.trust = float(s.trust)
        self.rise = {(n, m): Rise.of(n, n, m // n) for n, m in ((8, 16), (8, 32), (8, 64), (16, 32), (32, 64))}

    def features(self, key: KeyframeFeatures) -> Features:
        """Features of the keyframe for `Prepared`: as rows where they are moved."""
        f128, f64, f32 = (rows_of(x, torch.float32) for x in (key.f128, key.f64, key.f32))
        f16, f8 = key.f16.float(), key.f8.float()
        return f128, f64, f32, f16, f16, f8

    def forward(self, key: Prepared, tiny: Tensor, now: Tensor, hints: Hints, displaced: Tensor) -> Coarse:
        count = tiny.shape[0]
        key8, small = (x.expand(count, -1, -1, -1) for x in (key.key8 - 0.5, key.small))
        error = 4 * (now - key8)
        x = self.tiny(beside(tiny.flatten(1, 2) - 0.5, key8, error), "swish")
        x = self.trunk8(self.merge8.onto(spread(key.part8, count), x))

        said = box_down(torch.cat((hints.motion, hints.cover), 1), 32)
        x = self.level16(x, key.part16, self.rise[8, 16](error), box_down(said, 16))
        flow = self.rise[16, 32](self.flow16(F.silu(x)))

        there = sampled(box_down(small, 32), places(flow))
        near = self.rise[8, 32](torch.cat((wrong(now, there), now), 1))
        motion, cover = torch.split(said, [2, 1], 1)
        error, now32 = torch.split(near, [3, 3], 1)
        x = self.level32(x, moved(key.f32, flow), error, there, now32, motion - flow, cover)
        flow = self.rise[32, 64](flow + self.flow32(F.silu(x)))

        drawn = torch.cat((small, hints.shape, hints.drawing), 1)
        there, told = torch.split(sampled(drawn, places(flow)), [3, 6], 1)
        near = self.rise[8, 64](torch.cat((wrong(now, there), now), 1))
        error, now64 = torch.split(near, [3, 3], 1)
        x = self.level64(
            x, moved(key.f64, flow), error, there, now64, hints.motion - flow, hints.cover, told
        )  # fmt: skip
        paint, change = torch.split(self.heads(F.silu(x)), [3, 2], 1)
        flow = (flow + change + self.trust * told[:, :2] + displaced).contiguous()
        return Coarse(x, sampled(small, places(flow)) + paint, paint, flow, told)


class LightTwo(nn.Module):
    """`light.LightStage2`."""

    def __init__(self, s: LightStage2, p: Precision) -> None:
        super().__init__()
        self.up = of_layer(s.up128, 64, torch.float32)
        self.dtype = p.products  # nothing is placed by these features: they are so from block to block, too
        self.blocks = blocks([s.block128], 128, self.dtype)
        self.paint = Paint(s.paint, (128, 128), -4, self.dtype)
        self.share = float(s.projection.sigmoid())
        self.rise = {n: Rise.of(64, 64, n // 64) for n in (128, 256)}
        self.smooth = Rise.of(8, 8, 32, "bicubic")

    def forward(self, key: Prepared, now: Tensor, c: Coarse) -> Tensor:
        pixels = sampled(key.picture.expand(now.shape[0], -1, -1, -1), places(self.rise[256](c.flow)))
        x = doubled(self.up(c.x)).add_(moved(key.f128, self.rise[128](c.flow)))
        x = self.blocks(x.to(self.dtype))
        paint, blend = self.paint(F.silu(x, inplace=True))
        smooth = F.interpolate(self.rise[128](c.picture), scale_factor=2.0, mode="nearest")
        picture = torch.lerp(pixels, smooth, blend).add_(paint)
        return picture.add_(self.smooth(self.share * (now - means(picture, 8))))
