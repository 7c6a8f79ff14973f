"""The adversarial loss: a critic of luma patches about the face (hinge loss, arXiv 1705.02894). Off by default."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..model.blocks import box_down, luma_of
from .losses import region_weight


class Critic(nn.Module):
    """Pictures [B, 3, 256, 256] -> judgements [B, 1, 32, 32], each of a patch of 38 pixels; higher is more real.

    Colour is left out: it is what the tiny frames already tell.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = ((1, width), (width, 2 * width), (2 * width, 4 * width))
        layers: list[nn.Module] = []
        for cin, cout in sizes:
            layers += [spectral_norm(nn.Conv2d(cin, cout, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(4 * width, 1, 3, 1, 1)))

    def forward(self, picture: Tensor) -> Tensor:
        judgement: Tensor = self.layers(luma_of(picture) - 0.5)
        return judgement


def _mean(judgement: Tensor, marks: Tensor) -> Tensor:
    weight = box_down(region_weight(marks, 64, 8.0), judgement.shape[-1])
    return (judgement.float() * weight).sum() / weight.sum()


def critic_loss(critic: Critic, frame: Tensor, target: Tensor, marks: Tensor) -> Tensor:
    """For the critic's own step: real patches above 1, drawn ones below -1."""
    real, drawn = critic(target), critic(frame.detach())
    return _mean(F.relu(1 - real), marks) + _mean(F.relu(1 + drawn), marks)


def adversarial_term(critic: Critic, frame: Tensor, marks: Tensor, weight: float) -> Tensor:
    """For the network's step: what the critic takes for real is good."""
    return -weight * _mean(critic(frame), marks)
