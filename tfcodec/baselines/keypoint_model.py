"""Keypoint-driven animation of a keyframe, in the style of the First Order Motion Model (FOMM).

After Siarohin et al., NeurIPS 2019 (arXiv 2003.00196). A detector finds K keypoints in a picture without being told
which. From the keypoints of the keyframe and those of the frame to draw, a dense-motion network makes optical flow and
an occlusion map, and a generator draws the frame out of the keyframe's warped features. Computing budget, keyframe
features, building blocks and the copy-first start are those of tfcodec's own network, so that what differs is what is
sent: keypoints, not pixels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import WeightsError
from ..files import write_atomically
from ..model.blocks import ResBlock, box_down, conv, identity_grid, upsample, warp, zero_conv
from ..model.stage1 import WIDTHS, KeyframeEncoder, KeyframeFeatures

SIDE = 64
TEMPERATURE = 0.1
VARIANCE = 0.01
"""Of the Gaussians that show where keypoints are, in units of half a picture's side, squared."""


@dataclass(frozen=True)
class KeypointConfig:
    """``count`` keypoints; ``jacobian``: each with a 2x2 matrix, as FOMM (without: DAC, arXiv 2012.00346)."""

    count: int = 10
    jacobian: bool = False

    @property
    def numbers(self) -> int:
        """Numbers of a frame."""
        return self.count * (6 if self.jacobian else 2)


class Keypoints(NamedTuple):
    """``place`` [B, K, 2] x, y in -1..1 across the picture; ``jacobian`` [B, K, 2, 2] or None."""

    place: Tensor
    jacobian: Tensor | None

    def flat(self) -> Tensor:
        """[B, numbers] as they are coded: all places, then all matrices."""
        if self.jacobian is None:
            return self.place.flatten(1)
        return torch.cat((self.place.flatten(1), self.jacobian.flatten(1)), 1)

    @classmethod
    def from_flat(cls, numbers: Tensor, config: KeypointConfig) -> Keypoints:
        place = numbers[:, : 2 * config.count].reshape(-1, config.count, 2)
        if not config.jacobian:
            return cls(place, None)
        return cls(place, numbers[:, 2 * config.count :].reshape(-1, config.count, 2, 2))

    def quantised(self, step: float | Tensor) -> Keypoints:
        """Rounded to multiples of ``step`` (a number, or [B, 1]); the gradient goes through unchanged."""
        numbers = self.flat()
        rounded = (numbers / step).round() * step
        config = KeypointConfig(self.place.shape[1], self.jacobian is not None)
        return Keypoints.from_flat(numbers + (rounded - numbers).detach(), config)

    def select(self, index: Tensor) -> Keypoints:
        return Keypoints(self.place[index], None if self.jacobian is None else self.jacobian[index])


