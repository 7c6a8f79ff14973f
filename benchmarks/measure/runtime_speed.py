"""ncnn against torch in decoding: frames per second, the first frame, memory, pictures; in one run.

    python -m benchmarks.measure.runtime_speed

Run it on an idle machine; it takes about three minutes. The clip is the first of `val` that lasts 6 s or more, its
first 100 frames, encoded without the search for tiny frames. Speeds: one process for each number of threads decodes
the clip by both runtimes in turn, torch from its recorded graph; the ratio is the median over rounds. First frame and
peak memory (ru_maxrss) are those of fresh processes, in turn: from before the imports to the first RGB picture of the
file, and after all its frames were given one by one.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import clip_list, environment, own_process, write
from benchmarks.measure.speed import choose

FRAMES = 100
THREADS = (1, 2)
ROUNDS = 3
FRESH = 3
RUNTIMES = ("torch", "ncnn")

ENCODE = f"""
import sys
import numpy as np
import tfcodec
from tfcodec.media import open_source
with open_source(sys.argv[1], crop="none") as clip:
    frames = np.stack([frame for _, frame in zip(range({FRAMES}), clip.frames_iter())])
    audio = None if clip.audio is None else clip.audio[: 640 * len(frames)]
rate = None if audio is None else 16000
tfcodec.encode(frames, sys.argv[2], fps=25, audio=audio, sample_rate=rate, refine=False)
"""

SPEED = """
import json, sys, time
import numpy as np
import torch
import tfcodec
stream, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
arms = {"torch": {}, "torch_fast": {"fast": True}, "ncnn": {"runtime": "ncnn"}}
readers = {name: tfcodec.open(stream, **options) for name, options in arms.items()}
count = len(readers["torch"])
pictures, seconds = {}, {name: [] for name in arms}
for turn in range(rounds + 1):  # the first loads and records
    for name, reader in readers.items():
        reader.seek(0)
        began = time.perf_counter()
        drawn = [frame.pixels for frame in reader]
        if turn:
            seconds[name].append(time.perf_counter() - began)
        else:
            pictures[name] = drawn
def worst(name):
    errors = [np.square(a.astype(float) - b).mean() for a, b in zip(pictures["torch"], pictures[name])]
    return round(float(10 * np.log10(255**2 / max(max(errors), 1e-6))), 1)
print(json.dumps({"frames": count, "seconds": seconds, "worst_db": {n: worst(n) for n in ("torch_fast", "ncnn")}}))
"""

FRESH_PROCESS = """
import json, resource, sys, time
began = time.perf_counter()
stream, runtime, every = sys.argv[1], sys.argv[2], sys.argv[3] == "every"
import tfcodec
reader = tfcodec.open(stream, runtime=runtime)
picture = reader[0].pixels
first = time.perf_counter() - began
assert picture.shape == (256, 256, 3)
if every:
    for frame in reader: pass
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"first_frame_seconds": first, "peak_mb": peak, "torch": "torch" in sys.modules}))
"""


def speed(stream: str, threads: int) -> dict[str, Any]:
    found = own_process(SPEED, threads, stream, str(threads), str(ROUNDS))
    seconds: dict[str, list[float]] = found["seconds"]
    return {
        "threads": threads,
        "frames_per_second": {name: round(found["frames"] / median(value), 1) for name, value in seconds.items()},
        "ncnn_over_torch": round(median(a / b for a, b in zip(seconds["torch"], seconds["ncnn"], strict=True)), 2),
        "worst_frame_db_to_torch": found["worst_db"],
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
    load, clip = os.getloadavg()[0], choose()
    with tempfile.TemporaryDirectory() as folder:
        stream = str(Path(folder) / "clip.tfc")
        own_process(ENCODE, 2, str(clip), stream)
        speeds = [speed(stream, threads) for threads in THREADS]
        starts = [fresh(stream, threads) for threads in THREADS]
    print(json.dumps({"speed": speeds, "fresh": starts}, indent=1))
    write("runtime_speed", {
        "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list([clip]),
        "frames": FRAMES, "speed": speeds, "fresh": starts,
    })  # fmt: skip


if __name__ == "__main__":
    main()
