"""`tfcodec batch` over many short clips: are the cores busy, how much memory, what does a killed worker cost.

    python -m benchmarks.measure.batch_scale [--clips 200] [--seconds 0.8] [--jobs 2] [--out OUT.json]

Run it on an idle machine: five to six minutes on two cores, of which the batch takes about half.
The clips are drawn here: a face-like figure that sways and talks, 256x256, with a voice-like sound. They are encoded
with the defaults (search by the network, motion, speech). When a third of them are done, a worker is killed by its
process id, with SIGKILL. Then:

- `running_share`: the part of the cores' time for which workers were running, all their threads (Linux, stat): an
  encoder codes a keyframe in one thread while another follows the face;
- `ready_share`: that, and the part for which their main threads were ready to run (schedstat). It is near 1 if the
  batch never leaves a worker without work, however busy the machine is with other things;
- memory: the most that any worker held;
- `lost`, `doubled`: clips without a row and a stream of their own; `same_bytes`: some streams against `tfcodec.encode`;
- a second run, which has nothing to do;
- two processes of one thread against one of two, on the same few clips, alternately.

Without ``--out`` the result goes to `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import ROOT, environment, write
from tfcodec.batch.run import Report
from tfcodec.files import write_json
from tfcodec.media import write_video

EVERY = 0.1  # seconds between looks at the workers
CHECKED = 3  # streams compared with those of encode


def draw(number: int, seconds: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A figure that sways and talks: pictures [T, 256, 256, 3] at 25 a second, sound at 16 kHz."""
    rng = np.random.default_rng(number)
    count = round(25 * seconds)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    wall = np.stack([110 + 40 * np.sin(x / w + w) for w in rng.uniform(17, 40, 3)], -1).astype(np.float32)
    skin, phase = rng.uniform(120, 220, 3), rng.uniform(0, 6, 3)
    frames = np.empty((count, 256, 256, 3), np.uint8)
    opening = np.clip(np.sin(np.arange(count) * 0.9 + phase[0]), 0, 1)
    for t in range(count):
        cx, cy = 128 + 14 * np.sin(t / 9 + phase[1]), 130 + 5 * np.cos(t / 7 + phase[2])
        picture = wall
        for px, py, rx, ry, colour in (
            (cx, cy, 62, 82, skin),
            (cx - 24, cy - 20, 10, 6, (250, 250, 250)), (cx + 24, cy - 20, 10, 6, (250, 250, 250)),
            (cx - 24, cy - 20, 4, 4, (40, 30, 30)), (cx + 24, cy - 20, 4, 4, (40, 30, 30)),
            (cx, cy + 38, 20, 4 + 12 * opening[t], (120, 40, 45)),
        ):  # fmt: skip
            cover = np.clip((1 - ((x - px) / rx) ** 2 - ((y - py) / ry) ** 2) * min(rx, ry) / 2, 0, 1)[..., None]
            picture = picture * (1 - cover) + np.asarray(colour, np.float32) * cover
        frames[t] = np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255)
    at = np.arange(count * 640) / 16000
    voice = sum(np.sin(2 * np.pi * rng.uniform(110, 160) * k * at) / k for k in range(1, 12))
    return frames, (0.15 * np.interp(at, np.arange(count) / 25, opening) * voice).astype(np.float32)


def make(number: int, seconds: float, path: Path) -> None:
    frames, sound = draw(number, seconds)
    write_video(path, frames, 25, sound, 16000)


