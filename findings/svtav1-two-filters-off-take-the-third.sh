#!/usr/bin/env bash
# SVT-AV1's stills lose deblocking, too, when CDEF and loop restoration are switched off, whatever `enable-dlf` says.
#
# AV1 has three filters in its loop: deblocking, CDEF and restoration. Each has a switch of its own in svtav1-params.
# Who wants deblocking alone (because another program restores the pictures, or to see what each filter is worth) gets
# no filter at all, and blocks that can be seen. Nothing is said about it.
#
# Guessed before the first run: `enable-cdef=0:enable-restoration=0` differs from the same with `enable-dlf=0`, as each
# of the pairs that keep one of the two others does.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavcodec 62.28.102, SVT-AV1 4.1.0), a still (`avif=1`), presets 1 and 5:
#
#   CDEF alone off, with deblocking on and off           two different pictures
#   restoration alone off, with deblocking on and off    two different pictures
#   both off, enable-dlf=1 (the default) and =0          the same picture, byte by byte
#
# At preset 8, and in video, both off leave deblocking as it is: the switches do what they say.
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when the behaviour
# changes. Run it as an ordinary user: SVT-AV1 asks for real-time priority when root runs it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

SVT_LOG=1 "$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)
print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}")


def picture():
    """A landscape of smooth hills with sharp rims: [256, 256, 3] uint8."""
    y, x = np.mgrid[:256, :256]
    hills = 90 + 50 * np.sin(x / 19) * np.cos(y / 27) + 35 * (np.sin(x / 41 + y / 33) > 0.2)
    one = np.clip(hills + np.random.default_rng(3).normal(0, 6, hills.shape), 0, 255)
    return np.stack([one, 255 - one, 0.5 * one + 60], -1).astype(np.uint8)


def still(preset, off, deblock):
    coder = av.CodecContext.create("libsvtav1", "w")
    coder.width, coder.height, coder.pix_fmt = 256, 256, "yuv420p"
    coder.framerate, coder.time_base = 25, Fraction(1, 25)
    switches = ["avif=1:lp=1:crf=40", *(f"enable-{name}=0" for name in off), f"enable-dlf={deblock}"]
    coder.options = {"preset": str(preset), "svtav1-params": ":".join(switches)}
    frame = av.VideoFrame.from_ndarray(picture(), format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    return b"".join(map(bytes, [*coder.encode(frame), *coder.encode(None)]))


for preset, expected in ((1, True), (5, True), (8, False)):
    for off in (["cdef"], ["restoration"], ["cdef", "restoration"]):
        deblocked, blocked = still(preset, off, 1), still(preset, off, 0)
        same = deblocked == blocked
        print(f"preset {preset}, without {' and '.join(off):20} enable-dlf=1 {len(deblocked):5} bytes, "
              f"enable-dlf=0 {len(blocked):5} bytes, {'the same' if same else 'different'}")
        if same != (expected and len(off) == 2):
            raise SystemExit("CHANGED: which switches take deblocking along")
print("as described")
PYTHON
