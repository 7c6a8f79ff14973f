#!/usr/bin/env bash
# soundfile reads Opus and Vorbis as int16 without clipping: a peak above full scale becomes one at the other end.
#
# Lossy decoders overshoot; loud speech that touched full scale before comes back above 1.0. As float the samples say
# so. With `dtype="int16"` they wrap around: 1.06 is read as -0.94, a loud crack at each peak. As int32 all that is
# above full scale becomes the lowest number there is. MP3 through the same library is clipped. Read float and clip by
# hand.
#
# Guessed before the first run: int16 is the float result, rounded and clipped.
#
# Seen on 2026-11-28 with soundfile 0.14.0 (libsndfile 1.2.2), a clipped sine of 220 Hz, one second at 48 kHz:
#
#              peak as float    int16 of the wrong sign    int32 of the wrong sign
#   Opus       1.06             19157                      7304
#   Vorbis     1.08             35379                      17619
#   MP3        1.04             0                          0
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import soundfile

RATE = 48000
loud = np.clip(3 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE), -1, 1)
print(soundfile.__libsndfile_version__)
for form, kind in (("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
    file = io.BytesIO()
    soundfile.write(file, loud, RATE, format=form, subtype=kind)
    exact, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float64")
    clear = np.abs(exact) > 0.5
    wrong = {}
    for dtype in ("int16", "int32"):
        read, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype=dtype)
        wrong[dtype] = int(np.sum(np.sign(read.astype(np.int64)) != np.sign(exact), where=clear))
        if kind != "MPEG_LAYER_III":
            over = exact > 1.0005 if dtype == "int32" else np.abs(exact) > 1.0005
            assert np.all(np.sign(read[over].astype(np.int64)) != np.sign(exact[over])), "some of them are clipped"
    print(f"{kind:15} peak {np.abs(exact).max():.2f}, wrong sign: {wrong}")
    assert np.abs(exact).max() > 1.01, "nothing is above full scale"
    if kind == "MPEG_LAYER_III":
        assert wrong == {"int16": 0, "int32": 0}, "MP3 wraps, too"
    else:
        assert min(wrong.values()) > 500, "it clips now"
print("as described")
PYTHON
