"""The frame's part of the network in bfloat16, rearranged so that less of it is done per frame.

The same arithmetic as `stage1`, `stage2` and `closeup` in another order, like `tfcodec.runtime`'s: what a convolution
makes of the keyframe alone is computed once a keyframe; convolutions whose results are added are one; a close-up is
pasted into the pixels that it covers. Pictures are 0.5 lower here. Feature maps and weights are bfloat16; flows, places
and pictures stay float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import refine_chroma
from .closeup import HeadFrame, dots, fade, head_frame, points
from .config import SHAPES, NetworkConfig
from .inputs import WINDOW
from .landmarks import LandmarkPrior, mouth_change
from .packed import CPU, Packed, centres, enlarged, laid, means, moved, rise, rows_of, sample, scripted, twice
from .places import COUNT, FLOW_UNIT, PEN, SQUARES, Square
from .stage1 import KeyframeFeatures
from .upsampler import Upsampler

_WANTED = {
    "audio": False, "keyframe": True, "window": True, "consistency": True, "projection": True, "stage2": True,
    "landmarks": True, "motion": True, "closeups": True, "recurrence": False, "second_reference": False,
}  # fmt: skip
_UNIT = 1 / FLOW_UNIT


def can_draw(config: NetworkConfig) -> bool:
    """Whether this draws such networks; of any width and depth, but not light."""
    return not SHAPES[config.shape].light and all(getattr(config, k) == v for k, v in _WANTED.items())


class FastKey(NamedTuple):
    """A keyframe's share: planar pictures [1, 3, S, S], rows of feature maps (`packed.rows_of`), feature maps."""

    picture: Tensor
    small: Tensor
    tiny: Tensor  # box means [1, 3, 8, 8] in 0..1
    rows128: Tensor
    rows64: Tensor
    rows32: Tensor
    rows16: Tensor
    seen16: Tensor
    seen8: Tensor
    marks: Tensor  # [1, 70, 2]
    face: Tensor  # [1]
    mouth: Tensor
    mouth_stem: Tensor
    eyes: Tensor
    eyes_stem: Tensor


class _Weights:
    """The network's weights by name, as convolutions."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: value.detach().float() for name, value in model.state_dict().items()}

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def conv(self, name: str, size: int | tuple[int, int], stride: int = 1, scale: float = 1.0) -> Packed:
        weight, bias = self.of(name)
        return Packed(scale * weight, scale * bias, _square(size), stride)

    def beside(self, size: int | tuple[int, int], bias: Tensor | None, *weights: Tensor) -> Packed:
        """A convolution of maps side by side."""
        return Packed(torch.cat(weights, 1), bias, _square(size))

    def blocks(self, name: str, size: int | tuple[int, int]) -> list[str]:
        found: list[str] = []
        while f"{name}.{len(found)}.conv1.weight" in self.state:
            found.append(f"{name}.{len(found)}")
        return found


def _square(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class _Blocks(nn.Module):
    """`blocks.ResBlock`s, one after another."""

    def __init__(self, w: _Weights, size: int | tuple[int, int], *names: str) -> None:
        super().__init__()
        self.first = nn.ModuleList(w.conv(f"{name}.conv1", size) for name in names)
        self.second = nn.ModuleList(w.conv(f"{name}.conv2", size) for name in names)

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.first, self.second, strict=True):
            assert isinstance(second, Packed)
            x = second.onto(first(F.silu(x), "swish"), x)
        return x


class _CloseUp(nn.Module):
    """`closeup.CloseUp`."""

    def __init__(self, w: _Weights, at: str, square: Square) -> None:
        super().__init__()
        self.square = square
        half, quarter, eighth = ((square.height // n, square.width // n) for n in (2, 4, 8))
        planes = len(square.planes)
        weight, bias = w.of(f"{at}.stem")
        self.of_key = w.beside(half, bias, weight[:, :12], weight[:, 24 : 24 + planes])
        self.stem = w.beside(half, None, weight[:, 12:24], weight[:, 24 + planes :])
        self.down4, self.down8 = w.conv(f"{at}.down4", half, 2), w.conv(f"{at}.down8", quarter, 2)
        self.block4, self.after4 = (_Blocks(w, quarter, f"{at}.{name}") for name in ("block4", "after4"))
        self.blocks8 = _Blocks(w, eighth, *w.blocks(f"{at}.blocks8", eighth))
        self.up4, self.up2 = w.conv(f"{at}.up4", eighth), w.conv(f"{at}.up2", quarter)
        self.flow = w.conv(f"{at}.flow", quarter, scale=0.1)
        self.merge2 = w.conv(f"{at}.merge2", half)
        self.after2 = _Blocks(w, half, f"{at}.after2")
        self.paint = w.conv(f"{at}.paint", half)

    def key(self, picture: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """The keyframe's square, and its share of the stem."""
        frame = head_frame(marks)
        square = self._cut(picture, frame)
        stem: Tensor = self.of_key(laid(F.pixel_unshuffle(square, 2), dots(marks, frame, self.square)))
        return square, stem

    def forward(self, picture: Tensor, marks: Tensor, frame: HeadFrame, key: Tensor, stem: Tensor) -> Tensor:
        """What to add to the square, faded out at its edges."""
        drawn = self._cut(picture, frame)
        fine = self.stem(laid(F.pixel_unshuffle(drawn, 2), dots(marks, frame, self.square))) + stem
        x4 = self.block4(self.down4(F.silu(fine)))
        x = self.blocks8(self.down8(F.silu(x4)))
        x4 = self.after4(x4 + twice(self.up4(x)))
        flow = enlarged(self.flow(F.silu(x4)).float(), 4)
        key = key.expand(flow.shape[0], -1, -1, -1)
        change = sample(key, centres(self.square.height, self.square.width) + flow) - drawn
        x = fine + twice(self.up2(x4))
        x = self.after2(self.merge2(torch.cat((F.silu(x), laid(F.pixel_unshuffle(change, 2))), 1)))
        paint = F.pixel_shuffle(self.paint(F.silu(x)).float(), 2)
        return (torch.sigmoid(paint[:, 3:] - 2) * change + paint[:, :3]) * fade(self.square, CPU)

    def _cut(self, picture: Tensor, frame: HeadFrame) -> Tensor:
        places = points(self.square, self.square.width, self.square.height, CPU) @ frame.turn[:, None].transpose(-1, -2)
        picture = picture.expand(places.shape[0], -1, -1, -1)
        return sample(picture, (places + frame.middle[:, None, None]).permute(0, 3, 1, 2))


