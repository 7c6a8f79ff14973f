"""Sound of a live track as an encoder takes it: `av.AudioFrame` of any rate and format."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from ..errors import MediaError
from ..mixdown import LiveMix
from ..resample import Resampler
from ..samples import Samples, to_float

MAX_CHANNELS = 8


class TrackSound:
    """Frames of a track as one piece of mono sound. Their rate may change from one to the next.

    Args:
        rate: of what comes out, in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = Resampler(rate, prompt=True)
        self._mix = LiveMix()

    def mono(self, audio: Any) -> Any:
        """A list of frames as [n] float32, their channels mixed as those of files; anything else as it is.

        Raises MediaError.
        """
        if not isinstance(audio, list | tuple) or not all(isinstance(frame, av.AudioFrame) for frame in audio):
            return audio
        pieces = [_channels(frame) for frame in audio]  # before any of it is taken
        sound = [np.zeros(0, np.float32)]
        for piece, frame in zip(pieces, audio, strict=True):
            names = tuple(channel.name for channel in frame.layout.channels)
            sound.append(self._resampler.push(self._mix.push(piece, names, frame.sample_rate), frame.sample_rate))
        return np.concatenate(sound)


def _channels(frame: av.AudioFrame) -> Samples:
    """[channels, n] float32."""
    count = frame.layout.nb_channels
    if not 1 <= count <= MAX_CHANNELS:
        raise MediaError(f"sound of a track must have 1 to {MAX_CHANNELS} channels, not {count}")
    samples: Any = frame.to_ndarray()
    if samples.dtype == np.uint8:  # around 128
        samples = (samples.astype(np.int16) - 128) << 8
    elif samples.dtype == np.int32:
        samples = samples / 2.0**31
    sound = to_float(samples)
    return sound if frame.format.is_planar else sound.reshape(-1, count).T
