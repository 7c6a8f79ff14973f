#!/usr/bin/env bash
# Installing ai-edge-litert, for whatever purpose, changes the speech scores of visqol-python by more than one MOS.
#
# `VisqolApi().create(mode="speech")` maps similarity to MOS by a network if the package ai-edge-litert happens to be
# there, and by an older formula if not, with a warning in the log. Figures from two machines with the same
# visqol-python, or from before and after another tool was installed, are then of two scales. Even the same sound on
# both sides differs: 5.0 by the formula, less by the network. Say `use_lattice_model=True` or `False`, and say which
# beside the figures.
#
# One would guess: scores depend on visqol-python alone; the source against itself scores 5.0.
#
# Seen on 2026-11-28 with visqol-python 3.8.0 and ai-edge-litert 2.3.0, a voice-like sound with peaks of 0.5 and white
# noise:
#
#                                 without ai-edge-litert    with it
#   noise 0.002 rms                       3.14                1.30
#   source against itself                 5.00                4.59
#
# The script makes its own input and runs for about 30 s after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" visqol-python==3.8.0 numpy==2.4.6

cat >"$folder/score.py" <<'PYTHON'
"""Print the scores of a noisy sound and of the sound itself, by the mapper that visqol-python takes by itself."""

import numpy as np
from visqol import VisqolApi

RATE = 16000


def voice():
    """Four seconds of a sound like a voice that speaks and pauses, and white noise, [n] each."""
    time, rng = np.arange(4 * RATE) / RATE, np.random.default_rng(1)
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = 500 + 250 * np.sin(2 * np.pi * 2.1 * time), 1500 + 500 * np.sin(2 * np.pi * 1.3 * time), 2600 + 0 * time
    sound = np.zeros(len(time))
    for k in range(1, 40):
        sound += np.cos(k * phase) * (0.02 + sum(np.exp(-(((k * pitch - f) / 150) ** 2)) for f in formants))
    sound *= np.clip(np.sin(2 * np.pi * 2.5 * time) + 0.4, 0, 1)
    return 0.5 * sound / np.abs(sound).max(), rng.standard_normal(len(time))


source, noise = voice()
api = VisqolApi()
api.create(mode="speech")
for decoded in (source + 0.002 * noise, source):
    print(f"{api.measure_from_arrays(source, decoded, RATE).moslqo:.2f}", end=" ")
PYTHON

without=$("$folder/venv/bin/python" "$folder/score.py")
"${pip[@]}" ai-edge-litert==2.3.0
with=$("$folder/venv/bin/python" "$folder/score.py")
echo "noisy and clean without ai-edge-litert: $without"
echo "noisy and clean with ai-edge-litert:    $with"
"$folder/venv/bin/python" - "$without" "$with" <<'PYTHON'
import sys

noisy, clean, noisy_lattice, clean_lattice = map(float, " ".join(sys.argv[1:]).split())
assert clean == 5, "the formula does not give 5 to the source itself"
assert clean_lattice < 4.9, "the network gives 5 to the source itself"
assert noisy - noisy_lattice > 1, "the package makes less than one MOS of difference"
print("as described")
PYTHON
