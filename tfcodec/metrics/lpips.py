"""LPIPS v0.1 (Zhang et al., CVPR 2018, arXiv 1801.03924) with backbones given as files.

The `lpips` package downloads its backbones when first used; here both files are named by the user, so that a figure can
be reproduced without a network. Reproduces the published example pair (0.722 and 0.138 with AlexNet).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError

FILES = {
    "alex": ("alexnet_features_torch.pth", "lpips_lin/alex.pth"),
    "squeeze": ("squeezenet1_1_features_torchkeys.pth", "lpips_lin/squeeze.pth"),
}


def find_weights() -> Path | None:
    """The folder of metric networks: TFCODEC_METRIC_WEIGHTS, else ../shared/weights beside the repository, or None."""
    named = os.environ.get("TFCODEC_METRIC_WEIGHTS")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "weights"
    return folder if folder.is_dir() else None


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
        folder = Path(weights) if weights is not None else find_weights()
        if folder is None:
            raise WeightsError("LPIPS needs its backbone: set TFCODEC_METRIC_WEIGHTS to the folder of metric networks")
        build, self.taps = _NETS[net]
        backbone, heads = (folder / name for name in FILES[net])
        try:
            state = torch.load(backbone, map_location="cpu", weights_only=True)
            lin = torch.load(heads, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"cannot read LPIPS({net}) from {folder}: {error}") from None
        self.features = build()
        self.features.load_state_dict({k.removeprefix("features."): v for k, v in state.items()})
        self.heads = nn.ParameterList(lin[f"lin{i}.model.1.weight"] for i in range(len(self.taps)))
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
