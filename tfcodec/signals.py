"""Ctrl-C goes to all processes of a terminal. Here it is for the one started by hand, which ends the others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_CAN_BLOCK = hasattr(signal, "pthread_sigmask")  # not on Windows


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes that are started in this block do not hear Ctrl-C, from their very beginning on: while Python loads, it
    would be a traceback. They then call `ignore_interrupts`. Other threads of this process still hear it."""
    if not _CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Hear no Ctrl-C from now on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _CAN_BLOCK:  # what this process starts itself need not inherit that
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
