"""A quarter of an hour on a GPU: ``python -m tfcodec.training.quarter OUT SHARE [SHARE ...] --seconds S``.

All that a network needs, one after the other, until the time is up: the keyframe's restorer, the face tracker, the
whole network with its close-ups. Options that are not listed here go to the trainer (`train`). A share (see `shares`)
that comes later is taken in as soon as the file ``whole`` lies in its folder. OUT/seconds, where somebody writes it,
says anew how many seconds there are in all. OUT gets few and small files, again and again, so that whatever ends the
run costs little:

    network.safetensors     the moving average, float16, the tracker and the restorer in it
    card.json               options, data, machine, figures, and what was said
    train.csv, val.csv
    sheet.jpg               without --keep-state
    state/                  with --keep-state: three or four files; the same command goes on from them

Nothing but torch, numpy, OpenCV and safetensors is needed. On a CPU it runs the same way, for rehearsals.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import TfcodecError
from ..metrics.lpips import LPIPS
from ..model.config import SHAPES
from ..model.restoration import KeyframeRestorer
from ..model.tracker import FOUND, read_tracker
from ..model.weights import read_weights, save_weights
from .batch import make_batch
from .data import Batch, Pack
from .feed import batches
from .options import parse
from .plans import Plan, Sampler, fixed_plans
from .report import append_row
from .restoration import measure, restoring_step
from .state import has_state
from .teacher import Teacher
from .tracker import judge, run_tracker, train_tracker
from .train import Trainer

SMOOTH = torch.tensor([-3.0, 12, 17, 12, -3]) / 35
"""Savitzky and Golay's filter of degree 2 over five frames: noise goes, a blink stays."""
REPORT = 15.0
"""Seconds between lines about the training."""


