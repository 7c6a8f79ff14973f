"""A training pack in memory: on a GPU all of it as integers in device memory, on a CPU mapped from a file.

A pack is a folder made by ``python -m tfcodec.training.prepare``. It holds one of two layouts, or both:

compact, to be carried to another machine: see `compact`

expanded, what is mapped into memory (written beside the compact one where a machine needs it):

    SPLIT.json        clips: [name, first frame, frames]; written last
    SPLIT.yuv         all frames, I420, [N, 384, 256] uint8
    SPLIT_keys.json   decoded keyframes: [clip, frame, quality]
    SPLIT_keys.yuv    the same as pictures, [K, 384, 256] uint8
    SPLIT_mel.npy     log-mel of the decoded speech, [4 N, 80] float16 (-1 where a clip has no sound)
    SPLIT_landmarks.npy   [N, 70, 2] float16, pixels; -1 where no face was found
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import MediaError
from ..files import write_atomically
from ..model.inputs import MEL_BANDS, MEL_PER_FRAME
from .compact import ROWS, SIZE, Bytes, CompactSplit, mel_to_bytes, open_compact

Clips = list[tuple[str, int, int]]


@dataclass
class Batch:
    """One training batch: B keyframes, M targets of each; pictures in 0..1, landmarks in pixels (-1: not there)."""

    key: Tensor  # [B, 3, 256, 256], as decoded
    target: Tensor  # [B*M, 3, 256, 256]
    owner: Tensor  # [B*M] index of the target's keyframe
    tiny: Tensor  # [B*M, 5, 3, 8, 8], quantised
    mel: Tensor  # [B*M, 20, 80]
    key_marks: Tensor  # [B*M, 70, 2]
    marks: Tensor  # [B*M, 70, 2]
    some: Tensor  # [S] the targets that the perceptual loss looks at
    corner: Tensor  # [2] top and left of the piece of them that it looks at
    second: Tensor | None = None  # [B, 3, 256, 256] another keyframe of the same clip
    pairs: bool = False  # targets 2 i and 2 i + 1 are neighbouring frames
    key_seen: Tensor | None = None  # [B, 70, 2] landmarks of the keyframe in -1..1, as a tracker sees them
    now: Tensor | None = None  # [B*M, 70, 2] those of the target, as sent
    face: Tensor | None = None  # [B] 1 where the tracker finds a face in the keyframe
    told: Tensor | None = None  # [B*M, 1, 1] bool: the target's motion was sent


# BT.601, limited range: what luma, Cb and Cr add to R, G and B, with the very factors of OpenCV's I420 conversions.
LUMA = 1220542 / 2**20
CHROMA = ((0.0, 1673527 / 2**20), (-409993 / 2**20, -852492 / 2**20), (2116026 / 2**20, 0.0))


def rgb(i420: Tensor, flip: Tensor | None = None) -> Tensor:
    """I420 [n, 384, 256] uint8 -> RGB [n, 3, 256, 256] float32: whole numbers in 0..255, chroma repeated, as in OpenCV.

    ``flip`` [n] bool says which pictures to mirror.
    """
    count, half = len(i420), SIZE // 2
    rows, planes = i420[:, :SIZE], i420[:, SIZE:].reshape(count, 2, half, half)
    if flip is not None:
        # While they are bytes: a quarter of the work, and without a choice that the host would have to wait for.
        rows = torch.where(flip[:, None, None], rows.flip(-1), rows)
        planes = torch.where(flip[:, None, None, None], planes.flip(-1), planes)
    luma = rows.float().sub_(16).clamp_(min=0).mul_(LUMA).reshape(count, half, 2, SIZE)
    chroma = planes.float().sub_(128)
    out = torch.empty((count, 3, half, 2, SIZE), device=i420.device)
    for channel, (of_u, of_v) in enumerate(CHROMA):
        colour = of_u * chroma[:, 0] + of_v * chroma[:, 1]
        wide = colour[..., None].expand(-1, -1, -1, 2).reshape(count, half, 1, SIZE)
        torch.add(luma, wide, out=out[:, channel])
    return out.round_().clamp_(0, 255).reshape(count, 3, SIZE, SIZE)


def box8(pictures: Tensor) -> Tensor:
    """Exact 32x32 box means [..., 256, 256] -> [..., 8, 8]."""
    shape = pictures.shape[:-2]
    # Rows first: whole lines are added, which is several times as fast as squares.
    return pictures.reshape(*shape, 8, 32, SIZE).mean(-2).reshape(*shape, 8, 8, 32).mean(-1)


def tiny_frames(i420: Tensor, device: torch.device, at_a_time: int = 256) -> Tensor:
    """Box means [N, 3, 8, 8] in 0..255 of all pictures."""
    if device.type != "cpu":
        parts = [box8(rgb(i420[i : i + at_a_time])) for i in range(0, len(i420), at_a_time)]
        return torch.cat(parts)
    # The same by OpenCV and in whole numbers, which a CPU does five times as fast.
    out = np.empty((len(i420), 8, 8, 3), np.float32)
    for i, picture in enumerate(i420):
        rows = cv2.cvtColor(picture.numpy(), cv2.COLOR_YUV2RGB_I420).reshape(8, 32, SIZE * 3).sum(1, dtype=np.uint32)
        out[i] = rows.reshape(8, 8, 32, 3).sum(2) / np.float32(1024)
    return torch.from_numpy(np.ascontiguousarray(out.transpose(0, 3, 1, 2)))


class Pack:
    """One split of a prepared folder, ready to draw from on ``device``.

    ``frames`` [N, 384, 256] and ``key_pictures`` [K, 384, 256] uint8 I420; ``mel`` [4 N + 1, 80] uint8 (the last row is
    silence); ``marks`` [N, 70, 2] float32 pixels; box means ``tiny`` [N, 3, 8, 8], ``key_tiny`` [K, 3, 8, 8] float32;
    ``ends`` [C, 2] first frame and number of frames of each clip.
    Raises MediaError when the folder holds no whole pack.
    """

    def __init__(
        self, folder: str | Path, split: str, device: torch.device | str = "cpu", threads: int | None = None
    ) -> None:
        folder, self.device = Path(folder), torch.device(device)
        threads = threads or os.cpu_count() or 1
        if not (folder / f"{split}.json").is_file():
            compact = open_compact(folder, split)
            if self.device.type == "cpu":
                expand(compact, folder, split, threads)
            else:
                self._take(compact, split, threads)
                return
        self._map(folder, split)

    def _map(self, folder: Path, split: str) -> None:
        try:
            self.clips: Clips = [(str(a), int(b), int(c)) for a, b, c in _json(folder / f"{split}.json")]
            self.keys = [(int(a), int(b), float(c)) for a, b, c in _json(folder / f"{split}_keys.json")]
            total = self.clips[-1][1] + self.clips[-1][2]
            self.frames = _mapped(folder / f"{split}.yuv", total).to(self.device)
            self.key_pictures = _mapped(folder / f"{split}_keys.yuv", len(self.keys)).to(self.device)
            mel = mel_to_bytes(np.load(folder / f"{split}_mel.npy", mmap_mode="r"))
            marks = np.load(folder / f"{split}_landmarks.npy").astype(np.float32)
        except (OSError, ValueError, IndexError) as error:
            raise MediaError(f"{folder}: no whole training pack with a split {split!r} ({error})") from None
        cache = folder / f"{split}_box.npy"
        tiny = torch.from_numpy(np.load(cache)).to(self.device) if cache.is_file() else None
        self._finish(mel, marks, tiny)
        if tiny is None:
            partial = cache.with_suffix(".partial.npy")
            np.save(partial, self.tiny.cpu().numpy())
            os.replace(partial, cache)

    def _take(self, compact: CompactSplit, split: str, threads: int) -> None:
        self.clips, self.keys = compact.clips, compact.keys
        total = self.clips[-1][1] + self.clips[-1][2]
        self.frames = torch.empty((total, ROWS, SIZE), dtype=torch.uint8, device=self.device)
        self.key_pictures = torch.empty((len(self.keys), ROWS, SIZE), dtype=torch.uint8, device=self.device)
        _say(compact.decode(_into(self.frames), threads), len(self.clips), split)
        compact.decode(_into(self.key_pictures), threads, keys=True)
        self._finish(_mel_of(compact, total), compact.integers("marks").astype(np.float32) / np.float32(16))

    def _finish(self, mel: Bytes, marks: NDArray[Any], tiny: Tensor | None = None) -> None:
        silence = np.zeros((1, MEL_BANDS), np.uint8)
        self.mel = torch.from_numpy(np.concatenate((mel, silence))).to(self.device)
        self.marks = torch.from_numpy(np.where(marks < 0, -1, marks).astype(np.float32)).to(self.device)
        self.tiny = tiny_frames(self.frames, self.device) if tiny is None else tiny
        self.key_tiny = tiny_frames(self.key_pictures, self.device)
        self._index()

    def _index(self) -> None:
        self.ends = np.array([[start, count] for _, start, count in self.clips], np.int64)
        self.keys_of_clip: dict[int, list[int]] = {}
        for i, (clip, _, _) in enumerate(self.keys):
            self.keys_of_clip.setdefault(clip, []).append(i)
        # Until a tracker has looked, it is taken to see what the labels say.
        key_frames = torch.tensor([self.clips[c][1] + f for c, f, _ in self.keys], device=self.device)
        self.see(self.marks, self.marks[key_frames])

    def see(self, seen: Tensor, key_seen: Tensor, found: Tensor | None = None, key_found: Tensor | None = None) -> None:
        """Take what a tracker sees: ``seen`` [N, 70, 2], ``key_seen`` [K, 70, 2] in pixels; where it finds a face."""
        self.seen, self.key_seen = seen, key_seen
        self.found = (seen >= 0).flatten(1).all(1) if found is None else found
        self.key_found = (key_seen >= 0).flatten(1).all(1) if key_found is None else key_found

    def extend(self, other: Pack) -> None:
        """Take another pack's clips in, too."""
        clips, frames, silence = len(self.clips), len(self.frames), self.mel[-1:]
        self.clips += [(name, start + frames, count) for name, start, count in other.clips]
        self.keys += [(clip + clips, frame, quality) for clip, frame, quality in other.keys]
        self.mel = torch.cat((self.mel[:-1], other.mel[:-1], silence))
        for name in ("frames", "key_pictures", "marks", "tiny", "key_tiny"):
            setattr(self, name, torch.cat((getattr(self, name), getattr(other, name))))
        self._index()


