#!/usr/bin/env bash
# PyAV labels a stream with the colour tags of its encoder, but converts RGB frames without looking at them.
#
# `context.colorspace = 1; context.color_range = 2` and frames in RGB give a stream that says BT.709, full range, and
# holds BT.601, limited range: PyAV's `encode` brings frames to `pix_fmt` by swscale's defaults. A decoder that
# follows the label, as browsers and PyAV itself do, shows other colours. Tags on the frames reach no stream at all. A
# comparison of codecs by PSNR then measures the mistake. Convert by `reformat(format=..., dst_colorspace=...,
# dst_color_range=...)` first.
#
# Guessed before the first run: `encode` converts to what the context says; tags on frames reach the stream.
#
# Seen on 2026-11-28 with PyAV 18.1.0, libx264 lossless and libvpx-vp9 lossless, a patch of RGB 220 60 30:
#
#   no tags                                   218  59  29
#   context BT.709, limited                   233  72  25
#   context BT.601 or unknown, full           206  66  40
#   context BT.709, full                      219  78  37
#   the same, frames converted by hand        219  60  28
#   frames converted by hand, tags on them    217  35  19    the stream has no tags
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

BT709, FULL, UNKNOWN = 1, 2, 2
LIMITED = 1
av.logging.set_level(av.logging.ERROR)
patch = np.zeros((64, 64, 3), np.uint8)
patch[:] = 220, 60, 30
CODECS = {
    "libx264": ("h264", {"preset": "ultrafast", "qp": "0"}),
    "libvpx-vp9": ("vp9", {"lossless": "1", "cpu-used": "8", "deadline": "realtime"}),
}


def shown(name, by_hand, **tags):
    """The patch as the decoder shows it, [3], and the stream's tags for matrix and range."""
    decoder, options = CODECS[name]
    coder = av.CodecContext.create(name, "w")
    coder.width = coder.height = 64
    coder.pix_fmt, coder.framerate, coder.time_base, coder.options = "yuv420p", 25, Fraction(1, 25), options
    for tag, value in tags.items():
        setattr(coder, tag, value)
    frame = av.VideoFrame.from_ndarray(patch, "rgb24")
    if by_hand:
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=FULL)
        assert (frame.colorspace, frame.color_range) == (BT709, FULL)
    frame.pts = 0
    packets = [bytes(packet) for packet in coder.encode(frame) + coder.encode(None)]
    reader = av.CodecContext.create(decoder, "r")
    if coder.extradata:
        reader.extradata = coder.extradata
    frames = [frame for packet in packets for frame in reader.decode(av.Packet(packet))] + reader.decode(None)
    colour = frames[0].to_ndarray(format="rgb24")[32, 32].astype(int)
    return colour, (int(frames[0].colorspace), int(frames[0].color_range))


for name in CODECS:
    rows = {
        "no tags": shown(name, False),
        "BT.709, limited": shown(name, False, colorspace=BT709, color_range=LIMITED),
        "full": shown(name, False, color_range=FULL),
        "BT.709, full": shown(name, False, colorspace=BT709, color_range=FULL),
        "BT.709, full, converted by hand": shown(name, True, colorspace=BT709, color_range=FULL),
        "tags on the frame, converted by hand": shown(name, True),
    }
    error = {}
    for row, (colour, tags) in rows.items():
        error[row] = int(np.abs(colour - patch[0, 0]).max())
        print(f"{name:10} {row:37} {colour}  off by {error[row]:2}, matrix and range {tags}")
    assert rows["BT.709, full"][1] == (BT709, FULL), "the context's tags do not reach the stream"
    assert rows["tags on the frame, converted by hand"][1][0] == UNKNOWN, "the frame's tags reach the stream"
    assert max(error["no tags"], error["BT.709, full, converted by hand"]) <= 3, "wrong without a wrong label"
    assert min(error["BT.709, limited"], error["full"], error["BT.709, full"]) > 9, "frames are converted as labelled"
    assert error["tags on the frame, converted by hand"] > 9
print("as described")
PYTHON
