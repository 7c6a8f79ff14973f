"""A light network out of the full one: ``python -m tfcodec.training.prune LESSONS OUT.safetensors [options]``.

Layer by layer, in the order of computation: of the full network's channels those that count most are chosen, and the
light one's weights are the regression from what its own layers before make to them (after He et al., "Channel Pruning
for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv 1707.06168). It takes a minute, and saves hours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TfcodecError
from ..model.blocks import ResBlock, box_down, join, refine_chroma, upsample, warp
from ..model.closeup import CloseUp, CloseUps, cut_square, dots, head_frame
from ..model.inputs import WINDOW
from ..model.light import LightEncoder, LightStage1, LightStage2
from ..model.registry import default_model, weights_file
from ..model.stage1 import FLOW_UNIT, KeyframeEncoder, KeyframeFeatures, Stage1
from ..model.stage2 import Stage2
from ..model.upsampler import Upsampler
from ..model.weights import read_weights, save_weights
from .lessons import Lesson, lessons, read
from .start import is_shared

CHUNK = 16
ROWS = 600
"""Places of every map that a regression looks at."""
RIDGE = 1e-4
"""Times the mean of the inputs' squares: what the weights' squares count."""


def patches(x: Tensor, kernel: int = 3, stride: int = 1) -> Tensor:
    """What a convolution sees at each place, [B, C kernel², h, w]."""
    if kernel == 1:
        return x
    size = tuple((n + stride - 1) // stride for n in x.shape[-2:])
    return F.unfold(x, kernel, padding=kernel // 2, stride=stride).reshape(len(x), -1, *size)


class Part:
    """An input of a regression: a map, its convolution's kernel and stride, and the flow that moves what comes out."""

    def __init__(self, x: Tensor, kernel: int = 3, stride: int = 1, flow: Tensor | None = None) -> None:
        self.x, self.kernel, self.stride, self.flow = x, kernel, stride, flow

    def of(self, some: slice) -> Tensor:
        """The patches of some samples."""
        seen = patches(self.x[some].float(), self.kernel, self.stride)
        return seen if self.flow is None else warp(seen, self.flow[some])


def regress(parts: list[Part], target: Tensor) -> list[Tensor]:
    """Weights of the convolutions of ``parts`` whose sum is nearest to ``target`` [N, C, h, w], and the bias [C]."""
    gram = right = torch.zeros(())
    for at in range(0, len(target), CHUNK):
        some = slice(at, at + CHUNK)
        wanted = target[some].float().flatten(2)
        keep = torch.randperm(wanted.shape[-1])[:ROWS]
        seen = torch.cat([p.of(some).flatten(2)[..., keep] for p in parts], 1)
        rows = torch.cat((seen, torch.ones_like(seen[:, :1])), 1).transpose(0, 1).flatten(1)
        gram = gram + (rows @ rows.T).double()
        right = right + (rows @ wanted[..., keep].transpose(0, 1).flatten(1).T).double()
    some_power = RIDGE * gram.diagonal()[:-1].mean()
    extra = torch.full((len(gram),), float(some_power), dtype=torch.float64)
    extra[-1] = 1e-9 * float(gram[-1, -1])
    found = torch.linalg.solve(gram + extra.diag(), right).float().T
    sizes = [p.x.shape[1] * p.kernel**2 for p in parts]
    *flat, bias = found.split([*sizes, 1], 1)
    shapes = [(p.x.shape[1], p.kernel, p.kernel) for p in parts]
    return [*(w.unflatten(1, shape) for w, shape in zip(flat, shapes, strict=True)), bias[:, 0]]


