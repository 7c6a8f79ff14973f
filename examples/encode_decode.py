"""The library in ten lines: python examples/encode_decode.py talk.mp4"""

import sys

import tfcodec
from tfcodec.media import write_video

data = tfcodec.encode(sys.argv[1])  # bytes; crop="none" for a picture without a face
info = tfcodec.probe(data)
print(f"{len(data)} bytes for {info.duration_seconds:.1f} s: video {info.video_kbps:.2f} kbit/s")

clip = tfcodec.decode(data)
if clip.frames is not None:
    write_video("decoded.mp4", clip.frames, clip.fps, clip.audio, clip.sample_rate)
