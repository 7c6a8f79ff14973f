"""The whole network: keyframe encoder, stage 1, stage 2."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .inputs import MEL_BANDS, MEL_COLUMNS, WINDOW
from .stage1 import CoarseFrame, KeyframeEncoder, KeyframeFeatures, Stage1
from .stage2 import Stage2

__all__ = ["MEL_BANDS", "MEL_COLUMNS", "WINDOW", "KeyframeFeatures", "Output", "Upsampler"]


class Output(NamedTuple):
    """``frame`` [B, 3, 256, 256] in 0..1 (not clamped), final optical flow [B, 2, 64, 64], stage 1's output."""

    frame: Tensor
    flow: Tensor
    coarse: CoarseFrame


class Upsampler(nn.Module):
    """Two-stage audio-visual upsampling network (after Hegde et al., ACM MM 2022, arXiv 2208.08118).

    Tensors: pictures [B, 3, H, W] RGB in 0..1; tiny frames [B, 5, 3, 8, 8], the current one in the middle;
    log-mel [B, 20, 80], the current frame in the middle.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keyframe = KeyframeEncoder()
        self.stage1 = Stage1()
        self.stage2 = Stage2()

    def encode_keyframe(self, picture: Tensor) -> KeyframeFeatures:
        """Features of decoded keyframes [B, 3, 256, 256]; computed once per keyframe."""
        features: KeyframeFeatures = self.keyframe(picture)
        return features

    def forward(self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor) -> Output:
        coarse: CoarseFrame = self.stage1(key, tiny, mel)
        frame, flow = self.stage2(key, coarse)
        return Output(frame, flow, coarse)
