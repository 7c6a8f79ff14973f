"""Noise for the packets that were not sent: like what was heard last, so that a pause is not a hole."""

from __future__ import annotations

import numpy as np

from tfcodec.rates import SAMPLE_RATE
from tfcodec.samples import Samples
from tfcodec.speech.packets import Decoder

_WINDOW = SAMPLE_RATE // 50
_MEMORY = 5 * _WINDOW  # 100 ms: before a gap the sender lets noise alone through for longer than that
_TAPS = 64
_FADE = SAMPLE_RATE // 100


class ComfortNoise:
    """Noise of the level and the coarse spectrum of the end of some sound; the same at every run."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._filter = np.zeros(_TAPS, np.float32)
        self._noise = np.zeros(_TAPS - 1, np.float32)
        self._window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)

    def learn(self, sound: Samples) -> None:
        """Take the end of sound [n] for the background noise."""
        heard = sound[-_MEMORY:]
        count = 2 * len(heard) // _WINDOW - 1
        if count < 1:
            return
        pieces = np.stack([heard[i * _WINDOW // 2 :][:_WINDOW] for i in range(count)]) * self._window
        power = np.square(np.abs(np.fft.rfft(pieces, axis=1))) / np.square(self._window).sum()
        # The quieter half: a click at the end of a word is no background.
        quiet = np.argsort(power.sum(1))[: (count + 1) // 2]
        shape = np.sqrt(np.convolve(np.pad(power[quiet].mean(0), 4, mode="edge"), np.full(9, 1 / 9), "valid"))
        taps = np.roll(np.fft.irfft(shape, _WINDOW), _TAPS // 2)[:_TAPS] * np.hanning(_TAPS + 1)[:-1]
        self._filter = taps.astype(np.float32)

    def make(self, count: int) -> Samples:
        """The next ``count`` samples."""
        fresh = self._random.standard_normal(count, np.float32)
        noise = np.concatenate([self._noise, fresh])
        self._noise = noise[count:]
        return np.convolve(noise, self._filter, "valid").astype(np.float32)


class GapDecoder:
    """A decoder that tells packets that were not sent, which are empty, from those that were lost (None).

    What was not sent is comfort noise, and so is what is lost right after it; other losses are the codec's to conceal.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._comfort = ComfortNoise()
        self._heard = np.zeros(0, np.float32)
        self._pausing = False
        self._length = 0

    def decode(self, packet: bytes | None) -> Samples:
        """See `Decoder.decode`."""
        if packet == b"" or (packet is None and self._pausing):
            return self._pause()
        decoded = self._decoder.decode(packet)
        if packet is not None:
            self._heard = np.concatenate([self._heard, decoded])[-_MEMORY:]
        if self._pausing:
            decoded = _fade(self._comfort.make(_FADE), decoded)
            self._pausing = False
        return decoded

    def _pause(self) -> Samples:
        if self._pausing:
            return self._comfort.make(self._length)
        self._comfort.learn(self._heard)
        last = self._decoder.decode(None)  # the codec's own end of what it said
        self._length, self._pausing = len(last), True
        return _fade(last, self._comfort.make(self._length))


def _fade(old: Samples, new: Samples) -> Samples:
    ramp = np.linspace(0, 1, min(_FADE, len(old), len(new)), dtype=np.float32)
    out = new.copy()
    out[: len(ramp)] = ramp * new[: len(ramp)] + (1 - ramp) * old[: len(ramp)]
    return out
