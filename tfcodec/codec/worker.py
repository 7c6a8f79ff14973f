"""The thread in which a receiver decodes and draws, one frame ahead of the clock."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError
from .picture import Scene

if TYPE_CHECKING:
    from .live import Decoder

MAX_PENDING = 1024
"""Packets that wait for the thread; more come only from a hostile sender or a stopped machine, and are dropped."""
MARGIN = 0.005
"""Seconds that a frame should be ready before it is needed."""
STANDING_AFTER = 3
"""Ticks without a frame before one is drawn from sound alone: sooner it would be in the way of a late one."""


class DrawingThread:
    """Serves one `Decoder`: takes packets, draws the next frame as soon as it can be drawn, keeps it for `pull`."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._packets: queue.Queue[bytes] = queue.Queue(MAX_PENDING)
        self._wake = threading.Event()
        self._ready: tuple[int | None, NDArray[np.uint8]] | None = None  # no number: the picture stands
        self._choosable = False
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=64)  # when the newest frame became which
        self._drawing = 0.03  # seconds that drawing takes, a running mean
        self._closed = False
        self._error: TfcodecError | None = None
        self._feedback_wanted: int | None = None
        self._feedback: bytes | None = None
        self._thread = threading.Thread(target=self._run, name="tfcodec-decoder", daemon=True)
        self._thread.start()

    def push(self, packet: bytes) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._packets.full():
            self._packets.put_nowait(bytes(packet))
            self._wake.set()

    def pull(self) -> NDArray[np.uint8] | None:
        decoder, now = self._decoder, time.monotonic()
        with decoder.lock:
            ready, self._ready = self._ready, None
            if ready is None or ready[0] is None:
                decoder.playout.hold(late=self._choosable)
            else:
                arrivals = list(self._arrivals)
                usable = [n for at, n in arrivals if at < now - self._drawing - MARGIN]
                decoder.playout.shown(ready[0], max(usable, default=ready[0]))
                needed = ready[0] + decoder.lookahead
                decoder.early = now - self._drawing - next((at for at, n in arrivals if n >= needed), now)
        self._wake.set()
        return None if ready is None else ready[1]

    def feedback(self, tick: int) -> bytes | None:
        # Made by the thread, which owns the receiver, and fetched here: at most one tick later.
        said, self._feedback = self._feedback, None
        self._feedback_wanted = tick
        self._wake.set()
        return said

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            try:
                self._work()
            except TfcodecError as error:
                self._error = error

    def _work(self) -> None:
        decoder = self._decoder
        while not self._closed:
            while not self._packets.empty():
                decoder.take(self._packets.get_nowait())
            newest = decoder.receiver.newest
            if newest >= 0 and (not self._arrivals or self._arrivals[-1][1] != newest):
                self._arrivals.append((time.monotonic(), newest))
            tick, self._feedback_wanted = self._feedback_wanted, None
            if tick is not None and self._feedback is None:
                self._feedback = decoder.receiver.feedback(tick)
            renderer = decoder.renderer
            with decoder.lock:
                frame = None if renderer is None else decoder.choose()
                have = self._ready
                self._choosable = have is None and frame is not None
                standing = decoder.standing() if decoder.playout.waited >= STANDING_AFTER else None
            if renderer is None or (have is not None and (have[0] is not None or frame is None)):
                return
            drawn = standing if frame is None else frame
            if drawn is None:
                return
            begun = time.monotonic()
            picture = Scene(decoder.receiver, drawn).draw(renderer)
            self._drawing += 0.1 * (time.monotonic() - begun - self._drawing)
            with decoder.lock:
                self._ready, self._choosable = (frame, picture), False
