"""The network's stages (`tfcodec.model.stage1`, `stage2`) and its keyframe's features as ncnn layers."""

from __future__ import annotations

import numpy as np

from ..model.places import FLOW_UNIT
from .builder import Blob, Builder, beside

_UNIT = np.float32(1 / FLOW_UNIT)


def features(b: Builder, picture: Blob) -> None:
    """What a keyframe's picture, restored, is to the stages; a convolution's share of it where it is not moved."""
    x = b.block(b.conv(b.unshuffle(picture), "keyframe.stem"), "keyframe.block128")
    b.name(x, "made.f128")
    for size in (64, 32, 16, 8):
        x = b.block(b.conv(x, f"keyframe.down{size}", 2), f"keyframe.block{size}")
        if size in (8, 16):  # its share of the convolution that would see it unmoved
            weight, bias = b.of(f"stage1.merge{size}")
            seen = weight[:, -x.channels :] if size == 8 else weight[:, -3 - x.channels : -3]
            b.name(b.conv_of([(x, seen)], bias), f"made.k{size}")
        if size != 8:
            b.name(x, f"made.f{size}")


def stage1(b: Builder) -> tuple[Blob, ...]:
    """Features, moved features of the keyframe, coarse picture, its change, flow, grid."""
    w8, w16 = (b.state[f"stage1.merge{size}.weight"].shape[0] for size in (8, 16))
    w32, w64 = (b.state[f"stage1.merge{size}.weight"].shape[0] for size in (32, 64))
    told = b.input("told", 6, 64, 64)  # motion in units of the flow, cover, the tiny frame enlarged
    small = b.input("small", 3, 64, 64)
    drawn = b.input("drawn", 6, 64, 64)  # change of the mouth's shape in units of the flow, drawing

    x = b.conv(b.input("tiny", 21, 8, 8), "stage1.tiny_in")
    weight, _ = b.of("stage1.merge8")
    x = b.plus(b.conv_of([(b.silu(x), weight[:, :w8])], None), b.input("k8", w8, 8, 8))
    x = b.up(b.conv(b.blocks(x, "stage1.trunk8"), "stage1.up16"), 2)

    weight, _ = b.of("stage1.merge16")
    hint, extra = b.of("stage1.hint16")
    told16 = b.box(told, 16)
    near = b.input("error16", 3, 16, 16)  # the tiny frame's difference from the keyframe's, enlarged
    parts = [(x, weight[:, :w16]), (told16, beside(hint, np.zeros_like(hint))), (near, weight[:, -3:])]
    x = b.plus(b.merged(parts, extra, 1), b.input("k16", w16, 16, 16))
    x = b.blocks(x, "stage1.trunk16")
    flow = b.conv(b.silu(x), "stage1.flow16", scale=FLOW_UNIT)

    moved = b.sample(small, b.grid(flow, 64))
    f16 = b.sample(b.input("f16", w16, 16, 16), b.grid(flow, 16))
    weight, bias = b.of("stage1.refine16")
    rest = b.join([b.up(_wrong(b, moved), 2), b.plus(b.box(moved, 16), 0.5)])
    x = b.merged([(x, weight[:, :w16]), (f16, weight[:, w16 : 2 * w16]), (rest, weight[:, 2 * w16 :])], bias)
    x = b.block(x, "stage1.trunk16b")
    flow = b.plus(flow, b.conv(b.silu(x), "stage1.flow16b", scale=FLOW_UNIT))

    moved = b.sample(small, b.grid(flow, 64))
    error = _wrong(b, moved)
    flow = b.up(flow, 2)
    f32 = b.sample(b.input("f32", w32, 32, 32), b.grid(flow, 32))
    x = b.up(b.conv(x, "stage1.up32"), 2)
    weight, bias = b.of("stage1.merge32")
    hint, extra = b.of("stage1.hint32")
    cut = 2 * w32
    parts = [
        (x, weight[:, :w32]), (f32, weight[:, w32:cut]), (b.up(error, 4), weight[:, cut : cut + 3]),
        (b.box(moved, 32), weight[:, cut + 3 : cut + 6]), (b.box(told, 32), beside(hint, weight[:, cut + 6 :])),
        (flow, -_UNIT * hint[:, :2].astype(np.float32)),
    ]  # fmt: skip
    x = b.blocks(b.block(b.merged(parts, bias + extra), "stage1.trunk32"), "stage1.more32")
    flow = b.plus(flow, b.conv(b.silu(x), "stage1.flow32", scale=FLOW_UNIT))

    flow = b.up(flow, 2)
    grid = b.grid(flow, 64)
    moved = b.sample(small, grid)
    f64 = b.input("f64", w64, 64, 64)
    x = b.up(b.conv(x, "stage1.up64"), 2)
    weight, bias = b.of("stage1.merge64")
    hint, extra = b.of("stage1.hint64")
    cut = 2 * w64
    parts = [
        (x, weight[:, :w64]), (b.sample(f64, grid), weight[:, w64:cut]),
        (b.up(_wrong(b, moved), 8), weight[:, cut : cut + 3]), (moved, weight[:, cut + 3 : cut + 6]),
        (told, beside(hint[:, :3], weight[:, cut + 6 :])), (flow, -_UNIT * hint[:, :2].astype(np.float32)),
        (b.sample(drawn, grid), hint[:, 3:]),
    ]  # fmt: skip
    x = b.blocks(b.block(b.merged(parts, bias + extra), "stage1.trunk64"), "stage1.more64")
    seen = b.silu(x)
    paint, change = b.split(_heads(b, seen), 3)
    change, _ = b.split(change, 2)
    flow = b.plus(flow, change)
    shape = b.sample(b.input("shape", 2, 64, 64), b.grid(flow, 64))
    flow = b.plus(flow, b.times(shape, float(b.state["stage1.trust"])))
    flow = b.plus(flow, b.input("displaced", 2, 64, 64))
    grid = b.grid(flow, 64)
    coarse = b.plus(b.sample(small, grid), paint)
    b.name(coarse, "coarse")
    return x, b.sample(f64, grid), coarse, paint, flow, b.sample(drawn, grid), _wrong(b, coarse)


