"""The network of `tfcodec.model` as ncnn layers: the same arithmetic, rearranged so that less of it is done per frame.

* What of a convolution depends on the keyframe alone is computed once a keyframe and added.
* Convolutions of the same size whose results are added are one.
* Pictures are 0.5 lower than in `tfcodec.model`: sampled at its edge and reduced to means, a picture stays so.
* What is sampled at the same places shares a grid.

Everything is in one net of ncnn, whose parts are computed as they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import WeightsError
from ..model.config import NetworkConfig
from .builder import Array, Blob, Builder

FLOW_UNIT = 0.1
"""As in `tfcodec.model.stage1`."""
SQUARES = ("mouth", "eyes")
SQUARE_SHAPES = ((64, 80), (48, 96))
DOTS = (3, 4)
"""Planes of dots of each square; with its shape as in `tfcodec.model.closeup`."""
LOOKS = {"coarse": (64, 64), "face": (96, 96), "mouth": (48, 64), "eye": (40, 48)}
"""Shapes of what the tracker looks at, as in `tfcodec.model.tracker`."""
KNOWN = {
    "audio": False, "keyframe": True, "window": True, "consistency": True, "projection": True, "stage2": True,
    "landmarks": True, "motion": True, "closeups": True, "recurrence": False, "second_reference": False,
    "restoration": True,
}  # fmt: skip
"""The options of networks that this runtime draws with; of any shape."""


def check(config: NetworkConfig, title: str) -> None:
    """Raises WeightsError for a network of another kind."""
    other = [name for name, wanted in KNOWN.items() if getattr(config, name) != wanted]
    if other:
        raise WeightsError(
            f"network {title} is of another kind than runtime=\"ncnn\" draws with ({', '.join(other)}): "
            'use runtime="torch"'
        )


def build(state: Mapping[str, Array]) -> Builder:
    """All parts of the network whose weights these are."""
    b = Builder(state)
    b.once = True
    _tracker(b)
    _keyframe(b)
    _key_squares(b)
    b.once = False
    _close_ups(b, _stage2(b, *_stage1(b)))
    return b


def _tracker(b: Builder) -> None:
    picture = b.input("look.picture", 3, 256, 256)
    for name, (height, width) in LOOKS.items():
        if name == "coarse":
            patch = b.box(picture, 64)
        else:
            patch = b.sample(picture, b.input(f"look.{name}.grid", 2, height, width))
        at = f"tracker.{name}"
        x = b.block(b.conv(b.unshuffle(patch), f"{at}.stem"), f"{at}.fine")
        middle = b.block(b.conv(b.silu(x), f"{at}.down4", 2), f"{at}.middle")
        deep = b.block(b.conv(b.silu(middle), f"{at}.down8", 2), f"{at}.deep")
        seen = b.silu(deep)
        b.name(seen, f"look.{name}.seen")
        b.name(b.silu(b.conv(seen, f"{at}.narrow")), f"look.{name}.narrow")
        x = b.block(b.plus(b.up(b.conv(deep, f"{at}.up"), 2), middle), f"{at}.merge")
        b.name(b.conv(b.silu(x), f"{at}.heat"), f"look.{name}.heat")


def _keyframe(b: Builder) -> None:
    picture = b.input("look.picture", 3, 256, 256)
    x = b.block(b.conv(b.unshuffle(picture), "restorer.stem"), "restorer.before")
    low = b.block(b.conv(x, "restorer.down64", 2), "restorer.block64")
    x = b.blocks(b.plus(x, b.up(b.conv(low, "restorer.up128"), 2)), "restorer.after")
    picture = b.plus(picture, b.shuffle(b.conv(b.silu(x), "restorer.paint")))
    b.name(picture, "made.picture")
    small = b.box(picture, 64)
    b.name(small, "made.small")
    b.name(small, "made.small.plain")
    x = b.block(b.conv(b.unshuffle(picture), "keyframe.stem"), "keyframe.block128")
    b.name(x, "made.f128")
    for size in (64, 32, 16, 8):
        x = b.block(b.conv(x, f"keyframe.down{size}", 2), f"keyframe.block{size}")
        if size in (8, 16):  # its share of the convolution that would see it unmoved
            weight, bias = b.of(f"stage1.merge{size}")
            b.name(b.conv_of([(x, weight[:, -x.channels :] if size == 8 else _of_f16(weight, x))], bias), f"made.k{size}")
        if size != 8:
            b.name(x, f"made.f{size}")


def _of_f16(weight: Array, f16: Blob) -> Array:
    return weight[:, -3 - f16.channels : -3]


def _key_squares(b: Builder) -> None:
    picture = b.input("picture", 3, 256, 256)
    for i, (name, (height, width)) in enumerate(zip(SQUARES, SQUARE_SHAPES, strict=True)):
        square = b.sample(picture, b.input(f"{name}.grid", 2, height, width))
        b.name(square, f"made.{name}")
        dots = b.input(f"{name}.dots", DOTS[i], height // 2, width // 2)
        weight, bias = b.of(f"closeups.parts.{i}.stem")
        parts = [(b.unshuffle(square), weight[:, :12]), (dots, weight[:, 24 : 24 + DOTS[i]])]
        b.name(b.conv_of(parts, bias), f"made.{name}.stem")


def _stage1(b: Builder) -> tuple[Blob, ...]:
    """Features, moved features of the keyframe, coarse picture, its change, flow, grid."""
    w8, w16 = (b.state[f"stage1.merge{size}.weight"].shape[0] for size in (8, 16))
    w32, w64 = (b.state[f"stage1.merge{size}.weight"].shape[0] for size in (32, 64))
    unit = np.float32(1 / FLOW_UNIT)
    now = b.input("now", 3, 8, 8)
    told = b.input("told", 6, 64, 64)  # motion in units of the flow, cover, the tiny frame enlarged
    small = b.input("small", 3, 64, 64)
    drawn = b.input("drawn", 6, 64, 64)  # change of the mouth's shape in units of the flow, drawing

    def error(picture: Blob) -> Blob:
        return b.times(b.minus(now, b.box(picture, 8)), 4.0)

    x = b.conv(b.input("tiny", 21, 8, 8), "stage1.tiny_in")
    weight, _ = b.of("stage1.merge8")
    x = b.plus(b.conv_of([(b.silu(x), weight[:, :w8])], None), b.input("k8", w8, 8, 8))
    x = b.up(b.conv(b.blocks(x, "stage1.trunk8"), "stage1.up16"), 2)

    weight, _ = b.of("stage1.merge16")
    hint, extra = b.of("stage1.hint16")
    told16 = b.box(told, 16)
    near = b.input("error16", 3, 16, 16)  # the tiny frame's difference from the keyframe's, enlarged
    parts = [(x, weight[:, :w16]), (told16, _beside(hint, np.zeros_like(hint))), (near, weight[:, -3:])]
    x = b.plus(_merged(b, parts, extra, 1), b.input("k16", w16, 16, 16))
    x = b.blocks(x, "stage1.trunk16")
    flow = b.conv(b.silu(x), "stage1.flow16", scale=FLOW_UNIT)

    moved = b.sample(small, b.grid(flow, 64))
    f16 = b.sample(b.input("f16", w16, 16, 16), b.grid(flow, 16))
    weight, bias = b.of("stage1.refine16")
    rest = b.join([b.up(error(moved), 2), b.plus(b.box(moved, 16), 0.5)])
    x = _merged(b, [(x, weight[:, :w16]), (f16, weight[:, w16 : 2 * w16]), (rest, weight[:, 2 * w16 :])], bias)
    x = b.block(x, "stage1.trunk16b")
    flow = b.plus(flow, b.conv(b.silu(x), "stage1.flow16b", scale=FLOW_UNIT))

    moved = b.sample(small, b.grid(flow, 64))
    wrong = error(moved)
    flow = b.up(flow, 2)
    f32 = b.sample(b.input("f32", w32, 32, 32), b.grid(flow, 32))
    x = b.up(b.conv(x, "stage1.up32"), 2)
    weight, bias = b.of("stage1.merge32")
    hint, extra = b.of("stage1.hint32")
    cut = 2 * w32
    parts = [
        (x, weight[:, :w32]), (f32, weight[:, w32:cut]), (b.up(wrong, 4), weight[:, cut : cut + 3]),
        (b.box(moved, 32), weight[:, cut + 3 : cut + 6]), (b.box(told, 32), _beside(hint, weight[:, cut + 6 :])),
        (flow, -unit * hint[:, :2].astype(np.float32)),
    ]  # fmt: skip
    x = b.blocks(b.block(_merged(b, parts, bias + extra), "stage1.trunk32"), "stage1.more32")
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
        (b.up(error(moved), 8), weight[:, cut : cut + 3]), (moved, weight[:, cut + 3 : cut + 6]),
        (told, _beside(hint[:, :3], weight[:, cut + 6 :])), (flow, -unit * hint[:, :2].astype(np.float32)),
        (b.sample(drawn, grid), hint[:, 3:]),
    ]  # fmt: skip
    x = b.blocks(b.block(_merged(b, parts, bias + extra), "stage1.trunk64"), "stage1.more64")
    seen = b.silu(x)
    paint, change = b.split(_heads(b, seen), 3)
    change, _ = b.split(change, 2)
    flow = b.plus(flow, change)
    shape = b.sample(b.input("shape", 2, 64, 64), b.grid(flow, 64))
    flow = b.plus(flow, b.times(shape, float(b.state["stage1.trust"])))
    grid = b.grid(flow, 64)
    coarse = b.plus(b.sample(small, grid), paint)
    b.name(coarse, "coarse")
    return x, b.sample(f64, grid), coarse, paint, flow, b.sample(drawn, grid), error(coarse)


def _heads(b: Builder, x: Blob) -> Blob:
    """Stage 1's last change of the picture and of the flow, and zeros up to 8 channels."""
    weight, bias = b.of("stage1.paint64")
    more, extra = b.of("stage1.flow64")
    weights = np.zeros((8, *weight.shape[1:]), np.float32)
    weights[:3], weights[3:5] = weight, np.float32(FLOW_UNIT) * more.astype(np.float32)
    return b.conv_of([(x, weights)], np.concatenate((bias, np.float32(FLOW_UNIT) * extra, np.zeros(3, np.float32))))


