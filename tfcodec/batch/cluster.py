"""A batch on a cluster that runs Dask.

Dask, not Ray: what a batch asks of an engine is that a task whose worker has died is run again, so many times and no
more, and that the others hear nothing of it. Dask's scheduler does that for any function (``allowed-failures``, three
by default, then `KilledWorker` for that task alone), and is a small install in Python.

Sources and output folder must be at the same paths on all workers, and tfcodec be installed there. The manifest is
written here alone. Workers should be processes of one thread: ``dask worker --nworkers 8 --nthreads 1``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import TfcodecError
from .manifest import Row
from .pool import THREADS, Watch, lost, remove_unfinished
from .worker import Job, perform


class Dask:
    """An engine for `run.run`: the workers of the Dask scheduler at an address, ``tcp://host:8786``."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __call__(self, jobs: Iterable[Job], watch: Watch) -> None:
        """Do jobs; ``watch`` is told as by `pool.run_here`, but for shares. What is left at an error is cancelled.

        Raises:
            TfcodecError: distributed is not installed, there is no scheduler at the address, or it goes away.
        """
        try:
            import distributed
        except ImportError:
            raise TfcodecError("a Dask cluster needs distributed: pip install 'tfcodec[dask]'") from None
        with _quiet():
            self._do(distributed, jobs, watch)

    def _do(self, distributed: Any, jobs: Iterable[Job], watch: Watch) -> None:
        try:
            client = distributed.Client(self._address, timeout=20)
        except (OSError, TypeError, ValueError) as error:
            raise TfcodecError(f"no Dask scheduler at {self._address!r}: {error or 'it does not answer'}") from None
        of: dict[Any, Job] = {}
        try:
            for job in jobs:
                watch("begun", job, None)
                # Not pure: the same file at another time is another task.
                of[client.submit(_perform, job, pure=False)] = job
            for future in distributed.as_completed(list(of)):
                if future.cancelled():
                    raise TfcodecError(
                        f"the Dask scheduler at {self._address} has gone; what is done is kept, and another run goes on"
                    )
                watch("row", of[future], _row(future, of[future]))
            for job in of.values():  # what workers that were killed have left; nobody writes any more
                remove_unfinished(Path(job["out_path"]))
        finally:
            with suppress(Exception):  # there may be nobody any more who could be told
                client.cancel([future for future in of if not future.done()])
            client.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed's own reports of what goes wrong, tracebacks all, from standard error."""
    logs = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _row(future: Any, job: Job) -> Row:
    error = future.exception()
    if error is None:
        row: Row = future.result()
        return row
    return lost(job, f"no worker finished it: {error}", 0)


def _perform(job: Job) -> Row:
    """On a worker, whose environment is not ours: one thread for torch and FFmpeg."""
    from ..media import threads

    threads.count = 1
    os.environ.update(dict.fromkeys(THREADS, "1"))
    if "torch" in sys.modules:  # which has read them already
        sys.modules["torch"].set_num_threads(1)
    return perform(job)
