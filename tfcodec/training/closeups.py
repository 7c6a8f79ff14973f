"""Train the close-ups alone: ``python -m tfcodec.training.closeups PACK OUT.safetensors [options]``.

The rest of the network draws so many frames once, without close-ups; what the close-ups look at is kept, a little
larger than they need it. A pack has a few hundred people, whose eyes close-ups learn by heart: others were then given
theirs, or their glasses. So faces are changed as a whole here, in shape and colour: keyframe, picture drawn so far and
picture wanted all alike.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.blocks import upsample
from ..model.closeup import SQUARES, CloseUps, HeadFrame, Square, cut_square, dots, fade, head_frame, in_head, points
from ..model.registry import default_model, weights_file
from ..model.upsampler import Upsampler
from ..model.weights import read_weights, save_weights
from .batch import make_batch, mirror
from .data import Pack
from .landmark_examples import mirror_marks
from .lessons import see
from .plans import Drawing, Sampler
from .steps import psnr, set_up
from .teacher import Teacher, add_options

MARGIN = 1.3
"""Side of what is kept, against that of the square."""
SHAPE = 0.03
"""How far, in eye distances, the smooth change of a face's shape moves a place (standard deviation)."""
NAMES = ("mouth", "eyes")
DISTANCES = (42.0, 80.0)
"""Pixels between the eyes, at which changes are pasted into the picture."""


def enlarged(square: Square) -> Square:
    """The square with `MARGIN`, its pixels as large as before."""
    x, y = (square.left + square.right) / 2, (square.top + square.bottom) / 2
    a, b = MARGIN * (square.right - square.left) / 2, MARGIN * (square.bottom - square.top) / 2
    width, height = round(MARGIN * square.width), round(MARGIN * square.height)
    return square._replace(left=x - a, right=x + a, top=y - b, bottom=y + b, width=width, height=height)


class Example(NamedTuple):
    """What close-ups look at, N frames: by square the keyframe's, the drawn and the wanted picture [N, 3, h, w] uint8;
    landmarks [N, 70, 2] of keyframe and frame in the head's frame; the squares of the close-ups."""

    key: tuple[Tensor, ...]
    drawn: tuple[Tensor, ...]
    wanted: tuple[Tensor, ...]
    key_marks: Tensor
    marks: Tensor
    squares: tuple[Square, ...] = SQUARES

    def of(self, which: Tensor) -> Example:
        """Some of them."""
        key, drawn, wanted = (tuple(x[which] for x in pictures) for pictures in self[:3])
        return Example(key, drawn, wanted, self.key_marks[which], self.marks[which], self.squares)


