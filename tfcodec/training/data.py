"""Reading a training pack and drawing batches of (keyframe, targets) from it.

A pack is a folder made by ``python -m tfcodec.training.prepare``:

    SPLIT.json        clips: [name, first frame, frames]
    SPLIT.yuv         all frames, I420, [N, 384, 256] uint8
    SPLIT_keys.json   decoded keyframes: [clip, frame, quality]
    SPLIT_keys.yuv    the same as pictures, [K, 384, 256] uint8
    SPLIT_mel.npy     log-mel of the decoded speech, [4 N, 80] float16 (-1 where a clip has no sound)
    SPLIT_landmarks.npy   [N, 70, 2] float16, pixels; -1 where no face was found
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.inputs import MEL_BANDS, MEL_COLUMNS, MEL_PER_FRAME, REACH, WINDOW

SIZE = 256

# BT.709 full range, as in the tiny-frame layer.
TO_YCC = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32)
FROM_YCC = np.linalg.inv(TO_YCC).astype(np.float32)


def _dct(n: int) -> NDArray[np.float32]:
    k = np.arange(n)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * n)) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


DCT8, DCT4 = _dct(8), _dct(4)


@dataclass
class Batch:
    """One training batch: B keyframes, M targets of each; pictures in 0..1, landmarks in pixels."""

    key: Tensor  # [B, 3, 256, 256], as decoded
    target: Tensor  # [B*M, 3, 256, 256]
    owner: Tensor  # [B*M] index of the target's keyframe
    tiny: Tensor  # [B*M, 5, 3, 8, 8], quantised
    mel: Tensor  # [B*M, 20, 80]
    key_marks: Tensor  # [B*M, 70, 2]
    marks: Tensor  # [B*M, 70, 2]

    def to(self, device: torch.device) -> Batch:
        return Batch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})


def quantise_tiny(
    tiny: NDArray[np.float32], key: NDArray[np.float32], luma: float, chroma: float
) -> NDArray[np.float32]:
    """What the tiny-frame coder would do to ``tiny`` [T, 8, 8, 3] RGB 0..255, near enough for training.

    The difference to the keyframe's own tiny frame is transformed, rounded to the quantiser step with a dead zone, and
    put back; chroma at 4x4.
    """
    delta: NDArray[Any] = (tiny - key) @ TO_YCC.T
    y = delta[..., 0]
    c = delta[..., 1:].reshape(-1, 4, 2, 4, 2, 2).mean((2, 4)).transpose(0, 3, 1, 2)

    def coded(x: NDArray[Any], basis: NDArray[np.float32], step: float) -> NDArray[np.float32]:
        levels = basis @ x @ basis.T / step
        levels = np.sign(levels) * np.floor(np.abs(levels) + 0.4)
        return np.asarray(basis.T @ (levels * step) @ basis, np.float32)

    y = coded(y, DCT8, luma)
    c = coded(c, DCT4, chroma).transpose(0, 2, 3, 1).repeat(2, 1).repeat(2, 2)
    ycc: NDArray[Any] = np.concatenate((y[..., None], c), -1)
    return np.asarray(np.clip(key + ycc @ FROM_YCC.T, 0, 255), np.float32)


class Pack:
    """A prepared folder, memory-mapped."""

    def __init__(self, folder: str | Path, split: str) -> None:
        folder = Path(folder)
        self.clips: list[tuple[str, int, int]] = [
            (str(a), int(b), int(c)) for a, b, c in json.loads((folder / f"{split}.json").read_text())
        ]
        total = self.clips[-1][1] + self.clips[-1][2]
        self.frames = np.memmap(folder / f"{split}.yuv", np.uint8, "r", shape=(total, 384, SIZE))
        self.keys: list[tuple[int, int, float]] = [
            (int(a), int(b), float(c)) for a, b, c in json.loads((folder / f"{split}_keys.json").read_text())
        ]
        self.key_pictures = np.memmap(
            folder / f"{split}_keys.yuv", np.uint8, "r", shape=(len(self.keys), 384, SIZE)
        )
        self.mel = np.load(folder / f"{split}_mel.npy", mmap_mode="r")
        self.marks = np.load(folder / f"{split}_landmarks.npy").astype(np.float32)
        self.tiny = self._tiny(folder / f"{split}_tiny.npy")
        self.key_tiny = np.stack([_box8(rgb(p)) for p in self.key_pictures])
        self.keys_of_clip: dict[int, list[int]] = {}
        for i, (clip, _, _) in enumerate(self.keys):
            self.keys_of_clip.setdefault(clip, []).append(i)

    def _tiny(self, cache: Path) -> NDArray[np.float32]:
        if not cache.exists():
            np.save(cache, np.stack([_box8(rgb(f)) for f in self.frames]).astype(np.float16))
        return np.load(cache).astype(np.float32)

    def window(
        self, clip: int, frame: int, future: int = REACH, lost: int | None = None
    ) -> NDArray[np.int64]:
        """Frame numbers of the tiny window, at most ``future`` frames ahead; slot ``lost`` repeats the one before."""
        _, start, count = self.clips[clip]
        offsets = np.minimum(np.arange(-REACH, WINDOW - REACH), future)
        index = np.clip(frame + offsets, 0, count - 1)
        if lost is not None:
            index[lost] = index[max(0, lost - 1)]
        return np.asarray(start + index, np.int64)

    def mel_window(self, clip: int, frame: int, future: int = REACH) -> NDArray[np.float32]:
        """Log-mel [20, 80] around a frame; silence outside the clip and later than ``future`` frames ahead."""
        _, start, count = self.clips[clip]
        out = np.full((MEL_COLUMNS, MEL_BANDS), -1, np.float32)
        first = MEL_PER_FRAME * frame + MEL_PER_FRAME // 2 - MEL_COLUMNS // 2
        end = min(MEL_PER_FRAME * count, first + MEL_COLUMNS, MEL_PER_FRAME * (frame + future + 1))
        lo = max(0, first)
        out[lo - first : end - first] = self.mel[MEL_PER_FRAME * start + lo : MEL_PER_FRAME * start + end]
        return out


def rgb(i420: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.asarray(i420), cv2.COLOR_YUV2RGB_I420), np.uint8)


def _box8(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(picture.astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA), np.float32)


def _chw(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(picture.transpose(2, 0, 1) / np.float32(255), np.float32)


# Left and right landmarks change places when a picture is mirrored (68-point layout and two irises).
_FLIP = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
     41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65, 69, 68]
)  # fmt: skip


def make_pair(
    pack: Pack, key: int, frames: list[int], rng: np.random.Generator | None
) -> dict[str, NDArray[np.float32]]:
    """One keyframe and its targets as arrays; with ``rng`` augmented and with random quantiser steps."""
    clip, key_frame, _ = pack.keys[key]
    start = pack.clips[clip][1]
    luma, chroma = (8.0, 8.0) if rng is None else (rng.uniform(3, 16), rng.uniform(4, 16))
    picture = _chw(rgb(pack.key_pictures[key]))
    targets = np.stack([_chw(rgb(pack.frames[start + f])) for f in frames])
    # A call sees less of the future than a file, or none; now and then a tiny frame is lost.
    future = 2 if rng is None else int(rng.choice([0, 1, 2], p=[0.2, 0.2, 0.6]))
    windows = [
        pack.window(clip, f, future, int(rng.integers(WINDOW)) if rng and rng.random() < 0.1 else None) for f in frames
    ]
    coded = [quantise_tiny(pack.tiny[w], pack.key_tiny[key], luma, chroma) for w in windows]
    tiny: NDArray[Any] = np.stack(coded).transpose(0, 1, 4, 2, 3) / 255
    mel = np.stack([pack.mel_window(clip, f, future) for f in frames])
    marks = pack.marks[[start + f for f in frames]]
    key_marks = np.repeat(pack.marks[start + key_frame][None], len(frames), 0)
    if rng is not None:
        if rng.random() < 0.5:
            picture, targets, tiny = picture[..., ::-1], targets[..., ::-1], tiny[..., ::-1]
            marks, key_marks = _flip_marks(marks), _flip_marks(key_marks)
        # Affine in colour, so that it commutes with the box mean.
        gain = np.asarray(rng.uniform(0.75, 1.1) * rng.uniform(0.95, 1.05, (3, 1, 1)), np.float32)
        picture, targets, tiny = picture * gain, targets * gain, tiny * gain
        if rng.random() < 0.1:
            mel = np.full_like(mel, -1)  # clips without sound
    return {
        "key": picture[None], "target": targets, "tiny": np.asarray(tiny, np.float32), "mel": mel,
        "key_marks": key_marks, "marks": marks,
    }  # fmt: skip


def _flip_marks(marks: NDArray[np.float32]) -> NDArray[np.float32]:
    out = marks[:, _FLIP].copy()
    found = out[..., :1] >= 0
    out[..., :1] = np.where(found, SIZE - out[..., :1], -1)
    return out


def collate(pairs: list[dict[str, NDArray[np.float32]]]) -> Batch:
    owner = np.repeat(np.arange(len(pairs)), [len(p["target"]) for p in pairs])
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(np.concatenate([p[name] for p in pairs]), np.float32))
        for name in pairs[0]
    }
    return Batch(owner=torch.from_numpy(owner), **tensors)


def batches(pack: Pack, keys: int, targets: int, seed: int) -> Iterator[Batch]:
    """Endless random batches, made one ahead in a thread. ``d`` clips (many people) are drawn more often."""
    rng = np.random.default_rng(seed)
    wide = [i for i, c in enumerate(pack.clips) if c[0].startswith("d")] or list(range(len(pack.clips)))
    narrow = [i for i, c in enumerate(pack.clips) if not c[0].startswith("d")] or wide
    weight: NDArray[Any] = np.sqrt([pack.clips[i][2] for i in wide])
    weight = weight / weight.sum()

    def draw() -> Batch:
        pairs = []
        for _ in range(keys):
            clip = int(rng.choice(wide, p=weight)) if rng.random() < 0.75 else int(rng.choice(narrow))
            key = int(rng.choice(pack.keys_of_clip[clip]))
            frames = [int(f) for f in rng.integers(pack.clips[clip][2], size=targets)]
            pairs.append(make_pair(pack, key, frames, rng))
        return collate(pairs)

    ready: queue.Queue[Batch] = queue.Queue(maxsize=2)

    def work() -> None:
        while True:
            ready.put(draw())

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()
