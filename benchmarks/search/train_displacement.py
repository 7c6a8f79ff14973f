"""Train the displacement coder's integer tables on displacements of `train` clips.

    python -m benchmarks.search.train_displacement NUMBERS.npz [--rounds 3] [--fraction 1.0]

NUMBERS.npz holds an array [T, 12] for every clip, in 1/32 pixel, unrounded: what an aligner finds, from the clip's
first keyframe on. Writes tfcodec/displacement/tables.bin and its SHA-256 into tables.py; how, train_numbers.py says.
The tables in the package began as the motion's, cut to 12 numbers, and come from 115 clips, with --resume --rounds 2
--repeat 3 --epochs 10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common import ROOT
from benchmarks.search.train_numbers import Draw, Kind, arguments, train
from benchmarks.search.train_tables import FloatArray
from tfcodec.displacement.encoder import WEIGHTS
from tfcodec.displacement.tables import LAYOUT, MAGIC, NUMBERS
from tfcodec.tinyframe.numbers import rounded
from tfcodec.tinyframe.planes import IntArray

NOMINAL = (40,) * NUMBERS  # steps at step index 24, in 1/32 pixel: 1.25 pixels


def load_clips(path: Path) -> list[FloatArray]:
    """Numbers [T, 12] of every clip, by name."""
    with np.load(path) as archive:
        return [archive[name].astype(np.float64) for name in sorted(archive.files)]


def numbers(clip: FloatArray, seed: int, groups: bool) -> IntArray:
    """Numbers [T, 12] of a clip, as a mirror would show them if the seed is odd."""
    del groups  # only files have the layer
    if seed % 2:
        odd = np.array([0, 1, 0, 1, 0, 0])  # polynomials that change sign with x
        sign = np.concatenate([-((-1.0) ** odd), (-1.0) ** odd])
        clip = clip * sign
    return rounded(clip)


DISPLACEMENT = Kind(
    NOMINAL, WEIGHTS, LAYOUT, MAGIC, numbers, (Draw(24, (0.1, 0.2), 5),), ROOT / "tfcodec/displacement/tables.bin"
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("numbers", type=Path, help="an .npz of the clips' numbers")
    options = parser.parse_args()
    train(DISPLACEMENT, load_clips(options.numbers), options)


if __name__ == "__main__":
    main()
