"""The networks that ship, drawing on a CPU: their arithmetic rearranged, so that less is done per frame.

* What of a convolution depends on the keyframe alone is computed once a keyframe, and added.
* Convolutions of the same maps whose results are added are one; of maps side by side, what each gives is added where it
  is written, and nothing is copied together.
* Weights lie as oneDNN wants them, maps channels-last, pictures channels-first.
* Pictures are 0.5 lower than elsewhere: sampled at the edge and reduced to means, a picture stays so.
* Close-ups are pasted into the pixels that they cover.
* Where the processor multiplies matrices of bfloat16 (AMX), convolutions take their inputs and weights in bfloat16 and
  sum in float32; what runs past them from block to block, flows and pictures stay float32. With `fast` feature maps are
  bfloat16 throughout.

`graph` records it. It draws what `upsampler.Upsampler` draws in float32: to 90 dB without bfloat16, to 60 with products
in it, to 54 with `fast`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import box_down, field, refine_chroma
from .closeup import CloseUp, dots, fade, head_frame
from .config import SHAPES, NetworkConfig
from .inputs import REACH
from .laid_out import (
    EXACT,
    FAST,
    PRODUCTS,
    Coarse,
    Convolution,
    Features,
    Paint,
    Precision,
    Prepared,
    Sum,
    bias_of,
    blocks,
    heads,
    hinting,
    of_layer,
    run,
    scripts,
    wrong,
)
from .landmarks import Hints
from .light import LightStage1, LightStage2
from .moving import (
    Rise,
    beside,
    doubled,
    means,
    moved,
    places,
    planar,
    rows_of,
    sampled,
    spread,
)
from .places import FLOW_UNIT
from .rearranged_light import LightOne, LightTwo
from .stage1 import KeyframeFeatures, Stage1
from .stage2 import Stage2
from .upsampler import Upsampler


def fits(model: Upsampler) -> bool:
    """Whether it is such a network, and torch has what this needs."""
    config, known = model.config, NetworkConfig(shape=model.config.shape, restoration=model.config.restoration)
    return next(model.parameters()).device.type == "cpu" and config == known and scripts() is not None


def has_products() -> bool:
    """Whether this processor multiplies matrices of bfloat16: several times as fast as of float32."""
    return bool(torch.cpu._is_amx_tile_supported())


def precision(model: Upsampler, fast: bool) -> Precision:
    """In which to draw with a network."""
    # The light network computes little where bfloat16 would save time and nothing is placed by what it gives.
    if fast and not SHAPES[model.config.shape].light:
        return FAST
    return PRODUCTS if fast or has_products() else EXACT


class Drawing(nn.Module):
    """A network's frames from `Prepared` keyframes; with ``coarse`` stage 1 alone. See `fits`."""

    def __init__(self, model: Upsampler, precision: Precision, *, coarse: bool) -> None:
        super().__init__()
        s, two = model.stage1, model.stage2
        assert s.prior is not None
        assert two is not None
        assert model.closeups is not None
        self.prior, self.squares = s.prior, model.closeups
        self.one = LightOne(s, precision) if isinstance(s, LightStage1) else _Stage1(s, precision)
        self.two: LightTwo | _Stage2 | None = None
        parts: list[CloseUp] = []
        if not coarse:
            self.two = LightTwo(two, precision) if isinstance(two, LightStage2) else _Stage2(two, precision)
            parts = [part for part in model.closeups.parts if isinstance(part, CloseUp)]
        self.closeups = nn.ModuleList(_CloseUp(part, precision) for part in parts)

    def prepare(self, key: KeyframeFeatures) -> Prepared:
        """Once a keyframe."""
        assert key.marks is not None
        assert key.face is not None
        mouth, mouth_dots, eyes, eyes_dots = key.squares()
        picture, small = (x.contiguous() - 0.5 for x in (key.picture, key.small))
        mouth, eyes = mouth.contiguous() - 0.5, eyes.contiguous() - 0.5
        stems = [mouth, eyes]
        if len(self.closeups):
            seen = (mouth, mouth_dots), (eyes, eyes_dots)
            stems = [closeup.stem(*its) for closeup, its in zip(self._closeups(), seen, strict=True)]
        return Prepared(
            picture, small, box_down(key.small, 8), *self.one.features(key), key.marks, key.face, mouth, stems[0], eyes,
            stems[1],
        )  # fmt: skip

    def forward(self, tiny: Tensor, marks: Tensor, displacement: Tensor, *prepared: Tensor) -> Tensor:
        """Pictures [N, 256, 256, 3] uint8 of tiny frames [N, 5, 3, 8, 8], landmarks [N, 70, 2] and displacements
        [N, 12] in pixels; of one keyframe, whose `Prepared` fields come last."""
        key = Prepared(*prepared)
        tiny = refine_chroma(tiny, key.key8)
        now = tiny[:, REACH] - 0.5
        coarse = self.one(key, tiny, now, self.prior.draw(key.marks, marks - key.marks), field(displacement))
        if self.two is None:
            return _pixels(coarse.picture)
        picture = self.two(key, now, coarse)
        frame = head_frame(marks)
        changes = []
        seen = (key.mouth, key.mouth_stem), (key.eyes, key.eyes_stem)
        cut = self.squares.cut(picture, frame)
        for closeup, drawn, (square, stem) in zip(self._closeups(), cut, seen, strict=True):
            changes.append(closeup(square, stem, drawn, dots(marks, frame, closeup.square)) * key.face)
        for s, patch in self.squares.patches(changes):
            run().paste(picture, patch, frame.middle, frame.turn, s.left, s.top, s.right, s.bottom)
        return _pixels(picture)

    def _closeups(self) -> list[_CloseUp]:
        return [part for part in self.closeups if isinstance(part, _CloseUp)]


