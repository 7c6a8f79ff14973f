#!/usr/bin/env bash
# miniaudio decodes to another rate by lines between samples: at 16 kHz a tone of 9 kHz comes back at 7 kHz, only 6 dB
# lower.
#
# `decode_file(path, sample_rate=16000)` is a short way from any file to what speech codecs and recognisers take. The
# resampler behind it is linear with a gentle filter in front: what lies above the new band folds into it, hissing
# consonants become noise in the voice's band, and 7 kHz is 1 dB weaker. Besides, the sound is late by three samples of
# the old rate. soxr damps the same tones by more than 100 dB; decode at the file's own rate and resample with it.
#
# Guessed before the first run: a tone of 12 kHz is damped by more than 60 dB.
#
# Seen on 2026-11-28 with miniaudio 1.71 for Python, 48 to 16 kHz; level after, in dB:
#
#                 6 kHz    7 kHz    9 kHz    10 kHz    12 kHz    15 kHz
#   miniaudio     -0.3     -1.1     -6.3     -10.3     -19.1     -33.1
#   soxr 1.1.0     0.0      0.0     below -100
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    miniaudio==1.71 soxr==1.1.0 soundfile==0.14.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io

import miniaudio
import numpy as np
import soundfile
import soxr

OLD, NEW = 48000, 16000
SEEN = {6000: -0.3, 7000: -1.1, 9000: -6.3, 10000: -10.3, 12000: -19.1, 15000: -33.1}  # dB


def decoded(sound):
    file = io.BytesIO()
    soundfile.write(file, sound, OLD, format="WAV", subtype="FLOAT")
    form = miniaudio.SampleFormat.FLOAT32
    return np.array(miniaudio.decode(file.getvalue(), output_format=form, nchannels=1, sample_rate=NEW).samples)


def level(sound):
    """In dB, without what is at the ends."""
    return 20 * np.log10(np.sqrt(np.mean(np.square(sound[100:-100]))) + 1e-12)


time = np.arange(OLD) / OLD
for frequency, seen in SEEN.items():
    tone = 0.5 * np.sin(2 * np.pi * frequency * time)
    out = decoded(tone)
    loss, best = level(out) - level(tone), level(soxr.resample(tone, OLD, NEW)) - level(tone)
    peak = np.abs(np.fft.rfft(out[:NEW])).argmax() * NEW / len(out[:NEW])
    print(f"{frequency} Hz: {loss:.1f} dB, at {peak:.0f} Hz; soxr {best:.1f} dB")
    assert abs(loss - seen) < 1, f"{frequency} Hz comes out at {loss:.1f} dB"
    assert abs(peak - min(frequency, NEW - frequency)) < 20, f"{frequency} Hz comes out as {peak:.0f} Hz"
    assert best < -100 if frequency > 8000 else abs(best) < 0.1, "soxr does no better"
noise = np.convolve(np.random.default_rng(1).standard_normal(OLD), np.hanning(60), "same")
noise *= 0.3 / np.abs(noise).max()
out = np.interp(time, np.arange(len(decoded(noise))) / NEW, decoded(noise))
late = max(range(-10, 11), key=lambda n: np.dot(noise[100:-100], np.roll(out, -n)[100:-100]))
print("late by", late, "samples of 48 kHz")
assert late == 3, "the sound is late by another time"
print("as described")
PYTHON
