"""Where outputs go: links, devices, pipes, full disks; and ends of the world outside the command."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec.batch.pool import remove_unfinished
from tfcodec.cli import main
from tfcodec.errors import MediaError, TfcodecError
from tfcodec.files import is_special, temporary_prefix, write_atomically
from tfcodec.media import VideoWriter, open_source, write_video

GREY = np.full((4, 256, 256, 3), 128, np.uint8)
PLAIN: dict[str, Any] = {"refine": False, "motion": False, "crop": "none"}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "tfcodec", *arguments], stderr=subprocess.PIPE, check=False, **options)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "a.tfc"
    tfcodec.encode(GREY, path, fps=25, **PLAIN)
    return path


def drained(fifo: Path) -> tuple[threading.Thread, list[bytes]]:
    """A reader at the other end of a named pipe, and what it has read."""
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    thread.start()
    return thread, read


def test_no_output_takes_the_place_of_what_it_is_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, stream, link = tmp_path / "v.mp4", tmp_path / "s.mp4", tmp_path / "link.mp4"
    write_video(video, GREY, 25)
    tfcodec.encode(video, stream, **PLAIN)
    before = video.read_bytes(), stream.read_bytes()
    link.symlink_to(video)
    for out in (video, link):
        with pytest.raises(MediaError, match="what it would be made of"):
            tfcodec.encode(video, out, **PLAIN)
        assert main(["encode", str(video), str(out), "-f", "--no-refine", "--no-motion"]) == 1
        assert main(["simulate", str(video), "-o", str(out), "-f"]) == 1
    with pytest.raises(MediaError, match="what it would be made of"):
        tfcodec.decode_to(stream, stream)
    assert main(["decode", str(stream), str(stream), "-f"]) == 1
    assert "what it would be made of" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text("s.mp4\n")
    report = tfcodec.decode_batch(tmp_path / "list.txt", tmp_path, force=True)
    assert "what it would be made of" in str(report.rows["s.mp4"]["error"])
    assert (video.read_bytes(), stream.read_bytes()) == before


@pytest.mark.parametrize("stem", ["x" * 251, "\u4e2d" * 83])
def test_names_as_long_as_they_may_be(stem: str, tmp_path: Path) -> None:
    stream, video = tmp_path / f"{stem}.tfc", tmp_path / f"{stem}.mp4"
    write_atomically(stream, b"x")
    write_video(video, GREY[:1], 25)
    for out in (stream, video):
        assert out.stat().st_size
        (tmp_path / f"{temporary_prefix(out)}0123abcd.tmp").write_bytes(b"x")
        remove_unfinished(out)
    assert len(list(tmp_path.iterdir())) == 2


class Trickle(io.RawIOBase):
    """A file that gives or takes so many bytes at a time, as pipes and sockets do."""

    def __init__(self, data: bytes = b"", at_once: int = 7) -> None:
        self.data, self.at_once = bytearray(data), at_once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.data[: min(self.at_once, len(buffer))]
        buffer[: len(piece)] = piece
        del self.data[: len(piece)]
        return len(piece)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data[: self.at_once])
        return min(self.at_once, len(data))


def test_file_objects_that_give_and_take_little_at_once(stream: Path) -> None:
    data = stream.read_bytes()
    assert tfcodec.probe(Trickle(data)).bytes["total"] == len(data)  # type: ignore[arg-type]
    out = Trickle()
    tfcodec.encode(GREY, out, fps=25, **PLAIN)  # type: ignore[call-overload]
    assert out.data == data
    with pytest.raises(MediaError, match="takes no bytes"):
        tfcodec.encode(GREY, Trickle(at_once=0), fps=25, **PLAIN)  # type: ignore[call-overload]


def test_closed_and_text_files_are_refused(stream: Path) -> None:
    closed = stream.open("rb")
    closed.close()
    with stream.open(encoding="ascii") as text:
        for file in (closed, text):
            for call in (tfcodec.probe, partial(tfcodec.decode, pixels=False), partial(tfcodec.encode, **PLAIN)):
                with pytest.raises(MediaError):
                    call(file)  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    begun: list[int] = []

    def progress(done: int, whole: int) -> None:
        begun.append(done)

    for out, why in (("none/a.tfc", "No such file"), ("file/a.tfc", "Not a directory"), (".", "Is a directory")):
        with pytest.raises(MediaError, match=f"cannot write .*: {why}"):
            tfcodec.encode(GREY, tmp_path / out, fps=25, progress=progress, **PLAIN)
    assert not begun
    assert main(["encode", "-", str(tmp_path / "none" / "a.tfc")]) == 1  # standard input is not read
    assert "No such file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_does_not_wait_for_its_data_is_refused() -> None:
    """What such a file has until now was taken for all of it."""
    there, write = os.pipe()
    os.set_blocking(there, False)
    os.write(write, b"\0" * 100)
    with os.fdopen(there, "rb") as file:
        for call in (tfcodec.probe, partial(tfcodec.encode, **PLAIN)):
            with pytest.raises(MediaError, match="does not wait"):
                call(file)
    os.close(write)


# ---- what stands in the place of an output ----


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for write, begins in (
        (partial(write_atomically, fifo, b"hello"), b"hello"),
        (partial(write_video, fifo, GREY[:2]), b"\x1a\x45\xdf\xa3"),  # Matroska, since the name says nothing
    ):
        thread, read = drained(fifo)
        write()
        thread.join(20)
        assert read[0].startswith(begins)
        assert is_special(fifo)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("a.tfc", "b.mp4"):
        (tmp_path / "there" / name).write_bytes(b"old")
        (tmp_path / name).symlink_to(Path("there") / name)
    write_atomically(tmp_path / "a.tfc", b"new")
    write_video(tmp_path / "b.mp4", GREY[:2])
    for name in ("a.tfc", "b.mp4"):
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_bytes() != b"old"
    with open_source(tmp_path / "b.mp4", crop="none") as clip:
        assert clip.frame_count == 2
    (tmp_path / "new.tfc").symlink_to(tmp_path / "there" / "new.tfc")  # leads to nothing yet
    write_atomically(tmp_path / "new.tfc", b"new")
    assert (tmp_path / "there" / "new.tfc").read_bytes() == b"new"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    with pytest.raises(MediaError):
        write_atomically(tmp_path / "a.mp4", b"")
    with pytest.raises(MediaError), VideoWriter(tmp_path / "a.mp4"):
        pass


def test_a_device_is_not_a_file() -> None:
    assert is_special(Path(os.devnull))
    assert not is_special(Path("/no/such/file"))
    assert not is_special(Path(__file__))
    assert not is_special(Path(__file__).parent)


def test_a_link_is_not_overwritten_without_force(
    stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert main(["decode", str(stream), str(tmp_path / "out.mp4")]) == 1
    assert "exists; -f" in capsys.readouterr().err


# ---- ends of the world outside ----


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_closed_standard_input_is_one_line(tmp_path: Path) -> None:
    for command in ("info -", f"encode - {tmp_path / 'a.tfc'}"):
        done = subprocess.run(
            ["sh", "-c", f'exec "{sys.executable}" -m tfcodec {command} <&-'], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, b"tfcodec: standard input is closed\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(stream: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run("info", str(stream), stdout=full)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr
    with pytest.raises(MediaError, match="No space left"), open("/dev/full", "wb", buffering=0) as full:
        tfcodec.encode(GREY, full, fps=25, **PLAIN)
    with pytest.raises(MediaError, match="No space left"):
        write_atomically("/dev/full", b"x" * 10)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_sigterm_leaves_nothing(stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def end_it() -> None:
        until = time.monotonic() + 60
        while not seen and time.monotonic() < until:
            seen.extend(path.name for path in tmp_path.iterdir())
            time.sleep(0.001)
        if seen:  # the video has been begun, so that the command listens to the signal
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end_it)
    thread.start()
    try:
        assert main(["decode", str(stream), str(tmp_path / "out.mkv"), "--lossless"]) == 143
    finally:
        thread.join()
    assert capsys.readouterr().err == "tfcodec: terminated\n"
    assert seen[0].endswith(".tmp")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# ---- wrong types ----


def test_numbers_of_any_type_are_numbers() -> None:
    rates: tuple[Any, ...] = (25, 25.0, np.float32(25), np.int64(25), np.float64(25))
    samples: Any = np.int32(8000)
    for fps in rates:
        with open_source(GREY, fps=fps, audio=np.zeros(800, np.float32), sample_rate=samples) as clip:
            assert clip.frame_count == 4


def test_an_open_file_is_a_place_for_the_stream() -> None:
    out = io.BytesIO()
    info = tfcodec.encode(GREY, out, fps=25, **PLAIN)
    assert info.frames == 4
    assert info.warnings == ()
    assert tfcodec.probe(out.getvalue()) == info


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ([[1, 2], [3]], {"fps": 25}),
        ({"a": 1}, {"fps": 25}),
        (GREY, {"fps": "25"}),
        (GREY, {"fps": [25, 25]}),
        (GREY, {"fps": 25, "audio": [0.0], "sample_rate": "8000"}),
        (GREY, {"fps": 25, "audio": [0.0], "sample_rate": None}),
        (GREY, {"fps": 25, "audio": [[0.0], [0.0, 1.0]], "sample_rate": 8000}),
        (GREY, {"fps": 25, "audio": "sound", "sample_rate": 8000}),
        (GREY, {"fps": 25, "crop": None}),
        (GREY, {"fps": 25, "quality": "5"}),
        (GREY, {"fps": 25, "out": 7}),
        (GREY, {"fps": 25, "out": io.StringIO()}),
    ],
)
def test_wrong_types_are_refused_in_a_sentence(source: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TfcodecError):
        tfcodec.encode(source, **{**PLAIN, **options})


@pytest.mark.parametrize("lookahead", [3, -1, "1", None, [], 1.5, np.array([1, 2])])
def test_a_lookahead_that_is_not_there_is_refused(lookahead: Any) -> None:
    with pytest.raises(TfcodecError, match="lookahead"):
        tfcodec.Decoder(lookahead=lookahead)


# ---- warnings ----


def test_warnings_reach_the_info_the_caller_and_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from inputs.kinds import turned

    path = turned(30)(tmp_path)
    said: list[str] = []
    info = tfcodec.encode(path, tmp_path / "a.tfc", warn=said.append, **PLAIN)
    assert info.warnings == tuple(said)
    assert len(said) == 1
    with pytest.raises(MediaError, match="30 degrees"):
        tfcodec.encode(path, tmp_path / "b.tfc", strict=True, **PLAIN)
    capsys.readouterr()
    plain = ["--crop", "none", "--no-refine", "--no-motion"]
    assert main(["encode", str(path), str(tmp_path / "b.tfc"), "--strict", *plain]) == 1
    assert "30 degrees" in capsys.readouterr().err
    assert not (tmp_path / "b.tfc").exists()
    assert main(["encode", str(path), str(tmp_path / "b.tfc"), "--quiet", *plain]) == 0
    assert capsys.readouterr().err == f"tfcodec: warning: {said[0]}\n"
