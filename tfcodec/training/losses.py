"""Training losses. Pictures [B, 3, H, W] in 0..1, landmarks [B, 70, 2] in pixels of the 256x256 picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics.lpips import LPIPS
from ..model.blocks import box_down, warp
from ..model.stage1 import CoarseFrame, KeyframeFeatures
from ..model.upsampler import Output
from .data import SIZE, Batch

MOUTH = slice(48, 68)
EYES = (*range(36, 48), 68, 69)

# The jaw and the nose go with the head, which the network learns first; lips and lids move by themselves.
_MARK_WEIGHT = torch.ones(70, 1)
_MARK_WEIGHT[MOUTH] = 3.0
_MARK_WEIGHT[list(EYES)] = 2.0

PERCEPTUAL_CROP = 128


@dataclass(frozen=True)
class LossWeights:
    pixels: float = 6.0
    gradients: float = 4.0
    perceptual: float = 7.0
    coarse: float = 4.0
    warped: float = 2.0
    landmarks: float = 4.0
    smooth: float = 0.5
    region: float = 6.0  # extra weight of mouth and eyes


def region_weight(marks: Tensor, size: int, extra: float) -> Tensor:
    """1 + extra around mouth and eyes, [B, 1, size, size]: soft discs about the landmarks."""
    points = torch.cat((marks[:, MOUTH], marks[:, EYES]), 1) * (size / SIZE)
    line = torch.arange(size, device=marks.device, dtype=torch.float32) + 0.5
    sigma = size / 28
    gx = torch.exp(-((line[None, None] - points[..., :1]) ** 2) / (2 * sigma**2))
    gy = torch.exp(-((line[None, None] - points[..., 1:]) ** 2) / (2 * sigma**2))
    found = (points[..., :1] > 0).float()
    # The sum over points of a separable bump is one small matrix product per picture.
    bumps = torch.einsum("bpy,bpx->byx", gy * found, gx)
    return 1 + extra * bumps.clamp(0, 1)[:, None]


def landmark_loss(flow: Tensor, marks: Tensor, key_marks: Tensor) -> Tensor:
    """The backward flow at each target landmark should point to the keyframe's landmark."""
    here = marks / (SIZE / 2) - 1
    wanted = (key_marks - marks) / (SIZE / 2)
    found = F.grid_sample(flow, here[:, None], align_corners=False, padding_mode="border")[:, :, 0].mT
    valid = ((marks[..., :1] > 0) & (key_marks[..., :1] > 0)).float() * _MARK_WEIGHT.to(marks.device)
    return ((found - wanted).abs() * valid).sum() / (2 * valid.sum().clamp(min=1))


def _gradient(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mul(weight[..., 1:]).mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mul(
        weight[..., 1:, :]
    ).mean()


def _smoothness(flow: Tensor) -> Tensor:
    return (flow[..., 1:] - flow[..., :-1]).abs().mean() + (flow[..., 1:, :] - flow[..., :-1, :]).abs().mean()


def coarse_terms(
    key: KeyframeFeatures, coarse: CoarseFrame, batch: Batch, w: LossWeights
) -> dict[str, Tensor]:
    """Losses of stage 1 alone."""
    target = box_down(batch.target, 64)
    weight = region_weight(batch.marks, 64, w.region)
    picture = coarse.picture.float()
    moved = [warp(key.small.float(), flow) for flow in coarse.flows]
    warped = sum(((m - target).abs() * weight).mean() for m in moved) / len(moved)
    return {
        "coarse": w.coarse * ((picture - target).abs() * weight).mean()
        + w.coarse * _gradient(picture, target, weight),
        "warped": w.warped * torch.as_tensor(warped),
        "landmarks": w.landmarks
        * torch.stack([landmark_loss(f, batch.marks, batch.key_marks) for f in coarse.flows]).mean(),
        "smooth": w.smooth * _smoothness(coarse.flow),
    }


def frame_terms(
    key: KeyframeFeatures, out: Output, batch: Batch, w: LossWeights, lpips: LPIPS | None
) -> dict[str, Tensor]:
    """Losses of the whole network."""
    frame, target = out.frame.float(), batch.target
    weight = region_weight(batch.marks, 64, w.region)
    weight = F.interpolate(weight, size=SIZE, mode="bilinear", align_corners=False)
    pixels = ((frame - target).abs() * weight).mean()
    for size in (128, 64):
        pixels = pixels + 0.5 * (box_down(frame, size) - box_down(target, size)).abs().mean()
    terms = coarse_terms(key, out.coarse, batch, w)
    terms["pixels"] = w.pixels * pixels
    terms["gradients"] = w.gradients * _gradient(frame, target, weight)
    terms["landmarks"] = terms["landmarks"] + w.landmarks * landmark_loss(out.flow, batch.marks, batch.key_marks)
    if lpips is not None:
        # On whole pictures as dear as the whole network: so on a piece of every second target, drawn anew each step.
        some = torch.randperm(len(frame), device=frame.device)[: max(1, len(frame) // 2)]
        top, left = (8 * int(i) for i in torch.randint((SIZE - PERCEPTUAL_CROP) // 8 + 1, (2,)))
        piece = (some, slice(None), slice(top, top + PERCEPTUAL_CROP), slice(left, left + PERCEPTUAL_CROP))
        with torch.no_grad():
            wanted = lpips.embed(target[piece])
        terms["perceptual"] = w.perceptual * lpips.compare(lpips.embed(out.frame[piece]), wanted).mean()
    return terms
