"""Work done side by side: two pieces on a core each are done sooner than one after the other on two cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Done = TypeVar("Done")


def side_by_side(work: Callable[[Piece], Done], pieces: Iterable[Piece]) -> list[Done]:
    """``work`` done on all pieces, in order, in as many threads as torch computes with, each of which uses one core.

    What torch keeps for each thread (grad mode, autocast, inference mode) is for ``work`` to set. The threads end with
    the call, so that a process may be forked afterwards.
    """
    waiting = list(pieces)
    threads = min(torch.get_num_threads(), len(waiting))
    if threads <= 1:
        return [work(piece) for piece in waiting]
    with ThreadPoolExecutor(threads, "tfcodec-encoding", torch.set_num_threads, (1,)) as pool:
        return list(pool.map(work, waiting))


def _after_fork() -> None:
    # torch's threads are not copied, and OpenMP, which does not know that, would wait for them for ever.
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
