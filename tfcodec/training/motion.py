"""The motion layer as training meets it: landmarks rounded to its numbers, in batches on the training's device.

The same arithmetic as `tfcodec.motion.geometry`, for many references at once (a test holds them together).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..motion.geometry import HEAD, MIN_DISTANCE, NUMBERS, UNIT, load_bases

STEPS = (20.0, 20.0, 31.0, 31.0, *[100.0] * 4, 41.0, 51.0, 61.0, 61.0, *[123.0] * 2, *[184.0] * 2)
"""What the numbers are rounded to at quality 5, near enough, in their unit of 1/1024."""


@lru_cache(maxsize=4)
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    bases = load_bases()
    forward, inverse = (torch.from_numpy(x).float().to(device) for x in (bases.forward.T, bases.inverse))
    return forward.contiguous(), inverse, torch.tensor(STEPS, device=device)


def _frames(reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre [B, 1, 2], distance of the eyes [B, 1, 1] and axes [B, 2, 2] of the references' heads."""
    across = reference[:, 42:48].mean(1) - reference[:, 36:42].mean(1)
    length = across.norm(dim=-1, keepdim=True)
    x, y = (across / length.clamp(min=1e-6)).unbind(-1)
    axes = torch.stack((torch.stack((x, -y), -1), torch.stack((y, x), -1)), 1)
    return reference.mean(1, keepdim=True), length.clamp(min=MIN_DISTANCE)[:, :, None], axes


def analyse(reference: Tensor, marks: Tensor) -> Tensor:
    """Numbers [B, 16] that move references [B, 70, 2] to ``marks`` [B, 70, 2]; pixels."""
    centre, distance, axes = _frames(reference)
    there = marks.mean(1, keepdim=True)
    a, b = reference - centre, marks - there
    size = a.square().sum((1, 2)).clamp(min=1e-6)
    c = (a * b).sum((1, 2)) / size
    n = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / size
    move = (there - centre)[:, 0] / distance[:, 0]
    scale = (c.square() + n.square()).clamp(min=1e-3)[:, None]
    x, y = b.unbind(-1)
    c1, n1 = c[:, None], n[:, None]
    back = torch.stack(((c1 * x + n1 * y) / scale, (c1 * y - n1 * x) / scale), -1)
    left = (back - a) / distance @ axes
    head = torch.stack((c - 1, n, move[:, 0], move[:, 1]), 1)
    return torch.cat((head, left.flatten(1) @ _constants(reference.device)[0]), 1) * UNIT


def synthesise(reference: Tensor, numbers: Tensor) -> Tensor:
    """Landmarks [B, 70, 2] in pixels that numbers [B, 16] make of references [B, 70, 2]."""
    centre, distance, axes = _frames(reference)
    values = numbers / UNIT
    left = (values[:, HEAD:] @ _constants(reference.device)[1]).reshape(len(values), -1, 2)
    x, y = (reference - centre + left @ axes.mT * distance).unbind(-1)
    c, n = 1 + values[:, :1], values[:, 1:2]
    return torch.stack((c * x - n * y, n * x + c * y), -1) + centre + values[:, None, 2:HEAD] * distance


def coded(reference: Tensor, marks: Tensor, coarseness: Tensor) -> Tensor:
    """What a receiver gets of ``marks`` [B, 70, 2]: ``coarseness`` [B] times the steps of quality 5."""
    steps = _constants(reference.device)[2] * coarseness[:, None]
    assert len(STEPS) == NUMBERS
    return synthesise(reference, (analyse(reference, marks) / steps).round() * steps)
