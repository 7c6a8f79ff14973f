"""Mouths whose motion is not sent: what the tiny frames say of them, what the speech says, and both.

    python -m benchmarks.measure.lips_withheld [--train 20] [--every 2] [--rows FILE] [--ways speech silence]

Clips with speech are coded at quality 5 without the motion layer; of `train` without search, which saves time.

*Numbers*, clips of `train` and of `val`: the opening of the mouth by landmarks that are moved by what the decoded tiny
frames say ("guess"; "guess of the source" by tiny frames that were not coded), by the speech in its place, and by both,
the speech counting a share beside the guess; against the labels. "drawn" and "lost" are what a decoder draws in streams
without motion and where motion was lost; "drawn before": by one frame's answer of the speech, not the mean of two, and
with lips that may pass through one another. *Pictures*, `val`: decoded with speech and without, and the mouths read by
PFLD.
Clips: TFCODEC_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import clip_list, clips, data_folder, environment, read_clip, write
from tfcodec.codec.file.decoder import ExactParts, read_exact, render_exact
from tfcodec.metrics.faces import FaceMeter, mouth_distance, mouth_opening
from tfcodec.metrics.openings import opening_correlation
from tfcodec.model.blocks import from_pixels
from tfcodec.model.lips import MOUTH_PART, load_lips
from tfcodec.model.logmel import log_mel
from tfcodec.model.marks import standing
from tfcodec.model.mouth import GAIN, HEARD, moved
from tfcodec.model.places import HALF
from tfcodec.model.registry import default_model
from tfcodec.model.renderer import sound_windows, tiny_windows
from tfcodec.model.weights import load_model
from tfcodec.motion.geometry import UNIT, analyse, synthesise
from tfcodec.tinyframe.planes import tiny_from_frames, tiny_to_rgb
from tfcodec.training.lips_data import find_items, read_landmarks, read_sound

QUALITY = 5
LONGEST = 250
WAYS = ("speech", "silence")
SHARES = (0.3, 0.5, 0.7, 1.0, 1.4)
Floats = NDArray[np.float64]


def curves(path: Path, frames: NDArray[np.uint8], parts: ExactParts, truth: Floats) -> dict[str, Any] | None:
    """By way of moving the mouth: correlation of its opening with the labels', and squared errors.

    Of the clip's beginning, if later frames have another keyframe.
    """
    model, lips = load_model(default_model()), load_lips()
    count = parts.keyframes[1][0] if len(parts.keyframes) > 1 else len(frames)
    key = model.encode_keyframe(from_pixels(torch.from_numpy(parts.keyframes[0][1][None])))
    stands = standing(key)
    if stands is None or not stands.face or parts.audio is None:
        return None

    def guessed(tiny: NDArray[np.uint8]) -> Floats:
        windows = tiny_windows(tiny, np.arange(count))
        seen = from_pixels(torch.from_numpy(windows.reshape(-1, 8, 8, 3))).reshape(count, -1, 3, 8, 8)
        with torch.no_grad():
            guess = model.guess(key.select(torch.zeros(count, dtype=torch.long)), seen)
        return analyse(stands.marks, ((guess + 1) * HALF).numpy())

    numbers = guessed(parts.tiny[:count])
    mel = log_mel(parts.audio, len(frames))
    said = lips.of_frames(torch.from_numpy(sound_windows(mel, np.arange(count))))
    single = UNIT * lips.of_stream(torch.from_numpy(mel), 0, count)[:, :4].double().numpy()
    mouth, told = numbers[:, MOUTH_PART.numbers].copy(), UNIT * said[:, :4].double().numpy()
    alone, all_of = lips.relative(said, stands.marks), np.ones(count, bool)
    ways = {"still": 0 * mouth, "guess": mouth, "speech": alone}
    ways["guess of the source"] = guessed(tiny_to_rgb(tiny_from_frames(frames[:count])))[:, MOUTH_PART.numbers]
    ways["drawn before"] = mouth + GAIN * HEARD * single
    ways["drawn"] = moved(stands.marks, numbers, said.numpy(), alone, all_of)
    ways["lost"] = moved(stands.marks, numbers, said.numpy(), alone, ~all_of)
    ways |= {f"both {share}": mouth + share * told for share in SHARES}
    truth = truth[:count]
    wanted = mouth_opening(synthesise(stands.marks, analyse(stands.marks, truth))[:, :68].astype(np.float64))
    row: dict[str, Any] = {"clip": path.name}
    for name, there in ways.items():
        numbers[:, MOUTH_PART.numbers] = there
        opening = mouth_opening(synthesise(stands.marks, numbers)[:, :68].astype(np.float64))
        row[name] = {"r": round(opening_correlation(opening, wanted), 4),
                     "error": float(np.square(opening - wanted).sum()),
                     "amplitude": round(float(opening.std() / max(wanted.std(), 1e-6)), 4)}  # fmt: skip
    return row


def pictures(
    frames: NDArray[np.uint8], parts: ExactParts, meter: FaceMeter, every: int, ways: list[str]
) -> dict[str, float]:
    """Mouths of a clip without the motion layer, decoded with "speech" and in "silence"."""
    at = np.arange(0, len(frames), every)
    source = meter.landmarks(frames[at])
    row = {}
    for name in ways:
        audio = parts.audio if name == "speech" else None
        drawn = np.concatenate(list(render_exact(replace(parts, audio=audio), only=at)))
        found = meter.landmarks(drawn)
        row[f"r_{name}"] = round(opening_correlation(mouth_opening(found), mouth_opening(source)), 4)
        row[f"amplitude_{name}"] = round(float(np.nanstd(mouth_opening(found)) / np.nanstd(mouth_opening(source))), 4)
        row[f"distance_{name}"] = round(float(np.nanmean(mouth_distance(found, source))), 4)
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean correlation, error as a share of a still mouth's, median amplitude, by way."""
    frozen = sum(row["still"]["error"] for row in rows)
    return {
        way: {"r": round(float(np.mean([row[way]["r"] for row in rows])), 4),
              "error_of_still": round(sum(row[way]["error"] for row in rows) / frozen, 4),
              "amplitude": round(float(np.median([row[way]["amplitude"] for row in rows])), 4)}
        for way in rows[0] if way not in ("clip", "pictures")
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=20, help="clips of train")
    parser.add_argument("--every", type=int, default=2, help="judge every n-th picture")
    parser.add_argument("--rows", type=Path, help="JSON lines of an earlier run that was broken off")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="how pictures are drawn")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder, meter = data_folder(), FaceMeter()
    marks = read_landmarks(folder)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
    kept = args.rows.read_text().splitlines() if args.rows and args.rows.exists() else []
    known = {row["clip"]: row for row in map(json.loads, kept)}
    items = [item for item in find_items(folder) if item[0].kind in rows]
    order = np.random.default_rng(3).permutation(len(items)).tolist()
    for i in sorted(order, key=lambda i: items[i][0].kind == "train"):
        (item, path), split = items[i], items[i][0].kind
        if (split == "train" and len(rows[split]) == args.train) or item.frames < 75:
            continue
        if path.name in known:
            rows[split].append(known[path.name])
            continue
        sound = read_sound(path, item.frames)
        if sound is None:
            continue
        frames = read_clip(path)[:LONGEST]
        sound = sound[: 640 * len(frames)]
        data = tfcodec.encode(
            frames, fps=25, audio=sound, sample_rate=16000, quality=QUALITY, motion=False, refine=split == "val"
        )  # fmt: skip
        parts = read_exact(data)
        row = curves(path, frames, parts, marks[item.name][: len(frames)].astype(np.float64))
        if row is None:
            continue
        if split == "val":
            row["pictures"] = pictures(frames, parts, meter, args.every, args.ways)
        rows[split].append(row)
        if args.rows:
            with args.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(split, row, flush=True)
    mean = {name: round(float(np.mean([row["pictures"][name] for row in rows["val"]])), 4)
            for name in rows["val"][0]["pictures"]}  # fmt: skip
    result = {"quality": QUALITY, "share": HEARD, "gain": GAIN, "judged_every": args.every,
              "train": summary(rows["train"]), "val": summary(rows["val"]), "val_pictures": mean}  # fmt: skip
    print(result)
    paths = [path for path in clips() if path.name in {row["clip"] for row in rows["val"]}]
    write("lips_withheld", {"environment": environment(), **result, "clip_list": clip_list(paths), "rows": rows})


if __name__ == "__main__":
    main()
