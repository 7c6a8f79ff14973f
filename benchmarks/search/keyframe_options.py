"""Settings of the encoder of keyframes, against those from before: bytes at equal LPIPS of what is drawn from them.

    python -m benchmarks.search.keyframe_options [--clips 10] [--arms "before;ships"]

Clips of `train`, of different people, each coded once. The keyframe is then replaced by the same picture, coded with
the settings of each arm at two CRFs; tiny frames, motion and displacement stay. Judged are frames that the network
draws. The ratio is to the first arm, along the line through its two points in LPIPS and the logarithm of the bytes.
PSNR hardly depends on the keyframe, so it has no ratio; the keyframe's own says what its picture loses.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import tfcodec
from benchmarks.common import clip_list, clips, environment, read_clip, write
from tfcodec.codec import policy
from tfcodec.codec.file.decoder import ExactParts, read_exact, render_exact
from tfcodec.codec.file.encoder import WINDOW
from tfcodec.keyframe import av1, decode_keyframe, still
from tfcodec.keyframe.colour import to_planes
from tfcodec.metrics.lpips import LPIPS, lpips_of_frames
from tfcodec.metrics.pixels import psnr

LEVELS = {"quality 5": (1, (53.0, 51.0)), "quality 0": (2, (63.0, 59.0))}
"""Preset, and CRFs with the settings from before."""
_BEFORE = {"tune": "1", "variance-octile": "4", "enable-restoration": "1"}
ARMS: dict[str, tuple[float, dict[str, str]]] = {
    "before": (0, _BEFORE), "without restoration": (0, _BEFORE | {"enable-restoration": "0"}),
    "more texture": (-4, _BEFORE | {"variance-octile": "6"}), "tune 0": (-0.5, _BEFORE | {"tune": "0"}),
    "ships": (-3.25, {}), "without filters": (-3.25, {"enable-cdef": "0", "enable-dlf": "0"}),
}  # fmt: skip
"""By how much CRFs differ from those of before, so that bytes are much the same, and options beside those that ship."""


class Clip(NamedTuple):
    picture: NDArray[np.uint8]
    parts: ExactParts
    at: NDArray[np.int64]
    wanted: NDArray[np.uint8]


def options(changed: dict[str, str]) -> str:
    pairs = dict(pair.split("=") for pair in still._SVT_OPTIONS.split(":")) | changed
    return ":".join(f"{name}={value}" for name, value in pairs.items())


def load(path: Path) -> Clip:
    frames = read_clip(path)
    parts = read_exact(tfcodec.encode(path, quality=5))
    window = list(frames[:WINDOW])
    key = policy.choose_keyframe([policy.signature(frame) for frame in window], window)
    at = np.arange(5, len(parts.tiny), 12)
    return Clip(frames[key], parts, at, frames[at])


def measure(judge: LPIPS, clip: Clip, preset: int, given: str) -> dict[str, float]:
    begin = time.process_time()
    data = still._strip(b"".join(av1.encode([to_planes(clip.picture)], preset, given)))
    seconds = time.process_time() - begin
    picture = decode_keyframe(data)
    parts = replace(clip.parts, keyframes=[(0, picture), *clip.parts.keyframes[1:]])
    drawn = np.concatenate(list(render_exact(parts, only=clip.at)))
    return {
        "bytes": len(data), "lpips": float(lpips_of_frames(judge, drawn, clip.wanted).mean()),
        "psnr": float(psnr(drawn, clip.wanted).mean()),
        "keyframe_psnr": float(psnr(picture[None], clip.picture[None]).mean()), "cpu_ms": 1000 * seconds,
    }  # fmt: skip


def ratio(points: list[dict[str, float]], base: list[dict[str, float]]) -> float:
    """Bytes, of those that ``base`` would need for the same LPIPS; the mean of both points, in octaves."""
    (x0, x1), (y0, y1) = ([row["lpips"] for row in base], [float(np.log(row["bytes"])) for row in base])
    needed = [y0 + (row["lpips"] - x0) * (y1 - y0) / (x1 - x0) for row in points]
    return float(np.exp(np.mean([np.log(row["bytes"]) - y for row, y in zip(points, needed, strict=True)])))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=int, default=10)
    p.add_argument("--arms", default=";".join(ARMS), help="names between semicolons, the base first")
    args = p.parse_args()
    judge = LPIPS("alex")
    known = [path for path in clips("train") if path.name.startswith("d") and path.name.endswith("_00.mp4")]
    paths = [known[i] for i in np.linspace(3, len(known) - 3, args.clips).astype(int)]
    loaded = [load(path) for path in tqdm(paths, desc="encoding", mininterval=10)]
    found: dict[str, Any] = {}
    for level, (preset, crfs) in LEVELS.items():
        rows: dict[str, Any] = {}
        for name in args.arms.split(";"):
            offset, changed = ARMS[name]
            points = []
            for crf in crfs:
                given = f"{options(changed)}:crf={min(crf + offset, 63)}"
                each = [measure(judge, clip, preset, given) for clip in loaded]
                points.append({key: round(float(np.mean([row[key] for row in each])), 5) for key in each[0]})
            rows[name] = {"points": points, "bytes_at_equal_lpips": 1.0}
            rows[name]["bytes_at_equal_lpips"] = round(ratio(points, rows[args.arms.split(";")[0]]["points"]), 4)
            print(level, name, rows[name], flush=True)
        found[level] = rows
    write("keyframe_options", {"environment": environment(), "clip_list": clip_list(paths), "levels": found})


if __name__ == "__main__":
    main()
