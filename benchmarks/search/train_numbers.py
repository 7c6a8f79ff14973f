"""Training of the integer tables of layers of numbers (motion, displacement): what their scripts have in common.

As in train_tables.py, each round codes clips with the tables so far and fits the tables to the levels that were chosen.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.search.train_tables import (
    Arrays,
    FloatArray,
    Payloads,
    add_frequencies,
    code_payloads,
    in_turn,
    learn,
    save,
)
from tfcodec.tinyframe.entropy import SHIFT, Model
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.search import Search
from tfcodec.tinyframe.tables import Layout, parse_tables, table_bytes

NOMINAL_UNITS = 128  # of a coefficient in a nominal step


@dataclass(frozen=True)
class Draw:
    """A mode's settings, from which each clip draws: step index (mean of a normal distribution of deviation 6), price
    of a bit (range), and the longest group."""

    step: int
    rate: tuple[float, float]
    largest: int


@dataclass(frozen=True)
class Kind:
    """A layer of numbers.

    Attributes:
        nominal: the numbers' steps at step index 24.
        weights: the encoder's, of squared errors.
        numbers: of a clip, a seed, and whether it is coded in groups: the numbers [T, N] to code. A function of a
            module, since it goes to other processes.
        modes: how clips are coded.
        shipped: the package's file.
    """

    nominal: Sequence[float]
    weights: Sequence[float]
    layout: Layout
    magic: bytes
    numbers: Callable[[FloatArray, int, bool], IntArray]
    modes: tuple[Draw, ...]
    shipped: Path

    @property
    def samples(self) -> int:
        return len(self.nominal)


def set_steps(kind: Kind, a: Arrays) -> None:
    """Put the numbers' nominal steps into the tables."""
    nominal = np.array(kind.nominal) / NOMINAL_UNITS
    a["forward"] = np.diag(np.rint((1 << SHIFT) / nominal)).astype(np.int64)
    a["inverse"] = np.diag(np.rint((1 << SHIFT) * nominal)).astype(np.int64)


def first_tables(kind: Kind, clips: list[FloatArray]) -> Arrays:
    """Temporal transforms, and an entropy model of frequencies alone."""
    a: Arrays = {name: np.zeros(shape, np.int64) for name, _, shape in kind.layout}
    add_frequencies(a, [kind.numbers(c, i, True) / np.array(kind.nominal) for i, c in enumerate(clips[::4])])
    return a


Task = tuple[FloatArray, int, float, int, int]
_coding: tuple[Kind, Search] | None = None


def _start(kind: Kind, content: bytes) -> None:
    global _coding
    _coding = kind, Search(Model(parse_tables(content, kind.layout, kind.magic)))


def code_clip(task: Task) -> Payloads:
    """One clip's numbers."""
    clip, step, rate, largest, seed = task
    if _coding is None:
        raise RuntimeError("worker not started")
    kind, search = _coding
    wanted = search.model.analyse(kind.numbers(clip, seed, largest > 0))
    base = np.zeros(kind.samples, np.int64)
    return code_payloads(search, wanted, base, step, np.array(kind.weights), rate, largest)


def tasks(clips: list[FloatArray], draw: Draw, seed: int) -> list[Task]:
    """A quantiser step and a price of bits for each clip, drawn from the range in use."""
    rng = np.random.default_rng(seed)
    return [
        (
            clip,
            int(np.clip(np.rint(rng.normal(draw.step, 6)), 4, 44)),
            float(rng.uniform(*draw.rate)),
            draw.largest,
            int(rng.integers(1 << 30)),
        )
        for clip in clips
    ]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that the scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0, help="part of the clips to code in each round")
    parser.add_argument("--repeat", type=int, default=1, help="times to code a clip in each round, with other settings")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--output", type=Path, help="the package's file unless another is named")
    parser.add_argument("--resume", type=Path, help="start from this table file")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser


def train(kind: Kind, clips: list[FloatArray], options: argparse.Namespace) -> None:
    """Train the layer's tables on the clips, and save them."""
    if options.resume:
        content = options.resume.read_bytes()
        arrays = {n: v.copy() for n, v in parse_tables(content, kind.layout, kind.magic).arrays.items()}
    else:
        arrays = first_tables(kind, clips)
    set_steps(kind, arrays)
    started = time.time()
    for turn in range(options.rounds):
        chosen = options.repeat * in_turn(clips, turn, options.fraction)
        count = len(kind.modes)
        work = [task for i, draw in enumerate(kind.modes) for task in tasks(chosen, draw, count * turn + i)]
        content = table_bytes(arrays, kind.layout, kind.magic)
        with ProcessPoolExecutor(options.workers, initializer=_start, initargs=(kind, content)) as pool:
            coded = list(pool.map(code_clip, work, chunksize=8))
        learn(arrays, coded, options.epochs, turn, started)
    save(table_bytes(arrays, kind.layout, kind.magic), options.output or kind.shipped, kind.shipped)
