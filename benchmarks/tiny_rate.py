"""Bits and error of the tiny frames alone, on the `val` clips.

    python benchmarks/tiny_rate.py [--data FOLDER] [--quality 5] [--output FILE]

Each clip is coded in file mode (payloads of up to 128 frames) and in call mode (one payload a frame). The first frame
is predicted from the decoded keyframe: the first picture as AVIF at about 1.8 KB. Bits are whole payload bytes,
keyframe and container not included. Every payload is decoded again, and the errors are those of the decoder's output.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from tfcodec.tinyframe import (
    MAX_FRAMES,
    TinyDecoder,
    TinyEncoder,
    TinyPlanes,
    tables_sha256,
    tiny_from_frames,
)

ROOT = Path(__file__).resolve().parents[1]
KEYFRAME_BYTES = 1800


def read(clip: Path) -> npt.NDArray[np.uint8]:
    with av.open(str(clip)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def stand_in_keyframe(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture after AVIF at the highest quality that stays within `KEYFRAME_BYTES`."""
    low, high, best = 1, 70, b""
    while low <= high:
        quality = (low + high) // 2
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "AVIF", quality=quality, speed=8, codec="aom", max_threads=1)
        if len(buffer.getvalue()) <= KEYFRAME_BYTES or not best:
            best = buffer.getvalue()
        if len(buffer.getvalue()) <= KEYFRAME_BYTES:
            low = quality + 1
        else:
            high = quality - 1
    return np.asarray(Image.open(io.BytesIO(best)).convert("RGB"))


def measure(source: TinyPlanes, reference: TinyPlanes, mode: str, quality: int) -> dict[str, float]:
    encoder, decoder = TinyEncoder(quality, mode), TinyDecoder()  # type: ignore[arg-type]
    encoder.reset(reference)
    decoder.reset(reference)
    part = MAX_FRAMES if mode == "file" else 1
    decoded, size, encoding, decoding = [], 0, 0.0, 0.0
    for start in range(0, len(source), part):
        planes = source[start : start + part]
        t0 = time.perf_counter()
        payload = encoder.encode(planes)
        t1 = time.perf_counter()
        decoded.append(decoder.decode(payload, len(planes)))
        t2 = time.perf_counter()
        size, encoding, decoding = size + len(payload), encoding + t1 - t0, decoding + t2 - t1
    luma, chroma = TinyPlanes.concatenate(decoded).mse(source)
    return {
        "bits_per_frame": 8 * size / len(source),
        "bytes": size,
        "luma_mse": luma,
        "chroma_mse": chroma,
        "encode_seconds": encoding,
        "decode_seconds": decoding,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("TFCODEC_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--quality", type=int, nargs="+", default=[5])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/tiny_rate.json")
    options = parser.parse_args()
    clips: list[dict[str, Any]] = []
    for path in sorted((options.data / "val").glob("*.mp4")):
        frames = read(path)
        source = tiny_from_frames(frames)
        reference = tiny_from_frames(stand_in_keyframe(frames[0])[None])
        entry: dict[str, Any] = {"clip": path.stem, "frames": len(source)}
        for quality in options.quality:
            for mode in ("file", "call"):
                entry[f"{mode}_q{quality}"] = measure(source, reference, mode, quality)
        clips.append(entry)
    summary = {}
    total = sum(c["frames"] for c in clips)
    for quality in options.quality:
        for mode in ("file", "call"):
            rows = [c[f"{mode}_q{quality}"] for c in clips]
            summary[f"{mode}_q{quality}"] = {
                "bits_per_frame_mean_over_clips": float(np.mean([r["bits_per_frame"] for r in rows])),
                "bits_per_frame_over_all_frames": 8 * sum(r["bytes"] for r in rows) / total,
                "luma_mse_mean": float(np.mean([r["luma_mse"] for r in rows])),
                "luma_mse_worst": max(r["luma_mse"] for r in rows),
                "chroma_mse_mean": float(np.mean([r["chroma_mse"] for r in rows])),
                "chroma_mse_worst": max(r["chroma_mse"] for r in rows),
                "clips_within_luma_3.5_chroma_2.5": sum(r["luma_mse"] <= 3.5 and r["chroma_mse"] <= 2.5 for r in rows),
                "encode_frames_per_second": total / sum(r["encode_seconds"] for r in rows),
                "decode_frames_per_second": total / sum(r["decode_seconds"] for r in rows),
            }
            print(f"{mode} q{quality}: " + ", ".join(f"{k} {v:.4g}" for k, v in summary[f"{mode}_q{quality}"].items()))
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {np.__version__}; speeds on one core",
        "tables_sha256": tables_sha256(),
        "keyframe": f"Pillow AVIF of the first picture, at most {KEYFRAME_BYTES} bytes with its container",
        "summary": summary,
        "clips": clips,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
