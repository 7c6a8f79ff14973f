"""Two hundred odd inputs, generated from a seed: what becomes of them, how long it takes, and in how much memory.

    python -m benchmarks.measure.odd_inputs

Half are films of random make: container, codec, rate, size, pauses, rotation, number of tracks, layout and rate of
sound. The others are films, or kinds of `tests/inputs/`, with damage: cut short, bytes flipped, blocks overwritten,
moved or repeated, the beginning gone. Each is encoded in a process of its own, without the network. What is counted:
errors that are no `TfcodecError`, processes that died, outputs that are half there or left over, and, of films without
damage, durations that are not those of the film.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, environment, write

sys.path.insert(0, str(ROOT / "tests"))

SEED = 17
COUNT = 200
MAX_SECONDS = 60.0
"""For one input, beyond which it counts as stuck."""
FILMS = (
    ("mp4", "libx264", "aac"), ("mp4", "mpeg4", "aac"), ("mov", "libx264", "pcm_s16le"), ("mkv", "libx264", "flac"),
    ("mkv", "ffv1", "pcm_s16le"), ("avi", "libx264", "pcm_s16le"), ("avi", "mpeg4", "pcm_s16le"),
    ("wmv", "wmv2", "pcm_s16le"), ("webm", "libvpx", "libopus"), ("ts", "libx264", "aac"),
    ("mov", "qtrle", "pcm_s16le"), ("mpg", "mpeg2video", "mp2"),
)  # fmt: skip
LAYOUTS = {"mono": 1, "stereo": 2, "3.0": 3, "5.1": 6, "7.1": 8}
FORMS = {"ffv1": "yuv420p10le", "qtrle": "rgb24"}

Film = tuple[Path, float, str]
"""Where it lies, its duration in seconds, what it is."""


def film(rng: np.random.Generator, folder: Path) -> Film:
    """A film of random make."""
    from inputs.make import Sound, Video, shades, tone, write

    container, codec, sound = FILMS[int(rng.integers(len(FILMS)))]
    rate = int(rng.choice([24, 25, 30, 50, 60] if codec == "mpeg2video" else [10, 15, 24, 25, 30, 50, 60]))
    width, height = (2 * int(side) for side in rng.integers(16, 80, 2))
    count = int(rng.integers(1, 2 * rate))
    options: dict[str, str] = {}
    if codec in ("libx264", "mpeg4", "mpeg2video"):
        options = {"bf": str(rng.integers(0, 3)), "g": str(rng.integers(1, 60))}
    pictures = shades(count, width, height, rate)
    paused = container in ("mkv", "mp4", "mov") and codec == "libx264" and rng.random() < 0.4
    times = [i / rate + (1.5 if paused and i >= count // 2 else 0) for i in range(count)]
    tracks: list[Any] = [
        Video(
            pictures, rate, codec, FORMS.get(codec, "yuv420p"), times if paused else None, options,
            rotation=int(rng.choice([0, 90, 180, 270, 30])) if container in ("mp4", "mov") else None,
        )
    ]  # fmt: skip
    length = times[-1] + 1 / rate
    for _ in range(int(rng.integers(0, 3 if container in ("mkv", "mp4") else 2))):
        layout = str(rng.choice(list(LAYOUTS)[: 2 if sound in ("mp2", "libopus") else None]))
        hertz = 48_000 if sound in ("libopus", "aac", "mp2") else int(rng.choice([8000, 16_000, 44_100, 48_000]))
        samples = np.stack([rng.normal(0, 1) * tone(440, length, hertz, 0.2) for _ in range(LAYOUTS[layout])])
        tracks.append(Sound(samples, layout, sound, hertz))
    path = write(folder / f"a.{container}", *tracks)
    return path, length, f"{codec} in {container}, {width}x{height} at {rate}, {len(tracks) - 1} sound tracks"


def damaged(rng: np.random.Generator, folder: Path) -> Film:
    """A film, or one of the kinds of `tests/inputs/`, and damage."""
    from inputs.kinds import KINDS

    kind = KINDS[int(rng.integers(len(KINDS)))]
    path, what = (kind.make(folder), kind.name) if rng.random() < 0.5 else (lambda f: (f[0], f[2]))(film(rng, folder))
    if not path.is_file():
        return path, float("nan"), what
    data = bytearray(path.read_bytes())
    way = str(rng.choice(["cut", "flips", "block", "moved", "repeated", "headless"]))
    size = max(1, len(data))
    at, length = int(rng.integers(size)), int(rng.integers(1, max(2, size // 8)))
    if way == "cut":
        del data[at:]
    elif way == "flips":
        for place in rng.integers(0, size, int(rng.integers(1, 40))):
            if place < len(data):
                data[place] ^= 1 << int(rng.integers(8))
    elif way == "block":
        data[at : at + length] = rng.integers(0, 256, len(data[at : at + length]), np.uint8).tobytes()
    elif way == "moved":
        data = data[at:] + data[:at]
    elif way == "repeated":
        data[at:at] = data[at : at + length]
    else:
        del data[: min(at, 4096)]
    path.write_bytes(bytes(data))
    return path, float("nan"), f"{what}, {way}"


def tried(make: Callable[[np.random.Generator, Path], Film], seed: int, answers: Connection) -> None:
    """Make an input and encode it; sends what became of it."""
    import av

    import tfcodec

    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, length, what = make(np.random.default_rng([SEED, seed]), folder)
        answers.send({"what": what})
        out = folder / "out"
        out.mkdir()
        began = time.perf_counter()
        answer: dict[str, Any] = {"what": what}
        try:
            info = tfcodec.encode(path, out / "a.tfc", crop="none", refine=False, motion=False)
            answer |= {"became": "coded", "warnings": list(info.warnings)}
            if abs(info.duration_seconds - length) > 0.1:
                answer["duration"] = [round(length, 2), info.duration_seconds]
        except tfcodec.TfcodecError as error:
            answer |= {"became": "refused", "said": str(error).replace(name, "")}
        except Exception as error:
            answer |= {"became": "raised", "said": f"{type(error).__name__}: {error}"}
        answer["seconds"] = round(time.perf_counter() - began, 2)
        left = sorted(os.listdir(out))
        whole = not left if answer["became"] != "coded" else left == ["a.tfc"]
        if whole and left:
            whole = tfcodec.probe(out / "a.tfc").frames > 0
        answer["whole"] = whole
        answer["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        answers.send(answer)


def attempt(number: int) -> dict[str, Any]:
    """One input, in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=tried, args=(film if number % 2 == 0 else damaged, number, theirs))
    process.start()
    theirs.close()
    answer: dict[str, Any] = {"became": "died", "whole": True, "seconds": 0.0, "mib": 0}
    until = time.monotonic() + MAX_SECONDS
    while True:
        try:
            if not ours.poll(max(0.0, until - time.monotonic())):
                answer["became"] = "stuck"
                process.kill()
                break
            answer |= ours.recv()
        except EOFError:
            break
    process.join()
    return {"number": number, **answer}


