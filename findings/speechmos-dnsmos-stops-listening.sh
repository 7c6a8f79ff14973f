#!/usr/bin/env bash
# speechmos' DNSMOS scores a clip of 30 s by its first 15.01 s; what comes after can be anything.
#
# The network hears 9.01 s, so a longer clip is scored in windows a second apart. Where each ends is computed in
# floating point; from the eighth to the 24th the sum comes out a sample short, and a window that is short is left out
# without a word. Clips of 17 to 33 s have nothing but the first seven. Shorter ones lose up to 2 s at their end, since
# the number of windows is rounded down: 1.89 of 10.9 s. Codecs that break down late score as if they did not. Cut
# clips to windows of 144160 samples by hand and take the mean.
#
# Guessed before the first run: silence or noise at the end of a clip counts as it does elsewhere.
#
# Seen on 2026-11-28 with speechmos 0.0.1.1 and onnxruntime 1.32.0, a voice-like sound, white noise in one place; OVRL:
#
#                                            without noise    with it
#   30 s, noise from 0 to 15 s                   1.612        1.212
#   30 s, noise from 15.02 s to the end          1.612        1.612     all scores the same to the last digit
#   10.9 s, noise from 7 to 9 s                  1.747        1.606
#   10.9 s, noise from 9.02 s to the end         1.747        1.747     likewise
#
# The script makes its own input and runs for about 20 s after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    speechmos==0.0.1.1 librosa==0.11.0 onnxruntime==1.32.0 requests==2.34.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from speechmos import dnsmos

RATE = 16000


def voice(seconds):
    """A sound like a voice that speaks and pauses, [n] float32."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time)
    phase, formant = 2 * np.pi * np.cumsum(pitch) / RATE, 500 + 300 * np.sin(4 * np.pi * time)
    sound = np.zeros(len(time))
    for k in range(1, 30):
        heights = np.exp(-(((k * pitch - formant) / 400) ** 2)) + 0.3 * np.exp(-(((k * pitch - 1800) / 500) ** 2))
        sound += heights * np.sin(k * phase) / k
    sound *= np.clip(np.sin(2 * np.pi * 2.3 * time), 0, 1)
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32)


def scores(sound, first=0.0, last=0.0):
    """With white noise between two times in seconds."""
    noisy, place = sound.copy(), slice(int(first * RATE), int(last * RATE))
    noisy[place] += 0.1 * np.random.default_rng(1).standard_normal(len(noisy[place])).astype(np.float32)
    return {name: float(value) for name, value in dnsmos.run(np.clip(noisy, -1, 1), RATE).items()}


for seconds, heard, early in ((30, 15.01, (0, 15)), (10.9, 9.01, (7, 9))):
    sound = voice(seconds)
    clean, before, after = scores(sound), scores(sound, *early), scores(sound, heard + 0.01, seconds)
    print(f"{seconds} s: OVRL {clean['ovrl_mos']:.3f}; noise from {early[0]} to {early[1]} s {before['ovrl_mos']:.3f}; "
          f"noise from {heard + 0.01:.2f} s to the end {after['ovrl_mos']:.3f}")
    assert abs(before["ovrl_mos"] - clean["ovrl_mos"]) > 0.05, "noise makes no difference anywhere"
    assert after == clean, f"what comes after {heard} s is heard"
print("as described")
PYTHON
