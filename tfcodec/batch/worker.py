"""What a worker does: a file of a batch, and the row of the manifest that says what became of it.

A worker is a process that reads jobs from its standard input, a line of JSON each, and answers on its standard output:
``{"ready": PID}`` when it has begun, ``{"share": 0.4}`` on the way, ``{"row": {...}}`` at the end of each.
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..errors import MediaError, NoFaceError, SpeechCodecMissing, TfcodecError, WeightsError
from ..files import make_folder, sha256, write_atomically
from ..signals import ignore_interrupts
from .manifest import Row

Share = Callable[[float], None]
Job = dict[str, Any]
"""``name``, ``source``, ``out`` (paths), ``mode`` ("encode" or "decode"), ``options``, ``before``: a row or None."""
SAY_EVERY = 0.5  # seconds


class _CannotWrite(Exception):
    """The output cannot be written, which is no fault of the source."""


def perform(job: Job, share: Share | None = None) -> Row:
    """Make one stream or video. Whatever goes wrong is in the row: nothing is raised but what ends the process.

    The row has ``status`` "done", "skipped" or "failed"; of what failed, ``error``, and ``again``: whether it may be
    otherwise next time, since the fault is not the file's. ``face`` is False where none was found.
    """
    from .. import __version__
    from ..media.mtcnn import DetectorMissing

    begun, cpu = time.monotonic(), time.process_time()
    row: Row = {
        "name": job["name"], "source": job["source"], "out": job["out"], "status": "failed", "mode": job["mode"],
        "options": job["options"], "version": __version__, "warnings": [], "error": None,
        "face": None,
    }  # fmt: skip
    try:
        state = os.stat(job["source"])
        row |= {"source_bytes": state.st_size, "source_mtime_ns": state.st_mtime_ns}
        row["source_sha256"] = sha256(Path(job["source"]))
        before = job.get("before")
        if before is not None and before.get("source_sha256") == row["source_sha256"]:
            return {**before, "source": row["source"], "source_mtime_ns": row["source_mtime_ns"]}
        (_encode if job["mode"] == "encode" else _decode)(job, row, share or (lambda part: None))
    except (WeightsError, SpeechCodecMissing, DetectorMissing, _CannotWrite) as error:
        row |= {"error": str(error), "again": True}
    except FileNotFoundError as error:
        row |= {"error": f"{error.filename or job['source']}: no such file", "again": True}
    except TfcodecError as error:
        row |= {"error": str(error), "again": False}
    except Exception as error:  # whatever it is, it must not stop the others
        row |= {"error": f"{type(error).__name__}: {error}", "again": True}
    row |= {
        "wall_seconds": round(time.monotonic() - begun, 3), "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_memory_bytes": peak_memory(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    return row


def _encode(job: Job, row: Row, share: Share) -> None:
    from ..api import encode, probe

    options = dict(job["options"])
    no_face = options.pop("no_face")

    def progress(done: int, total: int) -> None:
        share(done / max(1, total))

    warn = row["warnings"].append
    try:
        data = encode(job["source"], progress=progress, warn=warn, **options)
    except NoFaceError as error:
        row["face"] = False
        if no_face == "fail":
            raise
        if no_face == "skip":
            row |= {"status": "skipped", "error": str(error)}
            return
        row["warnings"].clear()
        warn("no face found: the centre square is taken")
        data = encode(job["source"], progress=progress, warn=warn, **{**options, "crop": "none"})
    _to_folder(Path(job["out_path"]))
    try:
        write_atomically(job["out_path"], data)
    except TfcodecError as error:
        raise _CannotWrite(str(error)) from error
    info = probe(data)
    row |= {
        "status": "done", "out_bytes": len(data), "frames": info.frames, "duration_seconds": info.duration_seconds,
        "kbps": round(info.kbps, 4), "bytes": info.bytes, "speech": info.speech, "keyframes": info.keyframes,
        "network": f"{info.model_id} ({info.model_hash})",
    }  # fmt: skip


def _decode(job: Job, row: Row, share: Share) -> None:
    from ..api import decode_to

    options = dict(job["options"])
    errors: Literal["raise", "conceal"] = "conceal" if options.pop("conceal") else "raise"
    _to_folder(Path(job["out_path"]))
    try:
        reader = decode_to(
            job["source"], job["out_path"], errors=errors,
            progress=lambda done, total: share(done / max(1, total)), **options,
        )  # fmt: skip
    except MediaError as error:  # the stream has been read: its faults are BitstreamErrors
        raise _CannotWrite(str(error)) from error
    info = reader.info
    missing = [f"without sound: {reader.speech_missing}"] if reader.speech_missing else []
    row |= {
        "status": "done", "out_bytes": os.stat(job["out_path"]).st_size, "frames": info.frames,
        "duration_seconds": info.duration_seconds, "kbps": round(info.kbps, 4), "bytes": info.bytes,
        "speech": info.speech, "keyframes": info.keyframes, "network": f"{info.model_id} ({info.model_hash})",
        "warnings": [*(f"concealed: {line}" for line in reader.damaged), *missing],
    }  # fmt: skip


def _to_folder(path: Path) -> None:
    try:
        make_folder(path.parent)
    except MediaError as error:
        raise _CannotWrite(str(error)) from error


def peak_memory() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def memory() -> int | None:
    """The memory that this process holds now, in bytes; where the system does not say, the most that it has held."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return peak_memory()


def main() -> None:
    """Serve until the standard input ends; in the middle of a file that ends the process at once."""
    from ..media import threads

    ignore_interrupts()  # the one who started it hears them, too, and ends it
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # what was begun is taken away on the way out
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between
    threads.count = 1  # of FFmpeg; the others have read the environment
    said = 0.0

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    def share(part: float) -> None:
        nonlocal said
        if time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            answer({"share": part})

    jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        with os.fdopen(os.dup(0), "rb", buffering=0) as given:  # no lock that the end of Python would wait for
            for line in given:
                busy.set()
                jobs.put(line)
        if busy.is_set():  # whoever started it has gone, and nobody waits for what it is doing
            os.kill(os.getpid(), signal.SIGTERM)
        jobs.put(None)

    threading.Thread(target=listen, name="tfcodec-jobs", daemon=True).start()
    try:
        answer({"ready": os.getpid()})
        while (line := jobs.get()) is not None:
            row = perform(json.loads(line), share)
            busy.clear()
            answer({"row": row, "memory": memory()})
    except BrokenPipeError:
        sys.exit(1)  # whoever started it has gone
