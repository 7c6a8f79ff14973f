"""Train the network: ``python -m tfcodec.training.train PACK RUN [options]``.

A run goes on from RUN/state when it is there, to the step: batches depend on the seed and the step alone, so that a run
cut at any save and resumed sees what an uninterrupted one would have seen (on one CPU thread bit for bit). The same
command runs on the CPU and on a GPU, and under ``torchrun --nproc-per-node N`` on several: each process draws its own
batches, and the gradients are averaged. RUN holds

    state/       state in files of at most 15 MiB, see `state`
    card.json    options, losses, data, machine, calls, figures
    train.csv, val.csv, curve.png, sheet-*.jpg
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.blocks import box_down
from ..model.config import NetworkConfig
from ..model.upsampler import Output, Upsampler
from .adversarial import Critic, adversarial_term, critic_loss
from .batch import make_batch
from .card import Card
from .data import Batch, Pack
from .feed import batches
from .losses import LossWeights, coarse_terms, frame_terms, metric_terms
from .options import network_config, parse
from .plans import Drawing, Plan, Sampler, first_keys, fixed_plan, fixed_plans
from .report import append_row, count_flops, draw_curve, peak_flops, sheet
from .start import start_network
from .state import has_state, load_state, optimiser_tensors, restore_optimiser, save_state
from .steps import adamw, average_gradients, clipped_step, cosine, follow, join_processes, psnr, references, run_network

__all__ = ["Trainer", "main", "parse", "psnr"]


class Trainer:
    """One run on one device: network, moving average, optimiser and state."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rank, self.processes = join_processes()
        self.device = torch.device(args.device or (f"cuda:{self.rank}" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.cuda.set_device(self.device)
        if args.threads:
            torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        self.config = network_config(args.without, args.additions, args.shape)
        # A prior that stays as it is has no task, and nothing else is to learn it in its place.
        self.weights = LossWeights().changed([*(["prior=0"] if args.freeze_prior else []), *args.loss])
        network = start_network(args)
        self.model: Upsampler = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        if args.freeze_prior and self.model.stage1.prior is not None:
            self.model.stage1.prior.requires_grad_(False)
        if self.model.tracker is not None:  # its landmarks are given with the batches: see `tracker`
            self.model.tracker.requires_grad_(False)
        self.optimiser = adamw(self.model, args.lr, hints=args.hint_rate)
        # A network of its own for its figures; on one with the loss off it costs nothing.
        self.critic = Critic().to(self.device) if self.weights.adversarial else None
        self.critic_optimiser = adamw(self.critic, args.lr / 2) if self.critic else None
        self.step = 0
        self.seconds = 0.0
        self.lpips: LPIPS = LPIPS("squeeze").to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.judge = LPIPS("alex").to(self.device)
        self.run_network = self.network
        self.run_terms, self.run_metrics = frame_terms, metric_terms
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        args.run.mkdir(parents=True, exist_ok=True)
        self.state_folder = args.run / "state"
        self.card = Card(args, self.config, self.weights)
        if has_state(self.state_folder):
            self.load()

    def load(self) -> None:
        tensors, about = load_state(self.state_folder)
        if NetworkConfig.from_json(about["config"]) != self.config:
            raise TfcodecError(f"{self.args.run} holds a run of another network: {about['config']}")
        for prefix, module in (("model.", self.model), ("ema.", self.ema), ("critic.", self.critic)):
            if module is not None:
                part = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                if part or prefix != "critic.":  # a critic may join a run later
                    module.load_state_dict(part)
        restore_optimiser(self.optimiser, list(self.model.named_parameters()), tensors)
        if self.critic is not None and self.critic_optimiser is not None:
            restore_optimiser(self.critic_optimiser, list(self.critic.named_parameters()), tensors, "critic_")
        self.step, self.seconds = int(about["step"]), float(about["seconds"])

    def save(self, average: Path | None = None) -> None:
        """Write the state and the card; ``average``: see `save_state`."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"ema.{n}": t for n, t in self.ema.state_dict().items()}
        tensors |= optimiser_tensors(self.optimiser, list(self.model.named_parameters()))
        if self.critic is not None and self.critic_optimiser is not None:
            tensors |= {f"critic.{n}": t for n, t in self.critic.state_dict().items()}
            tensors |= optimiser_tensors(self.critic_optimiser, list(self.critic.named_parameters()), "critic_")
        about = {"step": self.step, "seconds": self.seconds, "config": self.config.to_json()}
        save_state(self.state_folder, tensors, about, small=self.args.small_state, average=average)
        self.card.write(self.step, self.seconds)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=not self.args.fp32)

    def drawing(self) -> Drawing:
        """How the run's batches are drawn."""
        args = self.args
        augment = args.augment or ("light" if self.device.type == "cpu" else "full")
        return Drawing(
            args.keys, args.targets, args.seed, full=augment == "full", speed=not args.no_speed,
            pairs=self.weights.temporal > 0 or self.config.recurrence, second=self.config.second_reference,
        )  # fmt: skip

    def network(self, batch: Batch) -> Output:
        return run_network(self.model, batch)

    def loss(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of the loss, each with its weight, and the drawn pictures."""
        with self.autocast():
            if self.args.coarse_only:
                key, marks = references(self.model, batch)
                coarse = self.model.stage1(self.model.prepare(key, batch.tiny), batch.tiny, batch.mel, None, marks)
            else:
                out = self.run_network(batch)
        if self.args.coarse_only:
            return coarse_terms(key, coarse, batch, self.weights), coarse.picture
        with self.autocast():
            terms = self.run_terms(out, batch, self.weights)
            terms |= self.run_metrics(out, batch, self.lpips, self.weights, self.config.closeups)
            if self.critic is not None:
                terms["adversarial"] = adversarial_term(self.critic, out.frame, batch.marks, self.weights.adversarial)
        return terms, out.frame

    def update(self, stream: Iterator[Batch], progress: float) -> None:
        """One step. Nothing here waits for the device."""
        args = self.args
        rate = args.lr * min(1.0, (self.step + 1) / max(1, args.warm_up))
        if args.anneal:
            rate *= cosine(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        # The prior's dropout, too, depends on the step alone.
        torch.manual_seed(hash((args.seed, self.rank, self.step)))
        values: dict[str, Tensor] = {}
        for _ in range(args.accumulate):
            batch = next(stream)
            terms, frame = self.loss(batch)
            total = torch.stack(list(terms.values())).sum()
            (total / args.accumulate).backward()
            for name, value in {"total": total, **terms}.items():
                values[name] = values.get(name, 0) + value.detach() / args.accumulate
        average_gradients(self.model, self.processes)
        values["norm"] = clipped_step(self.optimiser, self.model, args.clip)
        if self.critic is not None and self.critic_optimiser is not None and not args.coarse_only:
            values["critic"] = self.teach(frame, batch)
        follow(self.ema, self.model, self.step, args.ema)
        self.step += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._summed += 1

    def teach(self, frame: Tensor, batch: Batch) -> Tensor:
        """The critic's own step."""
        assert self.critic is not None
        assert self.critic_optimiser is not None
        self.critic_optimiser.zero_grad(set_to_none=True)
        with self.autocast():
            loss = critic_loss(self.critic, frame, batch.target, batch.marks)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.critic, self.processes)
        clipped_step(self.critic_optimiser, self.critic, self.args.clip)
        return loss.detach()

    def read_log(self) -> dict[str, float]:
        """Means of the terms since the last call; waits for the device."""
        if not self._summed:
            return {}
        means = torch.stack([v.float() for v in self._sums.values()]) / self._summed
        out = dict(zip(self._sums, means.tolist(), strict=True))
        self._sums, self._summed = {}, 0
        return out

    def try_compiling(self, batch: Batch) -> None:
        """Use torch.compile from here on, unless it fails on this machine for this network."""
        self.run_network = torch.compile(self.network, dynamic=False)
        self.run_terms = torch.compile(frame_terms, dynamic=False)
        if self.args.compile == "all":
            self.run_metrics = torch.compile(metric_terms, dynamic=False)
        try:
            terms, _ = self.loss(batch)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever the compiler says: training without it is slower, not wrong
            print(f"torch.compile failed, going on without: {str(error)[:300]}", file=sys.stderr)
            self.run_network, self.run_terms, self.run_metrics = self.network, frame_terms, metric_terms
        self.optimiser.zero_grad(set_to_none=True)

    def count_flops(self, pack: Pack, drawing: Drawing) -> float:
        """FLOP of one step of this process."""
        plan = Sampler(pack, Drawing(**{**vars(drawing), "keys": 1})).plan(0)
        batch = make_batch(pack, plan)

        def work() -> None:
            terms, _ = self.loss(batch)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]

        flops = count_flops(work) * drawing.keys * self.args.accumulate
        self.optimiser.zero_grad(set_to_none=True)
        return flops

    @torch.no_grad()
    def evaluate(self, pack: Pack, plans: list[Plan]) -> dict[str, float]:
        """PSNR and LPIPS(alex) of the moving average and of the frozen keyframe, over fixed pairs."""
        sums: dict[str, Tensor] = {}
        count = 0
        for plan in plans:
            batch = make_batch(pack, plan)
            frame, coarse = self.draw(batch)
            still = batch.key[batch.owner]
            target = self.judge.embed(batch.target)
            values = {
                "psnr": psnr(frame, batch.target), "psnr_key": psnr(still, batch.target),
                "psnr_coarse": psnr(coarse, box_down(batch.target, 64)),
                "lpips": self.judge.compare(self.judge.embed(frame), target),
                "lpips_key": self.judge.compare(self.judge.embed(still), target),
            }  # fmt: skip
            for name, value in values.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.sum()
            count += len(frame)
        return {name: float(value) / count for name, value in sums.items()}

    @torch.no_grad()
    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The moving average's pictures and coarse pictures, in 0..1."""
        with self.autocast():
            out = run_network(self.ema, batch)
        return out.frame.float().clamp(0, 1), out.coarse.picture.float().clamp(0, 1)

    def draw_sheet(self, pack: Pack, path: Path | None = None) -> None:
        """Keyframe, tiny frame, coarse picture, drawn picture, source: a row for each of ten clips."""
        plan = fixed_plan(pack, first_keys(pack)[:: max(1, len(pack.clips) // 10)], 1)
        batch = make_batch(pack, plan)
        frame, coarse = self.draw(batch)
        columns = (batch.key, batch.tiny[:, 2], coarse, frame, batch.target)
        sheet(path or self.args.run / f"sheet-{self.step:07d}.jpg", columns)


class Clock:
    """How far a call and its run are; the same for all processes, so that none ends before the others."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.args = trainer, trainer.args
        self.begin = time.monotonic()
        self._shared = (0.0, 0.0)

    def read(self) -> tuple[float, float]:
        """(progress of the schedule, share of the call's time that is over); 1 ends the call."""
        args, trainer = self.args, self.trainer
        call = (time.monotonic() - self.begin) / max(60 * args.minutes, 1e-9)
        progress = call
        if args.schedule_steps:
            progress = trainer.step / args.schedule_steps
        elif args.schedule_minutes:
            progress = trainer.seconds / (60 * args.schedule_minutes)
        if args.steps is not None and trainer.step >= args.steps:
            call = 1.0
        if trainer.processes > 1:
            # Asking the first process costs a round trip: every tenth step.
            if trainer.step % 10 == 0 or args.steps is not None:
                both = torch.tensor([progress, call], device=trainer.device)
                dist.broadcast(both, 0)
                self._shared = (float(both[0]), float(both[1]))
            progress, call = self._shared
        return progress, call


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    begin = time.monotonic()
    trainer = Trainer(args)
    clock = Clock(trainer)
    clock.begin = begin
    train(trainer, clock, open_packs(trainer))


def open_packs(trainer: Trainer) -> tuple[Pack, Pack]:
    """(train, val). On a CPU the first process writes the expanded layout, where it is not there, for all."""
    args = trainer.args
    if trainer.rank and trainer.device.type == "cpu":
        dist.barrier()
    packs = [Pack(args.pack, split, trainer.device, args.loaders) for split in ("train", "val")]
    if not trainer.rank and trainer.processes > 1 and trainer.device.type == "cpu":
        dist.barrier()
    return packs[0], packs[1]


def train(trainer: Trainer, clock: Clock, packs: tuple[Pack, Pack]) -> dict[str, float]:
    """The loop of one call; returns the last scores on val (of the first process)."""
    args, first = trainer.args, trainer.rank == 0
    pack, val = packs
    drawing = trainer.drawing()
    sampler = Sampler(pack, drawing, trainer.rank)
    stream = batches(sampler, trainer.step * args.accumulate)
    flops = peak = 0.0
    if trainer.device.type == "cuda" and first:
        flops, (peak, source) = trainer.count_flops(pack, drawing), peak_flops(trainer.device)
        trainer.card.note(flop_a_step=flops, peak_flops=peak, peak_from=source)
    if args.compile:
        trainer.try_compiling(make_batch(pack, sampler.plan(0)))
    trainer.card.open_call(pack, trainer.step)
    if first and not args.quiet:
        print(f"{len(pack.frames)} frames on {trainer.device} after {time.monotonic() - clock.begin:.0f} s", flush=True)
    try:
        return loop(trainer, clock, val, stream, flops, peak)
    finally:
        stream.close()


def loop(
    trainer: Trainer, clock: Clock, val: Pack, stream: Iterator[Batch], flops: float, peak: float
) -> dict[str, float]:
    args, first = trainer.args, trainer.rank == 0
    plans = fixed_plans(val)
    scores: dict[str, float] = {}
    watch = args.warn_sync and trainer.device.type == "cuda"
    since, since_step, saved = time.monotonic(), trainer.step, -1
    while True:
        progress, call = clock.read()
        done = call >= 1 or ((args.schedule_minutes or args.schedule_steps) and progress >= 1)
        if first and (done or (trainer.step % args.eval_every == 0 and trainer.step != saved)):
            trainer.seconds += time.monotonic() - since
            scores, saved = trainer.evaluate(val, plans), trainer.step
            report(trainer, scores)
            if done or trainer.step % args.sheet_every == 0:
                trainer.draw_sheet(val)
            trainer.read_log()
            since, since_step = time.monotonic(), trainer.step
        if done:
            break
        if watch:
            torch.cuda.set_sync_debug_mode("warn")
        trainer.update(stream, progress)
        if watch:
            torch.cuda.set_sync_debug_mode("default")
        if trainer.step % args.log_every == 0:
            values = trainer.read_log()  # waits for the device
            now = time.monotonic()
            trainer.seconds += now - since
            rate = (trainer.step - since_step) * args.keys * args.targets * args.accumulate * trainer.processes
            rate /= max(now - since, 1e-9)
            used = flops * (trainer.step - since_step) / max(now - since, 1e-9) / peak if peak else 0.0
            since, since_step = now, trainer.step
            if first:
                log(trainer, values, rate, used)
    return scores


def log(trainer: Trainer, values: dict[str, float], rate: float, used: float) -> None:
    trainer.card.note(samples_a_second=round(rate, 1), **({"share_of_peak": round(used, 4)} if used else {}))
    row: dict[str, Any] = {"step": trainer.step, "seconds": round(trainer.seconds, 1), "samples_s": round(rate, 1)}
    append_row(trainer.args.run / "train.csv", row | {k: f"{v:.5f}" for k, v in values.items()})
    if trainer.args.quiet:
        return
    share = f", {100 * used:.1f} % of peak" if used else ""
    terms = " ".join(f"{k} {v:.3f}" for k, v in values.items())
    text = f"step {trainer.step} {trainer.seconds / 60:.1f} min {rate:.1f} samples/s{share} {terms}"
    print("\r\033[K" + text, end="", flush=True)


def report(trainer: Trainer, scores: dict[str, float]) -> None:
    trainer.card.note(scores={k: round(v, 5) for k, v in scores.items()})
    trainer.save()
    row = {"step": trainer.step, "seconds": round(trainer.seconds, 1)}
    append_row(trainer.args.run / "val.csv", row | {k: f"{v:.5f}" for k, v in scores.items()})
    draw_curve(trainer.args.run)
    if not trainer.args.quiet:
        shown = " ".join(f"{k} {v:.4f}" for k, v in scores.items())
        print(f"\nstep {trainer.step} {trainer.seconds / 60:.1f} min, val: {shown}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
