#!/usr/bin/env bash
# FFmpeg's audio filters come late, by up to 85 ms, under timestamps that say they do not, and the end is cut off.
#
# A denoiser has to look ahead, so its output is late. One expects `pts` to tell, as it does for encoders, or as many
# samples less at first. afftdn gives as many samples as went in, from pts 0 on, and each of them 25 ms after its place;
# the last 25 ms never come. Mouth and voice part by that much with every filter in the chain. PESQ and other measures
# of samples in their places measure the delay.
#
# Guessed before the first run: aligned sound, or timestamps that say by how much it is late.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavfilter 11.14.102), 3 s of noise at 48 kHz, defaults; samples late, first
# pts, samples too many:
#
#   superequalizer                 4095, 0, 0
#   afftdn                         1200, 0, 0
#   firequalizer                    480, 0, 960
#   anlmdn                          384, 0, 0
#   alimiter=level=0                239, 0, 0     its option latency=1 makes it 0
#   apsyclip                        192, 0, 0
#   dynaudnorm, speechnorm, compand, adeclick, afwtdn       0, 0, 0
#
# The script makes its own input and runs for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

av.logging.set_level(av.logging.PANIC)
RATE = 48000
rng = np.random.default_rng(1)
sound = np.convolve(rng.standard_normal(3 * RATE), np.hanning(60), "same")
sound = (0.1 * sound / np.abs(sound).max()).astype(np.float32)


def filtered(name, arguments):
    """Samples late, first pts, samples too many; every frame follows the one before without a gap."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="fltp", layout="mono", time_base=Fraction(1, RATE))
    middle = graph.add(name, arguments) if arguments else graph.add(name)
    sink = graph.add("abuffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    frames = []
    for start in [*range(0, len(sound), 1024), None]:
        frame = None
        if start is not None:
            frame = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        source.push(frame)
        while True:
            try:
                frames.append(graph.pull())
            except (av.BlockingIOError, av.EOFError):
                break
    for before, after in zip(frames, frames[1:], strict=False):
        assert after.pts == before.pts + before.samples, "the timestamps have a gap"
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    size = 1 << 18
    match = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(sound, size)))
    return int(match[:8192].argmax()), frames[0].pts, len(samples) - len(sound)


LATE = {
    "superequalizer": (4095, 0, 0), "afftdn": (1200, 0, 0), "firequalizer": (480, 0, 960), "anlmdn": (384, 0, 0),
    "alimiter level=0": (239, 0, 0), "alimiter level=0:latency=1": (0, 0, 0), "apsyclip": (192, 0, 0),
    "dynaudnorm": (0, 0, 0), "speechnorm": (0, 0, 0), "compand": (0, 0, 0), "adeclick": (0, 0, 0), "afwtdn": (0, 0, 0),
}
for chain, expected in LATE.items():
    name, _, arguments = chain.partition(" ")
    found = filtered(name, arguments)
    print(f"{chain:27} late by {found[0]:4}, first pts {found[1]}, too many {found[2]}")
    assert abs(found[0] - expected[0]) <= 1 and found[1:] == expected[1:], f"{chain}: it was {expected}"
print("as described")
PYTHON
