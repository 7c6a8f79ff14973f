"""A simulated one-way link: bursts of loss, delay, jitter, reordering, second copies. Same seed, same fate."""

from __future__ import annotations

import heapq
import random

from ..errors import TfcodecError


class GilbertElliott:
    """Two-state loss: packets pass in the good state and are lost in the bad one (Gilbert 1960, Elliott 1963).

    Args:
        loss: share of packets lost in the long run, 0..1 (1: all).
        burst: mean number of packets lost in a row, at least 1; ``1 / (1 - loss)`` is independent loss.
        rng: source of random numbers.

    Raises:
        TfcodecError: ``loss`` or ``burst`` is out of range, or ``burst`` is too short for ``loss``: a packet passes
            between two bursts, so it must be at least ``loss / (1 - loss)``.
    """

    def __init__(self, loss: float, burst: float = 1.0, rng: random.Random | None = None) -> None:
        if not 0 <= loss <= 1:
            raise TfcodecError(f"loss must be between 0 and 1, not {loss!r}")
        if not 1 <= burst < float("inf"):
            raise TfcodecError(f"burst must be at least 1 packet, not {burst!r}")
        self.loss, self.burst = loss, burst
        self._rng = rng or random.Random(0)
        self._leave = 1 / burst
        if loss < 1:
            enter = loss * self._leave / (1 - loss)
            if enter > 1:
                raise TfcodecError(f"bursts of {burst:g} are too short for a loss of {100 * loss:g} %")
            self._enter = enter
        self._bad = self._rng.random() < loss

    def lost(self) -> bool:
        """Whether the next packet is lost."""
        if self.loss == 1:
            return True
        bad = self._bad
        self._bad = self._rng.random() >= self._leave if bad else self._rng.random() < self._enter
        return bad


class Link:
    """Carries packets one way. Time is given by the caller, in seconds.

    Args:
        loss, burst: see `GilbertElliott`; may be set anew while the link is used with `set_loss`.
        delay: seconds that every packet takes.
        jitter: mean of a random further delay in seconds (exponential); it makes no packet overtake another.
        reorder: share of packets that are held back by ``reorder_delay`` and may be overtaken.
        duplicate: share of packets that arrive twice.
        seed: of the random numbers.
    """

    def __init__(
        self,
        loss: float = 0.0,
        burst: float = 1.0,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        reorder: float = 0.0,
        reorder_delay: float = 0.06,
        duplicate: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, share in (("reorder", reorder), ("duplicate", duplicate)):
            if not 0 <= share <= 1:
                raise TfcodecError(f"{name} must be between 0 and 1, not {share!r}")
        for name, seconds in (("delay", delay), ("jitter", jitter), ("reorder_delay", reorder_delay)):
            if not 0 <= seconds < 60:
                raise TfcodecError(f"{name} must be 0 to 60 seconds, not {seconds!r}")
        self._rng = random.Random(seed)
        self._loss = GilbertElliott(loss, burst, random.Random(seed + 1))
        self._delay, self._jitter = delay, jitter
        self._reorder, self._reorder_delay, self._duplicate = reorder, reorder_delay, duplicate
        self._under_way: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._last = 0.0
        self.sent = 0
        self.lost = 0

    def set_loss(self, loss: float, burst: float = 1.0) -> None:
        """Go on with another rate of loss."""
        self._loss = GilbertElliott(loss, burst, self._rng)

    def send(self, packet: bytes, now: float) -> None:
        """Put a packet on the link."""
        self.sent += 1
        if self._loss.lost():
            self.lost += 1
            return
        arrival = now + self._delay
        if self._jitter:
            arrival += self._rng.expovariate(1 / self._jitter)
        arrival = self._last = max(arrival, self._last)
        if self._reorder and self._rng.random() < self._reorder:
            arrival += self._reorder_delay
        copies = 1 + (self._duplicate > 0 and self._rng.random() < self._duplicate)
        for _ in range(copies):
            self._count += 1
            heapq.heappush(self._under_way, (arrival, self._count, packet))

    def receive(self, now: float) -> list[bytes]:
        """Packets that have arrived by now, in the order of arrival."""
        out = []
        while self._under_way and self._under_way[0][0] <= now:
            out.append(heapq.heappop(self._under_way)[2])
        return out

    @property
    def next_arrival(self) -> float | None:
        """When the next packet arrives; None if none is under way."""
        return self._under_way[0][0] if self._under_way else None
