"""Close-ups: mouth and eyes are drawn again, in squares cut along the landmarks.

At 64x64, where the motion is estimated, a mouth is a dozen pixels wide. Here it has a picture of its own, in the head's
frame: the origin between the eyes, the x axis through them, their distance the unit. There every mouth is at the same
place and of the same size, whatever the head does, so that a small network suffices. It sees the keyframe's square,
that of the picture drawn so far, and the landmarks of both as soft dots. What it changes is pasted back softly.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock, conv, join, pixel_centres, upsample, zero_conv
from .config import SHAPES, Shape
from .places import EDGE
from .places import EYES_SQUARE as EYES_SQUARE
from .places import MOUTH_SQUARE as MOUTH_SQUARE
from .places import SQUARES as SQUARES
from .places import Square as Square

CORNERS = ((36, 39), (42, 45))
"""Corners of the two eyes: they do not move when the eyes shut."""
_UNIT = 1.7 / 96  # a pixel of the eyes' square in the head's frame
FACE_SQUARE = Square(-48 * _UNIT, -24 * _UNIT, 48 * _UNIT, 88 * _UNIT, 96, 112, (), 0.0)
"""Both squares of the light network: the eyes' and, right below, a mouth's with pixels of the same size, which are cut
out and pasted as one."""
LIGHT_SQUARES = (
    MOUTH_SQUARE._replace(left=-40 * _UNIT, top=24 * _UNIT, right=40 * _UNIT, bottom=88 * _UNIT), EYES_SQUARE
)  # fmt: skip


class HeadFrame(NamedTuple):
    """Where heads are in their pictures, in -1..1: ``middle`` [B, 2] between the eyes, ``turn`` [B, 2, 2] from the
    head's frame to the picture's, the eyes' distance in it."""

    middle: Tensor
    turn: Tensor


def head_frame(marks: Tensor) -> HeadFrame:
    """The head's frame, from the corners of the eyes of landmarks [B, 70, 2]."""
    # Picked one by one: indexing with a list copies it to the GPU in every step and waits for the copy.
    one, other = ((marks[:, a].float() + marks[:, b].float()) / 2 for a, b in CORNERS)
    x, y = (other - one).unbind(-1)
    # Eyes less than 10 pixels apart are not taken for a face.
    small = (x.square() + y.square()) < 0.08**2
    x, y = x.masked_fill(small, 0.08), y.masked_fill(small, 0.0)
    return HeadFrame((one + other) / 2, torch.stack((torch.stack((x, -y), -1), torch.stack((y, x), -1)), 1))


def in_head(marks: Tensor, frame: HeadFrame) -> Tensor:
    """Landmarks [B, 70, 2] of pictures in the head's frame."""
    scale = frame.turn.square().sum((1, 2), keepdim=True) / 2  # the inverse of a turn is its transpose over this
    return (marks - frame.middle[:, None]) @ (frame.turn / scale)


def cut_square(picture: Tensor, frame: HeadFrame, square: Square) -> Tensor:
    """The square [B, C, height, width] out of pictures [B, C, 256, 256]."""
    with torch.autocast(picture.device.type, enabled=False):
        place = points(square, square.width, square.height, picture.device) @ frame.turn[:, None].transpose(-1, -2)
        grid = place + frame.middle[:, None, None]
        return F.grid_sample(picture.float(), grid, padding_mode="border", align_corners=False)


def paste_square(change: Tensor, frame: HeadFrame, square: Square, size: int) -> Tensor:
    """A square's change [B, 3, height, width] at its place in a picture [B, 3, size, size] that is 0 elsewhere."""
    return _paste(change.float() * fade(square, change.device), frame, square, size)


