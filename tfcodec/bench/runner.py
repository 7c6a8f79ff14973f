"""Runs the benchmark: every clip by every arm, resumable, in several processes.

OUT/streams/CLIP/ARM.*  the written files           OUT/rows/CLIP/ARM.json  one row each: bytes and metrics
OUT/speech/CLIP/CODEC.json  speech codecs: see `speech`
OUT/results.json, OUT/summary.csv, OUT/report.html  what is made of them

A row is kept as long as the clip, the arm's settings, the codec and the metric's definition are the same; of a row
that has only some of the metrics, only the missing ones are computed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import TfcodecError
from ..files import write_json
from ..machine import describe
from .arms import CLASSICAL, Arm
from .codecs import codec_of
from .sources import CropMode, digest, load

Row = dict[str, Any]
Progress = Callable[[int, int, str], None]
FORMAT = 1
"""Version of the rows. With another number every row is measured again."""

_slot: Any = None  # lets one SVT-AV1 encode run at a time: as root it takes real-time priority


class Work(Protocol):
    """Something that takes a while and leaves a file, in whichever process."""

    @property
    def title(self) -> str:
        """What it is, for people."""

    def unfinished(self) -> bool:
        """Whether there is anything to do."""

    def run(self) -> None:
        """Do it. Raises TfcodecError."""


@dataclass(frozen=True)
class Job:
    """One clip by one arm."""

    clip: Path
    clip_hash: str
    arm: Arm
    out: Path
    metrics: tuple[str, ...]
    every: int
    crop: CropMode

    @property
    def stream(self) -> Path:
        return self.out / "streams" / self.clip.name / (self.arm.name + self.arm.suffix)

    @property
    def row(self) -> Path:
        return self.out / "rows" / self.clip.name / f"{self.arm.name}.json"

    @property
    def sampling(self) -> str:
        return f"every {self.every}"

    @property
    def title(self) -> str:
        return f"{self.clip.name}, {self.arm.name}"

    def unfinished(self) -> bool:
        encode, metrics = missing(self, read_row(self.row))
        return encode or bool(metrics)

    def run(self) -> None:
        run_job(self)


def read_row(path: Path) -> Row | None:
    """A row from an earlier run; None if there is none or it cannot be read."""
    try:
        row: Row = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return row if row.get("format") == FORMAT else None


def missing(job: Job, row: Row | None) -> tuple[bool, list[str]]:
    """Whether to encode, and which metrics to compute."""
    codec = codec_of(job.arm)
    if row is None or row["clip_sha256"] != job.clip_hash or row["crop"] != job.crop or not job.stream.is_file():
        return True, list(job.metrics)
    if row["encoder"] != codec.encoder_state(job.arm):
        return True, list(job.metrics)
    return False, _stale(job, row)


def _stale(job: Job, row: Row) -> list[str]:
    from .measure import definition

    decoder = codec_of(job.arm).decoder_state(job.arm)
    if row["decoder"] != decoder:
        return list(job.metrics)
    return [m for m in job.metrics if row["definitions"].get(m) != f"{definition(m)}, {job.sampling}"]


def run_job(job: Job) -> None:
    """Bring one row up to date. Raises TfcodecError."""
    row = read_row(job.row)
    encode, metrics = missing(job, row)
    if not encode and not metrics:
        return
    codec, source = codec_of(job.arm), load(job.clip, job.crop)
    if encode:
        kept = row if row is not None and row["clip_sha256"] == job.clip_hash and row["crop"] == job.crop else None
        row = _encode(job, kept)
        metrics = _stale(job, row)
    assert row is not None
    if metrics:
        from .measure import definition, measure, sampled

        wanted = sampled(len(source.frames), job.every)
        if row["decoder"] != codec.decoder_state(job.arm):
            row["metrics"], row["definitions"] = {}, {}
        decoded = codec.decode(job.arm, job.stream, wanted)
        row["metrics"] |= measure(decoded, source.frames[wanted], wanted, metrics, (job.clip, job.every))
        row["definitions"] |= {m: f"{definition(m)}, {job.sampling}" for m in metrics}
        row["decoder"] = codec.decoder_state(job.arm)
    job.row.parent.mkdir(parents=True, exist_ok=True)
    write_json(job.row, row)


def _encode(job: Job, old: Row | None) -> Row:
    """Write the stream and count it; metrics of a row with the same bytes stay."""
    codec, source = codec_of(job.arm), load(job.clip, job.crop)
    job.stream.parent.mkdir(parents=True, exist_ok=True)
    temporary = job.stream.with_name(f".{job.stream.name}.{os.getpid()}{job.arm.suffix}")
    try:
        if job.arm.codec in CLASSICAL and job.arm.codec == "svtav1" and _slot is not None:
            with _slot:
                codec.encode(job.arm, source.frames, source.sound, temporary)
        else:
            codec.encode(job.arm, source.frames, source.sound, temporary)
        os.replace(temporary, job.stream)
    finally:
        temporary.unlink(missing_ok=True)
    coded = codec.account(job.arm, job.stream)
    sha256 = hashlib.sha256(job.stream.read_bytes()).hexdigest()
    same = old is not None and old["sha256"] == sha256
    return {
        "format": FORMAT, "clip": job.clip.name, "clip_sha256": job.clip_hash, "crop": job.crop, "arm": job.arm.name,
        "curve": job.arm.curve, **asdict(job.arm), "frames": len(source.frames), "seconds": source.seconds,
        "sha256": sha256, "bytes": asdict(coded),
        "encoder": codec.encoder_state(job.arm),
        "decoder": old["decoder"] if same and old else codec.decoder_state(job.arm),
        "metrics": old["metrics"] if same and old else {}, "definitions": old["definitions"] if same and old else {},
    }  # fmt: skip


def _begin(slot: Any) -> None:
    global _slot
    _slot = slot
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _do(work: Work) -> None:
    work.run()


def run_jobs(jobs: Sequence[Work], workers: int, progress: Progress | None = None) -> list[str]:
    """Bring all rows up to date; returns what failed, one sentence each. Finished rows survive an interruption."""
    context = multiprocessing.get_context("spawn")
    slot = context.Lock()
    failures: list[str] = []
    todo = [job for job in jobs if job.unfinished()]
    done = len(jobs) - len(todo)
    if progress is not None:
        progress(done, len(jobs), "")
    if not todo:
        return failures
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(slot,)) as pool:
        pending: dict[Future[None], Work] = {}
        queue = iter(todo)
        try:
            while True:
                while len(pending) < 2 * workers and (job := next(queue, None)) is not None:
                    pending[pool.submit(_do, job)] = job
                if not pending:
                    return failures
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    job = pending.pop(future)
                    done += 1
                    try:
                        future.result()
                    except (TfcodecError, OSError) as error:
                        failures.append(f"{job.title}: {error}")
                    except BrokenProcessPool:  # killed from outside, mostly for its memory
                        raise TfcodecError(
                            f"{job.title}: a process came to its end; what is done is kept, and another run goes on"
                        ) from None
                    if progress is not None:
                        progress(done, len(jobs), job.title)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def make_jobs(
    clips: list[Path], arms: list[Arm], out: Path, metrics: tuple[str, ...], every: int, crop: CropMode
) -> list[Job]:
    """All clips by all arms, clip by clip."""
    return [Job(c, h, arm, out, metrics, every, crop) for c, h in [(c, digest(c)) for c in clips] for arm in arms]


def environment() -> dict[str, Any]:
    """Date, processor, cores and versions, for the record."""
    from .. import __version__
    from .classical import _versions

    libraries = ("torch", "numpy", "av", "scipy", "onnxruntime", "ncnn", "bjontegaard", "matplotlib")
    known = describe(libraries)
    known["versions"] = {"tfcodec": __version__, **known["versions"]}
    return {**known, "system": platform.system(), "encoders": _versions()}
