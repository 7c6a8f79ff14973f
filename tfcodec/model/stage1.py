"""Stage 1, the audio-visual upsampler: tiny frames + speech + identity -> a coarse 64x64 video and its motion.

The motion from the keyframe is estimated coarse to fine at 16, 32 and 64 pixels. After every level the keyframe is
moved by the flow found so far, shrunk to 8x8 and compared with the transmitted tiny frame; the difference is an input
of the next level, so the network sees its own error ("unrolled consistency"). The landmark prior's hints are inputs,
too, and its change of the mouth is added to the last flow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, box_down, conv, field, join, refine_chroma, upsample, warp, zero_conv
from .config import DEFAULT, SHAPES, NetworkConfig
from .inputs import WINDOW
from .landmarks import HINTS, Hints, LandmarkPrior
from .places import FLOW_UNIT as FLOW_UNIT

WIDTHS = SHAPES["standard"].widths
AUDIO_WIDTH = 128
MAPS = ("f128", "f64", "f32", "f16", "f8")
"""Fields of `KeyframeFeatures` that are feature maps."""


class KeyframeFeatures(NamedTuple):
    """What is computed once per keyframe: pictures and feature maps, batch first."""

    picture: Tensor  # [B, 3, 256, 256] in 0..1
    small: Tensor  # [B, 3, 64, 64], box mean
    f128: Tensor
    f64: Tensor
    f32: Tensor
    f16: Tensor
    f8: Tensor
    marks: Tensor | None = None  # [B, 70, 2] landmarks in -1..1
    face: Tensor | None = None  # [B] 1 where there is a face, 0 where there is none
    mouth: Tensor | None = None  # [B, 3, 64, 80] square of the close-up
    mouth_dots: Tensor | None = None  # its landmarks
    eyes: Tensor | None = None  # [B, 3, 48, 96]
    eyes_dots: Tensor | None = None

    def select(self, index: Tensor | slice) -> KeyframeFeatures:
        """The features for frames that use keyframe ``index[i]``."""
        return self._replace(**{name: value[index] for name, value in self._asdict().items() if value is not None})

    def squares(self) -> tuple[Tensor, ...]:
        """What the close-ups want to know of the keyframe."""
        found = tuple(x for x in (self.mouth, self.mouth_dots, self.eyes, self.eyes_dots) if x is not None)
        assert len(found) == 4
        return found


class CoarseFrame(NamedTuple):
    """Stage 1's output: the coarse picture [B, 3, 64, 64] in 0..1, its features, the flows that led there.

    ``tiny`` [B, 3, 8, 8] is the frame's tiny frame with the chroma detail of the keyframe, ``hints`` what the landmark
    prior said.
    """

    picture: Tensor
    tiny: Tensor
    features: Tensor
    flow: Tensor
    flows: tuple[Tensor, ...]
    hints: Hints | None = None
    moved: Tensor | None = None
    """The keyframe's 64x64 picture, moved by the flow."""


def tell(hints: Hints, flow: Tensor) -> Tensor:
    """The hints as seen from a flow: how far it is from the prior's, and the mouth where the flow takes it."""
    mouth = warp(torch.cat((hints.shape / FLOW_UNIT, hints.drawing), 1), flow)
    return join((hints.motion - flow) / FLOW_UNIT, hints.cover, mouth)


