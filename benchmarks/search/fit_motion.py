"""Fit the motion layer's bases on the `train` landmarks and say how well they do on `val`.

    python -m benchmarks.search.fit_motion [--data FOLDER] [--output FILE.json]            # fit, write, measure
    python -m benchmarks.search.fit_motion --measure [--head rigid] [--data FOLDER] [--output FILE.json]

Writes tfcodec/motion/bases.bin and its SHA-256 into geometry.py. Landmarks jitter, so they are smoothed in time
(Savitzky-Golay, 5 frames, order 2) first. Each clip is seen from several of its frames as the reference; long clips
count as 150 frames.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import savgol_filter

from benchmarks.common import ROOT
from tfcodec.motion import geometry

FloatArray = npt.NDArray[np.float64]
REFERENCES = 4
MIN_FRAMES, MIN_DISTANCE = 10, 15.0
RIGID = (*range(0, 3), *range(14, 17), *range(17, 36), 36, 39, 42, 45)
# weight of an opening, upper and lower landmarks
OPENINGS = {
    "mouth": ((2.0, (61, 62, 63), (67, 66, 65)),),
    "lids": ((3.0, (37, 38), (41, 40)), (3.0, (43, 44), (47, 46))),
}


def smooth(marks: FloatArray) -> FloatArray:
    """Landmarks [T, 70, 2] without the jitter of single frames."""
    return np.asarray(savgol_filter(marks, 5, 2, axis=0)) if len(marks) >= 5 else marks


def runs(files: list[Path]) -> dict[str, list[FloatArray]]:
    """Per clip, the landmarks [T, 70, 2] in pixels of each run of frames with a face, smoothed."""
    out: dict[str, list[FloatArray]] = {}
    for file in files:
        with np.load(file) as archive:
            for name in sorted(archive.files):
                marks = archive[name].astype(np.float64) / 16
                face = np.r_[False, (archive[name] >= 0).all(axis=(1, 2)), False]
                edges = np.flatnonzero(face[1:] != face[:-1])
                out[name] = [smooth(marks[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return out


def whole(clips: dict[str, list[FloatArray]]) -> list[FloatArray]:
    """One array per clip: its frames with a face; clips of few frames or tiny faces are left out."""
    joined = [np.concatenate(c) for c in clips.values() if c]
    return [c for c in joined if len(c) >= MIN_FRAMES and np.median([geometry.distance(m) for m in c]) >= MIN_DISTANCE]


def residuals(marks: FloatArray, reference: FloatArray) -> FloatArray:
    return geometry.residual(reference, marks, geometry.head_numbers(reference, marks))


def columns(points: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array([[2 * i, 2 * i + 1] for i in points]).ravel()


def emphasis(part: geometry.Part) -> FloatArray:
    """What a part's landmarks are multiplied by before the components are taken: openings count more."""
    matrix = np.eye(2 * len(part.points))
    for weight, upper, lower in OPENINGS.get(part.name, ()):
        v = np.zeros((len(part.points), 2))
        v[[part.points.index(i) for i in upper], 1] = -1
        v[[part.points.index(i) for i in lower], 1] = 1
        direction = v.ravel() / np.linalg.norm(v)
        matrix += (weight - 1) * np.outer(direction, direction)
    return matrix


def principal(samples: FloatArray, weight: FloatArray, count: int) -> FloatArray:
    return np.asarray(np.linalg.eigh((samples * weight[:, None]).T @ samples)[1][:, ::-1].T[:count])


def fit(clips: list[FloatArray], seed: int = 0) -> bytes:
    """The components as a file of integers."""
    rng = np.random.default_rng(seed)
    views, weights = [], []
    for marks in clips:
        for _ in range(REFERENCES):
            views.append(residuals(marks, marks[rng.integers(len(marks))]).reshape(len(marks), -1))
            weights.append(np.full(len(marks), min(len(marks), 150) / len(marks)))
    x, weight = np.concatenate(views), np.concatenate(weights)
    forward, inverse = np.zeros(geometry.SHAPE), np.zeros(geometry.SHAPE)
    rows = {p.name: np.arange(p.count) + p.first - geometry.HEAD for p in geometry.PARTS}
    # the rest of the face first: all other landmarks move along with it
    *others, face = geometry.PARTS
    at = columns(face.points)
    basis = principal(x[:, at], weight, face.count)
    forward[np.ix_(rows["face"], at)] = basis
    scores = x[:, at] @ basis.T
    weighted = (scores * weight[:, None]).T
    inverse[rows["face"]] = np.linalg.solve(weighted @ scores, weighted @ x)
    inverse[np.ix_(rows["face"], at)] = basis
    x = x - scores @ inverse[rows["face"]]
    for part in others:
        at, matrix = columns(part.points), emphasis(part)
        basis = principal(x[:, at] @ matrix, weight, part.count)
        out = basis @ np.linalg.inv(matrix)
        size = np.linalg.norm(out, axis=1, keepdims=True)
        inverse[np.ix_(rows[part.name], at)] = out / size
        forward[np.ix_(rows[part.name], at)] = basis @ matrix * size
        forward[rows[part.name]] -= forward[rows[part.name]] @ inverse[rows["face"]].T @ forward[rows["face"]]
    sign = np.sign(inverse[np.arange(len(inverse)), np.abs(inverse).argmax(axis=1)])[:, None]
    one = 1 << geometry.BASES_SHIFT
    return geometry.basis_bytes(
        np.rint(forward * sign * one).astype(np.int16), np.rint(inverse * sign * one).astype(np.int16)
    )


