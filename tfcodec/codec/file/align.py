"""How far what the receiver will draw is displaced: a smooth field for each frame, found where the sender has both.

The network moves the keyframe by what 8x8 pixels and landmarks tell it. Hair, shoulders and background, of which no
landmark says anything, end up a pixel or two beside where they are, and the picture as a whole does, too. The encoder
has the network and the source, so it can measure this and say it, in 12 numbers a frame. Nothing here binds a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from ...displacement import NUMBERS, UNIT
from ...model.registry import ModelEntry
from ...model.renderer import BATCH, PREPARE_FROM, Renderer, silent_windows, tiny_windows

if TYPE_CHECKING:
    from torch import Tensor

    from ...model.upsampler import Upsampler

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIDE = 64
"""Pictures are compared at 64x64 pixels: finer detail matches only when it lies right already."""


@dataclass(frozen=True)
class Alignment:
    """How displacements are looked for. Defaults: `benchmarks/search/align_search.py`, on clips of `train`."""

    stride: int = 3
    """Only every so many frames are drawn and measured; those between are interpolated."""
    steps: int = 2
    """Steps of Gauss and Newton."""
    calm: float = 6e-5
    """What a change from one frame to the next costs: its square, in pixels, times this, against the mean squared
    error of pictures in 0..1."""
    small: float = 6e-8
    """What the square of a number itself costs: it decides where nothing can be seen to move."""


class Aligner:
    """Finds the displacements of a keyframe's frames.

    Args:
        network: the receiver's: which, or the network itself.
        how: settings.
        device: where it draws, as torch calls it.
    """

    def __init__(self, network: ModelEntry | Upsampler, how: Alignment | None = None, device: str = "cpu") -> None:
        self._network, self._how, self._device = network, how or Alignment(), device
        self._drawer: Renderer | None = None

    def fit(
        self, keyframe: Frames, frames: Frames, tiny: Frames, motion: NDArray[np.int32] | None = None
    ) -> Floats:  # fmt: skip
        """Displacements after which the drawn pictures lie best on the frames.

        Args:
            keyframe: the decoded keyframe, [256, 256, 3] uint8.
            frames: the source, [T, 256, 256, 3] uint8.
            tiny: its tiny frames as the receiver gets them, [T, 8, 8, 3] uint8.
            motion: what the layer of motion says, [T, 17]; None without one.

        Returns:
            [T, 12] in 1/32 pixel, unrounded, smoothed in time.
        """
        count = len(frames)
        chosen = np.unique(np.append(np.arange(0, count, self._how.stride), count - 1))
        drawer = self._ready(keyframe, len(chosen))
        pictures = np.concatenate(
            [_draw(drawer, tiny, chosen[at : at + BATCH], motion) for at in range(0, len(chosen), BATCH)]
        )
        found = UNIT * self._measure(pictures, frames[chosen])
        return np.stack([np.interp(np.arange(count), chosen, line) for line in found.T], 1)

    def _ready(self, keyframe: Frames, count: int) -> Renderer:
        """What draws ``count`` frames of this keyframe."""
        drawer = self._drawer
        if drawer is None:
            drawer = self._drawer = Renderer(self._network, fast=True, device=self._device)
        if count >= PREPARE_FROM // 2:
            drawer.prepare()
        if drawer.keyframe is not keyframe:
            drawer.set_keyframe(keyframe)
        return drawer

    def _measure(self, drawn: Frames, source: Frames) -> Floats:
        """[N, 12] in pixels, of pictures [N, 256, 256, 3]: least squares after linearising, as Lucas and Kanade
        (1981) did it, over all frames together, since what changes costs bits."""
        import torch

        found = torch.zeros(len(drawn), NUMBERS, dtype=torch.float64, device="cpu")
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            for _ in range(self._how.steps):
                parts = [
                    _normal(drawn[at : at + BATCH], source[at : at + BATCH], found[at : at + BATCH].float())
                    for at in range(0, len(drawn), BATCH)
                ]
                bends, pulls = (torch.cat(each).double() for each in zip(*parts, strict=True))
                pulls = pulls + (bends @ found[..., None])[..., 0]
                found = torch.from_numpy(_smoothest(bends.numpy(), pulls.numpy(), self._how))
        return np.asarray(found.numpy())


def _draw(drawer: Renderer, tiny: Frames, frames: NDArray[np.int64], motion: NDArray[np.int32] | None) -> Frames:
    moved = None if motion is None else motion[frames]
    return drawer.render(tiny_windows(tiny, frames), silent_windows(len(frames)), motion=moved)


def _normal(drawn: Frames, source: Frames, at: Tensor) -> tuple[Tensor, Tensor]:
    """Of each picture's mean squared error near the displacement ``at`` [N, 12], in pixels: half its second derivative
    [N, 12, 12], and half its slope downwards [N, 12]."""
    import torch
    import torch.nn.functional as F

    from ...model.blocks import box_down, field, from_pixels, warp

    picture, wanted = (from_pixels(torch.from_numpy(np.ascontiguousarray(x))) for x in (drawn, source))
    moved = box_down(warp(picture, field(at)), SIDE)
    error = (box_down(wanted, SIDE) - moved).flatten(2)
    # By how much a colour changes from one half side to the next, to the right and down.
    dx = SIDE / 4 * F.pad(moved[..., 2:] - moved[..., :-2], (1, 1, 0, 0)).flatten(2)
    dy = SIDE / 4 * F.pad(moved[..., 2:, :] - moved[..., :-2, :], (0, 0, 1, 1)).flatten(2)
    every = torch.eye(NUMBERS, dtype=torch.float32, device="cpu")
    shapes = field(every)[: NUMBERS // 2, 0].flatten(1)  # of a pixel of each number, [6, 64 * 64]
    count = error.shape[1] * error.shape[2]

    def products(weight: Tensor) -> Tensor:
        return (shapes * weight.sum(1)[:, None]) @ shapes.T / count

    across = products(dx * dy)
    bends = torch.cat(
        (torch.cat((products(dx * dx), across), 2), torch.cat((across, products(dy * dy)), 2)), 1
    )  # fmt: skip
    return bends, torch.cat(((dx * error).sum(1) @ shapes.T, (dy * error).sum(1) @ shapes.T), 1) / count


def _smoothest(bends: Floats, pulls: Floats, how: Alignment) -> Floats:
    """The numbers [N, n] at which all frames' errors and what the numbers cost are least: a banded system, as each
    frame has to do with its neighbours alone."""
    count, n = pulls.shape
    band = np.zeros((n + 1, count * n))  # row n - d: the d-th diagonal above the main one
    line = np.arange(count) * n
    for i in range(n):
        for j in range(i, n):
            band[n - (j - i), line + j] = bends[:, i, j]
    neighbours = np.full(count, 2.0)
    neighbours[0] -= 1
    neighbours[-1] -= 1
    band[n] += how.small + how.calm * np.repeat(neighbours, n)
    band[0, n:] -= how.calm
    return np.asarray(solveh_banded(band, pulls.ravel())).reshape(count, n)
