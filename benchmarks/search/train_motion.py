"""Train the motion coder's integer tables on the `train` landmarks.

    python -m benchmarks.search.train_motion [--data FOLDER] [--rounds 3] [--fraction 0.5]

Writes tfcodec/motion/tables.bin and its SHA-256 into tables.py, for the components of tfcodec/motion/bases.bin. As in
train_tables.py, each round codes clips with the tables so far and fits the tables to the levels that were chosen. The
tables in the package come from several runs with --resume on growing parts of the clips (0.08, 0.3, 0.5, 0.9), the
first with somewhat other steps.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT
from benchmarks.search.fit_motion import MIN_DISTANCE, MIN_FRAMES, FloatArray
from benchmarks.search.train_tables import Arrays, Payloads, add_frequencies, code_payloads, in_turn, learn, save
from tfcodec.motion import analyse, distance, smooth
from tfcodec.motion.encoder import WEIGHTS
from tfcodec.motion.geometry import NUMBERS
from tfcodec.motion.tables import LAYOUT, MAGIC
from tfcodec.tinyframe.entropy import SHIFT, Model
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.search import Search
from tfcodec.tinyframe.tables import parse_tables, table_bytes

NOMINAL = (26, 26, 36, 36, 92, 92, 92, 92, 33, 45, 48, 48, 110, 110, 184, 184)  # steps at quality 5, in 1/1024
NOMINAL_UNITS = 128  # of a coefficient in a nominal step
SHIPPED = ROOT / "tfcodec/motion/tables.bin"


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
    add_frequencies(a, [motion(c, i, 2) / np.array(NOMINAL) for i, c in enumerate(clips[::4])])
    return a


Task = tuple[FloatArray, int, float, int, int]
_search: Search | None = None


def _start(content: bytes) -> None:
    global _search
    _search = Search(Model(parse_tables(content, LAYOUT, MAGIC)))


def code_clip(task: Task) -> Payloads:
    """One clip's motion."""
    marks, step, rate, largest, seed = task
    if _search is None:
        raise RuntimeError("worker not started")
    wanted = _search.model.analyse(motion(marks, seed, 2 if largest else 1))
    return code_payloads(_search, wanted, np.zeros(NUMBERS, np.int64), step, np.array(WEIGHTS), rate, largest)


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
    parser.add_argument("--output", type=Path, default=SHIPPED)
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
        chosen = in_turn(clips, turn, options.fraction)
        work = tasks(chosen, True, 2 * turn) + tasks(chosen, False, 2 * turn + 1)
        content = table_bytes(arrays, LAYOUT, MAGIC)
        with ProcessPoolExecutor(options.workers, initializer=_start, initargs=(content,)) as pool:
            coded = list(pool.map(code_clip, work, chunksize=8))
        learn(arrays, coded, options.epochs, turn, started)
    save(table_bytes(arrays, LAYOUT, MAGIC), options.output, SHIPPED)


if __name__ == "__main__":
    main()