def children() -> set[int]:
    """Process ids of this process' children."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has gone meanwhile
            if parent == os.getpid():
                found.add(int(entry.name))
    return found


class Watching:
    """Looks at the workers while a batch runs, and kills one of them when it is told to."""

    def __init__(self, clips: int) -> None:
        self.running: dict[int, float] = {}
        self.waiting: dict[int, float] = {}
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self.killed: int | None = None
        self._clips = clips
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def progress(self, done: float, whole: float, report: Report) -> None:
        if self.killed is None and report.made >= self._clips / 3 and (workers := sorted(children())):
            self.killed = workers[0]
            os.kill(self.killed, signal.SIGKILL)

    def _look(self) -> None:
        while not self._end.wait(EVERY):
            now = time.monotonic()
            for worker in children():
                try:
                    user, system = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[11:13]
                    waiting = Path(f"/proc/{worker}/schedstat").read_text().split()[1]
                except (OSError, ValueError, IndexError):
                    continue
                self.running[worker] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
                self.waiting[worker] = int(waiting) / 1e9
                self.first.setdefault(worker, now)
                self.last[worker] = now


def busy(folder: Path, out: Path, clips: int, jobs: int) -> dict[str, Any]:
    """A batch with a worker killed in the middle, and a second run."""
    with Watching(clips) as watching:
        report = tfcodec.encode_batch(folder, out, jobs=jobs, progress=watching.progress)
    whole = report.wall_seconds * jobs
    running, waiting = sum(watching.running.values()), sum(watching.waiting.values())
    rows = [json.loads(line) for line in report.manifest.read_text().splitlines()]
    streams = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.tfc"))
    checked = [row for row in rows if row["status"] == "done"][:: max(1, clips // CHECKED)][:CHECKED]
    seconds = sum(row["duration_seconds"] for row in rows if row["status"] == "done")
    again = tfcodec.encode_batch(folder, out, jobs=jobs)
    torch.set_num_threads(1)  # as in the workers
    return {
        "wall_seconds": round(report.wall_seconds, 1), "made": report.made, "failed": report.failed,
        "video_seconds": round(seconds, 2), "running_share": round(running / whole, 4),
        "ready_share": round((running + waiting) / whole, 4),
        "cpu_seconds": [row["cpu_seconds"] for row in sorted(rows, key=lambda row: row["finished"])],
        "cpu_seconds_per_video_second": round(sum(row["cpu_seconds"] for row in rows) / seconds, 3),
        "cpu_seconds_per_video_second_median_clip": round(
            float(np.median([row["cpu_seconds"] / row["duration_seconds"] for row in rows])), 3
        ),
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows),
        "worker_killed": watching.killed is not None, "workers": len(watching.running),
        "done_again": sum(row.get("attempts", 1) > 1 for row in rows),
        "lost": clips - len(streams), "doubled": len(rows) - len({row["name"] for row in rows}),
        "left_over": len(list(out.rglob(".*"))),
        "same_bytes": [(out / row["out"]).read_bytes() == tfcodec.encode(row["source"]) for row in checked],
        "second_run": {"made": again.made, "there": again.there, "wall_seconds": round(again.wall_seconds, 3)},
    }  # fmt: skip


ONE = (
    "import sys, time, tfcodec\n"
    "for path in sys.argv[1:]: tfcodec.encode(path)\n"
    "print(time.process_time())"
)


def together(paths: list[Path], processes: int, threads: int) -> dict[str, float]:
    """Some clips by so many processes of so many threads each, started at once: seconds, and processor seconds."""
    begun = time.monotonic()
    environ = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    shares = [[str(path) for path in paths[n::processes]] for n in range(processes)]
    started = [
        subprocess.Popen([sys.executable, "-c", ONE, *share], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
        for share in shares
    ]
    cpu = sum(float(process.communicate()[0]) for process in started)
    return {"wall_seconds": round(time.monotonic() - begun, 2), "cpu_seconds": round(cpu, 2)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compared", type=int, default=8, help="clips for two processes against one (0: leave it out)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
            made = [pool.submit(make, n, args.seconds, folder / f"{n:04}.mp4") for n in range(args.clips)]
            for one in made:
                one.result()
        paths = sorted(folder.iterdir())[: args.compared]
        arms: dict[str, list[dict[str, float]]] = {"two_of_one_thread": [], "one_of_two_threads": []}
        for _ in range(2 if paths else 0):
            arms["two_of_one_thread"].append(together(paths, 2, 1))
            arms["one_of_two_threads"].append(together(paths, 1, 2))
        result = busy(folder, Path(name) / "out", args.clips, args.jobs)
    found = {
        "environment": environment(), "load_before": round(load, 2), "nice": os.nice(0), "clips": args.clips,
        "clip_seconds": args.seconds, "jobs": args.jobs, **result, "processes_against_threads": arms,
    }  # fmt: skip
    if args.out is None:
        write("batch_scale", found)
    else:
        write_json(args.out, found)


if __name__ == "__main__":
    main()
