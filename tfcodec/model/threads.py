"""Work done side by side: two pieces on a core each are done sooner than one after the other on two cores."""

from __future__ import annotations

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
