"""A batch from its plan to its report: what is left to do, who does it, and what is written down."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__, arguments
from ..errors import MediaError
from ..files import make_folder, refuse_same, sha256
from .manifest import LINES, Manifest, Row
from .options import Encoding, Options, same
from .plan import Task, plan
from .pool import Watch, remove_unfinished, run_here
from .worker import Job

Engine = Callable[[Iterable[Job], Watch], None]
Progress = Callable[[float, float, "Report"], None]
"""Told (bytes of sources done, bytes in all, the report so far); of a file that is being done a share of its bytes."""


@dataclass
class Report:
    """What became of a batch.

    Attributes:
        rows: of the manifest, for the files of this batch, by name.
        total: number of files.
        made: streams or videos made by this run.
        there: those that were there before, of the same source by the same options.
        skipped, failed: files without one, of this run and of earlier ones. Why is in the rows' ``error``.
        skipped_now, failed_now: those of them that this run has tried.
        wall_seconds: that the run took.
        manifest: path of the manifest.
    """

    manifest: Path
    rows: dict[str, Row]
    total: int = 0
    made: int = 0
    there: int = 0
    skipped: int = 0
    failed: int = 0
    skipped_now: int = 0
    failed_now: int = 0
    wall_seconds: float = 0.0

    @property
    def finished(self) -> int:
        """Files that are settled by now."""
        return self.made + self.there + self.skipped + self.failed

    def lines(self) -> list[str]:
        """A summary, for people."""
        done = [row for row in self.rows.values() if row["status"] == "done"]
        counts = f"{self.made} made, {self.there} there before, {self.skipped} skipped, {self.failed} failed"
        if not self.made and not self.failed_now and not self.skipped_now:
            lines = [f"nothing to do: of {self.total} files {counts}"]
        else:
            lines = [f"{self.total} files in {self.wall_seconds:.0f} s: {counts}"]
        seconds = sum(row.get("duration_seconds") or 0 for row in done)
        if seconds:
            size = sum((row.get("bytes") or {}).get("total", 0) for row in done)
            warned = sum(bool(row.get("warnings")) for row in done)
            length = f"{seconds / 3600:.2f} hours" if seconds >= 360 else f"{seconds:.1f} s"
            lines.append(
                f"{length} of video in {size} bytes, {8 * size / 1000 / seconds:.2f} kbit/s"
                + (f"; warnings about {warned} of the files" if warned else "")
            )
        versions = Counter(row["version"] for row in done if row.get("version") not in (None, __version__))
        lines += [f"{n} are of version {v}, this is {__version__}: -f makes them again" for v, n in versions.items()]
        without = [row for row in self.rows.values() if row["status"] in ("failed", "skipped")]
        faults = Counter(str(row.get("error")) for row in without)
        first = {str(row.get("error")): row["name"] for row in reversed(without)}
        for fault, count in faults.most_common(5):
            others = f" and {count - 1} others" if count > 1 else ""
            lines.append(f"  {first[fault]}{others}: {fault}")
        if len(faults) > 5:
            lines.append(f"  and {len(faults) - 5} other faults")
        if self.failed > self.failed_now:
            lines.append(f"{self.failed - self.failed_now} failed in an earlier run: --retry tries them again")
        return [*lines, f"manifest: {self.manifest}"]


def run(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options,
    *,
    jobs: int = 1,
    retry: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Report:
    """Run a batch; see `tfcodec.encode_batch`. ``engine`` does the jobs elsewhere than in processes of this machine."""
    jobs = arguments.whole("jobs", jobs, 1)
    options.check()
    begun, given, folder = time.monotonic(), arguments.path("source", source), arguments.path("out", out)
    if not given.exists():  # said before there is an empty folder in its place
        raise MediaError(f"{given}: no such file or folder")
    make_folder(folder)
    with _alone(folder):
        manifest = Manifest(folder)
        tasks = plan(given, folder, options, manifest.rows)
        report = Report(folder / LINES, {}, len(tasks))
        left = [job for task in tasks if (job := _settle(task, folder, manifest, report, retry, force)) is not None]
        sizes = {job["name"]: _size(job["source"]) for job in left}
        left.sort(key=lambda job: -sizes[job["name"]])  # large ones first: workers then end at about the same time
        whole, shares = float(sum(sizes.values())), dict[str, float]()
        done = 0.0

        def watch(kind: str, job: Job, value: Any) -> None:
            nonlocal done
            name = job["name"]
            if kind == "begun":
                manifest.add(_begun(job, value))
                shares[name] = 0.0
            elif kind == "share":
                shares[name] = float(value) * sizes[name]
            else:
                shares.pop(name, None)
                done += sizes[name]
                before = job["before"]
                manifest.add(value)
                _count(report, value, fresh=before is None or before.get("finished") != value.get("finished"))
            if progress is not None:
                progress(done + sum(shares.values()), whole, report)

        try:
            if left and engine is None:
                run_here(left, jobs, watch)
            elif left and engine is not None:
                engine(left, watch)
        finally:
            manifest.close()
    report.wall_seconds = time.monotonic() - begun
    return report


def _settle(task: Task, folder: Path, manifest: Manifest, report: Report, retry: bool, force: bool) -> Job | None:
    """The job that is left of a task; None if it is done, or cannot be."""
    mode = "encode" if isinstance(task.options, Encoding) else "decode"
    options = dataclasses.asdict(task.options)
    path = folder / task.out
    job: Job = {
        "name": task.name, "source": str(task.source), "out": task.out, "out_path": str(path.absolute()), "mode": mode,
        "options": options, "before": None,
    }  # fmt: skip
    before = manifest.rows.get(task.name)
    mine = before is not None and before["out"] == task.out and not before.get("refused")
    fault = task.fault
    if before is not None and before["status"] == "begun" and mine:
        remove_unfinished(path)
    elif not fault and not force and not mine and os.path.lexists(path):
        fault = f"{path} exists, and is not of this batch; -f overwrites it"
    elif not fault and not force and before is not None and _of_another(before, task.source, path):
        fault = f"{path} is of {before['source']}, which is another file; -f overwrites it"
    try:
        refuse_same(task.source, path)
    except MediaError as error:
        fault = str(error)
    if fault:
        row = {"status": "failed", "error": fault, "again": True, "refused": True, "version": __version__, **job}
        del row["before"], row["out_path"]
        if before != row and (before is None or before["status"] != "done"):  # else the manifest says what is there
            manifest.add(row)
        _count(report, row)
        return None
    if before is None or not mine or force or before["status"] == "begun":
        return job
    if before.get("mode") != mode or not same(before, task.options):
        return job
    if before["status"] == "failed" and (retry or before.get("again")):
        return job
    if before["status"] == "done" and _size(path) != before.get("out_bytes"):
        return job
    try:
        state = os.stat(task.source)
        changed = (state.st_size, state.st_mtime_ns) != (before.get("source_bytes"), before.get("source_mtime_ns"))
    except OSError:
        changed = before["status"] != "done"  # a stream stays when its source has gone
    if changed:
        return {**job, "before": before}
    _count(report, before, fresh=False)
    return None


def _of_another(before: Row, source: Path, out: Path) -> bool:
    """Whether an output is there that another source has, which has neither moved nor been copied: of other bytes."""
    other, size = str(before.get("source")), before.get("source_bytes")
    if before["status"] != "done" or other == str(source) or not out.is_file():
        return False
    try:
        state = os.stat(source)
        if not os.path.exists(other) or os.path.samefile(other, source):
            return False
        if (state.st_size, state.st_mtime_ns) == (size, before.get("source_mtime_ns")):
            return False
        return state.st_size != size or sha256(source) != before.get("source_sha256")
    except OSError:
        return False


def _begun(job: Job, pid: object) -> Row:
    return {"name": job["name"], "source": job["source"], "out": job["out"], "status": "begun", "worker": pid}


def _count(report: Report, row: Row, fresh: bool = True) -> None:
    report.rows[row["name"]] = row
    if row["status"] == "done":
        report.made += fresh
        report.there += not fresh
    elif row["status"] == "skipped":
        report.skipped += 1
        report.skipped_now += fresh
    else:
        report.failed += 1
        report.failed_now += fresh


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, where the system and its file system can. Raises MediaError if one is there."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise MediaError(f"cannot read {folder}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MediaError(f"{folder}: another batch is at work there") from None
        except OSError:
            pass  # some network file systems lock no folders
        yield
    finally:
        os.close(handle)
