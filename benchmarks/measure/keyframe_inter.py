"""What keyframes cost that refer to the one before: against stills at equal PSNR, and in whole calls, on `val`.

    python -m benchmarks.measure.keyframe_inter [--pairs-only] [--clips N]

*Pairs*: the first frame of each clip, coded as a still at quality 5, and the frame 2 s later, coded as a still and as a
difference, by the encoder's settings for files and for calls: with at least the still's PSNR, and as calls send it,
which looks as good by LPIPS (if its weights are there). Where no difference is cheaper the still is sent, and counts.

*Calls*: those clips in which a call sends several keyframes, at quality 5 without speech, with feedback, without loss,
with and without differences: video kbit/s of all packets.
Clips: TFCODEC_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import clip_list, clips, environment, read_clip, write
from tfcodec.codec import policy
from tfcodec.codec.call.receiver import Receiver
from tfcodec.codec.encoder import Encoder
from tfcodec.errors import WeightsError
from tfcodec.keyframe import decode_inter_keyframe, decode_keyframe, encode_inter_keyframe, encode_keyframe
from tfcodec.keyframe.inter import ALLOWED_DB
from tfcodec.metrics.lpips import LPIPS, lpips_of_frames
from tfcodec.metrics.pixels import psnr

APART = 50
QUALITY = 5
MODES = {"file, equal PSNR": (False, 0.0), "call, equal PSNR": (True, 0.0), "call": (True, ALLOWED_DB)}
"""Settings for calls, and dB that a difference may be worse than the still."""

Frames = NDArray[np.uint8]


def judge() -> LPIPS | None:
    try:
        return LPIPS("alex")
    except WeightsError:
        return None


def pair(first: Frames, second: Frames, eye: LPIPS | None, *, fast: bool, allowed: float) -> dict[str, Any]:
    """The second picture as a still and as a difference from the first."""
    before = encode_keyframe(first, QUALITY, fast=fast)
    still = encode_keyframe(second, QUALITY, fast=fast)
    inter = encode_inter_keyframe(second, [before], still, fast=fast, allowed=allowed)
    row: dict[str, Any] = {"still_bytes": len(still), "sent_bytes": len(inter or still), "inter": inter is not None}
    pictures = {"still": decode_keyframe(still)}
    if inter is not None:
        pictures["inter"] = decode_inter_keyframe(inter, [before])
    for name, picture in pictures.items():
        row[f"{name}_psnr"] = round(float(psnr(picture[None], second[None])[0]), 3)
        if eye is not None:
            row[f"{name}_lpips"] = round(float(lpips_of_frames(eye, picture[None], second[None])[0]), 4)
    return row


def call(frames: Frames, *, inter: bool) -> dict[str, Any]:
    """A call of the clip, whose receiver says once a second what it has."""
    encoder, receiver = Encoder(QUALITY, "call", audio=False, inter_keyframes=inter, origin=0), Receiver()
    size, keyframes, said = 0, 0, None
    for tick, frame in enumerate([*frames, None]):
        packets = encoder.push(frame) if frame is not None else encoder.flush()
        packets = [*(encoder.push_feedback(said) if said is not None else []), *packets]
        for packet in packets:
            size += len(packet)
            keyframes += packet.parts.get("keyframe", 0)
            receiver.push(packet)
        said = receiver.feedback(tick)
    seconds = len(frames) / 25
    rates = {"video_kbps": size, "keyframe_kbps": keyframes}
    return {name: round(8 * count / 1000 / seconds, 3) for name, count in rates.items()}


def keyframes_of(frames: Frames) -> list[int]:
    """Where a call sends keyframes."""
    when, found = policy.CallPolicy(), []
    for number, frame in enumerate(frames):
        mark = policy.signature(frame)
        if when.wants(number, mark):
            when.sent(number, mark)
            found.append(number)
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of the stills' bytes: of all together, and the mean of the pairs."""
    shares = [row["sent_bytes"] / row["still_bytes"] for row in rows]
    total = sum(row["sent_bytes"] for row in rows) / sum(row["still_bytes"] for row in rows)
    result = {"pairs": len(rows), "inter": sum(row["inter"] for row in rows), "share_of_bytes": round(total, 4),
              "mean_share": round(float(np.mean(shares)), 4)}  # fmt: skip
    both = [row for row in rows if row["inter"] and "inter_lpips" in row]
    if both:
        result["lpips_inter"] = round(float(np.mean([row["inter_lpips"] for row in both])), 4)
        result["lpips_still"] = round(float(np.mean([row["still_lpips"] for row in both])), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs-only", action="store_true", help="no calls")
    parser.add_argument("--clips", type=int, help="only so many clips")
    args = parser.parse_args()
    paths, eye = clips()[: args.clips], judge()
    pairs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    calls: list[dict[str, Any]] = []
    for path in paths:
        frames = read_clip(Path(path))
        if len(frames) <= APART:
            continue
        for mode, rows in pairs.items():
            fast, allowed = MODES[mode]
            rows.append({"clip": path.name, **pair(frames[0], frames[APART], eye, fast=fast, allowed=allowed)})
            print(mode, rows[-1], flush=True)
        places = keyframes_of(frames)
        if len(places) > 1 and not args.pairs_only:
            both = {name: call(frames, inter=name == "inter") for name in ("still", "inter")}
            saved = 1 - both["inter"]["video_kbps"] / both["still"]["video_kbps"]
            calls.append({"clip": path.name, "keyframes": places, **both, "saved": round(saved, 4)})
            print(calls[-1], flush=True)
    result: dict[str, Any] = {"environment": environment(), "quality": QUALITY, "frames_apart": APART,
                              "summary": {mode: summary(rows) for mode, rows in pairs.items()}}  # fmt: skip
    if calls:
        before, after = (float(np.mean([row[name]["video_kbps"] for row in calls])) for name in ("still", "inter"))
        result["summary"]["calls"] = {"clips": len(calls), "video_kbps_stills": round(before, 3),
                                      "video_kbps": round(after, 3), "saved": round(1 - after / before, 4)}  # fmt: skip
    print(result["summary"])
    write("keyframe_inter", {**result, "clip_list": clip_list(paths), "pairs": pairs, "calls": calls})


if __name__ == "__main__":
    main()
