"""Train the landmark prior: ``python -m tfcodec.training.landmarks PACK OUT.safetensors [options]``.

Three parts, one after the other: the finder (keyframe -> landmarks; sees pictures at 64x64), the finder's second look
at the mouth, and the motion (keyframe's landmarks, tiny frames -> how far they went; sees no pictures at all).
Their weights go to ``train --prior``. Half an hour on a CPU is a good start; ``--minutes`` is for each part.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import TfcodecError
from ..files import write_atomically
from ..model.config import NetworkConfig
from ..model.landmarks import MOUTH, LandmarkFinder, LandmarkPrior, eye_distance
from .card import machine
from .compact import SIZE
from .data import Pack, rgb
from .landmark_examples import Examples, Source, centred
from .losses import mark_weight
from .options import PRIOR_PARTS, network_config
from .steps import set_up
from .teacher import Teacher, add_options

PARTS = ("finder", "mouth", "motion")
INNER = ((61, 67), (62, 66), (63, 65))
"""Landmarks of the inner lips, upper and lower: their distance is how far the mouth is open."""


def mouth_shape(marks: Tensor) -> Tensor:
    """The mouth's landmarks about their mean: what the head's motion leaves over."""
    return centred(marks[:, MOUTH])


def opening(marks: Tensor) -> Tensor:
    """How far the mouth is open, in inter-ocular distances."""
    gaps = [(marks[:, a] - marks[:, b]).norm(dim=-1) for a, b in INNER]
    return torch.stack(gaps).mean(0) / eye_distance(marks)


def motion_loss(moved: Tensor, examples: Examples) -> Tensor:
    """Error of the displacements in inter-ocular distances; the mouth's shape counts by itself once more."""
    size = eye_distance(examples.marks)[:, None, None]
    wanted = examples.marks - examples.key_marks
    each = ((moved - wanted).abs() / size * mark_weight(moved.device)).mean()
    return each + 2 * ((mouth_shape(moved) - mouth_shape(wanted)).abs() / size).mean()


@torch.no_grad()
def measure_motion(motion: nn.Module, source: Source, every: int = 4) -> dict[str, float]:
    """Of frames of the split, drawn with their clip's keyframe, beside (``_key``) the keyframe's own landmarks.

    mouth, mouth_shape, all: mean distance in inter-ocular distances; opening_correlation: of the change of the mouth's
    opening since the keyframe with the true one.
    """
    of_clip = {pack_clip: frame for pack_clip, frame, _ in reversed(source.pack.keys)}
    frames: list[int] = []
    keys: list[int] = []
    for clip, (_, start, count) in enumerate(source.pack.clips):
        if clip in of_clip:
            frames += range(start, start + count, every)
            keys += [start + of_clip[clip]] * len(range(start, start + count, every))
    both = source.face[frames] & source.face[keys]
    device = source.pack.device
    frame, key = (torch.tensor(x, device=device)[both] for x in (frames, keys))
    x = source.take(frame, key)
    found = x.key_marks + motion(x.key_marks, x.key8, x.tiny)
    size = eye_distance(x.marks)[:, None]
    out: dict[str, Tensor] = {}
    for name, marks in (("", found), ("_key", x.key_marks)):
        distance = (marks - x.marks).norm(dim=-1) / size
        shape = (mouth_shape(marks) - mouth_shape(x.marks)).norm(dim=-1) / size
        out |= {"mouth" + name: distance[:, MOUTH].mean(), "mouth_shape" + name: shape.mean()}
        out["all" + name] = distance.mean()
    change = torch.stack([opening(marks) - opening(x.key_marks) for marks in (found, x.marks)])
    out["opening_correlation"] = torch.corrcoef(change)[0, 1].nan_to_num()  # of a mouth that never moves
    return {name: float(value) for name, value in out.items()}


