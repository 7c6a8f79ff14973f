"""The displacement layer as it is drawn: a polynomial of each axis, by which a frame's optical flow is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import psnr, there

import tfcodec
from tfcodec.bitstream import DisplacementChunk, DisplacementTablesChunk, write_signature
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.codec.parts import Sending, StreamEncoder
from tfcodec.codec.parts.stream import stream_header
from tfcodec.model.blocks import field as torch_field
from tfcodec.model.displacement import field, in_pixels
from tfcodec.model.registry import default_model, stand_in
from tfcodec.model.renderer import Drawer, Renderer, render_all
from tfcodec.runtime import open_renderer

DRAWERS = ("full", "full, recorded", "light", "light, fast", "ncnn")


@pytest.fixture(params=DRAWERS)
def drawer(request: pytest.FixtureRequest) -> Iterator[Drawer]:
    if request.param == "ncnn":
        pytest.importorskip("ncnn", reason="the extra fast is not installed")
        yield open_renderer(default_model(), runtime="ncnn")
        return
    renderer = Renderer(stand_in(default_model(), request.param[:5].strip(",")), fast="fast" in request.param)
    if "recorded" in request.param:
        renderer.prepare()
    yield renderer


def windows(frames: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    tiny = frames[: count + 4].reshape(-1, 8, 32, 8, 32, 3).mean((2, 4)).astype(np.uint8)
    return np.stack([tiny[i : i + 5] for i in range(count)]), np.full((count, 20, 80), -1, np.float32)


def test_the_field_is_the_polynomials_at_the_centres_of_64x64_pixels() -> None:
    numbers = np.random.default_rng(5).integers(-(2**15) + 1, 2**15, (3, 12)).astype(np.int32)
    found = field(in_pixels(numbers, 3))
    assert found.shape == (3, 2, 64, 64)
    for row in (0, 17, 63):
        for column in (0, 40, 63):
            x, y = ((2 * p + 1) / 64 - 1 for p in (column, row))
            terms = np.array([1, x, y, x * y, (3 * x * x - 1) / 2, (3 * y * y - 1) / 2])
            wanted = numbers.reshape(3, 2, 6) @ terms / 32 / 128
            np.testing.assert_allclose(found[:, :, row, column], wanted, atol=1e-4)
    np.testing.assert_allclose(torch_field(torch.from_numpy(in_pixels(numbers, 3))).numpy(), found, atol=1e-5)
    assert not field(in_pixels(None, 2)).any()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch_field(torch.ones(1, 12)).dtype == torch.float32


def test_zeros_are_nothing_and_whole_pixels_move_the_picture(
    drawer: Drawer, moving_face: tuple[np.ndarray, np.ndarray]
) -> None:
    """What is seen at a place is what lay as many pixels further; close-ups and tiny frames stay, which are a part."""
    frames = moving_face[0]
    drawer.set_keyframe(frames[0])
    given, mel = windows(frames, 1)
    plain = drawer.render(given, mel)
    assert np.array_equal(drawer.render(given, mel, displacement=np.zeros((1, 12), np.int32)), plain)
    numbers = np.zeros((1, 12), np.int32)
    numbers[0, [0, 6]] = 32 * 6, 32 * -4
    drawn = drawer.render(given, mel, displacement=numbers)
    inner = slice(16, -16)
    moved = np.roll(plain, (4, -6), (1, 2))[:, inner, inner]
    near, far = psnr(drawn[:, inner, inner], moved), psnr(plain[:, inner, inner], moved)
    assert near > far + 3
    assert near > psnr(np.roll(plain, (-4, 6), (1, 2))[:, inner, inner], drawn[:, inner, inner]) + 6
    curved = numbers.copy()
    curved[0, 3] = 64  # changes what the last change did not
    assert not np.array_equal(drawer.render(given, mel, displacement=curved), drawn)


def test_clips_are_drawn_with_each_frame_s_own(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """With two keyframes and frames left out."""
    frames = moving_face[0]
    tiny = frames[:9].reshape(9, 8, 32, 8, 32, 3).mean((2, 4)).astype(np.uint8)
    numbers = np.random.default_rng(2).integers(-90, 90, (9, 12)).astype(np.int32)
    numbers[4] = 0
    keyframes = [(0, frames[0]), (5, frames[5])]
    renderer = Renderer(stand_in(default_model(), "light"))

    def drawn(which: list[int], displacement: np.ndarray | None) -> np.ndarray:
        only = np.array(which)
        batches = render_all(renderer, keyframes, tiny, None, True, only=only, displacement=displacement)
        return np.concatenate(list(batches))

    whole, without = drawn(list(range(9)), numbers), drawn(list(range(9)), None)
    same = (whole == without).reshape(9, -1).all(1)
    assert same.tolist() == [i == 4 for i in range(9)]
    assert np.array_equal(drawn([1, 6], numbers), whole[[1, 6]])


class Known:
    """An aligner that finds what it was told."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def fit(self, keyframe: np.ndarray, frames: np.ndarray, tiny: np.ndarray, motion: np.ndarray | None) -> np.ndarray:
        return self.numbers[: len(frames)].astype(np.float64)


def test_a_file_s_displacement_is_drawn(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """By readers, a frame alone, and by what draws exact parts; not where it was taken out of the file."""
    frames = moving_face[0][:4]
    numbers = 60 * np.sin(np.arange(48)).reshape(4, 12)
    encoder = StreamEncoder(Sending(10, "file", aligner=Known(numbers)))
    chunks: list[Any] = [stream_header(None, 4), *encoder.announcements]
    chunks += [encoder.keyframe(frames[0], 0), *encoder.chunks(frames, 0)]
    kinds = DisplacementTablesChunk, DisplacementChunk
    data, without = (
        write_signature() + b"".join(chunk.to_bytes() for chunk in kept)
        for kept in (chunks, [chunk for chunk in chunks if not isinstance(chunk, kinds)])
    )
    parts = read_exact(data)
    said = parts.layers["displacement"]
    assert np.abs(said - numbers).max() < 32
    drawn = render_all(
        Renderer(default_model()), parts.keyframes, parts.tiny, None, motion=parts.layers["motion"], displacement=said
    )  # fmt: skip
    wanted = np.concatenate(list(drawn))
    assert np.array_equal(np.concatenate(list(render_exact(parts))), wanted)
    with tfcodec.open(data) as reader:
        assert np.array_equal(np.stack([there(frame.pixels) for frame in reader]), wanted)
        assert psnr(there(reader[2].pixels), wanted[2]) > 60
    with tfcodec.open(without) as reader:
        assert psnr(there(reader[2].pixels), wanted[2]) < 50
