"""The network in bfloat16 (`fast`), as whoever draws uses it: made once, recorded as a graph on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from .fast import FastFrames, FastKey, can_draw, paste_lines
from .graph import WARM_UP, recording, traced, zeros
from .inputs import WINDOW
from .landmarks import COUNT
from .upsampler import Upsampler


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

    def record(self, coarse: bool) -> None:
        """From now on draw without Python, where this torch records graphs."""
        with recording:
            if coarse not in self._graphs:
                # In a thread that computes without help: on a busy machine helpers are waited for a thousand times.
                with ThreadPoolExecutor(1, "tfcodec-recording", torch.set_num_threads, (1,)) as alone:
                    self._graphs[coarse] = alone.submit(self._record, coarse).result()

    def __call__(self, key: FastKey, tiny: Tensor, marks: Tensor, coarse: bool) -> Tensor:
        """Pictures [N, S, S, 3] uint8 of tiny frames [N, 5, 3, 8, 8] and landmarks [N, 70, 2]."""
        lines = () if coarse else paste_lines(marks)
        if (graph := self._graphs.get(coarse)) is not None:
            return graph(tiny, marks, *key, *lines)
        out: Tensor = self.frames(key, tiny, marks, lines or None)
        return out

    def _record(self, coarse: bool) -> Callable[..., Tensor] | None:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            line = torch.linspace(-0.5, 0.5, COUNT, dtype=torch.float32, device="cpu")
            marks = line[:, None].expand(2, COUNT, 2).contiguous()
            # Of two frames: what has one of something may be recorded as if there were always one.
            given = [zeros(2, WINDOW, 3, 8, 8), marks]
            given += [*self.frames.blank(), *(() if coarse else paste_lines(marks))]
            graph = traced(_FlatFast(self.frames, coarse), given)
            if graph is not None:
                for _ in range(WARM_UP):
                    graph(*given)
        return graph


_lock = threading.Lock()
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
