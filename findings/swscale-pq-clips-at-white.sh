#!/usr/bin/env bash
# swscale, as PyAV 18.1 calls it, brings PQ to BT.709's transfer, but clips at white instead of rolling highlights off.
#
# Phones record HDR. Asked for another transfer and other primaries, `VideoFrame.reformat` converts light for light:
# the reference white of ITU-R BT.2408, 203 cd/m2, comes out as 253 of 255, and whatever is brighter as 255. Faces in
# sunlight and windows behind them lose all that is above 203 cd/m2; a receiver of HDR has to roll off by itself.
#
# Guessed before the first run: `dst_color_trc` and `dst_color_primaries` are labels only and change no sample; or, if
# they do convert, the newer swscale tone-maps 1000 cd/m2 into the range.
#
# Seen on 2026-11-27 with PyAV 18.1.0 (libswscale 9.5.102), grey patches of 1, 10, 50, 100, 203, 400, 1000, 4000 cd/m2:
#
#   reformat(format="rgb24")                       37  75 111 127 146 165 190 229   PQ's own signal, as it was
#   ... dst_colorspace=1 (BT.709)                  the same: the matrix alone, no transfer
#   ... dst_color_trc=1, dst_color_primaries=1     28  73 142 189 253 255 255 255   converted, then clipped
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import av
import numpy as np

LEVELS = (1, 10, 50, 100, 203, 400, 1000, 4000)  # cd/m2
BT709, PQ, BT2020 = 1, 16, 9


def signal(light):
    """PQ signal, 0..1, of light in cd/m2 (SMPTE ST 2084)."""
    y = (light / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


frame = av.VideoFrame(32 * len(LEVELS), 64, "yuv420p10le")
for number, plane in enumerate(frame.planes):
    samples = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)
    samples[:] = 512
    for i, level in enumerate(LEVELS if number == 0 else ()):
        samples[:, 32 * i : 32 * i + 32] = round(64 + 876 * signal(level))
frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = PQ, BT2020, BT2020, 1


def red(**wanted):
    picture = frame.reformat(format="rgb24", **wanted).to_ndarray()
    return [int(picture[32, 32 * i + 16, 0]) for i in range(len(LEVELS))]


plain, matrix, converted = red(), red(dst_colorspace=BT709), red(dst_color_trc=BT709, dst_color_primaries=BT709)
for name, values in (("as it is", plain), ("BT.709 matrix", matrix), ("BT.709 transfer", converted)):
    print(f"{name:16}", *(f"{value:4}" for value in values))
assert plain == matrix, "the matrix alone changes greys"
assert plain[4] < 160 and plain[-1] < 240, "PQ is converted without being asked for"
assert converted != plain, "a transfer that is asked for is not converted"
assert converted[4] >= 250 and converted[5:] == [255, 255, 255], "what is brighter than 203 cd/m2 is kept"
print("as described")
PYTHON
