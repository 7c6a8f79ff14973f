"""One frame of a call, drawn from what the receiver has: known tiny frames, and stand-ins for lost ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...model.inputs import LIPS_FUTURE, LIPS_REACH, MEL_BANDS, MEL_COLUMNS, MEL_PER_FRAME, REACH
from ...model.renderer import MEL_SILENCE, tiny_windows
from ...motion import LOST, SENT
from .jitter import SpeechJitter

if TYPE_CHECKING:
    from ...model.renderer import Drawer
    from .receiver import CallFrame, Keyframe, Receiver

SEARCH = 32
"""Frames in which a lost one looks for neighbours to be made from."""


class Scene:
    """What is needed to draw one frame, taken out of the receiver, so that drawing can go on while packets come."""

    def __init__(self, receiver: Receiver, frame: int, hears: bool = True) -> None:
        """``hears``: the network listens to the speech, as `Drawer.hears` says."""
        base = _nearest(receiver.frames, frame)
        if base is None:
            raise LookupError(f"nothing known around frame {frame}")
        self.keyframe: Keyframe = base.keyframe
        last = min(frame + REACH, max(receiver.newest, frame))
        while last > frame and not _belongs(receiver.frames.get(last), self.keyframe):
            last -= 1
        first = max(min(self.keyframe.frame, frame), frame - REACH)
        stack = np.stack([_tiny(receiver.frames, f, self.keyframe) for f in range(first, last + 1)])
        self.windows = tiny_windows(stack, np.array([frame - first]))
        self.motion = _motion(receiver.frames, frame, self.keyframe)
        self.mel = _mel(receiver.speech if hears else None, frame, last - frame)
        self.sound: NDArray[np.float32] | None = None
        if receiver.speech is not None and (self.motion is None or self.motion[0, -1] != SENT):
            self.sound = _mel(receiver.speech, frame, last - frame, LIPS_REACH, LIPS_FUTURE)[None]

    def same(self, other: Scene | None) -> bool:
        """Whether the other's picture is this one's, too, as when nothing moves."""
        return (
            other is not None
            and self.keyframe is other.keyframe
            and np.array_equal(self.windows, other.windows)
            and _equal(self.motion, other.motion)
            and _equal(self.sound, other.sound)
            and np.array_equal(self.mel, other.mel)
        )

    def draw(self, renderer: Drawer) -> NDArray[np.uint8]:
        """[256, 256, 3] uint8."""
        if renderer.keyframe is not self.keyframe.picture:
            renderer.set_keyframe(self.keyframe.picture)
        return renderer.render(self.windows, self.mel[None], motion=self.motion, sound=self.sound)[0]


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return (one is None and other is None) or (one is not None and other is not None and np.array_equal(one, other))


def _mel(
    line: SpeechJitter | None, frame: int, future: int, past: int = REACH, after: int = REACH
) -> NDArray[np.float32]:  # fmt: skip
    if line is None:
        return np.full((MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, np.float32)
    mel = line.mel(frame, future, past, after)
    mel[(past + 1 + future) * MEL_PER_FRAME :] = MEL_SILENCE
    return mel


def _belongs(found: CallFrame | None, keyframe: Keyframe) -> bool:
    return found is not None and found.keyframe is keyframe


def _nearest(frames: dict[int, CallFrame], frame: int) -> CallFrame | None:
    for f in (*range(frame, frame - SEARCH, -1), *range(frame + 1, frame + SEARCH)):
        if f in frames:
            return frames[f]
    return frames[max(frames)] if frames else None


def _tiny(frames: dict[int, CallFrame], frame: int, keyframe: Keyframe) -> NDArray[np.uint8]:
    """The tiny frame, or one made of its neighbours under the same keyframe."""
    before, after, share = _neighbours(frames, frame, keyframe)
    mixed = before.tiny * (1 - share) + after.tiny * share
    return np.round(mixed).astype(np.uint8)


def _motion(frames: dict[int, CallFrame], frame: int, keyframe: Keyframe) -> NDArray[np.int32] | None:
    """What the layer of motion says of a frame, or its neighbours, [1, 17]; None in calls without the layer.

    Where there is a neighbour on one side only, the head is held, and the mouth is left to the speech.
    """
    before, after, share = _neighbours(frames, frame, keyframe)
    if "motion" not in before.layers:
        return None
    one, other = before.layers["motion"], after.layers["motion"]
    if before is after:
        held = one.copy()
        held[-1] = one[-1] and (SENT if before is frames.get(frame) else LOST)
        return held[None]
    if not one[-1] or not other[-1]:  # nothing lies between a face and none: take the nearer
        return (one if share < 0.5 else other)[None]
    return np.round(one * (1 - share) + other * share).astype(np.int32)[None]


def _neighbours(
    frames: dict[int, CallFrame], frame: int, keyframe: Keyframe
) -> tuple[CallFrame, CallFrame, float]:  # fmt: skip
    """The known frames under the same keyframe between which a frame lies, and how far it is on the way, 0..1.

    Twice the frame itself if it is known; twice the only neighbour if there is but one.
    """
    found = frames.get(frame)
    if found is not None and found.keyframe is keyframe:
        return found, found, 0.0
    before = next((f for f in range(frame - 1, frame - SEARCH, -1) if _belongs(frames.get(f), keyframe)), None)
    after = next((f for f in range(frame + 1, frame + SEARCH) if _belongs(frames.get(f), keyframe)), None)
    if before is None or after is None:
        near = before if before is not None else after
        only = max(frames.items())[1] if near is None else frames[near]
        return only, only, 0.0
    return frames[before], frames[after], (frame - before) / (after - before)
