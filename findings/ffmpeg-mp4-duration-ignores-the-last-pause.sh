#!/usr/bin/env bash
# FFmpeg reads an MP4 of 3.04 s as one of 0.32 s where a picture with B-frames stands still near the end.
#
# A screen recording or a call ends on a picture that stood for seconds. The file's headers say 3.04 s. FFmpeg's reader
# replaces that by the sum of the steps between decoding times, and with B-frames these run ahead: the pause before the
# last frame is in its time of display alone. `container.duration` and `stream.duration` are then shorter than the
# frames that come, and `average_rate` is made of them. What cuts, seeks or allots memory by them loses the end. Take
# the last frame's time instead, or the header's number.
#
# Guessed before the first run: the container's duration covers the last frame.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavformat 62.12.102), frames at 0, 40, ..., 240 and 3000 ms:
#
#                                  mvhd, mdhd    container.duration    average_rate
#   H.264, B-frames, MP4           3.04 s        0.32 s                25
#   H.264, no B-frames, MP4        3.04 s        3.04 s                2.63
#   SVT-AV1, VP9 in MP4            3.04 s        3.04 s                2.63
#   H.264, B-frames, Matroska                    3.04 s
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

SVT_LOG=1 "$folder/venv/bin/python" - <<'PYTHON'
import io
from fractions import Fraction

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)
TIMES = [0, 40, 80, 120, 160, 200, 240, 3000]  # ms
OPTIONS = {
    "libx264": {"preset": "veryfast"},
    "libsvtav1": {"preset": "10", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
}


def written(codec, form, **options):
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25, options=OPTIONS[codec] | options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        y, x = np.mgrid[:64, :64]
        for number, time in enumerate(TIMES):
            ramp = (3 * x + 2 * y + 9 * number) % 256
            frame = av.VideoFrame.from_ndarray(np.stack([ramp] * 3, -1).astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def header(data):
    """The lengths that the headers of film and track say, in seconds."""
    lengths = []
    for box in (b"mvhd", b"mdhd"):
        start = data.index(box)
        assert data[start + 4] == 0, "another version of the box"
        scale, length = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (16, 20))
        lengths.append(round(length / scale, 3))
    return lengths


for codec, form, options, short in (
    ("libx264", "mp4", {"bf": "3"}, True),
    ("libx264", "mp4", {"bf": "0"}, False),
    ("libx264", "matroska", {"bf": "3"}, False),
    ("libsvtav1", "mp4", {}, False),
    ("libvpx-vp9", "mp4", {}, False),
):
    data = written(codec, form, **options)
    with av.open(io.BytesIO(data)) as container:
        length = container.duration / 1e6
        rate = container.streams.video[0].average_rate
        last = max(frame.time for frame in container.decode(video=0))
    print(f"{codec:10} {form:8} {options}: {length:.2f} s, last frame at {last:.2f} s, {float(rate):.2f} a second"
          + (f", headers {header(data)}" if form == "mp4" else ""))
    assert abs(last - 3) < 0.01, "the last frame has another time"
    assert form != "mp4" or min(header(data)) > 3, "the headers leave the pause out"
    assert (length < 0.5) == short, "the duration covers the last frame, or fails to without B-frames"
print("as described")
PYTHON
