"""What training batches consist of: drawn on the host, a few thousand numbers each.

A plan is a function of (seed, process, step), so that a resumed run goes on with the very batches that an
uninterrupted one would have seen. `batch` makes pictures of it, on the pack's device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ..model.inputs import MEL_COLUMNS, MEL_PER_FRAME, REACH, WINDOW
from .compact import SIZE
from .data import Pack

Numbers = NDArray[Any]
PIECE = 128
"""Side of the piece that the perceptual loss looks at: it costs as much as the network, so not on whole pictures."""


@dataclass(frozen=True)
class Drawing:
    """How batches are drawn."""

    keys: int = 4
    targets: int = 4  # of each keyframe
    seed: int = 0
    full: bool = False  # also crop, stretch and gamma; the tiny frames are then made anew from the changed pictures
    speed: bool = True  # a quarter of the windows at double speed
    pairs: bool = False  # targets are pairs of neighbouring frames
    second: bool = False  # with another keyframe of the clip for a second reference
    perceptual: float = 0.5  # share of the targets that the perceptual loss looks at
    coarser: float = 1.0  # how much further than at quality 5 tiny frames are rounded, at most


@dataclass
class Plan:
    """What a batch consists of: B keyframes, M targets each. Frame numbers count through the whole split."""

    key: Numbers  # [B] keyframes
    key_frame: Numbers  # [B] frames that they were made of
    frame: Numbers  # [B, M]
    window: Numbers  # [B, M, 5]
    mel: Numbers  # [B, M, 20] columns; the one behind the last is silence
    step: Numbers  # [B, 2] luma and chroma quantiser step
    flip: Numbers  # [B] bool
    gain: Numbers  # [B, 3]
    gamma: Numbers  # [B]
    crop: Numbers  # [B, 4] width, height (shares of the picture) and centre (pixels from the middle) of what is seen
    some: Numbers  # [S]
    coarseness: Numbers  # [B] of the motion, times the steps of quality 5
    told: Numbers  # [B] bool: the motion is sent
    corner: Numbers  # [2] top and left of the piece that the perceptual loss looks at
    second: Numbers | None = None  # [B] other keyframes of the clips
    full: bool = False
    pairs: bool = False


def _column(x: npt.ArrayLike) -> Numbers:
    return np.asarray(x)[..., None]


def _ends(pack: Pack, clip: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """First frames and numbers of frames of clips [...], as columns [..., 1]."""
    both = pack.ends[np.asarray(clip)]
    return both[..., :1], both[..., 1:]


def window(
    pack: Pack, clip: npt.ArrayLike, frame: npt.ArrayLike, future: npt.ArrayLike = REACH, lost: npt.ArrayLike = -1,
    speed: npt.ArrayLike = 1,
) -> Numbers:  # fmt: skip
    """Numbers of the frames in the tiny window, at most ``future`` ahead; slot ``lost`` repeats the one before.

    Of one frame [5], or of many [..., 5]: all arguments broadcast.
    """
    start, count = _ends(pack, clip)
    offsets = np.minimum(np.arange(-REACH, WINDOW - REACH), _column(future))
    index = np.clip(_column(frame) + _column(speed) * offsets, 0, count - 1)
    before = np.concatenate((index[..., :1], index[..., :-1]), -1)
    return np.asarray(start + np.where(np.arange(WINDOW) == _column(lost), before, index), np.int64)


def mel_window(
    pack: Pack, clip: npt.ArrayLike, frame: npt.ArrayLike, future: npt.ArrayLike = REACH, speed: npt.ArrayLike = 1
) -> Numbers:
    """Columns of log-mel around a frame; silence outside the clip and later than ``future`` frames ahead.

    Of one frame [20], or of many [..., 20]: all arguments broadcast.
    """
    start, count = _ends(pack, clip)
    frame, speed = _column(frame), _column(speed)
    columns = MEL_PER_FRAME * frame + MEL_PER_FRAME // 2 + speed * (np.arange(MEL_COLUMNS) - MEL_COLUMNS // 2)
    end = np.minimum(MEL_PER_FRAME * count, MEL_PER_FRAME * (frame + speed * _column(future) + 1))
    return np.where((columns >= 0) & (columns < end), MEL_PER_FRAME * start + columns, len(pack.mel) - 1)


def clip_chances(pack: Pack) -> Numbers:
    """How often each clip is drawn, sum 1: ``d`` clips (single clips of many people) more often."""
    wide = [i for i, c in enumerate(pack.clips) if c[0].startswith("d")] or list(range(len(pack.clips)))
    narrow = [i for i, c in enumerate(pack.clips) if not c[0].startswith("d")] or wide
    chance = np.zeros(len(pack.clips))
    length = np.sqrt([pack.clips[i][2] for i in wide])
    chance[wide] += 0.75 * length / length.sum()
    chance[narrow] += 0.25 / len(narrow)
    return np.asarray(chance / chance.sum())


class Sampler:
    """Draws plans from a pack, all frames of a plan at a time: a GPU is not to wait for a loop on the host.

    What is added to the pack later is not drawn.
    """

    def __init__(self, pack: Pack, drawing: Drawing, rank: int = 0) -> None:
        self.pack, self.drawing, self.rank = pack, drawing, rank
        self._edges = np.cumsum(clip_chances(pack))
        of_clip = [pack.keys_of_clip[clip] for clip in range(len(pack.clips))]
        self._keys = np.concatenate(of_clip)
        self._key_counts = np.array([len(keys) for keys in of_clip])
        self._first_keys = np.cumsum(self._key_counts) - self._key_counts
        self._key_frames = np.array([pack.clips[clip][1] + frame for clip, frame, _ in pack.keys])

    def plan(self, step: int) -> Plan:
        """The plan of a step: the same whenever it is asked for."""
        d, pack = self.drawing, self.pack
        rng = np.random.default_rng((d.seed, self.rank, step))
        n, each = d.keys, d.targets // 2 * 2 if d.pairs else d.targets
        clips = np.minimum(np.searchsorted(self._edges, rng.random(n), side="right"), len(pack.clips) - 1)
        keys = self._keys[self._first_keys[clips] + rng.integers(self._key_counts[clips])]
        # A call sees less of the future than a file, or none; now and then a tiny frame is lost.
        future = rng.choice([0, 1, 2], (n, 1), p=[0.2, 0.2, 0.6])
        speed = np.where(rng.random((n, 1)) < (0.25 if d.speed else 0.0), 2, 1)
        start, count = _ends(pack, clips)
        if d.pairs:
            first = rng.integers(np.maximum(1, count - speed), size=(n, each // 2))
            both = first[..., None] + speed[..., None] * np.arange(2)
            frames = np.minimum(both.reshape(n, each), count - 1)
        else:
            frames = rng.integers(count, size=(n, each))
        lost = np.where(rng.random((n, each)) < 0.1, rng.integers(WINDOW, size=(n, each)), -1)
        mel = mel_window(pack, clips[:, None], frames, future, speed)
        silent = rng.random((n, 1, 1)) < 0.1  # clips without sound
        size = rng.uniform(0.82, 1, n)[:, None] * rng.uniform(0.96, 1, (n, 2))
        size = np.where(rng.random((n, 1)) < 0.7, size, 1.0)
        centre = rng.uniform(-1, 1, (n, 2)) * (1 - size) * SIZE / 2
        second = None
        if d.second:
            # Of random numbers of its own, so that everything else is what it is without it.
            other = np.random.default_rng((d.seed, self.rank, step, 2))
            second = np.array([int(other.choice(others(pack, int(key)))) for key in keys])
        motion = np.random.default_rng((d.seed, self.rank, step, 3))
        top = 16 * d.coarser
        return Plan(
            key=keys, key_frame=self._key_frames[keys], frame=start + frames,
            window=window(pack, clips[:, None], frames, future, lost, speed),
            mel=np.where(silent, len(pack.mel) - 1, mel),
            step=np.stack((rng.uniform(3, top, n), rng.uniform(4, top, n)), 1), flip=rng.random(n) < 0.5,
            gain=rng.uniform(0.75, 1.1, (n, 1)) * rng.uniform(0.95, 1.05, (n, 3)), gamma=rng.uniform(0.8, 1.25, n),
            crop=np.concatenate((size, centre), 1),
            some=rng.permutation(n * each)[: max(1, int(d.perceptual * n * each))],
            coarseness=2 ** motion.uniform(-1, 1.3, n), told=motion.random(n) < 0.88,
            corner=8 * rng.integers((SIZE - PIECE) // 8 + 1, size=2), second=second, full=d.full, pairs=d.pairs,
        )  # fmt: skip


def first_keys(pack: Pack) -> list[int]:
    """The first keyframe of every clip: the encoder's choice."""
    return [keys[0] for _, keys in sorted(pack.keys_of_clip.items())]


