"""The light network's stages for `rearranged`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import box_down
from .laid_out import (
    Block,
    Coarse,
    Convolution,
    Maps,
    Paint,
    Part,
    Prepared,
    Rise,
    doubled,
    hinting,
    joined,
    of_layer,
    places,
    sampled,
    spread,
    wrong,
)
from .landmarks import Hints
from .light import LightStage1, LightStage2
from .packed import means, moved
from .places import FLOW_UNIT
from .stage1 import KeyframeFeatures


class _Level(Part):
    """A level of stage 1: features of the level below, the keyframe's moved there, and what is seen of the motion."""

    def __init__(self, size: int, up: nn.Conv2d, see: Convolution, blocks: Iterable[nn.Module], low: bool) -> None:
        self._up, self._see = of_layer(up, size // 2), see
        self._blocks = [Block(block, (size, size), low) for block in blocks]

    def __call__(self, below: Tensor, side: Tensor, *seen: Tensor) -> Tensor:
        x = self._see.onto(doubled(self._up(below)).add_(side), joined(*seen))
        for block in self._blocks:
            x = block(x)
        return x


class LightOne(Part):
    """`light.LightStage1`."""

    def __init__(self, s: LightStage1, low: bool) -> None:
        self._tiny, self._merge8 = of_layer(s.tiny_in, 8), of_layer(s.merge8, 8)
        self._trunk8 = [Block(block, (8, 8), low) for block in s.trunk8]
        see16, see32 = s.see16.weight.detach().clone(), s.see32.weight.detach().clone()
        see16[:, 3:5] /= FLOW_UNIT
        see32[:, 9:11] /= FLOW_UNIT
        see64 = torch.cat((s.see64.weight[:, :9], hinting(s.see64)), 1)
        self._level16 = _Level(16, s.up16, Convolution(see16, s.see16.bias, (16, 16)), s.trunk16, False)
        self._level32 = _Level(32, s.up32, Convolution(see32, s.see32.bias, (32, 32)), s.trunk32, low)
        self._level64 = _Level(64, s.up64, Convolution(see64, s.see64.bias, (64, 64)), s.trunk64, low)
        self._flow16 = of_layer(s.flow16, 16, scale=FLOW_UNIT)
        self._flow32 = of_layer(s.flow32, 32, scale=FLOW_UNIT)
        assert s.paint64.bias is not None
        assert s.flow64.bias is not None
        heads = torch.cat((s.paint64.weight, FLOW_UNIT * s.flow64.weight))
        self._heads = Convolution(heads, torch.cat((s.paint64.bias, FLOW_UNIT * s.flow64.bias)), (64, 64))
        self._trust = s.trust.detach()
        self._rise = {(n, m): Rise.of(n, n, m // n) for n, m in ((8, 16), (8, 32), (8, 64), (16, 32), (32, 64))}

    def maps(self, key: KeyframeFeatures) -> Maps:
        """Features of the keyframe for `Prepared`: as rows where they are moved."""
        f128, f64, f32 = (x[0].flatten(1).T.float().contiguous() for x in (key.f128, key.f64, key.f32))
        f16, f8 = key.f16.float(), key.f8.float()
        return f128, f64, f32, f16, f16, f8

    def __call__(self, key: Prepared, tiny: Tensor, now: Tensor, hints: Hints) -> Coarse:
        count = tiny.shape[0]
        key8 = spread(key.key8 - 0.5, count)
        small = spread(key.small, count)
        error = 4 * (now - key8)
        x = self._tiny(joined(tiny.flatten(1, 2) - 0.5, key8, error))
        x = self._merge8.onto(spread(key.part8, count), F.silu(x, inplace=True))
        for block in self._trunk8:
            x = block(x)

        said = box_down(torch.cat((hints.motion, hints.cover), 1), 32)
        x = self._level16(x, key.part16, self._rise[8, 16](error), box_down(said, 16))
        flow = self._rise[16, 32](self._flow16(F.silu(x)))

        there = sampled(box_down(small, 32), places(flow))
        near = self._rise[8, 32](torch.cat((wrong(now, there), now), 1))
        motion, cover = torch.split(said, [2, 1], 1)
        error, now32 = torch.split(near, [3, 3], 1)
        x = self._level32(x, moved(key.f32, flow), error, there, now32, motion - flow, cover)
        flow = self._rise[32, 64](flow + self._flow32(F.silu(x)))

        drawn = torch.cat((small, hints.shape, hints.drawing), 1)
        there, told = torch.split(sampled(drawn, places(flow)), [3, 6], 1)
        near = self._rise[8, 64](torch.cat((wrong(now, there), now), 1))
        error, now64 = torch.split(near, [3, 3], 1)
        x = self._level64(
            x, moved(key.f64, flow), error, there, now64, hints.motion - flow, hints.cover, told
        )  # fmt: skip
        paint, change = torch.split(self._heads(F.silu(x)), [3, 2], 1)
        flow = (flow + change + self._trust * told[:, :2]).contiguous()
        coarse = sampled(small, places(flow)) + paint
        return Coarse(x, key.f64, coarse, paint, flow, told, told)


class LightTwo(Part):
    """`light.LightStage2`."""

    def __init__(self, s: LightStage2, low: bool) -> None:
        self._low = low  # nothing is placed by these features: they are in bfloat16 from block to block, too
        self._up = of_layer(s.up128, 64)
        self._block = Block(s.block128, (128, 128), low)
        self._paint = Paint(s.paint, (128, 128), -4, low)
        self._share = torch.sigmoid(s.projection.detach())
        self._rise = {n: Rise.of(64, 64, n // 64) for n in (128, 256)}
        self._smooth = Rise.of(8, 8, 32, "bicubic")

    def __call__(self, key: Prepared, now: Tensor, c: Coarse) -> Tensor:
        pixels = sampled(key.picture.expand(now.shape[0], -1, -1, -1), places(self._rise[256](c.flow)))
        x = doubled(self._up(c.x)).add_(moved(key.f128, self._rise[128](c.flow)))
        x = self._block(x.bfloat16() if self._low else x)
        paint, blend = self._paint(F.silu(x, inplace=True))
        smooth = F.interpolate(self._rise[128](c.picture), scale_factor=2.0, mode="nearest")
        picture = torch.lerp(pixels, smooth, blend).add_(paint)
        return picture.add_(self._smooth(self._share * (now - means(picture, 8))))
