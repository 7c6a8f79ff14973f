"""What the face tracker is trained on, drawn from a pack and changed on the pack's device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.blocks import box_down, luma_of
from ..model.tracker import eye_opening, mouth_opening
from .batch import dct
from .compact import SIZE
from .data import Pack, rgb
from .landmark_examples import mirror_marks
from .plans import clip_chances

_KEYS = 0.3  # of the examples are decoded keyframes
_NOT_FACES = 8  # one example in so many shows no face
_INSIDE = (0.4, 0.85)  # share of a face's landmarks inside the picture: below no face, above a face, between undecided
_BLUR = (64, 88, 112, 144, 192)
_BLOCK = 16


class Faces(NamedTuple):
    """Examples for the tracker."""

    picture: Tensor  # [B, 3, 256, 256] in 0..1
    marks: Tensor  # [B, 70, 2] in -1..1; what they are is told where present > 0
    present: Tensor  # [B] 1: a face, 0: none, -1: a part of one


class FaceSource:
    """Draws examples from a split of a pack, pictures and decoded keyframes; the host never waits for the device."""

    def __init__(self, pack: Pack, seed: int = 0, far: float = 0.5) -> None:
        """``far``: share of the pictures that are turned, scaled and moved further than a cropper errs."""
        self.pack, self.far, device = pack, far, pack.device
        self.random = torch.Generator(device).manual_seed(seed)
        self.host = np.random.default_rng(seed)
        starts = torch.tensor([start for _, start, _ in pack.clips], device=device)
        clip_of_key = torch.tensor([clip for clip, _, _ in pack.keys], device=device)
        frame_of_key = torch.tensor([frame for _, frame, _ in pack.keys], device=device)
        self.key_frame = starts[clip_of_key] + frame_of_key
        shares = torch.as_tensor(clip_chances(pack), device=device)
        rare = _rareness(pack)
        chance = torch.empty(len(pack.frames), dtype=torch.double, device=device)
        for (_, start, count), share in zip(pack.clips, shares, strict=True):
            some = rare[start : start + count]
            chance[start : start + count] = share * some / some.sum().clamp(min=1)
        self.chance = chance.cumsum(0)
        face = (pack.marks[self.key_frame, :, 0] >= 0).all(1)
        per_clip = torch.bincount(clip_of_key, minlength=len(starts)).clamp(min=1)
        self.key_chance = (shares / per_clip)[clip_of_key].mul(face).cumsum(0)

    def faces(self, count: int) -> Faces:
        """``count`` examples: coloured, turned, moved, scaled, blurred, blocked and noisy at random."""
        from_keys = round(_KEYS * count)
        key = self._draw(self.key_chance, from_keys)
        frame = self._draw(self.chance, count - from_keys)
        pack = self.pack
        # In another order than keyframes first, so that every change is made to both.
        order = torch.randperm(count, generator=self.random, device=pack.device)
        i420 = torch.cat((pack.key_pictures[key], pack.frames[frame]))[order]
        marks = pack.marks[torch.cat((self.key_frame[key], frame))[order]] * (2 / SIZE) - 1
        flip = self._rand(count) < 0.5
        picture = rgb(i420, flip).div_(255)
        marks = mirror_marks(marks, flip)
        present = torch.ones(count, device=pack.device)
        none = count // _NOT_FACES
        picture[:none], present[:none] = self._no_face(picture[:none], marks[:none]), 0
        picture, marks = self._moved(picture, marks, none)
        inside = (marks.abs() < 1).all(-1).float().mean(1)
        part = torch.where(inside < _INSIDE[0], 0.0, torch.where(inside > _INSIDE[1], 1.0, -1.0))
        picture = self._worse(self._coloured(picture))
        return Faces(picture, marks, torch.where(present > 0, part, present))

    def _draw(self, chance: Tensor, count: int) -> Tensor:
        at = self._rand(count).double() * chance[-1]
        return torch.searchsorted(chance, at, right=True).clamp(max=len(chance) - 1)

    def _no_face(self, picture: Tensor, marks: Tensor) -> Tensor:
        """The same pictures with the face made away with, in one of three ways."""
        count = len(picture)
        # Tiles in another order: textures, edges and colours of faces, but no face.
        side = int(self.host.choice((16, 32)))
        tiles = F.unfold(picture, side, stride=side)
        tiles = tiles[:, :, torch.randperm(tiles.shape[-1], generator=self.random, device=picture.device)]
        mixed = F.fold(tiles, SIZE, side, stride=side)
        # A blob where the face was: the picture's own 8x8 box means in another order.
        means = box_down(picture, 8).flatten(2)
        means = means[..., torch.randperm(64, generator=self.random, device=picture.device)].reshape(count, 3, 8, 8)
        blob = F.interpolate(means, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
        line = (torch.arange(SIZE, device=picture.device) * 2 + 1) / SIZE - 1
        middle, reach = marks[:, 30], (marks[:, :68].amax(1) - marks[:, :68].amin(1)).amax(1)
        far = ((line[None, None] - middle[:, :1, None]) ** 2 + (line[None, :, None] - middle[:, 1:, None]) ** 2).sqrt()
        cover = ((0.85 * reach[:, None, None] - far) / 0.1).clamp(0, 1)[:, None]
        away = picture + cover * (blob - picture)
        # Smooth noise of any fineness.
        fine = int(self.host.choice((4, 8, 16, 32, 64, 128)))
        noise = torch.rand(count, 3, fine, fine, generator=self.random, device=picture.device)
        noise = F.interpolate(noise, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        noise = 0.5 + (noise - 0.5) * self._rand(count, 1, 1, 1)
        way = self._rand(count, 1, 1, 1)
        return torch.where(way < 0.4, mixed, torch.where(way < 0.85, away, noise)).clamp(0, 1)

    def _moved(self, picture: Tensor, marks: Tensor, none: int) -> tuple[Tensor, Tensor]:
        count = len(picture)
        far = (self._rand(count) < self.far).float()
        angle = (0.08 + 0.22 * far) * self._normal(count)
        size = ((0.3 + 0.5 * far) * (self._rand(count) - 0.5)).exp()  # more: the face becomes smaller
        middle = (0.06 + 0.2 * far)[:, None] * self._normal(count, 2)
        # Some show a corner of the picture, enlarged: background, or a part of a face.
        corner = torch.arange(count, device=picture.device) < none + none // 2
        corner &= self._rand(count) < 0.5
        size = torch.where(corner, 0.15 + 0.4 * self._rand(count), size)
        spot = (1 - size)[:, None] * (2 * self._rand(count, 2) - 1)
        middle = torch.where(corner[:, None], spot, middle)
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).reshape(count, 2, 2)
        stretch = (0.1 * (self._rand(count, 2) - 0.5)).exp() * size[:, None]
        matrix = turn * stretch[:, None]
        grid = F.affine_grid(torch.cat((matrix, middle[..., None]), 2), [count, 3, SIZE, SIZE], align_corners=False)
        edges = str(self.host.choice(("border", "zeros", "reflection"), p=(0.6, 0.25, 0.15)))
        picture = F.grid_sample(picture, grid, padding_mode=edges, align_corners=False)
        return picture, (marks - middle[:, None]) @ turn / stretch[:, None]

    def _coloured(self, picture: Tensor) -> Tensor:
        count = len(picture)
        gamma = (0.7 * (self._rand(count, 1, 1, 1) - 0.5)).exp()
        gain = (0.6 + 0.65 * self._rand(count, 1, 1, 1)) * (0.9 + 0.2 * self._rand(count, 3, 1, 1))
        lift = 0.15 * self._rand(count, 1, 1, 1).square()
        picture = picture.clamp_(1e-4, 1).pow_(gamma).mul_(gain).add_(lift)
        grey = self._rand(count, 1, 1, 1)
        grey = torch.where(grey < 0.1, 1.0, torch.where(grey < 0.4, grey, 0.0))
        return picture.lerp_(luma_of(picture).expand_as(picture), grey).clamp_(0, 1)

    def _worse(self, picture: Tensor) -> Tensor:
        """Some of the pictures blurred, some blocked as by a codec, some noisy, some two of these."""
        order = torch.randperm(len(picture), generator=self.random, device=picture.device)
        eighth = len(picture) // 8
        blurred, blocked, noisy = order[: 3 * eighth], order[2 * eighth : 4 * eighth], order[3 * eighth : 6 * eighth]
        size = int(self.host.choice(_BLUR))
        small = F.interpolate(picture[blurred], size=(size, size), mode="bilinear", antialias=True)
        picture[blurred] = F.interpolate(small, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        picture[blocked] = self._blocks(picture[blocked])
        level = 0.06 * self._rand(len(noisy), 1, 1, 1).square()
        picture[noisy] += level * self._normal(len(noisy), 3, SIZE, SIZE)
        return picture.clamp_(0, 1)

    def _blocks(self, picture: Tensor) -> Tensor:
        """Coefficients of the blocks' DCT rounded, the high ones more coarsely."""
        count, number = len(picture), SIZE // _BLOCK
        basis = torch.from_numpy(dct(_BLOCK)).to(picture.device)
        blocks = picture.reshape(count, 3, number, _BLOCK, number, _BLOCK).transpose(3, 4)
        order = torch.arange(_BLOCK, device=picture.device)
        step = (0.02 + 0.18 * self._rand(count, 1, 1, 1, 1, 1)) * (1 + 0.25 * (order[:, None] + order))
        levels = ((basis @ blocks @ basis.T) / step).round_()
        return (basis.T @ (levels * step) @ basis).transpose(3, 4).reshape(picture.shape)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, device=self.pack.device)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.random, device=self.pack.device)


def _rareness(pack: Pack) -> Tensor:
    """How much more often than its clip's others each frame is drawn, [N] double; 0 without a face.

    Closing eyes and wide open mouths are rare, and what is asked for."""
    face = (pack.marks[..., 0] >= 0).all(1)
    eyes, mouth = eye_opening(pack.marks), mouth_opening(pack.marks)
    rare = torch.ones(len(face), dtype=torch.double, device=face.device)
    for _, start, count in pack.clips:
        some = slice(start, start + count)
        usual = eyes[some].median()
        rare[some] += 2.0 * ((eyes[some] / usual - 1).abs() > 0.3) + 1.0 * (mouth[some] > 1.6 * mouth[some].mean())
    return rare * face
