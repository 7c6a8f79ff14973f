"""Many files at once: what is done, what is left alone, and what survives which accident."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import there

import tfcodec
from tfcodec.batch import pool
from tfcodec.batch.manifest import LINES, TABLE, Manifest
from tfcodec.batch.options import Decoding, Encoding, same
from tfcodec.batch.plan import plan
from tfcodec.batch.run import Report
from tfcodec.cli import main
from tfcodec.errors import TfcodecError
from tfcodec.media import open_source, write_video

FAST: dict[str, Any] = {"refine": False, "motion": False}
NAMES = ("a.mp4", "b.mp4", "sub/c.mp4")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of half a second, one of them in a subfolder, and something that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    y, x = np.mgrid[:256, :256]
    for number, name in enumerate(NAMES):
        pictures = np.stack([np.stack([x, y, (x * (number + 1) + y + 9 * t) // 3 % 256], -1) for t in range(12)])
        write_video(folder / name, pictures.astype(np.uint8), 25, np.full(7680, 0.01, np.float32), 16000)
    (folder / "bad.mp4").write_bytes(b"no video" * 20)
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.fixture(scope="module")
def streams(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streams")
    report = tfcodec.encode_batch(videos, out, jobs=2, **FAST)
    assert (report.total, report.made, report.failed) == (4, 3, 1)
    return out


def rows_of(folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / LINES).read_text().splitlines()]
    assert len({row["name"] for row in lines}) == len(lines)
    return {row["name"]: row for row in lines}


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {LINES, TABLE}


def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("there was something to do")

    monkeypatch.setattr(pool, "Worker", refuse)


def test_streams_are_those_of_encode_and_the_manifest_says_all(videos: Path, streams: Path) -> None:
    rows = rows_of(streams)
    assert files_of(streams) == {"a.tfc", "b.tfc", "sub/c.tfc"}
    for name in NAMES:
        row, data = rows[name], (streams / rows[name]["out"]).read_bytes()
        assert data == tfcodec.encode(videos / name, **FAST)
        assert (row["status"], row["frames"], row["duration_seconds"]) == ("done", 12, 0.48)
        assert row["bytes"] == tfcodec.probe(data).bytes
        assert row["options"]["refine"] is False
        assert len(row["source_sha256"]) == 64
        assert row["version"] == tfcodec.__version__
    assert rows["bad.mp4"]["status"] == "failed"
    assert "bad.mp4" in rows["bad.mp4"]["error"]


def test_a_second_run_does_nothing_and_says_so(
    videos: Path, streams: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_workers(monkeypatch)
    before = (streams / LINES).stat().st_mtime_ns
    assert main(["batch", str(videos), str(streams), "--no-refine", "--no-motion"]) == 1  # since one has failed
    said = capsys.readouterr().err
    assert "nothing to do" in said
    assert "--retry" in said
    assert (streams / LINES).stat().st_mtime_ns == before


def test_only_what_has_changed_is_done_again(videos: Path, streams: Path) -> None:
    made = (streams / "a.tfc").stat().st_mtime_ns
    os.utime(videos / "a.mp4", (1, 1))  # another time, the same bytes
    (streams / "b.tfc").unlink()
    report = tfcodec.encode_batch(videos, streams, **FAST)
    assert (report.made, report.there, report.failed_now) == (1, 2, 0)
    assert (streams / "a.tfc").stat().st_mtime_ns == made
    assert (streams / "b.tfc").read_bytes() == tfcodec.encode(videos / "b.mp4", **FAST)


def test_other_options_make_other_streams(videos: Path, tmp_path: Path) -> None:
    for quality, made in ((2, 1), (9, 1), (9, 0)):
        report = tfcodec.encode_batch(write_list(videos, tmp_path, "a.mp4"), tmp_path / "out", quality=quality, **FAST)
        assert report.made == made
    out = next((tmp_path / "out").rglob("*.tfc"))
    assert out.read_bytes() == tfcodec.encode(videos / "a.mp4", quality=9, **FAST)


def test_every_option_of_encoding_is_one_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Encoding] = []

    def run(source: str, out: str, options: Encoding, **others: Any) -> Report:
        given.append(options)
        return Report(Path(), {})

    monkeypatch.setattr("tfcodec.batch.run.run", run)
    command = "batch in out -q 3 --crop none --no-face skip --no-refine --speech codec2 --silence send --no-motion"
    assert main([*command.split(), "--strict", "--device", "auto", "--quiet"]) == 0
    expected = Encoding(
        3, None, "none", "skip", refine=False, motion=False, speech="codec2", silence="send", strict=True, device="auto"
    )
    assert given == [expected]


def write_list(videos: Path, folder: Path, *names: str) -> Path:
    (folder / "list.txt").write_text("".join(f"{videos / name}\n" for name in names) + "\n")
    return folder / "list.txt"


def kill(wanted: Callable[[str], bool], folder: Path, left: int) -> Callable[[float, float, Report], None]:
    """Kills the worker of a file, by its process id, when it has begun: so many times."""
    seen: set[str] = set()

    def progress(done: float, whole: float, report: Report) -> None:
        nonlocal left
        for line in (folder / LINES).read_text().splitlines():
            row = json.loads(line)
            if row["status"] == "begun" and wanted(row["name"]) and line not in seen and left:
                seen.add(line)
                left -= 1
                os.kill(row["worker"], signal.SIGKILL)

    return progress


def test_a_killed_worker_loses_nothing(videos: Path, streams: Path, tmp_path: Path) -> None:
    progress = kill(lambda name: name in NAMES, tmp_path, 1)
    report = tfcodec.encode_batch(videos, tmp_path, jobs=2, progress=progress, **FAST)
    assert (report.made, report.failed) == (3, 1)
    assert sorted(row["attempts"] for row in rows_of(tmp_path).values()) == [1, 1, 1, 2]
    assert files_of(tmp_path) == files_of(streams)
    for name in files_of(tmp_path):
        assert (tmp_path / name).read_bytes() == (streams / name).read_bytes()


def test_a_file_that_kills_every_worker_stops_nothing(videos: Path, tmp_path: Path) -> None:
    listed = write_list(videos, tmp_path, "a.mp4", "b.mp4")
    out = tmp_path / "out"
    report = tfcodec.encode_batch(listed, out, progress=kill(lambda name: name.endswith("a.mp4"), out, 3), **FAST)
    assert (report.made, report.failed) == (1, 1)
    row = next(row for row in report.rows.values() if row["status"] == "failed")
    assert "3 times, by signal 9" in row["error"]
    report = tfcodec.encode_batch(listed, out, **FAST)  # not the file's fault, perhaps: it is tried again
    assert (report.made, report.there, report.failed) == (1, 1, 0)


def test_what_is_interrupted_goes_on(videos: Path, tmp_path: Path) -> None:
    def interrupt(done: float, whole: float, report: Report) -> None:
        if report.made:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tfcodec.encode_batch(videos, tmp_path, progress=interrupt, **FAST)
    begun = [row for row in rows_of(tmp_path).values() if row["status"] == "begun"]
    done = [row for row in rows_of(tmp_path).values() if row["status"] == "done"]
    assert len(done) == 1
    assert all((tmp_path / name).suffix == ".tfc" for name in files_of(tmp_path))  # nothing half-written
    # What a run that was killed altogether leaves: a file that is no stream yet, a torn line.
    unfinished = tmp_path / ".b.tfc.0a1b2c3d"
    unfinished.write_bytes(b"half")
    with (tmp_path / LINES).open("a") as file:
        file.write(json.dumps({"name": "b.mp4", "out": "b.tfc", "status": "begun"}) + '\n{"name": "sub/c.mp')
    report = tfcodec.encode_batch(videos, tmp_path, **FAST)
    assert report.made + report.there == 3
    assert report.there >= 1
    assert len(begun) <= 1
    assert not unfinished.exists()
    assert len(rows_of(tmp_path)) == 4


def test_other_files_are_not_overwritten(videos: Path, tmp_path: Path) -> None:
    listed, out = write_list(videos, tmp_path, "a.mp4"), tmp_path / "out"
    place = out / there(plan(listed, out, Encoding(), {}))[0].out
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    for _ in range(2):
        report = tfcodec.encode_batch(listed, out, **FAST)
        assert (report.failed, report.made) == (1, 0)
        assert "-f" in report.lines()[1]
        assert place.read_bytes() == b"mine"
    assert tfcodec.encode_batch(listed, out, force=True, **FAST).made == 1


def test_files_without_a_face(tmp_path: Path) -> None:
    write_video(tmp_path / "wall.mp4", np.full((3, 96, 128, 3), 90, np.uint8), 25)
    for name in ("skipped.mp4", "failed.mp4"):
        (tmp_path / name).write_bytes((tmp_path / "wall.mp4").read_bytes())
    (tmp_path / "t.csv").write_text("path,no_face\nwall.mp4,crop\nskipped.mp4,skip\nfailed.mp4,\n")
    out = tmp_path / "out"
    report = tfcodec.encode_batch(tmp_path / "t.csv", out, **FAST)
    assert (report.made, report.skipped, report.failed) == (1, 1, 1)
    assert any("no face" in line for line in report.lines())
    assert "centre square" in report.rows["wall.mp4"]["warnings"][0]
    assert (out / "wall.tfc").read_bytes() == tfcodec.encode(tmp_path / "wall.mp4", crop="none", **FAST)
    # Another choice is another option for those alone in which there was no face.
    row = report.rows["failed.mp4"]
    assert same(row, Encoding(**FAST))
    assert not same(row, Encoding(no_face="skip", **FAST))
    assert same({**row, "face": None}, Encoding(no_face="skip", **FAST))


def test_decoding(streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    data = (streams / "a.tfc").read_bytes()
    (tmp_path / "in" / "a.tfc").write_bytes(data)
    (tmp_path / "in" / "cut.tfc").write_bytes(data[:-20])
    out = tmp_path / "out"
    command = ["batch", str(tmp_path / "in"), str(out), "--decode", "--coarse", "--lossless"]
    assert main(command) == 1
    assert "1 made" in capsys.readouterr().err
    with open_source(out / "a.mkv", crop="none") as clip:
        assert (clip.frame_count, clip.width) == (12, 64)
    rows = rows_of(out)
    assert (rows["a.tfc"]["frames"], rows["cut.tfc"]["status"]) == (12, "failed")
    assert main(command) == 1
    assert "nothing to do" in capsys.readouterr().err


def test_a_cluster_of_two_one_of_which_is_killed(videos: Path, streams: Path, tmp_path: Path) -> None:
    """Workers of Dask, real processes; one is killed by its process id when both have begun with their first files."""
    distributed = pytest.importorskip("distributed")
    told: list[int] = []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=tmp_path / "dask"
    ) as cluster:
        with distributed.Client(cluster) as client:
            workers = list(client.run(os.getpid).values())

        def progress(done: float, whole: float, report: Report) -> None:
            told.append(report.finished)
            if len(told) == 4:  # all four are submitted
                os.kill(workers[0], signal.SIGKILL)

        out = tmp_path / "out"
        report = tfcodec.encode_batch(videos, out, dask=cluster.scheduler_address, progress=progress, **FAST)
        assert told[:4] == [0, 0, 0, 0]
        assert (report.made, report.failed) == (3, 1)
        assert tfcodec.encode_batch(videos, out, dask=cluster.scheduler_address, **FAST).made == 0

        def leave(done: float, whole: float, report: Report) -> None:
            if report.finished:
                cluster.close()

        with pytest.raises(tfcodec.TfcodecError, match="has gone; what is done is kept"):
            tfcodec.encode_batch(
                videos, tmp_path / "gone", dask=cluster.scheduler_address, progress=leave, force=True, **FAST
            )
    assert {name: row["status"] for name, row in rows_of(out).items()} == {
        **dict.fromkeys(NAMES, "done"), "bad.mp4": "failed"
    }  # fmt: skip
    assert files_of(out) == files_of(streams)
    for name in files_of(out):
        assert (out / name).read_bytes() == (streams / name).read_bytes()


def test_a_cluster_that_is_not_there(videos: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(tfcodec.TfcodecError, match="no Dask scheduler at"):
        tfcodec.encode_batch(videos, tmp_path, dask="nonsense", **FAST)
    assert files_of(tmp_path) == set()


# The plan alone -----------------------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_names_of_outputs_are_given_once(tmp_path: Path) -> None:
    touch(tmp_path, "x/talk.mp4", "x/talk.mov", "x/.hidden.mp4", "out/own.mp4")
    out = tmp_path / "out"
    places = {task.name: task.out for task in plan(tmp_path, out, Encoding(), {})}
    assert places == {"x/talk.mov": "x/talk.tfc", "x/talk.mp4": "x/talk.mp4.tfc"}
    touch(tmp_path, "x/talk.avi")
    known = {name: {"out": place} for name, place in places.items()}
    assert {task.name: task.out for task in plan(tmp_path, out, Encoding(), known)} == {
        **places, "x/talk.avi": "x/talk.avi.tfc"
    }  # fmt: skip


def test_a_table_says_for_each_file(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "path,quality,kbps,no_face,out\na.mp4,,,,\nsub/b.mp4,7,,skip,there/b.tfc\nc.mp4,high,,,\nd.mp4,11,,,\n"
        "e.mp4,,,,../e.tfc\nf.mp4,,,,there/b.tfc\n/far/g.mp4,,3.5,,\nh.mp4,,,,h.mp4\na.mp4,9,,,\n"
    )
    tasks = {task.name: task for task in plan(table, tmp_path / "out", Encoding(quality=3), {})}
    assert list(tasks) == sorted(["a.mp4", "sub/b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4", "/far/g.mp4", "h.mp4"])
    assert (tasks["a.mp4"].options, tasks["a.mp4"].out) == (Encoding(quality=3), "a.tfc")
    assert tasks["a.mp4"].source == tmp_path / "a.mp4"
    assert (tasks["sub/b.mp4"].options, tasks["sub/b.mp4"].out) == (Encoding(quality=7, no_face="skip"), "there/b.tfc")
    assert (tasks["/far/g.mp4"].options, tasks["/far/g.mp4"].out) == (Encoding(kbps=3.5), "far/g.tfc")
    assert {name for name, task in tasks.items() if task.fault} == {
        "a.mp4", "c.mp4", "d.mp4", "e.mp4", "h.mp4", "sub/b.mp4",
    }  # fmt: skip
    assert "quality" in tasks["c.mp4"].fault
    assert "not below" in tasks["e.mp4"].fault
    table.write_text("file\na.mp4\n")
    with pytest.raises(tfcodec.MediaError, match="no column path"):
        plan(table, tmp_path / "out", Encoding(), {})


@pytest.mark.parametrize(("name", "match"), [("none", "no such"), ("empty", "no files"), ("x.json", "a batch is")])
def test_what_is_no_batch(name: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(tfcodec.MediaError, match=match):
        tfcodec.encode_batch(tmp_path / name, tmp_path / "out")


def test_wrong_options_are_found_before_anything_is_done(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    wrong: list[dict[str, Any]] = [
        {"quality": 11}, {"kbps": -1.0}, {"quality": 5, "kbps": 5.0}, {"no_face": "x"}, {"jobs": 0}
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(tfcodec.TfcodecError):
            tfcodec.encode_batch(videos, out, **options)
    for command in (["--decode", "-q", "5"], ["--lossless"]):
        assert main(["batch", str(videos), str(out), *command]) == 1
        assert "is for" in capsys.readouterr().err
    assert not out.exists()


def test_two_batches_do_not_share_a_folder(videos: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(tfcodec.MediaError, match="another batch"):
        tfcodec.encode_batch(videos, tmp_path)
    os.close(handle)


def test_tables_in_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": ["a.mp4", "b.mp4"], "quality": [None, 4]}), tmp_path / "t.parquet")
    tasks = plan(tmp_path / "t.parquet", tmp_path / "out", Encoding(), {})
    assert [task.options for task in tasks] == [Encoding(), Encoding(quality=4)]
    manifest = Manifest(tmp_path)
    parts = {"container": 1, "total": 9}
    manifest.add({"name": "a.mp4", "out": "a.tfc", "status": "done", "bytes": parts, "warnings": ["w"], "kbps": 2.5})
    manifest.add({"name": "b.mp4", "out": "b.tfc", "status": "failed", "error": "bad"})
    manifest.close()
    table = parquet.read_table(tmp_path / TABLE).to_pylist()
    assert [(row["status"], row["bytes_total"], row["warnings"]) for row in table] == [
        ("done", 9, ["w"]), ("failed", None, None)
    ]  # fmt: skip


def test_a_run_that_only_decodes_has_no_options_of_encoding(tmp_path: Path) -> None:
    touch(tmp_path, "a.tfc")
    (tmp_path / "t.csv").write_text("path,quality\na.tfc,5\n")
    assert "encoding" in plan(tmp_path / "t.csv", tmp_path / "out", Decoding(), {})[0].fault
    assert plan(tmp_path / "t.csv", tmp_path / "out", Decoding(lossless=True), {})[0].out == "a.mkv"


def test_temporary_files_of_others_stay(tmp_path: Path) -> None:
    touch(tmp_path, ".b.tfc.2.tfc.0a1b2c3d", ".b.tfc.0a1b2c3d", ".b.tfc.0a1b2c3d.tmp", "b.tfc")
    pool.remove_unfinished(tmp_path / "b.tfc")
    assert {path.name for path in tmp_path.iterdir()} == {".b.tfc.2.tfc.0a1b2c3d", "b.tfc"}


def test_another_folder_s_videos_do_not_take_the_place_of_streams(videos: Path, streams: Path, tmp_path: Path) -> None:
    """Two folders with files of the same names into one output folder: nothing is lost without `force`."""
    for folder, source in (("one", "a.mp4"), ("two", "b.mp4"), ("copy", "a.mp4")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "v.mp4").write_bytes((videos / source).read_bytes())
    out = tmp_path / "out"
    assert tfcodec.encode_batch(tmp_path / "one", out, **FAST).made == 1
    first = (out / "v.tfc").read_bytes()
    report = tfcodec.encode_batch(tmp_path / "two", out, **FAST)
    assert report.failed == 1
    assert "another file" in report.rows["v.mp4"]["error"]
    assert (out / "v.tfc").read_bytes() == first
    assert tfcodec.encode_batch(tmp_path / "copy", out, **FAST).there == 1  # the same bytes
    assert tfcodec.encode_batch(tmp_path / "one", out, **FAST).there == 1
    for name in ("one", "copy"):
        (tmp_path / name).rename(tmp_path / f"away-{name}")
    assert tfcodec.encode_batch(tmp_path / "two", out, **FAST).made == 1  # nobody else's any more
    assert (out / "v.tfc").read_bytes() == (streams / "b.tfc").read_bytes()


def test_rows_from_before_an_option(streams: Path) -> None:
    row = rows_of(streams)["a.mp4"]
    assert same(row, Encoding(**FAST))
    del row["options"]["silence"]
    assert same(row, Encoding(**FAST))
    assert not same(row, Encoding(silence="send", **FAST))


def test_a_subfolder_that_cannot_be_read_is_not_left_out_silently(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(place: Any) -> Any:
        if Path(place).name == "sub":
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(TfcodecError, match="sub: Permission denied"):
        plan(videos, tmp_path, Encoding(), {})


def test_names_that_are_not_utf8(videos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n.mp4")
    source = tmp_path / "in"
    source.mkdir()
    try:
        (source / name).write_bytes((videos / "a.mp4").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such names")
    for made in (1, 0):
        report = tfcodec.encode_batch(source, tmp_path / "out", **FAST)
        assert (report.made, report.failed) == (made, 0)
    assert list(Manifest(tmp_path / "out").rows) == [name]


def test_cells_of_a_table_that_would_be_taken_for_something_else(videos: Path, tmp_path: Path) -> None:
    a, b = videos / "a.mp4", videos / "b.mp4"

    def planned(text: str) -> dict[str, Any]:
        (tmp_path / "t.csv").write_text(text)
        return {Path(task.name).name: task for task in plan(tmp_path / "t.csv", tmp_path, Encoding(), {})}

    assert planned(f"path, quality\n{a},  7.0\n{b},\n")["a.mp4"].options.quality == 7
    assert "whole number" in planned(f"path,quality\n{a},2.7\n")["a.mp4"].fault
    assert "twice" in planned(f"path,quality,out\n{a},2,q2.tfc\n{a},9,q9.tfc\n")["a.mp4"].fault
    assert not planned(f"path,quality\n{a},2\n{a},2\n")["a.mp4"].fault
    assert "name" in next(iter(planned("path\na\0b.mp4\n").values())).fault
    with pytest.raises(TfcodecError, match="line 2 has more cells"):
        planned(f"path,quality\nMiller, Ann.mp4,5\n{b},5\n")