def _paste(faded: Tensor, frame: HeadFrame, square: Square, size: int) -> Tensor:
    with torch.autocast(faded.device.type, enabled=False):
        line = pixel_centres(size, size, faded.device)[0, :, 0]
        # From a place in the picture to one in the square, -1..1 in it: a matrix and a shift.
        scale = frame.turn.square().sum((1, 2), keepdim=True) / 2  # the inverse is the transpose over this
        # Plain factors: a constant tensor would have to go to the device.
        turn = frame.turn.transpose(-1, -2) / scale
        right, left, bottom, top = square.right, square.left, square.bottom, square.top
        back = torch.stack((turn[:, 0] * (2 / (right - left)), turn[:, 1] * (2 / (bottom - top))), 1)
        moved = (back @ frame.middle[..., None])[..., 0]
        # The grid is the sum of what depends on the row and what depends on the column.
        across, down = (back[:, None, :, i] * line[:, None] for i in (0, 1))
        x = across[:, None, :, 0] + (down[:, :, None, 0] - moved[:, 0, None, None] - (right + left) / (right - left))
        y = across[:, None, :, 1] + (down[:, :, None, 1] - moved[:, 1, None, None] - (bottom + top) / (bottom - top))
        return F.grid_sample(faded, torch.stack((x, y), -1), padding_mode="zeros", align_corners=False)


