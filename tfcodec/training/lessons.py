"""What the light network learns from, kept in files: ``python -m tfcodec.training.lessons PACK FOLDER [options]``.

The full network draws so many frames once. Kept are what it makes of every keyframe (the light network has the very
same encoder down to 32 pixels), where it says that the picture moved, and its pictures, beside the source's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import MediaError, TfcodecError
from ..model.registry import default_model, weights_file
from ..model.tracker import FOUND
from ..model.upsampler import Upsampler
from ..model.weights import read_weights
from .batch import make_batch
from .data import Pack, rgb
from .plans import Drawing, Sampler
from .steps import references

KEYS, TARGETS = 4, 4
"""Keyframes in a file, and frames of each."""


class Lesson(NamedTuple):
    """B keyframes with M frames each, as stored: pictures uint8, features float16."""

    picture: Tensor  # [B, 3, 256, 256] restored keyframe
    f128: Tensor  # the full network's features of it
    f64: Tensor
    f32: Tensor
    key_marks: Tensor  # [B, 70, 2] in -1..1
    face: Tensor  # [B]
    owner: Tensor  # [B M]
    tiny: Tensor  # [B M, 5, 3, 8, 8]
    marks: Tensor  # [B M, 70, 2] in -1..1, as the receiver has them
    wanted: Tensor  # [B M, 3, 256, 256] source
    drawn: Tensor  # ... as the full network draws it, without close-ups
    coarse: Tensor  # [B M, 3, 64, 64]
    flow: Tensor  # [B M, 2, 64, 64]
    corner: Tensor  # [2] of the piece that LPIPS looks at


@torch.no_grad()
def see(model: Upsampler, pack: Pack, frames: Tensor, keys: Tensor) -> None:
    """Let the network's tracker look at some of a pack's pictures."""
    assert model.tracker is not None
    for pictures, seen, there, which in (
        (pack.frames, pack.seen, pack.found, frames), (pack.key_pictures, pack.key_seen, pack.key_found, keys),
    ):  # fmt: skip
        marks, score = model.tracker(rgb(pictures[which]) / 255)
        seen[which], there[which] = (marks + 1) * 128, score > FOUND


@torch.no_grad()
def lesson(model: Upsampler, pack: Pack, sampler: Sampler, step: int) -> Lesson:
    """The lesson of a step."""
    plan = sampler.plan(step)
    with torch.autocast("cpu", torch.bfloat16):
        see(model, pack, torch.from_numpy(plan.frame.flatten()), torch.from_numpy(plan.key))
    batch = make_batch(pack, plan)
    assert batch.key_seen is not None
    assert batch.face is not None
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode_keyframe(batch.key, batch.key_seen, batch.face)
        key, marks = references(model, batch)
        assert marks is not None
        closeups, model.closeups = model.closeups, None
        try:
            out = model(key, batch.tiny, batch.mel, marks=marks)
        finally:
            model.closeups = closeups

    def byte(picture: Tensor) -> Tensor:
        return (picture.float().clamp(0, 1) * 255).round().byte()

    return Lesson(
        byte(features.picture), features.f128.half(), features.f64.half(), features.f32.half(), batch.key_seen,
        batch.face, batch.owner, batch.tiny.half(), marks.float(), byte(batch.target), byte(out.frame),
        out.coarse.picture.half(), out.flow.half(), batch.corner,
    )  # fmt: skip


def lessons(folder: Path) -> list[Path]:
    """The files of a folder, in their order. Raises MediaError when there are none."""
    found = sorted(folder.glob("*.pt"))
    if not found:
        raise MediaError(f"{folder} holds no lessons: python -m tfcodec.training.lessons makes them")
    return found


def read(path: Path) -> Lesson:
    """One of the files, mapped into memory."""
    return Lesson(**torch.load(path, mmap=True, weights_only=True))


def write(
    model: Upsampler, pack: Pack, folder: Path, steps: Iterable[int], seed: int = 0, keys: int = KEYS,
    targets: int = TARGETS,
) -> None:  # fmt: skip
    """Write the lessons of some steps that are not there yet, of so many keyframes and so many frames of each."""
    folder.mkdir(parents=True, exist_ok=True)
    sampler = Sampler(pack, Drawing(keys=keys, targets=targets, seed=seed))
    for step in steps:
        path = folder / f"{step:05d}.pt"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            # Clones: a view would be stored with all that it is a view of.
            torch.save({n: t.clone() for n, t in lesson(model, pack, sampler, step)._asdict().items()}, partial)
            partial.replace(path)


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.lessons", description=__doc__)
    p.add_argument("pack", type=Path)
    p.add_argument("folder", type=Path)
    p.add_argument("--frames", type=int, default=4000)
    p.add_argument("--split", default="train", choices=("train", "val"))
    p.add_argument("--weights", type=Path, help="the full network; the newest without")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(argv)
    torch.set_num_threads(args.threads)
    model = read_weights(args.weights or weights_file(default_model()))
    if model.config.shape != "standard" or model.tracker is None:
        raise TfcodecError("the light network learns from a network of the standard shape with motion")
    write(model, Pack(args.pack, args.split), args.folder, range(-(-args.frames // (KEYS * TARGETS))), args.seed)


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