def others(pack: Pack, key: int) -> list[int]:
    """The clip's keyframes that were made of other frames; the keyframe itself where there is none."""
    clip, frame, _ = pack.keys[key]
    return [k for k in pack.keys_of_clip[clip] if pack.keys[k][1] != frame] or [key]


def fixed_plan(pack: Pack, keys: Sequence[int], targets: int = 2, back: int = 0) -> Plan:
    """For measuring: keyframes with evenly spread later frames of their clips, unchanged, quantiser steps of 8.

    ``back``: the frames that are so many frames before those.
    """
    n = len(keys)
    clips = np.array([pack.keys[k][0] for k in keys])[:, None]
    start, count = pack.ends[clips[:, 0]].T[..., None]
    frames = np.maximum(0, (np.arange(targets) + 1) * (count - 1) // targets - back)
    return Plan(
        key=np.array(keys), key_frame=np.array([pack.clips[pack.keys[k][0]][1] + pack.keys[k][1] for k in keys]),
        frame=start + frames, window=window(pack, clips, frames), mel=mel_window(pack, clips, frames),
        step=np.full((n, 2), 8.0), flip=np.zeros(n, bool), gain=np.ones((n, 3)), gamma=np.ones(n),
        crop=np.tile([1.0, 1, 0, 0], (n, 1)), some=np.arange(n * targets), coarseness=np.ones(n), told=np.ones(n, bool),
        corner=np.zeros(2, np.int64), second=np.array([others(pack, k)[0] for k in keys]),
    )  # fmt: skip


def fixed_plans(pack: Pack, targets: int = 2, at_a_time: int = 6, back: int = 0) -> list[Plan]:
    """Such plans for the first keyframe of every clip."""
    first = first_keys(pack)
    return [fixed_plan(pack, first[i : i + at_a_time], targets, back) for i in range(0, len(first), at_a_time)]