@torch.no_grad()
def collect(model: Upsampler, pack: Pack, count: int, seed: int = 0) -> Example:
    """About ``count`` frames of a pack, as the network draws them without close-ups."""
    assert model.closeups is not None
    squares = model.closeups.squares
    sampler = Sampler(pack, Drawing(keys=1, targets=4, seed=seed, speed=False))
    found: list[Example] = []
    for step in range(-(-count // 4)):
        plan = sampler.plan(step)
        see(model, pack, torch.from_numpy(plan.frame.flatten()), torch.from_numpy(plan.key))
        batch = make_batch(pack, plan)
        assert batch.key_seen is not None
        assert batch.now is not None
        assert batch.told is not None
        features = model.encode_keyframe(batch.key, batch.key_seen, batch.face)
        out = model(features.select(batch.owner), batch.tiny, batch.mel, marks=batch.now)
        told = batch.told.flatten()
        if not told.any():
            continue
        frame, key_frame = head_frame(batch.now), head_frame(batch.key_seen)

        def kept(picture: Tensor, where: HeadFrame) -> tuple[Tensor, ...]:
            cuts = (cut_square(picture, where, enlarged(square)) for square in squares)
            return tuple((cut.clamp(0, 1) * 255).round().byte() for cut in cuts)

        whole = Example(
            tuple(x[batch.owner] for x in kept(features.picture, key_frame)), kept(out.plain, frame),
            kept(batch.target, frame), in_head(batch.key_seen, key_frame)[batch.owner], in_head(batch.now, frame),
            squares,
        )  # fmt: skip
        found.append(whole.of(told))
    if not found:
        raise TfcodecError("the tracker finds no face in the pack")
    keys, drawn, wanted = (
        tuple(torch.cat([getattr(one, name)[i] for one in found]) for i in range(len(squares)))
        for name in ("key", "drawn", "wanted")
    )
    key_marks, marks = (torch.cat([getattr(one, name) for one in found]) for name in ("key_marks", "marks"))
    return Example(keys, drawn, wanted, key_marks, marks, squares)


class Seen(NamedTuple):
    """What one close-up is given, and what is wanted of it."""

    key: Tensor
    drawn: Tensor
    wanted: Tensor
    key_dots: Tensor
    dots: Tensor


def seen(some: Example, part: int, changed: bool) -> Seen:
    """The close-up ``part`` of some frames; ``changed``: of other people."""
    square, wide, count = some.squares[part], enlarged(some.squares[part]), len(some.marks)
    places = points(square, square.width, square.height, some.marks.device).expand(count, -1, -1, -1)
    key_marks, marks = some.key_marks, some.marks
    if changed:
        change = _Shape(count, square, wide)
        places = change.there(places.flatten(1, 2)).reshape(places.shape)
        key_marks, marks = change.back(key_marks), change.back(marks)
    grid = _grid(places, wide)
    pictures = [
        F.grid_sample(x[part].float() / 255, grid, align_corners=False, padding_mode="border") for x in some[:3]
    ]
    if changed:
        pictures = _coloured(pictures)
        flip = torch.rand(count) < 0.5
        pictures = [mirror(x, flip) for x in pictures]
        key_marks, marks = (mirror_marks(m, flip) for m in (key_marks, marks))
    upright = HeadFrame(torch.zeros(count, 2), torch.eye(2).expand(count, 2, 2))
    key, drawn, wanted = pictures
    return Seen(key, drawn, wanted, dots(key_marks, upright, square), dots(marks, upright, square))


class _Shape:
    """Other shapes of faces: turned and stretched a little, then moved smoothly; one for each frame."""

    def __init__(self, count: int, square: Square, wide: Square) -> None:
        angle, stretch = 0.06 * torch.randn(count), 1 + 0.07 * torch.randn(count, 2)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), 1)
        self._turn = turn * stretch[:, None]
        self._inverse = torch.linalg.inv(self._turn)
        self._middle = torch.tensor([(square.left + square.right) / 2, (square.top + square.bottom) / 2])
        self._shift = 0.02 * torch.randn(count, 1, 2)
        self._field = F.interpolate(SHAPE * torch.randn(count, 2, 4, 5), (24, 30), mode="bicubic", align_corners=True)
        self._wide = wide

    def there(self, places: Tensor) -> Tensor:
        """Where what is to be at ``places`` [N, P, 2] comes from."""
        moved = (places - self._middle) @ self._turn.mT + self._middle + self._shift
        return moved + self._moved(moved)

    def back(self, places: Tensor) -> Tensor:
        """The inverse, near enough."""
        return (places - self._moved(places) - self._shift - self._middle) @ self._inverse.mT + self._middle

    def _moved(self, places: Tensor) -> Tensor:
        grid = _grid(places[:, None], self._wide)
        return F.grid_sample(self._field, grid, align_corners=True, padding_mode="border")[:, :, 0].mT


def _grid(places: Tensor, square: Square) -> Tensor:
    """Places in the head's frame as those in a square, -1..1."""
    first = torch.tensor([square.left, square.top])
    size = torch.tensor([square.right - square.left, square.bottom - square.top])
    return (places - first) / size * 2 - 1


def _coloured(pictures: list[Tensor]) -> list[Tensor]:
    """Another light, and another skin."""
    count = len(pictures[0])
    gain = (1 + 0.12 * torch.randn(count, 1, 1, 1)) * (1 + 0.05 * torch.randn(count, 3, 1, 1))
    gamma = (0.15 * torch.randn(count, 1, 1, 1)).exp()
    mix = torch.eye(3) + 0.05 * torch.randn(count, 3, 3)
    mix = mix / mix.sum(-1, keepdim=True)
    return [torch.einsum("noc,nchw->nohw", mix, x.clamp(1e-3, 1) ** gamma * gain).clamp(0, 1) for x in pictures]