@torch.no_grad()
def measure_finder(finder: nn.Module, source: Source, every: int = 10) -> dict[str, float]:
    """Mean distance of found landmarks from the true ones, and of the mouth's apart from their mean, in inter-ocular
    distances."""
    device = source.pack.device
    frames = torch.arange(0, len(source.face), every, device=device)[source.face[::every]]
    errors, shapes = [], []
    for some in torch.split(frames, 32):
        found = finder(rgb(source.pack.frames[some.cpu()].to(device)) / 255)
        marks = source.pack.marks[some] * (2 / SIZE) - 1
        size = eye_distance(marks)[:, None]
        errors.append((found - marks).norm(dim=-1) / size)
        shapes.append((mouth_shape(found) - mouth_shape(marks)).norm(dim=-1) / size)
    return {"landmarks": float(torch.cat(errors).mean()), "mouth_shape": float(torch.cat(shapes).mean())}


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.landmarks", description=__doc__)
    p.add_argument("pack", type=Path)
    p.add_argument("output", type=Path, help="weights of the prior, safetensors")
    p.add_argument("--minutes", type=float, default=8, help="for each part")
    p.add_argument("--only", nargs="+", choices=PARTS, help="train these parts alone")
    p.add_argument("--without", nargs="+", default=[], choices=PRIOR_PARTS, help="parts to leave out (ablations)")
    p.add_argument("--batch", type=int, default=512, help="examples of the motion a step; a quarter as many pictures")
    p.add_argument("--every", type=int, default=3, help="the finder is trained on every so manieth frame")
    add_options(p)
    args = p.parse_args(argv)
    device = set_up(args)
    source, val = (Source(Pack(args.pack, split, device), args.seed) for split in ("train", "val"))
    # With a finder: networks that have a tracker in its place leave that out.
    config = replace(network_config(args.without), motion=False)
    start = LandmarkPrior(config)
    assert start.finder is not None
    whole: LandmarkFinder = start.finder
    if args.weights:
        read_prior(args.weights, start)
    saved: dict[str, Tensor] = {}
    about: dict[str, object] = {"options": {k: str(v) for k, v in vars(args).items()}, **machine(device)}

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16)

    def finding() -> Tensor:
        small, marks = source.pictures(args.batch // 4)
        with autocast():
            found = whole.coarse(small.contiguous(memory_format=torch.channels_last))
        return ((found - marks).abs() / eye_distance(marks)[:, None, None] * mark_weight(device)).mean()

    def finding_mouth() -> Tensor:
        squares, lips = source.mouths(args.batch // 2)
        with autocast():
            found = whole.mouth(squares.contiguous(memory_format=torch.channels_last))
        return (found - lips).abs().mean() + 2 * (centred(found) - centred(lips)).abs().mean()

    def moving() -> Tensor:
        x = source.examples(args.batch)
        with autocast():
            moved = start.motion(source.misplaced(x.key_marks), x.key8, x.tiny)
        return motion_loss(moved, x)

    parts = args.only or PARTS
    if "finder" in parts or "mouth" in parts:
        source.keep_pictures(args.every)
    for part in [part for part in ("finder", "mouth") if part in parts]:
        finder: LandmarkFinder = whole.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        teacher = Teacher(finder, args.lr, args.minutes)
        losses = {"finder": finding, "mouth": finding_mouth}
        steps = teacher.run(part, losses[part], lambda network: measure_finder(network, val))
        finder.load_state_dict(teacher.average.state_dict())
        about[part] = {"steps": steps, **measure_finder(finder.eval(), val)}
        saved |= {f"finder.{n}": t for n, t in finder.state_dict().items()}
    if "motion" in parts:
        motion = start.motion.to(device)
        teacher = Teacher(motion, args.lr, args.minutes)
        steps = teacher.run("motion", moving, lambda network: measure_motion(network, val))
        about["motion"] = {"steps": steps, **measure_motion(teacher.average, val)}
        saved |= {f"motion.{n}": t for n, t in teacher.average.state_dict().items()}
    write_prior(args.output, saved, config, about)
    print(json.dumps({part: about[part] for part in parts}))


def write_prior(path: Path, saved: dict[str, Tensor], config: NetworkConfig, about: dict[str, object]) -> None:
    """What the file holds already of the other network is kept."""
    metadata: dict[str, str] = {}
    if path.is_file():
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            saved = {name: file.get_tensor(name) for name in file.keys()} | saved  # noqa: SIM118 - it is no dict
    common = {name: value for name, value in about.items() if name not in PARTS}
    for part in PARTS:
        if part in about:
            network = {"network": json.loads(config.to_json())}
            metadata[part] = json.dumps({**common, **network, "figures": about[part]}, sort_keys=True)
    write_atomically(path, safetensors.torch.save({n: t.cpu().contiguous() for n, t in saved.items()}, metadata))


def read_prior(path: Path, prior: nn.Module) -> None:
    """Put the weights of a file into a `LandmarkPrior`. Raises TfcodecError when they do not fit."""
    try:
        # A file of one of the two networks leaves the other as it is, and a prior may be without a finder.
        state, given = prior.state_dict(), safetensors.torch.load_file(path)
        if not any(name.startswith("finder.") for name in state):
            given = {name: tensor for name, tensor in given.items() if not name.startswith("finder.")}
        prior.load_state_dict({**state, **given})
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise TfcodecError(f"--prior {path} does not hold weights of this landmark prior: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
