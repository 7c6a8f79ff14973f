"""Train variants with equal budgets and compare them: ``python -m tfcodec.training.ablate PACK OUT --minutes M``.

Every variant gets the same training time (or, with --steps, the same number of steps), seed and learning-rate
schedule; options that are not listed below go to the trainer as they are (--keys, --compile, --weights ...). What is
done is not done again, so that the comparison may be cut and gone on with; a variant that was cut goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ..errors import TfcodecError
from ..files import write_atomically, write_json
from ..model.upsampler import Upsampler
from .batch import make_batch
from .card import machine
from .data import Pack
from .evaluate import measure, run_weights
from .options import VARIANTS, parse
from .plans import fixed_plan
from .report import count_flops
from .steps import choose_device
from .train import Clock, Trainer, open_packs, train

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


class Packs:
    """Opened by the first variant, kept for all."""

    def __init__(self) -> None:
        self.both: tuple[Pack, Pack] | None = None

    def open(self, trainer: Trainer) -> tuple[Pack, Pack]:
        if self.both is None:
            self.both = open_packs(trainer)
        return self.both


def run_variant(packs: Packs, pack: Path, out: Path, name: str, options: list[str], until: float) -> bool:
    """Train one variant until its schedule ends (True) or the clock does (False)."""
    left = (until - time.monotonic()) / 60
    args = parse([str(pack), str(out / name), "--variant", name, "--anneal", "--minutes", str(left), *options])
    trainer = Trainer(args)
    clock = Clock(trainer)
    train(trainer, clock, packs.open(trainer))
    return clock.read()[0] >= 1


def frame_flops(model: Upsampler, pack: Pack) -> float:
    """FLOP of one frame, once the keyframes have been encoded."""
    batch = make_batch(pack, fixed_plan(pack, [0], 1))
    key = model.encode_keyframe(batch.key)
    return count_flops(lambda: model(key, batch.tiny, batch.mel, second=key))


def table(scores: dict[str, dict[str, Any]]) -> str:
    """The comparison as a Markdown table."""
    columns = ("psnr", "lpips", "lpips_mouth", "flow_mouth", "flow_mouth_shape", "flow_eyes", "change")
    lines = [
        "| variant | steps | GFLOP | PSNR, dB | LPIPS(alex) | ... of the mouth | flow at the mouth | its shape "
        "| at the eyes | change |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in scores.items():
        values = [f"{entry['scores'][c]:.4f}" if c in entry["scores"] else "-" for c in columns]
        lines.append(f"| {name} | {entry['steps']} | {entry['gflop']:.2f} | " + " | ".join(values) + " |")
    if scores:
        first = next(iter(scores.values()))["scores"]
        still = [f"{first[c + '_key']:.4f}" if c + "_key" in first else "-" for c in columns]
        lines.append("| frozen keyframe | - | - | " + " | ".join(still) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.ablate", description=__doc__, allow_abbrev=False)
    p.add_argument("pack", type=Path)
    p.add_argument("out", type=Path, help="folder of the variants' runs")
    budget = p.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="training time of each variant")
    budget.add_argument("--steps", type=int, help="steps of each variant")
    p.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    p.add_argument("--call-minutes", type=float, default=1e9, help="end this call after so many minutes")
    p.add_argument("--targets-measured", type=int, default=4, help="frames of each val clip to measure on")
    p.add_argument("--results", type=Path, default=RESULTS if RESULTS.is_dir() else None, help="for JSON, table")
    p.add_argument("--name", default="ablation", help="of the JSON and the table")
    args, options = p.parse_known_args(argv)
    results = args.results or args.out
    until = time.monotonic() + 60 * args.call_minutes
    schedule = ["--schedule-steps", str(args.steps)] if args.steps else ["--schedule-minutes", str(args.minutes)]
    args.out.mkdir(parents=True, exist_ok=True)
    packs = Packs()
    for name in args.variants:
        done = args.out / name / "scores.json"
        if done.is_file():
            continue
        if time.monotonic() >= until or not run_variant(packs, args.pack, args.out, name, [*options, *schedule], until):
            print(f"\ntime is over at {name}: call again to go on", file=sys.stderr)
            break
        assert packs.both is not None
        pack = packs.both[1]
        device = pack.device
        model = run_weights(args.out / name).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        card = json.loads((args.out / name / "card.json").read_text())
        entry = {
            "scores": {k: round(v, 5) for k, v in measure(model, pack, args.targets_measured).items()},
            "steps": card["steps"], "gflop": round(frame_flops(model, pack) / 1e9, 3),
            "device_hours": card["device_hours"], "network": card["network"],
            "losses": card["losses"], "options": VARIANTS[name],
            "clips": [{"clip": c, "frames": n} for c, _, n in pack.clips],
        }  # fmt: skip
        write_json(done, entry)
        # The compiler keeps what it has seen alive, and with it a whole network.
        torch._dynamo.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        collect(args, results, options)
    collect(args, results, options)


def collect(args: argparse.Namespace, results: Path, options: list[str]) -> None:
    """Write what has been measured so far."""
    chosen = parse([str(args.pack), str(args.out), *options]).device
    device = choose_device(chosen)
    entries: dict[str, dict[str, Any]] = {}
    for name in VARIANTS:
        path = args.out / name / "scores.json"
        if path.is_file():
            entries[name] = json.loads(path.read_text())
    if not entries:
        return
    clips = next(iter(entries.values()))["clips"]
    result = {
        "date": datetime.date.today().isoformat(), **machine(device),
        "budget": {"steps": args.steps} if args.steps else {"minutes": args.minutes},
        "options": [Path(o).name if os.sep in o else o for o in options],
        "split": "val", "frames_a_clip": args.targets_measured, "clips": clips,
        "clip_list_sha256": hashlib.sha256(json.dumps(clips).encode()).hexdigest()[:16],
        "variants": {name: {k: v for k, v in entry.items() if k != "clips"} for name, entry in entries.items()},
    }  # fmt: skip
    write_json(results / f"{args.name}.json", result)
    write_atomically(results / f"{args.name}.md", table(entries).encode())


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
