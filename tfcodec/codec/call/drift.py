"""A live sender's two clocks, the camera's and the sound card's, kept together.

Both are nominal: a sound card may give 16160 samples in a second, a camera 30 pictures. What waits for the other then
grows without bound. How much waits at the beginning is the caller's choice (sound may be pushed ahead), so only the
change since then counts. Sound that is too fast is resampled, by at most 2 %; of pictures that are too fast some are
left out.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from ...rates import SAMPLES_PER_FRAME
from ...samples import Samples

WINDOW = 25
"""Frames (1 s) over which the least sound that waits is taken: it comes in blocks of any size."""
BEGINNING = 2 * WINDOW
"""Frames after which the lead that the caller gives the sound is known."""
QUEUE_WINDOW = 8
"""Pushes over which the fewest pictures that wait are taken."""
SOUND_SLACK = SAMPLES_PER_FRAME // 2
"""Samples (20 ms) more than at the beginning that may wait."""
FRAME_SLACK = 1
MOST_EXTRA = SAMPLES_PER_FRAME // 50
BULK = 6
"""Frames, or frames' worth of sound, in one push from which on this is no live sender: nothing is corrected then."""


class Drift:
    """Says what to do about the drift.

    Attributes:
        samples: of sound that were taken away by resampling.
        frames: left out.
    """

    def __init__(self) -> None:
        self.samples = self.frames = 0
        self._sound: deque[int] = deque(maxlen=WINDOW)
        self._queue: deque[int] = deque(maxlen=QUEUE_WINDOW)
        self._coded = 0
        self._silent = QUEUE_WINDOW  # pushes since the last with sound
        self._sound_first: int | None = None
        self._queue_first: int | None = None

    def pushed(self, frames: int, samples: int) -> None:
        """So much was pushed at once."""
        self._silent = 0 if samples else self._silent + 1
        if self._silent > QUEUE_WINDOW:  # that is no slow clock: there is no sound
            self._queue.clear()
        if frames >= BULK or samples >= BULK * SAMPLES_PER_FRAME:
            self._sound.clear()
            self._queue.clear()
            self._sound_first, self._queue_first, self._coded = None, None, 0

    def extra(self, waiting: int) -> int:
        """How many samples to take beside those of the frame that is coded now; ``waiting`` would be left."""
        self._sound.append(waiting)
        self._coded += 1
        if self._coded < BEGINNING:
            return 0
        least = min(self._sound)
        if self._sound_first is None:
            self._sound_first = least
        extra = min(MOST_EXTRA, max(0, least - self._sound_first - SOUND_SLACK), waiting)
        self.samples += extra
        return extra

    def leaves_out(self, waiting: int) -> bool:
        """Whether to leave out a frame; so many wait for their sound."""
        self._queue.append(waiting)
        if len(self._queue) < QUEUE_WINDOW:
            return False
        least = min(self._queue)
        if self._queue_first is None:
            self._queue_first = least
        if waiting < 2 or least <= self._queue_first + FRAME_SLACK:
            return False
        for i in range(len(self._queue)):
            self._queue[i] -= 1
        self.frames += 1
        return True


def squeezed(sound: Samples, count: int) -> Samples:
    """Sound [n] as ``count`` samples; n differs by a few per cent only."""
    if len(sound) == count:
        return sound
    places = np.arange(count) * (len(sound) / count)
    return np.interp(places, np.arange(len(sound)), sound).astype(np.float32)
