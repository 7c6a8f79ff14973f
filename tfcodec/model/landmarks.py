"""The landmark prior: where the face's landmarks are in the keyframe, and where the tiny frames say that they went.

It is trained on landmarks alone, without pictures, which costs next to nothing: so it sees a thousand times as many
examples as the rest of the network. What it knows reaches the two stages as a first guess of the motion, as a change of
the mouth's shape and as a drawing of the landmarks. It does not hear the speech: with it, it learned the voices of the
training set by heart and was worse on other people.

Coordinates here are the flow's: x, y in -1..1 over the picture. Landmarks are numbered as in the 68-point scheme of
300-W (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-59 outer lips, 60-67 inner lips), with the pupils as 68 and 69.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, box_down, conv, identity_grid, luma_of, pixel_centres, refine_chroma, upsample
from .config import DEFAULT, NetworkConfig
from .inputs import WINDOW
from .places import COUNT as COUNT
from .places import MOUTH as MOUTH
from .places import PEN

GROUPS = ((*range(17),), (*range(17, 48), 68, 69), (*range(48, 60),), (*range(60, 68),))
"""What is drawn on a plane of its own: jaw; brows, nose and eyes; outer lips; inner lips."""
HINTS = 5 + len(GROUPS)
WIDTH = 256
_VALUES = 96  # of a tiny frame: 8x8 luma and two times 4x4 colour difference, as transmitted

# How far a landmark's motion reaches, in pixels at 256, and what it counts: lips and lids are close to one another and
# have the last word about their own place.
_REACH = [14.0] * 17 + [12.0] * 19 + [6.0] * 12 + [4.0] * 20 + [5.0] * 2
_SAY = [1.0] * 36 + [3.0] * 34


class Hints(NamedTuple):
    """What the prior tells the network, at 64x64.

    ``motion`` [B, 2, 64, 64] backward flow and ``cover`` [B, 1, 64, 64], where it means anything (0..1): where the
    prior thinks that the face went. ``shape`` [B, 2, 64, 64] backward flow and ``drawing`` [B, 4, 64, 64], the
    landmarks of each group as soft dots: how the mouth changed, on the keyframe's own place, to be moved along with
    the face.
    ``moved`` [B, 70, 2]: how far each landmark went.
    """

    motion: Tensor
    cover: Tensor
    shape: Tensor
    drawing: Tensor
    moved: Tensor


class LandmarkFinder(nn.Module):
    """Landmarks [B, 70, 2] of a face in its keyframe [B, 3, 256, 256]: all of them coarsely, then the mouth's."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth = MouthFinder()
        self.stem = conv(3, 16)
        self.down32 = conv(16, 32, 2)
        self.block32 = ResBlock(32)
        self.down16 = conv(32, 48, 2)
        self.block16 = ResBlock(48)
        self.down8 = conv(48, 48, 2)
        self.block8 = ResBlock(48)
        self.side16 = conv(48, 48, kernel=1)
        self.merge16 = ResBlock(48)
        self.up32 = conv(48, 32, kernel=1)
        self.merge32 = ResBlock(32)
        self.heat = conv(32, COUNT, kernel=1)

    def forward(self, picture: Tensor) -> Tensor:
        marks = self.coarse(box_down(picture, 64))
        place, half = mouth_place(marks)
        mouth = self.mouth(cut(box_down(picture, 128), place, half))
        return torch.cat((marks[:, :48], place + half * mouth, marks[:, 68:]), 1)

    def coarse(self, small: Tensor) -> Tensor:
        """All landmarks from 64x64 box means."""
        x32 = self.block32(self.down32(F.silu(self.stem(small - 0.5))))
        x16 = self.block16(self.down16(F.silu(x32)))
        x = self.block8(self.down8(F.silu(x16)))
        x = self.merge16(upsample(x) + self.side16(x16))
        x = self.merge32(upsample(self.up32(x)) + x32)
        heat = F.softmax(self.heat(F.silu(x)).float().flatten(2), -1).reshape(-1, COUNT, 32, 32)
        line = (torch.arange(32, device=small.device, dtype=torch.float32) * 2 + 1) / 32 - 1
        return torch.stack(((heat.sum(2) * line).sum(-1), (heat.sum(3) * line).sum(-1)), -1)


