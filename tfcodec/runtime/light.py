"""The light network's stages (`tfcodec.model.light`) and its keyframe's features as ncnn layers."""

from __future__ import annotations

import numpy as np

from ..model.places import FLOW_UNIT
from .builder import Blob, Builder, beside
from .tail import finish, wrong

_UNIT = np.float32(1 / FLOW_UNIT)


def features(b: Builder, picture: Blob) -> None:
    """What a keyframe's picture, restored, is to the stages."""
    x = b.block(b.conv(b.unshuffle(picture), "keyframe.stem"), "keyframe.block128")
    b.name(b.conv(x, "keyframe.side128"), "made.f128")
    x = b.block(b.conv(x, "keyframe.down64", 2), "keyframe.block64")
    b.name(b.conv(x, "keyframe.side64"), "made.f64")
    x = b.block(b.conv(x, "keyframe.down32", 2), "keyframe.block32")
    b.name(b.conv(x, "keyframe.side32"), "made.f32")
    x = b.conv(b.silu(x), "keyframe.side16", 2)
    b.name(x, "made.f16")
    b.name(b.conv(b.silu(x), "keyframe.side8", 2), "made.f8")
    b.name(b.box(picture, 32), "made.small32")


def draw(b: Builder) -> Blob:
    """Both stages: the picture before its close-ups."""
    told, drawn = b.input("told", 6, 64, 64), b.input("drawn", 6, 64, 64)
    small = b.input("small", 3, 64, 64)

    x = b.conv(b.silu(b.conv(b.input("tiny", 21, 8, 8), "stage1.tiny_in")), "stage1.merge8")
    x = b.blocks(b.plus(x, b.input("f8", *x[1:])), "stage1.trunk8")

    x = b.up(b.conv(x, "stage1.up16"), 2)
    x = b.plus(x, b.input("f16", *x[1:]))
    weight, bias = b.of("stage1.see16")
    seen = b.join([b.input("error16", 3, 16, 16), b.box(told, 16)])
    x = b.plus(x, b.conv_of([(seen, beside(weight, np.zeros_like(weight[:, :3])))], bias))
    x = b.blocks(x, "stage1.trunk16")
    flow = b.up(b.conv(b.silu(x), "stage1.flow16", scale=FLOW_UNIT), 2)

    grid = b.grid(flow, 32)
    moved = b.sample(b.input("small32", 3, 32, 32), grid)
    x = b.up(b.conv(x, "stage1.up32"), 2)
    x = b.plus(x, b.sample(b.input("f32", *x[1:]), grid))
    x = b.blocks(b.plus(x, _see(b, moved, b.box(told, 32), flow)), "stage1.trunk32")
    flow = b.up(b.plus(flow, b.conv(b.silu(x), "stage1.flow32", scale=FLOW_UNIT)), 2)

    grid = b.grid(flow, 64)
    moved, shown = b.sample(small, grid), b.sample(drawn, grid)
    x = b.up(b.conv(x, "stage1.up64"), 2)
    x = b.plus(x, b.sample(b.input("f64", *x[1:]), grid))
    x = b.blocks(b.plus(x, _see(b, moved, told, flow, shown)), "stage1.trunk64")
    y = b.silu(x)
    shape, _ = b.split(shown, 2)
    flow = b.plus(flow, b.conv(y, "stage1.flow64", scale=FLOW_UNIT))
    flow = b.plus(flow, b.times(shape, FLOW_UNIT * float(b.state["stage1.trust"])))
    coarse = b.plus(b.sample(small, b.grid(flow, 64)), b.conv(y, "stage1.paint64"))
    b.name(coarse, "coarse")

    pixels = b.sample(b.input("picture", 3, 256, 256), b.grid(flow, 256))
    x = b.up(b.conv(x, "stage2.up128"), 2)
    x = b.plus(x, b.sample(b.input("f128", *x[1:]), b.grid(flow, 128)))
    return finish(b, b.block(x, "stage2.block128"), pixels, coarse)


def _see(b: Builder, moved: Blob, told: Blob, flow: Blob, shown: Blob | None = None) -> Blob:
    """What is seen at 32 or 64 pixels: the error, the moved picture, the tiny frame, the hints less the flow."""
    weight, bias = b.of(f"stage1.see{moved.height}")
    parts = [
        (b.up(wrong(b, moved), moved.height // 8), weight[:, :3]), (moved, weight[:, 3:6]),
        (told, beside(weight[:, 9:12], weight[:, 6:9])), (flow, -_UNIT * weight[:, 9:11].astype(np.float32)),
    ]  # fmt: skip
    if shown is not None:
        parts.append((shown, weight[:, 12:]))
    return b.conv_of(parts, bias)
