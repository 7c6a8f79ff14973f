"""Stage 2, the animator: the coarse video moves the identity keyframe, and what it cannot show is painted in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, box_down, conv, enlarge, join, upsample, warp, zero_conv
from .config import DEFAULT, NetworkConfig
from .landmarks import HINTS
from .stage1 import FLOW_UNIT, WIDTHS, CoarseFrame, KeyframeFeatures, tell


class Stage2(nn.Module):
    def __init__(self, config: NetworkConfig = DEFAULT) -> None:
        super().__init__()
        w = WIDTHS
        self.config = config
        self.merge64 = conv(2 * w[64] + 9, w[64])
        self.block64 = ResBlock(w[64])
        self.flow = zero_conv(w[64], 2)
        self.hint64 = zero_conv(HINTS, w[64]) if config.landmarks else None
        self.up128 = conv(w[64], w[128], kernel=1)
        self.merge128 = conv(2 * w[128] + 12, w[128])
        self.block128 = ResBlock(w[128])
        # Four 256-pixel positions per 128-pixel one: 3 colour residuals and one blending weight each.
        self.paint = zero_conv(w[128], 16)
        # How much of the 8x8 error is put back at the end ("projection"); a sigmoid keeps it between 0 and 1.
        self.projection = nn.Parameter(torch.zeros(())) if config.projection else None

    def forward(self, key: KeyframeFeatures, coarse: CoarseFrame) -> tuple[Tensor, Tensor]:
        """Frame [B, 3, 256, 256] (0..1 but not clamped) and the final optical flow [B, 2, 64, 64]."""
        now = coarse.tiny
        moved = warp(key.small, coarse.flow)
        error = upsample(4 * (now - box_down(coarse.picture, 8)), 8)
        if not self.config.consistency:
            error = torch.zeros_like(error)
        x = join(coarse.features, warp(key.f64, coarse.flow), coarse.picture - 0.5, coarse.picture - moved, error)
        x = self.merge64(x)
        if self.hint64 is not None and coarse.hints is not None:
            x = x + self.hint64(tell(coarse.hints, coarse.flow))
        x = self.block64(x)
        flow = coarse.flow + FLOW_UNIT * self.flow(F.silu(x)).float()

        pixels = warp(key.picture, flow)
        x = upsample(self.up128(x))
        x = join(x, warp(key.f128, flow), F.pixel_unshuffle(pixels, 2) - 0.5)
        x = self.block128(self.merge128(x))
        paint = F.pixel_shuffle(self.paint(F.silu(x)), 2)
        blend = torch.sigmoid(paint[:, 3:] - 4)
        picture = pixels + blend * (upsample(coarse.picture, 4) - pixels) + paint[:, :3]
        if self.projection is None:
            return picture, flow
        correction = enlarge(now - box_down(picture, 8), picture.shape[-1])
        return picture + torch.sigmoid(self.projection) * correction, flow
