"""Bits and error of the tiny frames alone, on the `val` clips.

    python -m benchmarks.measure.tiny_rate [--quality 5]

Each clip is coded in file mode (payloads of up to 128 frames) and in call mode (one payload a frame). The first frame
is predicted from the decoded keyframe, which is the first picture at the quality that the encoder gives it. Bits are
whole payload bytes, keyframe and container not included. Every payload is decoded again, and the errors are those of
the decoder's output.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.common import clip_list, clips, environment, write
from tfcodec.codec.policy import keyframe_quality
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.media import open_source
from tfcodec.tinyframe import (
    MAX_FRAMES,
    TinyDecoder,
    TinyEncoder,
    TinyPlanes,
    tables_sha256,
    tiny_from_frames,
)


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
    parser.add_argument("--quality", type=int, nargs="+", default=[5])
    options = parser.parse_args()
    paths, results = clips(), []
    for path in paths:
        with open_source(path, crop="none") as clip:
            frames = np.stack(list(clip.frames_iter()))
        source = tiny_from_frames(frames)
        entry: dict[str, Any] = {"clip": path.stem, "frames": len(source)}
        for quality in options.quality:
            keyframe = encode_keyframe(frames[0], keyframe_quality(quality, len(frames)))
            reference = tiny_from_frames(decode_keyframe(keyframe)[None])
            for mode in ("file", "call"):
                entry[f"{mode}_q{quality}"] = measure(source, reference, mode, quality)
        results.append(entry)
    summary = {}
    total = sum(c["frames"] for c in results)
    for quality in options.quality:
        for mode in ("file", "call"):
            rows = [c[f"{mode}_q{quality}"] for c in results]
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
    write("tiny_rate", {"environment": environment(), "speeds": "on one core", "tables_sha256": tables_sha256(),
                        "clip_list": clip_list(paths), "summary": summary, "clips": results})  # fmt: skip


if __name__ == "__main__":
    main()
