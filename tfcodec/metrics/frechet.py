"""Frechet distance between two sets of frames: do the decoded pictures look, as a population, like the sources?

Gaussians are fitted to the features of both sets and their Frechet (2-Wasserstein) distance is taken, as in FID (Heusel
et al., NeurIPS 2017). It is called FID only on the Inception network that FID is defined with; figures on other
backbones have other scales and are compared with each other alone. Few samples bias it upwards: compare figures of
equally many frames only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError, WeightsError
from .files import find_weights, weights_path
from .frames import Frames, check_frames

Features = NDArray[np.float64]

# The original TensorFlow graph as TorchScript, in the form that the StyleGAN repositories' metrics use.
INCEPTION = "inception-2015-12-05.pt"
_BATCH = 16


@dataclass(frozen=True)
class Backbone:
    """``name`` goes beside every figure: "FID" or "Frechet(...)"; ``features`` maps frames to [T, D] float64."""

    name: str
    features: Callable[[Frames], Features]


def find_backbone(weights: str | Path | None = None) -> Backbone:
    """Inception where its weights are in the folder, else the backbone of LPIPS(alex).

    Args:
        weights: folder with the networks; default as `tfcodec.metrics.files.find_weights`.

    Raises WeightsError where there is neither.
    """
    folder = Path(weights) if weights is not None else find_weights()
    if folder is not None and (folder / INCEPTION).is_file():
        return inception(folder)
    return alexnet(folder)


def inception(weights: str | Path | None = None) -> Backbone:
    """FID's own Inception v3, the 2048 features of its last pooling, from a TorchScript file that also resizes."""
    import torch

    path = weights_path("FID", INCEPTION, weights)
    try:
        network: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        raise WeightsError(f"{path} does not hold FID's Inception network: {error}") from None

    network.eval()

    def run(pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = network(pixels, return_features=True)
        return features

    return Backbone("FID", _batched(run))


def alexnet(weights: str | Path | None = None) -> Backbone:
    """LPIPS(alex)'s backbone: spatial mean of the last convolution's activations, 256 features."""
    from .lpips import LPIPS

    judge = LPIPS("alex", weights)
    import torch

    mean, std = judge.get_buffer("mean"), judge.get_buffer("std")

    def run(pixels: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = judge.features((pixels.float() / 127.5 - 1 - mean) / std)
        return maps.mean((2, 3))

    return Backbone("Frechet(AlexNet relu5)", _batched(run))


def _batched(run: Callable[[Any], Any]) -> Callable[[Frames], Features]:
    import torch

    def features(frames: Frames) -> Features:
        check_frames(frames)
        with torch.inference_mode():
            parts = [
                run(torch.tensor(np.ascontiguousarray(frames[i : i + _BATCH])).permute(0, 3, 1, 2))
                for i in range(0, len(frames), _BATCH)
            ]
            return np.asarray(torch.cat(parts).double().numpy())

    return features


def frechet_distance(a: Features, b: Features) -> float:
    """Squared Frechet distance of the Gaussians fitted to features [N, D] and [M, D]; N, M >= 2.

    The trace of the square root of the product of the covariances is the sum of the singular values of X Y^T (centred
    samples X, Y): no square root of a singular matrix is ever taken, so that fewer samples than features do no harm.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise TfcodecError(f"features must be [N, D] and [M, D] of two frames or more, not {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise TfcodecError("features must be finite")
    mean = a.mean(0) - b.mean(0)
    x, y = (_root(s) for s in (a, b))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(0.0, mean @ mean + np.square(x).sum() + np.square(y).sum() - 2 * cross))


def _root(samples: Features) -> Features:
    # A matrix R with R^T R = covariance, no taller than it is wide.
    centred = (samples - samples.mean(0)) / np.sqrt(len(samples) - 1)
    return centred if len(centred) <= centred.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))
