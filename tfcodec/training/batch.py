"""Training batches: what to draw is decided on the host, everything else is done where the pack lies.

A batch is a function of (seed, process, step), so that a resumed run goes on with the very batches that an
uninterrupted one would have seen. The host makes a `Plan` of a few thousand numbers; pictures, box means, quantised
tiny frames, log-mel windows and augmentation are torch operations on the pack's device, without a synchronisation.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.inputs import MEL_COLUMNS, MEL_PER_FRAME, REACH, WINDOW
from .compact import SIZE
from .data import Batch, Pack, rgb
from .motion import coded

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
    second: Numbers | None = None  # [B] other keyframes of the clips
    corner: tuple[int, int] = (0, 0)
    full: bool = False
    pairs: bool = False


# Left and right landmarks change places when a picture is mirrored (68-point layout and two irises).
FLIP = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
     41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65, 69, 68]
)  # fmt: skip


def window(pack: Pack, clip: int, frame: int, future: int = REACH, lost: int = -1, speed: int = 1) -> Numbers:
    """Numbers of the frames in the tiny window, at most ``future`` ahead; slot ``lost`` repeats the one before."""
    _, start, count = pack.clips[clip]
    offsets = np.minimum(np.arange(-REACH, WINDOW - REACH), future)
    index = np.clip(frame + speed * offsets, 0, count - 1)
    if lost >= 0:
        index[lost] = index[max(0, lost - 1)]
    return np.asarray(start + index, np.int64)


def mel_window(pack: Pack, clip: int, frame: int, future: int = REACH, speed: int = 1) -> Numbers:
    """Columns of log-mel around a frame; silence outside the clip and later than ``future`` frames ahead."""
    _, start, count = pack.clips[clip]
    middle = MEL_PER_FRAME * frame + MEL_PER_FRAME // 2
    columns = middle + speed * (np.arange(MEL_COLUMNS) - MEL_COLUMNS // 2)
    known = (columns >= 0) & (columns < min(MEL_PER_FRAME * count, MEL_PER_FRAME * (frame + speed * future + 1)))
    return np.where(known, MEL_PER_FRAME * start + columns, len(pack.mel) - 1)


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
    """Draws plans from a pack."""

    def __init__(self, pack: Pack, drawing: Drawing, rank: int = 0) -> None:
        self.pack, self.drawing, self.rank = pack, drawing, rank
        self._edges = np.cumsum(clip_chances(pack))

    def plan(self, step: int) -> Plan:
        """The plan of a step: the same whenever it is asked for."""
        d, pack = self.drawing, self.pack
        rng = np.random.default_rng((d.seed, self.rank, step))
        clips = np.minimum(np.searchsorted(self._edges, rng.random(d.keys), side="right"), len(pack.clips) - 1)
        keys = [int(rng.choice(pack.keys_of_clip[int(c)])) for c in clips]
        frames, windows, mels = [], [], []
        for clip in clips:
            _, start, count = pack.clips[clip]
            # A call sees less of the future than a file, or none; now and then a tiny frame is lost.
            future = int(rng.choice([0, 1, 2], p=[0.2, 0.2, 0.6]))
            speed = 2 if d.speed and rng.random() < 0.25 else 1
            if d.pairs:
                first = rng.integers(max(1, count - speed), size=d.targets // 2)
                chosen = np.minimum(first[:, None] + speed * np.arange(2), count - 1).flatten()
            else:
                chosen = rng.integers(count, size=d.targets)
            lost = np.where(rng.random(len(chosen)) < 0.1, rng.integers(WINDOW, size=len(chosen)), -1)
            silent = rng.random() < 0.1  # clips without sound
            frames.append(start + chosen)
            windows.append([window(pack, clip, f, future, x, speed) for f, x in zip(chosen, lost, strict=True)])
            mel = np.stack([mel_window(pack, clip, f, future, speed) for f in chosen])
            mels.append(np.full_like(mel, len(pack.mel) - 1) if silent else mel)
        n = d.keys
        size = rng.uniform(0.82, 1, n)[:, None] * rng.uniform(0.96, 1, (n, 2))
        size = np.where(rng.random((n, 1)) < 0.7, size, 1.0)
        centre = rng.uniform(-1, 1, (n, 2)) * (1 - size) * SIZE / 2
        count = n * (d.targets // 2 * 2 if d.pairs else d.targets)
        second = None
        if d.second:
            # Of random numbers of its own, so that everything else is what it is without it.
            other = np.random.default_rng((d.seed, self.rank, step, 2))
            second = np.array([int(other.choice(others(pack, key))) for key in keys])
        motion = np.random.default_rng((d.seed, self.rank, step, 3))
        top = 16 * d.coarser
        return Plan(
            key=np.array(keys), key_frame=np.array([pack.clips[pack.keys[k][0]][1] + pack.keys[k][1] for k in keys]),
            frame=np.stack(frames), window=np.array(windows), mel=np.stack(mels),
            step=np.stack((rng.uniform(3, top, n), rng.uniform(4, top, n)), 1), flip=rng.random(n) < 0.5,
            gain=rng.uniform(0.75, 1.1, (n, 1)) * rng.uniform(0.95, 1.05, (n, 3)), gamma=rng.uniform(0.8, 1.25, n),
            crop=np.concatenate((size, centre), 1), some=rng.permutation(count)[: max(1, int(d.perceptual * count))],
            coarseness=2 ** motion.uniform(-1, 1.3, n), told=motion.random(n) < 0.88, second=second,
            corner=(8 * int(rng.integers((SIZE - PIECE) // 8 + 1)), 8 * int(rng.integers((SIZE - PIECE) // 8 + 1))),
            full=d.full, pairs=d.pairs,
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
    clips = [pack.keys[k][0] for k in keys]
    pairs = [(c, [max(0, (i + 1) * (pack.clips[c][2] - 1) // targets - back) for i in range(targets)]) for c in clips]
    return Plan(
        key=np.array(keys), key_frame=np.array([pack.clips[pack.keys[k][0]][1] + pack.keys[k][1] for k in keys]),
        frame=np.array([[pack.clips[c][1] + f for f in frames] for c, frames in pairs]),
        window=np.array([[window(pack, c, f) for f in frames] for c, frames in pairs]),
        mel=np.array([[mel_window(pack, c, f) for f in frames] for c, frames in pairs]),
        step=np.full((n, 2), 8.0), flip=np.zeros(n, bool), gain=np.ones((n, 3)), gamma=np.ones(n),
        crop=np.tile([1.0, 1, 0, 0], (n, 1)), some=np.arange(n * targets), coarseness=np.ones(n), told=np.ones(n, bool),
        second=np.array([others(pack, k)[0] for k in keys]),
    )  # fmt: skip


def fixed_plans(pack: Pack, targets: int = 2, at_a_time: int = 6, back: int = 0) -> list[Plan]:
    """Such plans for the first keyframe of every clip."""
    first = first_keys(pack)
    return [fixed_plan(pack, first[i : i + at_a_time], targets, back) for i in range(0, len(first), at_a_time)]


# BT.709 full range, as in the tiny-frame layer.
TO_YCC = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32)
FROM_YCC = np.linalg.inv(TO_YCC).astype(np.float32)


def dct(n: int) -> NDArray[np.float32]:
    """The orthonormal DCT-II of n values as a matrix [n, n]."""
    k = np.arange(n)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * n)) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


@lru_cache(maxsize=8)
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arrays = (TO_YCC, FROM_YCC, dct(8), dct(4))
    first, second, third, fourth = (torch.from_numpy(a).to(device) for a in arrays)
    return first, second, third, fourth


def quantise_tiny(tiny: Tensor, key: Tensor, luma: Tensor, chroma: Tensor, top: Tensor | float = 255.0) -> Tensor:
    """What the tiny-frame coder would do to ``tiny`` [..., 3, 8, 8] RGB 0..255, near enough for training.

    The difference to the keyframe's own tiny frame ``key`` is transformed, rounded to the quantiser step with a dead
    zone, put back and kept within 0 and ``top``; chroma at 4x4. All arguments broadcast; steps are [..., 1, 1].
    """
    to_ycc, from_ycc, dct8, dct4 = _constants(tiny.device)
    delta = torch.einsum("oc,...cyx->...oyx", to_ycc, tiny - key)

    def coded(x: Tensor, basis: Tensor, step: Tensor) -> Tensor:
        levels = basis @ x @ basis.T / step
        levels = levels.sign() * (levels.abs() + 0.4).floor()
        return basis.T @ (levels * step) @ basis

    y = coded(delta[..., 0, :, :], dct8, luma)
    c = delta[..., 1:, :, :].reshape(*delta.shape[:-3], 2, 4, 2, 4, 2).mean((-3, -1))
    c = coded(c, dct4, chroma[..., None, :, :]).repeat_interleave(2, -1).repeat_interleave(2, -2)
    ycc = torch.cat((y[..., None, :, :], c), -3)
    return (key + torch.einsum("oc,...cyx->...oyx", from_ycc, ycc)).clamp(min=0).clamp(max=top)


def resampling(size: Tensor, centre: Tensor, flip: Tensor | None) -> Tensor:
    """Matrices [B, 256, 256] that cut ``size`` (share) about ``centre`` out of a line of pixels and enlarge it.

    A crop along both axes is two products with such matrices, and so the box means of a cropped picture are two
    products with their box means: exactly those of the picture that the network shall draw.
    """
    line = torch.arange(SIZE, device=size.device) + 0.5
    place = (line[None] - SIZE / 2) * size[:, None] + SIZE / 2 + centre[:, None]
    d = (place[:, :, None] - line).abs()
    # Catmull-Rom: sharp, and exact on straight edges of brightness
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    weight = torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
    weight = weight / weight.sum(-1, keepdim=True)
    if flip is not None:
        weight = torch.where(flip[:, None, None], weight.flip(1), weight)
    return weight


def make_batch(pack: Pack, plan: Plan) -> Batch:
    """The batch of a plan, on the pack's device."""
    device = pack.device
    p = {f.name: _send(v, device) for f in fields(plan) if isinstance(v := getattr(plan, f.name), np.ndarray)}
    count, each = plan.frame.shape
    make = _changed if plan.full else _plain
    key, target, tiny, key_tiny, second = make(pack, p)
    steps = p["step"].float()[:, None, None, :, None, None]
    top = 255 * p["gain"].float().clamp(min=1)[:, None, None, :, None, None]
    tiny = quantise_tiny(tiny, key_tiny[:, None, None], steps[:, :, :, 0], steps[:, :, :, 1], top) / 255
    key_seen = _seen(pack.key_seen[p["key"]], p, plan.full)
    now = coded(
        key_seen.repeat_interleave(each, 0), _seen(pack.seen[p["frame"]], p, plan.full).flatten(0, 1),
        p["coarseness"].float().repeat_interleave(each),
    )  # fmt: skip
    told = p["told"][:, None] & pack.found[p["frame"]] & pack.key_found[p["key"]][:, None]
    return Batch(
        key_seen=key_seen * (2 / SIZE) - 1, now=now * (2 / SIZE) - 1, face=pack.key_found[p["key"]].float(),
        told=told.flatten()[:, None, None],
        key=key, target=target.flatten(0, 1), tiny=tiny.flatten(0, 1),
        owner=torch.arange(count, device=device).repeat_interleave(each),
        mel=pack.mel[p["mel"]].flatten(0, 1).float() / 127.5 - 1,
        key_marks=_marks(pack, p, "key_frame", plan.full).repeat_interleave(each, 0),
        marks=_marks(pack, p, "frame", plan.full).flatten(0, 1),
        some=p["some"], corner=plan.corner, second=second, pairs=plan.pairs,
    )  # fmt: skip


