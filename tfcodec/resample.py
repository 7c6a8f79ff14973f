"""Sound from one sample rate to another, as it comes, through FFmpeg's swresample."""

from __future__ import annotations

from typing import Any

import numpy as np

from .rates import SAMPLE_RATE
from .samples import Samples

HELD = 16
"""Samples, at the lower of the two rates, that the filter holds back until it has heard what follows."""


class Resampler:
    """Mono sound to one rate, in pieces of any size, which leave no trace; the rate that comes in may change.

    Everything keeps its time: sample n of what comes out belongs to ``n / to_rate`` seconds of what went in.

    Args:
        to_rate: in Hz.
        prompt: what was pushed comes out at once, and not up to 2 ms of it with the next push. The sound is later by
            that then: 1 ms, or 16 samples of a rate below ``to_rate`` (2 ms at 8 kHz).
    """

    def __init__(self, to_rate: int = SAMPLE_RATE, *, prompt: bool = False) -> None:
        self.to_rate, self._prompt = to_rate, prompt
        self._rate = to_rate
        self._resampler: Any = None
        self._late = 0  # samples, of what came out so far

    def push(self, samples: Samples, rate: int) -> Samples:
        """Take samples [n] float32 at ``rate`` Hz; gives those at ``to_rate`` Hz that are ready, [m] float32."""
        out = [np.zeros(0, np.float32)]
        if rate != self._rate:
            out.append(self.flush())
            self._rate = rate
        if rate == self.to_rate:
            return np.concatenate([*out, samples])
        if self._resampler is None:
            from av.audio.resampler import AudioResampler

            self._resampler = AudioResampler(format="flt", layout="mono", rate=self.to_rate)
            if self._prompt:
                late = max(self._late, -(-HELD * self.to_rate // min(rate, self.to_rate)))
                out.append(np.zeros(late - self._late, np.float32))
                self._late = late
        for start in range(0, len(samples), rate):
            out += self._resampled(samples[start : start + rate])
        return np.concatenate(out)

    def flush(self) -> Samples:
        """What is still held back; the next piece begins anew."""
        out = [np.zeros(0, np.float32)]
        if self._resampler is not None:
            out += [frame.to_ndarray().reshape(-1) for frame in self._resampler.resample(None)]
            self._resampler = None
        return np.concatenate(out)

    def _resampled(self, samples: Samples) -> list[Samples]:
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate = self._rate
        return [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]


def resample(samples: Samples, rate: int, to_rate: int) -> Samples:
    """Float32 [n] mono at ``rate`` Hz as a whole, at ``to_rate`` Hz."""
    resampler = Resampler(to_rate)
    return np.concatenate([resampler.push(samples, rate), resampler.flush()])


def is_rate(value: object) -> bool:
    """Whether this is a sample rate that can be used, in Hz."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str | bytes) and 1000 <= number <= 768_000 and number == int(number)
