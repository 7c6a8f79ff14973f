"""The light network against the full one, in Python: how many times as fast it draws.

    python -m benchmarks.measure.light_speed [ROUNDS] [-o JSON]

In one process both draw the same frames in turn, batch after batch, so that what else the machine does slows both. The
clip is the first of `val`, its stream encoded without refining. Medians over the rounds, and the best round of each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tfcodec
from benchmarks.common import RESULTS, clip_list, clips, environment
from tfcodec.codec.file.decoder import read_exact
from tfcodec.files import write_json
from tfcodec.model.inputs import MEL_BANDS, MEL_COLUMNS
from tfcodec.model.registry import default_model, stand_in
from tfcodec.model.renderer import BATCH, Renderer, tiny_windows

THREADS = (1, 2)


def drawer(name: str, stream: bytes, fast: bool) -> Callable[[], object]:
    """Draws the stream's first frames with the full network or a stand-in of it."""
    parts = read_exact(stream)
    renderer = Renderer(stand_in(default_model(), name), fast=fast)
    renderer.set_keyframe(parts.keyframes[0][1])
    windows = tiny_windows(parts.tiny, np.arange(BATCH))
    silence = np.full((BATCH, MEL_COLUMNS, MEL_BANDS), -1, np.float32)
    motion = parts.layers["motion"][:BATCH]
    renderer.prepare()
    return lambda: renderer.render(windows, silence, motion=motion)


def measure(stream: bytes, threads: int, fast: bool, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    draw = {name: drawer(name, stream, fast) for name in ("full", "light")}
    seconds: dict[str, list[float]] = {name: [] for name in draw}
    for at in range(rounds + 1):
        for name, run in draw.items():
            begin = time.perf_counter()
            run()
            if at:  # the first is to warm up
                seconds[name].append((time.perf_counter() - begin) / BATCH)
    best, middle = ({n: f(s) for n, s in seconds.items()} for f in (min, statistics.median))
    return {
        "threads": threads, "fast": fast, "times_as_fast": round(middle["full"] / middle["light"], 3),
        "times_as_fast_best_rounds": round(best["full"] / best["light"], 3),
        "frames_a_second_best_rounds": {name: round(1 / s, 1) for name, s in best.items()},
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rounds", type=int, nargs="?", default=20)
    p.add_argument("-o", "--output", type=Path, default=RESULTS / "light_speed.json")
    args = p.parse_args(argv)
    path = clips()[0]
    stream = tfcodec.encode(path, refine=False)
    rows = []
    for fast, threads in [(fast, threads) for fast in (False, True) for threads in reversed(THREADS)]:
        rows.append(measure(stream, threads, fast, args.rounds))
        print(rows[-1], flush=True)
    networks = {name: stand_in(default_model(), name).file for name in ("full", "light")}
    write_json(args.output, {
        "environment": environment(), "clip_list": clip_list([path]), "rounds": args.rounds, "frames_a_round": BATCH,
        "networks": networks, "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
