#!/usr/bin/env bash
# imageio's `imread(video, index=n)` gives another frame than the nth where frames are not evenly spaced.
#
# With plugin "pyav" the index becomes a time by the mean frame rate and is sought: phones, screen recordings and
# WebRTC have variable rates, so other frames come, without an error. Where the first timestamp is not 0, as in a
# recording that was cut, every index gives the first frame. `imiter` and `imread` without index count as they should:
# labels by number and frames by index do not meet.
#
# Guessed before the first run: imread(index=n) is the nth frame of imiter, also with B-frames and variable rates.
#
# Seen on 2026-11-28 with imageio 2.38.1 and PyAV 18.1.0, H.264 in MP4 and VP9 in WebM, 40 frames; asked for 3, 17, 30,
# 39, 5:
#
#   25 frames a second                          3, 17, 30, 39, 5
#   20 to 120 ms from frame to frame            3, 19, 32, 38, 5 (WebM: 3, 18, 31, 38, 5)
#   25 frames a second, from 2 s on             0, 0, 0, 0, 0
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    imageio==2.38.1 av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from fractions import Fraction

import av
import imageio.v3 as imageio
import numpy as np

av.logging.set_level(av.logging.ERROR)
COUNT, ASKED = 40, [3, 17, 30, 39, 5]
steps = np.random.default_rng(3).choice([20, 33, 40, 120], COUNT)
TIMES = {
    "even": 40 * np.arange(COUNT),
    "uneven": np.cumsum(steps) - steps[0],
    "from 2 s on": 2000 + 40 * np.arange(COUNT),
}
OPTIONS = {"libx264": {"preset": "veryfast"}, "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"}}


def drawn(number):
    """A picture that shows its number in six bars, [64, 64, 3] uint8."""
    picture = np.full((64, 64, 3), 40, np.uint8)
    for bit in range(6):
        if number >> bit & 1:
            picture[:, 10 * bit : 10 * bit + 10] = 215
    return picture


def number(picture):
    return sum(1 << bit for bit in range(6) if picture[20:44, 10 * bit + 3 : 10 * bit + 7].mean() > 128)


for codec, ending in (("libx264", "mp4"), ("libvpx-vp9", "webm")):
    for name, times in TIMES.items():
        path = f"{sys.argv[1]}/{name}.{ending}"
        with av.open(path, "w") as container:
            stream = container.add_stream(codec, rate=25, options=OPTIONS[codec])
            stream.width = stream.height = 64
            stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 15
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
            for place, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(drawn(place), "rgb24")
                frame.pts, frame.time_base = int(time), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        inorder = [number(picture) for picture in imageio.imiter(path, plugin="pyav")]
        assert inorder == list(range(COUNT)), "imiter leaves frames out"
        got = [number(imageio.imread(path, plugin="pyav", index=place)) for place in ASKED]
        print(f"{codec:10} {name:12} asked for {ASKED}, got {got}")
        if name == "even":
            assert got == ASKED, "wrong even at a constant rate"
        elif name == "uneven":
            assert sum(a != b for a, b in zip(got, ASKED, strict=True)) >= 2, "right at variable rates"
        else:
            assert got == [0] * len(ASKED), "the first timestamp is taken into account"
print("as described")
PYTHON
