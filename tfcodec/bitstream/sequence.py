"""Counters of calls that wrap: sequence numbers and timestamps of 16 bits, made whole again by the receiver."""

from __future__ import annotations

WRAP = 1 << 16
"""Sequence numbers and timestamps of packets count modulo this."""
_HISTORY = 512


def extend(low: int, near: int) -> int:
    """The number nearest to ``near`` whose lowest 16 bits are ``low``; never negative.

    Right as long as the true number lies within 2^15 of ``near``: for timestamps 21 minutes.
    """
    value = near + (low - near + WRAP // 2) % WRAP - WRAP // 2
    return value if value >= 0 else value + WRAP


class SequenceCounter:
    """Follows the sequence numbers of one direction: what was received, lost, doubled and out of order.

    Attributes:
        newest: highest number so far, extended beyond 16 bits, from some multiple of 2^16 on; None before the first.
        received: packets, without second copies.
        duplicates: second copies.
        reordered: packets that came after one with a higher number.
    """

    def __init__(self) -> None:
        self.newest: int | None = None
        self.received = 0
        self.duplicates = 0
        self.reordered = 0
        self._first = 0
        self._seen: set[int] = set()
        self._reported = (0, 0)

    def add(self, low: int) -> bool:
        """Take the 16 bits of a packet's number; False for a second copy, which is to be ignored."""
        if self.newest is None:
            number = self.newest = self._first = low + WRAP  # so that earlier ones that come later have room below
        else:
            number = extend(low, self.newest)
        if number in self._seen:
            self.duplicates += 1
            return False
        if number < self.newest:
            self.reordered += 1
            # So old that it is not known any more whether it is a copy: the layers above know what they have.
            self._first = min(self._first, number)
        self.newest = max(self.newest, number)
        self.received += 1
        self._seen.add(number)
        if len(self._seen) > 2 * _HISTORY:
            self._seen = {n for n in self._seen if n > self.newest - _HISTORY}
        return True

    @property
    def expected(self) -> int:
        """Packets sent, as far as this end can know."""
        return 0 if self.newest is None else self.newest - self._first + 1

    @property
    def lost(self) -> int:
        """Packets that are missing so far; late ones are taken off again when they come."""
        return max(0, self.expected - self.received)

    def fraction_lost(self) -> float:
        """Share of packets lost since the last call of this method, 0..1."""
        expected, lost = self.expected, self.lost
        before = self._reported
        self._reported = (expected, lost)
        new = expected - before[0]
        return min(1.0, max(0, lost - before[1]) / new) if new > 0 else 0.0