def _stage2(
    b: Builder, x: Blob, f64: Blob, coarse: Blob, paint: Blob, flow: Blob, drawn: Blob, wrong: Blob
) -> Blob:  # fmt: skip
    """The picture before its close-ups."""
    w64, w128 = (b.state[f"stage2.merge{size}.weight"].shape[0] for size in (64, 128))
    told = b.input("told", 6, 64, 64)
    weight, bias = b.of("stage2.merge64")
    hint, extra = b.of("stage2.hint64")
    cut = 2 * w64
    parts = [
        (x, weight[:, :w64]), (f64, weight[:, w64:cut]), (coarse, weight[:, cut : cut + 3]),
        (paint, weight[:, cut + 3 : cut + 6]), (b.up(wrong, 8), weight[:, cut + 6 :]),
        (told, _beside(hint[:, :3], np.zeros_like(hint[:, :3]))),
        (flow, np.float32(-1 / FLOW_UNIT) * hint[:, :2].astype(np.float32)), (drawn, hint[:, 3:]),
    ]  # fmt: skip
    x = b.blocks(b.block(_merged(b, parts, bias + extra), "stage2.block64"), "stage2.more64")
    flow = b.plus(flow, b.conv(b.silu(x), "stage2.flow", scale=FLOW_UNIT))

    pixels = b.sample(b.input("picture", 3, 256, 256), b.grid(flow, 256))
    f128 = b.sample(b.input("f128", w128, 128, 128), b.grid(flow, 128))
    x = b.up(b.conv(x, "stage2.up128"), 2)
    weight, bias = b.of("stage2.merge128")
    cut = 2 * w128
    parts = [(x, weight[:, :w128]), (f128, weight[:, w128:cut]), (b.unshuffle(pixels), weight[:, cut:])]
    x = b.blocks(b.block(_merged(b, parts, bias), "stage2.block128"), "stage2.more128")
    paint, blend = b.split(b.shuffle(b.conv(b.silu(x), "stage2.paint", shift=-4.0)), 3)
    picture = _blended(b, pixels, b.up(coarse, 4), blend, paint)
    share = 1 / (1 + np.exp(-np.float64(b.state["stage2.projection"])))
    lacking = b.times(b.minus(b.input("now", 3, 8, 8), b.box(picture, 8)), float(share))
    picture = b.plus(picture, b.up(lacking, 32, bicubic=True))
    b.name(picture, "frame")
    return picture


