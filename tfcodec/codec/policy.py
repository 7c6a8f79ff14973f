"""When to send a keyframe, and which picture to choose. Encoder policy: nothing here binds a decoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Signature = NDArray[np.float32]
"""[32, 32] luma of a picture, 0..255: enough to see pose and scene, cheap enough for every frame."""

SCENE_CUT = 900.0
"""At a scene cut the signatures of neighbouring frames differ by more than this (mean squared difference) ..."""
CUT_RATIO = 3.0
"""... and by more than this many times as much as just before: violent movement lasts, a cut is a single jump."""
DRIFT = 1600.0
"""A fresh keyframe may be worth its bytes if frames differ from the old one by more than this (16 dB) ..."""
DRIFT_GAIN = 100_000.0
"""... and if it lowers the difference, summed over its frames, by more than this: by a second of another picture."""
MIN_INTERVAL = 50
"""Least frames (2 s) from a keyframe to one sent for drift. Scene cuts and requests need not wait."""
PATIENCE = 25
"""Frames (1 s) in a row that must have drifted before a call sends one: heads turn away and come back."""

NEARLY = 1.1
"""A sharper frame may be up to 10 % farther from the others than the medoid."""

# The ladder: by quality 0...10, of a keyframe that serves TYPICAL_FRAMES frames, of tiny frames and of motion. From
# benchmarks/search/ladder_search.py (clips of `train`): now that the motion says how the face moves, a bit is worth
# most in the keyframe, and tiny frames may be coarse; coarser still, light and background would no longer follow. At
# quality 5 what the moved keyframe saves in tiny frames goes into the keyframe, so that the rate stayed.
_KEYFRAME_LADDER = (0.0, 0.8, 1.6, 2.5, 3.4, 4.41, 5.6, 6.8, 8.0, 9.2, 10.6)
_TINY_LADDER = (0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 7)
_MOTION_LADDER = (0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 10)
_DISPLACEMENT_LADDER = (0, 1, 2, 3, 5, 7, 7, 7, 8, 9, 10)  # not searched for

TYPICAL_FRAMES = 250
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_SERVED = (125, 1000)
_STEPS_PER_OCTAVE = 3.4  # steps of keyframe quality that double the bytes


def signature(frame: NDArray[np.uint8]) -> Signature:
    """Signature of a picture [256, 256, 3] uint8."""
    rows = frame[::2, ::2].reshape(32, 4, 3 * 128).sum(1, dtype=np.uint16)
    squares = rows.reshape(32, 32, 4, 3).sum(2, dtype=np.uint16).astype(np.float32)
    return np.asarray(squares @ _LUMA / 16, np.float32)


def distance(a: Signature, b: Signature) -> float:
    """Mean squared difference of two signatures, leaving out a change of overall brightness."""
    d = a - b
    return float(np.square(d).mean() - np.square(d.mean()))


class CutDetector:
    """Tells scene cuts from movement, one frame after another."""

    def __init__(self) -> None:
        self._previous: Signature | None = None
        self._recent: list[float] = []

    def is_cut(self, current: Signature) -> bool:
        """Whether a new scene begins with this frame."""
        change = 0.0 if self._previous is None else distance(self._previous, current)
        before = max(self._recent, default=0.0)
        self._previous = current
        self._recent = [*self._recent[-4:], change]
        return change > max(SCENE_CUT, CUT_RATIO * before)


class CallPolicy:
    """When a call sends a keyframe unasked: at the beginning, at scene cuts, and when the picture has drifted."""

    def __init__(self) -> None:
        self._cuts = CutDetector()
        self.cut = False
        """The frame that was asked about last begins a new scene."""
        self._keyframe: Signature | None = None
        self._sent_at = 0
        self._adrift = 0

    def wants(self, frame: int, mark: Signature) -> bool:
        """Whether frame number ``frame``, with this signature, needs a keyframe. Ask once for every frame, in order."""
        self.cut = self._cuts.is_cut(mark)
        if self._keyframe is None:
            return True
        self._adrift = self._adrift + 1 if distance(self._keyframe, mark) > DRIFT else 0
        return self.cut or (frame - self._sent_at >= MIN_INTERVAL and self._adrift >= PATIENCE)

    def serves(self, frame: int) -> int:
        """Frames that a keyframe of this frame will serve, as far as one can tell: one for drift no more than the one
        before did. So those who move a lot, and need many, pay less for each (`later_keyframes.json`)."""
        if self._keyframe is None or self.cut:
            return TYPICAL_FRAMES
        return min(frame - self._sent_at, TYPICAL_FRAMES)

    def sent(self, frame: int, mark: Signature) -> None:
        """Take note that a keyframe of that frame is sent."""
        self._keyframe, self._sent_at, self._adrift = mark, frame, 0


def keyframe_quality(quality: int, frames: int) -> float:
    """Quality at which to code a keyframe that will serve so many frames.

    A keyframe is paid for once and seen in every frame, so its bytes grow with the square root of the frames that use
    it. At quality 5 a clip of 5 seconds or more then comes to about 2 kbit/s.
    """
    served = min(max(frames, _SERVED[0]), _SERVED[1])
    octaves = 0.5 * float(np.log2(served / TYPICAL_FRAMES))
    return min(max(_KEYFRAME_LADDER[quality] + _STEPS_PER_OCTAVE * octaves, 0.0), 10.0)


def tiny_quality(quality: int) -> int:
    """Quality at which to code tiny frames, for the quality that the user asks for."""
    return _TINY_LADDER[quality]


def motion_quality(quality: int) -> int:
    """Quality at which to code motion, for the quality that the user asks for."""
    return _MOTION_LADDER[quality]


def displacement_quality(quality: int) -> int:
    """Quality at which to code displacement, for the quality that the user asks for."""
    return _DISPLACEMENT_LADDER[quality]


def sharpness(frame: NDArray[np.uint8]) -> float:
    """Mean luma gradient of the middle of a picture [256, 256, 3] uint8, where the face is."""
    luma = frame[64:200, 56:200] @ _LUMA
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def choose_keyframe(signatures: list[Signature], frames: list[NDArray[np.uint8]] | None = None) -> int:
    """Index of the picture to send as keyframe.

    The frame that is nearest to all the others (the medoid) needs the least animation. With ``frames`` the sharpest of
    those that are nearly as near is taken instead: open eyes and visible teeth have more edges than closed ones, and
    cannot be invented by the decoder.
    """
    stack = np.stack([s.ravel() for s in signatures]).astype(np.float64)
    stack -= stack.mean(1, keepdims=True)
    squares = np.square(stack).sum(1)
    pairwise = squares[:, None] + squares[None] - 2 * stack @ stack.T
    remoteness = np.sqrt(np.maximum(pairwise, 0)).sum(1)
    if frames is None:
        return int(remoteness.argmin())
    near = np.flatnonzero(remoteness <= NEARLY * remoteness.min())
    return int(max(near, key=lambda i: sharpness(frames[i])))


def has_drifted(keyframe: Signature, window: list[Signature]) -> bool:
    """Whether a keyframe chosen from ``window`` would serve it so much better that it should be sent."""
    now = float(np.mean([distance(keyframe, s) for s in window]))
    if now < DRIFT:
        return False
    best = window[choose_keyframe(window)]
    return len(window) * (now - float(np.mean([distance(best, s) for s in window]))) > DRIFT_GAIN