def main() -> None:
    parser = argparse.ArgumentParser(description="Odd inputs: what becomes of them.")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--only", type=int, help="number of the one input to try; nothing is written")
    args = parser.parse_args()
    import av  # noqa: F401 - here, so that the processes have it

    import tfcodec.codec.file.encoder
    import tfcodec.media.scan  # noqa: F401

    if args.only is not None:
        print(attempt(args.only))
        return
    tries = [attempt(number) for number in range(args.count)]
    became = Counter(t["became"] for t in tries)
    wrong = [t for t in tries if t["became"] not in ("coded", "refused") or not t["whole"]]
    wrong_length = [t for t in tries if t.get("duration") and t["number"] % 2 == 0]
    seconds, mib = sorted(t["seconds"] for t in tries), sorted(t["mib"] for t in tries)
    result = {
        "environment": environment(), "seed": SEED, "count": args.count, "became": dict(became),
        "with_warnings": sum(bool(t.get("warnings")) for t in tries),
        "raised": became["raised"], "died": became["died"], "stuck": became["stuck"],
        "half_written": sum(not t["whole"] for t in tries), "wrong_duration": len(wrong_length),
        "seconds": {"median": seconds[len(seconds) // 2], "most": seconds[-1]},
        "mib": {"median": mib[len(mib) // 2], "most": mib[-1]},
        "wrong": [*wrong, *wrong_length],
        "refused": dict(Counter(str(t["said"]).split(": ")[-1][:60] for t in tries if t["became"] == "refused")),
    }  # fmt: skip
    for line in result["wrong"]:
        print(line)
    shown = ("became", "with_warnings", "half_written", "wrong_duration", "seconds", "mib")
    print({name: result[name] for name in shown})
    write("odd_inputs", result)


if __name__ == "__main__":
    main()