def put(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> None:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(torch.zeros_like(layer.bias) if bias is None else bias)


def fit(layer: nn.Conv2d, x: Tensor, target: Tensor) -> Tensor:
    """Make a layer's outputs those of ``target``; gives what they then are."""
    put(layer, *regress([Part(x, layer.kernel_size[0], layer.stride[0])], target))
    return run(layer, x)


def run(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([layer(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)])


def strongest(x: Tensor, consumer: Tensor, count: int) -> Tensor:
    """Numbers of the channels of ``x`` that move most of what a convolution with weights ``consumer`` makes of them."""
    score = F.silu(x).std((0, 2, 3)) * consumer.flatten(2).norm(dim=(0, 2))
    return score.topk(count).indices.sort().values


def fit_block(block: ResBlock, x: Tensor, inner: Tensor, target: Tensor) -> Tensor:
    """Make a residual block's own maps those of ``inner``, and its outputs those of ``target``."""
    y = fit(block.conv1, F.silu(x), inner)
    return x + fit(block.conv2, F.silu(y), target - x)


class Watch:
    """What modules of the full network make of samples, by their names: ``name`` outputs, ``name<`` inputs."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self.seen: dict[str, list[Tensor]] = {}
        self._handles = []
        for name in names:
            module = model.get_submodule(name.removesuffix("<"))
            self._handles.append(module.register_forward_hook(self._note(name)))

    def _note(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            self.seen.setdefault(name, []).append((given[0] if name.endswith("<") else out).float())

        return note

    def take(self) -> dict[str, Tensor]:
        """All of it; the watch is over."""
        for handle in self._handles:
            handle.remove()
        return {name: torch.cat(x) for name, x in self.seen.items()}


WATCHED = [
    "stage1.tiny_in", "stage1.merge8", *[f"stage1.trunk8.{i}" for i in range(4)],
    *[f"stage1.trunk8.{i}.conv1" for i in range(4)], "stage1.up32<", "stage1.trunk16.0.conv1", "stage1.trunk16.1.conv1",
    "stage1.trunk16b.conv1", "stage1.trunk32.conv1", "stage1.trunk32<", "stage1.up64<", "stage1.trunk64.conv1",
    "stage2.block64<", "stage2.block64.conv1", "stage2.block64", "stage2.merge128", "stage2.block128.conv1",
    "stage2.block128", "stage2.paint",
]  # fmt: skip


class Samples:
    """Lessons side by side, and what the full network made of them."""

    def __init__(self, full: Upsampler, some: list[Lesson]) -> None:
        watch = Watch(full, WATCHED)
        features: list[KeyframeFeatures] = []
        outs = []
        for one in some:
            key = self._features(full, one)
            features.append(key)
            outs.append(full(key, one.tiny.float(), torch.zeros(len(one.tiny), 20, 80), marks=one.marks))
        self.full = watch.take()
        every = {name: [getattr(f, name) for f in features] for name in KeyframeFeatures._fields}
        self.key = KeyframeFeatures(**{name: torch.cat(parts) for name, parts in every.items()})
        self.tiny, self.marks = (torch.cat([getattr(x, name) for x in some]).float() for name in ("tiny", "marks"))
        self.flow = torch.cat([o.flow for o in outs])
        self.coarse = torch.cat([o.coarse.picture for o in outs])
        self.plain = torch.cat([o.frame if o.plain is None else o.plain for o in outs])
        self.shape = torch.cat([o.coarse.hints.shape for o in outs if o.coarse.hints is not None])

    @staticmethod
    def _features(full: Upsampler, one: Lesson) -> KeyframeFeatures:
        assert isinstance(full.keyframe, KeyframeEncoder)
        assert full.closeups is not None
        e = full.keyframe
        f32 = one.f32.float()
        f16 = e.block16(e.down16(f32))
        picture = one.picture.float() / 255
        squares = full.closeups.prepare(picture, one.key_marks)
        key = KeyframeFeatures(
            picture, box_down(picture, 64), one.f128.float(), one.f64.float(), f32, f16, e.block8(e.down8(f16)),
            one.key_marks, one.face, *squares,
        )  # fmt: skip
        return key.select(one.owner)


def halved(full: Upsampler, light: Upsampler, samples: Samples) -> None:
    """Fit the light network's encoder and stages to the full one's."""
    key, seen = samples.key, samples.full
    assert isinstance(full.stage1, Stage1)
    assert isinstance(full.stage2, Stage2)
    assert isinstance(light.keyframe, LightEncoder)
    assert isinstance(light.stage1, LightStage1)
    assert isinstance(light.stage2, LightStage2)
    T, E, S = full.stage1, light.keyframe, light.stage1
    assert T.prior is not None
    assert key.marks is not None
    S.trust.copy_(T.trust)
    key8 = box_down(key.small, 8)
    tiny = refine_chroma(samples.tiny, key8)
    now = tiny[:, WINDOW // 2]
    hints = T.prior(key.marks, key8, tiny, samples.marks)

    # 8 and 16 pixels; what the keyframe brings to 16 first, since what it brings to 8 is made of it
    error = 4 * (now - key8)
    motion, cover = box_down(hints.motion, 32), box_down(hints.cover, 32)
    seen16 = join(upsample(error), box_down(motion, 16) / FLOW_UNIT, box_down(cover, 16))
    t16 = seen["stage1.up32<"]
    t16 = t16[:, strongest(t16, T.up32.weight, S.up16.out_channels)]
    t8 = seen["stage1.trunk8.3"]
    shown = F.silu(key.f32)
    weights = regress([Part(shown, stride=2), Part(seen16), Part(upsample(t8), 1)], t16)
    put(E.side16, weights[0])
    side16 = run(E.side16, shown)

    inner = strongest(seen["stage1.tiny_in"], T.merge8.weight[:, : T.tiny_in.out_channels], S.tiny_in.out_channels)
    assert T.tiny_in.bias is not None
    put(S.tiny_in, T.tiny_in.weight[inner], T.tiny_in.bias[inner])
    x = F.silu(S.tiny_in(join(tiny.flatten(1, 2) - 0.5, key8 - 0.5, error)))
    chosen = strongest(t8, T.up16.weight, S.merge8.out_channels)
    weights = regress([Part(F.silu(side16), stride=2), Part(x)], seen["stage1.merge8"][:, chosen])
    put(E.side8, weights[0])
    put(S.merge8, *weights[1:])
    x = S.merge8(x) + E.side8(F.silu(side16))
    for i, block in enumerate(S.trunk8):
        assert isinstance(block, ResBlock)
        pair = [seen[f"stage1.trunk8.{j}.conv1"] for j in (2 * i, 2 * i + 1)]
        after = torch.cat([_consumer(T.trunk8[j]) for j in (2 * i, 2 * i + 1)], 1)
        x = fit_block(block, x, _inner(pair, after, len(chosen)), seen[f"stage1.trunk8.{2 * i + 1}"][:, chosen])

    x = upsample(x)
    weights = regress([Part(x, 1), Part(seen16)], t16 - side16)
    put(S.up16, weights[0])
    put(S.see16, *weights[1:])
    x = S.up16(x) + S.see16(seen16) + side16
    names = ["stage1.trunk16.0", "stage1.trunk16.1", "stage1.trunk16b"]
    after = torch.cat([_consumer(full.get_submodule(n)) for n in names], 1)
    block = S.trunk16[0]
    assert isinstance(block, ResBlock)
    x = fit_block(block, x, _inner([seen[f"{n}.conv1"] for n in names], after, t16.shape[1]), t16)
    flow16 = FLOW_UNIT * fit(S.flow16, F.silu(x), box_down(samples.flow, 16) / FLOW_UNIT)

    flow = upsample(flow16)
    moved = warp(box_down(key.small, 32), flow)
    error = 4 * (now - box_down(moved, 8))
    seen32 = join(upsample(error, 4), moved - 0.5, upsample(now, 4) - 0.5, (motion - flow) / FLOW_UNIT, cover)
    t32 = seen["stage1.up64<"]
    chosen = strongest(t32, T.up64.weight, S.up32.out_channels)
    x = _level(S.up32, E.side32, S.see32, upsample(x), key.f32, seen32, flow, seen["stage1.trunk32<"][:, chosen])
    block = S.trunk32[0]
    assert isinstance(block, ResBlock)
    inner32 = _inner([seen["stage1.trunk32.conv1"]], T.trunk32.conv2.weight, len(chosen))
    x = fit_block(block, x, inner32, t32[:, chosen])
    flow32 = flow + FLOW_UNIT * fit(S.flow32, F.silu(x), (box_down(samples.flow, 32) - flow) / FLOW_UNIT)

    flow = upsample(flow32)
    moved = warp(key.small, flow)
    error = 4 * (now - box_down(moved, 8))
    shape, drawing = warp(hints.shape, flow), warp(hints.drawing, flow)
    told = (hints.motion - flow) / FLOW_UNIT, hints.cover, shape / FLOW_UNIT, drawing
    seen64 = join(upsample(error, 8), moved - 0.5, upsample(now, 8) - 0.5, *told)
    t64 = seen["stage2.block64"]
    chosen = strongest(t64, full.stage2.up128.weight, S.up64.out_channels)
    x = _level(S.up64, E.side64, S.see64, upsample(x), key.f64, seen64, flow, seen["stage2.block64<"][:, chosen])
    for block, name in zip(S.trunk64, ("stage1.trunk64", "stage2.block64"), strict=True):
        assert isinstance(block, ResBlock)
        after = _consumer(full.get_submodule(name))
        x = fit_block(block, x, _inner([seen[f"{name}.conv1"]], after, len(chosen)), t64[:, chosen])
    y = F.silu(x)
    left = samples.flow - flow - S.trust * shape
    flow64 = flow + S.trust * shape + FLOW_UNIT * fit(S.flow64, y, left / FLOW_UNIT)
    fit(S.paint64, y, samples.coarse - warp(key.small, flow64))

    D, T2 = light.stage2, full.stage2
    t128 = seen["stage2.block128"]
    chosen = strongest(t128, T2.paint.weight, D.up128.out_channels)
    x = _level(D.up128, E.side128, None, upsample(x), key.f128, None, flow64, seen["stage2.merge128"][:, chosen])
    inner128 = _inner([seen["stage2.block128.conv1"]], T2.block128.conv2.weight, len(chosen))
    x = fit_block(D.block128, x, inner128, t128[:, chosen])
    fit(D.paint, F.silu(x), seen["stage2.paint"])
    assert T2.projection is not None
    D.projection.copy_(T2.projection)


def _consumer(block: nn.Module) -> Tensor:
    """Weights of what reads a residual block's own maps."""
    assert isinstance(block, ResBlock)
    return block.conv2.weight


def _inner(of: list[Tensor], consumers: Tensor, count: int) -> Tensor:
    """The maps within blocks that count most."""
    together = torch.cat(of, 1)
    return together[:, strongest(together, consumers, count)]


def _level(
    up: nn.Conv2d, side: nn.Conv2d, see: nn.Conv2d | None, below: Tensor, features: Tensor, told: Tensor | None,
    flow: Tensor, target: Tensor,
) -> Tensor:  # fmt: skip
    """A level's first sum: what comes from below, from the keyframe, and from the pictures."""
    parts = [Part(below, 1), Part(features, flow=flow), *([] if told is None else [Part(told)])]
    weights = regress(parts, target)
    put(up, weights[0], None if see is not None else weights[-1])
    put(side, weights[1])
    x = run(up, below) + warp(run(side, features), flow)
    if see is not None and told is not None:
        put(see, weights[2], weights[-1])
        x = x + see(told)
    return x


def smaller(full: CloseUps, light: CloseUps, samples: Samples) -> None:
    """Fit the light close-ups to the full ones."""
    assert samples.key.marks is not None
    key_frame, frame = head_frame(samples.key.marks), head_frame(samples.marks)
    for number, square in enumerate(light.squares):
        big, small = full.parts[number], light.parts[number]
        assert isinstance(big, CloseUp)
        assert isinstance(small, CloseUp)
        key, drawn = (
            cut_square(p, f, square) for p, f in ((samples.key.picture, key_frame), (samples.plain, frame))
        )
        key_dots, now_dots = dots(samples.key.marks, key_frame, square), dots(samples.marks, frame, square)
        watch = Watch(big, [
            "stem", "down4", "block4", "block4.conv1", "down8", *[f"blocks8.{i}" for i in range(3)],
            *[f"blocks8.{i}.conv1" for i in range(3)], "after4<", "after4", "after4.conv1", "flow", "up2", "merge2",
            "after2", "after2.conv1", "paint",
        ])  # fmt: skip
        big(key, key_dots, drawn, now_dots)
        _closeup(big, small, watch.take(), (key, key_dots, drawn, now_dots))


def _closeup(big: CloseUp, small: CloseUp, seen: dict[str, Tensor], given: tuple[Tensor, ...]) -> None:
    key, key_dots, drawn, now_dots = given
    a, b, c = (layer.out_channels for layer in (small.stem, small.down4, small.down8))
    assert big.stem.bias is not None
    a_chosen = strongest(seen["stem"], big.down4.weight, a)
    put(small.stem, big.stem.weight[a_chosen], big.stem.bias[a_chosen])
    fine = small.stem(join(F.pixel_unshuffle(key - 0.5, 2), F.pixel_unshuffle(drawn - 0.5, 2), key_dots, now_dots))

    b_chosen = strongest(seen["after4"], big.up2.weight, b)
    x4 = fit(small.down4, F.silu(fine), seen["down4"][:, b_chosen])
    x4 = fit_block(
        small.block4, x4, _inner([seen["block4.conv1"]], big.block4.conv2.weight, b), seen["block4"][:, b_chosen]
    )
    c_chosen = strongest(seen["blocks8.2"], big.up4.weight, c)
    x = fit(small.down8, F.silu(x4), seen["down8"][:, c_chosen])
    count = len(small.blocks8)
    for i, block in enumerate(small.blocks8):
        assert isinstance(block, ResBlock)
        of = range(3 * i // count, 3 * (i + 1) // count)
        after = torch.cat([_consumer(big.blocks8[j]) for j in of], 1)
        inner = _inner([seen[f"blocks8.{j}.conv1"] for j in of], after, c)
        x = fit_block(block, x, inner, seen[f"blocks8.{of[-1]}"][:, c_chosen])
    x4 = x4 + fit(small.up4, upsample(x), seen["after4<"][:, b_chosen] - x4)
    inner = _inner([seen["after4.conv1"]], big.after4.conv2.weight, b)
    x4 = fit_block(small.after4, x4, inner, seen["after4"][:, b_chosen])
    flow = upsample(0.1 * fit(small.flow, F.silu(x4), seen["flow"]), 4)
    moved = small._move(key, flow)
    merged = strongest(seen["after2"], big.paint.weight, a)
    x = fine + fit(small.up2, upsample(x4), upsample(seen["up2"])[:, a_chosen])
    x = fit(small.merge2, join(F.silu(x), F.pixel_unshuffle(moved - drawn, 2)), seen["merge2"][:, merged])
    inner = _inner([seen["after2.conv1"]], big.after2.conv2.weight, a)
    x = fit_block(small.after2, x, inner, seen["after2"][:, merged])
    fit(small.paint, F.silu(x), seen["paint"])


def taken(light: Upsampler, full: Upsampler) -> list[str]:
    """Give the light network the parts that are the full one's; gives the names of their tensors."""
    state = full.state_dict()
    own = light.state_dict()
    names = [n for n, t in own.items() if n in state and state[n].shape == t.shape and is_shared(n)]
    light.load_state_dict({n: state[n] for n in names}, strict=False)
    return names


@torch.no_grad()
def prune(full: Upsampler, some: list[Lesson]) -> Upsampler:
    """A light network that draws what the full one drew of some lessons, as well as it can."""
    light = Upsampler(replace(full.config, shape="light")).eval()
    taken(light, full)
    samples = Samples(full, some)
    halved(full, light, samples)
    if full.closeups is not None and light.closeups is not None:
        smaller(full.closeups, light.closeups, samples)
    return light


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.prune", description=__doc__)
    p.add_argument("lessons", type=Path, help="folder of lessons, see tfcodec.training.lessons")
    p.add_argument("output", type=Path, help="the light network, safetensors")
    p.add_argument("--files", type=int, default=8, help="lessons to look at")
    p.add_argument("--weights", type=Path, help="the full network; the newest without")
    args = p.parse_args(argv)
    torch.manual_seed(0)
    full = read_weights(args.weights or weights_file(default_model()))
    light = prune(full, [read(path) for path in lessons(args.lessons)[: args.files]])
    save_weights(light, args.output)


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
