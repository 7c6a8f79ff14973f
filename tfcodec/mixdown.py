"""Any number of channels to one, so that speech survives: nothing cancels out, and no level is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SILENT = 0.01
"""Energy of a channel, against the loudest one's, below which (20 dB) it is left out."""
CANCELLED = 0.1
"""Energy of the mean, against the loudest channel's, below which they cancel out: the loudest is then taken alone."""
MOST = 8
"""Channels that are kept where it is not known which loudspeakers they are for; more are folded into these."""
REMEMBERED = 0.5
"""Seconds of sound that a live mix judges by (a time constant)."""
MAX_GAIN = 2.0
"""By how much (6 dB) the mean is made louder, at most, to be as loud as the loudest channel."""

_SIDES = {
    "FL": (1.0, 0.0), "FR": (0.0, 1.0), "FC": (1.0, 1.0), "LFE": (0.0, 0.0), "LFE2": (0.0, 0.0),
    "FLC": (1.0, 0.0), "FRC": (0.0, 1.0), "BL": (0.5, 0.0), "BR": (0.0, 0.5), "SL": (0.5, 0.0), "SR": (0.0, 0.5),
    "BC": (0.5, 0.5), "DL": (1.0, 0.0), "DR": (0.0, 1.0),
}  # fmt: skip
"""What each loudspeaker's channel gives to the left and the right; others are left out."""


def to_few(channels: Samples, names: tuple[str, ...]) -> Samples:
    """Channels [n, samples] for loudspeakers of these names -> at most `MOST` channels, two if the places are known.

    The centre, where speech is in films, is then in both sides at its full level. This looks at no samples, so that it
    can be done piece by piece.
    """
    if len(channels) <= 2:
        return channels
    if "FL" in names or "FC" in names:
        weights = np.array([_SIDES.get(name, (0.0, 0.0)) for name in names], np.float32).T
        mixed: Samples = weights @ channels
        return mixed
    if len(channels) <= MOST:
        return channels
    folded: Samples = np.stack([channels[i::MOST].mean(axis=0) for i in range(MOST)])
    return folded


def to_one(channels: NDArray[Any]) -> Samples:
    """Channels [n, samples] -> [samples] float32: their mean, at the level of the loudest one.

    Silent channels are left out: a microphone on one side only keeps its level. Where the channels cancel out (a cable
    with reversed poles), the loudest is taken alone.
    """
    channels = channels.astype(np.float32)
    if len(channels) == 1 or not channels.shape[1]:
        return np.ascontiguousarray(channels[0])
    products = _products(channels)
    weights = _shares(products)
    gain = _gain(weights, products)
    mean: Samples = weights.astype(np.float32) @ channels
    peak = float(np.abs(mean).max())
    if peak:  # no louder than what came in
        gain = max(1.0, min(gain, float(np.abs(channels).max()) / peak))
    return mean * np.float32(gain)


class LiveMix:
    """`to_few` and `to_one` for sound that comes piece by piece.

    It judges by the last half second, and goes over from one judgement to the next within a piece, without a click.
    """

    def __init__(self) -> None:
        self._products: NDArray[np.float64] | None = None
        self._weights: NDArray[np.float64] | None = None

    def push(self, channels: NDArray[Any], names: tuple[str, ...], rate: int) -> Samples:
        """Channels [n, samples] at ``rate`` Hz -> [samples] float32. Another number of channels is a new beginning."""
        few = to_few(channels.astype(np.float32), names)
        if len(few) == 1 or not few.shape[1]:
            self._products = self._weights = None
            return np.ascontiguousarray(few[0])
        new = _products(few)
        if not np.isfinite(new).all():  # it is not ours to refuse, and must not be remembered
            return few.mean(axis=0, dtype=np.float32)
        if self._products is None or len(self._products) != len(few):
            self._products = self._weights = None
            products = new
        else:
            products = self._products * np.exp(-few.shape[1] / (REMEMBERED * rate)) + new
        weights = _shares(products)
        weights *= min(_gain(weights, products), _gain(weights, new))
        before = weights if self._weights is None else self._weights
        if before @ new @ before > 2 * np.diag(new).max():  # the channels have changed so much that it is wrong at once
            before = weights
        self._products, self._weights = products, weights
        way = np.linspace(0, 1, few.shape[1], dtype=np.float32)
        one: Samples = before.astype(np.float32) @ few * (1 - way) + weights.astype(np.float32) @ few * way
        limit = np.abs(few).max()  # no louder than what came in
        return np.clip(one, -limit, limit)


def _products(channels: Samples) -> NDArray[np.float64]:
    """Of every channel with every other one, summed up."""
    products: NDArray[np.float64] = (channels @ channels.T).astype(np.float64)
    return products


def _shares(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each channel gives to the mean, in all 1."""
    energy = np.diag(products)
    loudest = int(np.argmax(energy))
    top = float(energy[loudest])
    heard = energy >= SILENT * top
    weights = heard / heard.sum()
    cancelled = weights @ products @ weights < CANCELLED * top
    return np.eye(len(energy))[loudest] if cancelled else weights


def _gain(weights: NDArray[np.float64], products: NDArray[np.float64]) -> float:
    """What makes the mean as loud as the loudest channel."""
    power = float(weights @ products @ weights)
    return max(1.0, min(MAX_GAIN, float(np.sqrt(np.diag(products).max() / power)))) if power > 0 else 1.0
