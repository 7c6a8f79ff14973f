"""Make a training pack: ``python -m tfcodec.training.prepare DATA PACK [--parts ...]``.

DATA holds manifest.tsv, train/, val/ and landmarks_*.npz; the pack's layout is described in `data`. Everything that the
network will meet in use goes through the codec itself: keyframes through AV1 at several qualities, speech through Opus.
This is the one file of the training package that needs PyAV (for DATA -> PACK, on any machine); training
itself reads the pack alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..codec import policy
from ..codec.encoder import WINDOW
from ..keyframe import decode_keyframe, encode_keyframe
from ..media import open_source
from ..model.inputs import MEL_BANDS, MEL_PER_FRAME
from ..speech import decode_speech, encode_speech, log_mel
from .data import SIZE, rgb

PARTS = ("frames", "keys", "mel", "landmarks")
Clips = list[tuple[str, int, int]]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="tfcodec.training.prepare", description=__doc__)
    p.add_argument("data", type=Path)
    p.add_argument("pack", type=Path)
    p.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to make (default: all)")
    p.add_argument("--keys", type=int, default=3, help="keyframes per train clip: the encoder's choice and random ones")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args(argv)


def _i420(picture: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes())


def write_frames(folder: Path, pack: Path, split: str) -> None:
    clips: Clips = []
    total = 0
    with (pack / f"{split}.yuv").open("wb") as out:
        for path in tqdm(sorted((folder / split).glob("*.mp4")), f"{split} frames", unit="clip"):
            count = 0
            with open_source(path, crop="none") as clip:
                for frame in clip.frames_iter():
                    out.write(_i420(frame))
                    count += 1
            clips.append((path.name, total, count))
            total += count
    (pack / f"{split}.json").write_text(json.dumps(clips))


def read_clips(pack: Path, split: str) -> Clips:
    return [(str(a), int(b), int(c)) for a, b, c in json.loads((pack / f"{split}.json").read_text())]


def write_keys(pack: Path, split: str, per_clip: int, rng: np.random.Generator) -> None:
    clips = read_clips(pack, split)
    frames = np.memmap(pack / f"{split}.yuv", np.uint8, "r").reshape(-1, SIZE * 3 // 2, SIZE)

    def wanted() -> Iterator[tuple[int, int, float]]:
        for i, (_, start, count) in enumerate(clips):
            window = [rgb(f) for f in frames[start : start + min(count, WINDOW)]]
            marks = [policy.signature(picture) for picture in window]
            yield i, policy.choose_keyframe(marks, window), policy.keyframe_quality(5, count)
            for _ in range(per_clip - 1):
                yield i, int(rng.integers(count)), float(rng.uniform(0, 7))

    keys = []
    with (pack / f"{split}_keys.yuv").open("wb") as out:
        for clip, frame, quality in tqdm(wanted(), f"{split} keyframes", len(clips) * per_clip, unit="picture"):
            coded = encode_keyframe(rgb(frames[clips[clip][1] + frame]), quality, fast=split == "train")
            out.write(_i420(decode_keyframe(coded)))
            keys.append((clip, frame, quality))
    (pack / f"{split}_keys.json").write_text(json.dumps(keys))


def write_mel(folder: Path, pack: Path, split: str, rng: np.random.Generator) -> None:
    clips = read_clips(pack, split)
    total = clips[-1][1] + clips[-1][2]
    mel = np.full((MEL_PER_FRAME * total, MEL_BANDS), -1, np.float16)
    for name, start, count in tqdm(clips, f"{split} speech", unit="clip"):
        with open_source(folder / split / name, crop="none") as clip:
            if clip.audio is None:
                continue
            quality = 5 if split == "val" else int(rng.integers(2, 9))
            speech = decode_speech(encode_speech(clip.audio, quality))
        mel[MEL_PER_FRAME * start : MEL_PER_FRAME * (start + count)] = log_mel(speech, count)
    np.save(pack / f"{split}_mel.npy", mel)


def write_landmarks(folder: Path, pack: Path, split: str) -> None:
    clips = read_clips(pack, split)
    marks = np.full((clips[-1][1] + clips[-1][2], 70, 2), -1, np.float16)
    for file in sorted(folder.glob(f"landmarks_{split}*.npz")):
        with np.load(file) as data:
            for name, start, count in clips:
                if (key := name.removesuffix(".mp4")) in data:
                    points = data[key][:count]
                    marks[start : start + len(points)] = np.where(points < 0, -1, points / 16)
    np.save(pack / f"{split}_landmarks.npy", marks)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    args.pack.mkdir(parents=True, exist_ok=True)
    for split in ("val", "train"):
        rng = np.random.default_rng(args.seed)
        if "frames" in args.parts:
            write_frames(args.data, args.pack, split)
        if "keys" in args.parts:
            write_keys(args.pack, split, args.keys if split == "train" else 1, rng)
        if "mel" in args.parts:
            write_mel(args.data, args.pack, split, rng)
        if "landmarks" in args.parts:
            write_landmarks(args.data, args.pack, split)


if __name__ == "__main__":
    main()
