#!/usr/bin/env bash
# SVT-AV1 goes on to CRF 70 where FFmpeg's own option `crf` of libsvtav1 ends at 63.
#
# A comparison that takes FFmpeg's `crf=63` for the coarsest that SVT-AV1 can do leaves out its lowest rates. They are
# reached through the option `svtav1-params`, which hands `crf=70` to the encoder as it is.
#
# Guessed before the first run: `crf=70` as FFmpeg's own option is an error when the encoder is opened, not a clamp;
# `svtav1-params crf=70` is taken, and the stream is 25 to 40 % smaller than at 63.
#
# Seen on 2026-11-27 with PyAV 18.1.0 (libavcodec 62.28.102, SVT-AV1 4.1.0):
#
#   crf=70 as FFmpeg's own option    error when the encoder is opened, ERANGE:
#                                    "Value 70.000000 for parameter 'crf' out of range [0 - 63]"
#   svtav1-params crf=70             taken; 2226 bytes instead of 3576, -37.8 %
#   crf=63 and svtav1-params crf=70  the same 2226 bytes: what svtav1-params says comes last and holds
#   svtav1-params crf=71             error, EINVAL: "CRF must be [0 - 70]"
#
# The script makes its own input, 50 frames of 256x256, and runs for some seconds after the packages are there. It fails
# when the behaviour changes. Run it as an ordinary user: SVT-AV1 asks for real-time priority when root runs it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

SVT_LOG=1 "$folder/venv/bin/python" - <<'PYTHON'
import errno
from fractions import Fraction

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)


def pictures():
    """A textured plane that moves, with a brighter disc that moves against it: [256, 256, 3] uint8, 50 times."""
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 1, (40, 40, 3))
    texture = np.kron(coarse, np.ones((8, 8, 1))) * 60 + rng.uniform(0, 12, (320, 320, 3))
    y, x = np.mgrid[:256, :256]
    for t in range(50):
        picture = 70 + texture[t // 2 : t // 2 + 256, t : t + 256]
        disc = np.hypot(x - 90 - 1.5 * t, y - 128 - 20 * np.sin(t / 8)) < 40
        picture[disc] += 70
        yield np.clip(picture, 0, 255).astype(np.uint8)


def size(**options):
    """Bytes of the coded pictures."""
    coder = av.CodecContext.create("libsvtav1", "w")
    coder.width, coder.height, coder.pix_fmt = 256, 256, "yuv420p"
    coder.framerate, coder.time_base = 25, Fraction(1, 25)
    coder.options = {"preset": "10", **options}
    total = 0
    for t, picture in enumerate(pictures()):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = t
        total += sum(packet.size for packet in coder.encode(frame))
    return total + sum(packet.size for packet in coder.encode(None))


params = "lp=1:keyint=-1:scd=0"
print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}")

try:
    size(crf="70", **{"svtav1-params": params})
except av.FFmpegError as error:
    print(f"crf=70 as FFmpeg's own option: {error}")
    if error.errno != errno.ERANGE:
        raise SystemExit("CHANGED: another error")
else:
    raise SystemExit("CHANGED: FFmpeg's own option takes crf=70")

at_63 = size(crf="63", **{"svtav1-params": params})
through_params = size(**{"svtav1-params": f"{params}:crf=63"})
at_70 = size(**{"svtav1-params": f"{params}:crf=70"})
both = size(crf="63", **{"svtav1-params": f"{params}:crf=70"})
print(f"crf=63 {at_63} bytes; svtav1-params crf=63 {through_params}; svtav1-params crf=70 {at_70}; "
      f"crf=63 and svtav1-params crf=70 {both}")
print(f"70 against 63: {100 * (at_70 / at_63 - 1):+.1f} %")
if at_63 != through_params:
    raise SystemExit("CHANGED: crf=63 is not the same through both options")
if both != at_70:
    raise SystemExit("CHANGED: svtav1-params no longer has the last word")
if not at_70 < 0.85 * at_63:
    raise SystemExit("CHANGED: crf=70 no longer makes the stream much smaller")
try:
    size(**{"svtav1-params": f"{params}:crf=71"})
except av.FFmpegError as error:
    print(f"svtav1-params crf=71: {error}")
    if error.errno != errno.EINVAL:
        raise SystemExit("CHANGED: another error")
else:
    raise SystemExit("CHANGED: SVT-AV1 takes crf=71")
print("as described")
PYTHON
