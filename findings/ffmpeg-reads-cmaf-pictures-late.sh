#!/usr/bin/env bash
# FFmpeg reads the pictures of a CMAF file later than its sound, by the delay of B-frames; the file itself is right.
#
# `movflags=cmaf` (or negative_cts_offsets) writes what MSE and DASH want: the first picture at 0, B-frames at negative
# offsets from their decoding times, no edit list. FFmpeg's own reader adds the largest offset to all pictures again,
# and nothing to the sound. A flash and a click that went in together come out 74 to 80 ms apart at 25 frames per
# second. Whoever measures lip sync, transcodes or trains on such files has late pictures. Ordinary and other
# fragmented files keep them together.
#
# Guessed before the first run: a fragmented MP4 with B-frames begins at 0 as an ordinary one does.
#
# Seen on 2026-11-28 with PyAV 18.1.0 (libavformat 62.12.102), H.264 with B-frames and Opus, flash and click at 1 s:
#
#                                   flash      click
#   no flags                        1.000 s    1.000 s
#   frag_keyframe+empty_moov        1.080 s    1.080 s     late, but together
#   cmaf                            1.080 s    1.0065 s    first time of display in the file: 0
#   cmaf without B-frames           1.000 s    1.0065 s
#
# The 6.5 ms are Opus' pre-skip, which nothing takes away without an edit list. The script makes its own input and runs
# for some seconds after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import av
import numpy as np

RATE, AT = 48000, 25
av.logging.set_level(av.logging.ERROR)


def written(flags, b_frames):
    """Two seconds with a white picture and a click in the 25th frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": flags} if flags else {}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "bf": b_frames})
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("libopus", rate=RATE, layout="mono")
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255 if number == AT else 20, np.uint8), "rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
            samples = np.zeros(RATE // 25, np.int16)
            samples[:240] = 20000 * (number == AT)
            sound = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            sound.sample_rate, sound.pts = RATE, number * len(samples)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return file.getvalue()


def seen(data):
    """The times of the flash and of the click, in seconds."""
    with av.open(io.BytesIO(data)) as container:
        (flash,) = [frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 128]
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().reshape(-1)) > 0.2)
            if len(loud):
                return flash, frame.time + loud[0] / RATE
    raise AssertionError("no click")


def first_shown(data):
    """The first picture's time of display as the file says it: decoding time and offset of the first fragment."""
    clock, run = data.index(b"tfdt"), data.index(b"trun")
    flags = int.from_bytes(data[run + 5 : run + 8], "big")
    time = int.from_bytes(data[clock + 8 : clock + (16 if data[clock + 4] else 12)], "big")
    place = run + 12 + sum(4 for flag in (0x1, 0x4, 0x100, 0x200, 0x400) if flags & flag)
    return time + (struct.unpack(">i", data[place : place + 4])[0] if flags & 0x800 else 0)


for flags, b_frames in (("", "3"), ("frag_keyframe+empty_moov", "3"), ("cmaf", "3"), ("cmaf", "0")):
    data = written(flags, b_frames)
    flash, click = seen(data)
    print(f"{flags or 'no flags':25} B-frames {b_frames}: flash {flash:.4f} s, click {click:.4f} s, "
          f"{1000 * (flash - click):.1f} ms later")
    if flags == "cmaf":
        assert first_shown(data) == 0, "the file does not begin at 0"
    if flags == "cmaf" and b_frames == "3":
        assert abs(flash - 1.08) < 2e-3 and abs(click - 1.0065) < 2e-3, "flash or click has moved"
    else:
        assert abs(flash - click) < 0.01, "flash and click are apart"
print("as described")
PYTHON
