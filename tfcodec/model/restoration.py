"""Restores decoded keyframes: what a kilobyte of AV1 has blurred and blocked is sharpened, once a keyframe.

All pixels that are drawn come from the keyframe, so that what is mended in it is mended in every frame; and as it is
done once for some hundred frames, it may cost as much as half a frame.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, conv, upsample, zero_conv


class KeyframeRestorer(nn.Module):
    """Decoded keyframes [B, 3, 256, 256] in 0..1 -> the same, restored (not clamped). At first it changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(12, 24)
        self.before = ResBlock(24)
        self.down64 = conv(24, 40, 2)
        self.block64 = ResBlock(40)
        self.up128 = conv(40, 24, kernel=1)
        self.after = nn.ModuleList(ResBlock(24) for _ in range(2))
        self.paint = zero_conv(24, 12)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.before(self.stem(F.pixel_unshuffle(picture - 0.5, 2)))
        x = x + upsample(self.up128(self.block64(self.down64(x))))
        for block in self.after:
            x = block(x)
        restored: Tensor = picture + F.pixel_shuffle(self.paint(F.silu(x)), 2)
        return restored
