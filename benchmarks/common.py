"""What the benchmark scripts share: finding clips, describing the machine, writing results."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tfcodec.files import write_json
from tfcodec.machine import describe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def data_folder() -> Path:
    """TFCODEC_DATA, else ../shared/data beside the repository; exits with a sentence when it is not there."""
    folder = Path(os.environ.get("TFCODEC_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "val").is_dir():
        sys.exit(f"no clips in {folder}: set TFCODEC_DATA to a folder with val/*.mp4")
    return folder


def clips(split: str = "val") -> list[Path]:
    return sorted((data_folder() / split).glob("*.mp4"))


def long_clips(seconds: float, count: int) -> list[Path]:
    """The first of `val` that last so long; exits with a sentence when there are fewer."""
    from tfcodec.media import open_source

    found: list[Path] = []
    for path in clips():
        with open_source(path, crop="none") as source:
            if source.duration_seconds >= seconds:
                found.append(path)
        if len(found) == count:
            return found
    sys.exit(f"there are only {len(found)} clips of {seconds} s")


def environment() -> dict[str, Any]:
    """Date, processor, cores and versions, for the record."""
    return describe(("torch", "numpy", "av", "scipy"))


def clip_list(paths: Sequence[Path]) -> list[dict[str, str]]:
    return [{"clip": p.name, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()[:16]} for p in paths]


def own_process(code: str, threads: int, *given: str, **environ: str) -> Any:
    """What a Python process of its own prints as JSON; None if it prints nothing. Exits with its error if it fails.

    Args:
        code: the program; ``given`` are its arguments.
        threads: how many OpenMP, and with it torch, may use.
        environ: variables of the environment beside.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), **environ}
    # An installed package is compiled; without this variable's effect the first process compiles the checkout.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *given], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        sys.exit(done.stderr[-800:])
    return json.loads(done.stdout) if done.stdout.strip() else None


class Worker:
    """A checkout of the package in a process of its own, which does jobs: rows of JSON in, rows of JSON out."""

    def __init__(self, checkout: Path, threads: int, script: str) -> None:
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(checkout), "SVT_LOG": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, str(threads)], env=environ, cwd=checkout, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def do(self, **job: Any) -> Any:
        """What the script says of a job, paths of which it is given as text. Exits if the process has ended."""
        to, back = self._pipes()
        to.write(json.dumps(job, default=str) + "\n")
        to.flush()
        line = back.readline()
        if not line:
            sys.exit("a worker has ended; what it said is above")
        return json.loads(line)

    def end(self) -> None:
        self._pipes()[0].close()
        self._process.wait(60)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def read_clip(path: Path) -> NDArray[np.uint8]:
    """All frames of a clip as the encoder gets them, [T, 256, 256, 3] uint8."""
    from tfcodec.media import open_source

    with open_source(path, crop="none") as source:
        return np.stack(list(source.frames_iter()))


def call_as_file(frames: Iterable[NDArray[np.uint8]], quality: int, refresh: int | None = None) -> bytes:
    """Frames [256, 256, 3] uint8 coded one by one, as a call codes them, in the chunks of a file; without sound.

    ``refresh``: frames between tiny-frame payloads whose contexts start anew; None: none do after a keyframe's first.
    """
    from tfcodec.bitstream import Chunk, write_signature
    from tfcodec.codec import policy
    from tfcodec.codec.parts import Sending, StreamEncoder
    from tfcodec.codec.parts.stream import stream_header
    from tfcodec.codec.parts.tiny import TinyLayerEncoder
    from tfcodec.tinyframe import TinyEncoder

    stream, sends = StreamEncoder(Sending(quality, "call")), policy.CallPolicy()
    if refresh is not None:
        coder = TinyEncoder(policy.tiny_quality(quality), "call", refresh=refresh)
        stream.layers["tiny"] = TinyLayerEncoder(coder, moves=False)
    chunks: list[Chunk] = [*stream.announcements]
    count = 0
    for frame in frames:
        mark = policy.signature(frame)
        if sends.wants(count, mark):
            chunks.append(stream.keyframe(frame, count))
            sends.sent(count, mark)
        chunks += stream.chunks(frame[None], count)
        count += 1
    return b"".join([write_signature(), *(c.to_bytes() for c in (stream_header(None, count), *chunks))])


def portable(value: Any) -> Any:
    """Without the folders of the machine."""
    if isinstance(value, dict):
        return {name: portable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [portable(one) for one in value]
    return Path(value).name if isinstance(value, str) and os.sep in value and Path(value).is_absolute() else value


def write(name: str, result: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_json(path, result)
    print(f"wrote {path.relative_to(ROOT)}")


def replaced(text: str, begin: str, end: str, content: str) -> str:
    """A document with what stands between two of its lines replaced."""
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end, 1)[1]
