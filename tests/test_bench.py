"""The benchmark: bytes, pictures from files alone, resuming, analysis, report."""

from __future__ import annotations

import csv
import http.server
import json
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import there
from hypothesis import given
from hypothesis import strategies as st
from test_speech import lag, voice

import tfcodec
from tfcodec.bench import analysis, classical, measure, plots, runner, speech
from tfcodec.bench import run as bench
from tfcodec.bench.arms import CODECS, Arm, select
from tfcodec.bench.codecs import codec_of
from tfcodec.cli import main
from tfcodec.media import write_video
from tfcodec.metrics.lpips import lpips_of_frames
from tfcodec.web import page as web

if not all(map(find_spec, ("bjontegaard", "matplotlib"))):  # imported when needed: 1.5 s
    pytest.skip("needs the extra bench", allow_module_level=True)

COUNT = 9
COUNTS = {"a.mp4": 13, "b.mkv": COUNT}
"""Frames of the clips; speech is measured from half a second on."""
GIVEN = os.environ.get("TFCODEC_METRIC_WEIGHTS")
CHEAP = ["tfcodec", "frozen", "bicubic8", "x264"]
HEARD = ["opus", "amr", "codec2"]


@pytest.fixture(scope="module", autouse=True)
def no_networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pixel metrics only, to be quick: networks of metrics have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFCODEC_METRIC_WEIGHTS", str(tmp_path_factory.mktemp("none")))
        yield


