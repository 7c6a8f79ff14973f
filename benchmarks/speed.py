"""Speed of encoder and decoder by threads, of the import, and memory; each measured in a process of its own.

    python benchmarks/speed.py

Run it on an idle machine. The clip is the first of `val` that lasts 6 s or more, else the synthetic demo clip.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import clip_list, clips, environment, write

WORKER = """
import json, resource, sys, time
threads, path, stream = int(sys.argv[1]), sys.argv[2], sys.argv[3]
t = time.perf_counter()
import tfcodec
seconds = {"import": time.perf_counter() - t}
import numpy as np, torch
from tfcodec.media import open_source
torch.set_num_threads(threads)
with open_source(path, crop="none") as clip:
    frames, audio = np.stack(list(clip.frames_iter())), clip.audio
def timed(name, run, rounds=3):
    run()
    best = min(_once(run) for _ in range(rounds))
    seconds[name] = best
def _once(run):
    t = time.perf_counter(); run(); return time.perf_counter() - t
timed("encode", lambda: tfcodec.encode(frames, fps=25, audio=audio, sample_rate=None if audio is None else 16000))
def call():
    encoder = tfcodec.Encoder(latency="call", audio=False)
    for frame in frames: encoder.push(frame)
timed("encode_call", call)
data = open(stream, "rb").read()
timed("decode", lambda: tfcodec.decode(data))
timed("decode_exact", lambda: tfcodec.decode(data, pixels=False))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"frames": len(frames), "seconds": seconds, "peak_mb": peak}))
"""


def measure(threads: int, path: Path, stream: Path) -> dict[str, Any]:
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", WORKER, str(threads), str(path), str(stream)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    seconds, frames = result["seconds"], result["frames"]
    rates = {name: round(frames / value, 1) for name, value in seconds.items() if name != "import"}
    return {"threads": threads, "frames_per_second": rates, "import_seconds": round(seconds["import"], 3),
            "peak_memory_mb": round(result["peak_mb"])}  # fmt: skip


def choose() -> Path:
    import tfcodec

    for path in clips():
        if tfcodec.probe(tfcodec.encode(path, crop="none")).duration_seconds >= 6:
            return path
    sys.exit("no clip of 6 s")


def main() -> None:
    import tfcodec

    load = os.getloadavg()[0]
    path = choose()
    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder) / "clip.tfc"
        tfcodec.encode(path, stream)
        rows = [measure(threads, path, stream) for threads in (1, 2)]
    for row in rows:
        print(row)
    write("speed", {"environment": environment(), "load_before": round(load, 2), "clip_list": clip_list([path]),
                    "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