class MouthFinder(nn.Module):
    """The mouth's landmarks [B, 20, 2] in a square [B, 3, 32, 32] about it, in -1..1 over the square."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 24)
        self.down16 = conv(24, 40, 2)
        self.block16 = ResBlock(40)
        self.down8 = conv(40, 48, 2)
        self.narrow = conv(48, 20, kernel=1)
        self.out = nn.Linear(20 * 64, 40)

    def forward(self, square: Tensor) -> Tensor:
        x = self.block16(self.down16(F.silu(self.stem(square - 0.5))))
        x = self.narrow(F.silu(self.down8(F.silu(x))))
        points: Tensor = self.out(F.silu(x).flatten(1)).float()
        return points.reshape(-1, 20, 2)


def eye_distance(marks: Tensor) -> Tensor:
    """Distance [B] of the middles of the eyes; not below what a face of 40 pixels has."""
    return (marks[:, 36:42].mean(1) - marks[:, 42:48].mean(1)).norm(dim=-1).clamp(min=0.08)


def mouth_place(marks: Tensor) -> tuple[Tensor, Tensor]:
    """Middle [B, 1, 2] and half the side [B, 1, 1] of the square that the mouth's finder looks at."""
    return marks[:, MOUTH].mean(1, keepdim=True), 0.8 * eye_distance(marks)[:, None, None]


def cut(picture: Tensor, place: Tensor, half: Tensor, size: int = 32) -> Tensor:
    """Squares [B, 3, size, size] of pictures about ``place`` [B, 1, 2] with half sides ``half`` [B, 1, 1]."""
    with torch.autocast(picture.device.type, enabled=False):
        grid = identity_grid(size, picture).permute(0, 2, 3, 1) * half[..., None] + place[:, None]
        return F.grid_sample(picture.float(), grid.float(), padding_mode="border", align_corners=False)


