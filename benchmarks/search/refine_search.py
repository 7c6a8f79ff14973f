"""How should the encoder look for tiny frames that the network draws best from? Answered on `train`.

    python -m benchmarks.search.refine_search [--limit N]

Codes the first two seconds of ten clips of `train` with the keyframe of quality 5, with box means and with tiny frames
found in several ways (`tfcodec.codec.file.refine.Descent`), and judges every fifth frame of each written stream. The
defaults of `Descent` were set by hand from the result: LPIPS and PSNR for bits and time.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import clip_list, environment, write
from benchmarks.search.ladder_search import choose_clips, lpips
from tfcodec.codec.file.decoder import probe_bytes, read_exact, render_exact
from tfcodec.codec.file.encoder import FileEncoder, finish_file
from tfcodec.codec.file.refine import Descent, Refiner
from tfcodec.codec.options import EncodeOptions
from tfcodec.codec.parts.tiny import TinyLayerEncoder
from tfcodec.media import open_source
from tfcodec.metrics.lpips import LPIPS
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model
from tfcodec.model.weights import load_model
from tfcodec.tinyframe import TinyEncoder

FRAMES, LOOK_EVERY, EXPECTED = 50, 5, 250
USUAL = Descent()
WAYS: list[tuple[int, Descent | None]] = [
    *((tiny, None) for tiny in (0, 1, 2)), (1, USUAL), (2, USUAL),
    (1, Descent(steps=1)), (1, Descent(steps=3)), (1, Descent(rate=1800)), (1, Descent(rate=3500)),
    (1, Descent(price=0.3)), (1, Descent(price=3)), (1, Descent(stride=4)), (1, Descent(stride=12)),
    (1, Descent(gains=(1.0,))), (1, Descent(gains=(2.0,))), (1, Descent(gains=(1.0, 1.5, 2.0))),
]  # fmt: skip
"""Tiny-frame quality, and how to look (None: box means)."""


def measure(path: Path) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    judge, model = LPIPS("alex"), load_model(default_model())
    with open_source(path, crop="none") as clip:
        frames = np.stack([f for _, f in zip(range(FRAMES), clip.frames_iter(), strict=False)])
    at = np.arange(2, len(frames), LOOK_EVERY)
    rows = []
    for quality, how in WAYS:
        refiner = None if how is None else Refiner(model, how)
        encoder = FileEncoder(EncodeOptions(refine=False), audio=False, expected_frames=EXPECTED)
        encoder.stream.layers["tiny"] = TinyLayerEncoder(TinyEncoder(quality, mode="file"), refiner)
        begin = time.perf_counter()
        data = finish_file(encoder, [chunk for frame in frames for chunk in encoder.push_chunks(frame)])
        seconds = time.perf_counter() - begin
        drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
        info = probe_bytes(data)
        rows.append({
            "tiny_bits_per_frame": 8 * info.bytes["tiny"] / len(frames), "keyframe_bytes": info.bytes["keyframe"],
            "lpips": float(lpips(judge, drawn, frames[at]).mean()), "psnr": float(psnr(drawn, frames[at]).mean()),
            "seconds_per_frame": seconds / len(frames),
        })  # fmt: skip
    return rows


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--limit", type=int, help="only so many clips; then nothing is written")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    args = p.parse_args()
    paths = choose_clips()[: args.limit]
    with ProcessPoolExecutor(args.jobs) as pool:
        found = list(tqdm(pool.map(measure, paths), total=len(paths), unit="clip"))
    rows: list[dict[str, Any]] = []
    for i, (quality, how) in enumerate(WAYS):
        means = {name: round(float(np.mean([clip[i][name] for clip in found])), 5) for name in found[0][i]}
        rows.append({"tiny_quality": quality, "descent": None if how is None else asdict(how), **means})
        print(rows[-1])
    if args.limit is None:
        write("refine_search", {
            "environment": environment(), "jobs": args.jobs, "network": default_model().title,
            "clip_list": clip_list(paths), "frames_per_clip": FRAMES, "look_every": LOOK_EVERY, "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
