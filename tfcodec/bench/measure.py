"""Metrics of one decoded clip against its source, at sampled pairs of neighbouring frames.

Pictures are judged at every n-th frame, motion from that frame to the next. Every arm is judged at the same frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError
from .arms import Frames

Indices = NDArray[np.int64]
ReferenceKey = tuple[Path, int]


@dataclass(frozen=True)
class Metric:
    """What a metric is called and how it reads. ``better``: +1 where more is better, -1 where less is."""

    title: str
    unit: str
    better: int
    definition: str
    digits: int = 3


METRICS: dict[str, Metric] = {
    "lpips": Metric("LPIPS(alex)", "", -1, "LPIPS v0.1, AlexNet, RGB 256x256", 4),
    "psnr": Metric("PSNR", "dB", +1, "RGB, mean over frames of dB", 2),
    "ms_ssim": Metric("MS-SSIM", "", +1, "RGB, 5 scales", 4),
    "frame_difference": Metric("frame-difference error", "0..255", -1, "mean |change decoded - change source|", 3),
    "mouth": Metric("mouth-landmark distance", "inter-ocular", -1, "20 mouth landmarks (PFLD), mean over frames", 4),
    "mouth_shape": Metric("mouth-shape distance", "inter-ocular", -1, "as mouth, heads aligned by eyes and nose", 4),
    "identity": Metric("identity cosine", "", +1, "MobileFaceNet (ArcFace), mean over frames", 4),
}
DEFAULT = tuple(METRICS)


def definition(metric: str) -> str:
    """What decides a metric's value besides the pictures."""
    return METRICS[metric].definition


def sampled(length: int, every: int) -> Indices:
    """Indices of the frames that are decoded: every n-th, from the middle of the first n on, and the one after each.

    A clip shorter than that gives its last two frames (or its only one).
    """
    starts = np.arange(min(every // 2, max(length - 2, 0)), max(length - 1, 1), every)
    return np.unique(np.minimum(np.concatenate([starts, starts + 1]), length - 1))


def available(metrics: list[str] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics that can be computed here, of those asked for (None: all), and why the others cannot.

    Raises TfcodecError for an unknown name.
    """
    asked = list(metrics) if metrics is not None else list(DEFAULT)
    unknown = sorted(set(asked) - set(METRICS))
    if unknown:
        raise TfcodecError(f"no metric called {', '.join(unknown)}; there are {', '.join(METRICS)}")
    reasons: dict[str, str] = {}
    for metric in asked:
        try:
            _ready(metric)
        except TfcodecError as error:
            reasons[metric] = str(error)
    return tuple(m for m in METRICS if m in asked and m not in reasons), reasons


def _ready(metric: str) -> None:
    if metric == "lpips":
        _judge()
    elif metric == "ms_ssim":
        from ..metrics.files import need

        need("pytorch_msssim", "MS-SSIM")
    elif metric in ("mouth", "mouth_shape", "identity"):
        _meter()


def self_test(source: Frames, unrelated: Frames) -> str:
    """Check that the metrics put a video itself, a blurred, a frozen and an unrelated one in order; says with what.

    Args:
        source: [T, 256, 256, 3] uint8, a face that moves.
        unrelated: [256, 256, 3] uint8.

    Raises TfcodecError when they do not.
    """
    from ..metrics.selftest import selftest

    return "passed by " + ", ".join(selftest(source, unrelated).figures)


def measure(
    decoded: Frames, source: Frames, indices: Indices, metrics: list[str], key: ReferenceKey
) -> dict[str, float | None]:
    """Metrics (None where there is nothing to measure, such as no face) of sampled frames.

    Args:
        decoded, source: [K, 256, 256, 3] uint8, the frames with these ``indices``.
        metrics: names.
        key: names the source, so that what is computed of it alone is kept for the next arm.
    """
    from ..metrics import pixels

    neighbour = np.diff(indices) == 1
    first = np.append(neighbour, False)
    if not neighbour.any():
        first[:] = True
    # Of every=1 all frames but the last are a pair's first; the last one is judged as well.
    first[-1] |= bool(neighbour.all())
    a, b = decoded[first], source[first]
    _remember(key, b)
    out: dict[str, float | None] = {}
    landmarks: NDArray[np.float64] | None = None
    for metric in metrics:
        value: NDArray[np.float64]
        if metric == "lpips":
            value = _lpips(a, key)
        elif metric == "psnr":
            value = pixels.psnr(a, b)
        elif metric == "ms_ssim":
            value = pixels.ms_ssim(a, b)
        elif metric == "frame_difference":
            value = pixels.frame_difference_error(decoded, source)[neighbour] if len(source) > 1 else np.zeros(0)
        elif metric == "identity":
            from ..metrics.faces import identity_cosine

            landmarks = _meter().landmarks(a) if landmarks is None else landmarks
            value = identity_cosine(_meter().identity(a, landmarks), _source_identity(key))
        else:
            from ..metrics.faces import mouth_distance, mouth_shape_distance

            landmarks = _meter().landmarks(a) if landmarks is None else landmarks
            compare: Callable[..., NDArray[np.float64]] = mouth_distance if metric == "mouth" else mouth_shape_distance
            value = compare(landmarks, _source_landmarks(key))
        finite = value[np.isfinite(value)]
        out[metric] = round(float(finite.mean()), 6) if len(finite) else None
    return out


@cache
def _judge() -> Any:
    from ..metrics.lpips import LPIPS

    return LPIPS("alex")


@cache
def _meter() -> Any:
    from ..metrics.faces import FaceMeter

    return FaceMeter()


_source: dict[ReferenceKey, Frames] = {}


def _remember(key: ReferenceKey, frames: Frames) -> None:
    if key not in _source:
        _source.clear()
        _source[key] = frames


_BATCH = 16


def _embed(frames: Frames) -> Any:
    import torch

    with torch.inference_mode():
        return _judge().embed(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255)


@lru_cache(maxsize=1)
def _source_embeddings(key: ReferenceKey) -> list[Any]:
    frames = _source[key]
    return [_embed(frames[i : i + _BATCH]) for i in range(0, len(frames), _BATCH)]


@lru_cache(maxsize=1)
def _source_landmarks(key: ReferenceKey) -> NDArray[np.float64]:
    return np.asarray(_meter().landmarks(_source[key]))


@lru_cache(maxsize=1)
def _source_identity(key: ReferenceKey) -> NDArray[np.float64]:
    return np.asarray(_meter().identity(_source[key], _source_landmarks(key)))


def _lpips(frames: Frames, key: ReferenceKey) -> NDArray[np.float64]:
    import torch

    with torch.inference_mode():
        parts = [
            _judge().compare(_embed(frames[i * _BATCH : (i + 1) * _BATCH]), reference)
            for i, reference in enumerate(_source_embeddings(key))
        ]
    return np.asarray(torch.cat(parts).double().numpy())
