"""Do the metrics work here? Four anchors must score in order, or no figure can be believed.

Anchors of a video: itself, slightly blurred, an earlier frame frozen, and a picture of something else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..errors import TfcodecError, WeightsError
from . import frechet, pixels
from .faces import (
    FaceMeter,
    eye_crops,
    eye_opening,
    identity_cosine,
    mouth_crops,
    mouth_distance,
    mouth_opening,
    mouth_shape_distance,
)
from .files import MissingPackage
from .frames import Frames, check_frames
from .openings import EYE_NOISE, MOUTH_NOISE, moves, opening_correlation

# Standard deviation in pixels. At 1.0 LPIPS prefers two seconds of a frozen frame.
BLUR = 0.5


@dataclass(frozen=True)
class _Order:
    """Names of anchors from best to worst; anchors between commas in one string may come in any order."""

    higher_is_better: bool
    anchors: tuple[str, ...] = ("identical", "blurred", "frozen", "unrelated")


@dataclass
class Report:
    """``figures``: metric -> anchor -> mean score. ``skipped``: metric -> why it could not be had."""

    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def make_anchors(source: Frames, unrelated: Frames) -> dict[str, Frames]:
    """Anchors [T-1, H, W, 3] of a video [T, H, W, 3] uint8, whose first frame is the frozen one.

    ``unrelated`` [H, W, 3] uint8 is a picture of something else. Raises TfcodecError.
    """
    check_frames(source, "source", 4)
    if unrelated.shape != source.shape[1:] or unrelated.dtype != np.uint8:
        raise TfcodecError(f"the unrelated picture must be {list(source.shape[1:])} uint8, not {list(unrelated.shape)}")
    first, source = source[:1], source[1:]
    blurred = np.stack([gaussian_filter(frame, (BLUR, BLUR, 0)) for frame in source])
    return {
        "identical": source, "blurred": blurred, "frozen": np.broadcast_to(first, source.shape),
        "unrelated": np.broadcast_to(unrelated[None], source.shape),
    }  # fmt: skip


def selftest(source: Frames, unrelated: Frames, weights: str | Path | None = None) -> Report:
    """Score the anchors with every metric that is available, and check their order.

    Args:
        source: [T, H, W, 3] uint8, four frames or more of a face that moves clearly; sides of more than 160 pixels.
            Where its mouth or eyes keep still, correlations of their opening are skipped.
        unrelated: [H, W, 3] uint8, another person's picture, or none at all.
        weights: folder of metric networks; default as `tfcodec.metrics.files.find_weights`.

    Raises TfcodecError, with all figures of the metrics at fault, when anchors do not score in order.
    """
    anchors, report, wrong = make_anchors(source, unrelated), Report(), []
    for name, order, score in _metrics(anchors, weights, report):
        try:
            figures = {anchor: float(score(frames)) for anchor, frames in anchors.items()}
        except (MissingPackage, WeightsError) as error:
            report.skipped[name] = str(error)
            continue
        report.figures[name] = figures
        for better, worse in zip(order.anchors, order.anchors[1:], strict=False):
            for a in better.split(","):
                wrong += [
                    f"{name}: {a} {figures[a]:.4f} is not better than {b} {figures[b]:.4f}"
                    for b in worse.split(",")
                    if not (figures[a] > figures[b] if order.higher_is_better else figures[a] < figures[b])
                ]
    if wrong:
        raise TfcodecError("metrics do not order their anchors: " + "; ".join(wrong))
    return report


Score = Callable[[Frames], float]


def _metrics(anchors: dict[str, Frames], weights: str | Path | None, report: Report) -> list[tuple[str, _Order, Score]]:
    source = anchors["identical"]

    def mean(values: NDArray[np.float64]) -> float:
        return float(values.mean())

    up = _Order(True)
    # Two stills change equally little.
    in_time = _Order(False, ("identical", "blurred", "frozen,unrelated"))
    steady = _Order(True, ("identical", "blurred", "frozen,unrelated"))
    found: list[tuple[str, _Order, Score]] = [
        ("psnr", up, lambda x: mean(pixels.psnr(x, source))),
        ("ms_ssim", up, lambda x: mean(pixels.ms_ssim(x, source))),
        ("frame_difference_error", in_time, lambda x: mean(pixels.frame_difference_error(x, source))),
        ("flicker_ratio", steady, lambda x: pixels.flicker_ratio(x, source)),
    ]
    found += _learned(source, weights, report)
    return found + _faces(source, weights, report)


def _learned(source: Frames, weights: str | Path | None, report: Report) -> list[tuple[str, _Order, Score]]:
    from .lpips import FILES, LPIPS, lpips_of_frames

    found: list[tuple[str, _Order, Score]] = []
    for net in FILES:
        try:
            judge = LPIPS(net, weights)
        except WeightsError as error:
            report.skipped[f"lpips_{net}"] = str(error)
            continue

        def distance(x: Frames, judge: LPIPS = judge) -> float:
            return float(lpips_of_frames(judge, x, source).mean())

        found.append((f"lpips_{net}", _Order(False), distance))
    try:
        backbone = frechet.find_backbone(weights)
    except WeightsError as error:
        report.skipped["frechet"] = str(error)
        return found
    own = backbone.features(source)
    # A frozen frame is a sharp picture of the same population, so it need not lie farther away than a blurred video.
    order = _Order(False, ("identical", "blurred,frozen", "unrelated"))
    found.append((backbone.name, order, lambda x: frechet.frechet_distance(backbone.features(x), own)))
    return found


def _faces(source: Frames, weights: str | Path | None, report: Report) -> list[tuple[str, _Order, Score]]:
    openings = {"mouth_opening": (mouth_opening, MOUTH_NOISE), "eye_opening": (eye_opening, EYE_NOISE)}
    crops = {"mouth_lpips": mouth_crops, "eye_lpips": eye_crops}
    correlations = [f"{name}_correlation" for name in openings]
    names = ("mouth_distance", "mouth_shape_distance", "identity_cosine", *correlations, *crops)
    try:
        meter = FaceMeter(weights)
        own = meter.landmarks(source)
        person = meter.identity(source, own)
    except (WeightsError, MissingPackage) as error:
        report.skipped.update(dict.fromkeys(names, str(error)))
        return []
    faces = np.isfinite(own).all((1, 2))
    if not faces.all():
        report.skipped.update(dict.fromkeys(names, f"a face in only {faces.sum()} of {len(source)} frames"))
        return []

    # The unrelated picture may have no face at all, which is as wrong as can be.
    def distance(x: Frames, measure: Callable[..., NDArray[np.float64]]) -> float:
        return float(np.nan_to_num(measure(meter.landmarks(x), own), nan=np.inf).mean())

    def cosine(x: Frames) -> float:
        return float(np.nan_to_num(identity_cosine(meter.identity(x), person), nan=-1.0).mean())

    found: list[tuple[str, _Order, Score]] = [
        (name, _Order(False), lambda x, measure=measure: distance(x, measure))  # type: ignore[misc]
        for name, measure in (("mouth_distance", mouth_distance), ("mouth_shape_distance", mouth_shape_distance))
    ]
    # The frozen frame shows the same person sharply.
    found.append(("identity_cosine", _Order(True, ("identical", "blurred,frozen", "unrelated")), cosine))
    # No still follows anything.
    follows = _Order(True, ("identical", "blurred", "frozen,unrelated"))
    for name, (opening, noise) in openings.items():
        curve = opening(own)
        if not moves(curve, noise):
            report.skipped[f"{name}_correlation"] = f"{name}: the source does not move by more than the meter's noise"
            continue

        def follow(x: Frames, opening: Callable[..., Any] = opening, curve: NDArray[np.float64] = curve) -> float:
            return opening_correlation(opening(meter.landmarks(x)), curve)

        found.append((f"{name}_correlation", follows, follow))
    try:
        from .lpips import LPIPS, lpips_of_frames

        judge = LPIPS("alex", weights)
    except WeightsError as error:
        report.skipped.update(dict.fromkeys(crops, str(error)))
        return found
    for name, cut in crops.items():

        def looks(x: Frames, cut: Callable[..., Frames] = cut, of: Frames = cut(source, own)) -> float:  # noqa: B008
            return float(lpips_of_frames(judge, cut(x, own), of).mean())

        found.append((name, _Order(False), looks))
    return found
