"""Batches as they really go: Ctrl-C at any moment, a parent that is killed, odd lists, a manifest that was edited."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec.batch.command import _options
from tfcodec.batch.manifest import LINES, Manifest
from tfcodec.batch.options import Decoding, Encoding, same
from tfcodec.batch.plan import plan
from tfcodec.batch.pool import Worker
from tfcodec.batch.worker import perform
from tfcodec.cli import build_parser
from tfcodec.errors import TfcodecError
from tfcodec.media import open_source, write_video

GREY = np.full((3, 256, 256, 3), 120, np.uint8)
FAST: dict[str, Any] = {"refine": False, "motion": False}


def children(pid: int) -> list[int]:
    try:
        return [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    except OSError:
        return []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_ctrl_c_while_workers_start_is_one_line(delay: float, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", GREY, 25)
    batch = subprocess.Popen(
        [sys.executable, "-m", "tfcodec", "batch", str(tmp_path / "in"), str(tmp_path / "out"), "--no-refine"],
        stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not children(batch.pid) and batch.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    os.killpg(batch.pid, signal.SIGINT)  # a terminal's Ctrl-C goes to all of them
    _, said = batch.communicate(timeout=60)
    assert (batch.returncode, said) == (130, b"tfcodec: interrupted\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {LINES}


def test_a_worker_whose_parent_is_gone_ends_in_the_middle_of_its_file(tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", np.repeat(GREY[:, :64, :64], 300, 0), 25)
    worker = Worker()
    worker.wait()
    place = tmp_path / "out" / "long.tfc"
    job = {
        "name": "long.mp4", "source": str(tmp_path / "long.mp4"), "out": "long.tfc", "out_path": str(place),
        "mode": "encode", "options": dataclasses.asdict(Encoding(crop="none", **FAST)), "before": None,
    }  # fmt: skip
    assert worker.send(job)
    answer = worker.answer()
    assert answer is not None
    assert 0 < answer["share"] < 1
    assert worker.close() in ("exit status 143", "signal 15")  # its standard input ends: nobody waits for the file
    assert not place.exists()


# ---- what goes in ----


def test_lists_as_programs_write_them(tmp_path: Path) -> None:
    names = ["caf\u00e9.mp4", "a\u2028b.mp4", "a\x0cb.mp4", "a\x85b.mp4"]
    for data in (
        "\n".join(names).encode(), "\r\n".join(names).encode("utf-8-sig"), "\r\n".join(names).encode("utf-16"),
    ):  # fmt: skip
        (tmp_path / "list.txt").write_bytes(data)
        assert [task.name for task in plan(tmp_path / "list.txt", tmp_path, Encoding(), {})] == sorted(names)
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4\nb.mp4\n")
    (tmp_path / "t.csv").write_bytes(b"path,quality\ncaf\xe9.mp4,5\nb.mp4,\n")
    for name in ("list.txt", "t.csv"):
        sources = [task.source for task in plan(tmp_path / name, tmp_path, Encoding(), {})]
        assert sources == [tmp_path / "b.mp4", tmp_path / os.fsdecode(b"caf\xe9.mp4")]
    (tmp_path / "t.csv").write_bytes("path,quality\r\na.mp4,7\r\n".encode("utf-16"))
    assert plan(tmp_path / "t.csv", tmp_path, Encoding(), {})[0].options == Encoding(quality=7)


def test_rows_that_are_none_are_left_aside(tmp_path: Path) -> None:
    good: dict[str, Any] = {
        "name": "a.mp4",
        "out": "a.tfc",
        "status": "done",
        "kbps": 2,
        "options": {},
        "bytes": {},
        "face": None,
    }
    wrong: list[dict[str, Any]] = [
        {"out": "../a.tfc"}, {"out": "/etc/a.tfc"}, {"out": "a\0.tfc"}, {"out": 5}, {"options": "all"}, {"bytes": 9},
        {"duration_seconds": "long"}, {"warnings": "none"}, {"out_bytes": 1.5}, {"face": "yes"}, {"status": None},
    ]  # fmt: skip
    rows: list[Any] = [good, *({**good, "name": f"{n}.mp4", **change} for n, change in enumerate(wrong)), [], None, 7]
    (tmp_path / LINES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(Manifest(tmp_path).rows) == ["a.mp4"]


def test_a_cluster_s_address_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    write_video(tmp_path / "a.mp4", GREY, 25)
    for address in ("", " ", "tcp://", 5):
        with pytest.raises(TfcodecError, match="no Dask scheduler at"):
            tfcodec.encode_batch(tmp_path, tmp_path / "out", dask=address, **FAST)  # type: ignore[arg-type]


# ---- options ----


def test_batch_has_the_options_of_encode_and_decode() -> None:
    def of(*command: str) -> Any:
        return _options(build_parser().parse_args(["batch", "in", "out", *command]))

    given = ["--lossless", "--conceal", "--coarse", "--fast", "--network", "light", "--batch", "4", "--runtime", "ncnn"]
    assert of("--decode", *given) == Decoding(True, True, True, True, "cpu", "light", "ncnn", 4)
    assert of("--silence", "send", "-q", "3", "--no-face", "skip") == Encoding(3, no_face="skip", silence="send")
    assert (of(), of("--decode")) == (Encoding(), Decoding())
    for wrong in (["--network", "light"], ["--decode", "--silence", "send"], ["--batch", "4"], ["--runtime", "ncnn"]):
        with pytest.raises(TfcodecError, match=f"{wrong[-2]} is for"):
            of(*wrong)
    for options in (
        Decoding(network="heavy"), Decoding(runtime="x"), Decoding(batch=0),  # type: ignore[arg-type]
        Decoding(runtime="ncnn", device="cuda"), Decoding(fast="no"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(TfcodecError):
            options.check()
    row = {"options": {"lossless": False, "conceal": False, "coarse": False, "fast": False, "device": "cuda"}}
    assert same(row, Decoding(batch=2))
    assert not same(row, Decoding(network="light"))


def test_a_worker_decodes_with_the_options_that_it_is_given(tmp_path: Path) -> None:
    stream, out = tmp_path / "a.tfc", tmp_path / "a.mkv"
    tfcodec.encode(GREY[:1], stream, fps=25, **FAST)
    options = Decoding(lossless=True, network="light", batch=1)
    job = {
        "name": "a.tfc", "source": str(stream), "out": "a.mkv", "out_path": str(out), "mode": "decode",
        "options": dataclasses.asdict(options), "before": None,
    }  # fmt: skip
    row = perform(job)
    assert (row["status"], row["error"]) == ("done", None)
    with open_source(out, crop="none") as clip:
        drawn = next(clip.upright_iter())
    assert np.array_equal(drawn, tfcodec.decode(stream, network="light").frames[0])
    assert not np.array_equal(drawn, tfcodec.decode(stream).frames[0])
