"""Training losses. Pictures [B, 3, H, W] in 0..1, landmarks [B, 70, 2] in pixels of the 256x256 picture."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.blocks import box_down, upsample, warp
from ..model.closeup import SQUARES, cut_square, head_frame
from ..model.landmarks import MOUTH
from ..model.stage1 import CoarseFrame, KeyframeFeatures
from ..model.upsampler import Output
from .compact import SIZE
from .data import Batch
from .plans import PIECE

EYES = (*range(36, 48), 68, 69)


@dataclass(frozen=True)
class LossWeights:
    """What each term counts; a term with weight 0 is not computed."""

    pixels: float = 6.0
    gradients: float = 4.0
    perceptual: float = 7.0
    coarse: float = 4.0
    warped: float = 2.0
    landmarks: float = 4.0
    mouth: float = 12.0  # shape of the mouth, in the last flow
    prior: float = 2.0  # the landmark prior's own task; nothing when it is frozen
    squares: float = 0.0  # squared error of the pixels
    smooth: float = 0.5
    region: float = 6.0  # extra weight of mouth and eyes
    adversarial: float = 0.0
    temporal: float = 0.0
    closeups: float = 4.0  # mouth and eyes in the squares of the close-ups
    closer: float = 3.0  # ... and their LPIPS

    def changed(self, settings: list[str]) -> LossWeights:
        """With ``NAME=VALUE`` settings put in. Raises TfcodecError on an unknown name or a value that is no number."""
        known = {field.name for field in fields(self)}
        values = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            try:
                values[name] = float(value)
            except ValueError:
                raise TfcodecError(f"--loss {setting}: NAME=NUMBER is wanted") from None
            if name not in known:
                raise TfcodecError(f"--loss {setting}: there is no loss {name!r}; there are {', '.join(sorted(known))}")
        return replace(self, **values)


@lru_cache(maxsize=8)
def mark_weight(device: torch.device) -> Tensor:
    """How much each landmark counts, [70, 1]."""
    # The jaw and the nose go with the head, which the network learns first; lips and lids move by themselves.
    weight = torch.ones(70, 1, device=device)
    weight[MOUTH] = 3.0
    weight[36:48] = 2.0
    weight[68:70] = 2.0
    return weight


def region_weight(marks: Tensor, size: int, extra: float) -> Tensor:
    """1 + extra around mouth and eyes, [B, 1, size, size]: soft discs about the landmarks."""
    points = torch.cat((marks[:, MOUTH], marks[:, 36:48], marks[:, 68:70]), 1) * (size / SIZE)
    line = torch.arange(size, device=marks.device, dtype=torch.float32) + 0.5
    sigma = size / 28
    gx = torch.exp(-((line[None, None] - points[..., :1]) ** 2) / (2 * sigma**2))
    gy = torch.exp(-((line[None, None] - points[..., 1:]) ** 2) / (2 * sigma**2))
    found = (points[..., :1] > 0).float()
    # The sum over points of a separable bump is one small matrix product per picture.
    bumps = torch.einsum("bpy,bpx->byx", gy * found, gx)
    return 1 + extra * bumps.clamp(0, 1)[:, None]


def flow_errors(flow: Tensor, marks: Tensor, key_marks: Tensor) -> Tensor:
    """[B, 70, 2]: where the backward flow at each target landmark points to, less where the keyframe's landmark is."""
    here = marks / (SIZE / 2) - 1
    wanted = (key_marks - marks) / (SIZE / 2)
    found = F.grid_sample(flow, here[:, None], align_corners=False, padding_mode="border")[:, :, 0].mT
    return found - wanted


def landmark_loss(flow: Tensor, marks: Tensor, key_marks: Tensor) -> Tensor:
    """The backward flow at each target landmark should point to the keyframe's landmark."""
    valid = ((marks[..., :1] > 0) & (key_marks[..., :1] > 0)).float() * mark_weight(marks.device)
    return (flow_errors(flow, marks, key_marks).abs() * valid).sum() / (2 * valid.sum().clamp(min=1))


def mouth_loss(flow: Tensor, marks: Tensor, key_marks: Tensor) -> Tensor:
    """Error of the mouth's shape: of its landmarks, apart from the error that all of them have in common.

    By itself it would drown in the head's motion, which is ten times as large.
    """
    error = flow_errors(flow, marks, key_marks)[:, MOUTH]
    valid = ((marks[:, MOUTH, :1] > 0) & (key_marks[:, MOUTH, :1] > 0)).all(1, keepdim=True).float()
    return ((error - error.mean(1, keepdim=True)).abs() * valid).sum() / (40 * valid.sum().clamp(min=1))


def prior_loss(found: Tensor, moved: Tensor, batch: Batch) -> Tensor:
    """Error of the landmarks found in the keyframe, and of how far they are said to have moved."""
    key_marks, marks = (m * (2 / SIZE) - 1 for m in (batch.key_marks, batch.marks))
    valid = ((batch.marks[..., :1] > 0) & (batch.key_marks[..., :1] > 0)).float() * mark_weight(marks.device)
    error = (found - key_marks).abs() + (moved - (marks - key_marks)).abs()
    return (error * valid).sum() / (2 * valid.sum().clamp(min=1))


def gradient_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of the differences of neighbouring pixels."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mul(weight[..., 1:]).mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mul(
        weight[..., 1:, :]
    ).mean()


def _smoothness(flow: Tensor) -> Tensor:
    return (flow[..., 1:] - flow[..., :-1]).abs().mean() + (flow[..., 1:, :] - flow[..., :-1, :]).abs().mean()


