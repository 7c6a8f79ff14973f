"""Train the network: ``python -m tfcodec.training.train PACK RUN [options]``.

Resumes from RUN/state.pt when it is there, so that a run can be cut at any time; weights of the exponential moving
average are written beside it. The same command runs on the CPU and on a GPU, and under ``torchrun --nproc-per-node N``
on several: each process draws its own batches, and the gradients are averaged.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ..metrics.lpips import LPIPS
from ..model.upsampler import Upsampler
from ..model.weights import read_weights
from .data import Batch, Pack, batches, collate, make_pair
from .losses import LossWeights, coarse_terms, frame_terms


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="tfcodec.training.train", description=__doc__)
    p.add_argument("pack", type=Path, help="prepared pack")
    p.add_argument("run", type=Path, help="folder of this run: state, log, samples")
    p.add_argument("--start", type=Path, help="weights that a new run begins with, such as the shipped ones")
    p.add_argument("--minutes", type=float, default=30, help="stop after so many minutes")
    p.add_argument("--coarse-only", action="store_true", help="train stage 1 alone, at 64x64")
    p.add_argument("--keys", type=int, default=4, help="keyframes a step")
    p.add_argument("--targets", type=int, default=4, help="targets of each keyframe")
    p.add_argument("--lr", type=float, default=4e-4)
    p.add_argument("--anneal", action="store_true", help="let the learning rate fall to a twentieth over this call")
    p.add_argument("--eval-every", type=int, default=250, help="steps between evaluations on val")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=0)
    return p.parse_args(argv)


class Trainer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rank, self.processes = join_processes()
        self.device = torch.device(f"cuda:{self.rank}" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(args.seed)
        if args.threads:
            torch.set_num_threads(args.threads)
        network = Upsampler()
        if args.start:
            network.load_state_dict(read_weights(args.start).state_dict())
        self.model = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )
        self.step = 0
        self.seconds = 0.0
        self.weights = LossWeights()
        self.lpips = LPIPS("squeeze").to(self.device)
        self.judge = LPIPS("alex").to(self.device)
        args.run.mkdir(parents=True, exist_ok=True)
        self.state_file = args.run / "state.pt"
        if self.state_file.exists():
            self.load()

    def load(self) -> None:
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(), "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(), "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        partial = self.state_file.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.state_file)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16):
            key = self.model.encode_keyframe(batch.key).select(batch.owner)
            if self.args.coarse_only:
                coarse = self.model.stage1(key, batch.tiny, batch.mel)
            else:
                out = self.model(key, batch.tiny, batch.mel)
        if self.args.coarse_only:
            return coarse_terms(key, coarse, batch, self.weights)
        with torch.autocast(self.device.type, torch.bfloat16):
            return frame_terms(key, out, batch, self.weights, self.lpips)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        rate = self.args.lr * min(1.0, (self.step + 1) / 50)
        if self.args.anneal:
            rate *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        terms = self.loss(batch.to(self.device))
        total = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1
        values = {"total": total, "norm": norm, **terms}
        return {name: float(value.detach()) for name, value in values.items()}

    def average_gradients(self) -> None:
        if self.processes == 1:
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.processes
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, progress: float) -> float:
        """The first process's clock, for all: learning rates and the end must not differ between them."""
        if self.processes == 1:
            return progress
        shared = torch.tensor([progress], device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    @torch.no_grad()
    def evaluate(self, pairs: list[Batch]) -> dict[str, float]:
        """PSNR and LPIPS(alex) of the moving average and of the frozen keyframe, over fixed pairs."""
        sums = {"psnr": 0.0, "psnr_key": 0.0, "lpips": 0.0, "lpips_key": 0.0, "psnr_coarse": 0.0}
        count = 0
        for batch in (b.to(self.device) for b in pairs):
            with torch.autocast(self.device.type, torch.bfloat16):
                key = self.ema.encode_keyframe(batch.key).select(batch.owner)
                out = self.ema(key, batch.tiny, batch.mel)
            frame = out.frame.float().clamp(0, 1)
            still = batch.key[batch.owner]
            coarse_target = torch.nn.functional.avg_pool2d(batch.target, 4)
            sums["psnr"] += float(psnr(frame, batch.target).sum())
            sums["psnr_key"] += float(psnr(still, batch.target).sum())
            sums["psnr_coarse"] += float(psnr(out.coarse.picture.float().clamp(0, 1), coarse_target).sum())
            if not self.args.coarse_only:
                sums["lpips"] += float(self.judge(frame, batch.target).sum())
                sums["lpips_key"] += float(self.judge(still, batch.target).sum())
            count += len(frame)
        return {k: v / count for k, v in sums.items()}


def join_processes() -> tuple[int, int]:
    """(rank, number of processes) under torchrun, (0, 1) without."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), processes


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture of a batch, in dB."""
    return -10 * (a - b).square().mean((1, 2, 3)).clamp(min=1e-10).log10()


def validation(pack: Pack) -> list[Batch]:
    """Fixed pairs: every clip's first frame as the keyframe, two later frames as targets."""
    chosen = []
    for key, (clip, _, _) in enumerate(pack.keys):
        count = pack.clips[clip][2]
        chosen.append(make_pair(pack, key, [count // 2, count - 1], None))
    return [collate(chosen[i : i + 6]) for i in range(0, len(chosen), 6)]


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    trainer = Trainer(args)
    first = trainer.rank == 0
    pairs = validation(Pack(args.pack, "val")) if first else []
    # A new seed for every call: a resumed run must not see the same batches again.
    stream = batches(Pack(args.pack, "train"), args.keys, args.targets, args.seed + 7919 * trainer.step + trainer.rank)
    begin = time.monotonic()
    spent = trainer.seconds
    while True:
        elapsed = time.monotonic() - begin
        progress = trainer.agree(elapsed / max(60 * args.minutes, 1e-9))
        done = progress >= 1
        if first and (trainer.step % args.eval_every == 0 or done):
            trainer.seconds = spent + elapsed
            trainer.save()
            scores = trainer.evaluate(pairs)
            print(f"\nstep {trainer.step} minutes {trainer.seconds / 60:.1f}", scores, flush=True)
            with (args.run / "val.csv").open("a", newline="") as f:
                csv.writer(f).writerow([trainer.step, round(trainer.seconds), *scores.values()])
        if done:
            break
        values = trainer.update(next(stream), progress)
        if first and trainer.step % 10 == 0:
            print(
                f"\rstep {trainer.step} {elapsed / 60:.1f} min " + " ".join(f"{k} {v:.3f}" for k, v in values.items()),
                end="", flush=True,
            )  # fmt: skip
            with (args.run / "train.csv").open("a", newline="") as f:
                csv.writer(f).writerow([trainer.step, *(f"{v:.5f}" for v in values.values())])


if __name__ == "__main__":
    main()
