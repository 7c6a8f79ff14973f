#!/usr/bin/env bash
# PyAV's AudioResampler mixes stereo to mono 3 dB louder as float than as int16, and 5.1 by 10.7 dB.
#
# The rule that mixes channels is the same, but swresample brings the sum of its weights down to 1 only where samples
# come out as integers. As "flt" or "fltp", which is what networks and AAC or Opus encoders take, the same speech on
# both sides comes out 1.41 times as loud, and on all channels of 5.1 3.4 times: above full scale, to be clipped later.
# What counts is the format that comes out, not the one that goes in. Ask for float without `layout` and mix by hand, or
# for "s16".
#
# Guessed before the first run: mono is the mean of both channels, in every format.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libswresample 6.3.102), the same sine on all channels; gain:
#
#                       to s16, s16p    to flt, fltp
#   stereo to mono      1.00            1.41
#   5.1 to stereo       1.00            2.41
#   5.1 to mono         1.00            3.41
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import av
import numpy as np

RATE, PEAK = 48000, 0.25
print("libswresample", ".".join(map(str, av.library_versions["libswresample"])))
sine = PEAK * np.sin(2 * np.pi * 440 * np.arange(RATE // 10) / RATE)


def gain(layout, to_layout, form, to_form):
    """Of one sine on all channels of `layout`."""
    channels = np.repeat(sine[:, None], av.AudioLayout(layout).nb_channels, axis=1).reshape(1, -1)
    samples = (channels * 32768).astype(np.int16) if form == "s16" else channels.astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, form, layout)
    frame.sample_rate = RATE
    resampler = av.AudioResampler(to_form, to_layout, RATE)
    parts = resampler.resample(frame) + resampler.resample(None)
    peak = max(np.abs(part.to_ndarray().astype(float)).max() for part in parts)
    return peak / PEAK / (32768 if to_form.startswith("s16") else 1)


ROOT = 2**0.5
for layout, to_layout, louder in (("stereo", "mono", ROOT), ("5.1", "stereo", 1 + ROOT), ("5.1", "mono", 2 + ROOT)):
    for form in ("s16", "flt"):
        gains = {to_form: gain(layout, to_layout, form, to_form) for to_form in ("s16", "s16p", "flt", "fltp")}
        print(f"{layout} to {to_layout}, {form} to", ", ".join(f"{name} {value:.3f}" for name, value in gains.items()))
        for to_form, value in gains.items():
            expected = 1 if to_form.startswith("s16") else louder
            assert abs(value - expected) < 0.01, f"{to_form} has a gain of {value:.3f}, not {expected:.3f}"
print("as described")
PYTHON
