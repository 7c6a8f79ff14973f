"""Decoded frames on their way to the network: what waits to be drawn, and what is drawn together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...model.inputs import REACH
from .walk import Block, Keyframe


class Batch(NamedTuple):
    """Frames that are drawn together."""

    numbers: list[int]
    pictures: Callable[[], NDArray[np.uint8]] | None
    """Waits for them."""
    sound: list[NDArray[np.float32] | None] | None
    """None: to be read as the frames are handed out."""
    tiny: NDArray[np.uint8]
    keyframe: int
    held: NDArray[np.bool_]


class Waiting:
    """Decoded frames under one keyframe that wait to be drawn, and the numbers of those that were asked for."""

    def __init__(self) -> None:
        self.keyframe: Keyframe | None = None
        self.first = 0
        self.layers: dict[str, NDArray[Any]] = {}
        self.held = np.zeros(0, bool)
        self.wanted: list[int] = []

    @property
    def end(self) -> int:
        return self.first + len(self.held)

    def add(self, block: Block) -> None:
        held = np.full(block.end - block.first, block.held)
        if not self.layers:
            self.first, self.layers, self.held = block.first, block.layers, held
        else:
            self.layers = {name: np.concatenate((old, block.layers[name])) for name, old in self.layers.items()}
            self.held = np.concatenate((self.held, held))
        # Frames before the first keyframe exist only in damaged streams; they are drawn with it as well.
        self.keyframe = block.keyframe

    def ripe(self, batch: int, *, last: bool) -> list[int]:
        """Numbers of frames whose windows are complete: in whole batches, unless they are the ``last`` asked for."""
        count = sum(number + REACH < self.end for number in self.wanted) if self.keyframe is not None else 0
        return self.wanted[: count if last and count == len(self.wanted) else count // batch * batch]

    def let_go(self, given: int) -> None:
        del self.wanted[:given]
        keep = (self.wanted[0] if self.wanted else self.end) - REACH - self.first
        if keep > 0 and self.keyframe is not None:
            self.first += keep
            self.layers = {name: values[keep:] for name, values in self.layers.items()}
            self.held = self.held[keep:]
