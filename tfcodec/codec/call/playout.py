"""Which frame a receiver shows at each tick of its own clock. Numbers only: no pictures, no time of day."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

WINDOW = 25
"""Ticks (1 s) in a row at which every frame must have been there early before the delay is shortened."""
MAX_LAG = 5
"""Frames (200 ms) behind the newest at which the clock jumps: in a call the latest frame wins."""
TOLERATED_LAG = 3
"""Frames behind the newest at which it jumps after drawing was late. A picture that has to arrive and be drawn between
two ticks misses one now and then: if the clock jumped each time, every third frame would be lost."""


class Playout:
    """The playout clock.

    The next frame is shown when it, and ``lookahead`` more, are there. When they are not, the clock waits. Frames that
    turn out to be lost are made up for by skipping, so that a loss adds no delay; delay that came from late packets is
    given back when they have been on time for a second.

    Attributes:
        position: number of the frame shown last; None before the first.
        waited: ticks since then at which nothing could be shown.
        skipped: frames left out to keep the delay short.
        held: ticks at which the picture before was shown again.
    """

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.position: int | None = None
        self.waited = 0
        self.skipped = 0
        self.held = 0
        self._surplus: deque[int] = deque(maxlen=WINDOW)
        self._hurry = self._jump = False

    def choose(
        self, newest: int, known: Callable[[int], bool], end: int | None, after: int | None = None
    ) -> int | None:
        """The frame to show next, or None if there is none yet.

        ``known`` tells which frames have been decoded; with ``after``, the frame that follows that one, whose showing
        has been decided already.
        """
        limit = newest if end is not None and newest >= end - 1 else newest - self.lookahead
        if self.position is None:
            if newest < 0:
                return None
            # Two frames that came together are shown one after the other.
            first = limit - 1 if known(limit - 1) else limit
            return first if known(first) else None
        ahead = after is not None and after > self.position
        target = (after if after is not None and ahead else self.position) + 1
        if target > limit:
            return None
        jump, self._jump = self._jump, False
        if jump and limit - target >= TOLERATED_LAG:
            return limit
        waited = 0 if ahead else self.waited
        # While the clock waited for frames that, as is known now, were lost, the last picture stood in for them.
        while waited and target < limit and not known(target):
            target, waited = target + 1, waited - 1
        if limit - target >= MAX_LAG:
            return limit
        if len(self._surplus) == WINDOW and min(self._surplus) > 0 and target < limit:
            self._surplus.clear()
            target += 1
        return target

    def shown(self, frame: int, newest: int) -> None:
        """That frame is on the screen now; ``newest`` is the newest that could have been shown instead."""
        if self.position is not None:
            passed = frame - self.position - 1
            self.skipped += max(0, passed - self.waited)
            if passed:
                self._surplus.clear()  # another delay has begun
        self._surplus.append(newest - self.lookahead - frame)
        self.position, self.waited = frame, 0
        self._jump, self._hurry = self._jump or self._hurry, False

    def hold(self, *, late: bool = False) -> None:
        """There was nothing to show. ``late``: not for want of packets, but because drawing takes too long."""
        if self.position is not None:
            self.waited += 1
            self.held += 1
            self._surplus.clear()
            self._hurry |= late