class _Stage1(nn.Module):
    def __init__(self, s: Stage1, p: Precision) -> None:
        super().__init__()
        maps, products = p
        w = {n: getattr(s, f"merge{n}").weight.shape[0] for n in (8, 16, 32, 64)}
        self.tiny = of_layer(s.tiny_in, 8, maps)
        merge, a = s.merge8.weight, w[8]
        self.key8 = Convolution(merge[:, a:], s.merge8.bias, (8, 8), maps)
        self.merge8 = Convolution(merge[:, :a], None, (8, 8), maps)
        self.trunk8 = blocks(s.trunk8, 8, products)
        self.up16 = of_layer(s.up16, 8, maps)

        merge, a, hint = s.merge16.weight, w[16], s.hint16.weight.detach().clone()
        hint[:, :2] /= FLOW_UNIT
        self.key16 = Convolution(merge[:, a : 2 * a], bias_of(s.merge16, s.hint16), (16, 16), maps)
        self.merge16 = Sum((merge[:, :a], torch.cat((hint, merge[:, 2 * a :]), 1)), None, 16, maps, maps)
        self.trunk16 = blocks(s.trunk16, 16, products)
        self.flow16 = of_layer(s.flow16, 16, maps, scale=FLOW_UNIT)
        self.refine16 = Sum(_split(s.refine16.weight), s.refine16.bias, 16, products, maps)
        self.trunk16b = blocks([s.trunk16b], 16, products)
        self.flow16b = of_layer(s.flow16b, 16, maps, scale=FLOW_UNIT)

        self.up32, self.up64 = of_layer(s.up32, 16, maps), of_layer(s.up64, 32, maps)
        hint = s.hint32.weight.detach().clone()
        hint[:, :2] /= FLOW_UNIT
        self.merge32 = Sum(_split(s.merge32.weight, hint), bias_of(s.merge32, s.hint32), 32, products, maps)
        self.trunk32 = blocks([s.trunk32, *s.more32], 32, products)
        self.flow32 = of_layer(s.flow32, 32, maps, scale=FLOW_UNIT)

        hint = hinting(s.hint64)
        self.merge64 = Sum(_split(s.merge64.weight, hint), bias_of(s.merge64, s.hint64), 64, products, maps)
        self.trunk64 = blocks([s.trunk64, *s.more64], 64, products)
        self.heads = heads(s.paint64, s.flow64, maps)
        self.trust = float(s.trust)
        sizes = (8, 16), (8, 32), (8, 64), (16, 32), (16, 64), (32, 64)
        self.rise = {(n, m): Rise.of(n, n, m // n) for n, m in sizes}

    def features(self, key: KeyframeFeatures) -> Features:
        """Features of the keyframe for `Prepared`; at 16 and 8 pixels, where they are seen unmoved, their shares of
        the convolutions."""
        f128, f64, f32, f16 = (rows_of(x, self.tiny.dtype) for x in (key.f128, key.f64, key.f32, key.f16))
        return f128, f64, f32, f16, self.key16(key.f16), self.key8(key.f8)

    def forward(self, key: Prepared, tiny: Tensor, now: Tensor, hints: Hints, displaced: Tensor) -> Coarse:
        count = tiny.shape[0]
        motion, cover, shape, drawing = hints[:4]
        key8, small = (x.expand(count, -1, -1, -1) for x in (key.key8 - 0.5, key.small))
        error = 4 * (now - key8)
        x = self.tiny(beside(tiny.flatten(1, 2) - 0.5, key8, error), "swish")
        x = self.trunk8(self.merge8.onto(spread(key.part8, count), x))

        said = box_down(beside(motion, cover), 16)
        x = self.merge16(doubled(self.up16(x)), beside(said, self.rise[8, 16](error)), onto=spread(key.part16, count))
        x = self.trunk16(x)
        flow = planar(self.flow16(F.silu(x)))

        there = sampled(small, places(self.rise[16, 64](flow)))
        rest = beside(self.rise[8, 16](wrong(now, there)), box_down(there, 16) + 0.5)
        x = self.trunk16b(self.refine16(x, moved(key.f16, flow), rest))
        flow = flow + planar(self.flow16b(F.silu(x)))

        there = sampled(small, places(self.rise[16, 64](flow)))
        flow = self.rise[16, 32](flow)
        rest = beside(
            self.rise[8, 32](wrong(now, there)), box_down(there, 32), self.rise[8, 32](now),
            box_down(motion, 32) - flow, box_down(cover, 32),
        )  # fmt: skip
        x = self.trunk32(self.merge32(doubled(self.up32(x)), moved(key.f32, flow), rest))
        flow = self.rise[32, 64](flow + planar(self.flow32(F.silu(x))))

        drawn = beside(shape, drawing, small)
        grid = places(flow)
        mouth, there = torch.split(sampled(drawn, grid), [6, 3], 1)
        near = self.rise[8, 64](now)
        rest = beside(self.rise[8, 64](wrong(now, there)), there, near, motion - flow, cover, mouth)
        x = self.trunk64(self.merge64(doubled(self.up64(x)), moved(key.f64, flow), rest))
        paint, change = torch.split(planar(self.heads(F.silu(x))), [3, 2], 1)
        flow = flow + change
        flow = flow + self.trust * sampled(shape, places(flow)) + displaced
        mouth, there = torch.split(sampled(drawn, places(flow)), [6, 3], 1)
        return Coarse(x, there + paint, paint, flow, beside(motion - flow, cover, mouth))


class _Stage2(nn.Module):
    def __init__(self, s: Stage2, p: Precision) -> None:
        super().__init__()
        maps, products = p
        assert s.hint64 is not None
        assert s.projection is not None
        weights = _split(s.merge64.weight, hinting(s.hint64))
        self.merge64 = Sum(weights, bias_of(s.merge64, s.hint64), 64, products, maps)
        self.blocks64 = blocks([s.block64, *s.more64], 64, products)
        self.flow = of_layer(s.flow, 64, maps, scale=FLOW_UNIT)
        self.up128 = of_layer(s.up128, 64, maps)
        self.merge128 = Sum(_split(s.merge128.weight), s.merge128.bias, 128, products, maps)
        self.blocks128 = blocks([s.block128, *s.more128], 128, products)
        self.paint = Paint(s.paint, (128, 128), -4, maps)
        self.share = float(s.projection.sigmoid())
        self.rise = {n: Rise.of(64, 64, n // 64) for n in (128, 256)}
        self.near, self.smooth = Rise.of(8, 8, 8), Rise.of(8, 8, 32, "bicubic")

    def forward(self, key: Prepared, now: Tensor, c: Coarse) -> Tensor:
        rest = beside(c.picture, c.paint, self.near(wrong(now, c.picture)), c.told)
        x = self.blocks64(self.merge64(c.x, moved(key.f64, c.flow), rest))
        flow = c.flow + planar(self.flow(F.silu(x)))
        pixels = sampled(key.picture.expand(now.shape[0], -1, -1, -1), places(self.rise[256](flow)))
        there = moved(key.f128, self.rise[128](flow))
        x = self.blocks128(self.merge128(doubled(self.up128(x)), there, F.pixel_unshuffle(pixels, 2)))
        paint, blend = self.paint(F.silu(x, inplace=True))
        picture = torch.lerp(pixels, self.rise[256](c.picture), blend).add_(paint)
        return picture.add_(self.smooth(self.share * (now - means(picture, 8))))


def _split(merge: Tensor, *beside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights for the features drawn so far, for the keyframe's and, with others ``beside``, for the rest."""
    a = len(merge)
    return merge[:, :a], merge[:, a : 2 * a], torch.cat((merge[:, 2 * a :], *beside), 1)


class _CloseUp(nn.Module):
    def __init__(self, part: CloseUp, p: Precision) -> None:
        super().__init__()
        maps, products = p
        self.square = square = part.square
        size = square.height, square.width
        half, quarter, eighth = ((size[0] // n, size[1] // n) for n in (2, 4, 8))
        planes = len(square.planes)
        key, drawn, known, told = torch.split(part.stem.weight, [12, 12, planes, planes], 1)
        self.key_stem = Convolution(torch.cat((key, known), 1), part.stem.bias, half, maps)
        self.now_stem = Convolution(torch.cat((drawn, told), 1), None, half, maps)
        self.down4, self.down8 = of_layer(part.down4, half, maps, 2), of_layer(part.down8, quarter, maps, 2)
        self.block4, self.after4 = blocks([part.block4], quarter, products), blocks([part.after4], quarter, products)
        self.blocks8 = blocks(part.blocks8, eighth, products)
        self.up4, self.up2 = of_layer(part.up4, eighth, maps), of_layer(part.up2, quarter, maps)
        self.flow = of_layer(part.flow, quarter, maps, scale=0.1)
        merge, a = part.merge2.weight, len(part.merge2.weight)
        self.merge = Sum((merge[:, :a], merge[:, a:]), part.merge2.bias, half, products, maps)
        self.after2 = blocks([part.after2], half, products)
        self.paint = Paint(part.paint, half, -2, maps)
        self.rise = Rise.of(*quarter, 4)
        self.fade = fade(square, torch.device("cpu"))

    def stem(self, square: Tensor, dots: Tensor) -> Tensor:
        """The keyframe's share of the first convolution."""
        out: Tensor = self.key_stem(beside(F.pixel_unshuffle(square, 2), dots))
        return out

    def forward(self, key: Tensor, stem: Tensor, drawn: Tensor, dots: Tensor) -> Tensor:
        count = drawn.shape[0]
        fine = self.now_stem.onto(spread(stem, count), beside(F.pixel_unshuffle(drawn, 2), dots))
        x4 = self.block4(self.down4(F.silu(fine)))
        x = self.blocks8(self.down8(F.silu(x4)))
        x4 = self.after4(x4 + doubled(self.up4(x)))
        flow = self.rise(planar(self.flow(F.silu(x4))))
        change = sampled(key.expand(count, -1, -1, -1), places(flow)) - drawn
        x = fine.add_(doubled(self.up2(x4)))
        x = self.after2(self.merge(F.silu(x, inplace=True), F.pixel_unshuffle(change, 2)))
        paint, blend = self.paint(F.silu(x, inplace=True))
        return (blend * change + paint) * self.fade


def _pixels(picture: Tensor) -> Tensor:
    """A picture [1, 3, S, S] in -0.5..0.5, which is changed -> [1, S, S, 3] uint8."""
    pixels = picture.mul_(255).add_(128).clamp_(0, 255).to(torch.uint8)
    return torch.stack(pixels.unbind(1), -1)  # permuted and copied it takes twice as long
