"""The log-mel spectrogram of speech, as the network hears it. Needs no torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from ..rates import SAMPLE_RATE
from ..samples import Samples, check_samples
from .inputs import MEL_BANDS

_WINDOW, _FFT = 400, 512
MARGIN = _WINDOW
"""Samples before and behind some frames that are more than enough for their columns."""
_FLOOR_DB, _SPAN_DB = -90.0, 45.0  # -90 dB -> -1, 0 dB -> 1


@functools.cache
def _mel_matrix() -> tuple[Samples, Samples]:
    """Window `[400]`, scaled so that a full-scale sine has power 1, and filter bank `[257, 80]`."""
    window = np.hanning(_WINDOW + 1)[:-1]
    return (2 * window / window.sum()).astype(np.float32), mel_bank(_FFT)[0].astype(np.float32)


def mel_bank(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filter bank `[size / 2 + 1, 80]` for a Fourier transform of ``size`` values, and the filters' widths in Hz, [80].

    The bank is `librosa.filters.mel(sr=16000, n_fft=size, n_mels=80, norm=None).T`, computed here because
    importing librosa takes seconds; a test compares the two.
    """
    top = 15 + np.log(8) / (np.log(6.4) / 27)  # 8000 Hz on Slaney's scale: 1000 Hz is 15, linear below, log above
    mel = np.linspace(0, top, MEL_BANDS + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * (np.log(6.4) / 27)))
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.linspace(0, SAMPLE_RATE / 2, size // 2 + 1)[:, None]
    bank = np.maximum(0, np.minimum((hertz - lower) / (centre - lower), (upper - hertz) / (upper - centre)))
    return bank, upper - lower


def log_mel(
    pcm: Samples | Sequence[float], frames: int, fps: float = 25.0, start: int = 0, first: int = 0
) -> Samples:
    """Log-mel spectrogram, four columns a video frame.

    Column `c` is taken from a Hann window of 25 ms around the middle of the `c`-th quarter of a frame, so
    that columns `4 t ... 4 t + 3` cover the 40 ms in which frame `t` is shown. Power in 80 mel bands
    (Slaney's scale, 0 to 8 kHz, triangles of height 1) relative to a full-scale sine, in dB: -90 dB and less
    become -1, 0 dB becomes 1.

    Args:
        pcm: `[n] float32` at 16 kHz. What lies outside it counts as silence.
        frames: video frames to cover.
        fps: frames a second.
        start: index in `pcm` of frame 0's first sample. With at least 120 samples before and after
            the frames asked for, a window of a longer signal gives the columns of the whole (streaming).

    Returns:
        `[4 * frames, 80] float32` in -1...1.

    Raises:
        MediaError: if the sound is not one-dimensional and finite, or `frames` or `fps` make no sense.
    """
    if frames < 0 or not 1 <= fps <= 1000:
        raise MediaError(f"log-mel of {frames} frames at {fps} frames/s")
    samples = check_samples(pcm)
    window, bank = _mel_matrix()
    columns = 4 * frames
    # Integer positions: the same column of the same sound never depends on where the array begins.
    middles = np.floor((np.arange(4 * first, 4 * first + columns) + 0.5) * (SAMPLE_RATE / (4 * fps))).astype(np.int64)
    begin = middles - _WINDOW // 2 + start
    out = np.full((columns, MEL_BANDS), -1.0, np.float32)
    inside = np.flatnonzero((begin > -_WINDOW) & (begin < len(samples)))
    padded = np.concatenate([np.zeros(_WINDOW, np.float32), samples, np.zeros(_WINDOW, np.float32)])
    views = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
    for at in range(0, len(inside), 4096):  # bounded memory for long sound
        chosen = inside[at : at + 4096]
        power = np.abs(np.fft.rfft(views[begin[chosen] + _WINDOW] * window, _FFT, axis=1)) ** 2
        level = 10 * np.log10(np.maximum(power @ bank, 1e-12))
        out[chosen] = np.clip((level - _FLOOR_DB) / _SPAN_DB - 1, -1, 1)
    return out
