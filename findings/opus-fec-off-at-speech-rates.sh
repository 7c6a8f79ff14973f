#!/usr/bin/env bash
# libopus leaves its in-band error correction out below 16 kbit/s, whatever loss it is told, and says nothing.
#
# `fec=1` with `packet_loss` is how calls over lossy links are set up, and low rates are where it is wanted. At 12 to
# 15 kbit/s the packets are the same to the byte with and without both options. At 9 kbit/s they narrow the sound from
# wide band (8 kHz) to narrow band (4 kHz), and add no second copy for it. Just above 16, libopus makes room for the
# copy by narrowing, too. A comparison of codecs "with FEC" at such rates is one without it, or one of other sound.
#
# Guessed before the first run: at 16 kbit/s and 20 % loss, packets of 20 ms carry the second copy (LBRR).
#
# Seen on 2026-11-28 with PyAV 18.1.0 and its libopus, mono at 16 kHz, application voip, packets of 20 ms; packets of
# 52 that carry LBRR, and their bandwidths:
#
#   kbit/s          9      12     15     16       18        24
#   without         W      W      W      W        W         W
#   loss 5 %        0 N    0 W    0 W    0 W      0 W       38 W
#   loss 20 %       0 N    0 W    0 W    0 W      48 M, N   38 W
#   loss 100 %      0 N    0 W    0 W    48 M, N  49 M, W   38 W
#
# The script makes its own input and runs for a few seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import av
import numpy as np

RATE = 16000
rng = np.random.default_rng(1)
time = np.arange(RATE + 320) / RATE
sweep = 0.3 * np.sin(2 * np.pi * (200 * time + 300 * time**2)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
pcm = (32767 * (sweep + 0.02 * rng.standard_normal(len(time)))).astype(np.int16)


def packets(bit_rate, **options):
    coder = av.CodecContext.create("libopus", "w")
    coder.sample_rate, coder.layout, coder.format, coder.bit_rate = RATE, "mono", "s16", bit_rate
    coder.options = {"application": "voip", "frame_duration": "20", **options}
    out = []
    for start in range(0, len(pcm) - 319, 320):
        frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 320], "s16", "mono")
        frame.sample_rate, frame.pts = RATE, start
        out += map(bytes, coder.encode(frame))
    return out + [bytes(packet) for packet in coder.encode(None)]


def has_copy(packet):
    """Whether a packet of one SILK frame has LBRR: the bit behind that of voice activity (RFC 6716, 4.2.3)."""
    assert packet[0] & 3 == 0 and packet[0] >> 3 in (1, 5, 9), "not one SILK frame of 20 ms"
    return packet[1] >> 6 & 1


def bands(coded):
    return "".join(sorted({"NMW"[(packet[0] >> 3) // 4] for packet in coded}))


for rate in (9, 12, 15, 16, 18, 24):
    plain = packets(1000 * rate)
    row = f"{rate:2} kbit/s, without {bands(plain)}:"
    for loss in (5, 20, 100):
        coded = packets(1000 * rate, fec="1", packet_loss=str(loss))
        copies = sum(map(has_copy, coded))
        row += f"  {loss} %: {copies:2} of {len(coded)} {bands(coded)}"
        row += " the same packets" if coded == plain else ""
        if rate <= 15:
            assert copies == 0, f"LBRR at {rate} kbit/s and {loss} %"
        if rate == 9:
            assert bands(plain) == "W" and bands(coded) == "N", "no narrowing at 9 kbit/s"
        if rate in (12, 15):
            assert coded == plain, f"the options change packets at {rate} kbit/s and {loss} %"
        if rate == 18 and loss > 5:
            assert copies > len(coded) / 2 and bands(plain) == "W" and bands(coded) != "W", "no narrowing at 18 kbit/s"
        if rate == 24:
            assert copies > len(coded) / 4 and bands(coded) == "W", "no LBRR at 24 kbit/s"
    print(row)
assert packets(24000, fec="1") == packets(24000), "fec=1 alone changes packets"
print("fec=1 without packet_loss: the same packets at 24 kbit/s")
print("as described")
PYTHON
