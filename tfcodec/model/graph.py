"""The network recorded as a graph, which draws a frame without Python.

Run layer by layer, it hands Python's interpreter lock back and forth with whatever else the program does, some thousand
times a frame: two threads that draw side by side then take a third longer for it, and half as long again beside a busy
one. A graph lets go of the lock once.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import rearranged
from .blocks import to_pixels
from .config import SHAPES
from .displacement import DISPLACEMENTS
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
"""Frames that are drawn at once in a thread where a layer takes little time, by the light network and in bfloat16: of
more, what is between two layers would not fit its cache."""


class Recording(Protocol):
    """Draws frames of a keyframe, up to ``together`` at once."""

    together: int

    def know(self, key: KeyframeFeatures) -> None:
        """Compute what is computed once a keyframe, of its features [1, ...]; drawing would do so else."""

    def __call__(
        self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor, displacement: Tensor
    ) -> Tensor:  # fmt: skip
        """Keyframe's features [1, ...], tiny frames [N, 5, 3, 8, 8], log-mel [N, 20, 80], landmarks [N, 70, 2] and
        displacements [N, 12] in pixels -> pictures [N, S, S, 3] uint8."""


def picture(
    model: Upsampler, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor, coarse: bool,
    displacement: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """What the network draws, [B, 256, 256, 3] uint8; with ``coarse`` stage 1's [B, 64, 64, 3].

    ``marks`` [B, 70, 2] in -1..1 count only for networks that take landmarks. ``displacement`` [B, 12] is in pixels.
    """
    given = marks if model.config.motion else None
    if coarse:
        return to_pixels(model.stage1(key, tiny, mel, None, given, displacement).picture)
    return to_pixels(model(key, tiny, mel, marks=given, displacement=displacement).frame)


class _Flat(nn.Module):
    """The network with tensors for arguments, which is all that a graph can have."""

    def __init__(self, model: Upsampler, coarse: bool) -> None:
        super().__init__()
        self.model, self.coarse = model, coarse

    def forward(self, tiny: Tensor, mel: Tensor, marks: Tensor, displacement: Tensor, *key: Tensor) -> Tensor:
        return picture(self.model, KeyframeFeatures(*key), tiny, mel, marks, self.coarse, displacement)


class Rearranged:
    """`rearranged.Drawing`, as a graph once it is recorded; and what it wants to know of the keyframes that it drew
    from last."""

    def __init__(self, model: Upsampler, coarse: bool, fast: bool) -> None:
        precision = rearranged.precision(model, fast)
        few = SHAPES[model.config.shape].light or precision.maps == torch.bfloat16
        self.together = TOGETHER if few else 1
        self._lock = threading.Lock()
        self._known: tuple[tuple[Tensor, Prepared], ...] = ()
        self._model = model
        with _for_inference():
            self._drawing = rearranged.Drawing(model, precision, coarse=coarse).eval()
        self._draw: Callable[..., Any] = self._drawing

    def record(self) -> None:
        """From now on draw without Python. Raises RuntimeError where this torch records no graphs."""
        # What has one of something may be recorded as if there were always one.
        count = min(self.together, 2)
        with _for_inference():
            key = self._drawing.prepare(self._model.encode_keyframe(zeros(1, 3, 256, 256)))
            given = [zeros(count, WINDOW, 3, 8, 8), zeros(count, COUNT, 2), zeros(count, DISPLACEMENTS), *key]
            graph = traced(self._drawing, given)
            if graph is None:
                raise RuntimeError("this torch records no graphs")
            for _ in range(WARM_UP):
                graph(*given)
        self._draw = graph

    def know(self, key: KeyframeFeatures) -> None:
        """As `Recording`."""
        self._prepared(key)

    def __call__(
        self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor, displacement: Tensor
    ) -> Tensor:  # fmt: skip
        """As `Recording`."""
        out: Tensor = self._draw(tiny, marks, displacement, *self._prepared(key))
        return out

    def _prepared(self, key: KeyframeFeatures) -> Prepared:
        with self._lock:
            prepared = next((its for picture, its in self._known if picture is key.picture), None)
            if prepared is None:
                prepared = self._drawing.prepare(key)
                self._known = (*self._known[1 - KEYFRAMES :], (key.picture, prepared))
            return prepared


recording = threading.Lock()
"""Held by whoever records: Python's filters of warnings, which are changed meanwhile, are the whole program's."""


@dataclass
class _Kept:
    """What draws in place of a network, which is kept beside it, so that no other one gets its id."""

    model: Upsampler
    drawing: Recording | None
    recorded: bool = False


_keeping = threading.Lock()
_kept: dict[tuple[int, bool, bool], _Kept] = {}


def drawing(model: Upsampler, *, fast: bool, coarse: bool, record: bool) -> Recording | None:
    """What draws in place of the network; made once, and shared by all threads.

    Args:
        fast: compute in bfloat16.
        coarse: stage 1 alone.
        record: as a graph, which takes half a second the first time. Meanwhile others draw without.

    Returns:
        None where the network itself draws: without ``record`` networks that are not rearranged, and where this torch
        records no graphs (TorchScript is on its way out) or lacks the operators.
    """
    name = (id(model), fast, coarse)
    with _keeping:
        if name not in _kept:
            while len(_kept) >= 4:
                _kept.pop(next(iter(_kept)))
            _kept[name] = _Kept(model, _rearranged(model, coarse, fast))
        kept = _kept[name]
    if record:
        with recording:
            if not kept.recorded:
                # In a thread that computes without help: on a busy machine helpers are waited for a thousand times.
                with ThreadPoolExecutor(1, "tfcodec-recording", torch.set_num_threads, (1,)) as alone:
                    kept.drawing = alone.submit(_recorded, kept, fast, coarse).result()
                kept.recorded = True
    return kept.drawing


def _recorded(kept: _Kept, fast: bool, coarse: bool) -> Recording | None:
    if isinstance(kept.drawing, Rearranged):
        with contextlib.suppress(AttributeError, RuntimeError, TypeError):  # then it draws as it is
            kept.drawing.record()
        return kept.drawing
    return _record(kept.model, fast, coarse)


def _rearranged(model: Upsampler, coarse: bool, fast: bool) -> Recording | None:
    """None for networks of another kind, and where this torch has not what it takes."""
    try:
        return Rearranged(model, coarse, fast) if rearranged.fits(model) else None
    except (AttributeError, RuntimeError, TypeError):
        return None


@contextlib.contextmanager
def _for_inference() -> Iterator[None]:
    """Tensors are made that any thread may use, in any mode; in float32, and without gradients."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def reduced(key: KeyframeFeatures, fast: bool) -> KeyframeFeatures:
    """The features in the precision that frames are drawn in."""
    if not fast:
        return key
    return key._replace(**{name: value.bfloat16() for name, value in key._asdict().items() if name in MAPS})


def zeros(*shape: int) -> Tensor:
    """In float32, on the processor."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def _record(model: Upsampler, fast: bool, coarse: bool) -> Recording | None:
    with _for_inference():
        key = reduced(model.encode_keyframe(zeros(1, 3, 256, 256)), fast)
        marks = zeros(1, COUNT, 2) if key.marks is None else key.marks
        heard, still = zeros(1, MEL_COLUMNS, MEL_BANDS), zeros(1, DISPLACEMENTS)
        given = [zeros(1, WINDOW, 3, 8, 8), heard, marks, still, *_tensors(key)]
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

    def know(self, key: KeyframeFeatures) -> None:
        """There is nothing to compute."""

    def __call__(
        self, key: KeyframeFeatures, tiny: Tensor, mel: Tensor, marks: Tensor, displacement: Tensor
    ) -> Tensor:  # fmt: skip
        """As `Recording`."""
        out: Tensor = self._graph(tiny, mel, marks, displacement, *_tensors(key))
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
