#!/usr/bin/env bash
# ViSQOL's speech score depends on how loud source and decoded sound are, together: the quieter both, the better.
#
# ViSQOL brings the decoded sound to the source's level, so it seems not to care for levels. But its spectrograms have
# a floor on an absolute scale, and what is below the floor on both sides counts as equal. The same noise at the same
# distance scores from 1.3 to 4.7. Means over clips of different loudness mix the two. int16 is taken for what it
# says, 32768 times as loud as the same sound in float, and scores otherwise. Bring all sources to one level, in
# float, before they are scored.
#
# Guessed before the first run: a factor on both sounds changes nothing, and int16 scores as the same sound in float.
#
# Seen on 2026-11-28 with visqol-python 3.8.0, speech mode, with ai-edge-litert 2.3.0, a voice-like sound with peaks
# of 0.5 and white noise 0.002 rms:
#
#   both as they are                   1.30
#   both by 0.1                        3.94
#   both by 0.001                      4.71    more than the source against itself at full level, 4.59
#   the decoded sound alone by 0.1     1.30
#   both as int16                      1.74
#
# The script makes its own input and runs for about 20 s after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    visqol-python==3.8.0 ai-edge-litert==2.3.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
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
decoded = source + 0.002 * noise
api = VisqolApi()
api.create(mode="speech", use_lattice_model=True)


def whole(sound):
    return (32767 * sound).astype(np.int16)


scores = {
    "both as they are": (source, decoded),
    "both by 0.1": (0.1 * source, 0.1 * decoded),
    "both by 0.001": (0.001 * source, 0.001 * decoded),
    "decoded alone by 0.1": (source, 0.1 * decoded),
    "both as int16": (whole(source), whole(decoded)),
    "source against itself": (source, source),
}
for name, pair in scores.items():
    scores[name] = api.measure_from_arrays(*pair, RATE).moslqo
    print(f"{name:22} {scores[name]:.2f}")
full = scores["both as they are"]
assert scores["both by 0.1"] > full + 1, "the level of both does not matter"
assert scores["both by 0.001"] > scores["both by 0.1"], "quieter is not better"
assert scores["both by 0.001"] > scores["source against itself"], "noise does not score above no noise"
assert abs(scores["decoded alone by 0.1"] - full) < 0.01, "the decoded sound's level matters"
assert abs(scores["both as int16"] - full) > 0.2, "int16 scores as float does"
print("as described")
PYTHON