def _heads(b: Builder, x: Blob) -> Blob:
    """Stage 1's last change of the picture and of the flow, and zeros up to 8 channels."""
    weight, bias = b.of("stage1.paint64")
    more, extra = b.of("stage1.flow64")
    weights = np.zeros((8, *weight.shape[1:]), np.float32)
    weights[:3], weights[3:5] = weight, np.float32(FLOW_UNIT) * more.astype(np.float32)
    return b.conv_of([(x, weights)], np.concatenate((bias, np.float32(FLOW_UNIT) * extra, np.zeros(3, np.float32))))


def stage2(
    b: Builder, x: Blob, f64: Blob, coarse: Blob, paint: Blob, flow: Blob, drawn: Blob, error: Blob
) -> Blob:  # fmt: skip
    """The picture before its close-ups."""
    w64, w128 = (b.state[f"stage2.merge{size}.weight"].shape[0] for size in (64, 128))
    told = b.input("told", 6, 64, 64)
    weight, bias = b.of("stage2.merge64")
    hint, extra = b.of("stage2.hint64")
    cut = 2 * w64
    parts = [
        (x, weight[:, :w64]), (f64, weight[:, w64:cut]), (coarse, weight[:, cut : cut + 3]),
        (paint, weight[:, cut + 3 : cut + 6]), (b.up(error, 8), weight[:, cut + 6 :]),
        (told, beside(hint[:, :3], np.zeros_like(hint[:, :3]))),
        (flow, -_UNIT * hint[:, :2].astype(np.float32)), (drawn, hint[:, 3:]),
    ]  # fmt: skip
    x = b.blocks(b.block(b.merged(parts, bias + extra), "stage2.block64"), "stage2.more64")
    flow = b.plus(flow, b.conv(b.silu(x), "stage2.flow", scale=FLOW_UNIT))

    pixels = b.sample(b.input("picture", 3, 256, 256), b.grid(flow, 256))
    f128 = b.sample(b.input("f128", w128, 128, 128), b.grid(flow, 128))
    x = b.up(b.conv(x, "stage2.up128"), 2)
    weight, bias = b.of("stage2.merge128")
    cut = 2 * w128
    parts = [(x, weight[:, :w128]), (f128, weight[:, w128:cut]), (b.unshuffle(pixels), weight[:, cut:])]
    x = b.blocks(b.block(b.merged(parts, bias), "stage2.block128"), "stage2.more128")
    return _finish(b, x, pixels, coarse)


def _wrong(b: Builder, picture: Blob) -> Blob:
    """What a picture's box means lack of the tiny frame, four times."""
    return b.times(b.minus(b.input("now", 3, 8, 8), b.box(picture, 8)), 4.0)


def _finish(b: Builder, x: Blob, pixels: Blob, coarse: Blob) -> Blob:
    """The picture before its close-ups, of stage 2's features and the keyframe's pixels, moved."""
    paint, blend = b.split(b.shuffle(b.conv(b.silu(x), "stage2.paint", shift=-4.0)), 3)
    change = b.minus(b.up(coarse, 4), pixels)
    picture = b.plus(b.plus(pixels, b.times(b.sigmoid(blend), change)), paint)
    share = 1 / (1 + np.exp(-np.float64(b.state["stage2.projection"])))
    lacking = b.times(b.minus(b.input("now", 3, 8, 8), b.box(picture, 8)), float(share))
    picture = b.plus(picture, b.up(lacking, 32, bicubic=True))
    b.name(picture, "frame")
    return picture