def _close_ups(b: Builder, picture: Blob) -> None:
    for i, (name, (height, width)) in enumerate(zip(SQUARES, SQUARE_SHAPES, strict=True)):
        at = f"closeups.parts.{i}"
        drawn = b.sample(picture, b.input(f"{name}.place", 2, height, width))
        dots = b.input(f"{name}.now", DOTS[i], height // 2, width // 2)
        weight, _ = b.of(f"{at}.stem")
        parts = [(b.unshuffle(drawn), weight[:, 12:24]), (dots, weight[:, 24 + DOTS[i] :])]
        fine = b.conv_of(parts, None)
        fine = b.plus(fine, b.input(f"{name}.stem", *fine[1:]))
        x4 = b.block(b.conv(b.silu(fine), f"{at}.down4", 2), f"{at}.block4")
        x = b.blocks(b.conv(b.silu(x4), f"{at}.down8", 2), f"{at}.blocks8")
        x4 = b.block(b.plus(x4, b.up(b.conv(x, f"{at}.up4"), 2)), f"{at}.after4")
        flow = b.up(b.conv(b.silu(x4), f"{at}.flow", scale=0.1), 4)
        grid = b.plus(flow, b.input(f"grid{height}x{width}", 2, height, width))
        moved = b.sample(b.input(name, 3, height, width), grid)
        change = b.minus(moved, drawn)
        x = b.plus(fine, b.up(b.conv(x4, f"{at}.up2"), 2))
        weight, bias = b.of(f"{at}.merge2")
        cut = x.channels
        x = _merged(b, [(b.silu(x), weight[:, :cut]), (b.unshuffle(change), weight[:, cut:])], bias, 1)
        x = b.block(x, f"{at}.after2")
        paint, blend = b.split(b.shuffle(b.conv(b.silu(x), f"{at}.paint", shift=-2.0)), 3)
        drawn = b.plus(b.times(b.sigmoid(blend), change), paint)
        drawn = b.times(b.input(f"{name}.fade", 1, height, width), drawn)
        b.name(drawn, f"made.{name}.change")
    square = b.input("square", 3, 64, 64)
    # What is pasted is 0 outside its square; of any shape.
    pasted = b.add("GridSample", [square, b.input("paste", 2, 64, 64)], (3, 64, 64), "0=1", "1=1", "2=0", "3=1")
    b.name(pasted, "pasted")


def _blended(b: Builder, one: Blob, other: Blob, blend: Blob, paint: Blob) -> Blob:
    return b.plus(b.plus(one, b.times(b.sigmoid(blend), b.minus(other, one))), paint)


def _beside(*weights: Array) -> Array:
    return np.concatenate([np.asarray(x, np.float32) for x in weights], 1)


def _merged(b: Builder, parts: list[tuple[Blob, Array | None]], bias: Array, whole: int = 2) -> Blob:
    """A convolution of blobs side by side, of which the first ``whole`` have many channels.

    ncnn keeps 16, 8, 4 or 1 channels together, as their number allows, and joins blobs as the least of them has it: so
    the small ones are joined first, and filled up to what the large ones have.
    """
    large, small = parts[:whole], parts[whole:]
    together = next(n for n in (16, 8, 4, 1) if all(blob.channels % n == 0 for blob, _ in large))
    blobs = [blob for blob, _ in small]
    weights = [np.asarray(weight, np.float32) for _, weight in small if weight is not None]
    if lacking := -sum(blob.channels for blob in blobs) % together:
        blobs.append(b.zeros(lacking, blobs[0]))
        weights.append(np.zeros((weights[0].shape[0], lacking, *weights[0].shape[2:]), np.float32))
    return b.conv_of([*large, (b.join(blobs), np.concatenate(weights, 1))], bias)
