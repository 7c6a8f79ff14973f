"""The light network: the same family for a quarter of the arithmetic, which draws the same streams.

What the keyframe's features bring to a level is convolved once a keyframe and then moved, in place of being moved and
convolved for every frame; what is moved by the same flow is moved at once; features of the level below are added and
not convolved again; there is one picture of the motion at 64 pixels and not two. The encoder is the full network's down
to 32 pixels, the restorer, the tracker and the landmark prior are its own.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from .blocks import (
    ResBlock,
    box_down,
    conv,
    enlarge,
    enlarge_smoothly,
    field,
    join,
    refine_chroma,
    upsample,
    warp,
    zero_conv,
)
from .config import DEFAULT, SHAPES, NetworkConfig
from .inputs import WINDOW
from .landmarks import HINTS, LandmarkPrior
from .stage1 import FLOW_UNIT, WIDTHS, CoarseFrame, FineEncoder, KeyframeFeatures

BLOCKS64 = 2


class LightEncoder(FineEncoder):
    """The full network's encoder down to 32 pixels, and what the light one wants to know of its maps."""

    def __init__(self, w: dict[int, int]) -> None:
        super().__init__()
        self.side128 = conv(WIDTHS[128], w[128])
        self.side64 = conv(WIDTHS[64], w[64])
        self.side32 = conv(WIDTHS[32], w[32])
        self.side16 = conv(WIDTHS[32], w[16], 2)
        self.side8 = conv(w[16], w[8], 2)

    def forward(self, picture: Tensor) -> KeyframeFeatures:
        return self.told(picture, *self.fine(picture))

    def told(self, picture: Tensor, f128: Tensor, f64: Tensor, f32: Tensor) -> KeyframeFeatures:
        """Of the full network's maps."""
        f16 = self.side16(F.silu(f32))
        sides = self.side128(f128), self.side64(f64), self.side32(f32), f16, self.side8(F.silu(f16))
        return KeyframeFeatures(picture, box_down(picture, 64), *sides)