class LandmarkMotion(nn.Module):
    """Where the keyframe's landmarks went: displacement [B, 70, 2]."""

    def __init__(self, config: NetworkConfig = DEFAULT) -> None:
        super().__init__()
        self.config = config
        self.start = nn.Linear(_VALUES * (1 + WINDOW) + 2 * COUNT, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Dropout(0.2), nn.Linear(WIDTH, WIDTH)
            ) for _ in range(2)
        )  # fmt: skip
        self.out = nn.Linear(WIDTH, 2 * COUNT)
        nn.init.zeros_(self.out.weight)  # an untrained prior says that nothing moves
        nn.init.zeros_(self.out.bias)

    def forward(self, marks: Tensor, key8: Tensor, tiny: Tensor) -> Tensor:
        """``marks`` [B, 70, 2] and box means ``key8`` [B, 3, 8, 8] of the keyframe; the network's windows."""
        if not self.config.window:
            tiny = tiny[:, WINDOW // 2, None].expand_as(tiny)
        of_key = _values(key8)
        change = 6 * (_values(tiny) - of_key[:, None])
        x = self.start(torch.cat((of_key, change.flatten(1), 2 * marks.flatten(1)), 1))
        for block in self.blocks:
            x = x + block(x)
        moved: Tensor = 0.1 * self.out(F.silu(x)).float().unflatten(1, (COUNT, 2))
        return moved


class LandmarkPrior(nn.Module):
    """Both, and what the network is told of them."""

    reach: Tensor
    say: Tensor
    members: Tensor

    def __init__(self, config: NetworkConfig = DEFAULT) -> None:
        super().__init__()
        # Where landmarks are sent, a `tracker.FaceTracker` finds the keyframe's.
        self.finder = None if config.motion else LandmarkFinder()
        self.motion = LandmarkMotion(config)
        self.register_buffer("reach", torch.tensor(_REACH) / 128)
        self.register_buffer("say", torch.tensor(_SAY))
        self.register_buffer("members", _members())

    def forward(self, marks: Tensor, key8: Tensor, tiny: Tensor, now: Tensor | None = None) -> Hints:
        """``tiny`` with its chroma refined; ``marks`` as found in the keyframe; ``now`` the frame's, if known."""
        return self.draw(marks, self.motion(marks, key8, tiny) if now is None else now - marks)

    def guess(self, marks: Tensor, key8: Tensor, tiny: Tensor) -> Tensor:
        """Landmarks [B, 70, 2] of frames that were sent without: what their tiny frames [B, 5, 3, 8, 8] say."""
        moved: Tensor = self.motion(marks, key8, refine_chroma(tiny, key8))
        return marks + moved

    def draw(self, marks: Tensor, moved: Tensor) -> Hints:
        """Dense hints for landmarks that were at ``marks`` in the keyframe and moved by ``moved`` since."""
        with torch.autocast(marks.device.type, enabled=False):
            marks, moved = marks.float(), moved.float()
            motion, cover = self._spread(marks + moved, -moved)
            change = mouth_change(marks, moved)
            shape, _ = self._spread(marks + change, -change)
            across, down = _bumps(marks + change, torch.full_like(self.reach, PEN / 128))
            drawing = (down.transpose(-1, -2)[:, None] * self.members[:, None]) @ across[:, None]
            return Hints(motion, cover / (cover + 0.2), shape, drawing.clamp(max=1), moved)

    def _spread(self, points: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the values of the landmarks near each pixel, and how near they are."""
        across, down = _bumps(points, self.reach)
        down = down * self.say[:, None]
        rows = down.transpose(-1, -2)  # `mT` is not known to ONNX
        cover = (rows @ across)[:, None]
        mean = (rows[:, None] * values.transpose(-1, -2)[:, :, None]) @ across[:, None] / (cover + 0.02)
        return mean, cover


def mouth_change(marks: Tensor, moved: Tensor) -> Tensor:
    """What is left of the mouth's motion without the head's: 0 for all other landmarks, and in the mouth's mean.

    The head's is the similarity (shift, turn, scale) that fits all landmarks best, in closed form.
    """
    a = marks - marks.mean(1, keepdim=True)
    b = a + moved - moved.mean(1, keepdim=True)
    size = a.square().sum((1, 2)).clamp(min=1e-4)
    cos, sin = (a * b).sum((1, 2)) / size, (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / size
    cos, sin = cos[:, None], sin[:, None]
    head = torch.stack((cos * a[..., 0] - sin * a[..., 1], sin * a[..., 0] + cos * a[..., 1]), -1)
    rest = (b - head)[:, MOUTH]
    rest = rest - rest.mean(1, keepdim=True)
    return F.pad(rest, (0, 0, MOUTH.start, COUNT - MOUTH.stop))


def _members() -> Tensor:
    members = torch.zeros(len(GROUPS), COUNT, dtype=torch.float32)
    for plane, group in zip(members, GROUPS, strict=True):
        plane[list(group)] = 1
    return members


def _bumps(points: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    line = pixel_centres(64, 64, points.device)[0, :, 0]
    # Not below exp(-30): what is smaller would be denormal soon, and processors compute with that slowly.
    bumps = torch.exp(-((line - points[..., None]) ** 2 / (2 * reach[:, None, None] ** 2)).clamp(max=30))
    return bumps[:, :, 0], bumps[:, :, 1]


def _values(tiny: Tensor) -> Tensor:
    """RGB [..., 3, 8, 8] -> [..., 96]."""
    luma = luma_of(tiny)
    red_blue = box_down((tiny[..., ::2, :, :] - luma).flatten(0, -4), 4).reshape(*tiny.shape[:-3], 2, 4, 4)
    return torch.cat((luma.flatten(-3) - 0.5, red_blue.flatten(-3)), -1)
