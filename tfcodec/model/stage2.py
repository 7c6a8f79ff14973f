"""Stage 2, the animator: the coarse video moves the identity keyframe, and what it cannot show is painted in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, box_down, conv, enlarge, join, upsample, warp, zero_conv
from .config import DEFAULT, SHAPES, NetworkConfig
from .landmarks import HINTS
from .stage1 import FLOW_UNIT, CoarseFrame, KeyframeFeatures, tell

_STEEP = 50
"""A keyframe that fits by 5 of 255 grey levels better has 1 more in the logit of its share."""


class Stage2(nn.Module):
    def __init__(self, config: NetworkConfig = DEFAULT) -> None:
        super().__init__()
        w, _, _, blocks = SHAPES[config.shape][:4]
        self.config = config
        self.merge64 = conv(2 * w[64] + 9, w[64])
        self.block64 = ResBlock(w[64])
        self.more64 = nn.ModuleList(ResBlock(w[64]) for _ in range(blocks - 1))
        self.flow = zero_conv(w[64], 2)
        self.hint64 = zero_conv(HINTS, w[64]) if config.landmarks else None
        self.up128 = conv(w[64], w[128], kernel=1)
        self.merge128 = conv(2 * w[128] + 12, w[128])
        self.block128 = ResBlock(w[128])
        self.more128 = nn.ModuleList(ResBlock(w[128]) for _ in range(blocks - 1))
        # Four 256-pixel positions per 128-pixel one: 3 colour residuals and one blending weight each.
        self.paint = zero_conv(w[128], 16)
        # How much of the 8x8 error is put back at the end ("projection"); a sigmoid keeps it between 0 and 1.
        self.projection = nn.Parameter(torch.zeros(())) if config.projection else None
        if config.second_reference:
            self.second64 = zero_conv(2 * w[64] + 3, w[64])
            self.second_flow = zero_conv(w[64], 2)
            self.second128 = zero_conv(w[128] + 12, w[128])
            self.second_blend = zero_conv(w[128], 4)

    def forward(
        self, key: KeyframeFeatures, coarse: CoarseFrame, second: tuple[KeyframeFeatures, CoarseFrame] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Frame [B, 3, 256, 256] (0..1 but not clamped) and the final optical flow [B, 2, 64, 64].

        ``second`` is another keyframe, and what stage 1 made of it.
        """
        now = coarse.tiny
        moved = warp(key.small, coarse.flow) if coarse.moved is None else coarse.moved
        error = upsample(4 * (now - box_down(coarse.picture, 8)), 8)
        if not self.config.consistency:
            error = torch.zeros_like(error)
        x = join(coarse.features, warp(key.f64, coarse.flow), coarse.picture - 0.5, coarse.picture - moved, error)
        x = self.merge64(x)
        if self.hint64 is not None and coarse.hints is not None:
            x = x + self.hint64(tell(coarse.hints, coarse.flow))
        if second is not None:
            other, other_coarse = second
            moved = warp(other.f64, other_coarse.flow)
            x = x + self.second64(join(other_coarse.features, moved, other_coarse.picture - coarse.picture))
        x = self.block64(x)
        for block in self.more64:
            x = block(x)
        flow = coarse.flow + FLOW_UNIT * self.flow(F.silu(x)).float()
        if second is not None:
            other_flow = other_coarse.flow + FLOW_UNIT * self.second_flow(F.silu(x)).float()

        pixels = warp(key.picture, flow)
        x = upsample(self.up128(x))
        x = join(x, warp(key.f128, flow), F.pixel_unshuffle(pixels, 2) - 0.5)
        x = self.merge128(x)
        if second is not None:
            other_pixels = warp(other.picture, other_flow)
            x = x + self.second128(join(warp(other.f128, other_flow), F.pixel_unshuffle(other_pixels - pixels, 2)))
        x = self.block128(x)
        for block in self.more128:
            x = block(x)
        paint = F.pixel_shuffle(self.paint(F.silu(x)), 2)
        blend = torch.sigmoid(paint[:, 3:] - 4)
        picture = pixels + blend * (upsample(coarse.picture, 4) - pixels) + paint[:, :3]
        if second is not None:
            # Where the other keyframe fits the tiny frame better, more of it, from the first step on.
            fit = [(now - box_down(one, 8)).abs().mean(1, keepdim=True) for one in (pixels, other_pixels)]
            better = enlarge(_STEEP * (fit[0] - fit[1]), picture.shape[-1])
            share = torch.sigmoid(better - 1 + F.pixel_shuffle(self.second_blend(F.silu(x)), 2))
            picture = picture + share * (other_pixels - pixels)
        if self.projection is None:
            return picture, flow
        correction = enlarge(now - box_down(picture, 8), picture.shape[-1])
        return picture + torch.sigmoid(self.projection) * correction, flow
