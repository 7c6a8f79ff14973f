"""Tiny frames chosen by what the receiver will draw from them.

A tiny frame need not be the box mean of its picture: the network draws a better picture from one that is a grey level
or two beside it, which moves the head or opens the mouth a little further. The encoder has the receiver's network and
its keyframe, so it can look for such a one by gradient descent ("analysis by synthesis"), and pays for it in the very
units that are coded: how far the tiny frame goes from the box mean. Nothing here binds a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class Descent:
    """How tiny frames are looked for. Defaults: `benchmarks/search/refine_search.py`, on clips of `train`."""

    steps: int = 6
    rate: float = 1.5
    """Adam's step size, in grey levels; falls to a fifth in the last step."""
    price: float = 1.0
    """What a squared grey level of change costs."""
    stride: int = 4
    """Only every so many frames are searched; those between are interpolated."""


class Refiner:
    """Looks for tiny frames that the network draws better pictures from.

    Only stage 1 is asked, at 64x64 pixels: it takes half the time of the whole network, and pictures become as good.
    The network hears silence, since speech changes next to nothing. In bfloat16 where the processor has it.

    Args:
        model: the receiver's network.
        descent: how.
    """

    def __init__(self, model: Upsampler, descent: Descent | None = None) -> None:
        import torch

        from ...model import blocks, marks

        self._torch, self._model, self._blocks, self._marks = torch, model, blocks, marks
        self._descent, self._fast = descent or Descent(), has_bfloat16()

    def refine(
        self, keyframe: Frames, frames: Frames, planes: TinyPlanes, motion: NDArray[np.int32] | None = None
    ) -> TinyPlanes:
        """Better tiny frames for the same pictures.

        Args:
            keyframe: the decoded keyframe that the frames are drawn from, [256, 256, 3] uint8.
            frames: [T, 256, 256, 3] uint8.
            planes: their box means.
            motion: what the layer of motion says of them, [T, 17]; None without one.

        Returns:
            T tiny frames, to be coded in the place of ``planes``.
        """
        how, count = self._descent, len(frames)
        chosen = np.unique(np.append(np.arange(0, count, how.stride), count - 1))
        windows = np.clip(chosen[:, None] + np.arange(-REACH, WINDOW - REACH), 0, count - 1)
        torch, blocks = self._torch, self._blocks
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            true = torch.from_numpy(planes.samples().astype(np.float32) / planes.scale)
            around = _to_rgb(true)[torch.from_numpy(windows)]
            key = self._model.encode_keyframe(
                blocks.from_pixels(torch.from_numpy(np.ascontiguousarray(keyframe)[None]))
            )
            moved = [torch.zeros(1, true.shape[1], dtype=torch.float32, device="cpu")]
            for at in range(0, len(chosen), BATCH):
                some = chosen[at : at + BATCH]
                target = blocks.box_down(blocks.from_pixels(torch.from_numpy(frames[some])), COARSE)
                # Neighbours move alike: the search begins where the last one ended.
                start = moved[-1][-1:].expand(len(some), -1)
                near = around[at : at + BATCH]
                marks = self._marks.frame_marks(self._model, key, near, None if motion is None else motion[some])
                moved.append(self._descend(key, true[some], near, target, start, marks))
        change = torch.cat(moved[1:]).numpy()
        between = np.stack([np.interp(np.arange(count), chosen, line) for line in change.T], 1)
        return TinyPlanes.from_samples(planes.samples() + np.rint(between * planes.scale).astype(np.int64))

    def _descend(
        self, key: KeyframeFeatures, true: Tensor, around: Tensor, target: Tensor, start: Tensor, marks: Tensor
    ) -> Tensor:
        """How far to move ``true`` [N, 96], in grey levels."""
        torch, how, count = self._torch, self._descent, len(true)
        key = key.select(torch.zeros(count, dtype=torch.long, device="cpu"))
        given = marks if self._model.config.motion else None
        silence = torch.full((count, MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, dtype=torch.float32, device="cpu")
        with torch.enable_grad():
            change = start.clone().requires_grad_()
            optimiser = torch.optim.Adam([change], how.rate, betas=(0.8, 0.95))
            for step in range(how.steps):
                optimiser.param_groups[0]["lr"] = how.rate * (1 - 0.8 * step / max(1, how.steps - 1))
                now = _to_rgb(true + change)[:, None]
                tiny = torch.cat((around[:, :REACH], now, around[:, REACH + 1 :]), 1)
                with torch.autocast("cpu", torch.bfloat16, enabled=self._fast):
                    drawn = self._model.stage1(key, tiny, silence, None, given).picture.float()
                error = drawn - target
                edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
                loss = 6 * error.abs().mean() + 40 * error.square().mean() + 4 * edges
                loss = loss + how.price / 255 * change.square().sum() / (64 * count)
                optimiser.zero_grad()
                (count * loss).backward()
                with torch.device("cpu"):  # the optimiser's own numbers, which it makes at its first step
                    optimiser.step()
        return change.detach()


def _to_rgb(samples: Tensor) -> Tensor:
    """Samples of `TinyPlanes` in grey levels, [N, 96], as RGB [N, 3, 8, 8] in 0..1: a `tiny_to_rgb` with gradients."""
    import torch

    luma, chroma = samples[:, :64].reshape(-1, 8, 8), samples[:, 64:].reshape(-1, 2, 4, 4) - 128
    cb, cr = chroma.repeat_interleave(2, -1).repeat_interleave(2, -2).unbind(1)
    return torch.stack((luma + 1.5748 * cr, luma - 0.18732 * cb - 0.46812 * cr, luma + 1.8556 * cb), 1) / 255
