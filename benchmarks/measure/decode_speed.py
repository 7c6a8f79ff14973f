"""Speed of decoding against an earlier commit, with and without `fast`, and by ncnn; how near the pictures are.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.measure.decode_speed --against /tmp/before [--frames 100] [--rounds 3] [--threads 1 2]
                                              [--clip CLIP] [--out OUT.json]

Run it on an idle machine; it takes about three minutes. The clip is the first of `val` that lasts 6 s or more, its
first frames, encoded by this build without the search for tiny frames. Each build has a process for each number of
threads, and they take turns, road by road, so that what else the machine does falls on all alike: a round decodes the
clip by torch, by torch with `fast`, and by ncnn where it is installed. The first round, which loads and records, is not
counted. Ratios are medians over rounds, of wall time and of processor time. Pictures are compared with those of the
earlier build in float32, PSNR in dB of the worst frame. Peak memory (VmHWM of /proc) and the time to the first frame
are those of fresh processes, in turn. Without `--out` the result goes to `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import ROOT, Worker, clip_list, environment, own_process, write
from benchmarks.measure.speed import choose
from tfcodec.files import write_json

ROADS: dict[str, dict[str, Any]] = {"torch": {}, "torch_fast": {"fast": True}, "ncnn": {"runtime": "ncnn"}}
FRESH = 3
ENCODE = """
import itertools, sys
import numpy as np
import tfcodec
from tfcodec.media import open_source
clip, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_source(clip, crop="none") as source:
    frames = np.stack(list(itertools.islice(source.frames_iter(), count)))
    audio = None if source.audio is None else source.audio[: 640 * len(frames)]
rate = None if audio is None else 16000
tfcodec.encode(frames, out, fps=25, audio=audio, sample_rate=rate, refine=False)
"""
WORKER = """
import json, os, sys, time
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
import numpy as np, torch, tfcodec
torch.set_num_threads(int(sys.argv[1]))
readers = {}
for line in sys.stdin:
    job = json.loads(line)
    at = job["road"], job["stream"]
    if at not in readers:
        readers[at] = tfcodec.open(job["stream"], **job["options"])
    reader = readers[at]
    reader.seek(0)
    wall, processor = time.perf_counter(), time.process_time()
    drawn = [frame.pixels for frame in reader]
    spent = [time.perf_counter() - wall, time.process_time() - processor]
    if job["out"]:
        np.save(job["out"], np.stack(drawn))
    answers.write(json.dumps(spent) + "\\n")
"""
FIRST = """
import json, sys, time
began = time.perf_counter()
stream, options, every = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "every"
sys.path.insert(0, sys.argv[4])  # before the folder that this was started in
import tfcodec
assert tfcodec.__file__.startswith(sys.argv[4])
reader = tfcodec.open(stream, **options)
picture = reader[0].pixels
first = time.perf_counter() - began
if every:
    for frame in reader: pass
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"first": first, "peak_mb": int(peak.split()[1]) / 1024}))
"""


def worst_db(one: Path, other: Path) -> float:
    errors = [np.square(a.astype(float) - b).mean() for a, b in zip(np.load(one), np.load(other), strict=True)]
    return round(float(10 * np.log10(255**2 / max(*errors, 1e-6))), 1)


def speeds(builds: dict[str, Path], roads: list[str], threads: int, stream: Path, rounds: int, folder: Path) -> Any:
    """A row for each road."""
    workers = {build: Worker(path, threads, WORKER) for build, path in builds.items()}
    spent: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    pictures = {(build, road): folder / f"{build}-{road}.npy" for build in builds for road in roads}
    for turn in range(rounds + 1):
        for road in roads:
            for build, worker in workers.items():
                # Of the second turn: the first begins before the network is recorded.
                out = pictures[build, road] if turn == 1 else None
                found = worker.do(road=road, options=ROADS[road], stream=stream, out=out)
                if turn:
                    spent[build, road].append(found)
    for worker in workers.values():
        worker.end()
    count = len(np.load(pictures["now", roads[0]], mmap_mode="r"))
    rows = []
    for road in roads:
        before, now = (np.array(spent[build, road]) for build in ("before", "now"))
        rows.append({
            "road": road, "threads": threads,
            "frames_per_second": {"before": round(count / median(before[:, 0]), 1),
                                  "now": round(count / median(now[:, 0]), 1)},
            "times_as_fast": round(median(before[:, 0] / now[:, 0]), 2),
            "processor_time_ratio": round(median(now[:, 1] / before[:, 1]), 3),
            "worst_frame_db": {build: worst_db(pictures[build, road], pictures["before", "torch"]) for build in builds},
        })  # fmt: skip
    return rows


def fresh(builds: dict[str, Path], roads: list[str], stream: Path) -> list[dict[str, Any]]:
    """First frame and peak memory on two threads."""
    first: dict[tuple[str, str], list[float]] = defaultdict(list)
    peak: dict[tuple[str, str], float] = {}
    for turn in range(FRESH):
        for road in roads:
            for build, path in builds.items():
                given = (str(stream), json.dumps(ROADS[road]), "every" if not turn else "first", str(path))
                found = own_process(FIRST, 2, *given, PYTHONPATH=str(path))
                first[build, road].append(found["first"])
                peak.setdefault((build, road), found["peak_mb"])
    return [
        {"road": road, "first_frame_seconds": {build: round(median(first[build, road]), 2) for build in builds},
         "peak_mb": {build: round(peak[build, road]) for build in builds}}
        for road in roads
    ]  # fmt: skip


def has_ncnn(builds: dict[str, Path]) -> bool:
    try:
        import ncnn  # noqa: F401
    except ImportError:
        return False
    return all((path / "tfcodec" / "runtime" / "renderer.py").is_file() for path in builds.values())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--against", type=Path, required=True, help="checkout of the earlier commit")
    p.add_argument("--clip", type=Path, help="a video (default: the first of `val` that is long enough)")
    p.add_argument("--frames", type=int, default=100)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    load, clip = os.getloadavg()[0], args.clip or choose()
    builds = {"before": args.against.resolve(), "now": ROOT}
    roads = ["torch", "torch_fast", *(["ncnn"] if has_ncnn(builds) else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = folder / "clip.tfc"
        own_process(ENCODE, 2, str(clip), str(stream), str(args.frames))
        rows = [row for n in args.threads for row in speeds(builds, roads, n, stream, args.rounds, folder)]
        starts = fresh(builds, roads, stream)
    result = {
        "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list([clip]),
        "frames": args.frames, "rounds": args.rounds, "speed": rows, "fresh": starts,
    }  # fmt: skip
    print(json.dumps({name: result[name] for name in ("speed", "fresh")}, indent=1))
    if args.out is None:
        write("decode_speed", result)
    else:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
