"""Sound as the codec wants it: 16 kHz, one channel, float32, first sample at the first picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfcodec import mixdown
from tfcodec.errors import MediaError
from tfcodec.media.timing import MAX_SECONDS
from tfcodec.resample import is_rate, resample
from tfcodec.samples import to_float

if TYPE_CHECKING:
    import av

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
MAX_CHANNELS = 64
SPREAD_SECONDS = Fraction(1, 28)
"""By how much timestamps may be at odds with the number of samples: below it is jitter, beyond it a gap or an overlap.
A piece of sound lies in the middle of what its timestamps say, so that it is never off by more than half of it."""
FINE_SECONDS = Fraction(1, 500)
"""Below this it is the rounding of timestamps, to milliseconds say, and a piece lies where its first one says."""


@dataclass
class _Piece:
    """Sound that is continuous: since when, by the first timestamp; [n, channels] with their full scale; the least and
    the greatest that later timestamps differ from that."""

    time: Fraction
    full: float
    parts: list[NDArray[np.int16]] = field(default_factory=list)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    def spread(self, off: Fraction) -> Fraction:
        """What lies between least and greatest, with a timestamp that differs by ``off``."""
        return max(self.high, off) - min(self.low, off)

    def differs(self, off: Fraction) -> None:
        self.low, self.high = min(self.low, off), max(self.high, off)

    @property
    def place(self) -> Fraction:
        """When it is heard."""
        middle = (self.low + self.high) / 2
        return self.time + (middle if abs(middle) > FINE_SECONDS else 0)


class SoundTrack:
    """Collects decoded audio frames and lays them out by their timestamps at 16 kHz mono.

    Frames that follow one another are resampled as one piece. Where the timestamps jump, a new piece begins,
    so that sound stays with the pictures after a gap in the recording. How channels become one is decided for
    each piece as a whole (see `tfcodec.mixdown`).
    """

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self._resampler: Any = None
        self._form: tuple[int, str, str] | None = None
        self._names: tuple[str, ...] = ()
        self._next = Fraction(0)
        self._room = MAX_SECONDS * SAMPLE_RATE

    def add(self, frame: av.AudioFrame) -> None:
        """Take the next decoded frame."""
        from av.audio.resampler import AudioResampler

        rate = frame.sample_rate
        if not rate or not frame.samples or self._room <= 0:
            return
        time = self._next
        if frame.pts is not None and frame.time_base:
            time = frame.pts * Fraction(frame.time_base)
        form = (rate, frame.format.name, frame.layout.name)
        off = time - self._next
        if self._resampler is None or form != self._form or self._pieces[-1].spread(off) > SPREAD_SECONDS:
            self._flush()
            # Channels stay apart, since swresample would mix them by fixed weights; packed, since PyAV reads beyond the
            # end of a list of eight planes.
            self._resampler = AudioResampler(format="flt", rate=SAMPLE_RATE)
            self._form = form
            self._names = tuple(channel.name for channel in frame.layout.channels)
            self._pieces.append(_Piece(time, 1.0 if len(self._names) <= 2 else 4.0))
            self._next, off = time, Fraction(0)
        self._pieces[-1].differs(off)
        frame.pts = None  # one piece is continuous; the resampler must not act on jitter
        self._keep(self._resampler.resample(frame))
        self._next += Fraction(frame.samples, rate)

    def _keep(self, frames: list[av.AudioFrame]) -> None:
        piece = self._pieces[-1]
        for frame in frames:
            self._room -= frame.samples
            channels = frame.to_ndarray().astype(np.float32).reshape(-1, len(self._names)).T
            kept = np.nan_to_num(mixdown.to_few(channels, self._names))
            piece.parts.append((np.clip(kept.T / piece.full, -1, 1) * 32767).round().astype(np.int16))

    def _flush(self) -> None:
        if self._resampler is not None:
            self._keep(self._resampler.resample(None))
            self._resampler = None

    def aligned(self, start: Fraction, duration: Fraction) -> Samples | None:
        """The sound from `start` (seconds, on the clock of the timestamps) on, cut or filled with silence to
        `duration`.

        None when no sound was taken at all.
        """
        self._flush()
        if not self._pieces:
            return None
        track = np.zeros(round(duration * SAMPLE_RATE), np.float32)
        for piece in self._pieces:
            if not piece.parts:
                continue
            place = round((piece.place - start) * SAMPLE_RATE)
            kept = np.concatenate(piece.parts)[max(0, -place) :]
            place = max(0, place)
            kept = kept[: max(0, len(track) - place)]
            samples = mixdown.to_one(kept.T) * np.float32(piece.full / 32767)
            if piece.full > 1 and len(samples):  # the sum of many loudspeakers can be louder than one
                samples /= max(np.float32(1), np.abs(samples).max())
            track[place : place + len(samples)] = samples
        return track


def from_array(audio: ArrayLike, sample_rate: float | None, duration: Fraction) -> Samples:
    """[n] or [n, channels] samples, float in -1...1 or int16, at `sample_rate` Hz -> float32 [round(duration *
    16000)].

    Channels become one as those of files do; the end is cut or filled with silence. Raises MediaError for other shapes
    or types, for a missing or impossible rate, and for samples that are not finite.
    """
    samples = to_float(audio)
    if samples.ndim == 2 and 1 <= samples.shape[1] <= MAX_CHANNELS:
        samples = mixdown.to_one(samples.T)
    if samples.ndim != 1:
        raise MediaError(
            f"audio must be [n] or [n, channels], at most {MAX_CHANNELS} of them, not {list(samples.shape)}"
        )
    if sample_rate is None:
        raise MediaError("audio given as an array needs sample_rate=")
    if not is_rate(sample_rate):
        raise MediaError(f"sample_rate must be a whole number from 1000 to 768000 Hz, not {sample_rate!r}")
    wanted = round(duration * SAMPLE_RATE)
    rate = int(sample_rate)
    samples = samples[: int(duration * rate) + rate]  # a second more than needed: the resampler looks ahead
    track = np.zeros(wanted, np.float32)
    converted = resample(samples, rate, SAMPLE_RATE)[:wanted]
    track[: len(converted)] = converted
    return track
