"""Training batches: the pictures that a plan asks for, made where the pack lies.

Pictures, box means, quantised tiny frames, log-mel windows and augmentation are torch operations on the pack's device,
without a synchronisation.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..metrics.faces import MIRRORED
from .compact import SIZE
from .data import Batch, Pack, rgb
from .motion import coded
from .plans import Numbers, Plan

# Left and right landmarks change places when a picture is mirrored (68-point layout and two irises).
FLIP = np.array([*MIRRORED, 69, 68])


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
        some=p["some"], corner=p["corner"], second=second, pairs=plan.pairs,
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
