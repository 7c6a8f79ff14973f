#!/usr/bin/env bash
# Codec2 decodes the same packets to other samples each time: all decoders of a process share one generator of noise.
#
# A decoder is a new object with a state of its own, so a second one should repeat the first. It does not: unvoiced
# parts get random phases, and the generator goes on where the last decoder stopped. Decoded samples depend on
# whatever was decoded before in the process. Checksums of decoded speech, caches by packets and networks that are
# driven by decoded speech on both sides do not hold; a fresh process for each stream makes them hold.
#
# Guessed before the first run: the same packets through two new decoders give the same samples.
#
# Seen on 2026-11-28 with pycodec2 4.1.1, 2 s of a voice-like sound with noise, peaks of 10000 to 17000:
#
#   encoders, any mode                the same packets each time
#   new decoders in one process       samples differ at 3200, 2400, 1600, 1400, 1300, 1200 and 700 bit/s, by up to 1600
#   the first decoder of a process    the same samples in every process
#
# The script makes its own input and runs for a few seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pycodec2==4.1.1 numpy==2.4.6

cat >"$folder/twice.py" <<'PYTHON'
"""Code a sound in a mode and decode it twice; print a checksum of the first decoding."""

import hashlib
import sys

import numpy as np
import pycodec2

mode, rng = int(sys.argv[1]), np.random.default_rng(1)
time = np.arange(16000) / 8000
pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(8 * time)) / 8000
voice = sum(np.cos(k * pitch) / k for k in range(1, 25)) * (0.6 + 0.4 * np.sin(19 * time))
pcm = (16000 * voice / np.abs(voice).max() + 300 * rng.standard_normal(len(time))).astype(np.int16)


def encoded():
    codec = pycodec2.Codec2(mode)
    size = codec.samples_per_frame()
    return [codec.encode(pcm[i : i + size]) for i in range(0, len(pcm) - size + 1, size)]


packets = encoded()
assert encoded() == packets, "encoders differ, too"


def decoded():
    codec = pycodec2.Codec2(mode)
    return np.concatenate([codec.decode(packet) for packet in packets])


first, second = decoded(), decoded()
difference = np.abs(first.astype(int) - second).max()
print(f"{mode}: largest difference {difference} at a peak of {np.abs(first).max()}", file=sys.stderr)
assert difference > 50, "two decoders agree"
print(hashlib.sha256(first.tobytes()).hexdigest())
PYTHON

for mode in 3200 2400 1600 1400 1300 1200 700; do
    one=$("$folder/venv/bin/python" "$folder/twice.py" "$mode")
    another=$("$folder/venv/bin/python" "$folder/twice.py" "$mode" 2>/dev/null)
    [[ $one == "$another" ]] || { echo "CHANGED: the first decoder differs between processes at $mode bit/s"; exit 1; }
done
echo "as described"
