"""Arguments of the wrong type, or out of range, anywhere in the library: a TfcodecError that names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec.errors import TfcodecError
from tfcodec.files import write_atomically
from tfcodec.media import VideoWriter
from tfcodec.simulator.link import Link

FRAMES = np.full((3, 256, 256, 3), 128, np.uint8)
PLAIN: dict[str, Any] = {"fps": 25, "refine": False, "motion": False}
NO_WHOLE: tuple[Any, ...] = (True, 1.5, "5", float("nan"), float("inf"), b"x", [], object())
NO_TIME: tuple[Any, ...] = (None, "5", -1, float("nan"), float("inf"), b"1", [], 10**400)


@pytest.fixture(scope="module")
def stream() -> bytes:
    return tfcodec.encode(FRAMES, **PLAIN)


def refuse(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(TfcodecError, match=name):
        call()


@pytest.mark.parametrize("value", NO_WHOLE)
def test_whole_numbers(value: Any, stream: bytes) -> None:
    for name in ("bundle", "redundancy", "refresh", "origin", "expected_frames"):
        refuse(name, lambda name=name: tfcodec.Encoder(motion=False, **{name: value}))  # type: ignore[misc]
    refuse("max_frames", lambda: tfcodec.decode(stream, pixels=False, max_frames=value))
    refuse("jobs", lambda: tfcodec.encode_batch("nowhere", "streams", jobs=value))
    reader = tfcodec.open(stream, pixels=False)
    refuse("a frame's number", lambda: reader[value])
    refuse("a frame's number", lambda: reader.frames([value]))


def test_numpy_s_whole_numbers_are_such(stream: bytes) -> None:
    numbers: dict[str, Any] = {"bundle": np.int64(2), "origin": np.uint16(7), "refresh": np.int8(3)}
    assert tfcodec.Encoder(motion=False, **numbers).push(FRAMES)
    last: Any = np.int64(-1)
    assert tfcodec.open(stream, pixels=False)[last].number == 2


@pytest.mark.parametrize("value", ["yes", 1, 0, None, 0.5, [], object()])
def test_refine_and_motion_are_switches(value: Any) -> None:
    for name in ("refine", "motion"):
        refuse(name, lambda name=name: tfcodec.encode(FRAMES, **{**PLAIN, name: value}))  # type: ignore[misc]
        refuse(name, lambda name=name: tfcodec.encode_batch("nowhere", "x", **{name: value}))  # type: ignore[misc]


def test_names_are_checked_even_if_nothing_is_drawn(stream: bytes) -> None:
    for name in ("network", "device", "runtime"):
        for value in NO_WHOLE[1:]:
            wrong: dict[str, Any] = {name: value}
            with pytest.raises(TfcodecError):
                tfcodec.decode(stream, pixels=False, **wrong)
    with pytest.raises(TfcodecError, match="errors"):
        tfcodec.decode_batch("nowhere", "x", errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(TfcodecError, match="audio"):
        tfcodec.Encoder(audio="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", NO_TIME)
def test_times(value: Any, stream: bytes) -> None:
    reader = tfcodec.open(stream, pixels=False)
    refuse("seconds", lambda: reader.seek(value))
    refuse("start", lambda: reader.sound(value))
    if value is not None:
        refuse("stop", lambda: reader.sound(0, value))


def test_times_of_any_type_of_number_and_of_any_length(stream: bytes) -> None:
    reader = tfcodec.open(stream, pixels=False)
    reader.seek(np.float32(0.04))  # type: ignore[arg-type]
    assert reader.position == 1
    reader.seek(10**30)
    assert reader.position == len(reader)
    refuse("longest", lambda: reader.sound(0, 1e12))  # which no memory holds


def test_frames_that_are_asked_for(stream: bytes) -> None:
    reader = tfcodec.open(stream, pixels=False)
    assert [frame.number for frame in reader.frames(iter([0, 2, 2]))] == [0, 2, 2]
    for wanted in ([-1], [3], [2, 0], range(2, -1, -1), 5, None, "12"):
        with pytest.raises(TfcodecError):
            reader.frames(wanted)  # type: ignore[arg-type]
    for which in (slice(0, 3, 0), slice("a", "b"), slice(0.5, 2)):
        with pytest.raises(TfcodecError):
            reader[which]


@pytest.mark.parametrize("value", [None, 5, "x", [], 10**12])
def test_packets(value: Any) -> None:
    for push in (tfcodec.Decoder().push, tfcodec.Encoder(motion=False).push_feedback):
        refuse("packet", lambda push=push: push(value))  # type: ignore[misc]


@pytest.mark.parametrize("value", [5, [], "", "a\0b", b"a", object()])
def test_paths(value: Any, stream: bytes, tmp_path: Path) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: write_atomically(value, b"x"),
        lambda: VideoWriter(value),
        lambda: tfcodec.decode_to(stream, value),
        lambda: tfcodec.encode_batch(value, tmp_path),
        lambda: tfcodec.encode_batch(tmp_path, value),
        lambda: tfcodec.encode(FRAMES, value, **PLAIN),
    ]
    if not isinstance(value, bytes):
        calls += [lambda: tfcodec.decode(value), lambda: tfcodec.open(value), lambda: tfcodec.probe(value)]
    for call in calls:
        with pytest.raises(TfcodecError, match=r"path|empty"):
            call()


@pytest.mark.parametrize("burst", [0.5, float("nan"), float("inf")])
def test_bursts_of_a_simulated_network(burst: float) -> None:
    refuse("burst", lambda: Link(0.1, burst))
