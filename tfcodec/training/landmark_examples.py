"""What the landmark prior is trained on, drawn from a pack."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.blocks import box_down, refine_chroma
from ..model.inputs import REACH, WINDOW
from ..model.landmarks import COUNT, MOUTH, cut, mouth_place
from .batch import flip_order, mirror, quantise_tiny
from .compact import SIZE
from .data import Pack, rgb
from .plans import clip_chances


class Examples(NamedTuple):
    """What the motion is trained on: keyframe and frame of the same clip, without pictures."""

    key8: Tensor  # [B, 3, 8, 8] in 0..1
    tiny: Tensor  # [B, 5, 3, 8, 8] in 0..1, quantised
    key_marks: Tensor  # [B, 70, 2] in -1..1
    marks: Tensor  # [B, 70, 2]


class Source:
    """Draws examples from a split of a pack, with its random numbers on the pack's device."""

    def __init__(self, pack: Pack, seed: int = 0) -> None:
        self.pack, device = pack, pack.device
        self.random = torch.Generator(device).manual_seed(seed)
        self.start = torch.empty(len(pack.frames), dtype=torch.long)
        self.end = torch.empty(len(pack.frames), dtype=torch.long)
        chance = torch.empty(len(pack.frames))
        for (_, start, count), share in zip(pack.clips, clip_chances(pack), strict=True):
            self.start[start : start + count], self.end[start : start + count] = start, start + count
            chance[start : start + count] = float(share) / count
        self.face = (pack.marks[..., 0] >= 0).all(1)
        self.start, self.end = self.start.to(device), self.end.to(device)
        self.chance = (chance.to(device) * self.face).double().cumsum(0)

    def frames(self, count: int) -> Tensor:
        """Numbers of ``count`` frames with a face, drawn as clips are drawn in training."""
        place = self._rand(count).double() * self.chance[-1]
        return torch.searchsorted(self.chance, place, right=True).clamp(max=len(self.face) - 1)

    def examples(self, count: int) -> Examples:
        """Random frames with random keyframes, mirrored, coloured and quantised at random."""
        frame = self.frames(count)
        start, end = self.start[frame], self.end[frame]
        key = start + (self._rand(count) * (end - start)).long()
        both = self.face[key]
        frame, key = frame[both], key[both]
        count = len(frame)
        future = (3 * self._rand(count)).long().clamp(max=REACH)
        gain = (0.75 + 0.35 * self._rand(count, 1)) * (0.95 + 0.1 * self._rand(count, 3))
        steps = 3 + 13 * self._rand(count, 2)
        out = self.take(frame, key, future, gain, steps)
        flip = self._rand(count) < 0.5
        return Examples(
            mirror(out.key8, flip), mirror(out.tiny, flip),
            mirror_marks(out.key_marks, flip), mirror_marks(out.marks, flip),
        )  # fmt: skip

    def take(
        self, frame: Tensor, key: Tensor, future: Tensor | None = None, gain: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Examples:  # fmt: skip
        """Those frames with those keyframes; by default unchanged, all of the future known, quantiser steps of 8."""
        pack, device = self.pack, self.pack.device
        ahead = torch.arange(-REACH, WINDOW - REACH, device=device)[None]
        start, end = self.start[frame][:, None], self.end[frame][:, None]
        if future is not None:
            ahead = torch.minimum(ahead, future[:, None])
        window = torch.minimum(torch.maximum(frame[:, None] + ahead, start), end - 1)
        tiny, key8 = pack.tiny[window], pack.tiny[key]
        if gain is not None:
            tiny, key8 = tiny * gain[:, None, :, None, None], key8 * gain[:, :, None, None]
        if steps is None:
            steps = torch.full((len(frame), 2), 8.0, device=device)
        luma, chroma = steps[:, :1, None, None], steps[:, 1:, None, None]
        tiny = quantise_tiny(tiny, key8[:, None], luma, chroma, 400.0) / 255
        key8 = key8 / 255
        key_marks, marks = (pack.marks[which] * (2 / SIZE) - 1 for which in (key, frame))
        return Examples(key8, refine_chroma(tiny, key8), key_marks, marks)

    def keep_pictures(self, every: int) -> None:
        """Reduce every so manieth frame with a face to what the finder is trained on: 64x64, and a square about the
        mouth. They are drawn from hundreds of times; a clip's next frames have little to add."""
        pack = self.pack
        self.kept = torch.arange(0, len(self.face), every, device=pack.device)[self.face[::every]]
        small, squares = [], []
        for some in torch.split(self.kept, 64):
            picture = rgb(pack.frames[some.cpu()].to(pack.device))
            small.append(box_down(picture, 64).round().byte())
            place, half = mouth_place(pack.marks[some] * (2 / SIZE) - 1)
            squares.append(cut(box_down(picture, 128), place, 2 * half, 64).round().byte())
        self.small, self.squares = torch.cat(small), torch.cat(squares)
        chance = torch.diff(self.chance, prepend=self.chance.new_zeros(1))
        self.kept_chance = chance[self.kept].cumsum(0)

    def pictures(self, count: int) -> tuple[Tensor, Tensor]:
        """64x64 pictures and their landmarks, mirrored, coloured, turned, moved and scaled at random."""
        which, marks = self._kept(count)
        flip = self._rand(count) < 0.5
        small = mirror(self.small[which].float() / 255, flip)
        return self._changed(small, mirror_marks(marks, flip), 64, 1.0, 0.2, 0.2)

    def mouths(self, count: int) -> tuple[Tensor, Tensor]:
        """Squares [B, 3, 32, 32] about mouths and their landmarks [B, 20, 2], changed in the same ways.

        The coarse landmarks will say only roughly where the mouth is and how large.
        """
        which, marks = self._kept(count)
        middle, half = mouth_place(marks)
        marks = torch.cat((marks[:, :48], (marks[:, MOUTH] - middle) / (2 * half), marks[:, 68:]), 1)
        flip = self._rand(count) < 0.5
        squares = mirror(self.squares[which].float() / 255, flip)
        return self._changed(squares, mirror_marks(marks, flip)[:, MOUTH], 32, 0.5, 0.12, 0.25)

    def misplaced(self, marks: Tensor) -> Tensor:
        """Landmarks with errors such as the finder's: a pixel or two each, all together, and in the mouth's shape."""
        count = len(marks)
        error = self._normal(count, COUNT, 2) + 0.7 * self._normal(count, 1, 2)
        mouth = centred(marks[:, MOUTH])
        bend = 0.08 * self._normal(count, 2, 2) + torch.diag(torch.tensor([0.0, 0.2], device=marks.device)) * (
            self._normal(count, 1, 1)
        )
        shape = torch.cat((0 * marks[:, :48], mouth @ bend, 0 * marks[:, 68:]), 1)
        return marks + shape + 1.2 / 128 * error

    def _kept(self, count: int) -> tuple[Tensor, Tensor]:
        place = self._rand(count).double() * self.kept_chance[-1]
        which = torch.searchsorted(self.kept_chance, place, right=True).clamp(max=len(self.kept) - 1)
        return which, self.pack.marks[self.kept[which]] * (2 / SIZE) - 1

    def _changed(
        self, picture: Tensor, marks: Tensor, size: int, scale: float, shift: float, spread: float
    ) -> tuple[Tensor, Tensor]:
        """Colour, turn, scale and shift at random; ``size``: of the squares that are cut out of the pictures."""
        count = len(picture)
        picture = picture * (0.6 + 0.6 * self._rand(count, 1, 1, 1)) * (0.9 + 0.2 * self._rand(count, 3, 1, 1))
        angle = 0.3 * (self._rand(count) - 0.5)
        factor = scale * (1 + spread * (2 * self._rand(count) - 1))
        middle = shift * (2 * self._rand(count, 2) - 1)
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).reshape(count, 2, 2)
        place = torch.cat((turn * factor[:, None, None], middle[:, :, None]), 2)
        grid = F.affine_grid(place, [count, 3, size, size], align_corners=False)
        picture = F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
        return picture.clamp(0, 1), (marks - middle[:, None]) @ turn / factor[:, None, None]

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, device=self.pack.device)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.random, device=self.pack.device)


def mirror_marks(marks: Tensor, flip: Tensor) -> Tensor:
    """Landmarks [B, 70, 2] in -1..1 of such pictures."""
    other = torch.cat((-marks[..., :1], marks[..., 1:]), -1)[:, flip_order(marks.device)]
    return torch.where(flip[:, None, None], other, marks)


def centred(points: Tensor) -> Tensor:
    """Points [B, n, 2] about their mean."""
    return points - points.mean(1, keepdim=True)
