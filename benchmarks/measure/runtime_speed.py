"""Decoding by torch and by ncnn against an earlier commit: frames per second, the first frame, memory, pictures.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.measure.runtime_speed --against /tmp/before [--clips 3] [--frames 100] [--rounds 3]
                                               [--threads 1 2] [--no-fresh] [--out OUT.json]

Run it on an idle machine; it takes about five minutes. Clips are the first of `val` that last 6 s or more, encoded
without the search for tiny frames. Speeds: for each number of threads each build has a process, and they decode clip by
clip in turn; the first decoding, which loads and records, is not counted, and its pictures are compared with the
earlier commit's float32. `times_as_fast` is the earlier commit's time in float32 over each arm's (`torch_fast`: over
its time with `fast`), of the sums over clips of the least times of the rounds; `processor` the same of processor time.
First frame and peak memory (VmHWM of /proc) are those of fresh processes, in turn: from before the imports to the first
RGB picture of the first clip's file, and after all its frames were given one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import ROOT, Worker, clip_list, clips, environment, own_process, write
from benchmarks.measure.decode_speed import ENCODE, ROADS, WORKER
from tfcodec.files import write_json

FRESH = 3
SECONDS = 6

RUNTIMES = ("torch", "ncnn")

ARMS = (("before", "torch"), ("before", "torch_fast"), ("now", "torch"), ("now", "torch_fast"), ("now", "ncnn"))

FRESH_PROCESS = """
import json, sys, time
began = time.perf_counter()
stream, runtime, every = sys.argv[1], sys.argv[2], sys.argv[3] == "every"
import tfcodec
reader = tfcodec.open(stream, runtime=runtime)
picture = reader[0].pixels
first = time.perf_counter() - began
assert picture.shape == (256, 256, 3)
if every:
    for frame in reader: pass
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps({"first_frame_seconds": first, "peak_mb": peak, "torch": "torch" in sys.modules}))
"""


def long_clips() -> list[Path]:
    """Those of `val` that last 6 s or more."""
    from tfcodec.media import open_source

    found = []
    for path in clips():
        with open_source(path, crop="none") as source:
            if source.duration_seconds >= SECONDS:
                found.append(path)
    return found


def speed(before: Path, streams: list[Path], threads: int, rounds: int) -> dict[str, Any]:
    workers = {build: Worker(path, threads, WORKER) for build, path in (("before", before), ("now", ROOT))}
    least: dict[tuple[str, str], np.ndarray] = {}
    errors: dict[str, float] = {}
    count = 0
    for stream in streams:
        drawn = {}
        for build, arm in ARMS:
            out = stream.with_name(f"{build}-{arm}.npy")
            workers[build].do(road=arm, options=ROADS[arm], stream=stream, out=out)
            drawn[build, arm] = np.load(out)
        wanted = drawn["before", "torch"].astype(float)
        count += len(wanted)
        for (build, arm), pictures in drawn.items():
            if build == "now":
                error = max(float(np.square(a - b).mean()) for a, b in zip(wanted, pictures, strict=True))
                errors[arm] = max(errors.get(arm, 1e-6), error)
        job = {"stream": stream, "out": None}
        spent = [
            {at: np.array(workers[at[0]].do(road=at[1], options=ROADS[at[1]], **job)) for at in ARMS}
            for _ in range(rounds)
        ]
        for at in ARMS:
            least[at] = least.get(at, np.zeros(2)) + np.min([turn[at] for turn in spent], 0)
    for worker in workers.values():
        worker.end()
    ratios = {}
    for build, arm in ARMS:
        if build == "now":
            ratios[arm] = least["before", "torch" if arm == "ncnn" else arm] / least[build, arm]
    return {
        "threads": threads,
        "frames_per_second": {f"{build} {arm}": round(count / value[0], 1) for (build, arm), value in least.items()},
        "times_as_fast": {arm: round(float(value[0]), 2) for arm, value in ratios.items()},
        "times_as_fast_processor": {arm: round(float(value[1]), 2) for arm, value in ratios.items()},
        "worst_frame_db_to_before": {arm: round(float(10 * np.log10(255**2 / e)), 1) for arm, e in errors.items()},
    }


def fresh(stream: str, threads: int) -> dict[str, Any]:
    parts: dict[str, list[dict[str, Any]]] = {runtime: [] for runtime in RUNTIMES}
    for _ in range(FRESH):
        for runtime in RUNTIMES:
            parts[runtime].append(own_process(FRESH_PROCESS, threads, stream, runtime, "first"))
    peaks = {runtime: own_process(FRESH_PROCESS, threads, stream, runtime, "every") for runtime in RUNTIMES}
    assert not peaks["ncnn"]["torch"], "torch was imported"
    return {
        "threads": threads,
        "first_frame_seconds": {r: round(median(p["first_frame_seconds"] for p in parts[r]), 2) for r in RUNTIMES},
        "peak_mb": {runtime: round(peaks[runtime]["peak_mb"]) for runtime in RUNTIMES},
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--against", type=Path, required=True, help="checkout of the earlier commit")
    p.add_argument("--clips", type=int, default=3)
    p.add_argument("--frames", type=int, default=100, help="of each clip")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--no-fresh", action="store_true", help="without first frame and memory")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    load = os.getloadavg()[0]
    paths = long_clips()[: args.clips]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / f"{number}.tfc" for number in range(len(paths))]
        for path, stream in zip(paths, streams, strict=True):
            own_process(ENCODE, 2, str(path), str(stream), str(args.frames))
        speeds = [speed(args.against.resolve(), streams, threads, args.rounds) for threads in args.threads]
        starts = [] if args.no_fresh else [fresh(str(streams[0]), threads) for threads in args.threads]
    print(json.dumps({"speed": speeds, "fresh": starts}, indent=1))
    result = {
        "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list(paths),
        "frames": args.frames, "rounds": args.rounds, "speed": speeds, "fresh": starts,
    }  # fmt: skip
    if args.out is None:
        write("runtime_speed", result)
    else:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
