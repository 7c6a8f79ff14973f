"""Keyframe and speech ladders over the clips of `val`: bytes, PSNR, time; kbit/s and spectral error.

    python -m benchmarks.measure.keyframe_rate

The first frame of each clip is the keyframe; its PSNR is taken over all RGB samples. Speech is coded in
packets of 120 ms (files) and 60 ms (calls) and its rate counts packet bytes only. The mel error is the
mean difference of the log-mel spectrograms of decoded and source sound in dB, over columns where the
source is above -60 dB.
Clips: TFCODEC_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from benchmarks.common import clip_list, clips, environment, write
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.metrics.pixels import psnr
from tfcodec.model.logmel import log_mel
from tfcodec.speech import SAMPLE_RATE, bitrate_of, decode_speech, encode_speech


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


def mel_error_db(decoded: npt.NDArray[np.float32], source: npt.NDArray[np.float32]) -> float:
    columns = len(source) // 640
    a, b = log_mel(decoded, columns), log_mel(source, columns)
    loud = b.max(1) > -1 / 3  # -60 dB on the scale of -90...0 dB
    return float(np.abs(a - b)[loud].mean() * 45) if loud.any() else 0.0


def keyframes(paths: list[Path]) -> list[dict[str, Any]]:
    pictures = {clip.name: first_frame(clip) for clip in paths}
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
            per_clip[name] = (len(payload), round(float(psnr(decoded[None], picture[None])[0]), 2))
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


def speech(paths: list[Path]) -> list[dict[str, Any]]:
    sounds = [pcm for pcm in map(sound, paths) if pcm is not None and len(pcm)]
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
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    paths = clips()
    write("keyframe_rate", {"environment": environment(), "clip_list": clip_list(paths), "keyframe": keyframes(paths),
                            "speech": speech(paths)})  # fmt: skip


if __name__ == "__main__":
    main()