def pasted(change: Tensor, square: Square, distance: float) -> Tensor:
    """What is left of a square's change [N, 3, h, w] when it has gone into a picture whose eyes are ``distance`` pixels
    apart, and was cut out again: close-ups are asked for pictures, not for squares, which are sharper."""
    wide, high = (square.right - square.left) * distance, (square.bottom - square.top) * distance
    columns, rows = math.ceil(wide) + 2, math.ceil(high) + 2
    at_x, at_y = torch.rand(2).tolist()  # pixels begin anywhere

    def sampled(picture: Tensor, x: Tensor, y: Tensor, padding: str) -> Tensor:
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(len(picture), -1, -1, -1)
        return F.grid_sample(picture, grid, align_corners=False, padding_mode=padding)

    picture = sampled(
        change, (torch.arange(columns) - at_x) / wide * 2 - 1, (torch.arange(rows) - at_y) / high * 2 - 1, "zeros"
    )
    x = (torch.arange(square.width) + 0.5) / square.width * wide + at_x + 0.5
    y = (torch.arange(square.height) + 0.5) / square.height * high + at_y + 0.5
    return sampled(picture, x / columns * 2 - 1, y / rows * 2 - 1, "border")


def loss_of(
    closeups: CloseUps, some: Example, lpips: LPIPS, distance: float, only: tuple[int, ...] = (0, 1)
) -> Tensor:
    """Error of the squares, as `losses.square_terms` has it; LPIPS of half of them."""
    loss = torch.zeros(())
    for part in only:
        square = some.squares[part]
        x = seen(some, part, changed=True)
        with torch.autocast("cpu", torch.bfloat16):
            change = closeups.parts[part](x.key, x.key_dots, x.drawn, x.dots).float()
        drawn = x.drawn + pasted(change * fade(square, change.device), square, distance)
        weight = 1 + 6 * (x.key - x.wanted).abs().mean(1, keepdim=True)
        error = drawn - x.wanted
        some_of_them = -(-len(drawn) // 2)
        half = [
            upsample(y[:some_of_them]).contiguous(memory_format=torch.channels_last) for y in (drawn, x.wanted)
        ]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = lpips.embed(half[1])
            ours = lpips.embed(half[0])
        perceptual = lpips.compare([y.float() for y in ours], [y.float() for y in wanted]).mean()
        loss = loss + 4 * (error.abs() * weight).mean() + 10 * error.square().mean() + 3 * perceptual
    return loss


@torch.no_grad()
def measure(closeups: nn.Module, some: Example, lpips: LPIPS) -> dict[str, float]:
    """LPIPS(alex) and PSNR of both squares; ``_key``: without close-ups."""
    assert isinstance(closeups, CloseUps)
    out = {}
    for part, name in enumerate(NAMES):
        x = seen(some, part, changed=False)
        change = closeups.parts[part](x.key, x.key_dots, x.drawn, x.dots)
        drawn = x.drawn + change * fade(some.squares[part], change.device)
        for kind, picture in (("", drawn), ("_key", x.drawn)):
            out[f"{name}_lpips{kind}"] = float(lpips(upsample(picture.clamp(0, 1)), upsample(x.wanted)).mean())
            out[f"{name}_psnr{kind}"] = float(psnr(picture.clamp(0, 1), x.wanted).mean())
    return out


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.closeups", description=__doc__)
    p.add_argument("pack", type=Path)
    p.add_argument("output", type=Path, help="the whole network with the new close-ups, safetensors")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--frames", type=int, default=6400, help="frames that are drawn first, a tenth of a second each")
    p.add_argument("--only", choices=NAMES, help="change this one alone")
    p.add_argument("--report", type=float, default=60, help="seconds between measurements on val, which take ten")
    add_options(p)
    p.set_defaults(lr=3e-4)
    args = p.parse_args(argv)
    if set_up(args).type != "cpu":
        raise TfcodecError("close-ups alone are trained on a CPU; on a GPU train the whole network")
    model = read_weights(args.weights or weights_file(default_model()))
    if model.closeups is None or model.tracker is None:
        raise TfcodecError("the network has no close-ups")
    lpips = LPIPS("alex")
    train, val = (
        collect(model, Pack(args.pack, split), count, args.seed)
        for split, count in (("train", args.frames), ("val", min(args.frames, 160)))
    )
    rng = np.random.default_rng(args.seed)
    model.closeups.requires_grad_(True)
    closeups = model.closeups
    only = (0, 1) if args.only is None else (NAMES.index(args.only),)

    def step() -> Tensor:
        some = train.of(torch.from_numpy(rng.integers(len(train.marks), size=args.batch)))
        return loss_of(closeups, some, lpips, rng.uniform(*DISTANCES), only)

    teacher = Teacher(closeups, args.lr, args.minutes, args.report)
    before = measure(closeups, val, lpips)
    steps = teacher.run("closeups", step, lambda network: measure(network, val, lpips))
    closeups.load_state_dict(teacher.average.state_dict())
    save_weights(model, args.output)
    print(json.dumps({"steps": steps, "before": before, **measure(closeups, val, lpips)}))


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