class Hourglass(nn.Module):
    """64x64 features of a 64x64 input, seen down to 8x8, with skips."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        w64, w32, w16, w8 = widths
        self.stem = conv(channels, w64)
        self.down = nn.ModuleList(conv(a, b, 2) for a, b in ((w64, w32), (w32, w16), (w16, w8)))
        self.inner = nn.ModuleList(ResBlock(w) for w in (w32, w16, w8))
        self.rise = nn.ModuleList(conv(a, b, kernel=1) for a, b in ((w8, w16), (w16, w32), (w32, w64)))
        self.outer = nn.ModuleList(ResBlock(w) for w in (w16, w32, w64))
        # As FOMM's batch normalisation: without, heat maps grow without bounds, and the gradient with them.
        self.norms = nn.ModuleList(nn.GroupNorm(8, w) for w in (w16, w32, w64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for down, block in zip(self.down, self.inner, strict=True):
            skips.append(x)
            x = block(down(F.silu(x)))
        for rise, block, norm in zip(self.rise, self.outer, self.norms, strict=True):
            x = norm(block(upsample(rise(x)) + skips.pop()))
        return F.silu(x)


class Detector(nn.Module):
    """Pictures [B, 3, H, W] in 0..1 -> keypoints: means of heat maps, so that they are differentiable."""

    def __init__(self, config: KeypointConfig) -> None:
        super().__init__()
        self.config = config
        self.body = Hourglass(3, (32, 64, 96, 128))
        self.heat = conv(32, config.count, kernel=7)
        self.matrix = zero_conv(32, 4 * config.count) if config.jacobian else None

    def forward(self, picture: Tensor) -> Keypoints:
        x = self.body(box_down(picture, SIDE) - 0.5)
        heat = (self.heat(x).float().flatten(2) / TEMPERATURE).softmax(-1)[:, :, None]
        # Sums, not matrix products, which autocast would take at the 8 bits of bfloat16's mantissa.
        place = (heat * identity_grid(SIDE, heat).flatten(2)[:, None]).sum(-1)
        if self.matrix is None:
            return Keypoints(place, None)
        entries = self.matrix(x).float().flatten(2).reshape(len(x), self.config.count, 4, -1)
        jacobian = (heat * entries).sum(-1).reshape(-1, self.config.count, 2, 2)
        return Keypoints(place, jacobian + torch.eye(2, device=x.device))


class KeypointOutput(NamedTuple):
    """``frame`` [B, 3, 256, 256] and a coarse picture of it [B, 3, 64, 64], in 0..1 (not clamped); optical flow
    [B, 2, 64, 64] as in `warp`."""

    frame: Tensor
    small: Tensor
    flow: Tensor


class KeypointAnimator(nn.Module):
    """Detector, dense motion and generator."""

    def __init__(self, config: KeypointConfig | None = None) -> None:
        super().__init__()
        self.config = config or KeypointConfig()
        w = WIDTHS
        self.detector = Detector(self.config)
        self.keyframe = KeyframeEncoder()
        maps = self.config.count + 1
        self.motion = Hourglass(4 * maps, (48, 80, 112, 144))
        self.mask = zero_conv(48, maps)
        self.occlusion = zero_conv(48, 1)
        self.block8 = ResBlock(w[8])
        self.up16, self.merge16, self.block16 = conv(w[8], w[16], kernel=1), conv(2 * w[16], w[16]), ResBlock(w[16])
        self.up32, self.merge32, self.block32 = conv(w[16], w[32], kernel=1), conv(2 * w[32], w[32]), ResBlock(w[32])
        self.up64, self.merge64 = conv(w[32], w[64], kernel=1), conv(2 * w[64] + 3, w[64])
        self.blocks64 = nn.ModuleList(ResBlock(w[64]) for _ in range(2))
        self.paint64 = zero_conv(w[64], 3)
        self.up128, self.merge128 = conv(w[64], w[128], kernel=1), conv(2 * w[128] + 12, w[128])
        self.block128 = ResBlock(w[128])
        self.paint = zero_conv(w[128], 16)

    def encode_keyframe(self, picture: Tensor) -> KeyframeFeatures:
        """Features of decoded keyframes [B, 3, 256, 256]; computed once per keyframe."""
        features: KeyframeFeatures = self.keyframe(picture)
        return features

    def dense_motion(self, small: Tensor, of_key: Keypoints, now: Keypoints) -> tuple[Tensor, Tensor]:
        """Flow [B, 2, 64, 64] and occlusion [B, 1, 64, 64] in 0..1 from keyframes [B, 3, 64, 64] and keypoints."""
        batch, count = now.place.shape[:2]
        grid = identity_grid(SIDE, small)  # [1, 2, 64, 64]
        moved = grid[:, None] - now.place[..., None, None]  # [B, K, 2, 64, 64]
        if now.jacobian is not None and of_key.jacobian is not None:
            with torch.autocast(small.device.type, enabled=False):
                turn = of_key.jacobian @ torch.linalg.inv(now.jacobian)
                moved = torch.einsum("bkij,bkjyx->bkiyx", turn, moved)
        moved = moved + of_key.place[..., None, None]
        sparse = torch.cat((torch.zeros_like(moved[:, :1]), moved - grid[:, None]), 1)  # background first
        pictures = small[:, None].expand(-1, count + 1, -1, -1, -1).flatten(0, 1)
        deformed = warp(pictures, sparse.flatten(0, 1)).reshape(batch, -1, SIDE, SIDE)
        heat = self._heat(now.place, grid) - self._heat(of_key.place, grid)
        heat = torch.cat((torch.zeros_like(heat[:, :1]), heat), 1)
        x = self.motion(torch.cat((deformed - 0.5, heat), 1))
        bias = torch.zeros(count + 1, 1, 1, device=x.device)
        bias[0] = 2.0  # copy first: to begin with nothing moves much
        mask = (self.mask(x).float() + bias).softmax(1)
        flow = (mask[:, :, None] * sparse).sum(1)
        return flow, torch.sigmoid(self.occlusion(x).float() + 2)

    @staticmethod
    def _heat(place: Tensor, grid: Tensor) -> Tensor:
        distance = (grid[:, None] - place[..., None, None]).square().sum(2)
        return torch.exp(-distance / (2 * VARIANCE))

    def forward(self, key: KeyframeFeatures, of_key: Keypoints, now: Keypoints) -> KeypointOutput:
        """Draw frames. Features and keypoints of the keyframes are those of each frame's own (`select`)."""
        flow, seen = self.dense_motion(key.small.float(), of_key, now)

        def moved(features: Tensor) -> Tensor:
            size = features.shape[-1]
            known = box_down(seen, size) if size < SIDE else upsample(seen, size // SIDE) if size > SIDE else seen
            return warp(features, flow) * known.to(features.dtype)

        x = self.block8(moved(key.f8))
        x = self.block16(self.merge16(torch.cat((upsample(self.up16(x)), moved(key.f16)), 1)))
        x = self.block32(self.merge32(torch.cat((upsample(self.up32(x)), moved(key.f32)), 1)))
        small = warp(key.small, flow)
        x = self.merge64(torch.cat((upsample(self.up64(x)), moved(key.f64), small - 0.5), 1))
        for block in self.blocks64:
            x = block(x)
        small = small + self.paint64(F.silu(x))
        pixels = warp(key.picture, flow)
        x = torch.cat((upsample(self.up128(x)), moved(key.f128), F.pixel_unshuffle(pixels, 2) - 0.5), 1)
        x = self.block128(self.merge128(x))
        paint = F.pixel_shuffle(self.paint(F.silu(x)), 2)
        blend = torch.sigmoid(paint[:, 3:] - 4)
        return KeypointOutput(pixels + blend * (upsample(small, 4) - pixels) + paint[:, :3], small, flow)


def save_animator(model: KeypointAnimator, path: str | Path) -> None:
    """Write the weights as float16 with the network's options, under a temporary name first."""
    state = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state, {"keypoints": json.dumps(asdict(model.config))}))


def read_animator(path: str | Path) -> KeypointAnimator:
    """The network with weights from a file. Raises WeightsError if the file does not fit."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["keypoints"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - it is no dict
        model = KeypointAnimator(KeypointConfig(int(about["count"]), bool(about["jacobian"])))
        model.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} does not hold weights of a keypoint network: {error}") from None
    return model.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
