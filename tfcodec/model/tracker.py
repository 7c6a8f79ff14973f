"""The face tracker: all 70 landmarks of a face in a 256x256 picture, and whether there is a face.

It looks three times: at the whole picture, reduced to 64x64; at the face, turned upright and brought to one size; at
mouth and eyes, so cut out of the picture's own pixels. It runs on the sender's pictures and, at the receiver, on the
decoded keyframe, so it has learned from both.

Coordinates are those of `landmarks`: x, y in -1..1 over the picture, the 68-point layout with the irises as 68 and 69.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import WeightsError
from ..files import write_atomically
from .blocks import ResBlock, box_down, conv, to_load, upsample
from .landmarks import COUNT, MOUTH
from .places import EYE_HALF, FACE_HALF, FACE_MIDDLE, LOOKS, MOUTH_HALF, MOUTH_PER_UNIT
from .places import FOUND as FOUND

LEFT_EYE = (36, 37, 38, 39, 40, 41, 68)
"""What the look at an eye finds. It sees the right one mirrored, so that one network serves both."""


class Head(NamedTuple):
    """Where a head is: the middle between its eyes ``middle`` [B, 2], the vector ``across`` [B, 2] from the eye on the
    left to that on the right and, at right angles, ``down`` [B, 2] towards the chin, both one unit long."""

    middle: Tensor
    across: Tensor
    down: Tensor

    def mirrored(self) -> Head:
        return Head(self.middle, -self.across, self.down)


class Looks(NamedTuple):
    """What each look found: landmarks [B, 70, 2] after the first, the second and the third, and the logit [B] of
    there being a face."""

    coarse: Tensor
    face: Tensor
    marks: Tensor
    logit: Tensor


class Look(nn.Module):
    """Points [B, points, 2] in -1..1 of a patch [B, 3, h, w], and what it saw there [B, channels].

    Each point is the centre of mass of a heat map, corrected by what a linear layer makes of the patch as a whole.
    """

    def __init__(self, points: int, size: tuple[int, int], widths: tuple[int, int, int], narrow: int) -> None:
        super().__init__()
        a, b, c = widths
        self.points = points
        self.stem = conv(12, a)
        self.fine = ResBlock(a)
        self.down4 = conv(a, b, 2)
        self.middle = ResBlock(b)
        self.down8 = conv(b, c, 2)
        self.deep = ResBlock(c)
        self.narrow = conv(c, narrow, kernel=1)
        self.shape = nn.Linear(narrow * (size[0] // 8) * (size[1] // 8), 2 * points)
        self.up = conv(c, b, kernel=1)
        self.merge = ResBlock(b)
        self.heat = conv(b, points, kernel=1)
        nn.init.normal_(self.shape.weight, std=1e-3)

    def forward(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fine(self.stem(F.pixel_unshuffle(patch - 0.5, 2)))
        middle = self.middle(self.down4(F.silu(x)))
        deep = self.deep(self.down8(F.silu(middle)))
        x = self.merge(upsample(self.up(deep)) + middle)
        heat = self.heat(F.silu(x))
        seen = F.silu(deep)
        narrow = F.silu(self.narrow(seen))
        with torch.autocast(patch.device.type, enabled=False):  # places need more than bfloat16's 8 bits
            across, down = heat.shape[-1], heat.shape[-2]
            share = torch.unflatten(F.softmax(heat.float().flatten(2), -1), 2, (down, across))
            points = torch.stack(((share.sum(2) * _line(across, heat)).sum(-1),
                                  (share.sum(3) * _line(down, heat)).sum(-1)), -1)  # fmt: skip
            points = points + torch.unflatten(self.shape(narrow.float().flatten(1)), 1, (self.points, 2))
        return points, seen.float().mean((2, 3))


class FaceTracker(nn.Module):
    """Pictures [B, 3, 256, 256] in 0..1 -> landmarks [B, 70, 2] in -1..1 and a score [B], above `FOUND` where there is
    a face. About 0.4 GFLOP a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = Look(COUNT, LOOKS["coarse"], (16, 32, 48), 8)
        self.face = Look(COUNT, LOOKS["face"], (24, 48, 72), 8)
        self.mouth = Look(20, LOOKS["mouth"], (32, 56, 80), 24)
        self.eye = Look(7, LOOKS["eye"], (24, 40, 56), 32)
        self.present = nn.Sequential(nn.Linear(48 + 72, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        looks = self.look(picture)
        return looks.marks, looks.logit.sigmoid()

    @torch.no_grad()
    def begin_with(self, marks: Tensor) -> None:
        """Let all looks of an untrained tracker begin with the mean of landmarks [N, 70, 2] in -1..1: they would need
        hundreds of steps to learn it."""
        head = head_of(marks)
        mouth, eye = marks[:, MOUTH], marks[:, LEFT_EYE]
        for look, points in (
            (self.coarse, marks),
            (self.face, within(marks, head.middle + FACE_MIDDLE * head.down, head, FACE_HALF)),
            (self.mouth, within(mouth, mouth.mean(1), head, MOUTH_HALF)),
            (self.eye, within(eye, eye[:, :6].mean(1), head, EYE_HALF)),
        ):
            look.shape.bias.copy_(points.mean(0).flatten())

    def look(self, picture: Tensor, truth: Tensor | None = None, share: float = 0.5) -> Looks:
        """What each look finds.

        ``truth`` [B, 70, 2]: for training; the closer looks are then taken at places that are off by errors drawn at
        random, from the truth for ``share`` of the pictures and from what was found for the rest.
        """
        coarse, far = self.coarse(box_down(picture, 64))
        head = head_of(coarse.detach(), truth, share)
        middle = head.middle + FACE_MIDDLE * head.down
        points, near = self.face(patch(picture, middle, head, FACE_HALF, LOOKS["face"]))
        face = place(points, middle, head, FACE_HALF)
        logit = self.present(torch.cat((far, near), 1))[:, 0].float()

        basis = face.detach()
        head = head_of(basis, truth, share)
        rough = basis if truth is None else _mixed(basis, truth, share)
        middle = _shaken(rough[:, MOUTH].mean(1), head, truth)
        lips, _ = self.mouth(patch(picture, middle, head, MOUTH_HALF, LOOKS["mouth"]))
        lips = place(lips, middle, head, MOUTH_HALF)

        mirrored = head.mirrored()
        left = _shaken(rough[:, 36:42].mean(1), head, truth)
        right = _shaken(rough[:, 42:48].mean(1), head, truth)
        both = torch.cat((
            patch(picture, left, head, EYE_HALF, LOOKS["eye"]),
            patch(picture, right, mirrored, EYE_HALF, LOOKS["eye"]),
        ))  # fmt: skip
        one, other = torch.unflatten(self.eye(both)[0], 0, (2, -1))  # `chunk` would fix the batch of an exported graph
        one = place(one, left, head, EYE_HALF)
        other = place(other, right, mirrored, EYE_HALF)
        # In the layout's order: the right eye's was mirrored.
        lids = torch.cat((one[:, :6], other[:, [3, 2, 1, 0, 5, 4]]), 1)
        marks = torch.cat((face[:, :36], lids, lips, one[:, 6:], other[:, 6:]), 1)
        return Looks(coarse, face, marks, logit)


def head_of(marks: Tensor, truth: Tensor | None = None, share: float = 0.0) -> Head:
    """Where the head of landmarks [B, 70, 2] is.

    Its unit is the distance of the eyes' middles, or 0.8 of that of eyes and mouth where this is more. With ``truth``,
    a head from it for ``share`` of the pictures, and a place, size and turn that are off at random for all.
    """
    if truth is not None:
        marks = _mixed(marks, truth, share)
    left, right, mouth = marks[:, 36:42].mean(1), marks[:, 42:48].mean(1), marks[:, MOUTH].mean(1)
    middle, apart = (left + right) / 2, right - left
    length = apart.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    unit = torch.maximum(length, MOUTH_PER_UNIT * (mouth - middle).norm(dim=-1, keepdim=True)).clamp(0.1, 1.2)
    across = apart / length * unit
    if truth is None:
        return Head(middle, across, _turned(across))
    size, angle = (0.06 * torch.randn_like(unit)).exp(), 0.05 * torch.randn_like(unit)
    across = size * (angle.cos() * across + angle.sin() * _turned(across))
    return Head(middle + 0.04 * unit * torch.randn_like(middle), across, _turned(across))


def _turned(vector: Tensor) -> Tensor:
    """Vectors [B, 2] turned from across to down."""
    return torch.stack((-vector[:, 1], vector[:, 0]), -1)


def eye_distances(marks: Tensor) -> Tensor:
    """Distance [B] of the middles of the eyes, in the unit of the landmarks [B, 70, 2]."""
    return (marks[:, 36:42].mean(1) - marks[:, 42:48].mean(1)).norm(dim=-1)


def mouth_opening(marks: Tensor) -> Tensor:
    """Mean gap [B] of the inner lips, in eye distances."""
    return _opening(marks, [61, 62, 63], [67, 66, 65])


def eye_opening(marks: Tensor) -> Tensor:
    """Mean gap [B] of the lids of both eyes, in eye distances."""
    return _opening(marks, [37, 38, 43, 44], [41, 40, 47, 46])


def _opening(marks: Tensor, upper: list[int], lower: list[int]) -> Tensor:
    return (marks[:, upper] - marks[:, lower]).norm(dim=-1).mean(1) / eye_distances(marks).clamp(min=1e-6)


def _mixed(marks: Tensor, truth: Tensor, share: float) -> Tensor:
    return torch.where(torch.rand(len(marks), 1, 1, device=marks.device) < share, truth, marks)


def _shaken(middle: Tensor, head: Head, truth: Tensor | None) -> Tensor:
    if truth is None:
        return middle
    return middle + 0.04 * head.across.norm(dim=-1, keepdim=True) * torch.randn_like(middle)


def _line(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=torch.float32) * 2 + 1) / count - 1


def patch(picture: Tensor, middle: Tensor, head: Head, half: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Patches [B, 3, h, w] of pictures about ``middle`` [B, 2], turned as the head is, ``half`` of its units wide and
    high to either side."""
    with torch.autocast(picture.device.type, enabled=False):
        x = half[0] * _line(size[1], picture)[None, None, :, None] * head.across[:, None, None]
        y = half[1] * _line(size[0], picture)[None, :, None, None] * head.down[:, None, None]
        grid = (x + y + middle[:, None, None]).float()
        cut = F.grid_sample(picture.float(), grid, padding_mode="border", align_corners=False)
        return cut.contiguous(memory_format=torch.channels_last)


def place(points: Tensor, middle: Tensor, head: Head, half: tuple[float, float]) -> Tensor:
    """Points [B, n, 2] of such a patch, in the picture's coordinates."""
    across, down = half[0] * points[..., :1] * head.across[:, None], half[1] * points[..., 1:] * head.down[:, None]
    return across + down + middle[:, None]


def within(points: Tensor, middle: Tensor, head: Head, half: tuple[float, float]) -> Tensor:
    """The inverse of `place`."""
    away, size = points - middle[:, None], head.across.square().sum(-1)[:, None]
    across, down = ((away * axis[:, None]).sum(-1) / size for axis in (head.across, head.down))
    return torch.stack((across / half[0], down / half[1]), -1)


def save_tracker(tracker: FaceTracker, path: str | Path, about: dict[str, str] | None = None) -> None:
    """Write the weights as float16, with what is known about them, under a temporary name first."""
    state = {n: t.detach().to("cpu", torch.float16).contiguous() for n, t in tracker.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state, about or {}))


def read_tracker(path: str | Path) -> FaceTracker:
    """The tracker with weights from a file, ready to run. Raises WeightsError if the file does not fit."""
    tracker = to_load(FaceTracker)
    try:
        tracker.load_state_dict({n: t.float() for n, t in safetensors.torch.load_file(path).items()}, assign=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{path} does not hold weights of this face tracker: {error}") from None
    return tracker.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
