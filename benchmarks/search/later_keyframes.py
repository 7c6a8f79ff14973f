"""Later keyframes of calls: when to send one, how finely, and as a difference or not.

    python -m benchmarks.search.later_keyframes [--clips 8] [--arms stills,now,...]

Clips of `train` in which a call sends a keyframe for drift. For each arm: kbit/s of pictures as packets carry them (no
loss, every keyframe confirmed), and LPIPS of pictures that the network draws, eight of each clip after its first
second keyframe would have been sent.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import clips, environment, read_clip, write
from tfcodec.bitstream import Chunk, write_signature
from tfcodec.codec import policy
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.codec.parts import Sending, StreamEncoder
from tfcodec.codec.parts.stream import stream_header
from tfcodec.metrics.lpips import LPIPS, lpips_of_frames

QUALITY = 5
SERVED = policy._SERVED
HEADER = 8
"""Bytes of a frame's packet beside its layers: benchmarks/measure/call_loss.py."""
ARMS: dict[str, dict[str, float]] = {
    "stills": {"refer": 0, "typical": 1},
    "typical": {"typical": 1},
    "now": {},
    "least 75": {"least": 75},
    "least 50": {"least": 50},
    "later -1": {"typical": 1, "later": -1.0},
    "later -2": {"typical": 1, "later": -2.0},
    "later -3": {"typical": 1, "later": -3.0},
    "none": {"DRIFT": 1e9},
    "drift 2400": {"DRIFT": 2400.0},
    "drift 3200": {"DRIFT": 3200.0},
    "patience 50": {"PATIENCE": 50},
    "interval 100": {"MIN_INTERVAL": 100},
}
"""What differs: constants of the policy; whether later keyframes may refer to those before; how much coarser they are;
whether each is paid for as if it served as long as keyframes usually do; or as long as the one before did, but so many
frames at least."""
Frames = NDArray[np.uint8]


def call(frames: Frames, arm: dict[str, float]) -> tuple[bytes, list[int], dict[str, float]]:
    """A call as a file, where its keyframes are, and its kbit/s."""
    stream, sends = StreamEncoder(Sending(QUALITY, "call")), policy.CallPolicy()
    known, chunks, places = policy.keyframe_quality, list[Chunk](stream.announcements), list[int]()
    size = {"keyframe": 0, "layers": 0}
    for count, frame in enumerate(frames):
        mark = policy.signature(frame)
        if sends.wants(count, mark):
            drifted = bool(places) and not sends.cut
            less = arm.get("later", 0.0) if drifted else 0.0
            serves = policy.TYPICAL_FRAMES if "typical" in arm else sends.serves(count)
            vars(policy)["keyframe_quality"] = lambda q, n, less=less: known(q, n) + less
            keyframe = stream.keyframe(frame, count, serves, refer=bool(arm.get("refer", 1)) and not sends.cut)
            vars(policy)["keyframe_quality"] = known
            chunks.append(keyframe)
            size["keyframe"] += len(keyframe.data)
            places.append(count)
            sends.sent(count, mark)
        made = stream.chunks(frame[None], count)
        size["layers"] += HEADER + sum(len(chunk.payload) for chunk in made)
        chunks += made
    data = b"".join([write_signature(), *(c.to_bytes() for c in (stream_header(None, len(frames)), *chunks))])
    rates = {name: round(8 * count / 1000 / (len(frames) / 25), 3) for name, count in size.items()}
    return data, places, rates


def drifting(count: int) -> list[tuple[str, Frames, int]]:
    """Clips with a keyframe for drift, and where its second would be."""
    paths = [path for path in clips("train") if path.name.startswith("d")]
    found = []
    for i in np.random.default_rng(11).permutation(len(paths)).tolist():
        frames = read_clip(paths[i])[:375]
        sends, places = policy.CallPolicy(), list[int]()
        for number, frame in enumerate(frames):
            mark = policy.signature(frame)
            if sends.wants(number, mark):
                sends.sent(number, mark)
                places += [] if sends.cut and number else [number]
        if len(places) > 1 and len(frames) - places[1] > 50:
            found.append((paths[i].name, frames, places[1]))
        if len(found) == count:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--arms", default=",".join(ARMS))
    args = parser.parse_args()
    eye, chosen = LPIPS("alex"), drifting(args.clips)
    rows: list[dict[str, Any]] = []
    known = {name: getattr(policy, name) for name in ("DRIFT", "PATIENCE", "MIN_INTERVAL")}
    for clip, frames, second in chosen:
        at = np.linspace(second, len(frames) - 1, 8).astype(int)
        for arm in args.arms.split(","):
            given = dict(ARMS[arm])
            least = given.pop("least", SERVED[0])
            constants = {name: value for name, value in given.items() if name in known}
            vars(policy).update({**known, "_SERVED": (least, SERVED[1]), **constants})
            data, places, rates = call(frames, given)
            drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
            lpips = float(lpips_of_frames(eye, drawn, frames[at]).mean())
            rows.append({"clip": clip, "arm": arm, "keyframes": places, "kbps": round(sum(rates.values()), 3), **rates,
                         "lpips": round(lpips, 4)})  # fmt: skip
            print(rows[-1], flush=True)
    mean = {arm: {key: round(float(np.mean([row[key] for row in rows if row["arm"] == arm])), 4)
                  for key in ("kbps", "keyframe", "lpips")} for arm in args.arms.split(",")}  # fmt: skip
    for arm, row in mean.items():
        print(arm, row)
    write("later_keyframes", {"environment": environment(), "quality": QUALITY, "mean": mean, "rows": rows})


if __name__ == "__main__":
    main()
