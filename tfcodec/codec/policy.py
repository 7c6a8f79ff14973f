"""When to send a keyframe, and which picture to choose. Encoder policy: nothing here binds a decoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Signature = NDArray[np.float32]
"""[32, 32] luma of a picture, 0..255: enough to see pose and scene, cheap enough for every frame."""

SCENE_CUT = 900.0
"""Mean squared difference of signatures between neighbouring frames that no head movement makes in 40 ms."""
DRIFT = 1600.0
"""Mean squared difference to the keyframe (16 dB) beyond which a fresh keyframe is worth its bytes ..."""
DRIFT_GAIN = 0.4
"""... if it brings the difference down to this share."""
MIN_INTERVAL = 50
"""Frames (2 s) between two keyframes that drift asks for; scene cuts and requests need not wait."""


def signature(frame: NDArray[np.uint8]) -> Signature:
    """Signature of a picture [256, 256, 3] uint8."""
    green = frame.reshape(32, 8, 32, 8, 3)[:, ::2, :, ::2].sum((1, 3), dtype=np.float32)
    return np.asarray(green @ np.array([0.2126, 0.7152, 0.0722], np.float32) / 16, np.float32)


def distance(a: Signature, b: Signature) -> float:
    """Mean squared difference of two signatures, leaving out a change of overall brightness."""
    d = a - b
    return float(np.square(d).mean() - np.square(d.mean()))


def is_scene_cut(previous: Signature, current: Signature) -> bool:
    return distance(previous, current) > SCENE_CUT


def choose_keyframe(signatures: list[Signature]) -> int:
    """Index of the frame that is nearest to all the others (the medoid): it needs the least animation."""
    stack = np.stack([s.ravel() for s in signatures]).astype(np.float64)
    stack -= stack.mean(1, keepdims=True)
    squares = np.square(stack).sum(1)
    pairwise = squares[:, None] + squares[None] - 2 * stack @ stack.T
    return int(np.sqrt(np.maximum(pairwise, 0)).sum(1).argmin())


def has_drifted(keyframe: Signature, window: list[Signature]) -> bool:
    """Whether a keyframe chosen from ``window`` would serve it so much better that it should be sent."""
    now = float(np.mean([distance(keyframe, s) for s in window]))
    if now < DRIFT:
        return False
    best = window[choose_keyframe(window)]
    return float(np.mean([distance(best, s) for s in window])) < DRIFT_GAIN * now
