"""Settings of the encoder of keyframes, against those that ship: bytes at equal LPIPS and at equal PSNR.

    python -m benchmarks.search.keyframe_options [--pictures 24] [--arms slowest,...]

Pictures of `train`, of different people, each coded at four CRFs; what is compared is the mean of all, between them
interpolated: of decoded keyframes, and of what the network's restorer makes of them.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import clip_list, clips, environment, read_clip, write
from tfcodec.keyframe import av1, decode_keyframe, still
from tfcodec.keyframe.colour import to_planes
from tfcodec.metrics.lpips import LPIPS, lpips_of_frames
from tfcodec.metrics.pixels import psnr
from tfcodec.model.blocks import from_pixels
from tfcodec.model.registry import default_model
from tfcodec.model.weights import load_model

CRFS = (54, 51, 48, 45)
_BEFORE = {"tune": "1", "variance-octile": "4", "enable-restoration": "1"}
ARMS: dict[str, tuple[int, dict[str, str]]] = {
    "before": (1, _BEFORE), "no restoration": (1, _BEFORE | {"enable-restoration": "0"}),
    "texture": (1, _BEFORE | {"variance-octile": "6"}), "restored, tune 0": (1, {"enable-restoration": "1"}),
    "ships": (1, {}), "slowest": (0, {}), "sharper": (1, {"sharpness": "6"}),
    "no filters": (1, {"enable-cdef": "0", "enable-dlf": "0"}),
    "fast, before": (5, _BEFORE), "fast, ships": (5, {}),
}  # fmt: skip
"""Preset, and options in place of those that ship; ratios are to the first arm, of fast arms to the first of those."""


def options(changed: dict[str, str]) -> str:
    pairs = dict(pair.split("=") for pair in still._SVT_OPTIONS.split(":")) | changed
    return ":".join(f"{name}={value}" for name, value in pairs.items())


METRICS = ("lpips", "restored_lpips", "psnr", "restored_psnr")


def restored(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decoded keyframes [N, 256, 256, 3] as the network restores them."""
    restorer = load_model(default_model()).restorer
    if restorer is None:
        raise RuntimeError("the network has no restorer")
    with torch.inference_mode():
        drawn = [restorer(from_pixels(torch.from_numpy(one[None]))).clamp(0, 1) for one in pictures]
    return np.asarray((255 * torch.cat(drawn)).round().byte().permute(0, 2, 3, 1).numpy())


def measure(judge: LPIPS, pictures: NDArray[np.uint8], arm: tuple[int, dict[str, str]]) -> list[dict[str, float]]:
    """A row for each CRF."""
    rows = []
    for crf in CRFS:
        begin = time.process_time()
        given = f"{options(arm[1])}:crf={crf}"
        coded = [still._strip(b"".join(av1.encode([to_planes(one)], arm[0], given))) for one in pictures]
        seconds = time.process_time() - begin
        shown = np.stack([decode_keyframe(one) for one in coded])
        whole = restored(shown)
        rows.append({
            "crf": crf, "bytes": round(float(np.mean([len(one) for one in coded])), 1),
            "lpips": round(float(lpips_of_frames(judge, shown, pictures).mean()), 5),
            "restored_lpips": round(float(lpips_of_frames(judge, whole, pictures).mean()), 5),
            "restored_psnr": round(float(psnr(whole, pictures).mean()), 3),
            "psnr": round(float(psnr(shown, pictures).mean()), 3), "cpu_ms": round(1000 * seconds / len(coded)),
        })  # fmt: skip
    return rows


def bytes_ratio(rows: list[dict[str, float]], base: list[dict[str, float]], metric: str) -> float | None:
    """Bytes at the third quality of ``base``, of those that it needs; None where that is out of reach."""
    values, sizes = ([row[name] for row in rows] for name in (metric, "bytes"))
    sign = 1 if values[-1] > values[0] else -1
    wanted = sign * base[2][metric]
    along = [sign * value for value in values]
    if not along[0] <= wanted <= along[-1]:
        return None
    return round(float(np.exp(np.interp(wanted, along, np.log(sizes)))) / base[2]["bytes"], 4)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pictures", type=int, default=24)
    p.add_argument("--arms", default=";".join(ARMS), help="names between semicolons, the base among them")
    args = p.parse_args()
    judge = LPIPS("alex")
    known = [path for path in clips("train") if path.name.endswith("_00.mp4")]
    paths = [known[i] for i in np.linspace(3, len(known) - 3, args.pictures).astype(int)]
    pictures = np.stack([(frames := read_clip(path))[len(frames) // 2] for path in paths])
    found: dict[str, Any] = {}
    for name in args.arms.split(";"):
        rows = measure(judge, pictures, ARMS[name])
        base = "fast, before" if name.startswith("fast") else "before"
        found[name] = {"rows": rows}
        found[name] |= {f"equal_{m}": bytes_ratio(rows, found[base]["rows"], m) for m in METRICS}
        print(name, found[name], flush=True)
    write("keyframe_options", {"environment": environment(), "clip_list": clip_list(paths), "arms": found})


if __name__ == "__main__":
    main()
