"""Fewer bytes for keyframes of quality 0: by the slowest preset, without loop restoration, beyond CRF 63.

    python -m benchmarks.search.lowest_keyframe [--clips 12] [--arms now,c66,...]

Clips of `train`, whole streams without refinement: bytes by part, and LPIPS and PSNR of six pictures that are drawn.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import tfcodec
from benchmarks.common import clips, environment, read_clip, write
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.codec.file.encoder import encode_clip
from tfcodec.codec.options import EncodeOptions
from tfcodec.keyframe import still
from tfcodec.metrics.lpips import LPIPS, lpips_of_frames
from tfcodec.metrics.pixels import psnr

_NO_RESTORATION = ":enable-restoration=0"
ARMS: dict[str, tuple[int, str, float]] = {
    "now": (2, "", 63), "p0": (0, "", 63), "p0 r0": (0, _NO_RESTORATION, 63), "c64": (2, "", 64), "c65": (2, "", 65),
    "c66": (2, "", 66), "c68": (2, "", 68), "c70": (2, "", 70), "p0 r0 c70": (0, _NO_RESTORATION, 70),
}  # fmt: skip
"""Preset, further options and CRF of the coarsest keyframe."""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=int, default=12)
    p.add_argument("--arms", default=",".join(ARMS))
    args = p.parse_args()
    judge, options, ladder = LPIPS("alex"), still._SVT_OPTIONS, still._CRF
    known = [path for path in clips("train") if path.name.startswith("d")]
    rows: list[dict[str, Any]] = []
    for i in np.linspace(20, len(known) - 20, args.clips).astype(int).tolist():
        frames = read_clip(known[i])
        if len(frames) < 125:
            continue
        at = np.linspace(5, len(frames) - 6, 6).astype(int)
        for arm in args.arms.split(","):
            preset, more, crf = ARMS[arm]
            changed = {"_COARSE_PRESET": preset, "_SVT_OPTIONS": options + more, "_CRF": (crf, *ladder[1:])}
            vars(still).update(changed)
            data = encode_clip(iter(frames), None, EncodeOptions(0, refine=False), len(frames))
            drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
            rows.append({
                "clip": known[i].name, "arm": arm, "frames": len(frames), "bytes": tfcodec.probe(data).bytes,
                "lpips": round(float(lpips_of_frames(judge, drawn, frames[at]).mean()), 4),
                "psnr": round(float(psnr(drawn, frames[at]).mean()), 2),
            })  # fmt: skip
            print(rows[-1], flush=True)
        write("lowest_keyframe", {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
