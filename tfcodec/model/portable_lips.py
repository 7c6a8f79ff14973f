"""Lips from speech as a graph: what `tfcodec.model.marks` does with them, in torch alone, to be exported."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..motion.geometry import HEAD, MIN_DISTANCE, POINTS, load_bases
from .lips import MISSING, MOUTH_NUMBERS, MOUTH_PART, OUTPUTS, STEADY, Lips
from .mouth import GAIN, HEARD, LOWER_LIP, UPPER_LIP, opening_of_numbers
from .places import HALF


class _Head(NamedTuple):
    """Where reference heads are: centre [N, 1, 2], inter-ocular distance [N, 1, 1], axes of the eye line [N, 2, 2]."""

    centre: Tensor
    distance: Tensor
    axes: Tensor


def _head(reference: Tensor) -> _Head:
    across = reference[:, 42:48].mean(1) - reference[:, 36:42].mean(1)
    length = across.square().sum(1, keepdim=True).sqrt()
    x, y = (across / length.clamp(min=1e-6)).unbind(1)
    axes = torch.stack((torch.stack((x, -y), 1), torch.stack((y, x), 1)), 1)
    return _Head(reference.mean(1, keepdim=True), length.clamp(min=MIN_DISTANCE)[:, :, None], axes)


class PortableLips(nn.Module):
    """Moves the lips of landmarks to the sound.

    Takes log-mel [N, 148, 80] of 33 frames before each to 3 after; the keyframe's landmarks and the frame's, both
    [N, 70, 2] in -1..1; and [N, 1], 1 if the latter are the tiny frames' guess, 0 if they were held since others were
    lost. Gives the latter with another mouth.
    """

    forward_basis: Tensor
    inverse_basis: Tensor
    opens: Tensor

    def __init__(self, lips: Lips) -> None:
        super().__init__()
        self.lips = lips
        bases = load_bases()
        self.register_buffer("forward_basis", torch.from_numpy(bases.forward.T.copy()).float())
        self.register_buffer("inverse_basis", torch.from_numpy(bases.inverse.copy()).float())
        self.register_buffer("opens", torch.from_numpy(opening_of_numbers().copy()).float()[:, None])

    def forward(self, mel: Tensor, key_marks: Tensor, marks: Tensor, guessed: Tensor) -> Tensor:
        reference = (key_marks + 1) * HALF
        head, rest = self._analyse(reference, (marks + 1) * HALF)
        said, first = self._said(mel)[:, :MOUTH_NUMBERS], MOUTH_PART.first - HEAD
        beside = rest[:, first : first + MOUTH_NUMBERS] + GAIN * HEARD * said
        alone = GAIN * said - self._key_state(reference)
        mouth = alone + guessed * (beside - alone)
        rest = torch.cat((rest[:, :first], mouth, rest[:, first + MOUTH_NUMBERS :]), 1)
        # Lips that would pass through one another are shut, as in `mouth.moved`.
        own = self.opens[first : first + MOUTH_NUMBERS, 0]
        short = (-(_lips_apart(reference) + rest @ self.opens)).clamp(min=0)
        mouth = mouth + short * (own / own.square().sum())
        rest = torch.cat((rest[:, :first], mouth, rest[:, first + MOUTH_NUMBERS :]), 1)
        return self._synthesise(reference, head, rest) / HALF - 1

    def _said(self, mel: Tensor) -> Tensor:
        """What the frames' sound says, [N, 5]; as `Lips.of_frames`."""
        lips = self.lips
        speech = lips.norm(lips.blocks(lips.start(_by_four(torch.cat((mel[:, :MISSING], mel), 1)))))
        out = lips.out(F.silu(lips.hidden(_by_four(speech))))
        return out[:, :, STEADY * OUTPUTS : (STEADY + 1) * OUTPUTS].mean(1)

    def _key_state(self, reference: Tensor) -> Tensor:
        """As `Lips.key_state`, [N, 4]."""
        face = (self.lips.face * 64)[None].expand_as(reference)
        _, rest = self._analyse(face, reference)
        first = MOUTH_PART.first - HEAD
        gap = (reference[:, 61:64] - reference[:, [67, 66, 65]]).square().sum(-1).sqrt().mean(1)
        eyes = (reference[:, 36] - reference[:, 45]).square().sum(-1).sqrt().clamp(min=1)
        parts = (rest[:, first : first + MOUTH_NUMBERS], (gap / eyes)[:, None], torch.ones_like(gap)[:, None])
        return torch.cat(parts, 1) @ self.lips.key

    def _analyse(self, reference: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """As `tfcodec.motion.analyse`: the head's numbers [N, 4] and the others [N, 12], in units of 1."""
        head = _head(reference)
        a, centre = reference - head.centre, marks.mean(1, keepdim=True)
        b = marks - centre
        size = a.square().sum((1, 2)).clamp(min=1e-6)
        c = ((a * b).sum((1, 2)) / size)[:, None]
        n = ((a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / size)[:, None]
        scale = (c.square() + n.square()).clamp(min=1e-3)
        back = torch.stack(((c * b[..., 0] + n * b[..., 1]) / scale, (c * b[..., 1] - n * b[..., 0]) / scale), -1)
        left = ((back - a) / head.distance) @ head.axes
        move = ((centre - head.centre) / head.distance)[:, 0]
        return torch.cat((c - 1, n, move), 1), left.flatten(1) @ self.forward_basis

    def _synthesise(self, reference: Tensor, numbers: Tensor, rest: Tensor) -> Tensor:
        """As `tfcodec.motion.synthesise`, of numbers in units of 1."""
        head = _head(reference)
        left = (rest @ self.inverse_basis).reshape(-1, POINTS, 2)
        shape = reference - head.centre + left @ head.axes.transpose(1, 2) * head.distance
        c, n = 1 + numbers[:, 0, None], numbers[:, 1, None]
        x, y = shape[..., 0], shape[..., 1]
        turned = torch.stack((c * x - n * y, n * x + c * y), -1)
        return turned + head.centre + numbers[:, None, 2:4] * head.distance


def _lips_apart(reference: Tensor) -> Tensor:
    """As `mouth.lips_apart`, [N, 1]."""
    x, y = (reference[:, 42:48].mean(1) - reference[:, 36:42].mean(1)).unbind(1)
    across, down = (reference[:, LOWER_LIP] - reference[:, UPPER_LIP]).mean(1).unbind(1)
    length = (x.square() + y.square()).sqrt()
    return ((x * down - y * across) / (length.clamp(min=1e-6) * length.clamp(min=MIN_DISTANCE)))[:, None]


def _by_four(x: Tensor) -> Tensor:
    """`x.unfold(1, 4, 2).flatten(2)` of [N, T, C], T even, in operators that runtimes have: [N, T / 2 - 1, 4 C]."""
    twos = x.reshape(-1, x.shape[1] // 2, 2, x.shape[2])
    return torch.cat((twos[:, :-1], twos[:, 1:]), 2).transpose(2, 3).flatten(2)
