"""The receiver of a call: packets in as they arrive, a frame out at every tick of the receiver's clock."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..model.registry import ModelEntry, find_model
from .picture import Scene
from .playout import Playout
from .receiver import CallReceiver
from .render import Renderer
from .speechline import SAMPLES_PER_FRAME
from .tracks import GREY

EXTRAPOLATE = 25
"""Ticks (1 s) without a new frame for which the mouth goes on moving with the sound; then the picture stands."""


@dataclass(frozen=True)
class CallStats:
    """How a call goes, at the receiver.

    Attributes:
        received, lost, duplicates, reordered, damaged: packets.
        lost_share: lost of all that were sent, 0..1.
        shown, held, skipped: frames shown, ticks at which the frame before was shown again, frames left out.
        delay_frames: frames between the newest that a packet has named and the one shown.
        waiting_for_keyframe: the keyframe that frames refer to is missing.
    """

    received: int
    lost: int
    duplicates: int
    reordered: int
    damaged: int
    lost_share: float
    shown: int
    held: int
    skipped: int
    delay_frames: int
    waiting_for_keyframe: bool


class Decoder:
    """Decodes a call. `push` takes packets in any order; `pull` gives the picture for now and never fails.

    What is lost is concealed: the picture stands, its mouth going on with the sound, until there is something newer;
    what lies between is left out, so that a loss adds no delay. `feedback` tells the sender what is missing.

    With ``worker=True`` a thread decodes and draws ahead, `push` and `pull` only hand over and return within a
    millisecond, and when the machine is too slow frames are left out instead of falling behind. Without it both work in
    the calling thread, and everything depends on the packets alone: the same at every run.

    Args:
        lookahead: 0, 1 or 2 frames (of 40 ms) to wait for, so that the network sees a little more of the future. With 0
            speech comes one frame later than the picture, because its codec delays it by 6.5 ms.
        worker: see above. `close` ends the thread; a ``with`` block does so by itself.
        fast: compute in bfloat16 where the processor has it (see `tfcodec.codec.render.Renderer`); by default in the
            worker only.

    Attributes:
        early: with a worker, seconds that the last frame could have been pulled earlier; a display that chooses its own
            ticks keeps the delay short by keeping this near zero.
    """

    def __init__(self, *, lookahead: int = 0, worker: bool = False, fast: bool | None = None) -> None:
        if lookahead not in (0, 1, 2):
            raise ValueError(f"lookahead must be 0, 1 or 2, not {lookahead!r}")
        self.lookahead = lookahead
        self.early = 0.0
        self.fast = worker if fast is None else fast
        self._threaded = worker
        self._start()

    def _start(self) -> None:
        from .worker import DrawingThread

        self.receiver = CallReceiver()
        self.playout = Playout(self.lookahead)
        self.entry: ModelEntry | None = None  # the network that the call names
        self.renderer: Renderer | None = None
        self.lock = threading.Lock()  # of the playout clock; held for microseconds
        self._tick = 0
        self._shown_count = 0
        self._drawn: int | None = None
        self._shown = np.full((256, 256, 3), GREY, np.uint8)
        self._sound = np.zeros(SAMPLES_PER_FRAME, np.float32)
        self._worker = DrawingThread(self) if self._threaded else None

    def reset(self) -> None:
        """Forget everything, as after a new call has begun."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the worker's thread, if there is one; `pull` then goes on giving the last picture."""
        if self._worker is not None:
            self._worker.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def wants_keyframe(self) -> bool:
        """The picture stands because something was lost; `feedback` says what, or ask for a keyframe."""
        return self.receiver.header is None or self.receiver.wanted or self.receiver.broken

    @property
    def next_frame(self) -> int | None:
        """Number of the frame that comes next; None before the first one was shown."""
        return None if self.playout.position is None else self.playout.position + 1

    @property
    def stats(self) -> CallStats:
        """How the call goes."""
        receiver, arrivals, position = self.receiver, self.receiver.arrivals, self.playout.position
        delay = 0 if position is None or receiver.seen is None else receiver.seen - position
        return CallStats(
            arrivals.received, arrivals.lost, arrivals.duplicates, arrivals.reordered, receiver.damaged,
            arrivals.lost / max(1, arrivals.expected), self._shown_count, self.playout.held, self.playout.skipped,
            max(0, delay), receiver.wanted,
        )  # fmt: skip

    def push(self, packet: bytes) -> None:
        """Take one packet; a damaged one is counted and ignored.

        Raises:
            UnsupportedVersion: the call needs a newer version of tfcodec.
            WeightsError: the call names a network that is not installed.
        """
        if self._worker is not None:
            self._worker.push(packet)
        else:
            self.take(packet)

    def pull(self, *, draw: bool = True) -> NDArray[np.uint8]:
        """The picture for this tick, [256, 256, 3] uint8 RGB; grey before the first keyframe has come.

        Without ``draw`` the clock goes on, but the network is spared, and the picture is one drawn before; not with a
        worker.
        """
        self._tick += 1
        if self._worker is not None:
            picture = self._worker.pull()
            if picture is not None:
                self._shown = picture
                self._shown_count += 1
        else:
            self._pull_now(draw)
        self._listen()
        return self._shown.copy()

    def pull_audio(self) -> NDArray[np.float32]:
        """Speech of the tick of the last `pull`: [640] float32 at 16 kHz; silence where there is none."""
        return self._sound

    def feedback(self) -> bytes | None:
        """What to send back to the sender now, for its `Encoder.push_feedback`; to be asked after every `pull`."""
        return self._worker.feedback(self._tick) if self._worker is not None else self.receiver.feedback(self._tick)

    def take(self, packet: bytes) -> None:
        """`push`, at once and in this thread."""
        header = self.receiver.push(packet)
        if header is not None:
            self.entry = find_model(header.model_id, header.model_hash)
            if not self._threaded:
                self.renderer = Renderer(self.entry, fast=self.fast)

    def choose(self, after: int | None = None) -> int | None:
        """The frame to draw next, if there is one. The caller holds the lock."""
        receiver = self.receiver
        return self.playout.choose(receiver.newest, receiver.frames.__contains__, receiver.end, after)

    def _pull_now(self, draw: bool) -> None:
        frame = self.choose()
        if frame is not None:
            self.playout.shown(frame, self.receiver.newest)
            self._shown_count += 1
        else:
            self.playout.hold()
            frame = self.standing() or self.playout.position
        if draw and frame is not None and frame != self._drawn and self.renderer is not None:
            self._shown = Scene(self.receiver, frame).draw(self.renderer)
            self._drawn = frame

    def standing(self) -> int | None:
        """The frame to draw, though it has not come, while the picture stands; None when it is not worth it."""
        position, waited = self.playout.position, self.playout.waited
        ended = self.receiver.end is not None and position is not None and position >= self.receiver.end - 1
        if position is None or self.receiver.speech is None or not 0 < waited <= EXTRAPOLATE or ended:
            return None
        return position + waited

    def _listen(self) -> None:
        with self.lock:
            line, position, waited = self.receiver.speech, self.playout.position, self.playout.waited
        if line is None or position is None:
            self._sound = np.zeros(SAMPLES_PER_FRAME, np.float32)
        else:
            self._sound = line.frame(position + waited - (0 if self.lookahead else 1))
