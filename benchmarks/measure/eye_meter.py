"""How exact the meter of mouth and eye openings is, and from which depth on it reads a blink. Sets the constants of
`tfcodec.metrics.openings`.

    python -m benchmarks.measure.eye_meter [--clips 40] [-o JSON]

On clips of `train` of two seconds and more, at every frame; nothing of it is seen again in `val`. The other method's
landmarks (a 478-point face mesh) come with the clips. Its depths of blinks fall into two heaps, twitches and blinks,
with little between them; a blink is what it closes by `LABEL_DEPTH` or more. The meter's own landmarks stay farther
apart over shut eyes, so its threshold is lower: the one that agrees best (F1) with the other method's blinks.

Noise: what the meter reads differently in the same picture after JPEG. An opening moves in a clip where its standard
deviation is twice its noise. The same blink need only be as deep as the threshold less two standard deviations of its
depth's noise in the other of two videos.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import clip_list, clips, environment, read_clip, write
from benchmarks.measure.quality_arms import as_jpeg, labelled_landmarks
from tfcodec.files import write_json
from tfcodec.metrics import faces, openings
from tfcodec.metrics.openings import BLINK_SHIFT, FPS, find_blinks, matched_blinks, opening_correlation

LEAST_FRAMES = 50
JPEG_FRAMES = 100
LABEL_DEPTH = 0.4
DEPTHS = [round(float(d), 3) for d in np.arange(0.1, 0.51, 0.02)]
WEAKEST = 0.1
OPENINGS = {"mouth": faces.mouth_opening, "eye": faces.eye_opening}

Curve = NDArray[np.float64]


def chosen(count: int) -> list[Path]:
    """Clips of `train` with landmarks, spread over the set."""
    found = []
    for path in clips("train"):
        if path.name.startswith("a"):  # news presenters: 1.2 s each
            continue
        labels = labelled_landmarks(path)
        if labels is not None and len(labels) >= LEAST_FRAMES and np.isfinite(labels).all((1, 2)).mean() > 0.9:
            found.append(path)
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))]


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))


def agreement(ours: list[Curve], labels: list[Curve], depth: float) -> dict[str, float]:
    """Blinks by the meter against those by the other method, all clips together."""
    hits = found = wanted = 0
    for a, b in zip(ours, labels, strict=True):
        x, y = find_blinks(a, FPS, depth), find_blinks(b, FPS, LABEL_DEPTH)
        hits, found, wanted = hits + len(matched_blinks(x, y, FPS)), found + len(x), wanted + len(y)
    return {"depth": depth, "found": found, "precision": round(hits / max(found, 1), 4),
            "recall": round(hits / max(wanted, 1), 4), "f1": round(2 * hits / max(found + wanted, 1), 4)}  # fmt: skip


def histogram(curves: list[Curve]) -> list[int]:
    """Depths of dips in tenths, from 0.1 on."""
    depths = [blink.depth for curve in curves for blink in find_blinks(curve, FPS, WEAKEST)]
    return [int(n) for n in np.histogram(depths, np.arange(WEAKEST, 1.01, 0.1))[0]]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=int, default=40)
    p.add_argument("-o", "--output", type=Path, help="JSON file in place of results/eye_meter.json")
    args = p.parse_args()
    meter, paths = faces.FaceMeter(), chosen(args.clips)
    curves: dict[str, list[Curve]] = {f"{of}_{who}": [] for of in OPENINGS for who in ("meter", "labels")}
    noise: dict[str, list[float]] = {of: [] for of in OPENINGS}
    depth_noise: list[float] = []
    for path in tqdm(paths, unit="clip"):
        frames, labels = read_clip(path), labelled_landmarks(path)
        assert labels is not None
        frames = frames[: len(labels)]
        own = meter.landmarks(frames)
        jpeg = meter.landmarks(np.stack([as_jpeg(frame) for frame in frames[:JPEG_FRAMES]]))
        for of, opening in OPENINGS.items():
            curves[f"{of}_meter"].append(opening(own))
            curves[f"{of}_labels"].append(opening(labels[: len(frames)]))
            noise[of].append(float(np.nanstd(opening(jpeg) - opening(own[:JPEG_FRAMES]))))
        first, again = (find_blinks(faces.eye_opening(marks[:JPEG_FRAMES]), FPS, WEAKEST) for marks in (own, jpeg))
        depth_noise += [first[i].depth - again[j].depth for i, j in matched_blinks(first, again, FPS)]

    table = [agreement(curves["eye_meter"], curves["eye_labels"], depth) for depth in DEPTHS]
    best = max(table, key=lambda row: row["f1"])
    wobble = float(np.std(depth_noise))
    found = {
        "MOUTH_NOISE": round(rms(noise["mouth"]), 3), "EYE_NOISE": round(rms(noise["eye"]), 3),
        "BLINK_DEPTH": best["depth"], "BLINK_ECHO": round(best["depth"] - 2 * wobble, 2),
    }  # fmt: skip
    result: dict[str, Any] = {
        "environment": environment(), "clip_list": clip_list(paths),
        "seconds": round(sum(map(len, curves["eye_meter"])) / FPS, 1),
        "constants": found, "blink_depth_noise": round(wobble, 4), "blinks_seen_twice": len(depth_noise),
        "label_depth": LABEL_DEPTH, "shift_seconds": BLINK_SHIFT,
        "blinks_by_labels": sum(len(find_blinks(c, FPS, LABEL_DEPTH)) for c in curves["eye_labels"]),
        "dips_by_depth_in_tenths_from_0.1": {who: histogram(curves[f"eye_{who}"]) for who in ("labels", "meter")},
        "thresholds": table,
    }  # fmt: skip
    for of in OPENINGS:
        ours, other = curves[f"{of}_meter"], curves[f"{of}_labels"]
        limit = openings.MOVING * found[f"{of.upper()}_NOISE"]
        kept = [(opening_correlation(a, b), float(np.nanstd(a))) for a, b in zip(ours, other, strict=True)]
        result[of] = {
            "noise": round(rms(noise[of]), 5), "moves_from": round(limit, 4),
            "clips_that_move": sum(sd >= limit for _, sd in kept),
            "correlation_with_labels": round(float(np.mean([r for r, sd in kept if sd >= limit])), 4),
            "deviation_percentiles_10_50_90": [round(float(v), 4) for v in np.percentile(
                [sd for _, sd in kept], (10, 50, 90))],
        }  # fmt: skip
    for key, value in result.items():
        if key not in ("environment", "clip_list"):
            print(key, value)
    for name, value in found.items():
        if value != getattr(openings, name):
            print(f"tfcodec.metrics.openings has {name} = {getattr(openings, name)}, not {value}")
    if args.output is not None:
        write_json(args.output, result)
    else:
        write("eye_meter", result)


if __name__ == "__main__":
    main()
