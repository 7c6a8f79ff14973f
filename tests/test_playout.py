"""The playout clock, with numbers alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tfcodec.codec.call.playout import MAX_LAG, TOLERATED_LAG, WINDOW, Playout


def play(clock: Playout, newest: int, lost: frozenset[int] = frozenset(), end: int | None = None) -> int | None:
    frame = clock.choose(newest, lambda f: 0 <= f <= newest and f not in lost, end)
    if frame is None:
        clock.hold()
    else:
        clock.shown(frame, newest)
    return frame


def test_one_frame_a_tick() -> None:
    clock = Playout(0)
    assert play(clock, -1) is None
    assert [play(clock, n) for n in range(5)] == [0, 1, 2, 3, 4]
    assert (clock.held, clock.skipped) == (0, 0)


def test_bundles_are_shown_one_after_the_other() -> None:
    clock = Playout(0)
    newest = [1, 1, 3, 3, 5, 5] + [7 + 2 * (i // 2) for i in range(100)]
    assert [play(clock, n) for n in newest] == list(range(len(newest)))


def test_lookahead_waits_and_the_end_does_not() -> None:
    clock = Playout(2)
    assert [play(clock, n) for n in range(5)] == [None, None, 0, 1, 2]
    assert [play(clock, 4, end=5) for _ in range(4)] == [3, 4, None, None]


def test_a_loss_adds_no_delay() -> None:
    clock = Playout(0)
    lost = frozenset({3, 4, 5})
    shown = [play(clock, n, lost) for n in (0, 1, 2, 2, 2, 2, 6, 7)]
    assert shown == [0, 1, 2, None, None, None, 6, 7]
    assert clock.skipped == 0


def test_late_frames_are_shown_and_their_delay_is_given_back() -> None:
    clock = Playout(0)
    for n in (0, 1, 1, 1):
        play(clock, n)
    shown = [play(clock, n) for n in range(4, 60)]
    assert shown[0] == 2
    assert shown[-1] == 59
    assert clock.skipped == 2


def test_far_behind_the_latest_frame_wins() -> None:
    clock = Playout(0)
    play(clock, 0)
    assert play(clock, MAX_LAG + 1) == MAX_LAG + 1


def test_a_slow_machine_leaves_frames_out() -> None:
    clock = Playout(0)
    play(clock, 0)
    clock.hold(late=True)
    assert play(clock, 2) == 1  # was being drawn
    newest = 1 + TOLERATED_LAG + 1
    assert play(clock, newest) == newest
    assert play(clock, newest + 1) == newest + 1


def test_a_picture_that_is_one_tick_late_costs_no_frame() -> None:
    clock = Playout(0)
    play(clock, 0)
    clock.hold(late=True)
    assert [play(clock, newest) for newest in (2, 3, 4)] == [1, 2, 3]
    assert clock.skipped == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=200), st.integers(0, 2))
def test_any_network_goes_forward_and_stays_near(steps: list[tuple[int, bool]], lookahead: int) -> None:
    clock, newest, last = Playout(lookahead), -1, -1
    lost = set()
    for step, lose in steps:
        if lose:
            lost |= set(range(newest + 1, newest + 1 + step))
        newest += step
        frame = play(clock, newest, frozenset(lost))
        if frame is not None:
            assert last < frame <= newest - lookahead
            last = frame
            assert newest - lookahead - frame < MAX_LAG
    quiet = [play(clock, newest + i) for i in range(1, 3 * WINDOW * MAX_LAG)]
    assert quiet[-1] == newest + len(quiet) - lookahead
