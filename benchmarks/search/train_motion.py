"""Train the motion coder's integer tables on the `train` landmarks.

    python -m benchmarks.search.train_motion [--data FOLDER] [--rounds 3] [--fraction 0.5]

Writes tfcodec/motion/tables.bin and its SHA-256 into tables.py, for the components of tfcodec/motion/bases.bin; how,
train_numbers.py says. The tables in the package come from several runs with --resume on growing parts of the clips
(0.08, 0.3, 0.5, 0.9), the first with somewhat other steps.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT
from benchmarks.search.fit_motion import MIN_DISTANCE, MIN_FRAMES, FloatArray
from benchmarks.search.train_numbers import Draw, Kind, arguments, train
from tfcodec.motion import analyse, distance, smooth
from tfcodec.motion.encoder import WEIGHTS
from tfcodec.motion.tables import LAYOUT, MAGIC
from tfcodec.tinyframe.planes import IntArray

NOMINAL = (26, 26, 36, 36, 92, 92, 92, 92, 33, 45, 48, 48, 110, 110, 184, 184)  # steps at quality 5, in 1/1024


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


def motion(marks: FloatArray, seed: int, groups: bool) -> IntArray:
    """Numbers [T, 16] of a clip from its first frame, or from any, as keyframe."""
    rng = np.random.default_rng(seed)
    at = 0 if seed % 2 else int(rng.integers(len(marks)))
    return np.rint(smooth(analyse(marks[at], marks), ahead=2 if groups else 1)).astype(np.int64)


# Single frames are for calls, groups for files.
MODES = (Draw(20, (0.05, 0.11), 0), Draw(24, (0.1, 0.2), 5))
MOTION = Kind(NOMINAL, WEIGHTS, LAYOUT, MAGIC, motion, MODES, ROOT / "tfcodec/motion/tables.bin")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TFCODEC_DATA", ROOT.parent / "shared/data")))
    options = parser.parse_args()
    train(MOTION, load_clips(options.data), options)


if __name__ == "__main__":
    main()
