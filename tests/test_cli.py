"""The command line, as a user runs it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import psnr

import tfcodec
from tfcodec.cli import main
from tfcodec.doctor import Finding
from tfcodec.media import open_source, write_video
from tfcodec.model.renderer import has_bfloat16


@pytest.fixture(scope="module")
def folder(moving_face: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames, audio = moving_face
    folder = tmp_path_factory.mktemp("cli")
    write_video(folder / "in.mp4", frames[:9], 25, audio[: 9 * 640], 16000)
    assert main(["encode", str(folder / "in.mp4"), str(folder / "a.tfc"), "--quiet"]) == 0
    return folder


def test_encode_and_decode(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    assert main(["decode", str(folder / "a.tfc"), str(out)]) == 0
    with open_source(out, crop="none") as clip:
        assert clip.frame_count == 9
        assert clip.audio is not None


def pictures(path: Path) -> np.ndarray:
    with open_source(path, crop="none") as clip:
        return np.stack(list(clip.frames_iter()))


def test_fast_decoding_moves_pixels_by_little(folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "exact.mkv", tmp_path / "fast.mkv"]
    for path, options in zip(paths, ([], ["--fast"]), strict=True):
        assert main(["decode", str(folder / "a.tfc"), str(path), "--lossless", *options]) == 0
    exact, fast = (pictures(path) for path in paths)
    assert psnr(exact, fast) > 54
    assert np.array_equal(exact, fast) != has_bfloat16()
    library = tfcodec.decode(folder / "a.tfc", fast=True).frames
    assert library is not None
    assert np.array_equal(library, fast)


def test_lossless_is_exactly_what_was_decoded(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert main(["decode", str(folder / "a.tfc"), str(out), "--lossless"]) == 0
    clip = tfcodec.decode(folder / "a.tfc")
    assert np.array_equal(pictures(out), clip.frames)


def test_coarse(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert main(["decode", str(folder / "a.tfc"), str(out), "--coarse"]) == 0
    with open_source(out, crop="none") as clip:
        assert (clip.width, clip.height) == (64, 64)


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(folder / "a.tfc"), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["frames"] == 9
    assert info["bytes"]["total"] == (folder / "a.tfc").stat().st_size
    assert main(["info", str(folder / "a.tfc")]) == 0
    text = capsys.readouterr().out
    assert "keyframe" in text
    assert "9 frames" in text


def test_verify(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder / "a.tfc")]) == 0
    assert capsys.readouterr().out.startswith("ok: 9 frames")
    damaged = bytearray((folder / "a.tfc").read_bytes())
    damaged[-3] ^= 1
    bad = tmp_path / "bad.tfc"
    bad.write_bytes(damaged)
    assert main(["verify", str(bad)]) == 1
    assert capsys.readouterr().err.startswith("tfcodec: ")


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "frames/s" in out
    assert main(["doctor", "--json"]) == 0
    assert {line["what"] for line in json.loads(capsys.readouterr().out)} >= {"network", "Opus speech"}


def test_doctor_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from tfcodec import doctor

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, packages in doctor.EXTRAS.values():
        brought = {re.split(r"[<>=]", requirement)[0] for requirement in project["optional-dependencies"][extra]}
        assert brought >= set(packages)
    monkeypatch.setitem(doctor.EXTRAS, "benchmark", ("bench", ("pytest", "no-such-package")))
    what = {"tables": doctor._tables, "benchmark": lambda: doctor._extra(*doctor.EXTRAS["benchmark"])}
    lines = [doctor._try(name, check, False) for name, check in what.items()]
    assert [line.ok for line in lines] == [True, False]
    assert lines[1].found == "needs no-such-package: pip install 'tfcodec[bench]'"


def test_a_package_that_is_missing_is_one_line(folder: Path, tmp_path: Path) -> None:
    for name in ("av", "tqdm", "numpy"):
        code = f"import sys; sys.modules['{name}'] = None; from tfcodec.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "encode", str(folder / "in.mp4"), str(tmp_path / "a.tfc")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(f"tfcodec: {name}")
        assert "tfcodec doctor" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_where_the_terminal_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfcodec.doctor.examine", lambda lyra: [Finding("face", False, "caf\xe9\udce9", False)])
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "ascii"))
    assert main(["doctor"]) == 0
    assert out.getvalue().split() == [b"none", b"face:", b"caf\\xe9\\udce9"]


def test_output_is_not_overwritten(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.tfc"
    out.write_bytes(b"mine")
    assert main(["encode", str(folder / "in.mp4"), str(out), "--quiet"]) == 1
    assert "-f overwrites" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert main(["encode", str(folder / "in.mp4"), str(out), "-f", "--quiet"]) == 0
    assert out.read_bytes() == (folder / "a.tfc").read_bytes()


def test_pipes(folder: Path) -> None:
    video = (folder / "in.mp4").read_bytes()
    run = [sys.executable, "-m", "tfcodec"]
    encoded = subprocess.run([*run, "encode", "-", "-", "--quiet"], input=video, capture_output=True, check=True).stdout
    assert encoded == (folder / "a.tfc").read_bytes()
    shown = subprocess.run([*run, "info", "-"], input=encoded, capture_output=True, check=True).stdout
    assert b"9 frames" in shown
    matroska = subprocess.run([*run, "decode", "-", "-"], input=encoded, capture_output=True, check=True).stdout
    with open_source(matroska, crop="none") as clip:
        assert clip.frame_count == 9


@pytest.mark.parametrize(
    "arguments",
    [["decode", "{bad}", "{out}"], ["info", "{bad}"], ["verify", "{bad}"], ["encode", "{bad}", "{out}"],
     ["encode", "{none}", "{out}"], ["decode", "{none}", "{out}"], ["encode", "{in}", "{none}/x.tfc"],
     ["encode", "{in}", "{out}", "-q", "11"], ["decode", "{tfc}", "{out}", "--lossless"]],
)  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(
    arguments: list[str], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"this is neither a video nor a stream " * 20)
    names = {
        "bad": bad, "none": tmp_path / "none", "out": tmp_path / "out.mp4", "in": folder / "in.mp4",
        "tfc": folder / "a.tfc",
    }  # fmt: skip
    assert main([a.format(**names) for a in arguments]) == 1
    err = capfd.readouterr().err
    assert err.startswith("tfcodec: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [bad]


def test_first_mistakes_are_told_before_any_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: object) -> str:
        assert main([str(word) for word in arguments]) == 1
        return capsys.readouterr().err.removeprefix("tfcodec: ").strip()

    video, stream, out = folder / "in.mp4", folder / "a.tfc", tmp_path / "out.mp4"
    for command in (["decode", video, out], ["info", video], ["verify", video], ["play", video]):
        assert said(*command) == f"{video}: byte 0: not a tfcodec stream [R1]"
    assert said("encode", stream, out) == f"{stream}: is a tfcodec stream already; to see it, decode or play it"
    with pytest.raises(tfcodec.MediaError, match="the source: is a tfcodec stream already"):
        tfcodec.encode(stream.read_bytes())
    # An encoding can take minutes: that there is no place for it is said first.
    monkeypatch.setattr("tfcodec.codec.file.encoder.encode_clip", lambda *given: pytest.fail("encoded before"))
    nowhere = tmp_path / "no" / "x.tfc"
    assert said("encode", video, nowhere) == f"cannot write {nowhere}: No such file or directory"
    with pytest.raises(tfcodec.MediaError, match="No such file or directory"):
        tfcodec.encode(video, nowhere)
    for command in (["encode", video, tmp_path], ["decode", stream, tmp_path, "-f"]):
        assert said(*command) == f"cannot write {tmp_path}: Is a directory"


def test_a_photo_is_coded_with_a_warning(
    moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.png"
    with av.open(str(photo), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(moving_face[0][0], format="rgb24")))
        out.mux(stream.encode(None))
    command = ["encode", str(photo), str(tmp_path / "photo.tfc"), "--no-refine", "--no-motion"]
    assert main([*command, "--strict"]) == 1
    assert "has a single picture" in capsys.readouterr().err
    assert main(command) == 0
    warning, summary = capsys.readouterr().err.splitlines()
    assert warning == "tfcodec: warning: has a single picture, which is shown for 0.04 s"
    assert " 1 frame, 0.04 s, " in summary


def test_usage() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["encode"])
    assert stop.value.code == 2


def test_simulate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    command = ["simulate", str(folder / "in.mp4"), "--crop", "none", "--loss", "0.2", "--burst", "2", "--delay", "20"]
    assert main([*command, "-o", str(out), "--report"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["frames"] == report["ticks"] == 9
    assert sum(report["kbps"].values()) * report["seconds"] * 125 == pytest.approx(report["bytes"])
    assert report["wire_kbps"] > report["bytes"] * 8 / 1000 / report["seconds"]
    assert "packets lost" in printed.err
    with open_source(out, crop="none") as clip:
        assert clip.frame_count == 9
        assert clip.audio is not None
    assert main([*command, "-o", str(out)]) == 1
    assert "-f overwrites" in capsys.readouterr().err
    assert main([*command, "--report", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--loss", "2"], "loss"), (["--bundle", "9"], "bundle"), (["--redundancy", "lots"], "redundancy"),
     (["-o", "-"], "file to write"), (["--delay", "-5"], "delay")],
)  # fmt: skip
def test_simulate_refuses(folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(folder / "in.mp4"), "--crop", "none", "--quiet", *options]) == 1
    assert message in capsys.readouterr().err
