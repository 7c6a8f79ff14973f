#!/usr/bin/env bash
# OpenCV's wheel opens AV1 files, tells size, rate and number of frames, and then has no frame to give.
#
# `VideoCapture.isOpened()` is true and all properties are right; `read()` says False at the first frame, which is how
# a file ends. A loop over the frames is done at once, without an exception. The FFmpeg in the wheel has AV1 for
# graphics cards alone, no software decoder. VP9, H.264 and HEVC are read. Check that the first `read()` succeeds, or
# read AV1 by PyAV, whose wheel has dav1d.
#
# One would guess: what opens can be read; a codec that is not there makes isOpened() false.
#
# Seen on 2026-11-28 with opencv-python-headless 5.0.0.93 and files of 10 frames from PyAV 18.1.0:
#
#               isOpened    frames by property    frames read
#   AV1         true        10                    0      MP4, Matroska and WebM
#   H.264       true        10                    10
#   HEVC        true        10                    10
#   VP9         true        10                    10
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes,
# or on a machine whose graphics card decodes AV1 for OpenCV.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6

SVT_LOG=1 OPENCV_FFMPEG_LOGLEVEL=-8 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import av
import cv2
import numpy as np

av.logging.set_level(av.logging.ERROR)
COUNT = 10
OPTIONS = {
    "libsvtav1": {"preset": "10", "svtav1-params": "lp=1"},
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
}


def written(codec, ending):
    path = f"{sys.argv[1]}/{codec}.{ending}"
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=OPTIONS[codec])
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


for codec, ending in (
    ("libsvtav1", "mp4"), ("libsvtav1", "mkv"), ("libsvtav1", "webm"),
    ("libx264", "mp4"), ("libx265", "mp4"), ("libvpx-vp9", "webm"),
):
    path = written(codec, ending)
    with av.open(path) as container:
        assert len(list(container.decode(video=0))) == COUNT, "PyAV does not read it either"
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    promised = (int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)))
    read = 0
    while capture.read()[0]:
        read += 1
    print(f"{codec:10} {ending:4} opened: {capture.isOpened()}, frames and width: {promised}, frames read: {read}")
    assert capture.isOpened() and promised == (COUNT, 64), "it says that it cannot"
    assert read == (0 if codec == "libsvtav1" else COUNT), "another number of frames"
print("as described")
PYTHON
