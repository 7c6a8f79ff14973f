"""Telling one sender, and one receiver, from the next: both begin to count their packets at a random number."""

from __future__ import annotations

import os
from typing import Generic, TypeVar

from ...bitstream import DEFAULT_LIMITS, SequenceCounter, extend
from ...bitstream.sequence import WRAP

JUMP = 512
"""Packets of one end follow one another within so many numbers. A sender makes a few tens in a second."""
MOST_PACKETS = 8
"""For a frame, on average over a second and more."""
SURE = 3
"""Packets in a row that must be somebody else's before they are believed: their checksum is one of 16 bits."""
BEFORE = 250
"""Frames (10 s) before the newest: what names an older one is somebody else's, or of no use any more."""
MAX_LISTENERS = 16
T = TypeVar("T")
"""A packet, in whatever form it is to be given back."""


def first_number() -> int:
    """Where a sender or a receiver begins to count its packets."""
    return int.from_bytes(os.urandom(2), "big")


class Origin(Generic[T]):
    """Whose packets these are, by their numbers. Somebody else's are kept back until it is sure that a call began anew.

    While the sender of now goes on, another one's packets are never taken.
    """

    def __init__(self) -> None:
        self._newest: int | None = None
        self._frame: int | None = None
        self._others: list[tuple[int, int | None, T]] = []

    def take(self, sequence: int, timestamp: int | None, packet: T) -> tuple[bool, list[T]]:
        """Take a packet; gives whether a new sender has begun, and the packets to be taken now.

        ``timestamp``: its frame, if that is one of now; None for a keyframe's, which may be old.
        """
        if self._newest is None or self._belongs(sequence, timestamp, self._newest, self._frame):
            self._others.clear()
            self._follow(sequence, timestamp)
            return False, [packet]
        if self._others and not self._belongs(sequence, timestamp, *self._others[-1][:2]):
            self._others.clear()
        self._others.append((sequence, timestamp, packet))
        if len({number for number, _, _ in self._others}) < SURE:
            del self._others[: -2 * SURE]
            return False, []
        others, self._others, self._newest, self._frame = self._others, [], None, None
        for number, frame, _ in others:
            self._follow(number, frame)
        return True, [other for _, _, other in others]

    def _follow(self, sequence: int, timestamp: int | None) -> None:
        far = 0 if timestamp is None or self._frame is None else _ahead(timestamp, self._frame)
        if far > DEFAULT_LIMITS.max_gap_frames:
            return  # no sender is so far ahead; the receiver counts it as damage
        if self._newest is None or _ahead(sequence, self._newest) > 0:
            self._newest = sequence
        if timestamp is not None and (self._frame is None or _ahead(timestamp, self._frame) > 0):
            self._frame = timestamp

    @staticmethod
    def _belongs(sequence: int, timestamp: int | None, newest: int, frame: int | None) -> bool:
        frames = 0 if timestamp is None or frame is None else _ahead(timestamp, frame)
        packets = _ahead(sequence, newest)
        # After an outage both are far ahead, packets by no more than they can be for so many frames.
        return frames >= -BEFORE and -JUMP <= packets <= JUMP + MOST_PACKETS * max(0, frames)


def _ahead(one: int, other: int) -> int:
    """How far one number of 16 bits is ahead of another."""
    return (one - other + WRAP // 2) % WRAP - WRAP // 2


class Listeners:
    """The receivers that a sender hears feedback from, told apart by their numbers."""

    def __init__(self) -> None:
        self._counters: list[SequenceCounter] = []  # the one heard last at the end

    def add(self, sequence: int) -> bool:
        """Take the number of a feedback packet; False for a second copy."""
        for i, counter in enumerate(self._counters):
            if counter.newest is not None and abs(extend(sequence, counter.newest) - counter.newest) <= JUMP:
                self._counters.append(self._counters.pop(i))
                return counter.add(sequence)
        self._counters.append(SequenceCounter())
        del self._counters[:-MAX_LISTENERS]
        return self._counters[-1].add(sequence)
