"""Rate against quality on frames in memory: python examples/rate_distortion.py talk.mp4

For each quality it prints kbit/s, PSNR, and the PSNR of the keyframe alone. LPIPS, landmarks and the comparison with
H.264, H.265 and AV1 are in `tfcodec bench` and `tfcodec.metrics`.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import tfcodec
from tfcodec.media import open_source
from tfcodec.metrics.frames import frozen_keyframes
from tfcodec.metrics.pixels import psnr


def rates(
    frames: NDArray[np.uint8], qualities: tuple[int, ...] = (0, 2, 5, 8, 10), refine: bool = True
) -> list[tuple[int, float, float, float]]:
    """Rows of quality, kbit/s, PSNR and the keyframe's PSNR in dB, of frames [T, 256, 256, 3] uint8 at 25 a second."""
    rows = []
    for quality in qualities:
        data = tfcodec.encode(frames, fps=25, quality=quality, refine=refine)
        clip = tfcodec.decode(data)
        still = frozen_keyframes(clip.keyframes, len(clip.frames))
        quality_db, still_db = psnr(clip.frames, frames).mean(), psnr(still, frames).mean()
        rows.append((quality, tfcodec.probe(data).video_kbps, float(quality_db), float(still_db)))
    return rows


if __name__ == "__main__":
    with open_source(sys.argv[1]) as source:  # finds the face; any frames of your own will do
        pictures = np.stack(list(source.frames_iter()))
    print("quality  kbit/s  PSNR, dB  keyframe alone, dB")
    for q, kbps, decoded, frozen in rates(pictures):
        print(f"{q:7}  {kbps:6.2f}  {decoded:8.2f}  {frozen:18.2f}")
