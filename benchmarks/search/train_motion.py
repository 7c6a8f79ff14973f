"""Train the motion coder's integer tables on the `train` landmarks.

    python -m benchmarks.search.train_motion [--data FOLDER] [--rounds 3] [--fraction 0.5]

Writes tfcodec/motion/tables.bin and its SHA-256 into tables.py, for the components of tfcodec/motion/bases.bin. As in
train_tables.py, each round codes clips with the tables so far and fits the tables to the levels that were chosen. The
tables in the package come from several runs with --resume on growing parts of the clips (0.08, 0.3, 0.5, 0.9), the
first with somewhat other steps.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT
from benchmarks.search.fit_motion import MIN_DISTANCE, MIN_FRAMES, FloatArray
from benchmarks.search.train_tables import UNIT, Arrays, fit, replay, sine_transform
from tfcodec.motion import analyse, distance, smooth
from tfcodec.motion.encoder import WEIGHTS
from tfcodec.motion.geometry import NUMBERS
from tfcodec.motion.tables import LAYOUT, MAGIC
from tfcodec.tinyframe.entropy import SHIFT, History, Model
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.search import Group, Search
from tfcodec.tinyframe.tables import SCORE_LIMIT, SIZES, STEPS, parse_tables, table_bytes

NOMINAL = (26, 26, 36, 36, 92, 92, 92, 92, 33, 45, 48, 48, 110, 110, 184, 184)  # steps at quality 5, in 1/1024
NOMINAL_UNITS = 128  # of a coefficient in a nominal step


def load_clips(data: Path) -> list[FloatArray]:
    """Landmarks [T, 70, 2] of the longest run with a face of every training clip, as tracked."""
    clips = []
    for name in ("landmarks_train_a.npz", "landmarks_train_d.npz"):
        with np.load(data / name) as archive:
            for clip in sorted(archive.files):
                face = np.r_[False, (archive[clip] >= 0).all(axis=(1, 2)), False]
                edges = np.flatnonzero(face[1:] != face[:-1]).reshape(-1, 2)
                if not len(edges):
                    continue
                a, b = edges[np.argmax(edges[:, 1] - edges[:, 0])]
                marks = archive[clip][a:b].astype(np.float64) / 16
                if b - a >= MIN_FRAMES and distance(marks[0]) >= MIN_DISTANCE:
                    clips.append(marks)
    return clips


def motion(marks: FloatArray, seed: int, ahead: int) -> IntArray:
    """Numbers [T, 16] of a clip from its first frame, or from any, as keyframe."""
    rng = np.random.default_rng(seed)
    at = 0 if seed % 2 else int(rng.integers(len(marks)))
    return np.rint(smooth(analyse(marks[at], marks), ahead=ahead)).astype(np.int64)


def set_steps(a: Arrays) -> None:
    """Put the numbers' nominal steps into the tables."""
    nominal = np.array(NOMINAL) / NOMINAL_UNITS
    a["forward"] = np.diag(np.rint((1 << SHIFT) / nominal)).astype(np.int64)
    a["inverse"] = np.diag(np.rint((1 << SHIFT) * nominal)).astype(np.int64)


def first_tables(clips: list[FloatArray]) -> Arrays:
    """Temporal transforms, and an entropy model of frequencies alone."""
    a: Arrays = {name: np.zeros(shape, np.int64) for name, _, shape in LAYOUT}
    one = 1 << SHIFT
    temporal = [np.rint((sine_transform(n) if n > 1 else np.ones((1, 1))) * one) for n in SIZES]
    a["temporal"] = np.concatenate([t.ravel() for t in temporal]).astype(np.int64)
    a["steps"] = np.rint(16 * 2 ** (np.arange(STEPS) / 8)).astype(np.int64)
    scores = (np.arange(2 * SCORE_LIMIT) - SCORE_LIMIT + 0.5) / UNIT
    a["weight_of_one"] = np.rint((1 << 24) / (1 + np.exp(-scores))).astype(np.int64)
    numbers = [motion(c, i, 2) / np.array(NOMINAL) for i, c in enumerate(clips[::4])]
    for n, matrix in zip(SIZES, temporal, strict=True):
        counts, blocks = np.zeros((n, NUMBERS)), 0
        for y in numbers:
            b = (len(y) - 1) // n
            if b:
                segment = y[1 : 1 + b * n].reshape(b, n, NUMBERS) - y[0 : b * n : n][:, None]
                counts += (np.abs(np.einsum("mn,bnk->bmk", matrix / one, segment)) > 0.7).sum(axis=0)
                blocks += b
        p = np.clip(counts / blocks, 1e-3, 0.8)
        a["zero_row"][n - 1 : 2 * n - 1] = np.rint(UNIT * np.log(p / (1 - p)))
        filled = np.clip(1 - np.prod(1 - p, axis=1), 1e-3, 0.99)
        a["filled_row"][n - 1 : 2 * n - 1] = np.rint(UNIT * np.log(filled / (1 - filled)))
    a["large"][0], a["large"][1] = -48, -24
    a["group_split"][:] = -32
    return a


