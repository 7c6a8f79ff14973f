"""Train the keypoint codec's network: ``python -m tfcodec.training.keypoint PACK RUN --minutes N [--export FILE]``.

The baseline gets what tfcodec's own network gets: the same batches, the same losses (landmarks supervise its flow,
too), optimiser and moving average; and FOMM's equivariance: keypoints of a turned picture are the turned keypoints.
Keypoints are drawn to landmarks. In place of tiny frames and speech it sees quantised keypoints. RUN/state holds the
state, and a run goes on from it.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..baselines.keypoint_model import KeypointAnimator, KeypointConfig, KeypointOutput, Keypoints, save_animator
from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.stage1 import CoarseFrame, KeyframeFeatures
from ..model.upsampler import Output, Upsampler
from ..model.weights import read_weights
from .batch import make_batch
from .compact import SIZE
from .data import Batch, Pack
from .feed import batches
from .losses import LossWeights, frame_terms, perceptual_term
from .plans import Drawing, Sampler, fixed_plans
from .state import has_state, load_state, optimiser_tensors, restore_optimiser, save_state
from .steps import adamw, clipped_step, cosine, follow, psnr, set_up

STEP = 1 / 64
"""Quantiser step of evaluation, in halves of a picture's side; training draws it anew for each batch."""
EQUIVARIANCE = 10.0
ANCHOR = 4.0
ANCHORS = (8, 2, 14, 19, 24, 30, 48, 54, 51, 57)
"""Landmarks that the first keypoints are drawn to: chin, jaw, brows, nose, corners of the mouth, lips. FOMM's keypoints
find their places by themselves; told where to look, the detector needs minutes."""
SHARED = ("keyframe.", "up128.", "merge128.", "block128.", "paint.")
"""What tfcodec's own network has as well, under the same names (those of the second stage behind ``stage2.``)."""
COLUMNS = ("step", "seconds", "psnr", "psnr_key", "lpips", "lpips_key")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="tfcodec.training.keypoint", description=__doc__, allow_abbrev=False,
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    p.add_argument("pack", type=Path, help="prepared pack")
    p.add_argument("run", type=Path, help="folder of this run: state, logs")
    p.add_argument(
        "--weights",
        type=Path,
        help="tfcodec's own network: a new run begins with its keyframe encoder and its last layers",
    )
    p.add_argument("--minutes", type=float, default=30, help="end this call after so many minutes")
    p.add_argument("--steps", type=int, help="end when the run has so many steps")
    p.add_argument("--anneal", action="store_true", help="cosine learning rate over this call")
    p.add_argument(
        "--detector-steps",
        type=int,
        default=0,
        help="the first steps train the detector alone, which takes a twentieth of the time",
    )
    p.add_argument("--keypoints", type=int, default=10)
    p.add_argument("--jacobian", action="store_true", help="a 2x2 matrix with each keypoint, as FOMM; without as DAC")
    p.add_argument("--keys", type=int, default=4, help="keyframes a step")
    p.add_argument("--targets", type=int, default=4, help="targets of each keyframe")
    p.add_argument("--lr", type=float, default=4e-4)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--loss", nargs="+", default=[], metavar="NAME=VALUE", help="weights of the losses")
    p.add_argument("--eval-every", type=int, default=250, help="steps between evaluations on val; also saves the state")
    p.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    p.add_argument("--threads", type=int, default=0, help="threads of torch on a CPU")
    p.add_argument("--export", type=Path, help="write the moving average's weights to this file at the end")
    return p.parse_args(argv)


