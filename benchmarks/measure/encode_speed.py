"""Speed of encoding with search, against an earlier commit, at equal quality; and of both ends of a call.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.measure.encode_speed --against /tmp/before [--data DATA/train] [--clips 12] [--frames 150]
                                              [--rounds 1] [--threads 1 2] [--call] [--out OUT.json]

Run it on an idle machine: four to five minutes. Each build has a process for each number of threads, and they take
turns, clip by clip, so that what else the machine does falls on all alike. Times are from pictures in memory to the
stream, the least of the rounds, the first encoding of each process not counted. `processor` is the processor time of
the process and its threads. Both streams are decoded by this build, and every fifth frame is judged. With `--call` the
sender's and the receiver's processor time for a second of video is measured, too: frames one by one through `Encoder`
and `Decoder`, which draws when it is asked. Without `--out` the result goes to `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import ROOT, Worker, clip_list, clips, environment, write
from tfcodec.codec.file.decoder import probe_bytes, read_exact, render_exact
from tfcodec.files import write_json
from tfcodec.media import open_source
from tfcodec.metrics.lpips import LPIPS
from tfcodec.metrics.pixels import psnr

LOOK_EVERY = 5
WORKER = """
import json, os, sys, time
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
import numpy as np, torch, tfcodec
torch.set_num_threads(int(sys.argv[1]))
def file(frames, out):
    data = tfcodec.encode(frames, fps=25, crop="none")
    if out is not None:
        open(out, "wb").write(data)
def timed(run, *args):
    wall, processor = time.perf_counter(), time.process_time()
    result = run(*args)
    return [time.perf_counter() - wall, time.process_time() - processor], result
def sender(frames):
    encoder = tfcodec.Encoder(latency="call", audio=False, origin=0)
    return [encoder.push(frame) for frame in frames]
def receiver(groups):
    decoder = tfcodec.Decoder()
    for group in groups:
        for packet in group:
            decoder.push(bytes(packet))
        decoder.pull()
for line in sys.stdin:
    job = json.loads(line)
    frames = np.load(job["frames"])
    if job["what"] == "file":
        spent = {"file": timed(file, frames, job["out"])[0]}
    else:
        sent, packets = timed(sender, frames)
        spent = {"sender": sent, "receiver": timed(receiver, packets)[0]}
    answers.write(json.dumps(spent) + "\\n")
"""
Spent = dict[tuple[str, int, str, int], list[float]]
"""Seconds [wall, processor], the least of the rounds, by build, threads, what, and number of the clip."""


def judged(judge: LPIPS, data: bytes, frames: np.ndarray) -> dict[str, float]:
    import torch

    at = np.arange(2, len(frames), LOOK_EVERY)
    drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
    both = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (drawn, frames[at]))
    with torch.inference_mode():
        lpips = float(judge(*both).mean())
    return {"lpips": lpips, "psnr": float(psnr(drawn, frames[at]).mean()), "bytes": probe_bytes(data).bytes["total"]}


def spread(paths: list[Path], count: int) -> list[Path]:
    """So many, evenly out of the list."""
    count = min(count, len(paths))
    return [paths[int((i + 0.5) * len(paths) / count)] for i in range(count)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--against", type=Path, required=True, help="checkout of the earlier commit")
    p.add_argument("--data", type=Path, help="a folder of clips (default: `val`)")
    p.add_argument("--clips", type=int, default=12)
    p.add_argument("--frames", type=int, default=150, help="of each clip")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--call", action="store_true", help="both ends of a call, too")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    load = os.getloadavg()[0]
    paths = spread(clips() if args.data is None else sorted(args.data.glob("*.mp4")), args.clips)
    builds = {"before": args.against.resolve(), "now": ROOT}
    workers = {(build, n): Worker(path, n, WORKER) for n in args.threads for build, path in builds.items()}
    spent: Spent = {}
    qualities: dict[str, list[dict[str, float]]] = {build: [] for build in builds}
    judge, counts = LPIPS("alex"), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm = folder / "warm.npy"
        for number, path in enumerate(tqdm(paths, unit="clip")):
            with open_source(path, crop="none") as source:
                frames = np.stack(list(itertools.islice(source.frames_iter(), args.frames)))
            counts.append(len(frames))
            if not number:
                np.save(warm, frames[:12])
                for worker in workers.values():
                    worker.do(what="file", frames=warm, out=None)
            np.save(folder / "frames.npy", frames)
            for whole in range(args.rounds):
                for (build, n), worker in workers.items():
                    out = folder / f"{build}.tfc" if not whole and n == args.threads[0] else None
                    done = worker.do(what="file", frames=folder / "frames.npy", out=out)
                    if args.call and n == args.threads[0]:
                        done |= worker.do(what="call", frames=folder / "frames.npy")
                    for what, seconds in done.items():
                        at = (build, n, what, number)
                        spent[at] = [min(pair) for pair in zip(seconds, spent.get(at, seconds), strict=True)]
            for build in builds:
                qualities[build].append(judged(judge, (folder / f"{build}.tfc").read_bytes(), frames))
        for worker in workers.values():
            worker.end()
    result: dict[str, Any] = {
        "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list(paths), "frames": counts,
        "rounds": args.rounds, "speed": speeds(spent, counts), "quality": compared(qualities),
    }  # fmt: skip
    print(json.dumps({name: result[name] for name in ("speed", "quality")}, indent=1))
    if args.out is None:
        write("encode_speed", result)
    else:
        write_json(args.out, result)


def speeds(spent: Spent, counts: list[int]) -> list[dict[str, Any]]:
    rows = []
    for what, n in sorted({(what, n) for _, n, what, _ in spent}):
        total = {
            build: np.sum([s for (b, m, w, _), s in spent.items() if (b, m, w) == (build, n, what)], 0)
            for build in ("before", "now")
        }
        rows.append({
            "what": what, "threads": n,
            "frames_per_second": {build: round(sum(counts) / t[0], 1) for build, t in total.items()},
            "processor_seconds_per_second": {build: round(25 * t[1] / sum(counts), 3) for build, t in total.items()},
            "times_as_fast": round(total["before"][0] / total["now"][0], 3),
            "processor_time_ratio": round(total["now"][1] / total["before"][1], 3),
        })  # fmt: skip
    return rows


def compared(qualities: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    means = {
        build: {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        for build, rows in qualities.items()
    }
    before, now = means["before"], means["now"]
    return {
        **{build: {name: round(value, 5) for name, value in mean.items()} for build, mean in means.items()},
        "lpips_ratio": round(now["lpips"] / before["lpips"], 5), "psnr_gain": round(now["psnr"] - before["psnr"], 4),
        "bytes_ratio": round(now["bytes"] / before["bytes"], 5),
    }  # fmt: skip


if __name__ == "__main__":
    main()
