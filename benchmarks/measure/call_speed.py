"""Both ends of a call against an earlier commit: processor time, and how soon a keyframe's first picture is there.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.measure.call_speed --against /tmp/before [--clips 3] [--frames 100] [--seconds 5]
                                            [--rounds 5] [--out OUT.json]

Run it on an idle machine: about four minutes. Each build has a process, which computes with one thread where it is not
a thread of its own, and both take turns, clip by clip and round by round. The source is clips of `val` with their
speech, forwards and backwards; both receivers are given the packets of this build's sender.

- `sender`: frames one by one through `Encoder`, with speech;
- `receiver`: their packets through `Decoder()`, a picture at every tick, one tick after the other;
- `receiver_worker`: through `Decoder(worker=True)` in real time, with the frames that were shown in it.

Times are processor time of the process, all threads, for a second of the call; nothing is counted that happens once a
process. For the worker `full_rate` is what a second would take if every frame of it was shown.

- `keyframe_*`: milliseconds from the keyframe's last packet to the first picture drawn. `at_once`: its frames come
  together with it; `in_a_call`: 40 ms later, as a sender with the default bundle of two frames sends them; `cold`: in a
  process that has imported tfcodec only, from making the `Decoder` on; without `cold` the decoder has been there long
  enough to be ready. `plain`: without a worker, where it makes no difference when frames come. `processor_ms` is the
  processor time that all threads spent meanwhile.

`pictures` compares what both receivers draw by default. Without ``--out`` the result goes to `benchmarks/results`.
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
from benchmarks.measure.encode_speed import spread
from tfcodec.files import write_json
from tfcodec.media import open_source
from tfcodec.metrics.pixels import psnr

FPS = 25
WORKER = """
import json, os, sys, time
began = time.perf_counter()
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
import pickle
import numpy as np, torch, tfcodec
torch.set_num_threads(1)
def call(frames, sound):
    encoder = tfcodec.Encoder(latency="call", audio=True, origin=0)
    begun = time.process_time()
    packets = [encoder.push(frame, sound[640 * i : 640 * i + 640]) for i, frame in enumerate(frames)]
    return [[(bytes(p), p.keyframe) for p in group] for group in packets], time.process_time() - begun
def receive(packets):
    decoder, pictures = tfcodec.Decoder(), []
    begun = time.process_time()
    for group in packets:
        for packet, _ in group:
            decoder.push(packet)
        pictures.append(decoder.pull())
        decoder.pull_audio()
        decoder.feedback()
    return time.process_time() - begun, np.stack(pictures)
def settle():
    # What is made ready in threads is ready when they rest.
    while True:
        spent = time.process_time()
        time.sleep(0.3)
        if time.process_time() - spent < 0.03:
            return
def live(packets, ticks):
    with tfcodec.Decoder(worker=True) as decoder:
        settle()
        begun = time.process_time()
        next_tick = time.perf_counter()
        for tick in range(ticks):
            time.sleep(max(0, next_tick - time.perf_counter()))
            next_tick += 0.04
            if tick < len(packets):
                for packet, _ in packets[tick]:
                    decoder.push(packet)
            decoder.pull()
            decoder.pull_audio()
            decoder.feedback()
        return time.process_time() - begun, decoder.stats.shown
def first(packets, worker, later):
    keyframe = [p for group in packets[:2] for p, key in group if key]
    rest = [p for group in packets[:2] for p, key in group if not key]
    begun, processor = time.perf_counter(), time.process_time()
    with tfcodec.Decoder(worker=worker) as decoder:
        if not cold:
            settle()
            begun, processor = time.perf_counter(), time.process_time()
        for packet in keyframe:
            decoder.push(packet)
        if later:
            time.sleep(later)
        for packet in rest:
            decoder.push(packet)
        while True:
            decoder.pull()
            if decoder.shown is not None:
                return 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - processor)
            if time.perf_counter() - begun > 120:
                sys.exit("no picture comes")
            if worker:
                time.sleep(0.001)
cold = True
for line in sys.stdin:
    job = json.loads(line)
    with open(job["packets"], "rb") as file:
        packets = pickle.load(file) if job["what"] != "sender" else None
    if job["what"] == "sender":
        data = np.load(job["source"])
        packets, spent = call(data["frames"], data["sound"])
        with open(job["packets"], "wb") as file:
            pickle.dump(packets, file)
        said = {"seconds": spent, "bytes": sum(len(p) for group in packets for p, _ in group)}
    elif job["what"] == "receiver":
        spent, pictures = receive(packets)
        np.save(job["pictures"], pictures)
        said = {"seconds": spent}
    elif job["what"] == "receiver_worker":
        spent, shown = live(packets, job["ticks"])
        said = {"seconds": spent, "shown": shown}
    else:
        ms, processor = first(packets, job["worker"], job["later"])
        said = {"ms": ms, "processor_ms": processor}
    cold = False
    answers.write(json.dumps(said) + "\\n")
