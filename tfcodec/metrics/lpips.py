"""LPIPS v0.1 (Zhang et al., CVPR 2018, arXiv 1801.03924) with backbones given as files.

The `lpips` package downloads its backbones when first used; here both files are named by the user, so that a figure can
be reproduced without a network. Reproduces the published example pair (0.722 and 0.138 with AlexNet).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import WeightsError
from .files import find_weights, weights_path
from .frames import Frames, check_pair

__all__ = ["LPIPS", "find_weights", "lpips_of_arms", "lpips_of_frames"]

FILES = {
    "alex": ("alexnet_features_torch.pth", "lpips_lin/alex.pth"),
    "squeeze": ("squeezenet1_1_features_torchkeys.pth", "lpips_lin/squeeze.pth"),
}


class _Fire(nn.Module):
    def __init__(self, cin: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat((F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))), 1)


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    )  # fmt: skip


def _squeezenet() -> nn.Sequential:
    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), _Fire(64, 16, 64), _Fire(128, 16, 64), pool(),
        _Fire(128, 32, 128), _Fire(256, 32, 128), pool(), _Fire(256, 48, 192), _Fire(384, 48, 192),
        _Fire(384, 64, 256), _Fire(512, 64, 256),
    )  # fmt: skip


# Layers whose output is compared, as in the reference implementation (torchvision indices).
_NETS = {"alex": (_alexnet, (1, 4, 7, 9, 11)), "squeeze": (_squeezenet, (1, 4, 7, 9, 10, 11, 12))}


class LPIPS(nn.Module):
    """Learned perceptual distance between pictures [B, 3, H, W] in 0..1; returns [B].

    Raises WeightsError when the backbone or the linear heads cannot be read.
    """

    def __init__(self, net: str = "alex", weights: str | Path | None = None) -> None:
        super().__init__()
        build, self.taps = _NETS[net]
        backbone, heads = (weights_path(f"LPIPS({net})", name, weights) for name in FILES[net])
        self.features = build()
        try:
            state = torch.load(backbone, map_location="cpu", weights_only=True)
            lin = torch.load(heads, map_location="cpu", weights_only=True)
            self.features.load_state_dict({k.removeprefix("features."): v for k, v in state.items()})
            kernels = [lin[f"lin{i}.model.1.weight"] for i in range(len(self.taps))]
        except (OSError, RuntimeError, LookupError, EOFError, AttributeError, UnpicklingError) as error:
            raise WeightsError(f"cannot read LPIPS({net}) from {backbone.parent}: {error}") from None
        self.heads = nn.ParameterList(kernels)
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])
        self.requires_grad_(False)
        self.eval()

    def embed(self, picture: Tensor) -> list[Tensor]:
        """Unit-normalised feature maps of the compared layers; lets one picture be compared with many."""
        x = (picture * 2 - 1 - self.get_buffer("mean")) / self.get_buffer("std")
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                y = x.float()
                maps.append(y / (y.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        total = torch.zeros(a[0].shape[0], device=a[0].device)
        for x, y, head in zip(a, b, self.heads, strict=True):
            total = total + F.conv2d((x - y).square(), head.float()).mean((1, 2, 3))
        return total

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(self.embed(a), self.embed(b))


BATCH = 16


def lpips_of_frames(judge: LPIPS, a: Frames, b: Frames) -> NDArray[np.float64]:
    """LPIPS of each frame of ``a`` against that of ``b``, both [T, H, W, 3] uint8 RGB; [T]."""
    return lpips_of_arms(judge, [a], b)[0]


def lpips_of_arms(judge: LPIPS, arms: Sequence[Frames], reference: Frames) -> NDArray[np.float64]:
    """LPIPS of several videos against one, all [T, H, W, 3] uint8 RGB; [arms, T].

    The reference is embedded only once, and so is a still that is given as ``np.broadcast_to(picture, shape)``.
    """
    for arm in arms:
        check_pair(arm, reference)
    device = judge.get_buffer("mean").device

    def embed(frames: Frames) -> list[Tensor]:
        pixels = torch.tensor(np.ascontiguousarray(frames), device=device)
        return judge.embed(pixels.permute(0, 3, 1, 2).float() / 255)

    out = np.empty((len(arms), len(reference)))
    with torch.inference_mode():
        stills = [embed(arm[:1]) if len(arm) and arm.strides[0] == 0 else None for arm in arms]
        for i in range(0, len(reference), BATCH):
            at = slice(i, i + BATCH)
            right = embed(reference[at])
            for row, arm, still in zip(out, arms, stills, strict=True):
                left = embed(arm[at]) if still is None else [x.expand(len(right[0]), -1, -1, -1) for x in still]
                row[at] = judge.compare(left, right).cpu().numpy()
    return out