def options(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Options of this command; the rest are `train`'s."""
    p = argparse.ArgumentParser(
        prog="tfcodec.training.quarter", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("out", type=Path)
    p.add_argument("shares", type=Path, nargs="+", help="folders of compact packs; later ones may come later")
    p.add_argument("--seconds", type=float, default=700, help="until the last file is written")
    p.add_argument("--restorer-seconds", type=float, default=15)
    p.add_argument("--tracker-seconds", type=float, default=50)
    p.add_argument("--wait", type=float, default=120, help="seconds to wait for the other shares before the tracker")
    p.add_argument("--start", type=Path, help="network to begin with, its restorer and tracker included")
    p.add_argument("--tracker", type=Path, help="tracker to begin with")
    p.add_argument("--plan-seconds", type=float, help="of the whole network's training over all calls, for --anneal")
    p.add_argument("--save-every", type=float, default=100, help="seconds between evaluations, which also save")
    p.add_argument("--reserve", type=float, default=20, help="seconds for the last evaluation and the last files")
    p.add_argument("--coarser", type=float, default=1.5, help="tiny frames: at most so many steps of quality 5")
    p.add_argument("--keep-state", action="store_true", help="save what a later call goes on from")
    return p.parse_known_args(argv)


class Quarter:
    """One call: what is left of its time, and what it trains."""

    def __init__(self, args: argparse.Namespace, rest: list[str]) -> None:
        self.args, self.begin = args, time.monotonic()
        self.said: list[str] = []
        args.out.mkdir(parents=True, exist_ok=True)
        self.goes_on = has_state(args.out / "state")
        given = ["--quiet", "--freeze-prior", "--anneal", "--fitting", *rest]
        if args.start and not self.goes_on:
            given += ["--weights", str(args.start)]
        self.train_args = parse(["-", str(args.out), *given])
        self.trainer = Trainer(self.train_args)
        self.device = self.trainer.device
        self.on_gpu = self.device.type == "cuda"
        self.missing: list[Path] = list(args.shares[1:])
        if self.trainer.model.tracker is None:
            raise TfcodecError("a network without motion has no tracker: use tfcodec.training.train")
        self.has_tracker = bool(args.tracker or (args.start and read_weights(args.start).config.motion))
        if args.tracker and not self.goes_on:
            self.adopt("tracker", read_tracker(args.tracker))
        self.val = Pack(args.shares[0], "val", self.device)

    def say(self, text: str) -> None:
        """Print a line, and keep it for the card."""
        self.said.append(f"{time.monotonic() - self.begin:6.1f} s  {text}")
        print(self.said[-1], flush=True)

    @property
    def left(self) -> float:
        """Seconds until everything has to be written."""
        told = self.args.out / "seconds"
        try:
            seconds = float(told.read_text())
        except (OSError, ValueError):  # nobody has said, or is about to say, something else
            seconds = self.args.seconds
        return seconds - (time.monotonic() - self.begin)

    def load(self, share: Path) -> Pack:
        pack = Pack(share, "train", self.device)
        self.say(f"{share.name}: {len(pack.clips)} clips, {len(pack.frames)} frames")
        return pack

    def take_late_shares(self, pack: Pack) -> bool:
        """Take in the shares that are whole by now; whether there were any."""
        here = [share for share in self.missing if (share / "whole").is_file()]
        for share in here:
            pack.extend(self.load(share))
            self.missing.remove(share)
        return bool(here)

    def adopt(self, part: str, trained: nn.Module) -> None:
        """Take the weights of a part that was trained by itself."""
        for network in (self.trainer.model, self.trainer.ema):
            network.get_submodule(part).load_state_dict(trained.state_dict())
        self.trainer.model.zero_grad(set_to_none=True)

    def run(self) -> None:
        """Everything, until the time is up."""
        args = self.args
        pack = self.load(args.shares[0])
        light = bool(args.start) and SHAPES[self.train_args.shape].light  # it keeps the full one's restorer and tracker
        if not self.goes_on and not light:
            self.train_restorer(pack, args.restorer_seconds)
        until = time.monotonic() + args.wait
        self.take_late_shares(pack)
        while self.missing and time.monotonic() < min(until, self.end):
            time.sleep(0.2)
            self.take_late_shares(pack)
        if not self.goes_on:
            self.train_tracker(pack, 0 if light else args.tracker_seconds)
        for split in (pack, self.val):
            self.look(split)
        self.train_network(pack)

    @property
    def end(self) -> float:
        """When the last evaluation has to begin, by `time.monotonic`."""
        return time.monotonic() + self.left - self.args.reserve

    def train_restorer(self, pack: Pack, seconds: float) -> None:
        """The restorer by itself first: from zero, it learns nothing beside the rest."""
        restorer = self.trainer.model.restorer
        if restorer is None or seconds <= 0:
            return
        step = restoring_step(pack, restorer, self.trainer.lpips, 64 if self.on_gpu else 2)
        teacher = Teacher(restorer, 1e-3, seconds / 60, 1e9)
        steps = teacher.run("restorer", step, lambda _: {})
        average: KeyframeRestorer = teacher.average  # type: ignore[assignment]
        self.adopt("restorer", average)
        judge: LPIPS = self.trainer.judge
        self.say(f"restorer: {steps} steps; val " + figures(measure(average, self.val, judge)))

    def train_tracker(self, pack: Pack, seconds: float) -> None:
        tracker = self.trainer.model.tracker
        assert tracker is not None
        if seconds > 0:
            begun = tracker if self.has_tracker else None  # a new one begins with the mean of the pack's faces
            self.adopt("tracker", train_tracker(pack, None, seconds / 60, tracker=begun))
        tracker.requires_grad_(False).eval()
        self.say("tracker: val " + figures(judge(tracker, self.val, 2 if self.on_gpu else 8)))

    def look(self, pack: Pack) -> None:
        """The pack's landmarks as the tracker sees them."""
        tracker = self.trainer.model.tracker
        assert tracker is not None
        tracks = run_tracker(tracker, pack)
        seen, scores, keys, key_scores = (torch.from_numpy(np.asarray(x)).to(self.device) for x in tracks)
        pack.see(smoothed(seen, pack), keys, scores > FOUND, key_scores > FOUND)
        self.say(f"tracked {len(seen)} frames: {float((scores > FOUND).float().mean()):.4f} with a face")

    def samplers(self, pack: Pack) -> list[Sampler]:
        """Pictures as they are and, on a GPU, pictures cut and stretched: in turn."""
        drawing = replace(self.trainer.drawing(), coarser=self.args.coarser)
        return [Sampler(pack, replace(drawing, full=full)) for full in ((False, True) if self.on_gpu else (False,))]

    def train_network(self, pack: Pack) -> None:
        """The whole network, until the time is up."""
        args, trainer = self.args, self.trainer
        self.fit(pack)
        if self.train_args.compile:
            trainer.try_compiling(make_batch(pack, self.samplers(pack)[0].plan(0)))
            self.say("compiled")
        trainer.card.open_call(pack, trainer.step)
        plans, before = fixed_plans(self.val, 4), trainer.seconds
        feed = batches(self.samplers(pack), trainer.step)
        begin = saved = shown = time.monotonic()
        shown_step = trainer.step
        while True:
            now = time.monotonic()
            trainer.seconds = before + now - begin
            call = (now - begin) / max(1.0, now - begin + self.left - args.reserve)
            done = call >= 1 or bool(args.plan_seconds and trainer.seconds >= args.plan_seconds)
            if done or now - saved > args.save_every:
                feed = self.save(pack, plans, feed, done)
                saved = time.monotonic()
                if done:
                    break
            progress = trainer.seconds / args.plan_seconds if args.plan_seconds else call
            for _ in range(20 if self.on_gpu else 1):
                trainer.update(feed, progress)
            if time.monotonic() - shown > REPORT:
                values = trainer.read_log()  # waits for the device
                now = time.monotonic()
                rate = (trainer.step - shown_step) * self.train_args.keys * self.train_args.targets / (now - shown)
                shown, shown_step = now, trainer.step
                trainer.card.note(samples_a_second=round(rate, 1))
                row = {"step": trainer.step, "seconds": round(trainer.seconds, 1), "samples_s": round(rate, 1)}
                append_row(args.out / "train.csv", row | {k: f"{v:.5f}" for k, v in values.items()})
                self.say(f"step {trainer.step}, {rate:.0f} samples/s {figures(values)}")
        feed.close()
        print("done", flush=True)

    def save(
        self, pack: Pack, plans: list[Plan], feed: Generator[Batch, None, None], done: bool
    ) -> Generator[Batch, None, None]:  # fmt: skip
        """Evaluate and write all files; gives the batches to go on with, of more people when a share has come."""
        scores = self.trainer.evaluate(self.val, plans)
        self.say(f"step {self.trainer.step}: val {figures(scores)}")
        self.record(scores)
        if done or not self.take_late_shares(pack):
            return feed
        feed.close()
        self.look(pack)
        self.trainer.card.open_call(pack, self.trainer.step)
        return batches(self.samplers(pack), self.trainer.step)

    def fit(self, pack: Pack) -> None:
        """Halve the number of keyframes a step until a step fits into the device's memory."""
        trainer = self.trainer
        while True:
            try:
                terms, _ = trainer.loss(make_batch(pack, self.samplers(pack)[-1].plan(0)))
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
                break
            except torch.cuda.OutOfMemoryError:
                self.train_args.keys //= 2
                if not self.train_args.keys:
                    raise
            terms = {}
            trainer.optimiser.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        trainer.optimiser.zero_grad(set_to_none=True)
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if self.on_gpu else ""
        self.say(f"{self.train_args.keys} x {self.train_args.targets} samples a step{memory}")

    def record(self, scores: dict[str, float]) -> None:
        """Write OUT's files."""
        trainer, out = self.trainer, self.args.out
        weights = out / "network.safetensors"
        save_weights(trainer.ema, weights)
        row = {"step": trainer.step, "seconds": round(trainer.seconds, 1)}
        append_row(out / "val.csv", row | {k: f"{v:.5f}" for k, v in scores.items()})
        trainer.card.note(scores={k: round(v, 5) for k, v in scores.items()}, said=self.said)
        if self.args.keep_state:
            trainer.save(weights)
            return
        trainer.card.write(trainer.step, trainer.seconds)
        trainer.draw_sheet(self.val, out / "sheet.jpg")


def figures(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in values.items())


def smoothed(seen: Tensor, pack: Pack) -> Tensor:
    """Landmarks [N, 70, 2] smoothed in time within their clips."""
    out = seen.clone()
    for _, start, count in pack.clips:
        clip = seen[start : start + count]
        if count >= 5:
            parts = [float(w) * clip[i : count - 4 + i] for i, w in enumerate(SMOOTH)]
            out[start + 2 : start + count - 2] = torch.stack(parts).sum(0)
    return out


def main(argv: list[str] | None = None) -> None:
    args, rest = options(argv)
    Quarter(args, rest).run()


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
