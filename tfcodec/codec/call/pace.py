"""How fast the sender's clock goes by the receiver's. Numbers only."""

from __future__ import annotations

from collections import deque

import numpy as np

BLOCK = 250
"""Ticks (10 s) of which the frame that came with the least delay counts: what is late says nothing about clocks."""
BLOCKS = 13
"""That are looked at."""
ENOUGH = 6
"""Blocks (1 min) after which something is said: frames are counted whole, and bundled."""


class Pace:
    """Counts the sender's frames against the receiver's ticks."""

    def __init__(self) -> None:
        self._tick = 0
        self._best: int | None = None  # frame minus tick, the most in this block
        self._first = 0  # the frame that had been seen when the block began
        self._blocks: deque[tuple[int, int]] = deque(maxlen=BLOCKS)  # tick, frame minus tick

    def tick(self, seen: int | None) -> None:
        """A tick has passed; ``seen`` is the newest frame that any packet has named."""
        self._tick += 1
        if seen is None:
            return
        if self._best is None:
            self._best, self._first = seen - self._tick, seen
        self._best = max(self._best, seen - self._tick)
        if self._tick % BLOCK == 0:
            if seen - self._first >= BLOCK // 2:  # otherwise it was an outage
                self._blocks.append((self._tick, self._best))
            self._best = None

    @property
    def drift(self) -> float | None:
        """By which share the sender's clock is faster; below 0 if it is slower; None in the first minute."""
        if len(self._blocks) < ENOUGH:
            return None
        blocks = list(self._blocks)
        # The median: a delay that has changed once, or one late block, moves few of the slopes.
        slopes = [(b - a) / (t - s) for i, (s, a) in enumerate(blocks) for t, b in blocks[i + 1 :]]
        return float(np.median(slopes))
