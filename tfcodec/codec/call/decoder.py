"""The receiver of a call: packets in as they arrive, a frame out at every tick of the receiver's clock."""

from __future__ import annotations

import threading
import weakref
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ...arguments import packet as checked_packet
from ...arguments import whole
from ...model.registry import check_network
from ...model.renderer import Drawer
from ...rates import FPS, SAMPLES_PER_FRAME
from ...runtime import Runtime, check_runtime, open_renderer
from ..results import Shown
from .conceal import Scene
from .state import CallState, CallStats
from .worker import DrawingThread

GREY = 128
RECORD_FROM, RECORDED_FROM = 1, 8
"""Without a worker: pictures after which the network is recorded, and after which it is drawn from the recording."""


class Decoder:
    """Decodes a call. `push` takes packets in any order; `pull` gives the picture for now and never fails.

    What is lost is concealed: a lost frame between two that have come is drawn from what lies between theirs; after the
    last one the head stands, and the lips go on with the speech for a second. So a loss adds no delay.
    `feedback` tells the sender what is missing.

    With ``worker=True`` threads decode and draw ahead. `push` and `pull` only hand over, and return within a
    millisecond; on a machine that is too slow, frames are left out and the delay does not grow. Without it `push` and
    `pull` work in the calling thread, and the pictures depend on the packets alone: they are the same at every run.

    Args:
        lookahead: 0, 1 or 2 frames (of 40 ms) to wait for, so that the network sees a little more of the future. With 0
            speech comes one frame later than the picture, because its codec delays it by 6.5 ms.
        worker: see above. `close` ends the threads; a ``with`` block does so by itself.
        fast: compute in bfloat16 where the processor has it (see `tfcodec.model.renderer.Renderer`). With ``False``
            pictures are those of `tfcodec.decode`.
        network: ``"light"`` draws with the light network, as `tfcodec.decode` does.
        runtime: what draws, as for `tfcodec.decode`.

    Attributes:
        call: what is known of the call; with a worker, to be read and not to be changed.
    """

    def __init__(
        self,
        *,
        lookahead: int = 0,
        worker: bool = False,
        fast: bool = True,
        network: str | None = None,
        runtime: Runtime = "torch",
    ) -> None:
        check_network(network)
        self.lookahead, self.network = whole("lookahead", lookahead, 0, 2), network
        self.fast = bool(fast)
        self.runtime = check_runtime(runtime)
        self._threaded = worker
        self._start()

    def _start(self) -> None:
        self.call = CallState(self.lookahead, self.network)
        self._renderer: Drawer | None = None  # without a worker
        self._pictures = 0  # drawn without a worker
        self._recording: threading.Thread | None = None
        self._scene: Scene | None = None
        self._tick = 0
        self._shown_count = 0
        self._drawn: tuple[int, int] | None = None  # sender and frame
        self._picture = np.full((256, 256, 3), GREY, np.uint8)
        self._shown: Shown | None = None
        self._sound = np.zeros(SAMPLES_PER_FRAME, np.float32)
        self._worker = DrawingThread(self.call, fast=self.fast, runtime=self.runtime) if self._threaded else None
        if self._worker is not None:  # a decoder that is dropped without `close` leaves no threads
            weakref.finalize(self, self._worker.end)

    def reset(self) -> None:
        """Forget everything, as after a new call has begun."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the worker's threads, if there are any; `pull` then goes on giving the last picture."""
        if self._worker is not None:
            self._worker.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def early(self) -> float:
        """With a worker, seconds that the last frame could have been pulled earlier; else 0.

        A display that chooses its own ticks keeps the delay short by keeping this near zero.
        """
        return 0.0 if self._worker is None else self._worker.early

    @property
    def wants_keyframe(self) -> bool:
        """Whether the picture stands because something was lost: `feedback` says what, or ask for a keyframe."""
        receiver = self.call.receiver
        return receiver.header is None or receiver.wanted or receiver.broken

    @property
    def position(self) -> int | None:
        """Number of the frame shown last; None before the first."""
        return self.call.playout.position

    @property
    def shown(self) -> Shown | None:
        """Which frame the last `pull` gave, and whether it was a new one; None before the first.

        Without ``draw``: which it would have given.
        """
        return self._shown

    @property
    def next_frame(self) -> int | None:
        """Number of the frame that comes next; None before the first one was shown."""
        return None if self.position is None else self.position + 1

    @property
    def speech_missing(self) -> str:
        """The call's speech codec that is not installed, and how to get it, in one line; else empty."""
        jitter = self.call.receiver.speech
        return "" if jitter is None else jitter.missing

    @property
    def stats(self) -> CallStats:
        """How the call goes."""
        return self.call.stats(self._shown_count)

    def push(self, packet: bytes) -> None:
        """Take one packet; a damaged one is counted and ignored.

        Raises:
            TfcodecError: it is no bytes.
            UnsupportedVersion: the call needs a newer version of tfcodec.
            WeightsError: the call names a network that is not installed, or ``network`` may not stand in for it.
            BitstreamError: the first packet is a piece of a file (`Encoder(latency="file")`): see `tfcodec.decode`.
            With a worker, what went wrong in its threads comes out of the next `push`.
        """
        data = checked_packet(packet)
        if self._worker is not None:
            self._worker.push(data)
            return
        if self.call.take(data) is not None and self.call.entry is not None:
            self._renderer = open_renderer(self.call.entry, fast=self.fast, runtime=self.runtime)
            self._pictures, self._recording = 0, None

    def pull(self, *, draw: bool = True) -> NDArray[np.uint8]:
        """The picture for this tick, [256, 256, 3] uint8 RGB; grey before the first keyframe has come.

        Without ``draw`` the clock goes on, but the network is spared, and the picture is one drawn before; not with a
        worker.
        """
        self._tick += 1
        self.call.tick()
        frame, known = self._pull_drawn() if self._worker is not None else self._pull_now(draw)
        if frame is not None:
            self._shown = Shown(frame, frame / FPS, "fresh" if known else "concealed")
        elif self._shown is not None:
            self._shown = self._shown._replace(state="held")
        self._listen()
        return self._picture.copy()

    def pull_audio(self) -> NDArray[np.float32]:
        """Speech of the tick of the last `pull`, however often it is asked for: [640] float32 at 16 kHz; silence where
        there is none."""
        return self._sound.copy()

    def feedback(self) -> bytes | None:
        """What to send back to the sender now, for its `Encoder.push_feedback`; to be asked after every `pull`."""
        if self._worker is not None:
            return self._worker.feedback(self._tick)
        return self.call.receiver.feedback(self._tick)

    def _pull_drawn(self) -> tuple[int | None, bool]:
        """The frame that is shown now, if it is a new one, and whether it has come; drawn by the worker."""
        drawn = None if self._worker is None else self._worker.pull()
        if drawn is None:
            return None, False
        self._picture = drawn.picture
        self._shown_count += not drawn.standing
        return drawn.number, drawn.known

    def _pull_now(self, draw: bool) -> tuple[int | None, bool]:
        """The same, drawn here."""
        call = self.call
        frame = call.choose()
        if frame is not None:
            call.playout.shown(frame, call.receiver.newest)
            self._shown_count += 1
        else:
            call.playout.hold()
            frame = call.standing()
        drawn = frame if frame is not None else call.playout.position
        which = None if drawn is None else (call.senders, drawn)
        if draw and drawn is not None and which != self._drawn and self._renderer is not None:
            self._draw(Scene(call.receiver, drawn, self._renderer.hears), self._renderer)
            self._drawn = which
        return frame, frame in call.receiver.frames

    def _draw(self, scene: Scene, renderer: Drawer) -> None:
        if scene.same(self._scene):
            return
        # Which pictures are drawn from the recording depends on nothing but their number, so that they are the same at
        # every run: it is made by another thread, and used from a certain picture on.
        if self._pictures == RECORD_FROM and self.call.entry is not None:
            other = open_renderer(self.call.entry, fast=self.fast, runtime=self.runtime)
            self._recording = threading.Thread(target=other.prepare, name="tfcodec-recording")
            self._recording.start()
        elif self._pictures >= RECORDED_FROM and self._recording is not None:
            self._recording.join()
            self._recording = None
            renderer.prepare()
        self._picture, self._scene = scene.draw(renderer), scene
        self._pictures += 1

    def _listen(self) -> None:
        call = self.call
        with call.lock:
            speech, position, waited = call.receiver.speech, call.playout.position, call.playout.waited
        if speech is None or position is None:
            self._sound = np.zeros(SAMPLES_PER_FRAME, np.float32)
        else:
            self._sound = speech.frame(position + waited - (0 if self.lookahead else 1))
