"""Train the tiny-frame coder's integer tables on the `train` clips.

    python -m benchmarks.search.train_tables --cache FOLDER [--data FOLDER] [--rounds 3] [--fraction 1.0]

Writes tfcodec/tinyframe/tables.bin and its SHA-256 into tables.py. The tiny frames of all clips are extracted once and
kept in the cache folder. Starting from rough statistics, each round codes the clips with the tables so far and fits
the tables to the levels that were chosen. Same clips, same tables (floating-point libraries permitting: the tables
themselves are normative, not their making).

The tables in the package come from several runs with --resume on parts of the clips (0.25 and 0.3 of them) and a last
fit on the levels of 700 clips; the scores of single frames (kind 0) are those before the last fit, which helped only
the groups.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common import ROOT
from tfcodec.tinyframe import tables as layout
from tfcodec.tinyframe.entropy import (
    BIN_EDGES,
    DENSITY_EDGES,
    MAX_FRAMES,
    SHIFT,
    TRACE_LEVELS,
    History,
    Model,
    activity_level,
    capped,
)
from tfcodec.tinyframe.planes import SAMPLES, SCALE, IntArray, tiny_from_frames
from tfcodec.tinyframe.search import Group, Search

CHROMA_WEIGHT = 0.85  # against luma, in the transform's training
SHIPPED = ROOT / "tfcodec/tinyframe/tables.bin"
UNIT = 32.0  # score per nat
FloatArray = npt.NDArray[np.float64]
Arrays = dict[str, IntArray]
Clip = TypeVar("Clip")


def extract(clip: Path) -> IntArray:
    import av

    with av.open(str(clip)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    return tiny_from_frames(frames.astype(np.uint8)).samples()


def load_clips(data: Path, cache: Path) -> list[IntArray]:
    """Tiny frames `[T, 96]` of every training clip, by name."""
    cache.mkdir(parents=True, exist_ok=True)
    store = cache / "train_tiny.npz"
    if not store.is_file():
        paths = sorted((data / "train").glob("*.mp4"))
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            clips = list(pool.map(extract, paths, chunksize=8))
        named = {p.stem: c.astype(np.int16) for p, c in zip(paths, clips, strict=True)}
        np.savez(store, **named)  # type: ignore[arg-type]
    with np.load(store) as archive:
        return [archive[name].astype(np.int64) for name in sorted(archive.files)]


def sine_transform(n: int) -> FloatArray:
    """DST-VII: the best transform of a random walk that starts at a known value."""
    k, i = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)[None]
    return np.asarray(2 / np.sqrt(2 * n + 1) * np.sin((2 * k - 1) * np.pi * i / (2 * n + 1)))


def spatial_transform(clips: list[IntArray]) -> FloatArray:
    """Karhunen-Loeve basis of frame differences, rows by falling energy; each clip counts about alike."""
    weight = np.ones(SAMPLES)
    weight[64:] = CHROMA_WEIGHT
    covariance = np.zeros((SAMPLES, SAMPLES))
    for clip in clips:
        x = clip * (weight / SCALE)
        for distance in (1, 4, 16):
            if len(x) > distance:
                change = x[distance:] - x[:-distance]
                change /= np.sqrt(np.maximum(np.square(change).sum(axis=1), 200.0))[:, None]
                covariance += change.T @ change / len(change) * min(len(change), 60)
    basis = np.linalg.eigh(covariance)[1][:, ::-1].T
    return np.asarray(basis * np.sign(basis.sum(axis=1) + 1e-9)[:, None])


def first_tables(clips: list[IntArray]) -> Arrays:
    """Transforms, and an entropy model of frequencies alone."""
    a: Arrays = {name: np.zeros(shape, np.int64) for name, _, shape in layout.LAYOUT}
    weight = np.ones(SAMPLES)
    weight[64:] = CHROMA_WEIGHT
    basis = spatial_transform(clips)
    a["forward"] = np.rint(basis * weight * (1 << SHIFT)).astype(np.int64)
    a["inverse"] = np.rint((basis / weight).T * (1 << SHIFT)).astype(np.int64)
    add_frequencies(a, [clip @ (basis * weight).T / (8 * SCALE) for clip in clips[::4]])
    return a


def add_frequencies(a: Arrays, tracks: list[FloatArray]) -> None:
    """Put temporal transforms, steps, and an entropy model of frequencies alone into new tables.

    `tracks`: coefficients [T, samples] over time, in units of a usual step.
    """
    one, samples = 1 << SHIFT, len(a["inverse"])
    temporal = [np.rint((sine_transform(n) if n > 1 else np.ones((1, 1))) * one) for n in layout.SIZES]
    a["temporal"] = np.concatenate([t.ravel() for t in temporal]).astype(np.int64)
    a["steps"] = np.rint(SCALE * 2 ** (np.arange(layout.STEPS) / 8)).astype(np.int64)
    scores = (np.arange(2 * layout.SCORE_LIMIT) - layout.SCORE_LIMIT + 0.5) / UNIT
    a["weight_of_one"] = np.rint((1 << 24) / (1 + np.exp(-scores))).astype(np.int64)
    for n, matrix in zip(layout.SIZES, temporal, strict=True):
        counts, blocks = np.zeros((n, samples)), 0
        for y in tracks:
            b = (len(y) - 1) // n
            if b:
                segment = y[1 : 1 + b * n].reshape(b, n, samples) - y[0 : b * n : n][:, None]
                counts += (np.abs(np.einsum("mn,bnk->bmk", matrix / one, segment)) > 0.7).sum(axis=0)
                blocks += b
        p = np.clip(counts / blocks, 1e-3, 0.8)
        a["zero_row"][n - 1 : 2 * n - 1] = np.rint(UNIT * np.log(p / (1 - p)))
        filled = np.clip(1 - np.prod(1 - p, axis=1), 1e-3, 0.99)
        a["filled_row"][n - 1 : 2 * n - 1] = np.rint(UNIT * np.log(filled / (1 - filled)))
    a["large"][0], a["large"][1] = -48, -24
    a["group_split"][:] = -32


@dataclass
class Rows:
    """What the coder saw before each row, and the row: one entry per coded row."""

    kind: IntArray
    index: IntArray
    recent: IntArray
    density: IntArray
    step: IntArray
    previous: IntArray
    trend: IntArray
    trace: IntArray
    levels: IntArray
    sizes: IntArray  # [decisions, 3]: last size, size asked, answer


_search: Search | None = None


def _start(content: bytes) -> None:
    global _search
    _search = Search(Model(layout.parse_tables(content)))


Payloads = list[tuple[int, list[Group]]]
"""(step, groups) of each payload of a clip."""


def code_payloads(
    search: Search, wanted: IntArray, base: IntArray, step: int, weight: FloatArray, rate: float, largest: int
) -> Payloads:
    """Closed-loop coding of coefficients [T, samples] in payloads of 128 frames."""
    payloads: Payloads = []
    for start in range(0, len(wanted), MAX_FRAMES):
        part = wanted[start : start + MAX_FRAMES]
        groups = search.divide(part, base, step, History(len(base)), weight, rate, largest)
        base = groups[-1].state[-1]
        payloads.append((step, groups))
    return payloads


def code_clip(task: tuple[IntArray, int, float, float, int, int]) -> Payloads:
    """One clip of tiny frames."""
    samples, step, rate, rho, largest, seed = task
    if _search is None:
        raise RuntimeError("worker not started")
    search, model = _search, _search.model
    wanted = model.analyse(samples)
    weight = search.luma_share + rho * search.chroma_share
    # a decoded keyframe is off by about a grey level
    base = wanted[0] + np.random.default_rng(seed).integers(-2 * SCALE, 2 * SCALE + 1, SAMPLES)
    return code_payloads(search, wanted, base, step, weight, rate, largest)


def replay(coded: list[Payloads], samples: int = SAMPLES) -> Rows:
    """The contexts of every row, as the decoder would have them."""
    out: list[tuple[int, int, int, int, int]] = []
    previous: list[IntArray] = []
    trends: list[IntArray] = []
    traces: list[IntArray] = []
    levels: list[IntArray] = []
    sizes: list[tuple[int, int, int]] = []
    for payloads in coded:
        for step, groups in payloads:
            history = History(samples)
            left = sum(len(g.rows) for g in groups)
            for g in groups:
                for s in range(len(layout.SIZES) - 1, 0, -1):
                    if layout.SIZES[s] <= left:
                        sizes.append((history.last_size, s, int(s == g.size)))
                        if s == g.size:
                            break
                left -= len(g.rows)
                density = activity_level(history.density, DENSITY_EDGES)
                p, trend, trace = history.first, history.trend, history.trace
                for n, row in enumerate(g.rows):
                    kind = (0 if g.size == 0 else 1) if n == 0 else min(n + 1, 3)
                    recent = activity_level(int(np.count_nonzero(p)), BIN_EDGES)
                    out.append((kind, len(g.rows) - 1 + n, recent, density, step // 4))
                    previous.append(p)
                    trends.append(trend)
                    traces.append(TRACE_LEVELS[np.minimum(trace, 256)])
                    levels.append(row)
                    p = capped(row)
                    trend = 8 * p
                    trace = trace + ((64 * np.abs(p) - trace) >> 1)
                history.add(g.size, g.rows)
    k = np.array(out, np.int64)
    return Rows(
        k[:, 0], k[:, 1], k[:, 2], k[:, 3], k[:, 4],
        np.array(previous), np.array(trends), np.array(traces), np.array(levels), np.array(sizes),
    )  # fmt: skip


def fit(
    a: Arrays,
    rows: Rows,
    epochs: int = 7,
    seed: int = 0,
    decay: tuple[float, float, float, float] = (200.0, 400.0, 60.0, 3000.0),
) -> float:
    """Fit the entropy tables to the rows by gradient descent, starting from `a`, which is changed.

    `decay` holds the weight decay of the matrices (what is shared by the kinds of row, and each kind's difference)
    and of the sign matrices (single frames, rows of groups). Returns the mean cost in bits per row, before rounding.
    """
    torch.manual_seed(seed)
    names = [n for n, _, _ in layout.LAYOUT if n.split("_")[0] in ("filled", "zero", "sign")]
    names += ["large", "large_score", "larger"]
    # a matrix is one shared by the four kinds of row plus a difference for each: less to learn from few rows
    matrices = [n for n in names if n.endswith(("previous", "trace", "current"))]
    leaves = {n: torch.tensor(a[n] / UNIT, dtype=torch.float32) for n in names}
    shared = {n: leaves[n].mean(dim=0, keepdim=True) for n in matrices if n.startswith("zero")}
    for n in shared:
        leaves[n] = leaves[n] - shared[n]
    for leaf in (*leaves.values(), *shared.values()):
        leaf.requires_grad_(True)
    samples = rows.levels.shape[1]
    off_diagonal = 3 - 2 * torch.eye(samples)
    # signs can be foretold from frame to frame (motion goes on), hardly within a group
    sign_decay = torch.tensor([decay[2], *[decay[3]] * (layout.CLASSES - 1)])[:, None, None]
    upper = torch.triu(torch.ones(samples, samples), 1)
    kind, index, recent, density, step = (
        torch.from_numpy(x) for x in (rows.kind, rows.index, rows.recent, rows.density, rows.step)
    )
    previous, trend, trace = (
        torch.from_numpy(x.astype(np.float32)) for x in (rows.previous, rows.trend / 8, rows.trace)
    )
    levels = torch.from_numpy(rows.levels)
    context = torch.from_numpy(capped(rows.levels).astype(np.float32))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    optimiser = torch.optim.Adam(
        [
            {"params": [*shared.values(), *(leaves[n] for n in matrices)], "lr": 0.004},
            {"params": [leaves[n] for n in names if n not in matrices], "lr": 0.02},
        ]
    )
    total = len(levels)
    batch = 2048
    cost = 0.0
    for epoch in range(epochs):
        for group, rate in zip(optimiser.param_groups, (0.004, 0.02), strict=True):
            group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) + 1e-4
        cost = 0.0
        order = torch.randperm(total)
        for start in range(0, total, batch):
            pick = order[start : start + batch]
            w = {n: leaf + shared[n] if n in shared else leaf for n, leaf in leaves.items()}
            loss = torch.zeros(())
            for c in range(layout.CLASSES):
                at = pick[kind[pick] == c]
                if not len(at):
                    continue
                q = levels[at]
                any_level = (q != 0).any(dim=1)
                filled = w["filled_row"][index[at]] + w["filled_recent"][c][recent[at]]
                filled = filled + w["filled_density"][c][density[at]] + w["filled_step"][c][step[at]]
                loss = loss + bce(filled, any_level.float(), reduction="sum")
                at = at[any_level]
                if not len(at):
                    continue
                q, m, p = levels[at], context[at], previous[at]
                score = w["zero_row"][index[at]] + w["zero_recent"][c][recent[at]]
                score = score + w["zero_density"][c][density[at]] + w["zero_step"][c][step[at]]
                score = score + p.abs() @ w["zero_previous"][c] + trace[at] @ w["zero_trace"][c]
                score = score + m.abs() @ (w["zero_current"][c] * upper)
                present = q != 0
                loss = loss + bce(score, present.float(), reduction="sum")
                sign = trend[at] @ w["sign_previous"][c] + m @ (w["sign_current"][c] * upper)
                loss = loss + bce(sign[present], (q[present] > 0).float(), reduction="sum")
                bins = ((score.detach() * UNIT).clamp(-320, 319) + 320).long() // 32
                column = torch.arange(samples).expand_as(q)
                size = q.abs()
                for i in range(2):
                    asked = size > i
                    large = w["large"][i, c][column[asked]] + w["large_score"][i, c][bins[asked]]
                    loss = loss + bce(large, (size[asked] > i + 1).float(), reduction="sum")
                for i in range(12):
                    asked = size > i + 2
                    if asked.any():
                        answer = (size[asked] > i + 3).float()
                        loss = loss + bce(w["larger"][i].expand_as(answer), answer, reduction="sum")
            penalty = torch.zeros(())
            for n, leaf in leaves.items():
                if n in shared:
                    penalty = penalty + decay[0] * (off_diagonal * shared[n] ** 2).sum()
                    penalty = penalty + decay[1] * (off_diagonal * leaf**2).sum()
                elif n in matrices:
                    penalty = penalty + (sign_decay * leaf**2).sum()
                else:
                    penalty = penalty + 0.05 * (leaf**2).sum()
            penalty = penalty * (len(pick) / total)
            cost += float(loss.detach())
            optimiser.zero_grad()
            ((loss + penalty) / len(pick)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for n in names:
        value = (leaves[n] + shared[n] if n in shared else leaves[n]).detach()
        if n.endswith("current"):
            value = value * upper
        limit = 127 if n in matrices else 2000
        a[n] = np.clip(np.rint(value.double().numpy() * UNIT), -limit, limit).astype(np.int64)
    split = np.zeros((len(layout.SIZES) + 1, len(layout.SIZES), 2)) + 1.0
    np.add.at(split, (rows.sizes[:, 0], rows.sizes[:, 1], rows.sizes[:, 2]), 1)
    a["group_split"] = np.rint(UNIT * np.log(split[..., 1] / split[..., 0])).astype(np.int64)
    return cost / np.log(2) / total


def tasks(clips: list[IntArray], single: bool, seed: int) -> list[tuple[IntArray, int, float, float, int, int]]:
    """A quantiser step, a price of bits and a chroma weight for each clip, drawn from the range in use."""
    rng = np.random.default_rng(seed)
    out = []
    for i, clip in enumerate(clips):
        step = int(np.clip(np.rint(rng.normal(22 if single else 27, 6)), 2, 48))
        out.append((clip, step, float(rng.uniform(0.04, 0.12) if single else rng.uniform(0.1, 0.2)),
                    float(rng.uniform(0.3, 1.0)), 0 if single else 5, i))  # fmt: skip
    return out


def in_turn(clips: list[Clip], turn: int, fraction: float) -> list[Clip]:
    """The clips to code in a round: another part of them each time."""
    return [clip for i, clip in enumerate(clips) if (i * 0.6180339887 + turn * 0.37) % 1 < fraction]


def learn(arrays: Arrays, coded: list[Payloads], epochs: int, turn: int, started: float) -> None:
    """Fit the tables to the levels that a round chose, and say how well they do."""
    print(f"round {turn}: coded after {time.time() - started:.0f} s", flush=True)
    rows = replay(coded, len(arrays["inverse"]))
    levels = float(np.count_nonzero(rows.levels)) / len(rows.levels)
    bits = fit(arrays, rows, epochs)
    print(f"round {turn}: {len(rows.levels)} rows, {levels:.2f} levels and {bits:.3f} bits a row, "
          f"{time.time() - started:.0f} s", flush=True)  # fmt: skip


def save(content: bytes, path: Path, shipped: Path) -> None:
    """Write the tables; if they are the package's, their SHA-256 goes into the `tables.py` beside them."""
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    if path == shipped:
        module = shipped.with_suffix(".py")
        module.write_text(re.sub(r'TABLES_SHA256 = "[^"]*"', f'TABLES_SHA256 = "{digest}"', module.read_text()))
    print(f"{len(content)} bytes, SHA-256 {digest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TFCODEC_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0, help="part of the clips to code in each round")
    parser.add_argument("--thin", type=int, default=1, help="code only every n-th of these in groups, which is slow")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--output", type=Path, default=SHIPPED)
    parser.add_argument("--resume", type=Path, help="start from this table file")
    options = parser.parse_args()
    clips = load_clips(options.data, options.cache)
    if options.resume:
        arrays = {n: v.copy() for n, v in layout.parse_tables(options.resume.read_bytes()).arrays.items()}
    else:
        arrays = first_tables(clips)
    started = time.time()
    for turn in range(options.rounds):
        chosen = in_turn(clips, turn, options.fraction)
        # single-frame prediction belongs to calls, groups to files; one set of tables serves both
        work = tasks(chosen, True, 2 * turn) + tasks(chosen[:: options.thin], False, 2 * turn + 1)
        with ProcessPoolExecutor(os.cpu_count(), initializer=_start, initargs=(layout.table_bytes(arrays),)) as pool:
            coded = list(pool.map(code_clip, work, chunksize=4))
        learn(arrays, coded, options.epochs, turn, started)
    save(layout.table_bytes(arrays), options.output, SHIPPED)


if __name__ == "__main__":
    main()
