"""The network is the same whatever the caller has set in torch."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import tfcodec
from tfcodec.codec.file.refine import Descent, Refiner
from tfcodec.errors import TfcodecError
from tfcodec.model import graph, lips, weights
from tfcodec.model.registry import default_model
from tfcodec.model.renderer import Renderer

Both = tuple[bytes, np.ndarray]


def forget() -> None:
    """Have networks and graphs built anew."""
    weights._load.cache_clear()
    graph._kept.clear()
    for name in dir(lips):
        getattr(getattr(lips, name), "cache_clear", lambda: None)()


def coded(clip: tuple[np.ndarray, np.ndarray]) -> Both:
    """A stream with everything in it, and its pictures, of networks that were built now."""
    forget()
    frames, sound = clip
    refiner = Refiner(weights.load_model(default_model()), Descent(steps=2))
    encoder = tfcodec.Encoder(latency="file", audio=True, refine=refiner)
    data = b"".join([*encoder.push(frames[:2], sound[: 2 * 640]), *encoder.flush()])
    Renderer(default_model()).prepare()
    drawn = tfcodec.decode(data)
    return data, drawn.frames


@pytest.fixture(scope="module")
def reference(moving_face: tuple[np.ndarray, np.ndarray]) -> Both:
    return coded(moving_face)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS: dict[str, Any] = {
    "float64": lambda: default_dtype(torch.float64),
    "another device": lambda: default_device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_depends_on_what_the_caller_has_set(
    name: str, moving_face: tuple[np.ndarray, np.ndarray], reference: Both
) -> None:
    try:
        with SETTINGS[name]():
            data, frames = coded(moving_face)
    finally:
        forget()
    assert data == reference[0]
    assert np.abs(frames.astype(int) - reference[1]).max() <= 1


@pytest.mark.parametrize("name", SETTINGS)
def test_the_face_detector_neither(name: str, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("joblib")
    from tfcodec.media.mtcnn import Detector

    picture = moving_face[0][0]
    expected = Detector()(picture)
    with SETTINGS[name]():
        found = Detector()(picture)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.box == pytest.approx(other.box, abs=0.01)
        assert one.points == pytest.approx(other.points, abs=0.01)


def test_a_worker_that_cannot_draw_says_so(
    moving_face: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(Renderer, "set_keyframe", fail)
    encoder = tfcodec.Encoder(audio=False, motion=False)
    packets = [p for frame in moving_face[0][:10] for p in encoder.push(frame)]

    def call(decoder: tfcodec.Decoder) -> None:
        for _ in range(1000):
            for packet in packets:
                decoder.push(packet)
            decoder.pull()
            time.sleep(0.02)

    with tfcodec.Decoder(worker=True) as decoder, pytest.raises(TfcodecError, match=r"cannot be drawn.*instruction"):
        call(decoder)


def test_workers_that_are_dropped_leave_no_threads() -> None:
    before = set(threading.enumerate())
    decoders = [tfcodec.Decoder(worker=True) for _ in range(5)]
    assert sum(t.name == "tfcodec-decoder" for t in set(threading.enumerate()) - before) == 5
    del decoders
    gc.collect()
    until = time.monotonic() + 60
    left = set(threading.enumerate()) - before
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = {thread for thread in left if thread.is_alive()}
    assert not left


FORK = """
import os, signal, sys, numpy as np, torch, tfcodec
torch.set_num_threads(2)  # on one core, too
frames = np.full((2, 256, 256, 3), 99, np.uint8)
data = tfcodec.encode(frames, fps=25, refine=False)
before = tfcodec.decode(data).frames.astype(int)
child = os.fork()
if not child:
    signal.alarm(60)
    assert tfcodec.encode(frames, fps=25, refine=False) == data
    os._exit(int(abs(tfcodec.decode(data).frames - before).max() > 3))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_may_be_forked_when_it_has_encoded_and_drawn() -> None:
    assert subprocess.run([sys.executable, "-c", FORK], check=False, timeout=180).returncode == 0