def mouth_opening(marks: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(marks[:, [61, 62, 63]] - marks[:, [67, 66, 65]], axis=-1).mean(axis=1))


def eye_opening(marks: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(marks[:, [37, 38, 43, 44]] - marks[:, [41, 40, 47, 46]], axis=-1).mean(axis=1))


def measure(clips: list[FloatArray]) -> dict[str, object]:
    """Explained share, error and correlations with unrounded numbers, middle frame as reference."""
    total, lost = np.zeros(geometry.POINTS), np.zeros(geometry.POINTS)
    error: list[FloatArray] = []
    openings: list[tuple[float, float]] = []
    spread: list[FloatArray] = []
    for marks in clips:
        reference = marks[len(marks) // 2]
        numbers = geometry.analyse(reference, marks)
        spread.append(numbers.std(axis=0))
        again = geometry.synthesise(reference, numbers).astype(np.float64)
        total += np.square(residuals(marks, reference)).sum(axis=(0, 2))
        lost += np.square(
            geometry.residual(reference, marks, numbers[:, :4]) - geometry.residual(reference, again, numbers[:, :4])
        ).sum(axis=(0, 2))
        error.append(np.linalg.norm(again - marks, axis=-1).mean(axis=0) / geometry.distance(reference))
        openings.append(
            (
                float(np.corrcoef(mouth_opening(again), mouth_opening(marks))[0, 1]),
                float(np.corrcoef(eye_opening(again), eye_opening(marks))[0, 1]),
            )
        )
    mean = np.mean(error, axis=0)
    points = {p.name: list(p.points) for p in geometry.PARTS}
    return {
        "clips": len(clips),
        "explained": {k: round(float(1 - lost[p].sum() / total[p].sum()), 3) for k, p in points.items()},
        "error": {"all": round(float(mean.mean()), 4)}
        | {k: round(float(mean[p].mean()), 4) for k, p in points.items()},
        "mouth_opening_r": round(float(np.mean([a for a, _ in openings])), 3),
        "eye_opening_r": round(float(np.mean([b for _, b in openings])), 3),
        "typical_spread": np.round(np.mean(spread, axis=0), 1).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TFCODEC_DATA"))
    parser.add_argument("--measure", action="store_true", help="fit and measure, but write no bases")
    parser.add_argument("--head", choices=("rigid", "all"), default="all", help="points the head's motion is fitted to")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.data is None:
        parser.error("name the data folder with --data or TFCODEC_DATA")
    data = Path(args.data)
    if args.head == "rigid":
        if not args.measure:
            parser.error("--head rigid is for --measure only")
        geometry.HEAD_POINTS = RIGID
    train = whole(runs([data / "landmarks_train_a.npz", data / "landmarks_train_d.npz"]))
    content = fit(train)
    bases = geometry.parse_bases(content)
    geometry.load_bases = lambda: bases  # type: ignore[assignment]
    result = measure(whole(runs([data / "landmarks_val.npz"])))
    result = {"head": args.head, "train_clips": len(train)} | result
    if not args.measure:
        digest = hashlib.sha256(content).hexdigest()
        (ROOT / "tfcodec/motion/bases.bin").write_bytes(content)
        source = ROOT / "tfcodec/motion/geometry.py"
        text = re.sub(r'BASES_SHA256 = "[0-9a-f]*"', f'BASES_SHA256 = "{digest}"', source.read_text())
        source.write_text(text)
        print("bases.bin", digest)
    text = json.dumps(result, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