class FastFrames(nn.Module):
    """Draws frames of one keyframe. Raises ValueError for networks of another kind (see `can_draw`)."""

    def __init__(self, model: Upsampler) -> None:
        super().__init__()
        if not can_draw(model.config) or model.stage1.prior is None:
            raise ValueError("a network of another kind")
        w = _Weights(model)
        self.widths = SHAPES[model.config.shape].widths
        self.prior: LandmarkPrior = model.stage1.prior
        self.share = float(w.state["stage2.projection"].sigmoid())
        self.trust = float(w.state["stage1.trust"])
        self._stage1(w)
        self._stage2(w)
        self.mouth, self.eyes = (_CloseUp(w, f"closeups.parts.{i}", of) for i, of in enumerate(SQUARES))

    def _stage1(self, w: _Weights) -> None:
        at = "stage1"
        self.tiny_in = w.conv(f"{at}.tiny_in", 8)
        weight, bias = w.of(f"{at}.merge8")
        wide = len(weight)
        self.merge8, self.seen8 = w.beside(8, None, weight[:, :wide]), w.beside(8, bias, weight[:, wide:])
        self.trunk8, self.up16 = _Blocks(w, 8, *w.blocks(f"{at}.trunk8", 8)), w.conv(f"{at}.up16", 8)

        (weight, bias), (hint, extra) = w.of(f"{at}.merge16"), w.of(f"{at}.hint16")
        wide = len(weight)
        self.merge16 = w.beside(16, None, weight[:, :wide], hint, weight[:, -3:])
        self.seen16 = w.beside(16, bias + extra, weight[:, wide:-3])
        self.trunk16, self.flow16 = _Blocks(w, 16, *w.blocks(f"{at}.trunk16", 16)), w.conv(f"{at}.flow16", 16)
        self.refine16, self.trunk16b = w.conv(f"{at}.refine16", 16), _Blocks(w, 16, f"{at}.trunk16b")
        self.flow16b, self.up32 = w.conv(f"{at}.flow16b", 16), w.conv(f"{at}.up32", 16)

        (weight, bias), (hint, extra) = w.of(f"{at}.merge32"), w.of(f"{at}.hint32")
        self.merge32 = w.beside(32, bias + extra, weight, hint, -hint[:, :2])
        self.trunk32 = _Blocks(w, 32, f"{at}.trunk32", *w.blocks(f"{at}.more32", 32))
        self.flow32, self.up64 = w.conv(f"{at}.flow32", 32), w.conv(f"{at}.up64", 32)

        (weight, bias), (hint, extra) = w.of(f"{at}.merge64"), w.of(f"{at}.hint64")
        self.merge64 = w.beside(64, bias + extra, weight, hint[:, :3], -hint[:, :2], hint[:, 3:])
        self.trunk64 = _Blocks(w, 64, f"{at}.trunk64", *w.blocks(f"{at}.more64", 64))
        (paint, bias), (flow, extra) = w.of(f"{at}.paint64"), w.of(f"{at}.flow64")
        self.heads64 = Packed(torch.cat((paint, flow)), torch.cat((bias, extra)), (64, 64))

    def _stage2(self, w: _Weights) -> None:
        at = "stage2"
        (weight, bias), (hint, extra) = w.of(f"{at}.merge64"), w.of(f"{at}.hint64")
        self.again64 = w.beside(64, bias + extra, weight, hint[:, :3], -hint[:, :2], hint[:, 3:])
        self.block64 = _Blocks(w, 64, f"{at}.block64", *w.blocks(f"{at}.more64", 64))
        self.flow, self.up128 = w.conv(f"{at}.flow", 64), w.conv(f"{at}.up128", 64)
        weight, bias = w.of(f"{at}.merge128")
        wide = 2 * len(weight)
        self.merge128 = w.beside(128, bias, weight[:, :wide])
        # Of squares of 2x2 pixels as channels: the same of the pixels, with a kernel and a step twice as wide.
        wider = F.pixel_shuffle(weight[:, wide:], 2)
        self.pixels128 = Packed(wider, None, (256, 256), 2)
        self.block128 = _Blocks(w, 128, f"{at}.block128", *w.blocks(f"{at}.more128", 128))
        self.paint = w.conv(f"{at}.paint", 128)

    def key(self, key: KeyframeFeatures) -> FastKey:
        """A keyframe's share, of its features in float32."""
        assert key.marks is not None
        assert key.face is not None
        picture, small = (x.contiguous() - 0.5 for x in (key.picture, key.small))
        mouth, eyes = (part.key(picture, key.marks) for part in (self.mouth, self.eyes))
        rows128, rows64, rows32, rows16 = (rows_of(x) for x in (key.f128, key.f64, key.f32, key.f16))
        return FastKey(
            picture, small, means(key.small.contiguous(), 8), rows128, rows64, rows32, rows16,
            self.seen16(laid(key.f16)), self.seen8(laid(key.f8)), key.marks, key.face, *mouth, *eyes,
        )  # fmt: skip

    def blank(self) -> FastKey:
        """A keyframe's share with nothing in it."""
        sides = {256: 3} | self.widths
        whole = {n: torch.zeros(1, wide, n, n, dtype=torch.float32, device=CPU) for n, wide in sides.items()}
        marks = torch.linspace(-0.5, 0.5, COUNT, dtype=torch.float32, device=CPU)[None, :, None].expand(1, COUNT, 2)
        face = torch.ones(1, dtype=torch.float32, device=CPU)
        return self.key(KeyframeFeatures(
            whole[256], whole[64][:, :3], whole[128], whole[64], whole[32], whole[16], whole[8], marks, face
        ))  # fmt: skip

    def forward(self, key: FastKey, tiny: Tensor, marks: Tensor, lines: tuple[Tensor, ...] | None) -> Tensor:
        """Pictures [N, 256, 256, 3] uint8, or without ``lines`` stage 1's [N, 64, 64, 3].

        Args:
            tiny: windows [N, 5, 3, 8, 8] in 0..1.
            marks: landmarks [N, 70, 2] of the frames.
            lines: see `paste_lines`.
        """
        count = tiny.shape[0]
        tiny = refine_chroma(tiny, key.tiny)
        now = tiny[:, WINDOW // 2] - 0.5
        key8 = key.tiny - 0.5
        told, drawn, shape = self._hints(key.marks, marks)
        told = torch.cat((told, enlarged(now, 8)), 1)
        change = 4 * (now - key8)
        small = key.small.expand(count, -1, -1, -1)

        x = self.tiny_in(laid((tiny - 0.5).flatten(1, 2), key8.expand(count, -1, -1, -1), change), "swish")
        x = twice(self.up16(self.trunk8(self.merge8(x) + key.seen8)))
        x = self.merge16(torch.cat((x, laid(means(told[:, :3], 16), enlarged(change, 2))), 1)) + key.seen16
        x = self.trunk16(x)
        flow = FLOW_UNIT * self.flow16(F.silu(x)).float()

        there = sample(small, centres(64, 64) + enlarged(flow, 4))
        rest = laid(enlarged(4 * (now - means(there, 8)), 2), means(there, 16) + 0.5)
        x = self.trunk16b(self.refine16(torch.cat((x, moved(key.rows16, flow), rest), 1)))
        flow = flow + FLOW_UNIT * self.flow16b(F.silu(x)).float()

        there = sample(small, centres(64, 64) + enlarged(flow, 4))
        flow = enlarged(flow, 2)
        told32 = means(told, 32)
        rest = laid(
            enlarged(4 * (now - means(there, 8)), 4), means(there, 32), told32[:, 3:], told32[:, :3], _UNIT * flow
        )
        x = self.trunk32(self.merge32(torch.cat((twice(self.up32(x)), moved(key.rows32, flow), rest), 1)))
        flow = enlarged(flow + FLOW_UNIT * self.flow32(F.silu(x)).float(), 2)

        planes = torch.cat((small, drawn), 1)
        there = sample(planes, centres(64, 64) + flow)
        error = enlarged(4 * (now - means(there[:, :3], 8)), 8)
        rest = laid(error, there[:, :3], told[:, 3:], told[:, :3], _UNIT * flow, there[:, 3:])
        x = self.trunk64(self.merge64(torch.cat((twice(self.up64(x)), moved(key.rows64, flow), rest), 1)))
        heads = self.heads64(F.silu(x)).float()
        paint = heads[:, :3].contiguous()
        flow = flow + FLOW_UNIT * heads[:, 3:]
        flow = flow + self.trust * sample(shape, centres(64, 64) + flow)
        there = sample(planes, centres(64, 64) + flow)
        coarse = there[:, :3] + paint
        if lines is None:
            return _bytes(coarse)

        error = enlarged(4 * (now - means(coarse, 8)), 8)
        rest = laid(coarse, paint, error, told[:, :3], _UNIT * flow, there[:, 3:])
        x = self.block64(self.again64(torch.cat((x, moved(key.rows64, flow), rest), 1)))
        flow = flow + FLOW_UNIT * self.flow(F.silu(x)).float()

        drawn = sample(key.picture.expand(count, -1, -1, -1), centres(256, 256) + enlarged(flow, 4))
        x = torch.cat((twice(self.up128(x)), moved(key.rows128, enlarged(flow, 2))), 1)
        x = self.block128(self.pixels128.onto(laid(drawn), self.merge128(x)))
        paint = F.pixel_shuffle(self.paint(F.silu(x)).contiguous().float(), 2)
        blend = torch.sigmoid(paint[:, 3:] - 4)
        picture = torch.addcmul(drawn, blend, enlarged(coarse, 4) - drawn).add_(paint[:, :3])
        lacking = self.share * (now - means(picture, 8))
        line = rise(8, 256, "bicubic")
        picture = picture.add_(line @ lacking @ line.T)
        return _bytes(self._close(key, picture, marks, lines))

    def _close(self, key: FastKey, picture: Tensor, marks: Tensor, lines: tuple[Tensor, ...]) -> Tensor:
        """The picture with its close-ups."""
        frame = head_frame(marks)
        mouth = self.mouth(picture, marks, frame, key.mouth, key.mouth_stem) * key.face
        eyes = self.eyes(picture, marks, frame, key.eyes, key.eyes_stem) * key.face
        for change, square, line in ((mouth, self.mouth.square, lines[:3]), (eyes, self.eyes.square, lines[3:])):
            picture = _add_at(picture, _pasted(change, frame, square, line[0], line[1]), line[2])
        return picture

    def _hints(self, key: Tensor, marks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`LandmarkPrior.draw`: motion and cover, shape and drawing in the flow's unit; the shape alone."""
        moving = marks - key
        change = mouth_change(key.expand_as(moving), moving)
        shaped = key + change
        both = torch.cat((marks, shaped))
        reach = self.prior.reach
        across, down = _bumps(both, reach)
        rows = (down * self.prior.say[:, None]).transpose(-1, -2)  # [2 N, 64, 70]
        values = -torch.cat((moving, change)).transpose(-1, -2)  # [2 N, 2, 70]
        cover = (rows @ across)[:, None]
        spread = (rows[:, None] * values[:, :, None]) @ across[:, None] / (cover + 0.02)
        motion, shape = spread.chunk(2)
        cover = cover[: marks.shape[0]]
        across, down = _bumps(shaped, torch.full_like(reach, PEN / 128))
        drawing = (down.transpose(-1, -2)[:, None] * self.prior.members[:, None]) @ across[:, None]
        told = torch.cat((_UNIT * motion, cover / (cover + 0.2)), 1)
        return told, torch.cat((_UNIT * shape, drawing.clamp(max=1)), 1), shape


def _bumps(points: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """`landmarks._bumps`."""
    line = centres(64, 64)[0, 0]
    scale = (-0.5 / reach.square())[:, None, None]
    # Not below exp(-30): what is smaller would be denormal soon, and processors compute with that slowly.
    bumps = ((line - points[..., None]).square_() * scale).clamp_(min=-30).exp_()
    return bumps[:, :, 0], bumps[:, :, 1]


@lru_cache(maxsize=8)
def _constant(values: tuple[float, ...]) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=CPU)


def _back(frame: HeadFrame, square: Square) -> tuple[Tensor, Tensor]:
    """From places in the picture to places in the square, -1..1 in it: matrices [N, 2, 2] and shifts [N, 2]."""
    scale = frame.turn.square().sum((1, 2), keepdim=True) / 2  # the inverse is the transpose over this
    width, height = square.right - square.left, square.bottom - square.top
    turn = frame.turn.transpose(-1, -2) / scale
    back = torch.stack((turn[:, 0] * (2 / width), turn[:, 1] * (2 / height)), 1)
    shift = (back @ frame.middle[..., None])[..., 0]
    middle = (square.right + square.left) / width, (square.bottom + square.top) / height
    return back, shift + _constant(middle)


def _pasted(change: Tensor, frame: HeadFrame, square: Square, rows: Tensor, columns: Tensor) -> Tensor:
    """A square's change in the pixels of the picture whose rows and columns lie there, in -1..1."""
    back, shift = _back(frame, square)
    across = back[:, :, 0, None] * columns
    down = back[:, :, 1, None] * rows - shift[..., None]
    return sample(change, across[:, :, None] + down[..., None], "zeros")


@scripted
def _add_at(picture: Tensor, change: Tensor, at: Tensor) -> Tensor:
    # A recording would keep the place of the example.
    row, column = int(at[0]), int(at[1])
    picture[:, :, row : row + change.size(2), column : column + change.size(3)].add_(change)
    return picture


def paste_lines(marks: Tensor) -> tuple[Tensor, ...]:
    """Where the close-ups of frames with landmarks [N, 70, 2] go: for each square the rows and columns of the pictures
    that hold it, in -1..1, and the first of either, [2] int64."""
    frame = head_frame(marks)
    line = centres(256, 256)[0, 0]
    out: list[Tensor] = []
    for square in SQUARES:
        # Beyond an edge a pixel still mixes with what is inside.
        x, y = (
            torch.tensor([low - (high - low) / n, high + (high - low) / n], dtype=torch.float32, device=CPU)
            for low, high, n in (
                (square.left, square.right, square.width), (square.top, square.bottom, square.height),
            )
        )  # fmt: skip
        corners = torch.cartesian_prod(x, y) @ frame.turn.transpose(-1, -2) + frame.middle[:, None]
        places = ((corners + 1) * 128).flatten(0, 1)
        low = places.amin(0).floor().clamp(0, 255).long()
        high = places.amax(0).ceil().clamp(0, 255).long() + 1
        (left, top), (right, bottom) = low.tolist(), torch.maximum(high, low + 1).tolist()
        out += [line[top:bottom], line[left:right], torch.tensor([top, left], dtype=torch.int64, device=CPU)]
    return tuple(out)


def _bytes(picture: Tensor) -> Tensor:
    """Pictures [N, 3, S, S] in -0.5..0.5 -> [N, S, S, 3] uint8."""
    whole = picture.mul(255).add_(127.5).clamp_(0, 255).round_().to(torch.uint8)
    out = torch.empty_like(whole, memory_format=torch.channels_last)
    out.copy_(whole)
    return out.permute(0, 2, 3, 1)