def coarse_terms(key: KeyframeFeatures, coarse: CoarseFrame, batch: Batch, w: LossWeights) -> dict[str, Tensor]:
    """Losses of stage 1 alone."""
    target = box_down(batch.target, 64)
    weight = region_weight(batch.marks, 64, w.region)
    picture = coarse.picture.float()
    terms = {
        "coarse": w.coarse * (((picture - target).abs() * weight).mean() + gradient_error(picture, target, weight)),
        "smooth": w.smooth * _smoothness(coarse.flow),
    }
    if w.warped:
        moved = [warp(key.small.float(), flow) for flow in coarse.flows]
        terms["warped"] = w.warped * torch.stack([((m - target).abs() * weight).mean() for m in moved]).mean()
    if w.landmarks:
        each = torch.stack([landmark_loss(f, batch.marks, batch.key_marks) for f in coarse.flows])
        terms["landmarks"] = w.landmarks * each.mean()
    if w.mouth:
        terms["mouth"] = w.mouth * mouth_loss(coarse.flow, batch.marks, batch.key_marks)
    if w.prior and coarse.hints is not None and coarse.hints.moved.requires_grad and key.marks is not None:
        terms["prior"] = w.prior * prior_loss(key.marks, coarse.hints.moved, batch)
    return terms


def frame_terms(out: Output, batch: Batch, w: LossWeights) -> dict[str, Tensor]:
    """Losses of the whole network, but for those that need another network."""
    frame, target = out.frame.float(), batch.target
    weight = region_weight(batch.marks, 64, w.region)
    weight = F.interpolate(weight, size=SIZE, mode="bilinear", align_corners=False)
    pixels = ((frame - target).abs() * weight).mean()
    for size in (128, 64):
        pixels = pixels + 0.5 * (box_down(frame, size) - box_down(target, size)).abs().mean()
    terms = coarse_terms(out.key, out.coarse, batch, w)
    terms["pixels"] = w.pixels * pixels
    if w.squares:
        terms["squares"] = w.squares * (frame - target).square().mean()
    terms["gradients"] = w.gradients * gradient_error(frame, target, weight)
    if w.landmarks:
        terms["landmarks"] = terms["landmarks"] + w.landmarks * landmark_loss(out.flow, batch.marks, batch.key_marks)
    if w.mouth:
        terms["mouth"] = (terms["mouth"] + w.mouth * mouth_loss(out.flow, batch.marks, batch.key_marks)) / 2
    if w.temporal and batch.pairs:
        # What moves, flickers or stands still should do so as in the source.
        change = (frame[1::2] - frame[::2]) - (target[1::2] - target[::2])
        terms["temporal"] = w.temporal * (change.abs() * weight[1::2]).mean()
    return terms


def perceptual_term(frame: Tensor, batch: Batch, lpips: LPIPS, weight: float) -> Tensor:
    """LPIPS on a piece of some of the targets: on all of all it costs as much as the network."""
    return weight * piece_error(frame[batch.some], batch.target[batch.some], batch.corner, lpips)


def square_terms(out: Output, batch: Batch, lpips: LPIPS, w: LossWeights) -> dict[str, Tensor]:
    """Mouth and eyes of some of the targets, in the squares that they are drawn in; what has changed since the keyframe
    counts more."""
    assert batch.now is not None
    some = batch.some
    frame = head_frame(batch.now[some])
    key_frame = head_frame(out.key.marks[some]) if out.key.marks is not None else frame
    face = out.key.face[some] if out.key.face is not None else torch.ones_like(frame.middle[:, 0])
    if batch.told is not None:
        face = face * batch.told[some].flatten()
    pixels = perceptual = torch.zeros((), device=face.device)
    for square in SQUARES:
        ours, wanted = (cut_square(x[some], frame, square) for x in (out.frame, batch.target))
        still = cut_square(out.key.picture[some].detach(), key_frame, square)
        weight = (1 + 6 * (still - wanted).abs().mean(1, keepdim=True)) * face[:, None, None, None]
        pixels = pixels + ((ours - wanted).abs() * weight).mean()
        large = [upsample(x).contiguous(memory_format=torch.channels_last) for x in (ours, wanted)]
        with torch.no_grad():
            embedded = lpips.embed(large[1])
        perceptual = perceptual + (lpips.compare(lpips.embed(large[0]), embedded) * face).mean()
    return {"closeups": w.closeups * pixels, "closer": w.closer * perceptual}


def metric_terms(out: Output, batch: Batch, lpips: LPIPS, w: LossWeights, squares: bool) -> dict[str, Tensor]:
    """Losses that need another network: of a piece of the picture and, if ``squares``, of mouth and eyes."""
    terms = {}
    if w.perceptual:
        terms["perceptual"] = perceptual_term(out.frame, batch, lpips, w.perceptual)
    if squares and (w.closeups or w.closer):
        terms |= square_terms(out, batch, lpips, w)
    return terms


def piece_error(frame: Tensor, target: Tensor, corner: Tensor, lpips: LPIPS) -> Tensor:
    """Mean LPIPS of the pieces whose upper left corner (top, left) is at ``corner`` [2]."""
    # Picked by numbers on the device: a compiler would take other slices for other programs.
    rows, columns = (corner[i] + torch.arange(PIECE, device=frame.device) for i in (0, 1))
    ours, wanted = (x.index_select(-2, rows).index_select(-1, columns) for x in (frame, target))
    with torch.no_grad():
        embedded = lpips.embed(wanted.contiguous(memory_format=torch.channels_last))
    return lpips.compare(lpips.embed(ours.contiguous(memory_format=torch.channels_last)), embedded).mean()
