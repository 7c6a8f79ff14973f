"""A call over a bad line, from a file: the streaming encoder and decoder with packets lost and out of order.

    python examples/call_loopback.py talk.mp4 --loss 5 --output received.mp4

In a real call the two halves of the loop run on two machines, packets go out as datagrams, and `request_keyframe` is
asked for over the way back.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import tfcodec
from tfcodec.media import VideoWriter, open_source

SAMPLES = 640  # of speech per frame: 16000 / 25
TRIP = 3  # frames, 120 ms, until the sender hears that a keyframe is wanted


def main() -> int:
    parser = argparse.ArgumentParser(description="Send a video through the call codec with simulated packet loss.")
    parser.add_argument("input", type=Path)
    parser.add_argument("--output", type=Path, default=Path("received.mp4"))
    parser.add_argument("--loss", type=float, default=5.0, help="packets lost, in percent (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        run(options.input, options.output, options.loss / 100, options.seed)
    except tfcodec.TfcodecError as error:
        print(f"call_loopback: {error}", file=sys.stderr)
        return 1
    return 0


def run(source: Path, output: Path, loss: float, seed: int) -> None:
    """Send `source` and write what arrives to `output`; raises TfcodecError for what cannot be read or written."""
    rng = np.random.default_rng(seed)
    sender, receiver = tfcodec.Encoder(latency="call"), tfcodec.Decoder()
    late: list[bytes] = []
    sent = lost = size = 0
    asked: int | None = None
    pictures, sounds = [], []
    with open_source(source) as clip:
        for index, frame in enumerate(clip.frames_iter()):
            speech = None if clip.audio is None else clip.audio[index * SAMPLES : (index + 1) * SAMPLES]
            arriving, late = late, []
            for packet in sender.push(frame, speech):
                sent, size = sent + 1, size + len(packet)
                if rng.random() < loss:
                    lost += 1
                elif rng.random() < 0.05:
                    late.append(packet)  # overtaken by the next frame's
                else:
                    arriving.append(packet)
            for packet in arriving:
                receiver.push(packet)
            pictures.append(receiver.pull())
            sounds.append(receiver.pull_audio())
            if receiver.wants_keyframe and asked is None:
                asked = index
            if asked is not None and index >= asked + TRIP:
                sender.request_keyframe()
                asked = None
    audio = np.concatenate(sounds) if clip.audio is not None else None
    with VideoWriter(output, clip.fps, audio=audio, sample_rate=clip.sample_rate) as video:
        for picture in pictures:
            video.write(picture)
    seconds = len(pictures) / clip.fps
    print(f"{sent} packets, {size} bytes, {size * 8 / 1000 / seconds:.2f} kbit/s; {lost} lost on the way")
    print(f"{receiver.lost_frames} of {len(pictures)} frames concealed -> {output}")


if __name__ == "__main__":
    sys.exit(main())
