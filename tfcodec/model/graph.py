"""The network recorded as a graph, which draws a frame without Python.

Run layer by layer, it hands Python's interpreter lock back and forth with whatever else the program does, some thousand
times a frame: two threads that draw side by side then take a third longer for it, and half as long again beside a busy
one. A graph lets go of the lock once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .blocks import to_pixels
from .fast import FastFrames, FastKey, can_draw, paste_lines
from .inputs import MEL_BANDS, MEL_COLUMNS, WINDOW
from .landmarks import COUNT
from .stage1 import MAPS, KeyframeFeatures
from .upsampler import Upsampler

WARM_UP = 3
"""Runs in which TorchScript watches and rewrites a graph, and is slower than it is afterwards."""

Recording = Callable[[KeyframeFeatures, Tensor, Tensor, Tensor], Tensor]
"""Keyframe's features [1, ...], tiny frames [1, 5, 3, 8, 8], log-mel [1, 20, 80] and landmarks [1, 70, 2] -> picture
[1, S, S, 3] uint8."""


def picture(
    model: Upsampler, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor, coarse: bool
) -> Tensor:  # fmt: skip
    """What the network draws, [B, 256, 256, 3] uint8; with ``coarse`` stage 1's [B, 64, 64, 3].

    ``marks`` [B, 70, 2] in -1..1 count only for networks that take landmarks.
    """
    given = marks if model.config.motion else None
    if coarse:
        return to_pixels(model.stage1(key, tiny, mel, None, given).picture)
    return to_pixels(model(key, tiny, mel, marks=given).frame)


class _Flat(nn.Module):
    """The network with tensors for arguments, which is all that a graph can have."""

    def __init__(self, model: Upsampler, coarse: bool) -> None:
        super().__init__()
        self.model, self.coarse = model, coarse

    def forward(self, tiny: Tensor, mel: Tensor, marks: Tensor, *key: Tensor) -> Tensor:
        return picture(self.model, KeyframeFeatures(*key), tiny, mel, marks, self.coarse)


_lock = threading.Lock()
_recorded: dict[tuple[int, bool, bool], tuple[Upsampler, Recording | None]] = {}


def record(model: Upsampler, *, fast: bool, coarse: bool) -> Recording | None:
    """The network's graph for single frames; made once, in half a second, and shared by all threads.

    Args:
        fast: compute in bfloat16.
        coarse: stage 1 alone.

    Returns:
        None where this torch records no graphs (TorchScript is on its way out): what draws then is the network itself.
    """
    with _lock:
        name = (id(model), fast, coarse)
        if name not in _recorded:
            while len(_recorded) >= 4:
                _recorded.pop(next(iter(_recorded)))
            # The model is kept beside its graph, so that no other one gets its id.
            _recorded[name] = model, _record(model, fast, coarse)
        return _recorded[name][1]


def reduced(key: KeyframeFeatures, fast: bool) -> KeyframeFeatures:
    """The features in the precision that frames are drawn in."""
    if not fast:
        return key
    return key._replace(**{name: value.bfloat16() for name, value in key._asdict().items() if name in MAPS})


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def _record(model: Upsampler, fast: bool, coarse: bool) -> Recording | None:
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        key = reduced(model.encode_keyframe(_zeros(1, 3, 256, 256)), fast)
        marks = _zeros(1, COUNT, 2) if key.marks is None else key.marks
        given = [_zeros(1, WINDOW, 3, 8, 8), _zeros(1, MEL_COLUMNS, MEL_BANDS), marks, *_tensors(key)]
        # What autocast remembers of weights would be recorded in place of the weights.
        with torch.autocast("cpu", torch.bfloat16, enabled=fast, cache_enabled=False):
            graph = _traced(_Flat(model, coarse), given)
        if graph is None:
            return None
        for _ in range(WARM_UP):
            graph(*given)

    def draw(key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor) -> Tensor:
        out: Tensor = graph(tiny, mel, marks, *_tensors(key))
        return out

    return draw


def _tensors(key: KeyframeFeatures) -> list[Tensor]:
    # The last may be missing: older networks have no landmarks, or no close-ups.
    return [value for value in key if value is not None]


def _traced(module: nn.Module, given: list[Tensor]) -> Callable[..., Tensor] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(module.eval(), given, check_trace=False)  # type: ignore[no-untyped-call]
            graph: Callable[..., Tensor] = torch.jit.freeze(traced)
            return graph
    except (AttributeError, RuntimeError):
        return None


class _FlatFast(nn.Module):
    def __init__(self, frames: FastFrames, coarse: bool) -> None:
        super().__init__()
        self.frames, self.coarse = frames, coarse

    def forward(self, tiny: Tensor, marks: Tensor, *rest: Tensor) -> Tensor:
        count = len(FastKey._fields)
        out: Tensor = self.frames(FastKey(*rest[:count]), tiny, marks, None if self.coarse else rest[count:])
        return out


class FastDrawing:
    """`fast.FastFrames` of a network, recorded on demand: any number of frames of a keyframe at once."""

    def __init__(self, model: Upsampler) -> None:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            self.frames = FastFrames(model).eval()
        self._graphs: dict[bool, Callable[..., Tensor] | None] = {}  # by `coarse`
        self._lock = threading.Lock()

    def record(self, coarse: bool) -> None:
        """From now on draw without Python, where this torch records graphs."""
        with self._lock:
            if coarse not in self._graphs:
                self._graphs[coarse] = self._record(coarse)

    def __call__(self, key: FastKey, tiny: Tensor, marks: Tensor, coarse: bool) -> Tensor:
        """Pictures [N, S, S, 3] uint8 of tiny frames [N, 5, 3, 8, 8] and landmarks [N, 70, 2]."""
        lines = () if coarse else paste_lines(marks)
        if (graph := self._graphs.get(coarse)) is not None:
            return graph(tiny, marks, *key, *lines)
        out: Tensor = self.frames(key, tiny, marks, lines or None)
        return out

    def _record(self, coarse: bool) -> Callable[..., Tensor] | None:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            marks = torch.linspace(-0.5, 0.5, COUNT, device="cpu")[:, None].expand(2, COUNT, 2).contiguous()
            # Of two frames: what has one of something may be recorded as if there were always one.
            given = [_zeros(2, WINDOW, 3, 8, 8), marks]
            given += [*self.frames.blank(), *(() if coarse else paste_lines(marks))]
            graph = _traced(_FlatFast(self.frames, coarse), given)
            for _ in range(WARM_UP if graph is not None else 0):
                graph(*given)  # type: ignore[misc]
        return graph


_fast: dict[int, tuple[Upsampler, FastDrawing]] = {}


def fast_drawing(model: Upsampler) -> FastDrawing | None:
    """The network in bfloat16; made once, and the same for all threads. None for a kind that it does not draw."""
    if not can_draw(model.config):
        return None
    with _lock:
        if id(model) not in _fast:
            while len(_fast) >= 2:
                _fast.pop(next(iter(_fast)))
            _fast[id(model)] = model, FastDrawing(model)
        return _fast[id(model)][1]
