"""Speed of decoding against an earlier commit: by torch, by torch with `fast`, by ncnn; first frame, memory, pictures.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.measure.decode_speed --against /tmp/before [--clips 2] [--frames 100] [--rounds 3]
                                              [--threads 1 2] [--only-fresh] [--out OUT.json]

Run it on an idle machine; it takes about four minutes a clip. Clips are the first of `val` that last 6 s or more, their
first frames, encoded by the earlier build, whose network both have, without the search for tiny frames. Each build has
a process for each number of threads, and they take turns, clip by clip and road by road, so that what else the machine
does falls on all alike. The first decoding, which loads and records, is not counted, and its pictures are not taken.
`times_as_fast` is the earlier build's time over this one's by the same road (`ncnn`: over the earlier build's by torch
in float32), of the sums over clips of the least times of the rounds; `processor_time_ratio` is the inverse of the same
of processor time. `worst_frame_db` compares with the earlier build's pictures in float32. First frame and peak memory
(VmHWM of /proc) are those of fresh processes, in turn: from before the imports to the first RGB picture of the first
clip's file, and after all its frames were given one by one. `--only-fresh` measures these two again and keeps the rest
of the result.
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

from benchmarks.common import RESULTS, ROOT, Worker, clip_list, environment, long_clips, own_process
from tfcodec.files import write_json

ROADS: dict[str, dict[str, Any]] = {"torch": {}, "torch_fast": {"fast": True}, "ncnn": {"runtime": "ncnn"}}
# What an earlier build may not have is compared with its torch.
ARMS = (("before", "torch"), ("before", "torch_fast"), ("now", "torch"), ("now", "torch_fast"), ("now", "ncnn"))
FRESH = 3
SECONDS = 6
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
found = {"first": first, "peak_mb": int(peak.split()[1]) / 1024, "torch": "torch" in sys.modules}
print(json.dumps(found))
"""


def worst_db(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR of the worst frame, dB; both `[T, 256, 256, 3] uint8`."""
    errors = [np.square(a.astype(float) - b).mean() for a, b in zip(one, other, strict=True)]
    return round(float(10 * np.log10(255**2 / max(*errors, 1e-6))), 1)


def speeds(builds: dict[str, Path], threads: int, streams: list[Path], rounds: int) -> list[dict[str, Any]]:
    """A row for each road."""
    workers = {build: Worker(path, threads, WORKER) for build, path in builds.items()}
    spent: dict[tuple[str, str], np.ndarray] = {arm: np.zeros(2) for arm in ARMS}
    worst: dict[tuple[str, str], list[float]] = defaultdict(list)
    count = 0
    for stream in streams:
        times: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
        for turn in range(rounds + 1):
            for build, road in ARMS:
                out = stream.with_name(f"{build}-{road}.npy") if turn == 1 else None
                found = workers[build].do(road=road, options=ROADS[road], stream=stream, out=out)
                if turn:
                    times[build, road].append(found)
        wanted = np.load(stream.with_name("before-torch.npy"))
        count += len(wanted)
        for build, road in ARMS:
            spent[build, road] += np.min(times[build, road], 0)
            worst[build, road].append(worst_db(np.load(stream.with_name(f"{build}-{road}.npy")), wanted))
    for worker in workers.values():
        worker.end()
    rows = []
    for road in ROADS:
        before, now = spent["before", road if ("before", road) in ARMS else "torch"], spent["now", road]
        arms = [arm for arm in ARMS if arm[1] == road]
        rows.append({
            "road": road, "threads": threads,
            "frames_per_second": {arm[0]: round(count / spent[arm][0], 1) for arm in arms},
            "times_as_fast": round(before[0] / now[0], 2),
            "processor_time_ratio": round(now[1] / before[1], 3),
            "worst_frame_db": {arm[0]: min(worst[arm]) for arm in arms},
        })  # fmt: skip
    return rows


def fresh(builds: dict[str, Path], threads: int, stream: Path) -> list[dict[str, Any]]:
    """First frame and peak memory of each road; `fast` has those of torch."""
    arms = [arm for arm in ARMS if arm[1] != "torch_fast"]
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for turn in range(FRESH):
        for build, road in arms:
            path = str(builds[build])
            given = (str(stream), json.dumps(ROADS[road]), "every" if not turn else "first", path)
            found[build, road].append(own_process(FIRST, threads, *given, PYTHONPATH=path))
    assert not found["now", "ncnn"][0]["torch"], "torch was imported"
    return [
        {"build": build, "road": road, "threads": threads,
         "first_frame_seconds": round(median(part["first"] for part in found[build, road]), 2),
         "peak_mb": round(found[build, road][0]["peak_mb"])}
        for build, road in arms
    ]  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--against", type=Path, required=True, help="checkout of the earlier commit")
    p.add_argument("--clips", type=int, default=2)
    p.add_argument("--frames", type=int, default=100, help="of each clip")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--only-fresh", action="store_true", help="first frame and memory again, the rest as it was")
    p.add_argument("--out", type=Path, default=RESULTS / "decode_speed.json")
    args = p.parse_args()
    load, paths = os.getloadavg()[0], long_clips(SECONDS, args.clips)
    builds = {"before": args.against.resolve(), "now": ROOT}
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.only_fresh else {}
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / f"{number}.tfc" for number in range(len(paths))]
        for path, stream in zip(paths, streams, strict=True):
            earlier = {"PYTHONPATH": str(builds["before"]), "PYTHONSAFEPATH": "1"}
            own_process(ENCODE, 2, str(path), str(stream), str(args.frames), **earlier)
        if not args.only_fresh:
            result = {
                "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list(paths),
                "frames": args.frames, "rounds": args.rounds,
                "speed": [row for n in args.threads for row in speeds(builds, n, streams, args.rounds)],
            }  # fmt: skip
        result["fresh"] = [row for n in args.threads for row in fresh(builds, n, streams[0])]
    print(json.dumps({name: result[name] for name in ("speed", "fresh")}, indent=1))
    write_json(args.out, result)


if __name__ == "__main__":
    main()
