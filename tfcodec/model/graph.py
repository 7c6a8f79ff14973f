"""The network recorded as a graph, which draws a frame without Python.

Run layer by layer, it hands Python's interpreter lock back and forth with whatever else the program does, some thousand
times a frame: two threads that draw side by side then take a third longer for it, and half as long again beside a busy
one. A graph lets go of the lock once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import rearranged
from .blocks import to_pixels
from .config import SHAPES
from .inputs import MEL_BANDS, MEL_COLUMNS, WINDOW
from .laid_out import Prepared
from .landmarks import COUNT
from .stage1 import MAPS, KeyframeFeatures
from .upsampler import Upsampler

WARM_UP = 3
"""Runs in which TorchScript watches and rewrites a graph, and is slower than it is afterwards."""

KEYFRAMES = 4
"""Keyframes of which a graph remembers what it wants to know of them: all readers and calls share it."""

TOGETHER = 4
"""Frames that the light network draws at once in a thread: it has as many layers as others, and less to do in each."""


class Recording(Protocol):
    """Draws frames of a keyframe, up to ``together`` at once."""

    together: int

    def __call__(self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor) -> Tensor:
        """Keyframe's features [1, ...], tiny frames [N, 5, 3, 8, 8], log-mel [N, 20, 80] and landmarks [N, 70, 2] ->
        pictures [N, S, S, 3] uint8."""


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


class Rearranged:
    """`rearranged.Drawing` as a graph, and what it wants to know of the keyframes that it drew from last."""

    def __init__(self, model: Upsampler, coarse: bool, low: bool) -> None:
        self.together = TOGETHER if SHAPES[model.config.shape].light else 1
        # What has one of something may be recorded as if there were always one.
        count = min(self.together, 2)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            self._drawing = rearranged.Drawing(model, coarse=coarse, low=low).eval()
            self._weights = self._drawing.weights()
            self._known: tuple[tuple[Tensor, Prepared], ...] = ()
            key = model.encode_keyframe(zeros(1, 3, 256, 256))
            given = [zeros(count, WINDOW, 3, 8, 8), zeros(count, COUNT, 2), *self._drawing.prepare(key), *self._weights]
            graph = traced(self._drawing, given)
            if graph is None:
                raise RuntimeError("this torch records no graphs")
            self._graph = graph
            for _ in range(WARM_UP):
                graph(*given)

    def __call__(self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor) -> Tensor:
        """As `Recording`."""
        known = self._known  # read once: another thread may change it
        prepared = next((its for picture, its in known if picture is key.picture), None)
        if prepared is None:
            prepared = self._drawing.prepare(key)
            self._known = (*known[1 - KEYFRAMES :], (key.picture, prepared))
        out: Tensor = self._graph(tiny, marks, *prepared, *self._weights)
        return out


def _rearranged(model: Upsampler, coarse: bool, fast: bool) -> Recording | None:
    """None for networks of another kind, and where this torch has not what it takes."""
    try:
        return Rearranged(model, coarse, fast or rearranged.has_products()) if rearranged.fits(model) else None
    except (AttributeError, RuntimeError, TypeError):
        return None


recording = threading.Lock()
"""Held by whoever records: Python's filters of warnings, which are changed meanwhile, are the whole program's."""
_recorded: dict[tuple[int, bool, bool], tuple[Upsampler, Recording | None]] = {}


def record(model: Upsampler, *, fast: bool, coarse: bool) -> Recording | None:
    """The network's graph; made once, in half a second, and shared by all threads.

    Args:
        fast: compute in bfloat16.
        coarse: stage 1 alone.

    Returns:
        None where this torch records no graphs (TorchScript is on its way out): what draws then is the network itself.
    """
    with recording:
        name = (id(model), fast, coarse)
        if name not in _recorded:
            while len(_recorded) >= 4:
                _recorded.pop(next(iter(_recorded)))
            # The model is kept beside its graph, so that no other one gets its id.
            _recorded[name] = model, _rearranged(model, coarse, fast) or _record(model, fast, coarse)
        return _recorded[name][1]


def reduced(key: KeyframeFeatures, fast: bool) -> KeyframeFeatures:
    """The features in the precision that frames are drawn in."""
    if not fast:
        return key
    return key._replace(**{name: value.bfloat16() for name, value in key._asdict().items() if name in MAPS})


def zeros(*shape: int) -> Tensor:
    """In float32, on the processor."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def _record(model: Upsampler, fast: bool, coarse: bool) -> Recording | None:
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        key = reduced(model.encode_keyframe(zeros(1, 3, 256, 256)), fast)
        marks = zeros(1, COUNT, 2) if key.marks is None else key.marks
        given = [zeros(1, WINDOW, 3, 8, 8), zeros(1, MEL_COLUMNS, MEL_BANDS), marks, *_tensors(key)]
        # What autocast remembers of weights would be recorded in place of the weights.
        with torch.autocast("cpu", torch.bfloat16, enabled=fast, cache_enabled=False):
            graph = traced(_Flat(model, coarse), given)
        if graph is None:
            return None
        for _ in range(WARM_UP):
            graph(*given)

    return _Plain(graph)


class _Plain:
    """The network's own graph, of single frames."""

    together = 1

    def __init__(self, graph: Callable[..., Any]) -> None:
        self._graph = graph

    def __call__(self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor) -> Tensor:
        """As `Recording`."""
        out: Tensor = self._graph(tiny, mel, marks, *_tensors(key))
        return out


def _tensors(key: KeyframeFeatures) -> list[Tensor]:
    # The last may be missing: older networks have no landmarks, or no close-ups.
    return [value for value in key if value is not None]


def traced(module: nn.Module, given: list[Tensor]) -> Callable[..., Any] | None:
    """A module's graph, by an example of what it is given; None where this torch records none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.jit.trace(module.eval(), given, check_trace=False)  # type: ignore[no-untyped-call]
            graph: Callable[..., Any] = torch.jit.freeze(made)
            return graph
    except (AttributeError, RuntimeError):
        return None