@pytest.fixture(scope="module")
def clips(moving_face: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short clips, one with sound."""
    frames, sound = moving_face
    folder = tmp_path_factory.mktemp("clips")
    for (name, count), first, heard in zip(COUNTS.items(), (0, 30), (sound, None), strict=True):
        audio = None if heard is None else heard[: 640 * count]
        write_video(folder / name, frames[first : first + count], 25, audio, 16000)
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def finished(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole quick run of the command."""
    out = tmp_path_factory.mktemp("out")
    command = ["bench", str(clips), "-o", str(out), "--quick", "--codecs", ",".join(CHEAP + HEARD)]
    command += ["--every", "6", "--quiet"]
    assert main(command) == 0
    return out


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not drawn, which takes a second a report: those of `finished` are looked at."""
    monkeypatch.setattr(plots, "svg", lambda figure: "<svg></svg>")


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def arms_of(*codecs: str) -> list[Arm]:
    return [a for a in select(list(codecs), False) if a.size in (64, 8, 256)]


# Arms


def test_names_are_unique_and_classes_apart() -> None:
    arms = select(None, False)
    assert len({a.name for a in arms}) == len(arms)
    assert {a.codec for a in arms} == set(CODECS)
    assert len([a for a in arms if a.codec == "tfcodec" and a.delay == "file"]) >= 5
    for arm in arms:
        text = " ".join(classical.options(arm).values()) if arm.codec in ("x264", "x265", "svtav1") else ""
        low_delay = "zerolatency" in text or "pred-struct=1" in text
        assert not text or low_delay == (arm.delay == "call")


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1"])
@pytest.mark.parametrize("delay", ["file", "call"])
def test_classical_bytes_and_pictures(
    codec: str, delay: str, moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    import av

    frames = moving_face[0][:10]
    arm = max((a for a in select([codec], False) if a.delay == delay and a.size == 256), key=lambda a: -a.point)
    path = tmp_path / f"x{arm.suffix}"
    coder = codec_of(arm)
    coder.encode(arm, frames, None, path)
    coded = coder.account(arm, path)
    assert coded.file == path.stat().st_size == sum(coded.parts.values())
    assert coded.payload == coded.file - coded.parts["container"]
    assert coded.keyframes == 1
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == len(frames)
        reordered = any(p.pts != p.dts for p in container.demux(video=0) if p.size)
        assert not (reordered and delay == "call")
    assert b"x264 - core" not in path.read_bytes()
    assert b"x265 (build" not in path.read_bytes()
    wanted = np.array([0, 3, 9])
    decoded = coder.decode(arm, path, wanted)
    assert decoded.shape == (3, 256, 256, 3)
    error = np.abs(decoded.astype(float) - frames[wanted]).mean()
    other = np.abs(decoded.astype(float) - frames[wanted][..., ::-1]).mean()
    assert error < 8
    assert error < other / 2


def test_a_coder_that_stands_still_is_given_up(
    moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classical, "STALL_SECONDS", 0.01)
    monkeypatch.setattr(classical, "ATTEMPTS", 2)
    arm = Arm("svtav1", "call", 64, 63)
    with pytest.raises(tfcodec.MediaError, match=r"stood still for 0.01 s, 2 times"):
        codec_of(arm).encode(arm, moving_face[0][:2], None, tmp_path / "x.mp4")


def test_av1_goes_beyond_the_last_crf_of_ffmpeg(moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    coarsest, last = Arm("svtav1", "file", 256, 70), Arm("svtav1", "file", 256, 63)
    assert coarsest in select(["svtav1"], False)
    assert last in select(["svtav1"], False)
    assert "crf=" not in classical.options(last)["svtav1-params"]
    sizes = []
    for arm in (coarsest, last):
        path = tmp_path / f"{arm.name}.mp4"
        codec_of(arm).encode(arm, moving_face[0][:10], None, path)
        sizes.append(codec_of(arm).account(arm, path).payload)
    assert sizes[0] < 0.85 * sizes[1]
    with pytest.raises(tfcodec.TfcodecError, match="71: it ends at 70"):
        classical.options(Arm("svtav1", "file", 256, 71))


def test_a_coder_that_fails_says_why(tmp_path: Path) -> None:
    arm = Arm("svtav1", "call", 64, 99)
    with pytest.raises(tfcodec.MediaError, match="libsvtav1"):
        codec_of(arm).encode(arm, np.zeros((2, 256, 256, 3), np.uint8), None, tmp_path / "x.mp4")


@pytest.mark.parametrize("arm", [Arm("tfcodec", "file", 256, 2), Arm("tfcodec", "call", 256, 5)], ids=lambda a: a.name)
def test_tfcodec_draws_what_the_receiver_shows(
    arm: Arm, moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    count = 6
    frames, sound = moving_face[0][:count], moving_face[1][: count * 640]
    path = tmp_path / "x.tfc"
    coder = codec_of(arm)
    coder.encode(arm, frames, sound, path)
    coded = coder.account(arm, path)
    assert coded.file + coded.speech == path.stat().st_size
    assert coded.file == sum(coded.parts.values())
    assert coded.speech > 0
    wanted = np.array([0, 1, count - 1])
    decoded = coder.decode(arm, path, wanted)
    if arm.delay == "file":
        assert tfcodec.probe(path).bytes["total"] == path.stat().st_size
        shown = tfcodec.decode(path).frames
    else:
        sender, receiver, pictures = tfcodec.Encoder(arm.point, "call"), tfcodec.Decoder(), {}
        for i in range(count + 5):
            part = (frames[i], sound[i * 640 : (i + 1) * 640]) if i < count else None
            for packet in sender.push(*part) if part else sender.flush():
                receiver.push(packet)
            picture = receiver.pull()
            if receiver.next_frame is not None:
                pictures[receiver.next_frame - 1] = picture
        shown = np.stack([pictures[i] for i in range(count)])
    assert shown is not None
    difference = np.abs(decoded.astype(int) - shown[wanted])
    assert difference.max() <= 3  # batches of other sizes round otherwise
    assert difference.mean() < 0.05


def test_frozen_has_the_keyframes_and_their_bytes(moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    frames = moving_face[0][:COUNT]
    ours, still = Arm("tfcodec", "file", 256, 5), Arm("frozen", "file", 256, 5)
    codec_of(ours).encode(ours, frames, None, tmp_path / "a.tfc")
    codec_of(still).encode(still, frames, None, tmp_path / "b.tfc")
    a, b = codec_of(ours).account(ours, tmp_path / "a.tfc"), codec_of(still).account(still, tmp_path / "b.tfc")
    assert a.parts["keyframe"] == b.parts["keyframe"] == b.payload
    assert b.file == (tmp_path / "b.tfc").stat().st_size < a.file
    key = tfcodec.decode(tmp_path / "a.tfc", pixels=False).keyframes[0][1]
    assert np.array_equal(codec_of(still).decode(still, tmp_path / "b.tfc", np.array([7]))[0], key)


def test_tiny_frames_alone(moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    frames, arm, path = moving_face[0], Arm("bicubic8", "file", 8, 5), tmp_path / "x.tny"
    coder = codec_of(arm)
    coder.encode(arm, frames, None, path)
    coded = coder.account(arm, path)
    assert coded.file == path.stat().st_size == sum(coded.parts.values())
    decoded = coder.decode(arm, path, np.array([0, 59]))
    boxes = [x.reshape(2, 8, 32, 8, 32, 3).mean((2, 4)) for x in (decoded, frames[[0, 59]].astype(float))]
    assert np.corrcoef(boxes[0].ravel(), boxes[1].ravel())[0, 1] > 0.9


# Sampling and measuring


@given(st.integers(1, 500), st.integers(1, 60))
def test_sampled(length: int, every: int) -> None:
    at = measure.sampled(length, every)
    assert (np.diff(at) > 0).all()
    assert at[0] >= 0
    assert at[-1] < length
    assert length < 2 or (np.diff(at) == 1).any()
    assert every > 1 or len(at) == length


def test_measure_uses_pairs_of_neighbours() -> None:
    rng = np.random.default_rng(1)
    source = rng.integers(0, 255, (12, 256, 256, 3), np.uint8)
    decoded = np.clip(source.astype(int) + rng.integers(-9, 9, source.shape), 0, 255).astype(np.uint8)
    at = measure.sampled(12, 4)
    assert at.tolist() == [2, 3, 6, 7, 10, 11]
    got = measure.measure(decoded[at], source[at], at, ["psnr", "frame_difference"], (Path("x"), 4))
    first = np.array([2, 6, 10])
    error = decoded.astype(float) - source
    psnr = 10 * np.log10(255**2 / np.square(error[first]).mean((1, 2, 3)))
    assert got["psnr"] == pytest.approx(psnr.mean(), abs=1e-4)
    assert got["frame_difference"] == pytest.approx(np.abs(error[first + 1] - error[first]).mean(), abs=1e-4)


# Analysis


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=12, unique=True))
def test_hull_leaves_nothing_below(points: list[tuple[int, int]]) -> None:
    chosen = [p for p, keep in zip(points, analysis.on_hull(points), strict=True) if keep]
    assert min(points) in chosen or min(points)[0] == chosen[0][0]
    chosen.sort()
    for x, y in points:
        at = [q for q in chosen if q[0] <= x]
        assert at
        assert min(q[1] for q in chosen) <= y
        if at[-1] != chosen[-1]:
            (x0, y0), (x1, y1) = at[-1], chosen[len(at)]
            assert y >= y0 + (y1 - y0) * (x - x0) / (x1 - x0) - 1e-9


def curve(*points: tuple[float, float], codec: str = "x265") -> list[dict[str, Any]]:
    return [
        {
            "kbps": r,
            "metrics": {"lpips": q, "psnr": 20 + r},
            "codec": codec,
            "delay": "file",
            "size": 256,
            "arm": f"{r}",
        }
        for r, q in points
    ]


def test_bits_for_an_equal_value() -> None:
    line = curve((4, 0.4), (8, 0.2), (16, 0.1))
    rate, bound, _ = there(analysis.bits_for("lpips", 0.2, line))
    assert rate == pytest.approx(8)
    assert bound == "="
    rate, bound, others = there(analysis.bits_for("lpips", 0.3, line))
    assert rate == pytest.approx(4 * 2**0.5)
    assert bound == "="
    assert others["psnr"] == pytest.approx(26)
    assert there(analysis.bits_for("lpips", 0.5, line))[:2] == (4, "<")
    assert there(analysis.bits_for("lpips", 0.05, line))[:2] == (16, ">")
    small = curve((2, 0.5), (3, 0.35))
    assert there(analysis.best_bits_for("lpips", 0.4, [line, small]))[0] == pytest.approx(2 * (1.5) ** (2 / 3))
    assert there(analysis.best_bits_for("lpips", 0.15, [line, small]))[0] == pytest.approx(8 * 2**0.5)


def test_bd_rate_of_half_the_bits_and_its_overlap() -> None:
    theirs = curve((4, 0.4), (8, 0.2), (16, 0.1), (32, 0.05))
    ours = [{**p, "kbps": p["kbps"] / 2, "codec": "tfcodec"} for p in curve((4, 0.4), (8, 0.2), (16, 0.1), (32, 0.05))]
    rows = analysis.bd_rates({"tfcodec-file-256": ours, "x265-file-256": theirs})
    lpips = next(r for r in rows if r["metric"] == "lpips")
    assert lpips["bd_rate"] == pytest.approx(-50, abs=0.1)
    assert lpips["overlap"] == 1
    far = [{**p, "metrics": {"lpips": p["metrics"]["lpips"] + 1}} for p in theirs]
    apart = analysis.bd_rates({"tfcodec-file-256": ours, "x265-file-256": far})
    assert next(r for r in apart if r["metric"] == "lpips")["bd_rate"] is None


# Whole runs


def test_every_byte_of_a_run(finished: Path) -> None:
    result = results(finished)
    assert {r["clip"] for r in result["rows"]} == {"a.mp4", "b.mkv"}
    assert len(result["rows"]) == 2 * len(select(CHEAP, True))
    for row in result["rows"]:
        arm = Arm(row["codec"], row["delay"], row["size"], row["point"])
        file = finished / "streams" / row["clip"] / (arm.name + arm.suffix)
        assert row["file_bytes"] + row["speech_bytes"] == file.stat().st_size
        assert sum(row["parts"].values()) == row["file_bytes"]
        rate = row["payload_bytes"] if row["codec"] == "x264" else row["file_bytes"]
        count = COUNTS[row["clip"]]
        # As they are rounded in results.json.
        assert row["bpp"] == pytest.approx(rate * 8 / count / 65536, rel=0, abs=5.1e-8)
        assert row["kbps"] == pytest.approx(rate * 8 / 1000 * 25 / count, rel=0, abs=5.1e-5)
        assert (row["speech_bytes"] > 0) == (row["codec"] == "tfcodec" and row["clip"] == "a.mp4")
        assert set(row["metrics"]) == set(result["metrics"])
    with (finished / "summary.csv").open() as file_:
        lines = list(csv.DictReader(file_))
    assert len(lines) == len(select(CHEAP, True))
    assert float(lines[0]["kbps"]) > 0


def test_speech_is_in_every_total(finished: Path) -> None:
    rows = results(finished)["rows"]
    spoken = {
        (r["clip"], r["delay"]): r["speech_kbps"] for r in rows if r["codec"] == "tfcodec" and r["point"] == 5
    }  # fmt: skip
    assert spoken["a.mp4", "file"] > 5
    assert spoken["b.mkv", "file"] == 0
    for row in rows:
        own = row["speech_kbps"] if row["codec"] == "tfcodec" else spoken[row["clip"], row["delay"]]
        assert row["total_kbps"] == pytest.approx(row["kbps"] + own, abs=1e-3)
    for part in results(finished)["analysis"].values():
        for entry in part["equal_lpips"]:
            assert entry["whole"]["tfcodec_kbps"] > entry["tfcodec_kbps"]


def test_speech_codecs_beside_it(finished: Path) -> None:
    result = results(finished)
    found = {row["codec"]: row for row in result["speech_rows"]}
    assert {row["clip"] for row in found.values()} == {"a.mp4"}
    missing = set(result["speech_left_out"])
    for codec in speech.QUICK:
        name, _, rate = codec.partition(":")
        assert (codec in found) == (name in HEARD and name not in missing)
        if codec in found and name != "opus":  # padded to whole frames
            assert found[codec]["kbps"] == pytest.approx(int(rate) / 1000, rel=0.2)
            assert found[codec]["call_kbps"] == pytest.approx(found[codec]["kbps"], rel=0.2)
    assert set(result["speech_metrics"]) | missing >= set(speech.METRICS)
    for row in found.values():
        assert set(row["metrics"]) == set(result["speech_metrics"])
    page = (finished / "report.html").read_text()
    assert "<figure id=whole>" in page
    assert "Opus 9000" in page


def test_whole_streams_as_curves() -> None:
    ours = [{**p, "codec": "tfcodec", "point": 5} for p in curve((1, 0.2), (2, 0.1))]
    large, small = curve((8, 0.2), (16, 0.1)), curve((4, 0.3), (9, 0.25), (12, 0.15))
    curves = {"tfcodec-file-256": ours, "x265-file-256": large, "x265-file-128": small}
    for points in curves.values():
        points[:] = [{**p, "point": p.get("point", 30)} for p in points]
    said = {"opus:9000": {"kbps": 8.0, "call_kbps": 9.0, "dnsmos": 3.0}, "amr:4750": {"kbps": 4.8, "call_kbps": 4.8}}
    found = {(c["codec"], c["delay"], c["speech"]): c["points"]
             for c in analysis.whole_curves({"curves": curves}, said)}  # fmt: skip
    assert set(found) == {("tfcodec", "file", "opus:9000"), ("x265", "file", "opus:9000"), ("x265", "file", "amr:4750")}
    # Of both sizes, what is better than all that is cheaper.
    rates = [(p["kbps"], p["lpips"]) for p in found["x265", "file", "amr:4750"]]
    assert rates == [(8.8, 0.3), (12.8, 0.2), (16.8, 0.15), (20.8, 0.1)]
    listed = [{"codec": c, "delay": d, "speech": v, "points": p} for (c, d, v), p in found.items()]
    part = {"curves": curves, "whole_curves": listed, "equal_lpips": [], "speech": said}
    text = plots.svg(plots.whole_curves(part, "2 clips"))
    assert "tfcodec, Opus" in text
    assert "x265 (H.265), AMR-NB" in text
    assert "whole stream, kbit/s" in text


def test_a_speech_row_is_kept_until_something_changes(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = speech.make_jobs([clips / "a.mp4"], ["opus:9000"], tmp_path, ())
    assert job.unfinished()
    assert speech.collect([job]) == []
    job.run()
    assert not job.unfinished()
    assert replace(job, clip_hash="other").unfinished()
    # The metrics' packages are not always here: any function of two sounds will do to see what is measured anew.
    monkeypatch.setattr(speech, "judge", lambda metric: lambda *sounds: float(np.corrcoef(*sounds)[0, 1]))
    monkeypatch.setattr(speech, "_definition", lambda metric: "correlation")
    judged = replace(job, metrics=("stoi",))
    assert judged.unfinished()
    judged.run()
    [row] = speech.collect([judged])
    assert row["metrics"]["stoi"] > 0.5  # aligned, and speech
    [silent] = speech.make_jobs([clips / "b.mkv"], ["opus:9000"], tmp_path, ())
    silent.run()
    assert not silent.unfinished()
    assert speech.collect([silent]) == []


@pytest.mark.parametrize("codec", ["opus:9000", "codec2:3200", "lyra:6000", "amr:4750"])
def test_speech_is_aligned_with_its_source(codec: str) -> None:
    if why := speech.missing(codec.partition(":")[0]):
        pytest.skip(why)
    sound = voice(3.0)
    rates, decoded = speech.measure_rate(codec, sound)
    assert decoded.shape == sound.shape
    assert rates["kbps"] < 1.15 * rates["nominal_kbps"]
    smooth = [np.convolve(np.abs(x), np.full(160, 1 / 160), "same") for x in (decoded, sound)]
    assert abs(lag(*(x - x.mean() for x in smooth))) <= 320


@pytest.mark.usefixtures("no_drawing")
def test_two_runs_give_identical_bytes_and_metrics(finished: Path, clips: Path, tmp_path: Path) -> None:
    """The second goes on from what it finds of the first."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for row in sorted((out / "rows" / "a.mp4").iterdir())[::3]:
        row.unlink()
    bench.run(clips, out, bench.Options(codecs=CHEAP, quick=True, every=6, players="none"))
    first, second = results(finished), results(out)
    assert first["rows"] == second["rows"]
    assert first["analysis"] == second["analysis"]
    assert (finished / "summary.csv").read_bytes() == (out / "summary.csv").read_bytes()


@pytest.mark.usefixtures("no_drawing")
def test_rivals_of_an_earlier_run(finished: Path, clips: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", finished / "results.json"
    for file in finished.glob("*/*.m*/frozen*"):  # of the frozen keyframe there is everything
        copy = out / file.relative_to(finished)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    command = ["bench", str(clips), "-o", str(out), "--quick", "--every", "6", "--quiet", "--earlier"]
    assert main([*command, str(told), "--codecs", "frozen"]) == 0
    first, second = results(finished), results(out)
    assert sorted(map(str, second["rows"])) == sorted(map(str, first["rows"]))
    for name in ("speech_rows", "speech_metrics", "speech_left_out"):
        assert second[name] == first[name]
    assert second["earlier"]["codecs"] == ["bicubic8", "tfcodec", "x264"]
    assert second["earlier"]["environment"] == first["environment"]
    assert second["analysis"]["all"]["equal_lpips"] == first["analysis"]["all"]["equal_lpips"]
    with pytest.raises(tfcodec.TfcodecError, match="every=6, this run with every=7"):
        bench.run(clips, out, bench.Options(["frozen"], quick=True, every=7, earlier=told))
    other = tmp_path / "other.json"
    other.write_text(told.read_text().replace("sha256", "sha1"))
    with pytest.raises(tfcodec.TfcodecError, match=r"other\.json is no results\.json"):
        bench.run(clips, out, bench.Options(["frozen"], quick=True, every=6, earlier=other))


def test_an_earlier_run_that_is_none_is_said_first(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    none = "is no results"
    for text, fault in ((None, "cannot read"), ("[]", none), ('{"rows": 1}', none), ("x", none)):
        if text is not None:
            (tmp_path / "told.json").write_text(text)
        with pytest.raises(tfcodec.TfcodecError, match=fault):
            bench.run(clips, out, bench.Options(["frozen"], quick=True, earlier=tmp_path / "told.json"))
    assert not out.exists()
    with pytest.raises(tfcodec.TfcodecError, match="every must be"):
        bench.Options(every="5")  # type: ignore[arg-type]


def job_for(clips: Path, out: Path, arm: Arm, metrics: tuple[str, ...] = ("psnr",)) -> runner.Job:
    return runner.make_jobs([clips / "a.mp4"], [arm], out, metrics, 6, "auto")[0]


def test_only_what_is_missing_is_done(clips: Path, tmp_path: Path) -> None:
    job = job_for(clips, tmp_path, Arm("x264", "call", 64, 51))
    assert runner.missing(job, None) == (True, ["psnr"])
    runner.run_job(job)
    row = runner.read_row(job.row)
    assert row is not None
    assert runner.missing(job, row) == (False, [])
    assert runner.missing(replace(job, every=3), row) == (False, ["psnr"])
    more = replace(job, metrics=("psnr", "frame_difference"))
    assert runner.missing(more, row) == (False, ["frame_difference"])
    before = job.stream.stat().st_mtime_ns
    runner.run_job(more)
    assert job.stream.stat().st_mtime_ns == before
    assert set(there(runner.read_row(job.row))["metrics"]) == {"psnr", "frame_difference"}
    assert runner.missing(replace(job, clip_hash="other"), row)[0]
    job.stream.unlink()
    assert runner.missing(job, row)[0]
    job.row.write_text("{ damaged")
    assert runner.read_row(job.row) is None


def test_another_network_or_codec_is_noticed(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfcodec.bench import own

    job = job_for(clips, tmp_path, Arm("tfcodec", "file", 256, 2))
    runner.run_job(job)
    row = runner.read_row(job.row)
    assert row is not None
    real, state = own.Tfcodec.encoder_state, own._state
    # Other encoder sources that give the same bytes: the metrics stay.
    monkeypatch.setattr(own.Tfcodec, "encoder_state", lambda self, arm: real(self, arm) + "+")
    assert runner.missing(job, row)[0]
    job.row.write_text(json.dumps(row | {"metrics": {"psnr": 12.5}}))
    runner.run_job(job)
    assert there(runner.read_row(job.row))["metrics"] == {"psnr": 12.5}
    # Another network: they do not.
    monkeypatch.setattr(own, "_state", lambda p: "network 99 " + state(p))
    runner.run_job(job)
    assert there(runner.read_row(job.row))["metrics"] == row["metrics"]


def test_pictures_come_from_the_file_alone(clips: Path, tmp_path: Path) -> None:
    """Another file in the place of the written one changes the figures: nothing is remembered from encoding."""
    job = job_for(clips, tmp_path, Arm("x264", "call", 64, 51))
    other = job_for(clips, tmp_path, Arm("x264", "call", 256, 40))
    runner.run_job(job)
    runner.run_job(other)
    good = there(runner.read_row(other.row))
    shutil.copy(other.stream, job.stream)
    row = there(runner.read_row(job.row))
    job.row.write_text(json.dumps(row | {"metrics": {}, "definitions": {}}))
    runner.run_job(job)
    assert there(runner.read_row(job.row))["metrics"] == good["metrics"] != row["metrics"]


def test_a_bad_clip_costs_only_its_own_rows(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(clips / "a.mp4", folder)
    (folder / "bad.mp4").write_bytes((clips / "a.mp4").read_bytes()[:2000])
    command = ["bench", str(folder), "-o", str(tmp_path / "out"), "--codecs", "bicubic8", "--metrics", "psnr"]
    assert main([*command, "--no-players", "--quick"]) == 1
    error = capsys.readouterr().err
    assert "failed: bad.mp4" in error
    assert "Traceback" not in error
    assert [c["clip"] for c in results(tmp_path / "out")["clips"]] == ["a.mp4"]
    assert "bad.mp4" in (tmp_path / "out" / "report.html").read_text()


def test_an_unreadable_file_and_clips_that_are_alike_end_no_run(
    moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    from tfcodec.bench.run import _readable, _self_test

    write_video(tmp_path / "a.mp4", moving_face[0][:10])
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    write_video(tmp_path / "still.mp4", moving_face[0][:1].repeat(10, axis=0))
    (tmp_path / "folder.mp4").mkdir()
    readable, failures = _readable([tmp_path / name for name in ("a.mp4", "folder.mp4", "b.mp4")])
    assert [path.name for path in readable] == ["a.mp4", "b.mp4"]
    assert len(failures) == 1
    assert failures[0].startswith("folder.mp4: cannot be read")
    assert "psnr" in _self_test(readable, "auto")
    assert "no clip moves" in _self_test([tmp_path / "still.mp4"], "auto")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "out"], "nowhere: no such folder"),
        ([".", "-o", "out"], "no videos"),
        (["CLIPS", "-o", "out", "--codecs", "x264,vp8"], "no codec called vp8"),
        (["CLIPS", "-o", "out", "--metrics", "vmaf"], "no metric called vmaf"),
        (["CLIPS", "-o", "out", "--every", "0"], "at least 1"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *(str(clips) if a == "CLIPS" else a for a in arguments)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_extra_is_one_line(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bjontegaard", None)
    assert main(["bench", str(clips), "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        "tfcodec: the benchmark needs the package bjontegaard: pip install 'tfcodec[bench]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_metrics_without_networks_are_left_out_with_a_reason(finished: Path) -> None:
    result = results(finished)
    assert result["metrics"] == ["psnr", "ms_ssim", "frame_difference"]
    assert "alexnet" in result["metrics_left_out"]["lpips"]
    assert set(result["metrics"]) | set(result["metrics_left_out"]) == set(measure.METRICS)
    page = (finished / "report.html").read_text()
    assert result["metrics_left_out"]["lpips"] in page
    assert "psnr" in result["self_test"]


def test_lpips_is_that_of_the_metric(
    moving_face: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TFCODEC_METRIC_WEIGHTS")
    if GIVEN is not None:
        monkeypatch.setenv("TFCODEC_METRIC_WEIGHTS", GIVEN)
    measure._judge.cache_clear()
    try:
        judge = measure._judge()
    except tfcodec.WeightsError as error:
        pytest.skip(str(error))
    source = moving_face[0][:4]
    decoded = np.ascontiguousarray(moving_face[0][8:12])
    got = measure.measure(decoded, source, np.arange(4), ["lpips"], (Path("lpips"), 1))["lpips"]
    assert got == pytest.approx(lpips_of_frames(judge, decoded, source).mean(), abs=1e-5)
    measure._judge.cache_clear()


# Report


def test_report_needs_nothing_from_anywhere(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    links = set(re.findall(r"""(?:src|href|url\()\s*=?\s*["']?([^"')\s>]+)""", page))
    assert all(link.startswith(("data:", "#")) for link in links)
    assert page.count("<svg") >= 3
    assert page.count("<video") == 2
    assert "<script" not in page


@pytest.mark.usefixtures("no_drawing")
def test_players_in_a_folder(
    finished: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files that were measured, and the module; what is missing for it is said before the run."""
    out, network = tmp_path / "out", tmp_path / "network"
    shutil.copytree(finished, out)
    command = ["bench", str(clips), "--quick", "--codecs", "bicubic8", "--every", "6", "--players", "folder"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert main([*command, "-o", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == "tfcodec: export needs the package onnx: pip install 'tfcodec[onnx]'\n"
    assert not (tmp_path / "none").exists()
    network.mkdir()  # with it tests/test_player.py draws; here it is only copied
    for name in web.MODEL_FILES:
        (network / name).write_bytes(name.encode())
    monkeypatch.setattr(bench, "kept_model", lambda: network)
    stale = out / "report" / "clips" / "a.mp4" / "old.mp4"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert main([*command, "-o", str(out)]) == 0
    assert f"-d {out}, then http://127.0.0.1:8000/report.html" in capsys.readouterr().err
    page = (out / "report.html").read_text()
    links = re.findall(r'(?:src|href|data-stream)="(report/[^"]+)"', page)
    assert len(links) == 2 + 2 * 3
    assert all((out / link).is_file() for link in links)
    for clip in ("a.mp4", "b.mkv"):
        files = {path.name: path for path in (out / "report" / "clips" / clip).iterdir()}
        assert len(files) == 3
        for name in set(files) & {path.name for path in (out / "streams" / clip).iterdir()}:
            assert files.pop(name).read_bytes() == (out / "streams" / clip / name).read_bytes()
        assert [name.partition("-")[0] for name in files] == ["source"], "all others are what was measured"
    assert (out / "report" / "tfc" / "tfc.js").is_file()
    with pytest.raises(tfcodec.TfcodecError, match="an earlier run's results have none"):
        bench.Options(players="folder", earlier=out / "results.json")


def in_browser(browser: str, page: str, folder: Path) -> dict[str, Any]:
    """What a page that is shown by headless Chromium posts to /found."""
    answers: queue.Queue[bytes] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode() if self.path == "/" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0", f"http://127.0.0.1:{server.server_port}/",
    ]  # fmt: skip
    shown = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return json.loads(answers.get(timeout=120))
    finally:
        shown.terminate()
        shown.wait(20)
        server.shutdown()
        server.server_close()


def test_report_in_a_browser(finished: Path, tmp_path: Path) -> None:
    """Headless Chromium loads it, draws the plots and plays the videos."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    page = (finished / "report.html").read_text()
    probe = """<script>
    window.onload = async () => {
      const found = {errors: [], videos: [], plots: []};
      window.onerror = e => found.errors.push(String(e));
      for (const v of document.querySelectorAll('video')) {
        v.muted = true;
        try { await v.play(); } catch (e) { found.errors.push(String(e)); }
        for (let i = 0; i < 200 && v.currentTime < 0.3; i++) await new Promise(r => setTimeout(r, 50));
        found.videos.push([v.videoWidth, v.videoHeight, v.currentTime, v.duration]);
      }
      for (const s of document.querySelectorAll('figure svg')) {
        const r = s.getBoundingClientRect();
        found.plots.push([s.parentElement.id, r.width, r.height, s.querySelectorAll('path').length]);
      }
      await fetch('/found', {method: 'POST', body: JSON.stringify(found)});
    };
    </script>"""
    found = in_browser(browser, page.replace("</body>", probe + "</body>"), tmp_path)
    assert found["errors"] == []
    assert len(found["videos"]) == 2
    for (width, height, position, duration), count in zip(found["videos"], COUNTS.values(), strict=True):
        assert (width, height) == (512, 256)
        assert position >= 0.3
        assert duration == pytest.approx(count / 25, abs=0.1)
    assert {p[0] for p in found["plots"]} >= {"rate_distortion_file", "rate_distortion_call", "bytes"}
    assert all(w > 300 and h > 100 and paths > 10 for _, w, h, paths in found["plots"])
