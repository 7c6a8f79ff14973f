"""The threads in which a receiver decodes and draws, ahead of the clock."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import TfcodecError
from ...model.registry import ModelEntry, default_model, stand_ins
from ...model.renderer import Drawer
from ...runtime import Runtime, open_renderer
from .conceal import Scene
from .state import CallState

if TYPE_CHECKING:
    from ...model.keyframing import Keyframes
    from .receiver import Keyframe

MAX_PENDING = 1024
"""Packets that wait for the thread; more come only from a hostile sender or a stopped machine, and are dropped."""
MARGIN = 0.005
"""Seconds that a frame should be ready before it is needed."""
STANDING_AFTER = 3
"""Ticks without a frame before one is drawn from sound alone: sooner, it would hold up a frame that is only late."""
DRAWERS = max(1, min(2, os.cpu_count() or 1))
"""Threads that draw, one core each. Two frames side by side are done sooner than one after the other on two cores: the
threads of one frame wait for each other at every layer, and for long if another program takes a core."""

ENOUGH = 0.03
"""Seconds: where a frame takes less, one thread draws them all in time. Side by side each takes longer where cores
share units, and uses more."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture [256, 256, 3] uint8 of a frame.

    Attributes:
        known: the frame had come; otherwise it is made up.
        standing: it is drawn only because the picture stands.
    """

    picture: NDArray[np.uint8]
    number: int
    known: bool
    standing: bool


class DrawingThread:
    """Serves one `Decoder`, whose call it is given.

    Takes packets, draws the next frames as soon as they can be drawn, and keeps them for `pull`.

    Attributes:
        drawing: seconds that drawing takes, a running mean.
        early: see `Decoder`.
    """

    def __init__(self, call: CallState, *, fast: bool, runtime: Runtime = "torch") -> None:
        self.drawing = 0.03
        self.early = 0.0
        self._call, self._fast, self._runtime = call, fast, runtime
        self._packets: queue.Queue[bytes] = queue.Queue(MAX_PENDING)
        self._wake = threading.Event()
        self._drawers = ThreadPoolExecutor(DRAWERS, "tfcodec-drawing")
        self._own = threading.local()  # each drawing thread's renderer
        self._keyframes: Keyframes | None = None  # which they share
        self._keyframe: Keyframe | None = None  # the newest, known to the drawing threads
        self._hears = True
        self._last: tuple[Scene, NDArray[np.uint8]] | None = None
        # What is drawn and not shown yet, by number; -1: the picture stands. Guarded by the call's lock.
        self._ready: dict[int, Drawn] = {}
        self._begun: set[int] = set()
        self._sender = call.senders
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=64)  # when the newest frame became which
        self._closed = False
        self._error: Exception | None = None
        self._feedback_wanted: int | None = None
        self._feedback: bytes | None = None
        self._thread = threading.Thread(target=self._run, name="tfcodec-decoder", daemon=True)
        self._thread.start()
        self._asked: set[ModelEntry] = set()
        self._recorded: set[ModelEntry] = set()
        self._opening = threading.Lock()
        newest = default_model()  # which the call will most likely name
        self._record(stand_ins(newest).get(call.network or "", newest))

    def push(self, packet: bytes) -> None:
        if not self._packets.full():
            self._packets.put_nowait(bytes(packet))
            self._wake.set()
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, TfcodecError):
                raise error
            raise TfcodecError(f"pictures cannot be drawn here ({type(error).__name__}: {error})") from error

    def pull(self) -> Drawn | None:
        call, now = self._call, time.monotonic()
        with call.lock:
            frames = [f for f in self._ready if f >= 0]
            if frames:
                frame = min(frames)
                drawn = self._ready.pop(frame)
                arrivals = list(self._arrivals)
                usable = [n for at, n in arrivals if at < now - self.drawing - MARGIN]
                call.playout.shown(frame, max(usable, default=frame))
                needed = frame + call.playout.lookahead
                self.early = now - self.drawing - next((at for at, n in arrivals if n >= needed), now)
                self._ready.pop(-1, None)
            else:
                standing = self._ready.pop(-1, None)
                call.playout.hold(late=any(f >= 0 for f in self._begun))
                self._wake.set()
                return standing
        self._wake.set()
        return drawn

    def feedback(self, tick: int) -> bytes | None:
        # Made by the thread, which owns the receiver, and fetched here: at most one tick later.
        said, self._feedback = self._feedback, None
        self._feedback_wanted = tick
        self._wake.set()
        return said

    def end(self) -> None:
        """Let the threads come to their end, without waiting for it."""
        self._closed = True
        self._wake.set()
        self._drawers.shutdown(wait=False, cancel_futures=True)
        if self._keyframes is not None:
            self._keyframes.close()

    def close(self) -> None:
        self.end()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            try:
                self._work()
            except Exception as error:  # the thread has to outlive whatever it is: the call goes on
                self._error = error

    def _work(self) -> None:
        call = self._call
        while not self._packets.empty():
            call.take(self._packets.get_nowait())
        if call.senders != self._sender:
            with call.lock:  # what was drawn of the sender before is of no use any more
                self._sender = call.senders
                self._ready.clear()
                self._begun.clear()
                self._arrivals.clear()
        self._look_ahead()
        newest = call.receiver.newest
        if newest >= 0 and (not self._arrivals or self._arrivals[-1][1] != newest):
            self._arrivals.append((time.monotonic(), newest))
        tick, self._feedback_wanted = self._feedback_wanted, None
        if tick is not None and self._feedback is None:
            self._feedback = call.receiver.feedback(tick)
        while (frame := self._next()) is not None:
            number = call.standing() if frame < 0 else frame
            entry = call.entry
            if number is None or entry is None:
                return
            with call.lock:
                self._begun.add(frame)
            scene, known = Scene(call.receiver, number, self._hears), number in call.receiver.frames
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._drawers.submit(self._draw, self._sender, entry, scene, frame, number, known)

    def _look_ahead(self) -> None:
        """Have what is computed of a new keyframe computed while its frames are still on the way."""
        call = self._call
        keyframe, entry = call.receiver.keyframe, call.entry
        if keyframe is not None and keyframe is not self._keyframe and entry is not None:
            self._keyframe = keyframe
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._drawers.submit(self._know, entry, keyframe.picture)

    def _know(self, entry: ModelEntry, picture: NDArray[np.uint8]) -> None:
        try:
            self._renderer(entry).set_keyframe(picture)
        except Exception as error:
            self._error = error

    def _next(self) -> int | None:
        """The frame to begin drawing now; -1: the picture stands, and may go on with the sound."""
        call = self._call
        with call.lock:
            position = call.playout.position
            planned = self._begun | self._ready.keys()
            at_once = 1 if self.drawing < ENOUGH else DRAWERS
            if len(self._begun) >= at_once or len(planned) >= DRAWERS + 1 or call.entry is None:
                return None
            after = max((f for f in planned if f >= 0), default=None)
            if position is None and after is not None:
                return None  # the first frame decides where the clock begins
            frame = call.choose(after)
            if frame is None and not planned and call.playout.waited >= STANDING_AFTER and call.standing():
                return -1
            return frame

    def _record(self, entry: ModelEntry) -> None:
        """Have the network recorded, which takes half a second; until it is, frames are drawn without."""
        if entry not in self._asked:
            self._asked.add(entry)
            # No daemon: torch does not like to be stopped in the middle.
            threading.Thread(target=self._recording, args=(entry,), name="tfcodec-recording").start()

    def _recording(self, entry: ModelEntry) -> None:
        self._alone()
        # An error concerns nobody yet: if the call does name this network, it comes again from the drawing thread.
        with contextlib.suppress(Exception):
            if self._closed:  # by now, and the process may wait for its end
                return
            renderer = self._open(entry)
            renderer.prepare()
            renderer.set_keyframe(np.zeros((256, 256, 3), np.uint8))  # what is made at first use is made now
            self._recorded.add(entry)

    def _renderer(self, entry: ModelEntry) -> Drawer:
        """This thread's own."""
        own = self._own
        if getattr(own, "entry", None) != entry:
            self._alone()
            own.entry, own.renderer, own.prepared = entry, self._open(entry), False
            self._record(entry)
        if not own.prepared and entry in self._recorded:
            own.renderer.prepare()
            own.prepared = True
        renderer: Drawer = own.renderer
        return renderer

    def _open(self, entry: ModelEntry) -> Drawer:
        with self._opening:
            if self._runtime == "torch" and self._keyframes is None:
                from ...model.keyframing import Keyframes

                self._keyframes = Keyframes(threads=DRAWERS)
        drawer = open_renderer(entry, fast=self._fast, runtime=self._runtime, keyframes=self._keyframes)
        self._hears = drawer.hears
        return drawer

    def _alone(self) -> None:
        """Let this thread draw without help; ncnn's do so anyway."""
        if self._runtime == "torch":
            import torch

            torch.set_num_threads(1)

    def _draw(self, sender: int, entry: ModelEntry, scene: Scene, frame: int, number: int, known: bool) -> None:
        call = self._call
        try:
            renderer = self._renderer(entry)
            last = self._last
            if last is not None and scene.same(last[0]):
                picture = last[1]
            else:
                began = time.monotonic()
                picture = scene.draw(renderer)
                self.drawing += 0.1 * (min(time.monotonic() - began, 0.2) - self.drawing)
            self._last = scene, picture
        except Exception as error:
            self._error = error
            return
        finally:
            with call.lock:
                if sender == self._sender:
                    self._begun.discard(frame)
        with call.lock:
            position = call.playout.position
            if sender != self._sender:
                pass
            elif frame < 0 or position is None or frame > position:
                self._ready[frame] = Drawn(picture, number, known, frame < 0)
        self._wake.set()
