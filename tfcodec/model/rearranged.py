"""The networks that ship, drawing on a CPU: their arithmetic rearranged, so that less is done per frame.

* What of a convolution depends on the keyframe alone is computed once a keyframe, and added.
* Convolutions of the same maps whose results are added are one; of maps side by side, what each gives is added where it
  is written, and nothing is copied together.
* Weights lie as oneDNN wants them, maps channels-last, pictures channels-first.
* Pictures are 0.5 lower than elsewhere: sampled at the edge and reduced to means, a picture stays so.
* Close-ups are pasted into the pixels that they cover.
* Where the processor multiplies matrices of bfloat16 (AMX), convolutions take their inputs and weights in bfloat16 and
  sum in float32; what runs past them from block to block, flows and pictures stay float32.

`graph` records it. It draws what `upsampler.Upsampler` draws in float32: to 90 dB without bfloat16, to 60 with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import box_down, refine_chroma
from .closeup import CloseUp, dots, fade, head_frame
from .config import NetworkConfig
from .inputs import REACH
from .laid_out import (
    Block,
    Coarse,
    Convolution,
    Maps,
    Paint,
    Part,
    Prepared,
    Rise,
    Sum,
    bias_of,
    doubled,
    hinting,
    joined,
    of_layer,
    places,
    run,
    sampled,
    scripts,
    spread,
    wrong,
)
from .light import LightStage1, LightStage2
from .packed import means
from .places import FLOW_UNIT
from .rearranged_light import LightOne, LightTwo
from .stage1 import KeyframeFeatures
from .upsampler import Upsampler

_LAST = torch.channels_last


def fits(model: Upsampler) -> bool:
    """Whether it is such a network, and torch has what this needs."""
    config, known = model.config, NetworkConfig(shape=model.config.shape)
    return next(model.parameters()).device.type == "cpu" and config == known and scripts() is not None


def has_products() -> bool:
    """Whether this processor multiplies matrices of bfloat16: several times as fast as of float32."""
    return bool(torch.cpu._is_amx_tile_supported())


class Drawing(nn.Module):
    """A network's frames from `Prepared` keyframes; with ``coarse`` stage 1 alone. See `fits`.

    ``low``: convolutions in bfloat16 (see above).
    """

    def __init__(self, model: Upsampler, *, coarse: bool, low: bool) -> None:
        super().__init__()
        assert model.stage2 is not None
        assert model.closeups is not None
        self.coarse = coarse
        self._prior = model.stage1.prior
        self._one = LightOne(model.stage1, low) if isinstance(model.stage1, LightStage1) else _Stage1(model.stage1, low)
        self._two: LightTwo | _Stage2 | None = None
        if not coarse:
            two = model.stage2
            self._two = LightTwo(two, low) if isinstance(two, LightStage2) else _Stage2(two, low)
        self._squares = model.closeups
        parts = [part for part in model.closeups.parts if isinstance(part, CloseUp)]
        self._closeups = [] if coarse else [_CloseUp(part, low) for part in parts]
        made = [self._one, *([] if self._two is None else [self._two]), *self._closeups]
        self._convolutions = [convolution for part in made for convolution in part.convolutions()]

    def weights(self) -> list[Tensor]:
        """Arguments of `forward`: a graph cannot have them as constants, laid out as they are."""
        return [convolution.weight for convolution in self._convolutions]

    def prepare(self, key: KeyframeFeatures) -> Prepared:
        """Once a keyframe."""
        assert key.marks is not None
        assert key.face is not None
        mouth, mouth_dots, eyes, eyes_dots = key.squares()
        picture, small = (x.contiguous() - 0.5 for x in (key.picture, key.small))
        mouth, eyes = mouth.contiguous() - 0.5, eyes.contiguous() - 0.5
        stems = [mouth, eyes]
        if not self.coarse:
            seen = (mouth, mouth_dots), (eyes, eyes_dots)
            stems = [closeup.stem(*its) for closeup, its in zip(self._closeups, seen, strict=True)]
        return Prepared(
            picture, small, box_down(key.small, 8), *self._one.maps(key), key.marks, key.face, mouth, stems[0], eyes,
            stems[1],
        )  # fmt: skip

    def forward(self, tiny: Tensor, marks: Tensor, *rest: Tensor) -> Tensor:
        """Pictures [N, 256, 256, 3] uint8 of tiny frames [N, 5, 3, 8, 8] and landmarks [N, 70, 2]; of one keyframe.

        Other than light networks draw one at a time: N is 1.
        ``rest`` are the fields of `Prepared` and then the `weights`.
        """
        count = len(Prepared._fields)
        key = Prepared(*rest[:count])
        for convolution, weight in zip(self._convolutions, rest[count:], strict=True):
            convolution.weight = weight
        tiny = refine_chroma(tiny, key.key8)
        now = tiny[:, REACH] - 0.5
        assert self._prior is not None
        hints = self._prior.draw(key.marks, marks - key.marks)
        coarse = self._one(key, tiny, now, hints)
        if self._two is None:
            return _pixels(coarse.picture)
        picture = self._two(key, now, coarse)
        frame = head_frame(marks)
        changes = []
        seen = (key.mouth, key.mouth_stem), (key.eyes, key.eyes_stem)
        cut = self._squares.cut(picture, frame)
        for closeup, drawn, (square, stem) in zip(self._closeups, cut, seen, strict=True):
            changes.append(closeup(square, stem, drawn, dots(marks, frame, closeup.square)) * key.face)
        for s, patch in self._squares.patches(changes):
            run().paste(picture, patch, frame.middle, frame.turn, s.left, s.top, s.right, s.bottom)
        return _pixels(picture)


class _Stage1(Part):
    def __init__(self, s: nn.Module, low: bool) -> None:
        from .stage1 import Stage1

        assert isinstance(s, Stage1)
        w = {n: getattr(s, f"merge{n}").weight.shape[0] for n in (8, 16, 32, 64)}
        unit = 1 / FLOW_UNIT
        self._tiny = of_layer(s.tiny_in, 8)
        merge = s.merge8.weight
        self._key8 = Convolution(merge[:, w[8] :], s.merge8.bias, (8, 8))
        self._merge8 = Convolution(merge[:, : w[8]], None, (8, 8))
        self._trunk8 = [Block(b, (8, 8), low) for b in s.trunk8]
        self._up16 = of_layer(s.up16, 8)

        merge, a = s.merge16.weight, w[16]
        self._key16 = Convolution(merge[:, a : 2 * a], bias_of(s.merge16, s.hint16), (16, 16))
        self._merge16 = Convolution(merge[:, :a], None, (16, 16))
        hint = s.hint16.weight.clone()
        hint[:, :2] *= unit
        self._more16 = Convolution(torch.cat((hint, merge[:, 2 * a :]), 1), None, (16, 16))
        self._trunk16 = [Block(b, (16, 16), low) for b in s.trunk16]
        self._flow16 = of_layer(s.flow16, 16, scale=FLOW_UNIT)
        merge = s.refine16.weight
        self._refine = Sum((merge[:, :a], merge[:, a : 2 * a], merge[:, 2 * a :]), s.refine16.bias, (16, 16), low)
        self._trunk16b = Block(s.trunk16b, (16, 16), low)
        self._flow16b = of_layer(s.flow16b, 16, scale=FLOW_UNIT)

        self._up32, self._up64 = of_layer(s.up32, 16), of_layer(s.up64, 32)
        merge, a, hint = s.merge32.weight, w[32], s.hint32.weight.clone()
        hint[:, :2] *= unit
        self._merge32 = Sum(
            (merge[:, :a], merge[:, a : 2 * a], torch.cat((merge[:, 2 * a :], hint), 1)), bias_of(s.merge32, s.hint32),
            (32, 32), low,
        )  # fmt: skip
        self._trunk32 = [Block(b, (32, 32), low) for b in (s.trunk32, *s.more32)]
        self._flow32 = of_layer(s.flow32, 32, scale=FLOW_UNIT)

        merge, a, hint = s.merge64.weight, w[64], hinting(s.hint64)
        self._merge64 = Sum(
            (merge[:, :a], merge[:, a : 2 * a], torch.cat((merge[:, 2 * a :], hint), 1)), bias_of(s.merge64, s.hint64),
            (64, 64), low,
        )  # fmt: skip
        self._trunk64 = [Block(b, (64, 64), low) for b in (s.trunk64, *s.more64)]
        heads = torch.cat((s.paint64.weight, FLOW_UNIT * s.flow64.weight))
        assert s.paint64.bias is not None
        assert s.flow64.bias is not None
        self._heads = Convolution(heads, torch.cat((s.paint64.bias, FLOW_UNIT * s.flow64.bias)), (64, 64))
        self._trust = s.trust.detach()
        sizes = (8, 16), (8, 32), (8, 64), (16, 32), (16, 64), (32, 64)
        self._rise = {(n, m): Rise.of(n, n, m // n) for n, m in sizes}

    def maps(self, key: KeyframeFeatures) -> Maps:
        """Features of the keyframe for `Prepared`; at 16 and 8 pixels, where they are seen unmoved, their shares of
        the convolutions."""
        f128, f64, f32, f16, f8 = (x.float().contiguous(memory_format=_LAST) for x in key[2:7])
        return f128, f64, f32, f16, self._key16(f16), self._key8(f8)

    def __call__(self, key: Prepared, tiny: Tensor, now: Tensor, hints: NamedTuple) -> Coarse:
        motion, cover, shape, drawing = hints[:4]
        key8 = key.key8 - 0.5
        error = 4 * (now - key8)
        x = self._tiny(joined(tiny.flatten(1, 2) - 0.5, key8, error))
        x = self._merge8.onto(key.part8.clone(), F.silu(x, inplace=True))
        for block in self._trunk8:
            x = block(x)

        x = doubled(self._up16(x))
        x = self._merge16.onto(key.part16.clone(), x)
        said = torch.cat((motion, cover), 1)
        x = self._more16.onto(x, joined(box_down(said, 16), self._rise[8, 16](error)))
        for block in self._trunk16:
            x = block(x)
        flow = self._flow16(F.silu(x)).contiguous()

        moved = sampled(key.small, places(self._rise[16, 64](flow)))
        rest = joined(self._rise[8, 16](wrong(now, moved)), box_down(moved, 16) + 0.5)
        x = self._trunk16b(self._refine(x, sampled(key.f16, places(flow)), rest))
        flow = flow + self._flow16b(F.silu(x))

        moved = sampled(key.small, places(self._rise[16, 64](flow)))
        flow = self._rise[16, 32](flow)
        rest = joined(
            self._rise[8, 32](wrong(now, moved)), box_down(moved, 32), self._rise[8, 32](now),
            box_down(motion, 32) - flow, box_down(cover, 32),
        )  # fmt: skip
        x = self._merge32(doubled(self._up32(x)), sampled(key.f32, places(flow)), rest)
        for block in self._trunk32:
            x = block(x)
        flow = flow + self._flow32(F.silu(x))

        flow = self._rise[32, 64](flow)
        grid = places(flow)
        drawn = torch.cat((shape, drawing, key.small), 1).contiguous()
        mouth, moved = torch.split(sampled(drawn, grid), [6, 3], 1)
        near = self._rise[8, 64](now)
        rest = joined(self._rise[8, 64](wrong(now, moved)), moved, near, motion - flow, cover, mouth)
        x = self._merge64(doubled(self._up64(x)), sampled(key.f64, grid), rest)
        for block in self._trunk64:
            x = block(x)
        paint, change = torch.split(self._heads(F.silu(x)), [3, 2], 1)
        flow = flow + change
        flow = flow + self._trust * sampled(shape, places(flow))
        grid = places(flow)
        mouth, moved = torch.split(sampled(drawn, grid), [6, 3], 1)
        told = torch.cat((motion - flow, cover), 1)
        return Coarse(x, sampled(key.f64, grid), moved + paint, paint, flow, told, mouth)


class _Stage2(Part):
    def __init__(self, s: nn.Module, low: bool) -> None:
        from .stage2 import Stage2

        assert isinstance(s, Stage2)
        assert s.hint64 is not None
        assert s.projection is not None
        merge, hint = s.merge64.weight, hinting(s.hint64)
        a = merge.shape[0]
        rest = torch.cat((merge[:, 2 * a :], hint), 1)
        self._merge64 = Sum((merge[:, :a], merge[:, a : 2 * a], rest), bias_of(s.merge64, s.hint64), (64, 64), low)
        self._blocks64 = [Block(b, (64, 64), low) for b in (s.block64, *s.more64)]
        self._flow = of_layer(s.flow, 64, scale=FLOW_UNIT)
        self._up128 = of_layer(s.up128, 64)
        merge, big = s.merge128.weight, (128, 128)
        a = merge.shape[0]
        self._merge128 = Sum((merge[:, :a], merge[:, a : 2 * a], merge[:, 2 * a :]), s.merge128.bias, big, low)
        self._blocks128 = [Block(b, big, low) for b in (s.block128, *s.more128)]
        self._paint = Paint(s.paint, big, -4)
        self._share = torch.sigmoid(s.projection.detach())
        self._rise = {n: Rise.of(64, 64, n // 64) for n in (128, 256)}
        self._near, self._smooth = Rise.of(8, 8, 8), Rise.of(8, 8, 32, "bicubic")

    def __call__(self, key: Prepared, now: Tensor, c: Coarse) -> Tensor:
        rest = joined(c.picture, c.paint, self._near(wrong(now, c.picture)), c.told, c.drawn)
        x = self._merge64(c.x, c.f64, rest)
        for block in self._blocks64:
            x = block(x)
        flow = (c.flow + self._flow(F.silu(x))).contiguous()
        pixels = sampled(key.picture, places(self._rise[256](flow)))
        moved = sampled(key.f128, places(self._rise[128](flow)))
        fine = F.pixel_unshuffle(pixels, 2).contiguous(memory_format=_LAST)
        x = self._merge128(doubled(self._up128(x)), moved, fine)
        for block in self._blocks128:
            x = block(x)
        paint, blend = self._paint(F.silu(x, inplace=True))
        picture = torch.lerp(pixels, self._rise[256](c.picture), blend).add_(paint)
        return picture.add_(self._smooth(self._share * (now - means(picture, 8))))


class _CloseUp(Part):
    def __init__(self, part: CloseUp, low: bool) -> None:
        self.square = square = part.square
        self._size = size = square.height, square.width
        half, quarter, eighth = ((size[0] // n, size[1] // n) for n in (2, 4, 8))
        weight, planes = part.stem.weight, len(square.planes)
        key, drawn, known, told = torch.split(weight, [12, 12, planes, planes], 1)
        self._key_stem = Convolution(torch.cat((key, known), 1), part.stem.bias, half)
        self._stem = Convolution(torch.cat((drawn, told), 1), None, half)
        self._down4, self._down8 = of_layer(part.down4, half, 2), of_layer(part.down8, quarter, 2)
        self._block4, self._after4 = Block(part.block4, quarter, low), Block(part.after4, quarter, low)
        self._blocks8 = [Block(b, eighth, low) for b in part.blocks8]
        self._up4, self._up2 = of_layer(part.up4, eighth), of_layer(part.up2, quarter)
        self._flow = of_layer(part.flow, quarter, scale=0.1)
        merge = part.merge2.weight
        a = merge.shape[0]
        self._merge = Sum((merge[:, :a], merge[:, a:]), part.merge2.bias, half, low)
        self._after2 = Block(part.after2, half, low)
        self._paint = Paint(part.paint, half, -2)
        self._rise = Rise.of(*quarter, 4)
        self._fade = fade(square, torch.device("cpu"))

    def stem(self, square: Tensor, dots: Tensor) -> Tensor:
        return self._key_stem(joined(F.pixel_unshuffle(square, 2), dots))

    def __call__(self, key: Tensor, stem: Tensor, drawn: Tensor, dots: Tensor) -> Tensor:
        count = drawn.shape[0]
        fine = self._stem.onto(spread(stem, count), joined(F.pixel_unshuffle(drawn, 2), dots))
        x4 = self._block4(self._down4(F.silu(fine)))
        x = self._down8(F.silu(x4))
        for block in self._blocks8:
            x = block(x)
        x4 = self._after4(x4 + doubled(self._up4(x)))
        flow = self._rise(self._flow(F.silu(x4)))
        change = sampled(key.expand(count, -1, -1, -1), places(flow)) - drawn
        x = fine.add_(doubled(self._up2(x4)))
        fine = F.pixel_unshuffle(change, 2).contiguous(memory_format=_LAST)
        x = self._after2(self._merge(F.silu(x, inplace=True), fine))
        paint, blend = self._paint(F.silu(x, inplace=True))
        return (blend * change + paint) * self._fade


def _pixels(picture: Tensor) -> Tensor:
    """A picture [1, 3, S, S] in -0.5..0.5, which is changed -> [1, S, S, 3] uint8."""
    pixels = picture.mul_(255).add_(128).clamp_(0, 255).to(torch.uint8)
    return torch.stack(pixels.unbind(1), -1)  # permuted and copied it takes twice as long
