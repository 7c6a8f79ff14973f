"""How the tracker's landmarks should be smoothed in time, on `train`, against the labels.

    python -m benchmarks.search.tracker_smoothing [--weights FILE] [--clips 60]

For lids and irises, for the mouth and for all others: Savitzky-Golay filters, means of three, and the symmetric weights
that bring them nearest to the labels (least squares, each clip's mean error apart). Errors in eye distances; the
openings' correlations within clips; jitter: mean second difference in time. `tfcodec/model/tracking.py` holds what came
of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import clip_list, clips, data_folder, environment, read_clip, write
from benchmarks.measure.tracker_val import jitter
from tfcodec.model.tracker import FOUND, eye_distances, read_tracker
from tfcodec.model.tracking import FILE, GROUPS, Weights, default_tracker, find, runs, smooth
from tfcodec.training.tracker import agreement

Points = NDArray[np.float32]
Track = tuple[Points, Points, NDArray[np.bool_]]
KERNELS: dict[str, tuple[float, ...]] = {
    "none": (), "three, 0.1": (0.1,), "three, 0.2": (0.2,), "three, 0.25": (0.25,), "mean of three": (1 / 3,),
    "Savitzky-Golay 5": (12 / 35, -3 / 35), "Savitzky-Golay 7": (6 / 21, 3 / 21, -2 / 21), "mean of five": (0.2, 0.2),
}  # fmt: skip


def fit(tracks: list[Track], group: tuple[int, ...], reach: int) -> tuple[float, ...]:
    """The symmetric weights at distances 1 ... reach that bring the group's landmarks nearest to the labels'."""
    square, mixed = np.zeros((reach, reach)), np.zeros(reach)
    for marks, labels, found in tracks:
        number, points = runs(marks, found), marks[:, list(group)].astype(np.float64)
        size = eye_distances(torch.from_numpy(labels)).numpy()[:, None, None]
        missing = (labels[:, list(group)] - points) / size
        missing -= missing.mean(0)
        middle = slice(reach, len(marks) - reach)
        bends = [np.roll(points, d, 0) - 2 * points + np.roll(points, -d, 0) for d in range(1, reach + 1)]
        whole = (np.roll(number, reach) == np.roll(number, -reach))[middle]
        x = np.stack([(bend / size)[middle][whole].ravel() for bend in bends])
        square += x @ x.T
        mixed += x @ missing[middle][whole].ravel()
    return tuple(float(c) for c in np.linalg.solve(square, mixed))


def figures(tracks: list[Track], weights: Weights) -> dict[str, float]:
    calm = [smooth(marks, found, weights) for marks, _, found in tracks]
    ends = np.cumsum([0, *(len(x) for x in calm)])
    labels = torch.from_numpy(np.concatenate([labels for _, labels, _ in tracks]))
    spans = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
    return agreement(torch.from_numpy(np.concatenate(calm)), labels, spans) | {
        "jitter": float(np.mean([jitter(x) for x in calm]))
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", type=Path, help="default: that of the newest network")
    p.add_argument("--clips", type=int, default=60)
    args = p.parse_args()
    tracker = read_tracker(args.weights) if args.weights else default_tracker()
    known: dict[str, Points] = {}
    for file in sorted(data_folder().glob("landmarks_train*.npz")):
        with np.load(file) as data:
            known |= {name: data[name].astype(np.float32) / 16 for name in data}
    long = [x for x in clips("train") if len(known.get(x.stem, ())) >= 75 and (known[x.stem][..., 0] >= 0).all()]
    chosen = [long[i] for i in np.linspace(0, len(long) - 1, args.clips).round().astype(int)]
    tracks: list[Track] = []
    for clip in chosen:
        frames = read_clip(clip)[:125]
        marks, scores = find(frames, tracker)
        tracks.append((marks, known[clip.stem][: len(frames)], scores > FOUND))
    result: dict[str, Any] = {"labels_jitter": float(np.mean([jitter(labels) for _, labels, _ in tracks]))}
    result["chosen"] = figures(tracks, FILE)
    for name, kernel in KERNELS.items():
        result[name] = figures(tracks, dict.fromkeys(GROUPS, kernel))
    for reach in (1, 2, 3):
        weights = {group: fit(tracks, group, reach) for group in GROUPS}
        row: dict[str, Any] = dict(figures(tracks, weights))
        row["weights"] = list(weights.values())
        result[f"nearest to the labels, {2 * reach + 1} frames"] = row
    for name, value in result.items():
        print(name, value)
    write("tracker_smoothing", {"environment": environment(), "summary": result, "sources": clip_list(chosen)})


if __name__ == "__main__":
    main()
