"""The layer of motion: how the face moved since the keyframe, as a tracker sees it.

The receiver looks for the face's landmarks in the decoded keyframe, with the tracker that comes with the network, and
the sender does the same: only how they moved is sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...bitstream import MotionTablesChunk
from ...motion import (
    LOST,
    MOTION_ID,
    NUMBERS,
    MotionDecoder,
    MotionEncoder,
    analyse,
    check_motion,
    distance,
    motion_hash,
)
from ...tinyframe.rangecoder import RangeDecoder, RangeEncoder
from .. import policy
from .layer import NEVER, Carrying, Frames, Said, Sending

if TYPE_CHECKING:
    from ...model.tracker import FaceTracker
    from ...model.tracking import Looking, Points

Found = tuple[NDArray[np.float32], NDArray[np.float32]]
Numbers = NDArray[np.int32]
"""[n, 17]: the 16 numbers of each frame, then 1 if there is a face, so that they were sent, and 0 if not."""


def announcement() -> MotionTablesChunk:
    """What says that a stream has the layer."""
    return MotionTablesChunk(MOTION_ID, motion_hash())


def numbers(values: NDArray[Any], present: NDArray[np.bool_]) -> Numbers:
    """What a coder gives, in one array [n, 17]."""
    return np.concatenate((values, present[:, None]), 1).astype(np.int32)


def _begun(work: Callable[..., Looking], *args: Any) -> Future[Looking]:
    """Done in a thread of its own."""
    done: Future[Looking] = Future()

    def run() -> None:
        try:
            done.set_result(work(*args))
        except BaseException as error:
            done.set_exception(error)

    # No daemon: torch does not like to be stopped in the middle.
    threading.Thread(target=run, name="tfcodec-recording").start()
    return done


class MotionLayerEncoder(Carrying):
    """Tracks the face and codes how it moved."""

    def __init__(self, coder: MotionEncoder, tracker: FaceTracker | None, mode: str, device: str) -> None:
        from ...model import tracking
        from ...model.tracker import FOUND

        self._coder, self._tracking, self._threshold = coder, tracking, FOUND
        self._tracker = tracking.default_tracker(device) if tracker is None else tracker
        self._weights = tracking.FILE if mode == "file" else tracking.CALL
        self._recorded: Future[Looking] | None = None
        if mode == "call" and tracker is None:
            # It pays in a call, and is done before the first frame comes. What others have made is used as it is.
            self._recorded = _begun(tracking.recorded, self._tracker, 1, 2)
        self._before: tuple[Points, NDArray[np.bool_]] | None = None
        self._reference: Points | None = None
        self._said = np.zeros((0, NUMBERS + 1), np.int32)
        self._looked: tuple[Frames, Found] | None = None

    def look(self, frames: Frames) -> None:
        self._looked = frames, self._find(frames)

    def _find(self, frames: Frames) -> Found:
        work = None if self._recorded is None else self._recorded.result()
        return self._tracking.find(frames, self._tracker, work)

    def reset(self, keyframe: Frames) -> None:
        marks, scores = self._find(keyframe[None])
        self._reference = marks[0] if scores[0] > self._threshold else None
        self._coder.reset()

    @property
    def place(self) -> tuple[int, int, int] | None:
        """See `Placing`."""
        if self._reference is None:
            return None
        eyes = distance(self._reference)  # which refuses what a tracker of one's own finds nowhere
        x, y = np.clip(np.rint(self._reference.mean(axis=0, dtype=np.float64)), 0, 255).astype(int).tolist()
        return x, y, int(np.clip(round(eyes), 1, 255))

    def set_quality(self, quality: int) -> None:
        self._coder.set_quality(policy.motion_quality(quality))

    def encode(self, frames: Frames, beside: Said) -> bytes:
        coder = RangeEncoder()
        self.encode_into(coder, frames, beside)
        return coder.finish()

    def encode_into(self, coder: RangeEncoder, frames: Frames, beside: Said) -> None:
        del beside
        marks, found = self._track(frames)
        present = found & (self._reference is not None)
        values = np.zeros((len(frames), NUMBERS))
        if self._reference is not None and present.any():
            values[present] = analyse(self._reference, marks[present])
        self._coder.encode_into(coder, values, present)
        self._said = numbers(*self._coder.reconstruction)

    def _track(self, frames: Frames) -> tuple[Points, NDArray[np.bool_]]:
        """Landmarks of the frames, smoothed with what is known of those before."""
        looked, self._looked = self._looked, None
        if looked is not None and looked[0] is frames:
            marks, scores = looked[1]
        else:
            marks, scores = self._find(frames)
        found = scores > self._threshold
        kept = 0
        if self._before is not None:
            kept = len(self._before[0])
            marks, found = np.concatenate((self._before[0], marks)), np.concatenate((self._before[1], found))
        reach = max(len(kernel) for kernel in self._weights.values())
        self._before = marks[-reach:], found[-reach:]
        return self._tracking.smooth(marks, found, self._weights)[kept:], found[kept:]

    @property
    def said(self) -> Numbers:
        return self._said


class MotionLayerDecoder(Carrying):
    """Payloads to numbers [n, 17] int32."""

    def __init__(self) -> None:
        self._coder = MotionDecoder()
        self._begun = False

    def reset(self, keyframe: Frames) -> None:
        del keyframe
        self._coder.reset()
        self._begun = True

    def decode(self, payload: bytes, frames: int) -> Numbers:
        return numbers(*self._coder.decode(payload, frames))

    def decode_from(self, coder: RangeDecoder, frames: int) -> Numbers:
        return numbers(*self._coder.decode_from(coder, frames))

    def lose(self, frames: int) -> Numbers:
        if not self._begun:
            return np.zeros((frames, NUMBERS + 1), np.int32)
        held = numbers(*self._coder.conceal(frames))
        held[:, -1] *= LOST  # so that the speech moves the lips
        return held


def encoder(sending: Sending) -> MotionLayerEncoder | None:
    if not sending.motion:
        return None
    coder = MotionEncoder(policy.motion_quality(sending.quality), sending.mode, refresh=NEVER)
    return MotionLayerEncoder(coder, sending.tracker, sending.mode, sending.device)


def decoder(announced: MotionTablesChunk) -> MotionLayerDecoder:
    check_motion(announced.motion_id, announced.motion_hash)
    return MotionLayerDecoder()
