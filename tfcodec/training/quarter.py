"""A quarter of an hour on a GPU: ``python -m tfcodec.training.quarter OUT SHARE [SHARE ...] --seconds S``.

Everything that a network needs, one after the other, until the time is up: the keyframe's restorer, the face tracker, the
whole network with its close-ups. A share (see `shares`) that is not there yet is waited for while the training goes on
with those that are. OUT gets few and small files, again and again, so that whatever ends the run costs little:

    network.safetensors   the moving average, float16
    log.txt, val.csv, train.csv, curve.png, sheet.jpg, card.json
    state/                with --keep-state: what a later call goes on from

Nothing but torch, numpy, OpenCV and safetensors is needed. On a CPU it runs the same way, for rehearsals.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.restoration import KeyframeRestorer
from ..model.tracker import FOUND, read_tracker, save_tracker
from ..model.weights import save_weights
from .batch import Drawing, Sampler, batches, fixed_plans, make_batch
from .data import Batch, Pack
from .options import parse
from .report import append_row
from .restoration import measure, restoring_step
from .teacher import Teacher
from .tracker import judge, run_tracker, train_tracker
from .train import Trainer, report

SMOOTH = torch.tensor([-3.0, 12, 17, 12, -3]) / 35
"""Savitzky and Golay's filter of degree 2 over five frames: noise goes, a blink stays."""