def _send(array: Numbers, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def mirror(x: Tensor, flip: Tensor) -> Tensor:
    """Pictures [B, ..., W], those of ``flip`` [B] mirrored."""
    return torch.where(flip.reshape(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


_Pictures = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""Keyframe, targets, box means of the window, of the keyframe; the second keyframe, if there is to be one."""


def _plain(pack: Pack, p: dict[str, Tensor]) -> _Pictures:
    count, each = p["frame"].shape
    gain = p["gain"].float()[:, :, None, None] / 255
    key, second = (
        rgb(pack.key_pictures[p[name]], p["flip"]).mul_(gain) if name in p else None for name in ("key", "second")
    )
    assert key is not None
    target = rgb(pack.frames[p["frame"].flatten()], p["flip"].repeat_interleave(each))
    target = target.reshape(count, each, *target.shape[1:]).mul_(gain[:, None])
    # Mirroring and a gain commute with the box mean, so that the pack's own box means may be changed instead.
    gain8 = p["gain"].float()[:, :, None, None]
    tiny = mirror(pack.tiny[p["window"]] * gain8[:, None, None], p["flip"])
    return key, target, tiny, mirror(pack.key_tiny[p["key"]] * gain8, p["flip"]), second


def _changed(pack: Pack, p: dict[str, Tensor]) -> _Pictures:
    count, each = p["frame"].shape
    gain, gamma = p["gain"].float()[:, :, None, None], p["gamma"].float()[:, None, None, None]
    crop = p["crop"].float()
    across = resampling(crop[:, 0], crop[:, 2], p["flip"]).mT  # [B, 256 old, 256 new]
    down = resampling(crop[:, 1], crop[:, 3], None)
    across8, down8 = across.reshape(count, SIZE, 8, 32).mean(-1), down.reshape(count, 8, 32, SIZE).mean(2)

    def coloured(i420: Tensor, repeat: int) -> Tensor:
        pictures = rgb(i420).div_(255).reshape(count, repeat, 3, SIZE, SIZE)
        return (pictures.pow_(gamma[:, None]) * gain[:, None]).clamp_(0, 1)

    key = coloured(pack.key_pictures[p["key"]], 1)[:, 0]
    second = None
    if "second" in p:
        second = down[:, None] @ coloured(pack.key_pictures[p["second"]], 1)[:, 0] @ across[:, None]
    target = coloured(pack.frames[p["frame"].flatten()], each)
    tiny = []
    for slot in range(p["window"].shape[2]):  # one at a time: it bounds the memory
        pictures = coloured(pack.frames[p["window"][:, :, slot].flatten()], each)
        tiny.append(down8[:, None, None] @ pictures @ across8[:, None, None])
    return (
        down[:, None] @ key @ across[:, None], down[:, None, None] @ target @ across[:, None, None],
        255 * torch.stack(tiny, 2), 255 * (down8[:, None] @ key @ across8[:, None]), second,
    )  # fmt: skip


@lru_cache(maxsize=8)
def flip_order(device: torch.device) -> Tensor:
    """`FLIP` on a device."""
    return torch.from_numpy(FLIP).to(device)


def _marks(pack: Pack, p: dict[str, Tensor], frames: str, full: bool) -> Tensor:
    marks = pack.marks[p[frames]]
    ones = [1] * (marks.dim() - 1)
    found = marks[..., :1] >= 0
    if full:
        crop = p["crop"].float()
        size, centre = crop[:, :2].reshape(-1, *ones[1:], 2), crop[:, 2:].reshape(-1, *ones[1:], 2)
        marks = (marks - SIZE / 2 - centre) / size + SIZE / 2
        found = found & ((marks > 0) & (marks < SIZE)).all(-1, keepdim=True)
    mirrored = torch.cat((SIZE - marks[..., :1], marks[..., 1:]), -1)
    order = flip_order(marks.device)
    flip = p["flip"].reshape(-1, *ones)
    marks = torch.where(flip, mirrored[..., order, :], marks)
    found = torch.where(flip, found[..., order, :], found)
    return torch.where(found, marks, -1.0)


def _seen(marks: Tensor, p: dict[str, Tensor], full: bool) -> Tensor:
    """A tracker's landmarks [B, ..., 70, 2], changed as the pictures are."""
    ones = [1] * (marks.dim() - 1)
    if full:
        crop = p["crop"].float()
        marks = (marks - SIZE / 2 - crop[:, 2:].reshape(-1, *ones[1:], 2)) / crop[:, :2].reshape(-1, *ones[1:], 2)
        marks = marks + SIZE / 2
    mirrored = torch.cat((SIZE - marks[..., :1], marks[..., 1:]), -1)[..., flip_order(marks.device), :]
    return torch.where(p["flip"].reshape(-1, *ones), mirrored, marks)


def batches(sampler: Sampler, first: int, ahead: int = 2) -> Generator[Batch, None, None]:
    """Endless batches from step ``first`` on. On a CPU made ahead in a thread; a GPU is itself asynchronous."""
    if sampler.pack.device.type == "cuda":
        step = first
        while True:
            yield make_batch(sampler.pack, sampler.plan(step))
            step += 1
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def work() -> None:
        step = first
        while not stop.is_set():
            item: Batch | BaseException
            try:
                item = make_batch(sampler.pack, sampler.plan(step))
            except Exception as error:  # to be raised where the batch is wanted
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            step += 1

    maker = threading.Thread(target=work, daemon=True)
    maker.start()
    try:
        while True:
            got = ready.get()
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        stop.set()
        maker.join()  # a thread inside torch when the interpreter ends would abort it
