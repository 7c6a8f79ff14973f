#!/usr/bin/env bash
# soxr.resample of int16 adds noise: digital silence comes out as -1, 0 and 1, even when the rate stays as it is.
#
# int16 in, int16 out looks like the float result rounded. The library dithers whatever it writes as int16, which
# Python's soxr neither says nor can switch off. Whoever looks for digital silence afterwards (a speech gate, DTX, a
# lossless coder) finds none, and the error is larger than that of rounding. Float in, float out, and rounding by hand
# avoids it.
#
# Guessed before the first run: int16 is what comes from float64, rounded; zeros stay zeros; equal rates change nothing.
#
# Seen on 2026-11-28 with soxr 1.1.0 for Python, quality HQ:
#
#   4800 zeros, 48 to 16 kHz       -1, 0 and 1
#   noise, 48 to 16 kHz            up to 1.46 from the float64 result, rms 0.50; rounding: up to 0.50, rms 0.29
#   noise, 16 to 16 kHz            not the samples that went in; as float64 it is
#   the same call twice            the same samples
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check soxr==1.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import soxr

noise = np.random.default_rng(1).normal(0, 3000, 48000).astype(np.int16)
silence = np.unique(soxr.resample(np.zeros(4800, np.int16), 48000, 16000))
print("silence becomes", silence)
exact = soxr.resample(noise.astype(np.float64), 48000, 16000)
coarse = soxr.resample(noise, 48000, 16000)
dithered, rounded = np.abs(coarse - exact), np.abs(np.round(exact) - exact)
for name, error in (("int16", dithered), ("float64, rounded", rounded)):
    print(f"{name}: up to {error.max():.2f} from float64, rms {np.sqrt(np.mean(error**2)):.2f}")
kept = np.array_equal(soxr.resample(noise, 16000, 16000), noise)
kept_float = np.array_equal(soxr.resample(noise.astype(np.float64), 16000, 16000), noise)
print(f"equal rates keep int16: {kept}, float64: {kept_float}")
assert coarse.dtype == np.int16
assert np.array_equal(coarse, soxr.resample(noise, 48000, 16000)), "two calls differ"
assert silence.tolist() == [-1, 0, 1], "silence stays silence"
assert dithered.max() > 1 and np.sqrt(np.mean(dithered**2)) > 0.45, "int16 is rounded"
assert not kept, "equal rates keep int16"
assert kept_float, "equal rates change float64"
print("as described")
PYTHON