def options(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Options of this command; the rest are `train`'s."""
    p = argparse.ArgumentParser(prog="tfcodec.training.quarter", description=__doc__, allow_abbrev=False)
    p.add_argument("out", type=Path)
    p.add_argument("shares", type=Path, nargs="+", help="folders of compact packs; later ones may come later")
    p.add_argument("--seconds", type=float, default=700, help="until the last file is written")
    p.add_argument("--restorer-seconds", type=float, default=15)
    p.add_argument("--tracker-seconds", type=float, default=50)
    p.add_argument("--wait", type=float, default=120, help="seconds to wait for the other shares before the tracker")
    p.add_argument("--start", type=Path, help="network to begin with: its restorer and tracker count, too, if it has such")
    p.add_argument("--tracker", type=Path, help="tracker to begin with")
    p.add_argument("--save-every", type=float, default=100, help="seconds between evaluations, which also save")
    p.add_argument("--reserve", type=float, default=20, help="seconds for the last evaluation and the last files")
    p.add_argument("--coarser", type=float, default=1.5, help="how much coarser tiny frames are than at quality 5, at most")
    p.add_argument("--keep-state", action="store_true", help="save the optimiser's state, too")
    p.add_argument("--warm", action="store_true", help="only compile the network, for a cache that others find")
    p.add_argument("--no-warm", action="store_true", help="start no process that compiles meanwhile")
    return p.parse_known_args(argv)


class Quarter:
    def __init__(self, args: argparse.Namespace, rest: list[str]) -> None:
        self.args, self.begin = args, time.monotonic()
        args.out.mkdir(parents=True, exist_ok=True)
        self.rest = rest
        given = ["--quiet", "--freeze-prior", "--anneal", *rest]
        if args.start:
            given += ["--weights", str(args.start)]
        self.train_args = parse(["-", str(args.out), *given])
        self.trainer = Trainer(self.train_args)
        self.device = self.trainer.device
        if args.tracker and self.trainer.model.tracker is not None:
            self.adopt_tracker(read_tracker(args.tracker))

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.begin:6.1f} s  {text}"
        print(line, flush=True)
        with (self.args.out / "log.txt").open("a") as file:
            file.write(line + "\n")

    @property
    def left(self) -> float:
        """Seconds. OUT/seconds, where it is there, says anew how many they are in all."""
        told = self.args.out / "seconds"
        seconds = float(told.read_text()) if told.is_file() else self.args.seconds
        return seconds - (time.monotonic() - self.begin)

    def load(self, share: Path) -> Pack:
        pack = Pack(share, "train", self.device)
        self.say(f"{share.name}: {len(pack.clips)} clips, {len(pack.frames)} frames")
        return pack

    def late_share(self, number: int, pack: Pack) -> bool:
        """Take a share in if all of it is there."""
        folder = self.args.shares[number]
        if not (folder / "whole").is_file():
            return False
        pack.extend(self.load(folder))
        return True

    def restorer(self, pack: Pack, seconds: float) -> None:
        """The restorer by itself first: from zero, it learns nothing beside the rest."""
        restorer = self.trainer.model.restorer
        if restorer is None or seconds <= 0:
            return
        lpips: LPIPS = self.trainer.lpips
        step = restoring_step(pack, restorer, lpips, 64 if self.device.type == "cuda" else 2)
        teacher = Teacher(restorer, 1e-3, seconds / 60, 1e9)
        steps = teacher.run("restorer", step, lambda _: {})
        average: KeyframeRestorer = teacher.average  # type: ignore[assignment]
        for network in (self.trainer.model, self.trainer.ema):
            assert network.restorer is not None
            network.restorer.load_state_dict(average.state_dict())
        figures = measure(average, self.val, self.trainer.judge)
        self.say(f"restorer: {steps} steps; val " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()))

    def tracker(self, pack: Pack, seconds: float) -> None:
        model = self.trainer.model
        if model.tracker is None:
            return
        if seconds > 0:
            found = train_tracker(pack, None, seconds / 60, tracker=model.tracker)
            self.adopt_tracker(found)
        assert model.tracker is not None
        model.tracker.requires_grad_(False).eval()
        save_tracker(model.tracker, self.args.out / "tracker.safetensors")
        self.say("tracker: val " + " ".join(f"{k} {v:.4f}" for k, v in judge(model.tracker, self.val, 2).items()))

    def adopt_tracker(self, tracker: torch.nn.Module) -> None:
        for network in (self.trainer.model, self.trainer.ema):
            assert network.tracker is not None
            network.tracker.load_state_dict(tracker.state_dict())

    def look(self, pack: Pack) -> None:
        """The pack's landmarks as the tracker sees them."""
        tracker = self.trainer.model.tracker
        if tracker is None:
            return
        tracks = run_tracker(tracker, pack)
        seen, keys, scores, key_scores = (
            torch.from_numpy(np.asarray(x)).to(self.device)
            for x in (tracks.frames, tracks.keys, tracks.scores, tracks.key_scores)
        )
        pack.see(smoothed(seen, pack), keys, scores > FOUND, key_scores > FOUND)
        self.say(f"tracked {len(seen)} frames: {float((scores > FOUND).float().mean()):.4f} with a face")

    def run(self) -> None:
        args, trainer = self.args, self.trainer
        warm = None
        if args.warm:
            self.warm_up()
            return
        if self.train_args.compile and not args.no_warm:
            warm = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(args.out / "warm"), *map(str, args.shares), "--warm", *self.rest]
                + (["--start", str(args.start)] if args.start else [])
            )
        self.val = Pack(args.shares[0], "val", self.device)
        pack = self.load(args.shares[0])
        missing = list(range(1, len(args.shares)))
        self.restorer(pack, args.restorer_seconds)
        until = time.monotonic() + args.wait
        while missing and time.monotonic() < until:
            missing = [n for n in missing if not self.late_share(n, pack)]
            time.sleep(0.2 if missing else 0)
        self.tracker(pack, args.tracker_seconds)
        self.look(pack)
        self.look(self.val)
        if warm is not None:
            try:
                warm.wait(60)
                self.say(f"compiled ahead (exit status {warm.returncode})")
            except subprocess.TimeoutExpired:
                warm.kill()
                self.say("compiling ahead took too long")
        self.freeze()
        self.joint(pack, missing)

    def freeze(self) -> None:
        """Begin the optimiser anew: with what is to be trained from here on."""
        from .steps import adamw

        trainer = self.trainer
        assert trainer.model.tracker is not None
        trainer.model.requires_grad_(True)
        trainer.model.tracker.requires_grad_(False)
        if trainer.model.stage1.prior is not None:
            trainer.model.stage1.prior.requires_grad_(False)
        trainer.optimiser = adamw(trainer.model, self.train_args.lr, hints=self.train_args.hint_rate)

    def stream(self, pack: Pack, full: bool) -> Sampler:
        drawing = Drawing(**{**vars(self.trainer.drawing()), "full": full, "coarser": self.args.coarser})
        return Sampler(pack, drawing)

    def warm_up(self) -> None:
        pack = Pack(self.args.shares[0], "val", self.device)
        self.freeze()
        self.trainer.try_compiling(make_batch(pack, self.stream(pack, False).plan(0)))

    def joint(self, pack: Pack, missing: list[int]) -> None:
        args, trainer, train_args = self.args, self.trainer, self.train_args
        plain, full = (self.stream(pack, x) for x in (False, True))
        self.fit(full)
        plain, full = (self.stream(pack, x) for x in (False, True))
        if train_args.compile:
            trainer.try_compiling(make_batch(pack, plain.plan(0)))
            self.say("compiled")
        trainer.card.open_call(pack, trainer.step)
        plans = fixed_plans(self.val, 4)
        begin = time.monotonic()
        saved = shown = begin
        shown_step = trainer.step
        alternate = Alternate(plain, full)
        # On a CPU batches are made ahead in a thread.
        feed = alternate if self.device.type == "cuda" else batches(plain, trainer.step)  # type: ignore[arg-type]
        while True:
            now = time.monotonic()
            progress = (now - begin) / max(1.0, now - begin + self.left - self.args.reserve)
            if now - saved > args.save_every or progress >= 1:
                trainer.seconds = now - begin
                scores = trainer.evaluate(self.val, plans)
                report(trainer, scores) if args.keep_state and progress >= 1 else self.record(scores)
                self.say(f"step {trainer.step}: val " + " ".join(f"{k} {v:.4f}" for k, v in scores.items()))
                saved = time.monotonic()
                if progress >= 1:
                    break
            for _ in range(1 if self.device.type == "cpu" else 20):
                trainer.update(feed, progress)  # type: ignore[arg-type]
            if time.monotonic() - shown > 15:
                values = trainer.read_log()
                now = time.monotonic()
                rate = (trainer.step - shown_step) * train_args.keys * train_args.targets / (now - shown)
                shown, shown_step = now, trainer.step
                trainer.card.note(samples_a_second=round(rate, 1))
                append_row(args.out / "train.csv", {"step": trainer.step, "samples_s": round(rate, 1)} | values)
                self.say(f"step {trainer.step}, {rate:.0f} samples/s " + " ".join(f"{k} {v:.3f}" for k, v in values.items()))
        if not isinstance(feed, Alternate):
            feed.close()
        self.say("done")

    def fit(self, sampler: Sampler) -> None:
        """Halve the number of keyframes a step until a step fits into the device's memory."""
        trainer = self.trainer
        while True:
            try:
                terms, _ = trainer.loss(make_batch(sampler.pack, sampler.plan(0)))
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
                trainer.optimiser.zero_grad(set_to_none=True)
                break
            except torch.cuda.OutOfMemoryError:
                trainer.optimiser.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                self.train_args.keys //= 2
                sampler = self.stream(sampler.pack, True)
                if not self.train_args.keys:
                    raise
        if self.device.type == "cuda":
            used = torch.cuda.max_memory_allocated() / 2**30
            self.say(f"{self.train_args.keys} x {self.train_args.targets} samples a step, {used:.1f} GiB")

    def record(self, scores: dict[str, float]) -> None:
        trainer, out = self.trainer, self.args.out
        partial = out / "network.partial"
        save_weights(trainer.ema, partial)
        partial.replace(out / "network.safetensors")
        append_row(out / "val.csv", {"step": trainer.step, "seconds": round(trainer.seconds, 1)} | scores)
        trainer.draw_sheet(self.val)
        trainer.card.note(scores={k: round(v, 5) for k, v in scores.items()})
        trainer.card.write(trainer.step, trainer.seconds)
        newest = sorted(out.glob("sheet-*.jpg"))
        for old in newest[:-1]:
            old.unlink()
        if newest:
            newest[-1].replace(out / "sheet.jpg")


class Alternate:
    """Batches with the pictures as they are and batches with pictures cut and stretched, in turn."""

    def __init__(self, *samplers: Sampler) -> None:
        self.samplers, self.step = samplers, 0

    def __next__(self) -> Batch:
        sampler = self.samplers[self.step % len(self.samplers)]
        batch = make_batch(sampler.pack, sampler.plan(self.step))
        self.step += 1
        return batch


def smoothed(seen: Tensor, pack: Pack) -> Tensor:
    """Landmarks [N, 70, 2] smoothed in time within their clips."""
    out = seen.clone()
    for _, start, count in pack.clips:
        clip = seen[start : start + count]
        if count >= 5:
            middle = sum(float(w) * clip[i : count - 4 + i] for i, w in enumerate(SMOOTH))
            out[start + 2 : start + count - 2] = middle  # type: ignore[assignment]
    return out


def main(argv: list[str] | None = None) -> None:
    args, rest = options(argv)
    Quarter(args, rest).run()


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
