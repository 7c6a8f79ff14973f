"""SHA-256 of the streams of the `val` clips, to see whether a change of the code changes a byte.

    python -m benchmarks.measure.stream_hashes OUT.json --data DATA/val [--quality 5] [--seconds 3] [--refine]
                                               [--against EARLIER.json]

Each clip's beginning is coded as a file (with box means unless `--refine`, which takes minutes more) and as a call
(packets, with speech). Run it before and after a change, on one machine with one number of threads: the tracker and the
refining network are floating point, and what they find goes into the stream. With `--against` the exit status is 1 if a
stream differs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tfcodec
from tfcodec.files import write_json
from tfcodec.media import open_source

PER_FRAME = 640


def streams(path: Path, quality: int, seconds: float, refine: bool) -> dict[str, list[bytes]]:
    """What a clip's beginning becomes: the pieces of a file, and the packets of a call."""
    with open_source(path, crop="none") as source:
        frames = np.stack(list(itertools.islice(source.frames_iter(), round(25 * seconds))))
        sound = None if source.audio is None else source.audio[: PER_FRAME * len(frames)]
    out = {}
    for latency in ("file", "call"):
        options = {"latency": latency, "audio": sound is not None, "refine": refine, "origin": 0}
        encoder = tfcodec.Encoder(quality, **options)  # type: ignore[arg-type]
        packets: list[bytes] = []
        for t, frame in enumerate(frames):
            speech = None if sound is None else sound[PER_FRAME * t : PER_FRAME * (t + 1)]
            packets += encoder.push(frame, speech)
        out[latency] = [*packets, *encoder.flush()]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a folder of clips, such as DATA/val")
    parser.add_argument("--quality", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--against", type=Path)
    args = parser.parse_args()
    found: dict[str, str] = {}
    for path in tqdm(sorted(args.data.glob("*.mp4")), unit="clip"):
        for latency, packets in streams(path, args.quality, args.seconds, args.refine).items():
            # Lengths too, so that it matters where one packet ends.
            whole = b"".join(len(packet).to_bytes(4, "big") + packet for packet in packets)
            found[f"{path.stem} {latency}"] = f"{hashlib.sha256(whole).hexdigest()[:32]} {sum(map(len, packets))}"
    result = {"quality": args.quality, "seconds": args.seconds, "refine": args.refine, "streams": found}
    write_json(args.out, result)
    if args.against is not None:
        before = json.loads(args.against.read_text())["streams"]
        changed = sorted(name for name in before.keys() | found.keys() if before.get(name) != found.get(name))
        print(f"{len(found) - len(changed)} of {len(found)} streams are the same", *changed, sep="\n  ")
        sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
