"""tfcodec against a keypoint codec on `val`: bits at equal LPIPS.

    python -m benchmarks.measure.keypoint_val WEIGHTS [--every 10] [--jobs 2]

WEIGHTS: a keypoint network, from `python -m tfcodec.training.keypoint ... --export WEIGHTS`. Both codecs send the same
keyframes at the same quality and are drawn from their own files; all bytes are counted, speech is left out. tfcodec's
tiny frames are box means, since nobody looks for keypoints that the other network draws best from, either. The
keypoint codec's curve is made of keyframe qualities and quantiser steps; its bits at the LPIPS that tfcodec has at
quality 5 are found on it by interpolation, clip by clip: "<" where its cheapest point is better already, ">" where its
best is worse.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import tfcodec
from benchmarks.common import clip_list, clips, environment, read_clip, write
from tfcodec.baselines import keypoint
from tfcodec.baselines.keypoint_model import KeypointAnimator, read_animator
from tfcodec.bench.analysis import LONG_SECONDS, bits_for
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.metrics.frames import frozen_keyframes
from tfcodec.metrics.lpips import LPIPS, lpips_of_arms
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model

QUALITY = 5
POINTS = ((0, 64), (2, 64), (5, 32), (5, 64), (5, 128), (8, 64), (10, 64))
"""Keyframe quality, quantiser steps from the middle of the picture to its edge."""
_animator: KeypointAnimator
_judge: LPIPS
"""Each process's own."""


def _start(weights: Path) -> None:
    import torch

    torch.set_num_threads(1)
    global _animator, _judge
    _animator, _judge = read_animator(weights), LPIPS("alex")


def measure(path: Path, every: int) -> list[dict[str, Any]]:
    """All points of both codecs on one clip, and the frozen keyframe."""
    source = read_clip(path)
    at = np.arange(0, len(source), every)
    animator = _animator
    data = tfcodec.encode(source, fps=25, quality=QUALITY, refine=False)
    parts = read_exact(data)
    arms: list[tuple[dict[str, Any], NDArray[np.uint8]]] = [
        ({"codec": "tfcodec", "quality": QUALITY, "bytes": tfcodec.probe(data).bytes},
         np.concatenate(list(render_exact(parts, only=at)))),
        ({"codec": "frozen keyframe"}, frozen_keyframes(parts.keyframes, len(source))[at]),
    ]  # fmt: skip
    for quality, steps in POINTS:
        data = keypoint.encode(source, animator, quality=quality, steps=steps)
        about: dict[str, Any] = {
            "codec": "keypoint", "quality": quality, "steps": steps, "bytes": keypoint.read(data).bytes
        }  # fmt: skip
        arms.append((about, keypoint.decode(data, animator, only=at)))
    distances = lpips_of_arms(_judge, [frames for _, frames in arms], source[at])
    seconds = len(source) / 25
    rows = []
    for (about, frames), row in zip(arms, distances, strict=True):
        entry = {"clip": path.name, "frames": len(source), "seconds": seconds, **about}
        if "bytes" in about:
            bits = 8 * about["bytes"]["total"]
            entry |= {"kbps": round(bits / 1000 / seconds, 4), "bpp": round(bits / len(source) / 65536, 7)}
        entry["metrics"] = {
            "lpips": round(float(row.mean()), 5), "psnr": round(float(psnr(frames, source[at]).mean()), 4),
        }  # fmt: skip
        rows.append(entry)
    return rows


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many times tfcodec's bits the keypoint codec needs, by clip and in the mean."""
    out: list[dict[str, Any]] = []
    for clip in sorted({row["clip"] for row in rows}):
        of = [row for row in rows if row["clip"] == clip]
        ours = next(row for row in of if row["codec"] == "tfcodec")
        theirs = sorted((row for row in of if row["codec"] == "keypoint"), key=lambda row: float(row["kbps"]))
        found = bits_for("lpips", ours["metrics"]["lpips"], theirs)
        assert found is not None
        out.append({"clip": clip, "tfcodec_kbps": ours["kbps"], "keypoint_kbps": round(found[0], 4),
                    "bound": found[1], "ratio": round(found[0] / ours["kbps"], 3)})  # fmt: skip
    ratios = np.array([entry["ratio"] for entry in out])
    return {
        "clips": len(out),
        "at_most": sum(e["bound"] == "<" for e in out), "at_least": sum(e["bound"] == ">" for e in out),
        "median": round(float(np.median(ratios)), 3), "geometric_mean": round(float(np.exp(np.log(ratios).mean())), 3),
        "p10": round(float(np.quantile(ratios, 0.1)), 3), "p90": round(float(np.quantile(ratios, 0.9)), 3),
        "per_clip": out,
    }  # fmt: skip


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the clips of every point."""
    points: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        points.setdefault((row["codec"], row.get("quality"), row.get("steps")), []).append(row)
    out = []
    for (codec, quality, steps), of in points.items():
        entry = {"codec": codec, "quality": quality, "steps": steps}
        entry |= {m: round(float(np.mean([r["metrics"][m] for r in of])), 5) for m in ("lpips", "psnr")}
        if "kbps" in of[0]:
            entry |= {k: round(float(np.mean([r[k] for r in of])), 6) for k in ("kbps", "bpp")}
            part = "tiny" if codec == "tfcodec" else "keypoints"
            bits = [8 * r["bytes"][part] / r["frames"] for r in of]
            entry[f"{part}_bits_per_frame"] = round(float(np.mean(bits)), 2)
        out.append(entry)
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("weights", type=Path)
    p.add_argument("--every", type=int, default=10, help="judge every n-th frame")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    p.add_argument("--about", default="", help="how the keypoint network was trained, for the record")
    p.add_argument("--limit", type=int, help="only so many clips; nothing is written")
    args = p.parse_args()
    paths = clips()[: args.limit]
    try:
        read_animator(args.weights)  # before two processes fail at it
    except tfcodec.TfcodecError as error:
        sys.exit(f"error: {error}")
    with ProcessPoolExecutor(args.jobs, initializer=_start, initargs=(args.weights,)) as pool:
        several = list(tqdm(pool.map(partial(measure, every=args.every), paths), total=len(paths), unit="clip"))
    rows = [row for some in several for row in some]
    long = [row for row in rows if row["seconds"] >= LONG_SECONDS]
    summary: dict[str, Any] = {"all": compare(rows), "mean": means(rows)}
    if long:
        summary |= {"clips_of_5_s_and_more": compare(long), "mean_of_clips_of_5_s_and_more": means(long)}
    for name, value in summary.items():
        shown = value if isinstance(value, list) else [{k: v for k, v in value.items() if k != "per_clip"}]
        print(name, *map(json.dumps, shown), sep="\n  ")
    if args.limit is None:
        digest = hashlib.sha256(args.weights.read_bytes()).hexdigest()
        write("keypoint_val", {
            "environment": environment(), "network": default_model().file,
            "keypoint_network": {"sha256": digest[:16], "bytes": args.weights.stat().st_size, "training": args.about},
            "judged_every": args.every, "clip_list": clip_list(paths), "summary": summary, "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
