"""Train the light network on a CPU: ``python -m tfcodec.training.light LESSONS OUT.safetensors --weights START``.

It learns from the source's pictures and from the full network's: where they say that the picture moved, and what they
drew (see `lessons`). Encoder, landmark prior, restorer and tracker are the full network's and stay as they are; so do
the close-ups, which are trained by themselves afterwards: ``tfcodec.training.closeups --weights``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.blocks import box_down
from ..model.light import LightEncoder
from ..model.stage1 import FLOW_UNIT, CoarseFrame, KeyframeFeatures
from ..model.upsampler import Upsampler
from ..model.weights import read_weights, save_weights
from .lessons import Lesson, lessons, read
from .losses import gradient_error, piece_error, region_weight
from .plans import PIECE
from .start import is_shared
from .steps import psnr, set_up
from .teacher import Teacher, add_options

SILENCE = torch.zeros(1, 20, 80)


class Drawn:
    """A light network's picture [B, 3, 256, 256] of some frames of a lesson, without close-ups, and its way there."""

    def __init__(self, light: Upsampler, one: Lesson, some: Tensor) -> None:
        assert isinstance(light.keyframe, LightEncoder)
        assert light.stage2 is not None
        owner = one.owner[some]
        keys, where = torch.unique(owner, return_inverse=True)
        picture = one.picture[keys].float() / 255
        maps = [getattr(one, name)[keys].float() for name in ("f128", "f64", "f32")]
        key: KeyframeFeatures = light.keyframe.told(picture, *maps)
        self.key = key._replace(marks=one.key_marks[keys], face=one.face[keys]).select(where)
        self.coarse: CoarseFrame = light.stage1(self.key, one.tiny[some].float(), SILENCE, marks=one.marks[some])
        self.frame: Tensor = light.stage2(self.key, self.coarse)[0]


def loss_of(light: Upsampler, one: Lesson, some: Tensor, lpips: LPIPS, weights: argparse.Namespace) -> Tensor:
    """How far a light network's pictures are from the full one's and the source's."""
    with torch.autocast("cpu", torch.bfloat16, enabled=not weights.fp32):
        drawn = Drawn(light, one, some)
    frame, coarse = drawn.frame.float(), drawn.coarse
    source, full = (x[some].float() / 255 for x in (one.wanted, one.drawn))
    marks = (one.marks[some] + 1) * 128
    weight = region_weight(marks, 64, 4)
    wide = F.interpolate(weight, scale_factor=4.0, mode="nearest")
    target = (1 - weights.teacher) * source + weights.teacher * full
    loss = weights.pixels * ((frame - target).abs() * wide).mean()
    loss = loss + weights.gradients * gradient_error(frame, target, wide)
    picture = one.coarse[some].float()
    loss = loss + weights.coarse * ((coarse.picture.float() - picture).abs() * weight).mean()
    flow = one.flow[some].float()
    for ours in coarse.flows:
        size = ours.shape[-1]
        error = (ours - box_down(flow, size)).abs() * box_down(weight, size)
        loss = loss + weights.flow / FLOW_UNIT * error.mean() / len(coarse.flows)
    half = slice(0, None, 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=not weights.fp32):
        # A lesson's corner is of its first sight; another one every time.
        corner = torch.randint((256 - PIECE) // 8 + 1, (2,)) * 8
        perceptual = piece_error(frame[half], source[half], corner, lpips)
    return loss + weights.perceptual * perceptual


@torch.no_grad()
def measure(light: nn.Module, val: list[Lesson], judge: LPIPS) -> dict[str, float]:
    """LPIPS(alex) and PSNR against the source, and those of the full network (``_full``), without close-ups."""
    assert isinstance(light, Upsampler)
    sums: dict[str, float] = {}
    for one in val:
        some = torch.arange(0, len(one.tiny), 2)
        with torch.autocast("cpu", torch.bfloat16):
            drawn = Drawn(light, one, some)
        source, full = (x[some].float() / 255 for x in (one.wanted, one.drawn))
        frame = drawn.frame.float().clamp(0, 1)
        wanted = judge.embed(source)
        values = {
            "lpips": judge.compare(judge.embed(frame), wanted), "lpips_full": judge.compare(judge.embed(full), wanted),
            "psnr": psnr(frame, source), "psnr_full": psnr(full, source),
            "flow": (drawn.coarse.flow - one.flow[some].float()).abs().mean((1, 2, 3)) * 128,
        }  # fmt: skip
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + float(value.mean()) / len(val)
    return sums


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="tfcodec.training.light", description=__doc__)
    p.add_argument("lessons", type=Path)
    p.add_argument("output", type=Path, help="the light network, safetensors; written at every report")
    p.add_argument("--val", type=Path, help="lessons of the split val, to be measured at")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--report", type=float, default=180, help="seconds between reports")
    p.add_argument("--fp32", action="store_true", help="no bfloat16")
    g = p.add_argument_group("losses")
    g.add_argument("--teacher", type=float, default=0.5, help="share of the full network's picture in the target")
    for name, value in (("pixels", 5.0), ("gradients", 4.0), ("coarse", 4.0), ("flow", 1.0), ("perceptual", 7.0)):
        g.add_argument(f"--{name}", type=float, default=value)
    add_options(p)
    return p


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if set_up(args).type != "cpu":
        raise TfcodecError("on a GPU train the whole network: tfcodec.training.quarter --shape light --start FILE")
    if not args.weights:
        raise TfcodecError("--weights: a light network to begin with, from tfcodec.training.prune")
    light = read_weights(args.weights)
    if light.config.shape != "light":
        raise TfcodecError(f"{args.weights} holds a network of shape {light.config.shape}, not light")
    for name, parameter in light.named_parameters():
        parameter.requires_grad_(not is_shared(name) and not name.startswith("closeups."))
    lpips: LPIPS = LPIPS("squeeze").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    judge = LPIPS("alex")
    paths = lessons(args.lessons)
    val = [read(path) for path in lessons(args.val)] if args.val else []
    rng = np.random.default_rng(args.seed)
    scores = {}

    def step() -> Tensor:
        one = read(paths[rng.integers(len(paths))])
        some = torch.from_numpy(np.sort(rng.permutation(len(one.tiny))[: args.batch]))
        return loss_of(light, one, some, lpips, args)

    def report(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, Upsampler)
        save_weights(network, args.output)
        scores.update(measure(network, val, judge))
        return scores

    print(json.dumps({"frames": 16 * len(paths), "before": measure(light, val, judge)}), flush=True)
    teacher = Teacher(light, args.lr, args.minutes, args.report)
    steps = teacher.run("light", step, report)
    report(teacher.average)
    print(json.dumps({"steps": steps, **scores}))


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
