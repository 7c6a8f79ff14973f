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
    energy = np.array([float(np.dot(c, c)) for c in channels])
    loudest = int(np.argmax(energy))
    top = energy[loudest]
    if top == 0:
        return channels[0]
    heard = channels[energy >= SILENT * top]
    mean: Samples = heard.mean(axis=0, dtype=np.float32)
    power = float(np.dot(mean, mean))
    if power < CANCELLED * top:
        return channels[loudest]
    gain = min(MAX_GAIN, float(np.sqrt(top / power)))
    peak = float(np.abs(mean).max())
    limit = max(float(np.abs(channels[loudest]).max()), peak)  # no louder than what came in
    gain = max(1.0, min(gain, limit / peak)) if peak else 1.0
    return mean * np.float32(gain)