Task = tuple[FloatArray, int, float, int, int]
_search: Search | None = None


def _start(content: bytes) -> None:
    global _search
    _search = Search(Model(parse_tables(content, LAYOUT, MAGIC)))


def code_clip(task: Task) -> list[tuple[int, list[Group]]]:
    """Closed-loop coding of one clip: (step, groups) of each payload."""
    marks, step, rate, largest, seed = task
    if _search is None:
        raise RuntimeError("worker not started")
    wanted = _search.model.analyse(motion(marks, seed, 2 if largest else 1))
    base, weight = np.zeros(NUMBERS, np.int64), np.array(WEIGHTS)
    payloads: list[tuple[int, list[Group]]] = []
    for start in range(0, len(wanted), 128):
        part, done, history = wanted[start : start + 128], 0, History(NUMBERS)
        groups: list[Group] = []
        while done < len(part):
            n = 1 << largest
            while n > len(part) - done:
                n //= 2
            new, history = _search.tree(
                part[done : done + n], base, step, history, weight, rate, len(part) - done, largest
            )
            groups += new
            base = new[-1].state[-1]
            done += n
        payloads.append((step, groups))
    return payloads


def tasks(clips: list[FloatArray], single: bool, seed: int) -> list[Task]:
    """A quantiser step and a price of bits for each clip, drawn from the range in use."""
    rng = np.random.default_rng(seed)
    return [
        (
            clip,
            int(np.clip(np.rint(rng.normal(20 if single else 24, 6)), 4, 44)),
            float(rng.uniform(0.05, 0.11) if single else rng.uniform(0.1, 0.2)),
            0 if single else 5,
            int(rng.integers(1 << 30)),
        )
        for clip in clips
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TFCODEC_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0, help="part of the clips to code in each round")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "tfcodec/motion/tables.bin")
    parser.add_argument("--resume", type=Path, help="start from this table file")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    clips = load_clips(options.data)
    if options.resume:
        arrays = {n: v.copy() for n, v in parse_tables(options.resume.read_bytes(), LAYOUT, MAGIC).arrays.items()}
    else:
        arrays = first_tables(clips)
    set_steps(arrays)
    started = time.time()
    for turn in range(options.rounds):
        chosen = [c for i, c in enumerate(clips) if (i * 0.6180339887 + turn * 0.37) % 1 < options.fraction]
        work = tasks(chosen, True, 2 * turn) + tasks(chosen, False, 2 * turn + 1)
        content = table_bytes(arrays, LAYOUT, MAGIC)
        with ProcessPoolExecutor(options.workers, initializer=_start, initargs=(content,)) as pool:
            coded = list(pool.map(code_clip, work, chunksize=8))
        print(f"round {turn}: coded after {time.time() - started:.0f} s", flush=True)
        rows = replay(coded, NUMBERS)
        levels = float(np.count_nonzero(rows.levels)) / len(rows.levels)
        bits = fit(arrays, rows, options.epochs)
        print(f"round {turn}: {len(rows.levels)} rows, {levels:.2f} levels and {bits:.3f} bits a row, "
              f"{time.time() - started:.0f} s", flush=True)  # fmt: skip
    content = table_bytes(arrays, LAYOUT, MAGIC)
    options.output.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    if options.output == ROOT / "tfcodec/motion/tables.bin":
        module = ROOT / "tfcodec/motion/tables.py"
        module.write_text(re.sub(r'TABLES_SHA256 = "[^"]*"', f'TABLES_SHA256 = "{digest}"', module.read_text()))
    print(f"{len(content)} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
