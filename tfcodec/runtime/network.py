"""The network of `tfcodec.model` as ncnn layers: the same arithmetic, rearranged so that less of it is done per frame.

* What of a convolution depends on the keyframe alone is computed once a keyframe and added.
* Convolutions of the same size whose results are added are one.
* Pictures are 0.5 lower than in `tfcodec.model`: sampled at its edge and reduced to means, a picture stays so.
* What is sampled at the same places shares a grid.

Everything is in one net of ncnn, whose parts are computed as they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import WeightsError
from ..model.config import SHAPES, NetworkConfig
from ..model.places import LOOKS
from .builder import Array, Blob, Builder
from .landmarks import SQUARES
from .stages import features, stage1, stage2

KNOWN = {
    "audio": False, "keyframe": True, "window": True, "consistency": True, "projection": True, "stage2": True,
    "landmarks": True, "motion": True, "closeups": True, "recurrence": False, "second_reference": False,
    "restoration": True,
}  # fmt: skip
"""The options of networks that this runtime draws with; of any width and depth, but not light."""


def check(config: NetworkConfig, title: str) -> None:
    """Raises WeightsError for a network of another kind."""
    other = [name for name, wanted in KNOWN.items() if getattr(config, name) != wanted]
    if SHAPES[config.shape].light:
        other.append("light")
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
    picture = _restored(b)
    features(b, picture)
    _key_squares(b)
    b.once = False
    _close_ups(b, stage2(b, *stage1(b)))
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


def _restored(b: Builder) -> Blob:
    picture = b.input("look.picture", 3, 256, 256)
    x = b.block(b.conv(b.unshuffle(picture), "restorer.stem"), "restorer.before")
    low = b.block(b.conv(x, "restorer.down64", 2), "restorer.block64")
    x = b.blocks(b.plus(x, b.up(b.conv(low, "restorer.up128"), 2)), "restorer.after")
    picture = b.plus(picture, b.shuffle(b.conv(b.silu(x), "restorer.paint")))
    b.name(picture, "made.picture")
    small = b.box(picture, 64)
    b.name(small, "made.small")
    b.name(small, "made.small.plain")
    return picture


def _key_squares(b: Builder) -> None:
    picture = b.input("picture", 3, 256, 256)
    for i, (name, of) in enumerate(SQUARES.items()):
        height, width, planes = of.height, of.width, len(of.planes)
        square = b.sample(picture, b.input(f"{name}.grid", 2, height, width))
        b.name(square, f"made.{name}")
        dots = b.input(f"{name}.dots", planes, height // 2, width // 2)
        weight, bias = b.of(f"closeups.parts.{i}.stem")
        parts = [(b.unshuffle(square), weight[:, :12]), (dots, weight[:, 24 : 24 + planes])]
        b.name(b.conv_of(parts, bias), f"made.{name}.stem")


def _close_ups(b: Builder, picture: Blob) -> None:
    for i, (name, of) in enumerate(SQUARES.items()):
        height, width, planes = of.height, of.width, len(of.planes)
        at = f"closeups.parts.{i}"
        drawn = b.sample(picture, b.input(f"{name}.place", 2, height, width))
        dots = b.input(f"{name}.now", planes, height // 2, width // 2)
        weight, _ = b.of(f"{at}.stem")
        parts = [(b.unshuffle(drawn), weight[:, 12:24]), (dots, weight[:, 24 + planes :])]
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
        x = b.merged([(b.silu(x), weight[:, :cut]), (b.unshuffle(change), weight[:, cut:])], bias, 1)
        x = b.block(x, f"{at}.after2")
        paint, blend = b.split(b.shuffle(b.conv(b.silu(x), f"{at}.paint", shift=-2.0)), 3)
        drawn = b.plus(b.times(b.sigmoid(blend), change), paint)
        drawn = b.times(b.input(f"{name}.fade", 1, height, width), drawn)
        b.name(drawn, f"made.{name}.change")
    square = b.input("square", 3, 64, 64)
    # What is pasted is 0 outside its square; of any shape.
    pasted = b.add("GridSample", [square, b.input("paste", 2, 64, 64)], (3, 64, 64), "0=1", "1=1", "2=0", "3=1")
    b.name(pasted, "pasted")
