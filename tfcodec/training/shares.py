"""Divide a training pack into shares, carried one by one: ``python -m tfcodec.training.shares DATA PACK OUT``.

Each share is a compact pack of its own (see `compact`) of other people's clips, in one file, so that training can begin
with the first while the next is on its way. It holds no speech, keyframes as H.264 (fewer of the short clips), and
landmarks in quarters of a pixel. The first share has some of the clips of ``val``, to watch the training by.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .compact import CHUNK, KEYS_PER_FILE, SIZE, PartWriter, decode_video, pack_integers
from .prepare import Clips, h264, read_clips, without_sound

SHORT = 50
"""Frames of a clip below which two keyframes are enough."""


def choose(clips: Clips, sizes: list[int], limits: list[int], rng: np.random.Generator) -> list[list[int]]:
    """Which clips go into which share: whole people, at random, until it is full; what fits nowhere is left out."""
    people: dict[str, list[int]] = {}
    for i, (name, _, _) in enumerate(clips):
        people.setdefault(name.rsplit("_", 1)[0], []).append(i)
    shares: list[list[int]] = [[] for _ in limits]
    room = list(limits)
    for person in rng.permutation(sorted(people)):
        needed = sum(sizes[i] for i in people[str(person)])
        share = int(np.argmax(room))
        if needed <= room[share]:
            shares[share] += people[str(person)]
            room[share] -= needed
    return [sorted(share) for share in shares]


def write_split(
    writer: PartWriter, folder: Path, pack: Path, split: str, chosen: list[int], crf: int
) -> dict[str, list[list[object]]]:
    """Write clips of a split into a share; returns what its index says of them."""
    clips = read_clips(pack, split)
    frames = np.memmap(pack / f"{split}.yuv", np.uint8, "r").reshape(-1, SIZE * 3 // 2, SIZE)
    pictures = np.memmap(pack / f"{split}_keys.yuv", np.uint8, "r").reshape(-1, SIZE * 3 // 2, SIZE)
    marks = np.load(pack / f"{split}_landmarks.npy", mmap_mode="r")
    about, total, parts = [], 0, []
    place = {clip: i for i, clip in enumerate(chosen)}
    for clip in tqdm(chosen, f"{split} clips", unit="clip"):
        name, start, count = clips[clip]
        data = without_sound(folder / split / name)
        decoded = decode_video(data, name)
        if len(decoded) != count:
            data = h264(frames[start : start + count])
            decoded = decode_video(data, name)
        writer.add(f"{split}/{name}", data)
        about.append([name, total, count, zlib.crc32(decoded.tobytes())])
        parts.append(np.asarray(marks[start : start + count]))
        total += count
    keys, which, seen = [], [], dict.fromkeys(chosen, 0)
    for i, (clip, frame, quality) in enumerate(json.loads((pack / f"{split}_keys.json").read_text())):
        if clip in place and not (seen[clip] == 2 and clips[clip][2] < SHORT):
            seen[clip] += 1
            keys.append([place[clip], frame, quality])
            which.append(i)
    for i in tqdm(range(0, len(which), KEYS_PER_FILE), f"{split} keyframes", unit="file"):
        chosen_pictures: NDArray[np.uint8] = pictures[which[i : i + KEYS_PER_FILE]]
        writer.add(f"{split}/keys-{i // KEYS_PER_FILE:03d}.mp4", h264(chosen_pictures, crf))
    points = np.concatenate(parts).astype(np.float32)
    integers = (4 * np.rint(4 * np.where(points < 0, -1, points))).astype(np.int16)
    integers[points < 0] = -16
    for i in range(0, len(integers), CHUNK):
        writer.add(f"{split}/marks-{i // CHUNK:03d}.npz", pack_integers(integers[i : i + CHUNK]))
    return {"clips": about, "keys": keys}


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.shares", description=__doc__, allow_abbrev=False)
    p.add_argument("data", type=Path)
    p.add_argument("pack", type=Path, help="expanded pack, from tfcodec.training.prepare")
    p.add_argument("out", type=Path, help="folder for share-0, share-1, ...")
    p.add_argument("--mib", type=float, nargs="+", default=[38, 56], help="size of each share, at most")
    p.add_argument("--val", type=int, default=10, help="clips of val in the first share")
    p.add_argument("--crf", type=int, default=18, help="of the keyframes as H.264")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(argv)
    clips, val = read_clips(args.pack, "train"), read_clips(args.pack, "val")
    some = list(range(0, len(val), max(1, len(val) // args.val)))[: args.val] if args.val else []

    def cost(split: str, name: str, count: int) -> int:
        # Pictures, three keyframes, landmarks.
        return (args.data / split / name).stat().st_size + 4000 * (3 if count >= SHORT else 2) + 90 * count

    sizes = [cost("train", name, count) for name, _, count in clips]
    limits = [int(0.99 * mib * 2**20) for mib in args.mib]
    limits[0] -= sum(cost("val", *val[i][::2]) for i in some)
    for number, chosen in enumerate(choose(clips, sizes, limits, np.random.default_rng(args.seed))):
        folder = args.out / f"share-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        writer = PartWriter(folder, int((args.mib[number] + 4) * 2**20))
        splits = {}
        if some and not number:
            splits["val"] = write_split(writer, args.data, args.pack, "val", some, args.crf)
        splits["train"] = write_split(writer, args.data, args.pack, "train", chosen, args.crf)
        writer.finish(splits)
        frames = sum(clips[i][2] for i in chosen)
        size = sum(part["bytes"] for part in writer.parts) / 2**20
        print(f"share {number}: {len(chosen)} clips, {frames} frames, {len(writer.parts)} files, {size:.1f} MiB")


if __name__ == "__main__":
    main()
