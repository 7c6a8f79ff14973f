"""Building blocks shared by both stages. 4-D operations only, so that the network can be exported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .displacement import LINES, SHARES

Network = TypeVar("Network", bound=nn.Module)


def to_load(make: Callable[[], Network]) -> Network:
    """A network that weights are loaded into. What it begins with is of no use, and torch's generator stays as it is.

    The device "meta" would draw no numbers; but to know it, torch loads 800 modules, for two seconds (torch 2.13).
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        _thread.fills = False
        try:
            return make()
        finally:
            _thread.fills = True


class _Thread(threading.local):
    fills = True
    """Whether convolutions that are made begin with random weights."""


_thread = _Thread()


class Conv(nn.Conv2d):
    """A convolution that is recorded as oneDNN's on a CPU.

    For a single small picture torch takes an implementation of its own, which is several times as slow (torch 2.13,
    `ConvParams::use_mkldnn`); a tenth of a frame's time goes into those.
    """

    def reset_parameters(self) -> None:
        """Random weights; none where others are loaded next: drawing them takes half of the time that loading does."""
        if _thread.fills:
            super().reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        tracing = torch._C._get_tracing_state() is not None and not torch.onnx.is_in_onnx_export()
        if tracing and input.device.type == "cpu" and torch._C._has_mkldnn:
            out: Tensor = torch.ops.aten.mkldnn_convolution(
                input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
            )
            return out
        return super().forward(input)


def conv(cin: int, cout: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    return Conv(cin, cout, kernel, stride, kernel // 2, padding_mode="zeros")


def zero_conv(cin: int, cout: int) -> nn.Conv2d:
    # Heads start at zero: the untrained network outputs the keyframe unchanged ("copy first").
    layer = conv(cin, cout)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResBlock(nn.Module):
    """Two 3x3 convolutions around a skip; optionally modulated by a conditioning vector (FiLM, arXiv 1709.07871)."""

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)
        self.film = nn.Linear(condition, 2 * channels) if condition else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.conv2.weight, std=1e-3)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = self.conv1(F.silu(x))
        if self.film is not None and condition is not None:
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        return x + self.conv2(F.silu(y))


@lru_cache(maxsize=64)
def pixel_centres(width: int, height: int, device: torch.device) -> Tensor:
    """Pixel centres [height, width, 2] of a picture in [-1, 1], x first (grid_sample, align_corners=False).

    Kept, so that a recorded network has it as a constant.
    """
    # Whoever asks first may draw, and training may be the next: a tensor of inference mode would be of no use to it.
    with torch.inference_mode(False):
        lines = ((torch.arange(n, device=device, dtype=torch.float32) * 2 + 1) / n - 1 for n in (height, width))
        y, x = torch.meshgrid(*lines, indexing="ij")
        return torch.stack((x, y), -1)


