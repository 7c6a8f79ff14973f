"""How what the speech says should move a mouth whose motion is not sent: by one frame's answer or the mean of two, with
lips that may pass through one another or not.

    python -m benchmarks.search.lips_rule DATA_FOLDER WEIGHTS

Clips of 3 s and more of the `train` people whom ``WEIGHTS``, a network trained with ``python -m tfcodec.training.lips
... --hold-out``, has not seen; DATA_FOLDER is the folder prepared for that. Quality 5, without the motion layer and
without search; the opening of the mouth by landmarks against the labels. Sets `tfcodec.model.mouth.moved` and
`tfcodec.model.lips.Lips.of_frames`. "late": as in calls, where the sound of the last frame has not come yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import clip_list, data_folder, environment, read_clip, write
from tfcodec.codec.file.decoder import read_exact
from tfcodec.metrics.faces import mouth_opening
from tfcodec.metrics.openings import opening_correlation
from tfcodec.model.blocks import from_pixels
from tfcodec.model.inputs import MEL_PER_FRAME
from tfcodec.model.lips import MOUTH_PART, SILENCE, Lips, load_lips, read_lips
from tfcodec.model.logmel import log_mel
from tfcodec.model.marks import frame_marks, standing
from tfcodec.model.mouth import GAIN, HEARD, moved
from tfcodec.model.places import HALF
from tfcodec.model.registry import default_model
from tfcodec.model.renderer import sound_windows, tiny_windows
from tfcodec.model.weights import load_model
from tfcodec.motion.geometry import UNIT, analyse, synthesise
from tfcodec.training.lips import Speech
from tfcodec.training.lips_data import find_items, read_landmarks, read_sound

QUALITY = 5
SHORTEST, LONGEST = 75, 250
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lips, shipped = read_lips(args.weights), load_lips()
    lips.face.copy_(shipped.face)
    lips.key.copy_(shipped.key)
    clips = Speech(args.folder).clips()
    persons = sorted({item.person for item in clips})
    held = {i.name for i in clips if persons.index(i.person) % 8 == 1 and i.frames >= SHORTEST}
    marks, rows, paths = read_landmarks(data_folder()), [], []
    for item, path in find_items(data_folder()):
        sound = read_sound(path, item.frames) if item.name in held else None
        if sound is None:
            continue
        frames = read_clip(path)[:LONGEST]
        row = ways(frames, sound[: 640 * len(frames)], marks[item.name][: len(frames)].astype(np.float64), lips)
        if row is not None:
            rows.append({"clip": path.name, **row})
            paths.append(path)
            print(rows[-1], flush=True)
    mean = {way: {name: round(float(np.mean([row[way][name] for row in rows])), 4) for name in rows[0][way]}
            for way in rows[0] if way != "clip"}  # fmt: skip
    print(mean)
    result = {"quality": QUALITY, "search": False, "share": HEARD, "gain": GAIN, "train": mean}
    write("lips_rule", {"environment": environment(), **result, "clip_list": clip_list(paths), "rows": rows})


def ways(frames: NDArray[np.uint8], sound: NDArray[np.float32], truth: Floats, lips: Lips) -> dict[str, Any] | None:
    """By way of moving the mouth: correlation of its opening with the labels', how far and fast it moves, of theirs."""
    count, model = len(frames), load_model(default_model())
    parts = read_exact(
        tfcodec.encode(frames, fps=25, audio=sound, sample_rate=16000, quality=QUALITY, motion=False, refine=False)
    )
    key = model.encode_keyframe(from_pixels(torch.from_numpy(parts.keyframes[0][1][None])))
    stands = standing(key)
    if stands is None or not stands.face or parts.audio is None or len(parts.keyframes) > 1:
        return None
    windows = from_pixels(torch.from_numpy(tiny_windows(parts.tiny, np.arange(count)).reshape(-1, 8, 8, 3)))
    guess = frame_marks(model, key, windows.reshape(count, -1, 3, 8, 8), None)
    numbers = analyse(stands.marks, ((guess + 1) * HALF).numpy())
    mel = log_mel(parts.audio, count)
    single = lips.of_stream(torch.from_numpy(mel), 0, count).numpy()
    heard = sound_windows(mel, np.arange(count))
    both = lips.of_frames(torch.from_numpy(heard)).numpy()
    heard[:, -MEL_PER_FRAME:] = SILENCE
    late = lips.of_frames(torch.from_numpy(heard)).numpy()
    seen = (truth >= 0).all((1, 2))
    true = np.full(count, np.nan)
    true[seen] = opening(stands.marks, analyse(stands.marks, truth[seen]))
    row = {}
    for name, said, shut in (
        ("one frame", single, False), ("one frame, shut", single, True), ("two, shut", both, True),
        ("two, shut, late", late, True),
    ):  # fmt: skip
        for state in ("guessed", "lost"):
            all_of = np.full(count, state == "guessed")
            alone = lips.relative(torch.from_numpy(said), stands.marks)
            told = UNIT * said[:, :4].astype(np.float64)
            free = numbers[:, MOUTH_PART.numbers] + GAIN * HEARD * told if all_of[0] else alone + (GAIN - 1) * told
            there = numbers.copy()
            there[:, MOUTH_PART.numbers] = moved(stands.marks, numbers, said, alone, all_of) if shut else free
            drawn = opening(stands.marks, there)
            row[f"{name}: {state}"] = {
                "r": round(opening_correlation(drawn, true), 4),
                "amplitude": round(float(np.std(drawn[seen]) / np.nanstd(true)), 4),
                "speed": round(float(np.abs(np.diff(drawn)).mean() / np.nanmean(np.abs(np.diff(true)))), 4),
            }
    return row


def opening(reference: NDArray[np.float32], numbers: Floats) -> Floats:
    return mouth_opening(synthesise(reference, numbers)[:, :68].astype(np.float64))


if __name__ == "__main__":
    main()
