#!/usr/bin/env bash
# OpenCV's RGB to I420 and YV12 takes the colour of one pixel of four; its RGB to YUY2 and UYVY takes the mean of two.
#
# 4:2:0 has one colour for 2x2 pixels. `cvtColor(..., COLOR_RGB2YUV_I420)` copies that of the upper left one and drops
# three. Fine texture aliases into colour, and the colour moves by half a pixel against a decoder that takes it for the
# mean. Frames prepared so for an encoder lose decibels in U and V before it begins. FFmpeg's swscale averages.
#
# Guessed before the first run: I420 has the mean of 2x2 pixels.
#
# Seen on 2026-11-28 with opencv-python-headless 5.0.0.93, noise in RGB, mean difference of U, in levels:
#
#                 from the mean    from the one pixel (upper left, or left)
#   I420, YV12    29               0.3
#   YUY2, UYVY    0.3              23
#   swscale       0.5              29     PyAV 18.1.0, reformat(interpolation="AREA")
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import av
import cv2
import numpy as np

SIZE = 64
picture = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
exact = 128 + picture @ np.array([-0.148, -0.291, 0.439])
quarters = exact.reshape(SIZE // 2, 2, SIZE // 2, 2)
halves = exact.reshape(SIZE, SIZE // 2, 2)

planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)[SIZE:].reshape(2, SIZE // 2, SIZE // 2)
swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_YV12)[SIZE:].reshape(2, SIZE // 2, SIZE // 2)
yuy2 = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_YUY2)
uyvy = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_UYVY)
frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p", interpolation="AREA")
swscale = np.frombuffer(frame.planes[1], np.uint8).reshape(SIZE // 2, -1)[:, : SIZE // 2]
rows = {
    "I420": (planes[0], quarters.mean((1, 3)), quarters[:, 0, :, 0]),
    "YV12": (swapped[1], quarters.mean((1, 3)), quarters[:, 0, :, 0]),
    "YUY2": (yuy2[:, ::2, 1], halves.mean(2), halves[:, :, 0]),
    "UYVY": (uyvy[:, ::2, 0], halves.mean(2), halves[:, :, 0]),
    "swscale": (swscale, quarters.mean((1, 3)), quarters[:, 0, :, 0]),
}
for name, (seen, mean, one) in rows.items():
    from_mean, from_one = np.abs(seen - mean).mean(), np.abs(seen - one).mean()
    print(f"{name:8} from the mean {from_mean:5.2f}, from the one pixel {from_one:5.2f}")
    if name in ("I420", "YV12"):
        assert from_one < 1 and from_mean > 10, f"{name} takes the mean"
    else:
        assert from_mean < 2 and from_one > 10, f"{name} does not take the mean"
print("as described")
PYTHON
