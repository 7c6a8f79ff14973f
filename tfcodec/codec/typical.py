"""What a stream typically takes, and the best quality and speech codec for a budget: for those who cannot try.

The figures are means over talking heads (`benchmarks/measure/typical_rates.py`, clips of `train`; of speech
`benchmarks/results/speech_val.json`): a clip with more movement takes more, and nothing here is a promise.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import TfcodecError
from ..speech.choice import Choice, Name
from .file.budget import steps

Latency = Literal["call", "file"]

VIDEO_KBPS: dict[Latency, tuple[float, ...]] = {
    "file": (),
    "call": (),
}
"""Pictures by quality 0 to 10: in files all but the speech, keyframe included, in clips of 10 s; in calls layers and
packets' headers at two frames a packet, without keyframes."""

SPEECH_KBPS: dict[Latency, dict[Name, dict[int, float]]] = {
    "file": {},
    "call": {},
}
"""Speech by codec and nominal rate in bit/s, in kbit/s; while somebody speaks."""


def speech_kbps(choice: Choice | None, latency: Latency) -> float:
    """What a speech codec typically takes, between known rates by interpolation."""
    if choice is None:
        return 0.0
    known = SPEECH_KBPS[latency][choice.name]
    return float(np.interp(choice.bit_rate, list(known), list(known.values())))


def within(kbps: float, latency: Latency, speech: str, has_sound: bool) -> tuple[int, Choice | None]:
    """The best quality and speech codec that typically take at most so many kbit/s in all.

    Raises:
        TfcodecError: the fewest bits that there can be are more; the message says how many.
        SpeechCodecMissing: the codec asked for is not installed.
    """
    if not isinstance(kbps, int | float) or not 0 < kbps < float("inf"):
        raise TfcodecError(f"kbps must be a positive number, not {kbps!r}")
    ladder = steps(speech, has_sound)
    rates = [VIDEO_KBPS[latency][quality] + speech_kbps(choice, latency) for quality, choice in ladder]
    for rate, step in zip(rates, ladder, strict=True):
        if rate <= kbps:
            return step
    what = f"{latency} with speech" if has_sound else f"{latency} without speech"
    raise TfcodecError(f"{kbps:g} kbit/s are not enough: the fewest bits of a {what} are typically {rates[-1]:.1f} kbit/s")
