"""Keyframe and speech ladders over the clips of `val`: bytes, PSNR, time; kbit/s and spectral error.

    python benchmarks/keyframe_rate.py [--split val] [--output benchmarks/results/keyframe_rate.json]

The first frame of each clip is the keyframe; its PSNR is taken over all RGB samples. Speech is coded in
packets of 120 ms (files) and 60 ms (calls) and its rate counts packet bytes only. The mel error is the
mean difference of the log-mel spectrograms of decoded and source sound in dB, over columns where the
source is above -60 dB.
Clips: TFCODEC_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

import tfcodec
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.speech import SAMPLE_RATE, bitrate_of, decode_speech, encode_speech, log_mel

ROOT = Path(__file__).resolve().parents[1]


def first_frame(clip: Path) -> npt.NDArray[np.uint8]:
    with av.open(str(clip)) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


def sound(clip: Path) -> npt.NDArray[np.float32] | None:
    with av.open(str(clip)) as container:
        if not container.streams.audio:
            return None
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames])


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    error = float(np.mean((a.astype(float) - b) ** 2))
    return 10 * math.log10(255**2 / max(1e-9, error))


def mel_error_db(decoded: npt.NDArray[np.float32], source: npt.NDArray[np.float32]) -> float:
    columns = len(source) // 640
    a, b = log_mel(decoded, columns), log_mel(source, columns)
    loud = b.max(1) > -1 / 3  # -60 dB on the scale of -90...0 dB
    return float(np.abs(a - b)[loud].mean() * 45) if loud.any() else 0.0


def keyframes(clips: list[Path]) -> list[dict[str, Any]]:
    pictures = {clip.name: first_frame(clip) for clip in clips}
    rows: list[dict[str, Any]] = []
    for quality, fast in [(q, False) for q in range(11)] + [(5, True)]:
        per_clip: dict[str, tuple[int, float]] = {}
        encode_ms, decode_ms = [], []
        for name, picture in pictures.items():
            began = time.perf_counter()
            payload = encode_keyframe(picture, quality, fast=fast)
            coded = time.perf_counter()
            decoded = decode_keyframe(payload)
            decode_ms.append(1e3 * (time.perf_counter() - coded))
            encode_ms.append(1e3 * (coded - began))
            per_clip[name] = (len(payload), round(psnr(decoded, picture), 2))
        sizes = [size for size, _ in per_clip.values()]
        quality_db = [decibel for _, decibel in per_clip.values()]
        rows.append(
            {
                "quality": quality,
                "fast": fast,
                "bytes_mean": round(float(np.mean(sizes)), 1),
                "bytes_min": min(sizes),
                "bytes_max": max(sizes),
                "psnr_mean": round(float(np.mean(quality_db)), 2),
                "psnr_min": min(quality_db),
                "encode_ms_median": round(float(np.median(encode_ms)), 1),
                "decode_ms_median": round(float(np.median(decode_ms)), 2),
                "per_clip": per_clip,
            }
        )
        print(
            f"keyframe quality {quality:2}{' fast' if fast else ''}: {rows[-1]['bytes_mean']:.0f} bytes, "
            f"{rows[-1]['psnr_mean']} dB, {rows[-1]['encode_ms_median']} ms"
        )
    return rows


def speech(clips: list[Path]) -> list[dict[str, Any]]:
    sounds = [pcm for pcm in map(sound, clips) if pcm is not None and len(pcm)]
    seconds = sum(map(len, sounds)) / SAMPLE_RATE
    rows = []
    for packet_ms in (120, 60):
        for quality in range(11):
            tracks = [encode_speech(pcm, quality, packet_ms) for pcm in sounds]
            size = sum(len(packet) for track in tracks for packet in track.packets)
            errors = [mel_error_db(decode_speech(t), pcm) for t, pcm in zip(tracks, sounds, strict=True)]
            row = {
                "quality": quality,
                "packet_ms": packet_ms,
                "nominal_kbps": bitrate_of(quality) / 1000,
                "kbps": round(size * 8 / seconds / 1000, 3),
                "mel_error_db": round(float(np.mean(errors)), 2),
                "clips": len(sounds),
                "seconds": round(seconds, 1),
            }
            rows.append(row)
            print(f"speech quality {quality:2}, {packet_ms} ms: {row['kbps']} kbit/s, {row['mel_error_db']} dB")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="val")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "keyframe_rate.json")
    options = parser.parse_args()
    data = Path(os.environ.get("TFCODEC_DATA", ROOT.parent / "shared" / "data"))
    clips = sorted((data / options.split).glob("*.mp4"))
    if not clips:
        parser.error(f"no clips in split {options.split!r}: set TFCODEC_DATA")
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "tfcodec": tfcodec.__version__,
        "pyav": av.__version__,
        "split": options.split,
        "clips": [clip.name for clip in clips],
        "keyframe": keyframes(clips),
        "speech": speech(clips),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
