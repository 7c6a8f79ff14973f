"""What streams typically take, for those who cannot encode first and see: quality and speech codec for a budget.

The figures are means over talking heads: a clip with more movement takes more, and nothing here is a promise. In calls
`RateControl` looks at what is really sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from ..rates import FPS
from ..speech.choice import Choice, Name
from .results import Packet

Latency = Literal["call", "file"]

# By quality 0...10, in kbit/s; put together by benchmarks/publish/typical.py.
FILE_KBPS = (1.13, 1.2, 1.35, 1.53, 1.76, 2.09, 2.53, 3.24, 4.46, 6.05, 8.09)
"""Pictures in files of 8 s, all told: half of it is the keyframe."""
LAYERS_KBPS = (0.56, 0.61, 0.65, 0.76, 0.82, 0.89, 0.95, 1.11, 1.27, 1.48, 1.93)
"""Motion and tiny frames in calls."""
HEADER_KBPS = 1.1
"""Packets' headers in calls, with speech, at two frames a packet."""
SPEECH_KBPS: dict[Latency, dict[Name, dict[int, float]]] = {
    "file": {
        "opus": {6000: 5.26, 7000: 6.03, 8300: 7.25, 9000: 8.27, 10500: 9.67, 15500: 14.33, 24000: 22.45},
        "codec2": {1200: 1.21},
        "lyra": {1800: 1.23, 3600: 2.79},
    },
    "call": {
        "opus": {7000: 6.28, 9000: 8.63, 15500: 14.96},
        "codec2": {1200: 1.21},
        "lyra": {1800: 1.44, 3600: 3.04},
    },
}
"""By codec and nominal bit/s, in kbit/s, while somebody speaks."""

SPAN = 5 * FPS
"""Frames after which a call looks at what it has sent."""
SPREAD = 2
"""Spans over which a keyframe is paid for: it serves for longer than that."""


def speech_kbps(choice: Choice | None, latency: Latency) -> float:
    """What a speech codec typically takes; at other rates than the known ones the share of the nominal rate is like
    theirs."""
    if choice is None:
        return 0.0
    known = SPEECH_KBPS[latency][choice.name]
    shares = [kbps / rate for rate, kbps in known.items()]
    return choice.bit_rate * float(np.interp(choice.bit_rate, list(known), shares))


def video_kbps(quality: int, latency: Latency) -> float:
    """What pictures typically take; in calls layers and headers, but no keyframes."""
    return FILE_KBPS[quality] if latency == "file" else LAYERS_KBPS[quality] + HEADER_KBPS


class RateControl:
    """Says at which quality a call's pictures go on, so that all that is sent keeps to a budget. The speech stays as
    it is, and pauses in it are not spent on pictures.

    Args:
        kbps: the budget. The first keyframe, without which there is nothing to see, comes on top.
        quality: at which the call begins.
        speech_kbps: what the speech typically takes.

    Attributes:
        quality: at which it is to go on.
    """

    def __init__(self, kbps: float, quality: int, speech_kbps: float) -> None:
        self.quality = quality
        self._kbps, self._typical = kbps, speech_kbps
        self._bytes = {"layers": 0, "header": 0, "speech": 0}
        self._keyframes = 0.0  # bytes that are not paid for
        self._free = True
        self._begun = 0

    def sent(self, packets: Iterable[Packet]) -> None:
        """Take note of what is sent."""
        for packet in packets:
            if packet.keyframe:
                self._keyframes += 0 if self._free else len(packet)
                continue
            self._free = False
            header, speech = packet.parts.get("header", 0), packet.parts.get("speech", 0)
            self._bytes["header"] += header
            self._bytes["speech"] += speech
            self._bytes["layers"] += len(packet) - header - speech

    def at(self, frame: int) -> int:
        """The quality of what begins with frame number ``frame``: one step up or some down every `SPAN` frames."""
        if frame - self._begun >= SPAN:
            per_byte = 8 / 1000 * FPS / (frame - self._begun)
            layers, header, speech = (per_byte * self._bytes[part] for part in ("layers", "header", "speech"))
            due = self._keyframes / SPREAD
            room = self._kbps - header - max(speech, self._typical) - per_byte * due
            best = [q for q, kbps in enumerate(LAYERS_KBPS) if layers * kbps <= room * LAYERS_KBPS[self.quality]]
            self.quality = min(max(best, default=0), self.quality + 1)
            self._keyframes -= due
            self._bytes, self._begun = dict.fromkeys(self._bytes, 0), frame
        return self.quality