class LightStage1(nn.Module):
    """As `stage1.Stage1`: tiny frames, landmarks and the keyframe's features -> motion and 64x64 picture."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if replace(config, shape=DEFAULT.shape, closeups=True, restoration=True) != DEFAULT:
            raise WeightsError("the light network has no variants but those without close-ups or restorer")
        w, blocks8, blocks16, blocks = SHAPES[config.shape][:4]
        self.config = config
        self.tiny_in = conv(3 * WINDOW + 6, w[8])
        self.merge8 = conv(w[8], w[8])
        self.trunk8 = nn.ModuleList(ResBlock(w[8]) for _ in range(blocks8))
        self.up16 = conv(w[8], w[16], kernel=1)
        self.see16 = conv(6, w[16])
        self.trunk16 = nn.ModuleList(ResBlock(w[16]) for _ in range(blocks16))
        self.flow16 = zero_conv(w[16], 2)
        self.up32 = conv(w[16], w[32], kernel=1)
        self.see32 = conv(12, w[32])
        self.trunk32 = nn.ModuleList(ResBlock(w[32]) for _ in range(blocks))
        self.flow32 = zero_conv(w[32], 2)
        self.up64 = conv(w[32], w[64], kernel=1)
        self.see64 = conv(9 + HINTS, w[64])
        self.trunk64 = nn.ModuleList(ResBlock(w[64]) for _ in range(BLOCKS64))
        self.flow64 = zero_conv(w[64], 2)
        self.paint64 = zero_conv(w[64], 3)
        self.prior = LandmarkPrior(config)
        self.trust = nn.Parameter(torch.zeros(()))

    def forward(
        self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, before: Tensor | None = None,
        marks: Tensor | None = None, displacement: Tensor | None = None,
    ) -> CoarseFrame:  # fmt: skip
        """As `stage1.Stage1.forward`."""
        key8 = box_down(key.small, 8)
        tiny = refine_chroma(tiny, key8)
        now = tiny[:, WINDOW // 2]
        assert key.marks is not None
        hints = self.prior(key.marks, key8, tiny, marks)
        error = 4 * (now - key8)

        x = self.tiny_in(join(tiny.flatten(1, 2) - 0.5, key8 - 0.5, error))
        x = self.merge8(F.silu(x)) + key.f8
        for block in self.trunk8:
            x = block(x)

        motion, cover = box_down(hints.motion, 32), box_down(hints.cover, 32)
        seen = join(upsample(error), box_down(motion, 16) / FLOW_UNIT, box_down(cover, 16))
        x = upsample(self.up16(x)) + key.f16 + self.see16(seen)
        for block in self.trunk16:
            x = block(x)
        flow16 = FLOW_UNIT * self.flow16(F.silu(x)).float()

        flow = upsample(flow16)
        small = box_down(key.small, 32)
        side, moved = _moved((key.f32, small), flow)
        error = 4 * (now - box_down(moved, 8))
        seen = join(upsample(error, 4), moved - 0.5, upsample(now, 4) - 0.5, (motion - flow) / FLOW_UNIT, cover)
        x = upsample(self.up32(x)) + side + self.see32(seen)
        for block in self.trunk32:
            x = block(x)
        flow32 = flow + FLOW_UNIT * self.flow32(F.silu(x)).float()

        flow = upsample(flow32)
        side, moved, shape, drawing = _moved((key.f64, key.small, hints.shape, hints.drawing), flow)
        error = 4 * (now - box_down(moved, 8))
        told = (hints.motion - flow) / FLOW_UNIT, hints.cover, shape / FLOW_UNIT, drawing
        seen = join(upsample(error, 8), moved - 0.5, upsample(now, 8) - 0.5, *told)
        x = upsample(self.up64(x)) + side + self.see64(seen)
        for block in self.trunk64:
            x = block(x)
        y = F.silu(x)
        # The mouth changes where it is in the keyframe, and the face's motion takes it along.
        flow64 = flow + FLOW_UNIT * self.flow64(y).float() + self.trust * shape.float()
        if displacement is not None:
            flow64 = flow64 + field(displacement)
        moved = warp(key.small, flow64)
        return CoarseFrame(moved + self.paint64(y), now, x, flow64, (flow16, flow32, flow64), hints, moved)


class LightStage2(nn.Module):
    """As `stage2.Stage2`; the flow is stage 1's."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        w = SHAPES[config.shape].widths
        self.up128 = conv(w[64], w[128], kernel=1)
        self.block128 = ResBlock(w[128])
        self.paint = zero_conv(w[128], 16)
        self.projection = nn.Parameter(torch.zeros(()))

    def forward(self, key: KeyframeFeatures, coarse: CoarseFrame, second: None = None) -> tuple[Tensor, Tensor]:
        """As `stage2.Stage2.forward`."""
        pixels = warp(key.picture, enlarge_smoothly(coarse.flow, key.picture.shape[-1]))
        x = self.block128(upsample(self.up128(coarse.features)) + warp(key.f128, coarse.flow))
        paint = F.pixel_shuffle(self.paint(F.silu(x)), 2)
        blend = torch.sigmoid(paint[:, 3:] - 4)
        # Smooth to 128 pixels and whole from there: half the time, and nothing to be seen.
        smooth = F.interpolate(upsample(coarse.picture), scale_factor=2.0, mode="nearest")
        picture = pixels + blend * (smooth - pixels) + paint[:, :3]
        correction = enlarge(coarse.tiny - box_down(picture, 8), picture.shape[-1])
        return picture + torch.sigmoid(self.projection) * correction, coarse.flow


def _moved(pictures: tuple[Tensor, ...], flow: Tensor) -> tuple[Tensor, ...]:
    """Several maps moved by one flow, side by side."""
    together = warp(torch.cat([p.float() for p in pictures], 1), flow)
    moved = torch.split(together, [p.shape[1] for p in pictures], 1)
    return tuple(m.to(p.dtype) for m, p in zip(moved, pictures, strict=True))