def identity_grid(size: int, like: Tensor) -> Tensor:
    """Sampling grid [1, 2, size, size] of pixel centres in [-1, 1], x first."""
    return pixel_centres(size, size, like.device).permute(2, 0, 1)[None]


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Sample ``picture`` [B, C, S, S] at each pixel's own place plus ``flow`` [B, 2, s, s] (backward optical flow).

    The flow is in units of half the picture's side and is enlarged to the picture's size when it is smaller.
    """
    size = picture.shape[-1]
    flow = flow.float()
    if flow.shape[-1] != size:
        flow = F.interpolate(flow, size=(size, size), mode="bilinear", align_corners=False)
    grid = (identity_grid(size, flow) + flow).permute(0, 2, 3, 1)
    # Sampling positions need more than the 8 bits of bfloat16's mantissa.
    sampled = F.grid_sample(picture.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.to(picture.dtype)


@lru_cache(maxsize=4)
def _polynomials(device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        return torch.from_numpy(SHARES.copy()).to(device), torch.from_numpy(LINES.copy()).to(device)


def field(displacement: Tensor) -> Tensor:
    """The displacement layer [B, 12], in pixels, as a flow [B, 2, 64, 64] in half sides: see `displacement.field`."""
    shares, lines = _polynomials(displacement.device)
    # Places need more than the 8 bits of bfloat16's mantissa.
    with torch.autocast(displacement.device.type, enabled=False):
        products = (displacement.float().reshape(-1, 6) @ shares).reshape(-1, 2, 3, 3)
        return lines.transpose(0, 1) @ (products @ lines)


def join(*parts: Tensor) -> Tensor:
    """Feature maps side by side along the channels, laid out channels-last, in the precision of the convolution behind.

    Warped and unshuffled pictures come out channels-first, and `torch.cat` of mixed layouts is channels-first too: the
    convolution behind it would then copy the whole of it, slower than it computes. Likewise `torch.cat` of bfloat16 and
    float32 is float32, which autocast would take back.
    """
    device = parts[0].device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else parts[0].dtype
    parts = tuple(part.to(dtype).contiguous(memory_format=torch.channels_last) for part in parts)
    # A part with a single channel is of both layouts, and the whole would then be of the wrong one.
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def enlarge_smoothly(x: Tensor, size: int) -> Tensor:
    """Bilinear enlargement [B, C, s, s] -> [B, C, size, size] as two matrix products, in float32.

    The same linear map as `upsample`, several times as fast on a CPU for maps of a few channels.
    """
    return _risen(x, size, "bilinear")


def enlarge(x: Tensor, size: int) -> Tensor:
    """Bicubic enlargement [B, C, s, s] -> [B, C, size, size] as two matrix products, in float32.

    The same linear map as `F.interpolate`, several times as fast at factors as large as 32.
    """
    return _risen(x, size, "bicubic")


def _risen(x: Tensor, size: int, mode: str) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        rise = rise_of(x.shape[-1], size, mode, x.device)
        return rise @ x.float() @ rise.transpose(-1, -2)


def rise_of(small: int, size: int, mode: str, device: torch.device) -> Tensor:
    """What enlarges a line, [size, small] float32; ``mode`` as of `F.interpolate`."""
    unit = torch.eye(small, device=device, dtype=torch.float32)[None, None]
    return F.interpolate(unit, size=(size, small), mode=mode, align_corners=False)[0, 0]


# BT.709 (ITU-R BT.709-6, 3): luma weights, and what separates RGB into luma and colour differences.
_LUMA = (0.2126, 0.7152, 0.0722)


def luma_of(x: Tensor) -> Tensor:
    """RGB [..., 3, H, W] -> BT.709 luma [..., 1, H, W]. Plain factors: a constant tensor would go to the GPU."""
    red, green, blue = torch.split(x, 1, -3)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def refine_chroma(tiny: Tensor, reference: Tensor) -> Tensor:
    """Give tiny frames [B, N, 3, 8, 8], whose chroma was sent at 4x4, the chroma detail of the keyframe's [B, 3, 8, 8].

    Without it a face would take on the colour of the wall beside it: what the tiny frame says about 2x2 squares is
    kept, what it cannot say is taken from the keyframe.
    """
    luma = luma_of(tiny)
    colour = reference - luma_of(reference)
    change = (tiny - luma) - colour[:, None]
    change = F.interpolate(F.avg_pool2d(change.flatten(0, 1), 2), scale_factor=2.0, mode="nearest")
    return luma + colour[:, None] + change.reshape(tiny.shape)


def from_pixels(pixels: Tensor) -> Tensor:
    """[..., H, W, 3] uint8 -> [..., 3, H, W] in 0..1."""
    return pixels.movedim(-1, -3).float() / 255


def to_pixels(picture: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1 (not clamped) -> [B, H, W, 3] uint8."""
    pixels: Tensor = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous()


def box_down(x: Tensor, size: int) -> Tensor:
    """Box mean down to ``size``: the sender's own reduction from 256x256 to 8x8, as a network operation."""
    return F.avg_pool2d(x, x.shape[-1] // size)
