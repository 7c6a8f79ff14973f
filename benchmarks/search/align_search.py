"""How displacements are looked for and how finely they are coded: `codec/file/align.py`, `policy.displacement_quality`.

    python -m benchmarks.search.align_search [--clips 10] [--frames 96]

Clips of `train` of different people, whole streams at quality 5: bits a frame of the layer and of all video, PSNR and
LPIPS of every fifth picture, processor seconds of encoding.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import clip_list, clips, environment, read_clip, write
from tfcodec.codec import policy
from tfcodec.codec.file import encoder
from tfcodec.codec.file.align import Aligner, Alignment
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.codec.options import EncodeOptions
from tfcodec.metrics.lpips import LPIPS, lpips_of_frames
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model

ARMS: dict[str, tuple[int, Alignment] | None] = {
    "without the layer": None,
    "quality 6": (6, Alignment(calm=4e-5)),
    "quality 5": (5, Alignment(calm=4e-5)),
    "quality 8": (8, Alignment(calm=4e-5)),
    "quality 6, every 2nd frame": (6, Alignment(stride=2, calm=4e-5)),
    "quality 5, less calm": (5, Alignment(calm=1.5e-5)),
    "quality 6, calmer": (6, Alignment(calm=1e-4)),
    "as it ships: quality 7, a little calmer": (7, Alignment()),
}
"""Quality of the layer, and how displacements are looked for."""


TEXT = ("clip", "arm", "frames")
"""What of a row is no figure."""


def measure(judge: LPIPS, source: NDArray[np.uint8], arm: tuple[int, Alignment] | None) -> dict[str, Any]:
    ladder = policy._DISPLACEMENT_LADDER
    chosen = None if arm is None else Aligner(default_model(), arm[1])
    vars(encoder)["_aligner"] = lambda options: chosen
    vars(policy)["_DISPLACEMENT_LADDER"] = ladder if arm is None else (arm[0],) * len(ladder)
    begin = time.process_time()
    data = encoder.encode_clip(iter(source), None, EncodeOptions(5), len(source))
    seconds = time.process_time() - begin
    vars(policy)["_DISPLACEMENT_LADDER"] = ladder
    at = np.arange(1, len(source), 5)
    drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
    parts = tfcodec.probe(data).bytes
    return {
        "displacement_bits": round(8 * parts.get("displacement", 0) / len(source), 3),
        "video_bits": round(8 * len(data) / len(source), 3), "psnr": round(float(psnr(drawn, source[at]).mean()), 3),
        "lpips": round(float(lpips_of_frames(judge, drawn, source[at]).mean()), 5), "encode_cpu_s": round(seconds, 2),
    }  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=int, default=10)
    p.add_argument("--frames", type=int, default=96, help="of a clip, at most")
    args = p.parse_args()
    judge = LPIPS("alex")
    known = [path for path in clips("train") if path.name.startswith("d") and path.name.endswith("_00.mp4")]
    paths = [known[i] for i in np.linspace(5, len(known) - 5, args.clips).astype(int)]
    rows: list[dict[str, Any]] = []
    for path in paths:
        source = read_clip(path)[: args.frames]
        for name, arm in ARMS.items():
            rows.append({"clip": path.name, "arm": name, "frames": len(source), **measure(judge, source, arm)})
            print(rows[-1], flush=True)
    mean = {
        name: {k: round(float(np.mean([r[k] for r in rows if r["arm"] == name])), 5) for k in rows[0] if k not in TEXT}
        for name in ARMS
    }
    write("align_search", {"environment": environment(), "clip_list": clip_list(paths), "mean": mean, "rows": rows})
    for name, figures in mean.items():
        print(name, figures)


if __name__ == "__main__":
    main()
