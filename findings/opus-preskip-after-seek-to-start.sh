#!/usr/bin/env bash
# A second pass over an Opus file with PyAV begins 6.5 ms later in its samples than the first.
#
# An Opus encoder's delay, 312 samples at 48 kHz, is written into Ogg and WebM as pre-skip and dropped by the decoder.
# FFmpeg drops it once, when the file is opened. After `container.seek(0)` the 312 samples come out too, under
# timestamps that begin at -312. Code that takes samples in their order (two passes, say for level and then for sound)
# and not by `pts` is late by 312 samples in all passes but the first. MP4 is another matter: there the delay is
# always dropped, and the padding of the last packet is never.
#
# Guessed before the first run: each pass gives the same samples, as many as went in, from Ogg, WebM and MP4 alike.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavformat 62.12.102), 48777 samples of mono sound; samples too many, lag,
# first pts:
#
#   first pass      Ogg 0, 0, 0      WebM 0, 0, 0             MP4 831, 0
#   after seek(0)   312, 312, -312   312, 312, before zero    831, 0
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io

import av
import numpy as np

RATE, COUNT, PRESKIP = 48000, 48777, 312
PADDING = -(COUNT + PRESKIP) % 960
rng = np.random.default_rng(1)
sound = np.convolve(rng.standard_normal(COUNT), np.hanning(60), "same")
sound *= 0.3 / np.abs(sound).max()


def written(form):
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray((32767 * sound).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decoded(container):
    """Samples too many, lag behind what went in, and the first timestamp in samples."""
    frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    size = 1 << 17
    match = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(sound, size)))
    return len(samples) - COUNT, int(match[:4096].argmax()), round(frames[0].pts * frames[0].time_base * RATE)


for form in ("ogg", "webm", "mp4"):
    with av.open(io.BytesIO(written(form))) as container:
        first = decoded(container)
        container.seek(0)
        second = decoded(container)
    print(f"{form:4}  first pass: {first}  after seek(0): {second}")
    if form == "mp4":
        assert first[:2] == second[:2] == (PADDING, 0), "MP4: the end is cut, or the passes differ"
    else:
        assert first == (0, 0, 0), f"{form}: the first pass is not what went in"
        assert second[:2] == (PRESKIP, PRESKIP), f"{form}: the second pass is no longer late"
        assert second[2] < 0, f"{form}: the timestamps do not say so"
print("as described")
PYTHON