class FineEncoder(nn.Module):
    """The decoded keyframe's feature maps of 128, 64 and 32 pixels, which the light network has in common."""

    def __init__(self, w: dict[int, int] = WIDTHS) -> None:
        super().__init__()
        self.stem = conv(12, w[128])
        self.block128 = ResBlock(w[128])
        self.down64 = conv(w[128], w[64], 2)
        self.block64 = ResBlock(w[64])
        self.down32 = conv(w[64], w[32], 2)
        self.block32 = ResBlock(w[32])

    def fine(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of pictures [B, 3, 256, 256]."""
        f128 = self.block128(self.stem(F.pixel_unshuffle(picture - 0.5, 2)))
        f64 = self.block64(self.down64(f128))
        return f128, f64, self.block32(self.down32(f64))


class KeyframeEncoder(FineEncoder):
    """Feature pyramid of the decoded keyframe, 128 ... 8 pixels."""

    def __init__(self, w: dict[int, int] = WIDTHS) -> None:
        super().__init__(w)
        self.down16 = conv(w[32], w[16], 2)
        self.block16 = ResBlock(w[16])
        self.down8 = conv(w[16], w[8], 2)
        self.block8 = ResBlock(w[8])

    def forward(self, picture: Tensor) -> KeyframeFeatures:
        f128, f64, f32 = self.fine(picture)
        f16 = self.block16(self.down16(f32))
        f8 = self.block8(self.down8(f16))
        return KeyframeFeatures(picture, box_down(picture, 64), f128, f64, f32, f16, f8)


class SpeechEncoder(nn.Module):
    """Log-mel window [B, 20, 80] -> one vector per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(1, 24, 2), nn.SiLU(), conv(24, 48, 2), nn.SiLU(), conv(48, 64, 2), nn.SiLU())
        self.out = nn.Linear(64 * 3 * 10, AUDIO_WIDTH)

    def forward(self, mel: Tensor) -> Tensor:
        return F.silu(self.out(self.layers(mel[:, None]).flatten(1)))