def expand(compact: CompactSplit, folder: Path, split: str, threads: int) -> None:
    """Write a compact split's expanded layout into ``folder``; SPLIT.json last: it is there whole or not at all."""
    total = compact.clips[-1][1] + compact.clips[-1][2]
    for name, count, keys in ((f"{split}.yuv", total, False), (f"{split}_keys.yuv", len(compact.keys), True)):
        partial = folder / f"{name}.partial"
        out = np.memmap(partial, np.uint8, "w+", shape=(count, ROWS, SIZE))
        other = compact.decode(_into(out), threads, keys=keys)
        out.flush()
        os.replace(partial, folder / name)
        if not keys:
            _say(other, len(compact.clips), split)
    np.save(folder / f"{split}_mel.npy", (_mel_of(compact, total) / np.float32(127.5) - 1).astype(np.float16))
    marks = compact.integers("marks").astype(np.float32) / 16
    np.save(folder / f"{split}_landmarks.npy", np.where(marks < 0, -1, marks).astype(np.float16))
    for name, value in ((f"{split}_keys.json", compact.keys), (f"{split}.json", compact.clips)):
        write_atomically(folder / name, json.dumps(value).encode())


def _mel_of(compact: CompactSplit, frames: int) -> Bytes:
    if any(name.startswith("mel-") for name in compact.members):
        return compact.integers("mel")
    return np.zeros((MEL_PER_FRAME * frames, MEL_BANDS), np.uint8)  # a pack without sound


def _into(store: Tensor | Bytes) -> Callable[[int, Bytes], None]:
    def put(start: int, pictures: Bytes) -> None:
        if isinstance(store, Tensor):
            store[start : start + len(pictures)].copy_(torch.from_numpy(pictures))
        else:
            store[start : start + len(pictures)] = pictures

    return put


def _say(other: int, clips: int, split: str) -> None:
    if other:
        print(
            f"{split}: {other} of {clips} clips decode to slightly other pixels here than where the pack was made",
            file=sys.stderr,
        )  # fmt: skip


def _json(path: Path) -> list[list[Any]]:
    value: list[list[Any]] = json.loads(path.read_text())
    return value


def _mapped(path: Path, count: int) -> Tensor:
    # Copy on write: the file is never changed, and torch need not warn of an array that it must not write.
    return torch.from_numpy(np.memmap(path, np.uint8, "c", shape=(count, ROWS, SIZE)))
