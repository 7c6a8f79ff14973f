#!/usr/bin/env bash
# A frame with pict_type I is a keyframe in x264, VP8, VP9 and SVT-AV1, but not in x265.
#
# That is how an encoder is told that a receiver lost something, or that a segment begins. Through the same call x265
# makes a picture of its own that later ones may look behind: the packet is no keyframe, a container cannot seek to it,
# and who joins there gets nothing. `open-gop=0` changes nothing; the option `forced-idr=1` of libx265 does. All other
# encoders of the wheel do it without.
#
# Guessed before the first run: pict_type I makes a keyframe in x264, x265, VP8, VP9 and SVT-AV1.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavcodec 62.28.102), 35 frames, the 7th and the 20th forced; keyframes:
#
#   x264, VP8, VP9, SVT-AV1                0, 7, 20
#   x265, also with open-gop=0             0           frames 7 and 20 come out as I, not as keyframes
#   x265 with forced-idr=1                 0, 7, 20
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
from av.video.frame import PictureType

av.logging.set_level(av.logging.ERROR)
COUNT, FORCED = 35, (7, 20)
X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
CASES = (
    ("libx264", {"preset": "veryfast"}),
    ("libvpx", {"cpu-used": "8", "deadline": "realtime"}),
    ("libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
    ("libsvtav1", {"preset": "10", "svtav1-params": "lp=1"}),
    ("libx265", X265),
    ("libx265", X265 | {"x265-params": "log-level=none:open-gop=0"}),
    ("libx265", X265 | {"forced-idr": "1"}),
)
y, x = np.mgrid[:64, :64]
for codec, options in CASES:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(COUNT):
            wave = 128 + 90 * np.sin((x + 3 * number) / 11) * np.cos((y + number) / 13)
            frame = av.VideoFrame.from_ndarray(np.stack([wave] * 3, -1).astype(np.uint8), "rgb24")
            frame.pts = number
            if number in FORCED:
                frame.pict_type = PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as container:
        packets = sorted((p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size)
        keys = [number for number, (_, key) in enumerate(packets) if key]
    with av.open(io.BytesIO(file.getvalue())) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    print(f"{codec:10} {str(options)[:75]:75} keyframes {keys}")
    assert len(packets) == COUNT
    if codec == "libx265" and "forced-idr" not in options:
        assert keys == [0], "x265 makes keyframes of them"
        assert all(kinds[number] == PictureType.I for number in FORCED), "they are no I frames either"
    else:
        assert keys == [0, *FORCED], f"{codec} does otherwise"
print("as described")
PYTHON
