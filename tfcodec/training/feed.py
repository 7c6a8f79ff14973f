"""Batches one after the other, made or at least drawn ahead, so that the device never waits for the host."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from .batch import make_batch
from .data import Batch
from .plans import Plan, Sampler

T = TypeVar("T")


def batches(samplers: Sampler | Sequence[Sampler], first: int, ahead: int = 2) -> Generator[Batch, None, None]:
    """Endless batches from step ``first`` on; of several samplers in turn.

    On a CPU they are made ahead in a thread. A GPU is itself asynchronous: there the plans are drawn in a thread, and
    the pictures are asked for here, in the order of the steps.
    """
    several = [samplers] if isinstance(samplers, Sampler) else list(samplers)
    pack = several[0].pack

    def plan(step: int) -> Plan:
        return several[step % len(several)].plan(step)

    if pack.device.type == "cuda":
        for drawn in made_ahead(plan, first, 4 * ahead):
            yield make_batch(pack, drawn)
    yield from made_ahead(lambda step: make_batch(pack, plan(step)), first, ahead)


def made_ahead(make: Callable[[int], T], first: int, ahead: int) -> Generator[T, None, None]:
    """``make(first)``, ``make(first + 1)`` ...: made in a thread, at most ``ahead`` of them before they are wanted.

    What ``make`` raises is raised where its result is wanted.
    """
    ready: queue.Queue[T | BaseException] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def work() -> None:
        step = first
        while not stop.is_set():
            item: T | BaseException
            try:
                item = make(step)
            except Exception as error:
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            step += 1

    maker = threading.Thread(target=work, daemon=True)
    maker.start()
    try:
        while True:
            got = ready.get()
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        stop.set()
        maker.join()  # a thread inside torch when the interpreter ends would abort it
