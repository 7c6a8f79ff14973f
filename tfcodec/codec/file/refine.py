"""Tiny frames chosen by what the receiver will draw from them.

A tiny frame need not be the box mean of its picture: the network draws a better picture from one that is a grey level
or two beside it, which moves the head or opens the mouth a little further. The encoder has the receiver's network and
its keyframe, so it can look for such a one by gradient descent ("analysis by synthesis"), and pays for it in the very
units that are coded: how far the tiny frame goes from the box mean. Nothing here binds a decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...model.inputs import MEL_BANDS, MEL_COLUMNS, REACH, WINDOW
from ...model.renderer import BATCH, MEL_SILENCE, has_bfloat16
from ...tinyframe import TinyPlanes

if TYPE_CHECKING:
    from torch import Tensor

    from ...model.stage1 import KeyframeFeatures
    from ...model.upsampler import Upsampler

Frames = NDArray[np.uint8]

COARSE = 64
"""Side of stage 1's picture."""
FURTHEST = 4.0
"""Grey levels that a step goes at most."""


@dataclass(frozen=True)
class Descent:
    """How tiny frames are looked for. Defaults: `benchmarks/search/refine_search.py`, on clips of `train`."""

    steps: int = 2
    """How often stage 1 is asked for the slope of the error."""
    rate: float = 2500.0
    """Grey levels to go for a slope of 1 (an error that falls by 1 for each grey level)."""
    price: float = 1.0
    """What a squared grey level of change costs."""
    stride: int = 9
    """Only every so many frames are searched; those between are interpolated."""
    gains: tuple[float, ...] = (1.0, 2.0)
    """How many times as far as the search says may be gone. Coarse quantisation takes much of it back, or adds to it:
    so all are coded, and the one that is drawn best from is sent."""


