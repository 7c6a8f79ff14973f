"""Openings of mouth and eyes over time, on curves made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfcodec.errors import TfcodecError
from tfcodec.metrics import openings
from tfcodec.metrics.openings import BlinkCount, compare_blinks, find_blinks, opening_correlation

OPEN = 0.1


def curve(length: int, *blinks: int, depth: float = 0.7, fps: float = 25.0, noise: float = 0.0) -> np.ndarray:
    """Eyes that are open, but for blinks of about 0.2 s at these frames of a video of 25 frames/s."""
    t = np.arange(0, length, 25 / fps)
    shut = sum((np.exp(-(((t - at) / 2.5) ** 2)) for at in blinks), np.zeros(len(t)))
    return OPEN * (1 - depth * shut) + np.random.default_rng(3).normal(0, noise, len(t))


def test_correlation_within_a_clip() -> None:
    source = curve(100, 30, 70)
    assert opening_correlation(source, source) == pytest.approx(1)
    assert opening_correlation(0.5 * source + 0.3, source) == pytest.approx(1)  # how far is another measure's job
    assert opening_correlation(-source, source) == pytest.approx(-1)
    assert opening_correlation(np.full(100, OPEN), source) == 0
    lost = source.copy()
    lost[20:40] = np.nan
    assert opening_correlation(lost, source) == pytest.approx(1)
    assert opening_correlation(np.full(100, np.nan), source) == 0
    with pytest.raises(TfcodecError, match="curves"):
        opening_correlation(source, source[:50])


def test_noise_does_not_move() -> None:
    still = curve(200, noise=openings.EYE_NOISE)
    assert not openings.moves(still, openings.EYE_NOISE)
    assert openings.moves(curve(200, 40, 90, 150), openings.EYE_NOISE)
    assert not openings.moves(np.full(9, np.nan), openings.EYE_NOISE)


@pytest.mark.parametrize("fps", [25.0, 12.5])
def test_blinks_are_found_once_each(fps: float) -> None:
    found = find_blinks(curve(150, 20, 60, 71, 120, fps=fps, noise=0.003), fps)
    assert [25 / fps * blink.at for blink in found] == pytest.approx([20, 60, 71, 120], abs=1.5)
    assert all(0.55 < blink.depth < 0.85 for blink in found)


def test_what_is_no_blink() -> None:
    t = np.arange(150, dtype=np.float64)
    assert find_blinks(curve(150, noise=0.004)) == []
    assert find_blinks(curve(150, 40, 90, depth=0.1)) == []  # no more than a twitch
    assert find_blinks(np.where(t < 60, OPEN, 0.2 * OPEN)) == []  # they stay shut
    assert find_blinks(OPEN * (1 - 0.8 * np.exp(-(((t - 70) / 40.0) ** 2)))) == []  # looking down, slowly
    assert find_blinks(np.full(150, np.nan)) == []
    assert find_blinks(np.zeros(150)) == []
    assert find_blinks(np.zeros(0)) == []


def test_a_blink_in_which_the_face_is_lost_is_bridged() -> None:
    lost = curve(60, 30)
    lost[[31, 45]] = np.nan
    assert len(find_blinks(lost)) == 1


def test_blinks_are_compared() -> None:
    source = curve(200, 20, 60, 100, 150)
    assert compare_blinks(source, source) == BlinkCount(4, 4, 4, 0)
    assert compare_blinks(curve(200, 22, 60, 101, 148), source) == BlinkCount(4, 4, 4, 0)
    assert compare_blinks(np.full(200, OPEN), source) == BlinkCount(4, 0, 0, 0)
    assert compare_blinks(curve(200, 60, 125), source) == BlinkCount(4, 1, 2, 1)
    assert compare_blinks(curve(200, 60), np.full(200, OPEN)) == BlinkCount(0, 0, 1, 1)
    # One answers for one, and only in time.
    assert compare_blinks(curve(200, 61), curve(200, 53, 62)) == BlinkCount(2, 1, 1, 0)
    assert compare_blinks(curve(200, 66), curve(200, 60)) == BlinkCount(1, 0, 1, 1)


def test_between_the_thresholds_a_blink_is_neither_lost_nor_false() -> None:
    middle = (openings.BLINK_DEPTH + openings.BLINK_ECHO) / 2
    weak, strong = curve(100, 50, depth=middle), curve(100, 50, depth=0.7)
    assert compare_blinks(weak, strong) == BlinkCount(1, 1, 0, 0)
    assert compare_blinks(strong, weak) == BlinkCount(0, 0, 1, 0)


def test_counts_add_up() -> None:
    total = sum((BlinkCount(4, 3, 4, 1), BlinkCount(6, 5, 6, 1)), BlinkCount())
    assert (total.recall, total.false_share) == (0.8, 0.2)
    assert np.isnan(BlinkCount().recall)
    assert np.isnan(BlinkCount().false_share)


def test_bad_input_is_named() -> None:
    with pytest.raises(TfcodecError, match="rate above 0"):
        find_blinks(curve(50), 0)
    with pytest.raises(TfcodecError, match="depth"):
        find_blinks(curve(50), 25, 1.5)
    with pytest.raises(TfcodecError, match="curves"):
        compare_blinks(curve(50), curve(60))


def test_constants_are_those_that_were_measured() -> None:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "eye_meter.json"
    measured = json.loads(path.read_text())["constants"]
    assert measured == {name: getattr(openings, name) for name in measured}
    assert set(measured) == {"MOUTH_NOISE", "EYE_NOISE", "BLINK_DEPTH", "BLINK_ECHO"}
