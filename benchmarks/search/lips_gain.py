"""How many times as far as the speech says the mouth should move, where its motion is not sent.

    python -m benchmarks.search.lips_gain [--gains 1 2 3] [--clips 10] [--every 3] [--rows FILE]

Clips of `train` with speech, of as many people, quality 5, without the motion layer and without search; mouths in the
decoded pictures, by PFLD. Sets `tfcodec.model.mouth.GAIN`. `--rows FILE` keeps each
clip's figures there as they come, and goes on from them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import clip_list, data_folder, environment, read_clip, write
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.metrics.faces import FaceMeter, mouth_distance, mouth_opening, mouth_shape_distance
from tfcodec.metrics.openings import opening_correlation
from tfcodec.model import mouth
from tfcodec.training.lips_data import find_items, read_sound

QUALITY = 5
SHORTEST, LONGEST = 100, 150
"""Frames."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gains", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--every", type=int, default=3, help="judge every n-th picture")
    parser.add_argument("--rows", type=Path, help="JSON lines of an earlier run that was broken off")
    args = parser.parse_args()
    kept = args.rows.read_text().splitlines() if args.rows and args.rows.exists() else []
    done = {row["clip"]: row for row in map(json.loads, kept)}
    meter = FaceMeter()
    known = find_items(data_folder())
    items = [(item, path) for item, path in known if item.kind == "train" and SHORTEST <= item.frames <= 200]
    rows: list[dict[str, Any]] = []
    people: set[str] = set()
    paths = []
    for i in np.random.default_rng(4).permutation(len(items)).tolist():
        (item, path), person = items[i], items[i][1].name.split("_")[0]
        sound = None if person in people else read_sound(path, item.frames)
        if sound is None:
            continue
        people.add(person)
        paths.append(path)
        if path.name not in done:
            drawn = openings(read_clip(path)[:LONGEST], sound, args.gains, args.every, meter)
            done[path.name] = {"clip": path.name, **drawn}
            if args.rows:
                with args.rows.open("a") as file:
                    file.write(json.dumps(done[path.name]) + "\n")
            print(done[path.name], flush=True)
        rows.append(done[path.name])
        if len(rows) == args.clips:
            break
    mean = {gain: {name: round(float(np.mean([row[gain][name] for row in rows])), 4) for name in rows[0][gain]}
            for gain in map(str, args.gains)}  # fmt: skip
    print(mean)
    result = {"quality": QUALITY, "search": False, "share": mouth.HEARD, "judged_every": args.every, "train": mean}
    write("lips_gain", {"environment": environment(), **result, "clip_list": clip_list(paths), "rows": rows})


def openings(
    frames: NDArray[np.uint8], sound: NDArray[np.float32], gains: list[float], every: int, meter: FaceMeter
) -> dict[str, dict[str, float]]:
    """By gain: correlation of the mouth's opening with the source's, how far it moves, how far it is off."""
    sound = sound[: 640 * len(frames)]
    data = tfcodec.encode(frames, fps=25, audio=sound, sample_rate=16000, quality=QUALITY, motion=False, refine=False)
    parts, at = read_exact(data), np.arange(0, len(frames), every)
    source = meter.landmarks(frames[at])
    wanted, row = mouth_opening(source), {}
    for gain in gains:
        mouth.GAIN = gain
        found = meter.landmarks(np.concatenate(list(render_exact(parts, only=at))))
        opening = mouth_opening(found)
        row[str(gain)] = {
            "r": round(opening_correlation(opening, wanted), 4),
            "amplitude": round(float(np.nanstd(opening) / np.nanstd(wanted)), 4),
            "opening": round(float(np.nanmean(opening) - np.nanmean(wanted)), 4),
            "distance": round(float(np.nanmean(mouth_distance(found, source))), 4),
            "shape": round(float(np.nanmean(mouth_shape_distance(found, source))), 4),
        }
    return row


if __name__ == "__main__":
    main()
