"""Openings of mouth and eyes over time: do they follow the source's, and does the decoded face blink when it should?

An opening is a curve [T] in inter-ocular units (`tfcodec.metrics.faces.mouth_opening`, `eye_opening`), NaN where no
face was found. A blink lasts 3 to 10 frames at 25 frames/s, so blinks need the opening of every frame, or of every
second one. The constants were set on `train` (``benchmarks/measure/eye_meter.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError

Curve = NDArray[np.float64]

# Frames a second of video.
FPS = 25.0
# Standard deviation of an opening as the meter reads it from a picture and from the same picture coded as JPEG, in
# inter-ocular units.
MOUTH_NOISE, EYE_NOISE = 0.008, 0.002
# Something moves where its opening's standard deviation is at least so many times the noise.
MOVING = 2.0
# A blink closes the eyes by this share of how far they are open in this clip, and opens them again as far; the meter
# sees shut eyes half open...
BLINK_DEPTH = 0.18
# ... and where one of two videos has such a blink, the other has it too if it closes them by this share.
BLINK_ECHO = 0.12
# Seconds before and after the least opening within which the eyes are open.
BLINK_REACH = 0.4
# Seconds by which the same blink may be early or late in the other video.
BLINK_SHIFT = 0.12


def opening_correlation(decoded: Curve, source: Curve) -> float:
    """Correlation (Pearson) of an opening with the source's within one clip, over the frames where both have a face.

    0 with fewer than three such frames, or where either stands still, as a frozen picture does: it follows nothing.
    Raises TfcodecError unless both are [T].
    """
    _check(decoded, source)
    both = np.isfinite(decoded) & np.isfinite(source)
    a, b = decoded[both], source[both]
    if len(a) < 3 or a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def moves(source: Curve, noise: float) -> bool:
    """Whether the source's opening [T] changes by more than the meter's noise (`EYE_NOISE` or `MOUTH_NOISE`).

    Where it does not, its correlation is that of noise, and the clip says nothing about the decoder.
    """
    seen = source[np.isfinite(source)]
    return len(seen) >= 3 and bool(seen.std() >= MOVING * noise)


@dataclass(frozen=True)
class Blink:
    """Where the eyes are least open, as an index into the curve, and by which share of their usual opening they close:
    0 to 1."""

    at: int
    depth: float


def find_blinks(opening: Curve, fps: float = FPS, depth: float = BLINK_DEPTH) -> list[Blink]:
    """Blinks of a curve of eye openings, in order of time.

    A blink is a least opening from which the eyes open again on both sides within `BLINK_REACH`, by at least ``depth``
    of the clip's usual opening (its 75th percentile): its prominence. Eyes that only look down, stay closed or open
    slowly do not blink. Frames without a face are bridged by straight lines.

    Args:
        opening: [T] in any unit.
        fps: samples of the curve per second.
        depth: 0 to 1.

    Raises TfcodecError for another shape, rate or depth.
    """
    _check(opening, opening)
    if not fps > 0 or not 0 < depth <= 1:
        raise TfcodecError(f"blinks need a rate above 0 and a depth in 0..1, not {fps} and {depth}")
    seen = np.isfinite(opening)
    if seen.sum() < 3:
        return []
    curve = np.interp(np.arange(len(opening)), np.flatnonzero(seen), opening[seen])
    usual = float(np.percentile(curve, 75))
    if usual <= 0:
        return []
    from scipy.signal import find_peaks  # takes longer to import than all the rest here

    window = 2 * max(1, round(BLINK_REACH * fps)) + 1
    at, found = find_peaks(-curve / usual, prominence=depth, wlen=window)
    return [Blink(int(t), float(min(drop, 1.0))) for t, drop in zip(at, found["prominences"], strict=True)]


@dataclass(frozen=True)
class BlinkCount:
    """How many blinks: of the source, those of them that the decoded video shows; of the decoded video, those of them
    that the source does not have. Counts of clips can be added."""

    source: int = 0
    shown: int = 0
    decoded: int = 0
    false: int = 0

    def __add__(self, other: BlinkCount) -> BlinkCount:
        return BlinkCount(
            self.source + other.source, self.shown + other.shown, self.decoded + other.decoded, self.false + other.false
        )

    @property
    def recall(self) -> float:
        """Share of the source's blinks that the decoded video shows; NaN without any."""
        return self.shown / self.source if self.source else float("nan")

    @property
    def false_share(self) -> float:
        """Share of the decoded video's blinks that the source does not have; NaN without any."""
        return self.false / self.decoded if self.decoded else float("nan")


def compare_blinks(decoded: Curve, source: Curve, fps: float = FPS) -> BlinkCount:
    """Blinks of the source [T] that the decoded video [T] shows, and false ones.

    A blink counts when it reaches `BLINK_DEPTH`; the other video has it too when its eyes close by `BLINK_ECHO` within
    `BLINK_SHIFT` of it. Without that gap a blink that just reaches the threshold would be lost or false by the meter's
    noise alone. One blink answers for one. Raises TfcodecError as `find_blinks`.
    """
    _check(decoded, source)
    ours, own = find_blinks(decoded, fps, BLINK_ECHO), find_blinks(source, fps, BLINK_ECHO)
    pairs = matched_blinks(ours, own, fps)
    deep = [[b.depth >= BLINK_DEPTH for b in blinks] for blinks in (own, ours)]
    with_source, with_ours = {j for _, j in pairs}, {i for i, _ in pairs}
    return BlinkCount(
        sum(deep[0]),
        sum(deep[0][j] for j in with_source),
        sum(deep[1]),
        sum(isdeep and i not in with_ours for i, isdeep in enumerate(deep[1])),
    )


def matched_blinks(a: list[Blink], b: list[Blink], fps: float = FPS) -> list[tuple[int, int]]:
    """Pairs of indices of blinks that lie within `BLINK_SHIFT` of one another; the nearest first, each blink once."""
    within = BLINK_SHIFT * fps
    near = sorted((abs(x.at - y.at), i, j) for i, x in enumerate(a) for j, y in enumerate(b))
    used_a, used_b, pairs = set(), set(), []
    for distance, i, j in near:
        if distance <= within and i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            pairs.append((i, j))
    return pairs


def _check(a: Curve, b: Curve) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise TfcodecError(f"openings must be curves [T] of one length, not {list(a.shape)} and {list(b.shape)}")
