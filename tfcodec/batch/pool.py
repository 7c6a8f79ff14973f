"""Workers on this machine: processes of one thread each. One that dies is replaced, and its file done again."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ..errors import TfcodecError
from ..files import temporary_prefix
from ..signals import interrupts_held
from .manifest import Row
from .worker import Job

ATTEMPTS = 3
"""How many workers a file may bring down."""
RECYCLE_BYTES = 1 << 30
"""A worker that holds more memory after a file is replaced by a new one."""

Kind = Literal["begun", "share", "row"]
Watch = Callable[[Kind, Job, Any], None]
"""Called in the caller's thread: "begun" with a worker's process id, "share" with a part of 1, "row" with the row."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tfcodec.batch.worker import main; main()"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What torch and the libraries below it ask for when they are loaded."""


class Worker:
    """A worker's process, seen from outside."""

    def __init__(self) -> None:
        paths = json.dumps([os.path.abspath(path) for path in sys.path])  # as here, whatever put tfcodec there
        with interrupts_held():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | dict.fromkeys(THREADS, "1"), encoding="utf-8",
            )  # fmt: skip
        self.pid = self._process.pid

    def wait(self) -> None:
        """Until it is ready. Raises TfcodecError if it does not start."""
        if self.answer() is None:
            raise TfcodecError(f"a worker did not start ({self.close()})")

    def send(self, job: Job) -> bool:
        """Hand it a job; False if it has gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def answer(self) -> dict[str, Any] | None:
        """Its next message; None if it has gone."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    def terminate(self) -> None:
        """Ask it to end; it takes away what it has begun to write."""
        self._process.terminate()

    def close(self) -> str:
        """Wait for its end, which comes when it has nothing to do; how it ended."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            status = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return f"signal {-status}" if status < 0 else f"exit status {status}"


def run_here(jobs: Iterable[Job], count: int, watch: Watch) -> None:
    """Do jobs in ``count`` processes of this machine.

    Args:
        jobs: in the order in which they are begun.
        count: of processes.
        watch: told of everything, in this thread.

    Raises:
        TfcodecError: workers do not start.
    """
    _Pool(list(jobs), watch).run(count)


class _Pool:
    def __init__(self, jobs: list[Job], watch: Watch) -> None:
        self._left: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._left.put(job)
        self._count = len(jobs)
        self._watch = watch
        # (kind, job, value), or an error that ends everything
        self._events: queue.SimpleQueue[tuple[Kind, Job, Any] | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._workers: set[Worker] = set()

    def run(self, count: int) -> None:
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(min(count, self._count))]
        for thread in threads:
            thread.start()
        done = 0
        try:
            while done < self._count:
                event = self._events.get()
                if isinstance(event, BaseException):
                    raise event
                self._watch(*event)
                done += event[0] == "row"
        finally:
            self._stop.set()
            if done < self._count:
                for worker in list(self._workers):
                    worker.terminate()
            for thread in threads:
                thread.join(30)

    def _serve(self) -> None:
        """One worker after the other, as long as there is something to do; in a thread of its own."""
        worker: Worker | None = None
        try:
            while not self._stop.is_set():
                try:
                    job = self._left.get_nowait()
                except queue.Empty:
                    return
                row: Row | None = None
                for attempt in range(1, ATTEMPTS + 1):
                    worker = worker or self._start()
                    answer = self._one(worker, job)
                    if answer is not None:
                        row = {**answer["row"], "attempts": attempt}
                        if (answer["memory"] or 0) > RECYCLE_BYTES:
                            self._end(worker)
                            worker = None
                        break
                    how, worker = self._end(worker), None
                    if self._stop.is_set():
                        return
                    remove_unfinished(Path(job["out_path"]))
                    row = lost(job, f"the worker that had it came to its end {attempt} times, by {how}", attempt)
                self._events.put(("row", job, row))
        except BaseException as error:
            self._events.put(error)
        finally:
            if worker is not None:
                self._end(worker)

    def _one(self, worker: Worker, job: Job) -> dict[str, Any] | None:
        self._events.put(("begun", job, worker.pid))
        if not worker.send(job):
            return None
        while (answer := worker.answer()) is not None and "row" not in answer:
            self._events.put(("share", job, answer["share"]))
        return answer

    def _start(self) -> Worker:
        worker = Worker()
        self._workers.add(worker)
        if self._stop.is_set():
            worker.terminate()
        worker.wait()
        return worker

    def _end(self, worker: Worker) -> str:
        how = worker.close()
        self._workers.discard(worker)
        return how


def lost(job: Job, why: str, attempts: int) -> Row:
    """The row of a file that no worker could finish."""
    return {
        "name": job["name"], "source": job["source"], "out": job["out"], "status": "failed", "mode": job["mode"],
        "options": job["options"], "warnings": [], "error": why, "again": True, "attempts": attempts,
    }  # fmt: skip


def remove_unfinished(out: Path) -> None:
    """Delete what a worker that was killed has left beside the place of its output: see `write_atomically`."""
    name = re.compile(rf"{re.escape(temporary_prefix(out))}\w{{8}}(\.tmp)?")
    for path in out.parent.iterdir() if out.parent.is_dir() else ():
        if name.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