class _Window(NamedTuple):
    """Frames that are searched together; N of them are chosen."""

    chosen: NDArray[np.int64]
    around: NDArray[np.int64]
    """Numbers [N, 5] of the frames whose tiny frames the network sees."""
    size: int
    """Frames of a piece that one thread works at."""
    key: KeyframeFeatures
    means: Tensor
    """Box means [N, 96] in grey levels."""
    tiny: Tensor
    """Windows [N, 5, 3, 8, 8] of them."""
    target: Tensor
    """[N, 3, 64, 64], what stage 1 is to draw."""
    marks: Tensor

    def piece(self, at: int) -> _Window:
        """The chosen frames from ``at`` on."""
        part = self._at(slice(at, at + self.size))
        return part._replace(key=self.key.select(slice(len(part.chosen))))

    def every_other(self) -> _Window:
        """Half of the chosen frames, which suffice to tell good proposals from bad ones."""
        return self._at(slice(len(self.chosen) // 2 % 2, None, 2))

    def _at(self, some: slice) -> _Window:
        return self._replace(
            chosen=self.chosen[some], around=self.around[some], means=self.means[some], tiny=self.tiny[some],
            target=self.target[some], marks=self.marks[some],
        )  # fmt: skip


class Refiner:
    """Looks for tiny frames that the network draws better pictures from.

    Only stage 1 is asked, at 64x64 pixels: it takes half the time of the whole network, and pictures become as good.
    The network hears silence, since speech changes next to nothing. In bfloat16 where the processor has it.

    Args:
        model: the receiver's network.
        descent: how.
        device: where ``model`` is, as torch calls it.
    """

    def __init__(self, model: Upsampler, descent: Descent | None = None, device: str = "cpu") -> None:
        import torch

        from ...model import blocks, marks, threads

        self._torch, self._model, self._blocks, self._marks, self._threads = torch, model, blocks, marks, threads
        self._descent, self._device, self._fast = descent or Descent(), torch.device(device), has_bfloat16(device)
        self._known: tuple[Frames, KeyframeFeatures] | None = None  # the last keyframe

    @property
    def model(self) -> Upsampler:
        """The receiver's network."""
        return self._model

    def refine(
        self, keyframe: Frames, frames: Frames, planes: TinyPlanes, motion: NDArray[np.int32] | None = None
    ) -> TinyPlanes:
        """Better tiny frames for the same pictures, if they were coded without loss.

        Args:
            keyframe: the decoded keyframe that the frames are drawn from, [256, 256, 3] uint8.
            frames: [T, 256, 256, 3] uint8.
            planes: their box means.
            motion: what the layer of motion says of them, [T, 17]; None without one.

        Returns:
            T tiny frames, to be coded in the place of ``planes``.
        """
        window = self._window(keyframe, frames, planes, motion)
        return _moved(planes, self._search(window), window.chosen)

    def tries(
        self, keyframe: Frames, frames: Frames, planes: TinyPlanes, motion: NDArray[np.int32] | None = None
    ) -> tuple[list[TinyPlanes], Callable[[TinyPlanes], float]]:
        """Tiny frames that went less and more far on the way that `refine` finds, and how far pictures are off that
        are drawn from tiny frames: to be asked of each, as it has been coded."""
        window = self._window(keyframe, frames, planes, motion)
        change = self._search(window)

        def error(coded: TinyPlanes) -> float:
            return self._error_of(window, coded)

        return [_moved(planes, gain * change, window.chosen) for gain in self._descent.gains], error

    def _window(
        self, keyframe: Frames, frames: Frames, planes: TinyPlanes, motion: NDArray[np.int32] | None
    ) -> _Window:
        count = len(frames)
        chosen = np.unique(np.append(np.arange(0, count, self._descent.stride), count - 1))
        around = np.clip(chosen[:, None] + np.arange(-REACH, WINDOW - REACH), 0, count - 1)
        torch, blocks, device, there = self._torch, self._blocks, self._device, self._marks.to_device
        # Pieces for two threads; on a graphics card, one.
        size = -(-len(chosen) // (2 * -(-len(chosen) // (2 * BATCH)))) if device.type == "cpu" else len(chosen)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            means = there(planes.samples().astype(np.float32) / planes.scale, device)
            tiny = _to_rgb(means)[there(around, device)]
            key = self._features(keyframe)
            marks = self._marks.frame_marks(self._model, key, tiny, None if motion is None else motion[chosen])
            target = blocks.box_down(blocks.from_pixels(there(frames[chosen], device)), COARSE)
            # Stage 1 wants nothing of what is larger than 64x64.
            key = key._replace(picture=key.small, f128=key.f64, mouth=None, mouth_dots=None, eyes=None, eyes_dots=None)
            key = key.select(torch.zeros(size, dtype=torch.long, device=device))
            return _Window(chosen, around, size, key, means[there(chosen, device)], tiny, target, marks)

    def _features(self, keyframe: Frames) -> KeyframeFeatures:
        if self._known is None or self._known[0] is not keyframe:
            picture = self._blocks.from_pixels(self._marks.to_device(keyframe[None], self._device))
            self._known = keyframe, self._model.encode_keyframe(picture)
        return self._known[1]

    def _search(self, window: _Window) -> NDArray[np.float32]:
        """How far to move each of the chosen frames, [N, 96] in grey levels."""
        torch = self._torch

        def search(at: int) -> Tensor:
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                return self._descend(window.piece(at))

        moved = torch.cat(self._threads.side_by_side(search, range(0, len(window.chosen), window.size)))
        return np.asarray(moved.cpu().numpy())

    def _error_of(self, window: _Window, coded: TinyPlanes) -> float:
        torch, window = self._torch, window.every_other()
        tiny = coded.samples().astype(np.float32) / coded.scale

        def look(at: int) -> Tensor:
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                part = window.piece(at)
                seen = _to_rgb(self._marks.to_device(tiny, self._device))
                places = window.around[at : at + window.size]
                return self._error(part, seen[self._marks.to_device(places, self._device)]).sum()

        parts = self._threads.side_by_side(look, range(0, len(window.chosen), window.size))
        return float(torch.stack(parts).sum()) / len(window.chosen)

    def _descend(self, window: _Window) -> Tensor:
        """How far to move the frames of a piece, [N, 96], in grey levels.

        Steps downhill, each from the place where the slope would be least if it changed evenly along the steps before
        (Anderson's acceleration of 1965): two of them reach what Adam needs six for.
        """
        torch, how = self._torch, self._descent
        change = torch.zeros_like(window.means)
        steps: list[Tensor] = []
        bends: list[Tensor] = []  # how much the slope changed by each
        before = change
        for step in range(how.steps):
            slope = self._slope(window, change)
            best, left = change, slope
            if step:
                bends.append(slope - before)
                went, bent = torch.stack(steps, -1), torch.stack(bends, -1)
                # A step along which the slope grew steeper leads away from the valley and says nothing about it.
                bent = bent * ((went * bent).sum(1, keepdim=True) > 0)
                gram = bent.transpose(1, 2) @ bent
                ridge = 1e-4 * gram.diagonal(dim1=1, dim2=2).sum(-1) + 1e-20
                gram = gram + ridge[:, None, None] * torch.eye(step, dtype=torch.float32, device=change.device)
                share = torch.linalg.solve(gram, bent.transpose(1, 2) @ slope[..., None])
                best, left = change - (went @ share)[..., 0], slope - (bent @ share)[..., 0]
            after = change + (best - how.rate * left - change).clamp(-FURTHEST, FURTHEST)
            steps.append(after - change)
            change, before = after, slope
        return change

    def _slope(self, window: _Window, change: Tensor) -> Tensor:
        """How fast each frame's error grows with ``change`` [N, 96]."""
        torch = self._torch
        with torch.enable_grad():
            change = change.clone().requires_grad_()
            now = _to_rgb(window.means + change)[:, None]
            tiny = torch.cat((window.tiny[:, :REACH], now, window.tiny[:, REACH + 1 :]), 1)
            paid = self._descent.price / 255 * change.square().sum() / 64
            (slope,) = torch.autograd.grad(self._error(window, tiny).sum() + paid, change)
        return slope

    def _error(self, window: _Window, tiny: Tensor) -> Tensor:
        """How far each of stage 1's pictures [N] is off, drawn from tiny frames [N, 5, 3, 8, 8]."""
        torch, count = self._torch, len(tiny)
        given = window.marks if self._model.config.motion else None
        silence = torch.full((count, MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, dtype=torch.float32, device=tiny.device)
        with torch.autocast(tiny.device.type, torch.bfloat16, enabled=self._fast):
            drawn = self._model.stage1(window.key, tiny, silence, None, given).picture.float()
        error = drawn - window.target
        edges = error.diff(dim=-1).abs().mean((1, 2, 3)) + error.diff(dim=-2).abs().mean((1, 2, 3))
        return 6 * error.abs().mean((1, 2, 3)) + 40 * error.square().mean((1, 2, 3)) + 4 * edges


def _moved(planes: TinyPlanes, change: NDArray[np.float32], chosen: NDArray[np.int64]) -> TinyPlanes:
    """Box means moved by what was found for the ``chosen`` frames, and those between by what lies between."""
    between = np.stack([np.interp(np.arange(len(planes)), chosen, line) for line in change.T], 1)
    return TinyPlanes.from_samples(planes.samples() + np.rint(between * planes.scale).astype(np.int64))


def _to_rgb(samples: Tensor) -> Tensor:
    """Samples of `TinyPlanes` in grey levels, [N, 96], as RGB [N, 3, 8, 8] in 0..1: a `tiny_to_rgb` with gradients."""
    import torch

    luma, chroma = samples[:, :64].reshape(-1, 8, 8), samples[:, 64:].reshape(-1, 2, 4, 4) - 128
    cb, cr = chroma.repeat_interleave(2, -1).repeat_interleave(2, -2).unbind(1)
    return torch.stack((luma + 1.5748 * cr, luma - 0.18732 * cb - 0.46812 * cr, luma + 1.8556 * cb), 1) / 255