class Stage1(nn.Module):
    def __init__(self, config: NetworkConfig = DEFAULT) -> None:
        super().__init__()
        w, blocks8, blocks16, blocks = SHAPES[config.shape][:4]
        self.config = config
        self.speech = SpeechEncoder() if config.audio else None
        heard = AUDIO_WIDTH if config.audio else 0
        self.tiny_in = conv(3 * WINDOW + 6, w[8])
        self.merge8 = conv(2 * w[8], w[8])
        self.trunk8 = nn.ModuleList(ResBlock(w[8], heard) for _ in range(blocks8))
        self.up16 = conv(w[8], w[16], kernel=1)
        self.merge16 = conv(2 * w[16] + 3, w[16])
        self.trunk16 = nn.ModuleList(ResBlock(w[16], heard) for _ in range(blocks16))
        self.flow16 = zero_conv(w[16], 2)
        self.refine16 = conv(2 * w[16] + 6, w[16])
        self.trunk16b = ResBlock(w[16])
        self.flow16b = zero_conv(w[16], 2)
        self.up32 = conv(w[16], w[32], kernel=1)
        self.merge32 = conv(2 * w[32] + 9, w[32])
        self.trunk32 = ResBlock(w[32], heard)
        self.more32 = nn.ModuleList(ResBlock(w[32]) for _ in range(blocks - 1))
        self.flow32 = zero_conv(w[32], 2)
        self.up64 = conv(w[32], w[64], kernel=1)
        self.merge64 = conv(2 * w[64] + 9, w[64])
        self.trunk64 = ResBlock(w[64], heard)
        self.more64 = nn.ModuleList(ResBlock(w[64]) for _ in range(blocks - 1))
        self.flow64 = zero_conv(w[64], 2)
        self.paint64 = zero_conv(w[64], 3)
        # Convolutions of their own, added to those of the same level: zero at first, so that a network that was trained
        # without the prior takes it up from where it was.
        self.prior = LandmarkPrior(config) if config.landmarks else None
        if config.landmarks:
            self.hint16 = zero_conv(3, w[16])
            self.hint32 = zero_conv(3, w[32])
            self.hint64 = zero_conv(HINTS, w[64])
            # How much of the prior's change of the mouth goes into the last flow as it is.
            self.trust = nn.Parameter(torch.zeros(()))
        if config.recurrence:
            self.recall16 = zero_conv(2 + w[64], w[16])
            self.recall64 = zero_conv(2 + w[64], w[64])

    def forward(
        self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, before: Tensor | None = None,
        marks: Tensor | None = None, displacement: Tensor | None = None,
    ) -> CoarseFrame:  # fmt: skip
        """``tiny`` [B, 5, 3, 8, 8] in 0..1 (the middle one is the frame to draw), ``mel`` [B, 20, 80].

        ``before`` is for recurrent networks: see `Output.memory`. ``marks`` [B, 70, 2] are the frame's landmarks, if
        they were sent; without them the prior guesses. ``displacement`` [B, 12], in pixels, is added to the last flow
        (see `displacement.field`).
        """
        if self.config.recurrence and before is None:
            before = torch.zeros_like(torch.cat((key.f64[:, :2], key.f64), 1))
        key8 = box_down(key.small, 8)
        tiny = refine_chroma(tiny, key8)
        now = tiny[:, WINDOW // 2]
        hints = None
        if self.prior is not None:
            assert key.marks is not None
            hints = self.prior(key.marks, key8, tiny, marks)
        if not self.config.window:
            tiny = now[:, None].expand_as(tiny)
        sound = None if self.speech is None else self.speech(mel)

        x = self.tiny_in(join(tiny.flatten(1, 2) - 0.5, key8 - 0.5, 4 * (now - key8)))
        x = self.merge8(join(F.silu(x), key.f8))
        for block in self.trunk8:
            x = block(x, sound)

        x = upsample(self.up16(x))
        x = self.merge16(join(x, key.f16, upsample(4 * (now - key8))))
        x = self._hear(x, hints, 16)
        if before is not None:
            x = x + self.recall16(box_down(before, 16))
        for block in self.trunk16:
            x = block(x, sound)
        flow16 = FLOW_UNIT * self.flow16(F.silu(x)).float()

        error, moved = self._error(key, flow16, now)
        x = self.refine16(join(x, warp(key.f16, flow16), upsample(error), box_down(moved, 16)))
        x = self.trunk16b(x)
        flow16b = flow16 + FLOW_UNIT * self.flow16b(F.silu(x)).float()

        error, moved = self._error(key, flow16b, now)
        flow = upsample(flow16b)
        near = upsample(now, 4)
        x = upsample(self.up32(x))
        x = self.merge32(join(x, warp(key.f32, flow), upsample(error, 4), box_down(moved, 32) - 0.5, near - 0.5))
        x = self.trunk32(self._hear(x, hints, 32, flow), sound)
        for block in self.more32:
            x = block(x)
        flow32 = flow + FLOW_UNIT * self.flow32(F.silu(x)).float()

        error, moved = self._error(key, flow32, now)
        flow = upsample(flow32)
        near = upsample(now, 8)
        x = upsample(self.up64(x))
        x = self.merge64(join(x, warp(key.f64, flow), upsample(error, 8), moved - 0.5, near - 0.5))
        if before is not None:
            x = x + self.recall64(before)
        x = self.trunk64(self._hear(x, hints, 64, flow), sound)
        for block in self.more64:
            x = block(x)
        flow64 = flow + FLOW_UNIT * self.flow64(F.silu(x)).float()
        if hints is not None:
            # The mouth changes where it is in the keyframe, and the face's motion takes it along.
            flow64 = flow64 + self.trust * warp(hints.shape, flow64)
        if displacement is not None:
            flow64 = flow64 + field(displacement)
        moved = warp(key.small, flow64)
        picture = moved + self.paint64(F.silu(x))
        return CoarseFrame(picture, now, x, flow64, (flow16, flow16b, flow32, flow64), hints, moved)

    def _hear(self, x: Tensor, hints: Hints | None, size: int, flow: Tensor | None = None) -> Tensor:
        if hints is None:
            return x
        motion, cover = box_down(hints.motion, size), box_down(hints.cover, size)
        if flow is None:
            y: Tensor = self.hint16(join(motion / FLOW_UNIT, cover))
        elif size == 32:
            y = self.hint32(join((motion - flow) / FLOW_UNIT, cover))
        else:
            y = self.hint64(tell(hints, flow))
        return x + y

    def _error(self, key: KeyframeFeatures, flow: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        moved = warp(key.small, flow)
        error = 4 * (now - box_down(moved, 8))
        return error if self.config.consistency else 0 * error, moved
