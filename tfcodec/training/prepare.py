"""Make a training pack: ``python -m tfcodec.training.prepare DATA PACK [--make ...]``.

DATA holds manifest.tsv, train/, val/ and landmarks_*.npz; the pack's layouts are described in `data` (expanded: frames,
keys, mel, landmarks) and `compact` (parts: made from the expanded one, to be carried to another machine; of the pack,
that machine needs index.json and the part files alone). Everything that the network will meet in use goes through the
codec itself: keyframes through AV1 at several qualities, speech through Opus.
This is the one file of the training package that needs PyAV (for DATA -> PACK, on any machine); training itself reads
the pack alone.
"""

from __future__ import annotations

import argparse
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..codec import policy
from ..codec.file.encoder import WINDOW
from ..keyframe import decode_keyframe, encode_keyframe
from ..media import open_source
from ..model.inputs import MEL_BANDS, MEL_PER_FRAME
from ..model.logmel import log_mel
from ..speech import decode_speech, encode_speech
from .compact import CHUNK, KEYS_PER_FILE, SIZE, PartWriter, decode_video, mel_to_bytes, pack_integers

MAKE = ("frames", "keys", "mel", "landmarks", "parts")
Clips = list[tuple[str, int, int]]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="tfcodec.training.prepare", description=__doc__, allow_abbrev=False)
    p.add_argument("data", type=Path)
    p.add_argument("pack", type=Path)
    p.add_argument("--make", nargs="+", choices=MAKE, default=list(MAKE), help="what to make (default: all)")
    p.add_argument("--parts-mib", type=float, default=60, help="size of a part file of the compact pack, at most")
    p.add_argument("--keys", type=int, default=3, help="keyframes per train clip: the encoder's choice and random ones")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args(argv)


def rgb(i420: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.asarray(i420), cv2.COLOR_YUV2RGB_I420), np.uint8)


def _i420(picture: NDArray[np.uint8]) -> bytes:
    """For pictures that have one colour for 2x2 pixels already: OpenCV takes that of the upper left one."""
    return bytes(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes())


def averaged_i420(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [256, 256, 3] -> I420 [384, 256], uint8, with the mean colour of 2x2 pixels, which OpenCV does not take."""
    planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)
    means = cv2.resize(picture, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA).repeat(2, 0).repeat(2, 1)
    planes[SIZE:] = cv2.cvtColor(means, cv2.COLOR_RGB2YUV_I420)[SIZE:]
    return planes


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
            frame, quality = policy.choose_keyframe(marks, window), policy.keyframe_quality(5, count)
            yield i, frame, quality
            for _ in range(per_clip - 1):
                if split == "train":
                    yield i, int(rng.integers(count)), float(rng.uniform(0, 7))
                else:  # a second reference, half the clip away
                    yield i, (frame + count // 2) % count, quality

    keys = []
    with (pack / f"{split}_keys.yuv").open("wb") as out:
        for clip, frame, quality in tqdm(wanted(), f"{split} keyframes", len(clips) * per_clip, unit="picture"):
            coded = encode_keyframe(rgb(frames[clips[clip][1] + frame]), quality, fast=split == "train")
            out.write(averaged_i420(decode_keyframe(coded)).tobytes())  # its colours run from pixel to pixel
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


def without_sound(path: Path) -> bytes:
    """The same coded pictures in an .mp4 of their own: nothing is coded again."""
    out = io.BytesIO()
    with av.open(str(path)) as source, av.open(out, "w", format="mp4") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


def h264(pictures: NDArray[np.uint8], crf: int = 10) -> bytes:
    """I420 pictures [T, 384, 256] as H.264, each by itself, near-lossless."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "medium", "threads": "1"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 1
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")):
                target.mux(packet)
        for packet in stream.encode(None):
            target.mux(packet)
    return out.getvalue()


def write_parts(folder: Path, pack: Path, mib: float) -> None:
    """The compact pack, from the expanded one. Every clip is decoded again as the trainer will do it, and compared.

    A clip that OpenCV decodes to other pictures than PyAV (another frame rate than 25, say) is coded anew.
    """
    writer = PartWriter(pack, int(mib * 2**20))
    splits = {}
    for split in ("val", "train"):
        clips = read_clips(pack, split)
        frames = np.memmap(pack / f"{split}.yuv", np.uint8, "r").reshape(-1, SIZE * 3 // 2, SIZE)
        sums, again = [], 0
        for name, start, count in tqdm(clips, f"{split} parts", unit="clip"):
            expected = frames[start : start + count]
            data = without_sound(folder / split / name)
            decoded = decode_video(data, name)
            if not np.array_equal(decoded, expected):
                again += 1
                data = h264(expected)
                decoded = decode_video(data, name)
            writer.add(f"{split}/{name}", data)
            sums.append(zlib.crc32(decoded.tobytes()))
        keys = np.memmap(pack / f"{split}_keys.yuv", np.uint8, "r").reshape(-1, SIZE * 3 // 2, SIZE)
        error = []
        for i in tqdm(range(0, len(keys), KEYS_PER_FILE), f"{split} keyframes in parts", unit="file"):
            data = h264(keys[i : i + KEYS_PER_FILE])
            writer.add(f"{split}/keys-{i // KEYS_PER_FILE:03d}.mp4", data)
            difference = decode_video(data, "keyframes").astype(np.int16) - keys[i : i + KEYS_PER_FILE]
            error.append(np.square(difference[:, :SIZE]).mean((1, 2)))
        mel = mel_to_bytes(np.load(pack / f"{split}_mel.npy", mmap_mode="r"))
        marks = np.rint(np.load(pack / f"{split}_landmarks.npy").astype(np.float32) * 16).astype(np.int16)
        for i in range(0, len(marks), CHUNK):
            sound = mel[MEL_PER_FRAME * i : MEL_PER_FRAME * (i + CHUNK)]
            writer.add(f"{split}/mel-{i // CHUNK:03d}.npz", pack_integers(sound))
            writer.add(f"{split}/marks-{i // CHUNK:03d}.npz", pack_integers(marks[i : i + CHUNK]))
        about = json.loads((pack / f"{split}_keys.json").read_text())
        splits[split] = {"clips": [[*c, s] for c, s in zip(clips, sums, strict=True)], "keys": about}
        db = 10 * np.log10(255**2 / np.maximum(np.concatenate(error), 1e-6))
        print(
            f"{split}: {again} of {len(clips)} clips coded anew; keyframes carried with {db.mean():.1f} dB of luma "
            f"(worst {db.min():.1f})"
        )  # fmt: skip
    writer.finish(splits)
    sizes = ", ".join(f"{part['file']} {part['bytes'] / 2**20:.1f} MiB" for part in writer.parts)
    print(f"compact pack: index.json {(pack / 'index.json').stat().st_size / 2**20:.1f} MiB, {sizes}")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    args.pack.mkdir(parents=True, exist_ok=True)
    for split in ("val", "train"):
        rng = np.random.default_rng(args.seed)
        if "frames" in args.make:
            write_frames(args.data, args.pack, split)
        if "keys" in args.make:
            write_keys(args.pack, split, args.keys if split == "train" else 2, rng)
        if "mel" in args.make:
            write_mel(args.data, args.pack, split, rng)
        if "landmarks" in args.make:
            write_landmarks(args.data, args.pack, split)
    if "parts" in args.make:
        write_parts(args.data, args.pack, args.parts_mib)


if __name__ == "__main__":
    main()