"""
FIRST: dict[str, tuple[bool, float]] = {
    "worker_at_once": (True, 0.0), "worker_in_a_call": (True, 0.04), "plain": (False, 0.0),
}  # fmt: skip
"""Ways to receive a keyframe: with a worker, and seconds after which its frames come."""


def source(path: Path, count: int, out: Path) -> None:
    """A clip with its speech, forwards and backwards until there are so many frames."""
    with open_source(path, crop="none") as video:
        frames = np.stack(list(itertools.islice(video.frames_iter(), count)))
        sound = np.zeros(0, np.float32) if video.audio is None else video.audio[: 640 * len(frames)]
    sound = np.pad(sound, (0, 640 * len(frames) - len(sound)))
    period = max(1, 2 * len(frames) - 2)
    there_and_back = [abs((i + len(frames) - 1) % period - len(frames) + 1) for i in range(count)]
    there_and_back = [min(i, len(frames) - 1) for i in there_and_back]
    np.savez(out, frames=frames[there_and_back], sound=np.resize(sound, 640 * count))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--against", type=Path, required=True, help="checkout of the earlier commit")
    p.add_argument("--clips", type=int, default=3)
    p.add_argument("--frames", type=int, default=100, help="of each clip")
    p.add_argument("--seconds", type=float, default=5, help="in real time, of each clip and build")
    p.add_argument("--rounds", type=int, default=5, help="of first pictures")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    load = os.getloadavg()[0]
    builds = {"before": args.against.resolve(), "now": ROOT}
    paths = spread(clips(), args.clips)
    ticks = min(round(FPS * args.seconds), args.frames)
    spent: dict[tuple[str, str], list[float]] = {}
    shown: dict[str, int] = dict.fromkeys(builds, 0)
    sizes: dict[str, int] = dict.fromkeys(builds, 0)
    firsts: dict[tuple[str, str], list[dict[str, float]]] = {}
    likeness: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, packets = folder / "clip.npz", {build: folder / build for build in builds}
        for path in packets.values():
            path.touch()
        workers = {build: Worker(path, 1, WORKER) for build, path in builds.items()}
        source(paths[0], 24, clip)
        for build, worker in workers.items():  # what happens once a process
            worker.do(what="sender", packets=packets[build], source=clip)
            worker.do(what="receiver", packets=packets[build], pictures=folder / f"{build}.npy")
        for path in tqdm(paths, unit="clip"):
            source(path, args.frames, clip)
            for build, worker in workers.items():
                said = worker.do(what="sender", packets=packets[build], source=clip)
                spent.setdefault(("sender", build), []).append(said["seconds"])
                sizes[build] += round(said["bytes"])
            for build, worker in workers.items():
                said = worker.do(what="receiver", packets=packets["now"], pictures=folder / f"{build}.npy")
                spent.setdefault(("receiver", build), []).append(said["seconds"])
            likeness += psnr(*(np.load(folder / f"{build}.npy") for build in builds)).tolist()
            for build, worker in workers.items():
                said = worker.do(what="receiver_worker", packets=packets["now"], ticks=ticks)
                spent.setdefault(("receiver_worker", build), []).append(said["seconds"])
                shown[build] += round(said["shown"])
        for _ in tqdm(range(args.rounds), unit="round"):
            for way, (with_worker, later) in FIRST.items():
                for build, worker in workers.items():
                    said = worker.do(what="first", packets=packets["now"], worker=with_worker, later=later)
                    firsts.setdefault((f"keyframe_{way}", build), []).append(said)
        for worker in workers.values():
            worker.end()
        for _ in range(max(1, args.rounds // 2)):
            for way in ("worker_at_once", "plain"):
                with_worker, later = FIRST[way]
                for build, checkout in builds.items():
                    fresh = Worker(checkout, 1, WORKER)
                    said = fresh.do(what="first", packets=packets["now"], worker=with_worker, later=later)
                    firsts.setdefault((f"keyframe_{way}_cold", build), []).append(said)
                    fresh.end()
    result: dict[str, Any] = {
        "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list(paths),
        "frames": args.frames, "ticks_in_real_time": ticks * len(paths),
        "processor_seconds_per_second": processor(spent, shown, args.frames, ticks),
        "first_picture_ms": {
            way: {
                clock: both({build: float(np.median([r[clock] for r in firsts[way, build]])) for build in builds}, 1)
                for clock in ("ms", "processor_ms")
            }
            for way in sorted({way for way, _ in firsts})
        },
        "packets_bytes": sizes,
        "pictures": {"psnr_mean": round(float(np.mean(likeness)), 2), "psnr_worst": round(min(likeness), 2)},
    }  # fmt: skip
    shown_here = ("processor_seconds_per_second", "first_picture_ms", "pictures")
    print(json.dumps({name: result[name] for name in shown_here}, indent=1))
    if args.out is None:
        write("call_speed", result)
    else:
        write_json(args.out, result)


def both(values: dict[str, float], digits: int) -> dict[str, float]:
    rounded = {build: round(value, digits) for build, value in values.items()}
    # A machine that is busy with other things may show nothing in real time.
    return {**rounded, **({"ratio": round(values["now"] / values["before"], 3)} if values["before"] else {})}


def processor(
    spent: dict[tuple[str, str], list[float]], shown: dict[str, int], frames: int, ticks: int
) -> dict[str, dict[str, float]]:
    def each(what: str, count: int) -> dict[str, float]:
        return {build: FPS * float(np.mean(spent[what, build])) / count for build in shown}

    sender, receiver, live = each("sender", frames), each("receiver", frames), each("receiver_worker", ticks)
    clips = len(spent["receiver_worker", "now"])
    shares = {build: shown[build] / (ticks * clips) for build in shown}
    full = {build: live[build] / shares[build] if shares[build] else 0.0 for build in shown}
    return {
        "sender": both(sender, 3), "receiver": both(receiver, 3),
        "both_ends": both({build: sender[build] + receiver[build] for build in shown}, 3),
        "receiver_worker": both(live, 3), "receiver_worker_shown": both(shares, 3),
        "receiver_worker_full_rate": both(full, 3),
        "both_ends_worker_full_rate": both({build: sender[build] + full[build] for build in shown}, 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
