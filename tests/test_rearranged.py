"""The rearranged network draws what the network draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import psnr, worst_psnr

from tfcodec.model import graph, rearranged
from tfcodec.model.blocks import box_down, from_pixels
from tfcodec.model.config import NetworkConfig
from tfcodec.model.laid_out import EXACT, FAST, PRODUCTS
from tfcodec.model.registry import default_model, stand_in
from tfcodec.model.renderer import Renderer, has_bfloat16
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import load_model

FAST_DB, LOW_DB, WHOLE_DB = 54.0, 60.0, 80.0


@pytest.fixture(scope="module", params=["full", "light"])
def model(request: pytest.FixtureRequest) -> Upsampler:
    model = load_model(stand_in(default_model(), request.param))
    if not rearranged.fits(model):
        pytest.skip("this torch lacks oneDNN's operators")
    return model


@pytest.mark.parametrize("turned", [0.0, 0.4], ids=["upright", "turned and at the edge"])
def test_it_draws_what_the_network_draws(
    model: Upsampler, moving_face: tuple[np.ndarray, np.ndarray], turned: float
) -> None:
    frames = moving_face[0]
    tiny = box_down(from_pixels(torch.from_numpy(frames[:5])), 8)[None]
    mel = torch.zeros(1, 20, 80)
    with torch.inference_mode():
        key = model.encode_keyframe(from_pixels(torch.from_numpy(frames[:1])))
        assert key.marks is not None
        assert key.face is not None
        assert bool(key.face > 0)
        marks = model.guess(key, tiny)
        if turned:
            angle = torch.tensor(turned)
            turn = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
            marks = marks @ turn.T + torch.tensor((0.6, -0.3))  # close-ups reach over the picture's edge
        displaced = torch.linspace(-3, 3, 12)[None]
        wanted = graph.picture(model, key, tiny, mel, marks, False, displaced)
        coarse = graph.picture(model, key, tiny, mel, marks, True, displaced)
        precisions = [(EXACT, WHOLE_DB)]
        if rearranged.has_products():
            precisions += [(PRODUCTS, LOW_DB), (FAST, FAST_DB)]
        for precision, needed in precisions:
            for small, want in ((False, wanted), (True, coarse)):
                drawing = rearranged.Drawing(model, precision, coarse=small)
                assert psnr(drawing(tiny, marks, displaced, *drawing.prepare(key)), want) > needed


def test_a_recorded_drawing_changes_with_the_keyframe(
    model: Upsampler, moving_face: tuple[np.ndarray, np.ndarray]
) -> None:
    """And with the displacement, and draws no face where the keyframe has none; the same twice."""
    frames = moving_face[0]
    wall = np.ascontiguousarray(np.broadcast_to(frames[0, :1, :1], (1, 256, 256, 3)))
    tiny, mel = box_down(from_pixels(torch.from_numpy(frames[:5])), 8)[None], torch.zeros(1, 20, 80)
    drawing = graph.drawing(model, fast=False, coarse=False, record=True)
    assert isinstance(drawing, graph.Rearranged)
    with torch.inference_mode():
        for picture, shift in ((frames[:1], 0.0), (wall, 2.0), (frames[:1], -2.0)):
            key = model.encode_keyframe(from_pixels(torch.from_numpy(picture)))
            marks = model.guess(key, tiny)
            displaced = shift * torch.linspace(-1, 1, 12)[None]
            drawn = drawing(key, tiny, mel, marks, displaced)
            assert psnr(drawn, graph.picture(model, key, tiny, mel, marks, False, displaced)) > LOW_DB
            assert torch.equal(drawing(key, tiny, mel, marks, displaced), drawn)


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.skipif(
    not has_bfloat16(), reason="no instructions for bfloat16"
))])  # fmt: skip
def test_the_light_network_draws_several_frames_at_once(fast: bool, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """Displaced, with motion that was sent and not, on one thread and on two, as the network without a recording."""
    frames, count = moving_face[0], graph.TOGETHER + 2
    tiny = frames[: count + 4].reshape(-1, 8, 32, 8, 32, 3).mean((2, 4)).astype(np.uint8)
    windows = np.stack([tiny[i : i + 5] for i in range(count)])
    mel, motion = np.full((count, 20, 80), -1, np.float32), np.zeros((count, 17), np.int32)
    motion[:, :16] = np.random.default_rng(7).integers(-60, 60, (count, 16))
    motion[::2, 16] = 1
    displaced = np.arange(12 * count, dtype=np.int32).reshape(count, 12) - 36
    entry = stand_in(default_model(), "light")
    plain, renderer = Renderer(entry), Renderer(entry, fast=fast)
    threads = torch.get_num_threads()
    try:
        for each in (plain, renderer):
            each.set_keyframe(frames[0])
        renderer.prepare()
        if not isinstance(renderer._drawings[False], graph.Rearranged):
            pytest.skip("this torch lacks oneDNN's operators")
        for number in (1, 2):
            torch.set_num_threads(number)
            wanted, drawn = (
                torch.from_numpy(x.render(windows, mel, motion=motion, displacement=displaced))
                for x in (plain, renderer)
            )
            needed = FAST_DB if fast else LOW_DB
            assert worst_psnr(drawn, wanted) > needed
            alone = renderer.render(windows[2:3], mel[2:3], motion=motion[2:3], displacement=displaced[2:3])
            assert psnr(torch.from_numpy(alone), drawn[2:3]) > WHOLE_DB
    finally:
        torch.set_num_threads(threads)


def test_other_networks_are_drawn_as_they_are() -> None:
    for config in (NetworkConfig(closeups=False), NetworkConfig.from_json(None)):
        assert not rearranged.fits(Upsampler(config))