def dots(marks: Tensor, frame: HeadFrame, square: Square) -> Tensor:
    """Landmarks as soft dots in a square at half its resolution, [B, planes, height / 2, width / 2]."""
    with torch.autocast(marks.device.type, enabled=False):
        head = in_head(marks.float(), frame)
        places = points(square, square.width // 2, square.height // 2, marks.device)
        across, down = places[0, :, 0], places[:, 0, 1]
        reach = 2 * square.pen**2
        planes = []
        for members in square.planes:
            of = torch.stack([head[:, member] for member in members], 1)
            # Not below exp(-30): what is smaller would be denormal soon, and processors compute with that slowly.
            x = torch.exp(-((across - of[..., :1]).square() / reach).clamp(max=30))
            y = torch.exp(-((down - of[..., 1:]).square() / reach).clamp(max=30))
            planes.append(y.transpose(-1, -2) @ x)
        return torch.stack(planes, 1).clamp(max=1.5)


@lru_cache(maxsize=16)
def points(square: Square, width: int, height: int, device: torch.device) -> Tensor:
    """Pixel centres of a square in the head's frame, [height, width, 2]."""
    with torch.inference_mode(False):
        x, y = pixel_centres(width, height, device).unbind(-1)
        across = (square.left + square.right + x * (square.right - square.left)) / 2
        down = (square.top + square.bottom + y * (square.bottom - square.top)) / 2
        return torch.stack((across, down), -1)


@lru_cache(maxsize=16)
def fade(square: Square, device: torch.device) -> Tensor:
    """1 in a square's middle and 0 at its edges, [height, width]."""
    lines = []
    with torch.inference_mode(False):
        for count in (square.height, square.width):
            place = (torch.arange(count, device=device, dtype=torch.float32) + 0.5) / count
            rise = ((torch.minimum(place, 1 - place) - 0.5 / count) / EDGE).clamp(0, 1)
            lines.append(rise * rise * (3 - 2 * rise))
        return lines[0][:, None] * lines[1]


class CloseUp(nn.Module):
    """One of the squares: a U-Net at a half, a quarter and an eighth of its resolution."""

    def __init__(self, square: Square, widths: tuple[int, int, int], blocks: int) -> None:
        super().__init__()
        self.square = square
        a, b, c = widths
        planes = 2 * len(square.planes)
        self.stem = conv(24 + planes, a)
        self.down4 = conv(a, b, 2)
        self.block4 = ResBlock(b)
        self.down8 = conv(b, c, 2)
        self.blocks8 = nn.ModuleList(ResBlock(c) for _ in range(blocks))
        self.up4 = conv(c, b, kernel=1)
        self.after4 = ResBlock(b)
        self.flow = zero_conv(b, 2)
        self.up2 = conv(b, a, kernel=1)
        self.merge2 = conv(a + 12, a)
        self.after2 = ResBlock(a)
        self.paint = zero_conv(a, 16)

    def forward(self, key: Tensor, key_dots: Tensor, drawn: Tensor, now_dots: Tensor) -> Tensor:
        """What to add to the drawn square [B, 3, height, width]; ``key`` is the keyframe's, as large."""
        fine = self.stem(join(F.pixel_unshuffle(key - 0.5, 2), F.pixel_unshuffle(drawn - 0.5, 2), key_dots, now_dots))
        x4 = self.block4(self.down4(F.silu(fine)))
        x = self.down8(F.silu(x4))
        for block in self.blocks8:
            x = block(x)
        x4 = self.after4(x4 + upsample(self.up4(x)))
        flow = upsample(0.1 * self.flow(F.silu(x4)).float(), 4)
        moved = self._move(key, flow)
        x = fine + upsample(self.up2(x4))
        x = self.after2(self.merge2(join(F.silu(x), F.pixel_unshuffle(moved - drawn, 2))))
        paint = F.pixel_shuffle(self.paint(F.silu(x)), 2).float()
        return torch.sigmoid(paint[:, 3:] - 2) * (moved - drawn) + paint[:, :3]

    def _move(self, key: Tensor, flow: Tensor) -> Tensor:
        grid = pixel_centres(key.shape[-1], key.shape[-2], key.device) + flow.permute(0, 2, 3, 1)
        return F.grid_sample(key.float(), grid, padding_mode="border", align_corners=False)


class CloseUps(nn.Module):
    """All squares. `prepare` looks at the keyframe, once; `forward` at every picture."""

    def __init__(self, shape: Shape = SHAPES["standard"]) -> None:
        super().__init__()
        self.light = shape.light
        self.squares = LIGHT_SQUARES if shape.light else SQUARES
        self.parts = nn.ModuleList(CloseUp(square, shape.closeups, shape.closeup_blocks) for square in self.squares)

    def prepare(self, picture: Tensor, marks: Tensor) -> tuple[Tensor, ...]:
        """The keyframe's squares and dots, for ``forward``."""
        frame = head_frame(marks)
        out: list[Tensor] = []
        for square in self.squares:
            out += [cut_square(picture, frame, square), dots(marks, frame, square)]
        return tuple(out)

    def forward(self, picture: Tensor, marks: Tensor, prepared: tuple[Tensor, ...], face: Tensor) -> Tensor:
        """The picture [B, 3, 256, 256] with the squares drawn anew; ``face`` [B], 0 where there is no face to draw."""
        frame = head_frame(marks)
        out = picture.float()
        drawn = self.cut(picture, frame)
        changes = []
        for i, part in enumerate(self.parts):
            change = part(prepared[2 * i], prepared[2 * i + 1], drawn[i], dots(marks, frame, self.squares[i]))
            change = change * face[:, None, None, None]
            changes.append(change.float() * fade(self.squares[i], change.device))
        for square, patch in self.patches(changes):
            out = out + _paste(patch, frame, square, picture.shape[-1])
        return out

    def cut(self, picture: Tensor, frame: HeadFrame) -> list[Tensor]:
        """The squares of a picture."""
        if not self.light:
            return [cut_square(picture, frame, square) for square in self.squares]
        both = cut_square(picture, frame, FACE_SQUARE)
        eyes = self.squares[1].height
        return [both[:, :, eyes:, 8:-8].contiguous(), both[:, :, :eyes].contiguous()]

    def patches(self, changes: list[Tensor]) -> list[tuple[Square, Tensor]]:
        """What is pasted of the squares' changes, faded out at their edges."""
        if not self.light:
            return list(zip(self.squares, changes, strict=True))
        mouth, eyes = changes
        return [(FACE_SQUARE, torch.cat((eyes, F.pad(mouth, (8, 8))), 2))]
