#!/usr/bin/env bash
# `skip_frame = "NONKEY"` decodes keyframes alone in H.264, HEVC, VP8 and AV1, and every frame in VP9.
#
# That is how thumbnails are made and how a recording is searched for its keyframes without decoding all of it. In VP9,
# which is what browsers record, FFmpeg's decoder does not look at the option: all frames come, at the full cost, and
# code that trusts the option takes each for a keyframe. Skip the packets by hand: `if packet.is_keyframe`. "NONINTRA"
# is another trap: H.264, HEVC and AV1 give their keyframes, VP8 gives all frames.
#
# Guessed before the first run: all decoders give keyframes alone.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavcodec 62.28.102), 35 frames in Matroska, a keyframe at least every 10;
# frames decoded:
#
#                     NONKEY    NONINTRA    keyframes by hand
#   H.264             4         4           4
#   HEVC              4         4           4
#   AV1 (dav1d)       4         4           4
#   VP8               4         35          4
#   VP9               35        35          4
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

SVT_LOG=1 "$folder/venv/bin/python" - <<'PYTHON'
import io

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)
COUNT = 35
REALTIME = {"cpu-used": "8", "deadline": "realtime"}
CASES = {  # frames with NONKEY, with NONINTRA
    "libx264": ({"preset": "veryfast"}, 4, 4),
    "libx265": ({"preset": "ultrafast", "x265-params": "log-level=none"}, 4, 4),
    "libsvtav1": ({"preset": "10", "svtav1-params": "lp=1"}, 4, 4),
    "libvpx": (REALTIME, 4, COUNT),
    "libvpx-vp9": (REALTIME, COUNT, COUNT),
}


def recorded(codec, options):
    file, rng = io.BytesIO(), np.random.default_rng(1)
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 10
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 64, 3), np.uint8), "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decoded(data, skip):
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.skip_frame = skip
        return len(list(container.decode(video=0)))


def by_hand(data):
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [frame for packet in container.demux(stream) if packet.is_keyframe for frame in packet.decode()]
        return len(frames + stream.codec_context.decode(None))


for codec, (options, nonkey, nonintra) in CASES.items():
    data = recorded(codec, options)
    got = decoded(data, "NONKEY"), decoded(data, "NONINTRA"), by_hand(data)
    print(f"{codec:10} NONKEY {got[0]}, NONINTRA {got[1]}, keyframes by hand {got[2]}")
    assert decoded(data, "DEFAULT") == COUNT, f"{codec}: frames are missing without the option"
    assert got[2] == 4, f"{codec} has other keyframes"
    assert got[0] == nonkey, f"{codec}: NONKEY gives {got[0]} frames"
    assert got[1] == nonintra, f"{codec}: NONINTRA gives {got[1]} frames"
print("as described")
PYTHON
