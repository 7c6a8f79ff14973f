"""Where networks compute: names, what is the same anywhere, and pictures that are brought back a batch later."""

from __future__ import annotations

import dataclasses
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.cli import main
from tfcodec.codec.file.reader import Reader
from tfcodec.codec.file.refine import Descent, Refiner
from tfcodec.errors import BitstreamError, TfcodecError
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.metrics.pixels import psnr
from tfcodec.model.device import check_device, find_device
from tfcodec.model.registry import default_model
from tfcodec.model.tracking import default_tracker
from tfcodec.model.weights import load_model
from tfcodec.tinyframe import TinyPlanes, tiny_from_frames

Face = tuple[np.ndarray, np.ndarray]
HERE = [
    "cpu", "auto",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")),
]  # fmt: skip
MISSING = "mps" if torch.cuda.is_available() else "cuda"


class Darker:
    """Chooses tiny frames that are given: a little darker than the box means."""

    def refine(
        self, keyframe: np.ndarray, frames: np.ndarray, planes: TinyPlanes, motion: np.ndarray | None = None
    ) -> TinyPlanes:
        return TinyPlanes.from_samples(planes.samples() - 2 * TinyPlanes.scale)


@pytest.fixture(scope="module")
def stream(moving_face: Face) -> bytes:
    frames, sound = moving_face
    return tfcodec.encode(frames[:11], fps=25, audio=sound[: 11 * 640], sample_rate=16000, refine=False)


@pytest.fixture(scope="module")
def usual(stream: bytes) -> list[tfcodec.DecodedFrame]:
    """Its frames, as the processor draws them."""
    return list(Reader(stream))


@pytest.fixture(scope="module")
def decoded(stream: bytes) -> tfcodec.DrawnClip:
    """All of it at once, by the processor."""
    return tfcodec.decode(stream, device="cpu")


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:x", "", None, 0])
def test_names_are_checked(name: Any, moving_face: Face, stream: bytes) -> None:
    with pytest.raises(TfcodecError, match="device must be"):
        check_device(name)
    with pytest.raises(TfcodecError, match="device must be"):
        tfcodec.encode(moving_face[0][:2], fps=25, device=name)
    with pytest.raises(TfcodecError, match="device must be"):
        tfcodec.open(stream, device=name)
    with pytest.raises(TfcodecError, match="device must be"):
        tfcodec.Encoder(device=name)


@pytest.mark.skipif(torch.cuda.is_available() and torch.backends.mps.is_available(), reason="all devices are here")
def test_a_device_that_is_not_there(tmp_path: Path, stream: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    message = f'device="{MISSING}": torch .* finds no .* here'
    with pytest.raises(TfcodecError, match=message):
        find_device(MISSING)
    with pytest.raises(TfcodecError, match=message):
        tfcodec.decode(stream, device=MISSING)
    with pytest.raises(TfcodecError, match=message):
        tfcodec.Encoder(device=MISSING)
    source, out = tmp_path / "a.tfc", tmp_path / "a.mp4"
    source.write_bytes(stream)
    assert main(["decode", str(source), str(out), "--device", MISSING]) == 1
    assert main(["encode", str(source), str(out), "--device", MISSING]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("finds no" in line for line in said)
    assert not out.exists()


def test_auto_is_cuda_or_the_processor() -> None:
    assert find_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", HERE)
def test_the_same_symbols_are_the_same_bytes(device: str, moving_face: Face) -> None:
    """Tiny frames and motion being given, no float of a device decides a byte."""
    frames, sound = moving_face[0][:12], moving_face[1][: 12 * 640]

    def coded(where: str, latency: Any) -> list[bytes]:
        refine, motion = Darker(), default_tracker()  # a tracker of one's own stays where it is
        encoder = tfcodec.Encoder(
            latency=latency, audio=True, refine=refine, motion=motion, origin=0, device=where  # type: ignore[arg-type]
        )  # fmt: skip
        return [bytes(p) for p in [*encoder.push(frames, sound), *encoder.flush()]]

    for latency in ("file", "call"):
        assert coded(device, latency) == coded("cpu", latency)


@pytest.mark.parametrize("device", HERE)
def test_pictures_are_near_the_processors(device: str, stream: bytes, decoded: tfcodec.DrawnClip) -> None:
    there, here = tfcodec.decode(stream, device=device), decoded
    assert np.array_equal(there.tiny, here.tiny)
    assert there.audio is not None
    assert here.audio is not None
    assert np.array_equal(there.audio, here.audio)
    assert psnr(there.frames, here.frames).min() > 48


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_batch_ahead_gives_the_same_frames(batch: int, stream: bytes, usual: list[tfcodec.DecodedFrame]) -> None:
    """The way that frames take from a graphics card, with the processor in its place."""
    reader = Reader(stream, batch=batch)
    reader._ahead = True
    frames = list(reader)
    assert [f.number for f in frames] == list(range(len(usual)))
    for one, other in zip(frames, usual, strict=True):
        assert np.array_equal(one.tiny, other.tiny)
        assert one.audio is not None
        assert other.audio is not None
        assert np.array_equal(one.audio, other.audio)
        assert (one.time, one.keyframe) == (other.time, other.keyframe)
        assert one.pixels is not None
        assert other.pixels is not None
        assert psnr(one.pixels[None], other.pixels[None]).min() > 48
    assert reader[7].number == 7
    assert [f.number for f in reader[2:11:4]] == [2, 6, 10]


def test_a_batch_ahead_gives_what_comes_before_damage(moving_face: Face) -> None:
    encoder = tfcodec.Encoder(latency="file", audio=False, refine=False, motion=False)
    packets = encoder.push(moving_face[0][:6])
    encoder.request_keyframe()
    packets += [*encoder.push(moving_face[0][6:12]), *encoder.flush()]
    chunks = list(bs.read_stream(b"".join(packets)).chunks)
    last, tiny = max((i, chunk) for i, chunk in enumerate(chunks) if isinstance(chunk, bs.TinyChunk))
    chunks[last] = dataclasses.replace(tiny, payload=b"\xff" * 40)
    data = bs.write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)
    for ahead in (False, True):
        reader, given = Reader(data, batch=4, pixels=False), deque[int]()
        reader._ahead = ahead
        with pytest.raises(BitstreamError):
            given.extend(frame.number for frame in reader)
        assert list(given) == [0, 1, 2, 3]  # the next two wait for windows that reach beyond them


@pytest.mark.parametrize("batch", [0, -1, True, 1.5, "8"])
def test_batches_are_checked(batch: Any, stream: bytes) -> None:
    with pytest.raises(TfcodecError, match="batch must be"):
        tfcodec.open(stream, batch=batch)


def test_threads_change_next_to_nothing_of_the_search(moving_face: Face) -> None:
    frames = moving_face[0][:40]
    keyframe = decode_keyframe(encode_keyframe(frames[9], 5))
    refiner, planes = Refiner(load_model(default_model()), Descent(steps=1, stride=10)), tiny_from_frames(frames)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(refiner.refine(keyframe, frames, planes))
    finally:
        torch.set_num_threads(before)
    away = (found[0].samples() - found[1].samples()) / TinyPlanes.scale
    moved = (found[0].samples() - planes.samples()) / TinyPlanes.scale
    assert np.square(away).mean() < 0.01 * np.square(moved).mean()
