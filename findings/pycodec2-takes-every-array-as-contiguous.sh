#!/usr/bin/env bash
# pycodec2 encodes the samples that lie in memory, not those of the view that it is given.
#
# One channel of interleaved stereo, `stereo[:, 0]`, or every second sample, is an int16 array like any other.
# pycodec2 refuses another type and too few samples, but takes such a view and codes left and right in turn, half as
# many instants: other speech at another pitch, without an error. A decoder hears it; a test of lengths and rates does
# not.
#
# One would guess: an array that is not contiguous is refused like one of another type, or copied.
#
# Seen on 2026-11-28 with pycodec2 4.1.1, 50 frames at 1300 bit/s of a voice-like sound on the left, silence on the
# right:
#
#   stereo[:, 0]                the packets of the interleaved samples; 50 of 50 differ from those of the copy
#   stereo[:, 0].copy()         the packets of the sound
#   two frames at once          13 bytes, of which the second frame's are zero: only the first is coded
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pycodec2==4.1.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pycodec2

RATE, FRAMES = 8000, 50
size = pycodec2.Codec2(1300).samples_per_frame()
time = np.arange(size * FRAMES) / RATE
pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(8 * time)) / RATE
voice = sum(np.cos(k * pitch) / k for k in range(1, 25)) * (0.6 + 0.4 * np.sin(19 * time))
stereo = np.zeros((len(voice), 2), np.int16)
stereo[:, 0] = 12000 * voice / np.abs(voice).max()


def packets(frames):
    codec = pycodec2.Codec2(1300)
    return [codec.encode(frame) for frame in frames]


starts = range(0, len(voice), size)
view = packets(stereo[i : i + size, 0] for i in starts)
copy = packets(stereo[i : i + size, 0].copy() for i in starts)
memory = packets(stereo[i : i + size].ravel()[:size] for i in starts)
print(f"packets of the view that differ from the copy's: {sum(a != b for a, b in zip(view, copy))} of {FRAMES}")
print(f"packets of the view that are the interleaved samples': {sum(a == b for a, b in zip(view, memory))}")
assert view == memory, "a view is no longer read as it lies in memory"
assert sum(a != b for a, b in zip(view, copy)) > FRAMES // 2, "the view is coded right"

left = np.ascontiguousarray(stereo[:, 0])
for name, wrong, error in (
    ("float32", left[:size].astype(np.float32), ValueError),
    ("one sample too few", left[: size - 1], AssertionError),
):
    try:
        pycodec2.Codec2(1300).encode(wrong)
    except error as raised:
        print(f"{name}: {type(raised).__name__}")
    else:
        raise SystemExit(f"CHANGED: {name} is taken")
two = pycodec2.Codec2(1300).encode(left[: 2 * size])
print(f"two frames at once: {two.hex()}, one: {copy[0].hex()}")
assert two[:7] == copy[0] and len(two) == 13 and not any(two[7:]), "two frames at once are coded or refused"
print("as described")
PYTHON
