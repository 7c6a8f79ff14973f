"""What an inter frame can save at all: later keyframes against stills, at equal PSNR, by way of coding.

    python -m benchmarks.search.inter_bound [--clips 12] [--apart 50] [--arms sent,...]

Clips of `train`, one a person: the first frame, and the one ``--apart`` frames later. The still is coded at quality 5;
the others' bytes are interpolated between steps of the quantiser to the still's PSNR. *switch*: the frame that streams
have, which begins with AV1's default probabilities and sees the decoded first still. *plain*: what SVT-AV1 makes of the
two pictures in low delay by itself, the first as fine as the second; it takes probabilities over from it. *plain
switch*: the same two pictures, the second a switch frame. The number is the preset. *sent*: what files have, which is
the still where nothing cheaper was found. Arms that are not asked for stay as they were measured.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, clips, environment, read_clip, write
from tfcodec.codec import policy
from tfcodec.keyframe import av1, decode_keyframe, encode_inter_keyframe, encode_keyframe, inter
from tfcodec.keyframe.colour import to_planes, to_rgb
from tfcodec.keyframe.still import split

QUALITY = 5
SWITCH_STEPS, PLAIN_STEPS = (28, 34, 40, 46, 52), (28, 36, 42, 48, 56)
ARMS = ("sent", "switch 2", "switch 0", "plain 2", "plain 0", "plain switch 2")
PLAIN = (
    "lp=1:tune=1:enable-qm=1:qm-min=2:max-tx-size=32:ac-bias=2:pred-struct=1:keyint=-1:scd=0:scm=0"
    ":use-fixed-qindex-offsets=1:key-frame-qindex-offset=0"
)
Frames = NDArray[np.uint8]


def plain(first: Frames, second: Frames, step: int, preset: int, more: str) -> tuple[float, int]:
    """PSNR and bytes of the second picture."""
    packets = av1.encode([to_planes(first), to_planes(second)], preset, f"{PLAIN}{more}:crf={step}")
    return inter._psnr(to_rgb(*av1.decode(packets)), second), len(av1.picture_of(packets[1])[1])


def switch(before: bytes, second: Frames, step: int, preset: int) -> tuple[float, int] | None:
    payload = inter._encode(inter._planes([before]), to_planes(second), step, preset, split(before)[0])
    if payload is None:
        return None
    return inter._psnr(inter.decode_inter_keyframe(payload, [before]), second), len(payload)


def bytes_at(wanted: float, curve: list[tuple[float, int]]) -> float:
    """By interpolation of the bytes' logarithm; beyond the ends, along the last line."""
    quality, sizes = zip(*sorted(curve), strict=True)
    at = int(np.clip(np.searchsorted(quality, wanted), 1, len(quality) - 1))
    share = (wanted - quality[at - 1]) / (quality[at] - quality[at - 1])
    return float(np.exp((1 - share) * np.log(sizes[at - 1]) + share * np.log(sizes[at])))


def pair(first: Frames, second: Frames, arms: list[str]) -> dict[str, Any]:
    before, still = encode_keyframe(first, QUALITY), encode_keyframe(second, QUALITY)
    wanted = inter._psnr(decode_keyframe(still), second)
    row: dict[str, Any] = {
        "moved": round(policy.distance(policy.signature(first), policy.signature(second)), 1),
        "still_bytes": len(still), "psnr": round(wanted, 2),
    }  # fmt: skip
    for arm in arms:
        name, _, preset = arm.rpartition(" ")
        if arm == "sent":
            size = float(len(encode_inter_keyframe(second, [before], still, allowed=0.0) or still))
        elif name == "switch":
            curve = [switch(before, second, step, int(preset)) for step in SWITCH_STEPS]
            size = bytes_at(wanted, [point for point in curve if point is not None])
        else:
            more = ":sframe-dist=1:sframe-mode=3" if name == "plain switch" else ""
            size = bytes_at(wanted, [plain(first, second, step, int(preset), more) for step in PLAIN_STEPS])
        row[arm] = round(size / len(still), 3)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--apart", type=int, default=50)
    parser.add_argument("--arms", default=",".join(ARMS))
    args = parser.parse_args()
    arms, rows, people = args.arms.split(","), list[dict[str, Any]](), set[str]()
    paths, path = clips("train"), RESULTS / "inter_bound.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    known = {row["clip"]: row for row in earlier["rows"]} if earlier.get("frames_apart") == args.apart else {}
    for i in np.random.default_rng(3).permutation(len(paths)).tolist():
        person = paths[i].name.partition("_")[0]
        if person in people or not person.startswith("d"):
            continue
        frames = read_clip(paths[i])
        if len(frames) <= args.apart:
            continue
        people.add(person)
        measured = pair(frames[0], frames[args.apart], arms)
        rows.append({**known.get(paths[i].name, {}), "clip": paths[i].name, **measured})
        print(rows[-1], flush=True)
        if len(rows) == args.clips:
            break
    arms = [arm for arm in ARMS if all(arm in row for row in rows)]
    groups = {
        "all": rows, "as calls send them: moved by more than DRIFT": [r for r in rows if r["moved"] > policy.DRIFT],
        "the others": [r for r in rows if r["moved"] <= policy.DRIFT],
    }  # fmt: skip
    weights = {name: [row["still_bytes"] for row in of] for name, of in groups.items()}
    mean = {name: {"pairs": len(of), **{arm: round(float(np.average([min(1.0, row[arm]) for row in of],
            weights=weights[name])), 3) for arm in arms}} for name, of in groups.items() if of}  # fmt: skip
    print(mean)
    write("inter_bound", {"environment": environment(), "quality": QUALITY, "frames_apart": args.apart,
                          "share_of_still_bytes_at_most_1": mean, "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