class KeypointTrainer:
    """One run on one device: network, moving average, optimiser and state."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = set_up(args)
        self.weights = LossWeights().changed(args.loss)
        network = KeypointAnimator(KeypointConfig(args.keypoints, args.jacobian))
        if args.weights:
            borrow(network, read_weights(args.weights))
        self.model: KeypointAnimator = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = adamw(self.model, args.lr)
        self.lpips = LPIPS("squeeze").to(self.device)
        self.judge = LPIPS("alex").to(self.device)
        self.step, self.seconds = 0, 0.0
        args.run.mkdir(parents=True, exist_ok=True)
        self.folder: Path = args.run / "state"
        if has_state(self.folder):
            self.load()

    def load(self) -> None:
        tensors, about = load_state(self.folder)
        if about["keypoints"] != asdict(self.model.config):
            raise TfcodecError(f"{self.args.run} holds a run of another network: {about['keypoints']}")
        for prefix, module in (("model.", self.model), ("ema.", self.ema)):
            module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        restore_optimiser(self.optimiser, list(self.model.named_parameters()), tensors)
        self.step, self.seconds = int(about["step"]), float(about["seconds"])

    def save(self) -> None:
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"ema.{n}": t for n, t in self.ema.state_dict().items()}
        tensors |= optimiser_tensors(self.optimiser, list(self.model.named_parameters()))
        about = {"step": self.step, "seconds": self.seconds, "keypoints": asdict(self.model.config)}
        save_state(self.folder, tensors, about)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, each with its weight."""
        # A function of the step, so that a resumed run goes on with the same ones.
        draw = torch.Generator().manual_seed(7919 * self.args.seed + self.step)
        step = STEP * 2 ** (2 * float(torch.rand((), generator=draw)) - 1)
        alone = self.step < self.args.detector_steps
        with torch.autocast(self.device.type, torch.bfloat16):
            if alone:
                points = self.model.detector(batch.target)
            else:
                key, out, points = animate(self.model, batch, step)
            theta = random_affine(len(batch.target), draw).to(self.device)
            turned = self.model.detector(F.grid_sample(
                batch.target, F.affine_grid(theta, list(batch.target.shape), align_corners=False),
                padding_mode="reflection", align_corners=False,
            ))  # fmt: skip
        found = {
            "equivariance": EQUIVARIANCE * equivariance(points, turned, theta),
            "anchor": ANCHOR * anchor(points, batch.marks),
        }
        if alone:
            return found
        coarse = CoarseFrame(out.small, batch.tiny, out.small, out.flow, (out.flow,))
        terms = frame_terms(Output(out.frame, out.flow, coarse, key), batch, self.weights)
        if self.weights.perceptual:
            with torch.autocast(self.device.type, torch.bfloat16):
                terms["perceptual"] = perceptual_term(out.frame, batch, self.lpips, self.weights.perceptual)
        return terms | found

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        rate = self.args.lr * min(1.0, (self.step + 1) / 50)
        if self.args.anneal:
            rate *= cosine(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        terms = self.loss(batch)
        total = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = clipped_step(self.optimiser, self.model, 2.0)
        follow(self.ema, self.model, self.step)
        self.step += 1
        return {name: float(value.detach()) for name, value in {"total": total, "norm": norm, **terms}.items()}

    @torch.no_grad()
    def evaluate(self, pack: Pack) -> dict[str, float]:
        """PSNR and LPIPS(alex) of the moving average and of the frozen keyframe, over fixed pairs."""
        sums: dict[str, float] = dict.fromkeys(COLUMNS[2:], 0.0)
        count = 0
        for plan in fixed_plans(pack):
            batch = make_batch(pack, plan)
            with torch.autocast(self.device.type, torch.bfloat16):
                _, out, _ = animate(self.ema, batch, STEP)
            for name, picture in (("", out.frame.float().clamp(0, 1)), ("_key", batch.key[batch.owner])):
                sums["psnr" + name] += float(psnr(picture, batch.target).sum())
                sums["lpips" + name] += float(self.judge(picture, batch.target).sum())
            count += len(batch.target)
        return {name: value / count for name, value in sums.items()}


def borrow(network: KeypointAnimator, other: Upsampler) -> None:
    """Begin with what the two networks have in common: the keyframe encoder and the layers from 64 pixels upwards."""
    theirs = {name.removeprefix("stage2."): tensor for name, tensor in other.state_dict().items()}
    own = network.state_dict()
    same = {n: t for n, t in theirs.items() if n.startswith(SHARED) and n in own and own[n].shape == t.shape}
    if not all(any(name.startswith(part) for name in same) for part in SHARED):
        raise TfcodecError("--weights: these are of a network without a second stage")
    network.load_state_dict(same, strict=False)


def animate(model: KeypointAnimator, batch: Batch, step: float) -> tuple[KeyframeFeatures, KeypointOutput, Keypoints]:
    """Draw a batch's targets from their keypoints, quantised as the codec does it; the keyframe's stay as they are."""
    key = model.encode_keyframe(batch.key).select(batch.owner)
    of_key = model.detector(batch.key).select(batch.owner)
    points = model.detector(batch.target)
    return key, model(key, of_key, points.quantised(step)), points


def random_affine(count: int, draw: torch.Generator) -> Tensor:
    """Turned by up to 25 degrees, scaled by up to a fifth, shifted by up to a tenth of the picture: [count, 2, 3]."""
    turn, size, x, y = (2 * torch.rand(4, count, generator=draw) - 1).unbind()
    turn, size = turn * math.radians(25), torch.exp(0.18 * size)
    c, s = size * turn.cos(), size * turn.sin()
    return torch.stack((torch.stack((c, -s, 0.2 * x), 1), torch.stack((s, c, 0.2 * y), 1)), 1)


def equivariance(points: Keypoints, turned: Keypoints, theta: Tensor) -> Tensor:
    """How far keypoints of turned pictures, turned back, are from those of the pictures; and Jacobians likewise."""
    linear = theta[:, None, :, :2]
    back = (linear @ turned.place[..., None])[..., 0] + theta[:, None, :, 2]
    loss = (back - points.place).abs().mean()
    if points.jacobian is not None and turned.jacobian is not None:
        product = torch.linalg.inv(points.jacobian.float()) @ (linear @ turned.jacobian)
        loss = loss + (product - torch.eye(2, device=theta.device)).abs().mean()
    return loss


def anchor(points: Keypoints, marks: Tensor) -> Tensor:
    """How far keypoints are from their landmarks [B, 70, 2] (pixels; 0 where there is no face), in half sides."""
    count = min(len(ANCHORS), points.place.shape[1])
    there = marks[:, ANCHORS[:count]]
    seen = (there > 0).all(-1, keepdim=True).float()
    error = (points.place[:, :count] - (there / (SIZE / 2) - 1)).abs() * seen
    return error.sum() / (2 * seen.sum()).clamp(min=1)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    begin = time.monotonic()
    trainer = KeypointTrainer(args)
    pack, val = (Pack(args.pack, split, trainer.device) for split in ("train", "val"))
    sampler = Sampler(pack, Drawing(args.keys, args.targets, args.seed))
    stream = batches(sampler, trainer.step)
    spent, start = trainer.seconds, time.monotonic()
    saved = -1
    while True:
        progress = (time.monotonic() - begin) / max(60 * args.minutes, 1e-9)
        if args.steps is not None:
            progress = max(progress, trainer.step / max(1, args.steps))
        if trainer.step != saved and (trainer.step % args.eval_every == 0 or progress >= 1):
            trainer.seconds = spent + time.monotonic() - start
            trainer.save()
            saved = trainer.step
            scores = trainer.evaluate(val)
            print(f"\nstep {trainer.step} minutes {trainer.seconds / 60:.1f}", scores, flush=True)
            append(args.run / "val.csv", COLUMNS, [trainer.step, round(trainer.seconds), *scores.values()])
        if progress >= 1:
            break
        values = trainer.update(next(stream), progress)
        if trainer.step % 10 == 0:
            line = " ".join(f"{k} {v:.3f}" for k, v in values.items())
            print(f"\rstep {trainer.step} {(time.monotonic() - begin) / 60:.1f} min {line}", end="", flush=True)
            if trainer.step <= args.detector_steps:
                continue
            append(args.run / "train.csv", ("step", *values), [trainer.step, *(f"{v:.5f}" for v in values.values())])
    if args.export:
        save_animator(trainer.ema, args.export)


def append(path: Path, columns: tuple[str, ...], values: list[object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(columns)
        writer.writerow(values)


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
