"""Lips from speech alone on the `val` clips: ``python -m benchmarks.measure.lips_val [--weights FILE] [--out JSON]``.

The speech is coded as Opus and decoded; nothing else of the clip is used but the landmarks of its first frame, as the
keyframe's. Measured are, within each clip, the correlation of the mouth's opening with the labels', of landmarks
drawn by the motion layer's `synthesise` with the mouth's numbers from speech and

    still   no other motion: speech alone moves the face
    moved   the true numbers of head, lids, brows and face: only the mouth's are withheld

and the same without speech (silence in its place). "lag known": the sound of many clips is a few frames early or late;
here it is moved by what `Lips.find_lag` finds by the labels, at most 5 frames, as a sender could transmit it.

`error_..._of_frozen`: squared error of the mouth's numbers, relative to the keyframe, over that of numbers that stay 0;
"key_by_speech" takes the keyframe's state from the speech at the keyframe, "speech" from its landmarks.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import RESULTS
from tfcodec.files import write_json
from tfcodec.metrics.faces import mouth_opening
from tfcodec.model.lips import LIPS_FILE, MOUTH_PART, Lips, load_lips, read_lips
from tfcodec.model.logmel import log_mel
from tfcodec.motion import analyse, synthesise
from tfcodec.speech import decode_speech, encode_speech
from tfcodec.training.lips_data import Floats, find_items, read_landmarks, read_sound

Values = NDArray[np.float64]

QUALITIES = (2, 5, 8)


def correlation(a: Values, b: Values) -> float:
    """0 where one of the two never changes."""
    return 0.0 if min(float(np.std(a)), float(np.std(b))) < 1e-6 else float(np.corrcoef(a, b)[0, 1])


def measure(lips: Lips, mel: torch.Tensor, other: torch.Tensor, marks: Floats) -> dict[str, Any]:
    """Of one clip with log-mel [4 T, 80], that of another clip, and landmarks [T, 70, 2]."""
    seen = np.flatnonzero((marks >= 0).all((1, 2)))
    reference, true = marks[seen[0]], analyse(marks[seen[0]], marks[seen])
    wanted = mouth_opening(marks[seen][:, :68].astype(np.float64))
    out: dict[str, Any] = {}

    def opening(said: torch.Tensor, others: Values | None) -> Values:
        numbers = np.zeros_like(true) if others is None else others.copy()
        numbers[:, MOUTH_PART.numbers] = lips.relative(said[seen], reference)
        return mouth_opening(synthesise(reference, numbers)[:, :68].astype(np.float64))

    def say(sound: torch.Tensor, lag: int | None) -> torch.Tensor:
        return lips.of_stream(sound, 0, len(marks), lag)

    steady, silent = say(mel, None), say(torch.full_like(mel, -1), None)
    motions: tuple[tuple[str, Values | None], ...] = (("still", None), ("moved", true))
    for name, others in motions:
        out[name] = correlation(opening(steady, others), wanted)
        out[f"{name}_without_speech"] = correlation(opening(silent, others), wanted)
    out["direct"] = correlation(steady[seen, -1].double().numpy(), wanted)
    motion = np.full((len(marks), 4), np.nan)
    motion[seen] = true[:, MOUTH_PART.numbers]
    out["lag"] = lips.find_lag(mel, motion)
    for name, others in motions:
        out[f"{name}_lag_known"] = correlation(opening(say(mel, out["lag"]), others), wanted)
    # What the search for a lag finds by itself, in speech that has nothing to do with the face.
    strange = other.repeat(-(-len(mel) // len(other)), 1)[: len(mel)]
    out["still_strange_speech"] = correlation(opening(say(strange, None), None), wanted)
    out["still_strange_speech_lag_sought"] = correlation(
        opening(say(strange, lips.find_lag(strange, motion)), None), wanted
    )  # fmt: skip
    # The mouth's numbers: error left of what they change relative to the keyframe, by speech and in silence.
    withheld = true[:, MOUTH_PART.numbers]
    for name, said in (("speech", steady), ("silence", silent)):
        out[f"error_{name}"] = float(np.square(lips.relative(said[seen], reference) - withheld).sum())
    out["error_key_by_speech"] = float(
        np.square((steady[seen] - steady[seen[:1]])[:, :4].numpy() * 1024 - withheld).sum()
    )  # fmt: skip
    out["error_frozen"] = float(np.square(withheld).sum())
    out["amplitude"] = float(np.std(opening(steady, None)) / max(float(np.std(wanted)), 1e-6))
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--data", type=Path, default=os.environ.get("TFCODEC_DATA"))
    p.add_argument("--weights", type=Path)
    p.add_argument("--out", type=Path, default=RESULTS / "lips_val.json")
    args = p.parse_args()
    if args.data is None:
        p.error("--data or TFCODEC_DATA must name the folder of the clips")
    torch.set_num_threads(1)
    lips = read_lips(args.weights) if args.weights else load_lips()
    landmarks = read_landmarks(args.data)
    rows: dict[str, dict[str, Any]] = {f"quality {q}": {} for q in QUALITIES}
    lengths: dict[str, int] = {}
    before: dict[int, torch.Tensor] = {}
    for item, path in find_items(args.data):
        if item.kind != "val":
            continue
        sound = read_sound(path, item.frames)
        if sound is None:
            continue
        lengths[item.name] = item.frames
        for quality in QUALITIES:
            mel = torch.from_numpy(log_mel(decode_speech(encode_speech(sound, quality)), item.frames))
            other = before.get(quality, mel.flip(0))
            rows[f"quality {quality}"][item.name] = measure(lips, mel, other, landmarks[item.name][: item.frames])
            before[quality] = mel
    weights = args.weights.name if args.weights else LIPS_FILE
    result: dict[str, Any] = {"weights": weights, "clips": len(rows["quality 5"]), "mean": {}}
    result["quality 5"] = rows["quality 5"]
    for name, clips in rows.items():
        keys = [k for k in next(iter(clips.values())) if k != "lag" and not k.startswith("error")]
        mean = {k: round(float(np.mean([c[k] for c in clips.values()])), 4) for k in keys}
        long = [c for key, c in clips.items() if lengths[key] >= 75]
        mean |= {f"{k}_of_3_s_and_more": round(float(np.mean([c[k] for c in long])), 4) for k in keys if "still" in k}
        total = {k: sum(c[k] for c in clips.values()) for k in next(iter(clips.values())) if k.startswith("error")}
        frozen = total.pop("error_frozen")
        result["mean"][name] = mean | {f"{k}_of_frozen": round(v / frozen, 4) for k, v in total.items()}
    write_json(args.out, result)
    for name, mean in result["mean"].items():
        print(name, mean)


if __name__ == "__main__":
    main()
