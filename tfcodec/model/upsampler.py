"""The whole network: keyframe encoder, stage 1, stage 2."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import box_down, enlarge, upsample
from .closeup import CloseUps
from .config import DEFAULT, SHAPES, NetworkConfig
from .inputs import MEL_BANDS, MEL_COLUMNS, WINDOW
from .light import LightEncoder, LightStage1, LightStage2
from .restoration import KeyframeRestorer
from .stage1 import FLOW_UNIT, CoarseFrame, KeyframeEncoder, KeyframeFeatures, Stage1
from .stage2 import Stage2
from .tracker import FOUND, FaceTracker

__all__ = ["MEL_BANDS", "MEL_COLUMNS", "WINDOW", "KeyframeFeatures", "NetworkConfig", "Output", "Upsampler"]


class Output(NamedTuple):
    """``frame`` [B, 3, 256, 256] in 0..1 (not clamped), final optical flow [B, 2, 64, 64], stage 1's output, and the
    features that all of it was drawn from."""

    frame: Tensor
    flow: Tensor
    coarse: CoarseFrame
    key: KeyframeFeatures
    plain: Tensor | None = None
    """The frame before its close-ups."""

    def memory(self) -> Tensor:
        """What a recurrent network is told of the frame before, [B, C, 64, 64]: its flow and features."""
        return torch.cat((self.flow / FLOW_UNIT, self.coarse.features), 1)


class Upsampler(nn.Module):
    """Two-stage audio-visual upsampling network (after Hegde et al., ACM MM 2022, arXiv 2208.08118).

    Tensors: pictures [B, 3, H, W] RGB in 0..1; tiny frames [B, 5, 3, 8, 8], the current one in the middle;
    log-mel [B, 20, 80], the current frame in the middle; landmarks ``marks`` [B, 70, 2] in -1..1, where the frame's
    motion was sent; ``displacement`` [B, 12] in pixels, where the frame is displaced. ``config`` leaves parts out and
    adds others (for ablations): ``before`` is the `Output.memory` of the frame before, ``second`` another keyframe's
    features. Without them such a network draws as at the beginning of a clip, and from one keyframe.
    """

    def __init__(self, config: NetworkConfig = DEFAULT) -> None:
        super().__init__()
        self.config = config
        shape = SHAPES[config.shape]
        self.keyframe: KeyframeEncoder | LightEncoder
        self.stage1: Stage1 | LightStage1
        self.stage2: Stage2 | LightStage2 | None
        if shape.light:
            self.keyframe = LightEncoder(shape.widths)
            self.stage1, self.stage2 = LightStage1(config), LightStage2(config)
        else:
            self.keyframe, self.stage1 = KeyframeEncoder(shape.widths), Stage1(config)
            self.stage2 = Stage2(config) if config.stage2 else None
        self.restorer = KeyframeRestorer() if config.restoration else None
        self.tracker = FaceTracker() if config.motion else None
        self.closeups = CloseUps(shape) if config.closeups else None

    def encode_keyframe(
        self, picture: Tensor, marks: Tensor | None = None, face: Tensor | None = None
    ) -> KeyframeFeatures:
        """Features of decoded keyframes [B, 3, 256, 256]; computed once per keyframe.

        ``marks`` [B, 70, 2] and ``face`` [B]: what the tracker says of them, where it was asked before.
        """
        restored = picture if self.restorer is None else self.restorer(picture)
        features: KeyframeFeatures = self.keyframe(restored)
        if marks is None and self.tracker is not None:
            marks, score = self.tracker(picture)
            face = (score > FOUND).float()
        return self.complete(features, picture, marks, face)

    def complete(
        self, features: KeyframeFeatures, picture: Tensor, marks: Tensor | None, face: Tensor | None
    ) -> KeyframeFeatures:
        """The features of keyframes [B, 3, 256, 256] with their landmarks, and with what goes by those."""
        if marks is None and self.stage1.prior is not None and self.stage1.prior.finder is not None:
            marks = self.stage1.prior.finder(picture)
        features = features._replace(marks=marks, face=face)
        if self.closeups is not None and marks is not None:
            mouth, mouth_dots, eyes, eyes_dots = self.closeups.prepare(features.picture, marks)
            features = features._replace(mouth=mouth, mouth_dots=mouth_dots, eyes=eyes, eyes_dots=eyes_dots)
        return features

    def guess(self, key: KeyframeFeatures, tiny: Tensor) -> Tensor:
        """Landmarks [B, 70, 2] of frames whose motion was not sent, by their tiny frames [B, 5, 3, 8, 8]."""
        assert self.stage1.prior is not None
        assert key.marks is not None
        return self.stage1.prior.guess(key.marks, box_down(key.small, 8), tiny)

    def prepare(self, key: KeyframeFeatures, tiny: Tensor) -> KeyframeFeatures:
        """The reference that frames are drawn from: ``key``, or its substitute in a network without keyframe."""
        if self.config.keyframe:
            return key
        return self.encode_keyframe(enlarge(tiny[:, WINDOW // 2], key.picture.shape[-1]))

    def forward(
        self,
        key: KeyframeFeatures,
        tiny: Tensor,
        mel: Tensor,
        before: Tensor | None = None,
        second: KeyframeFeatures | None = None,
        marks: Tensor | None = None,
        displacement: Tensor | None = None,
    ) -> Output:
        key = self.prepare(key, tiny)
        if marks is None and self.closeups is not None:
            marks = self.guess(key, tiny)
        coarse: CoarseFrame = self.stage1(key, tiny, mel, before, marks, displacement)
        if self.stage2 is None:
            return Output(upsample(coarse.picture, 4), coarse.flow, coarse, key)
        other = None
        if self.config.second_reference and second is not None:
            other = second, self.stage1(second, tiny, mel, before, marks, displacement)
        frame, flow = self.stage2(key, coarse, other)
        if self.closeups is None or marks is None or key.face is None:
            return Output(frame, flow, coarse, key)
        return Output(self.closeups(frame, marks, key.squares(), key.face), flow, coarse, key, frame)
