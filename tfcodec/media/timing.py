"""From any frame rate to a constant one, by timestamps. Exact: times are fractions, never floats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import TypeVar

from tfcodec.errors import MediaError

T = TypeVar("T")

FRAME_RATE = 25
MAX_STILL_SECONDS = 600  # a single frame shown longer than this is taken for a broken timestamp
MAX_SECONDS = 4 * 3600

_HALF = Fraction(1, 2)


def checked_rate(fps: object) -> Fraction:
    """A frame rate, of any type of number, as a fraction. Raises MediaError outside 0.1 to 1000."""
    try:
        rate = Fraction(float(fps))  # type: ignore[arg-type]
        ok = not isinstance(fps, str | bytes) and 0.1 <= rate <= 1000
    except (TypeError, ValueError, OverflowError):
        ok = False
    if not ok:
        raise MediaError(f"fps must be a number from 0.1 to 1000, not {fps!r}")
    return fps if isinstance(fps, Fraction) else rate


def frames_before(time: Fraction, rate: int = FRAME_RATE) -> int:
    """How many frames of a video at `rate` have their middle before `time`, in seconds since the first appeared."""
    return ceil(time * rate - _HALF)


def frame_count(end: Fraction, rate: int = FRAME_RATE) -> int:
    """How many frames at `rate` a video has that ends `end` seconds after its first frame appears: at least 1.

    Frame k of the result shows the source at the middle of the time that it is on the screen, (k + 1/2)/rate:
    the choice that keeps the mean delay between source and result at zero, and that small jitter in the
    timestamps (a clock of milliseconds, say) does not disturb. So the count is the number of such middles
    before the end.
    """
    return max(1, frames_before(end, rate))


def check_gaps(times: Sequence[Fraction]) -> None:
    """Raise MediaError where two of these times, in order, lie more than `MAX_STILL_SECONDS` apart."""
    for before, after in pairwise(times):
        if after - before > MAX_STILL_SECONDS:
            raise MediaError(
                f"video stands still from {float(before):.1f} s to {float(after):.1f} s "
                f"(limit: {MAX_STILL_SECONDS} s); its timestamps are probably damaged"
            )


def at_constant_rate(timed: Iterable[tuple[Fraction, T]], end: Fraction, rate: int = FRAME_RATE) -> Iterator[T]:
    """Yield, for each frame of a video of constant `rate`, the item that is on the screen at that frame's middle.

    `timed` gives (seconds since the first item, item); times that go backwards count as the time before them.
    `end` is when the last item leaves the screen. Yields exactly `frame_count(end, rate)` items: those that
    came too late are left out, and the last one is repeated where they ran out early. Raises MediaError when
    there is no item at all or when one item would have to be shown for longer than `MAX_STILL_SECONDS`.
    """
    total = frame_count(end, rate)
    done = 0
    shown: T | None = None
    shown_at = Fraction(-1)
    for start, item in timed:
        start = max(start, shown_at)
        if shown is not None:
            check_gaps([shown_at, start])
            until = min(total, frames_before(start, rate))
            for _ in range(done, until):
                yield shown
            done = max(done, until)
            if done >= total:
                return
        shown, shown_at = item, start
    if shown is None:
        raise MediaError("video has no frames")
    for _ in range(done, total):
        yield shown
