"""The rearranged network draws what the network draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tfcodec.model import graph, rearranged
from tfcodec.model.blocks import box_down, from_pixels
from tfcodec.model.config import NetworkConfig
from tfcodec.model.registry import default_model
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import load_model

LOW_DB, WHOLE_DB = 60.0, 80.0


@pytest.fixture(scope="module")
def model() -> Upsampler:
    model = load_model(default_model())
    if not rearranged.fits(model):
        pytest.skip("this torch lacks oneDNN's operators")
    return model


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    error = float((one.double() - other.double()).square().mean())
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


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
        wanted = graph.picture(model, key, tiny, mel, marks, coarse=False)
        coarse = graph.picture(model, key, tiny, mel, marks, coarse=True)
        for low, needed in ((False, WHOLE_DB), (True, LOW_DB)):
            if low and not rearranged.has_products():
                continue
            for small, want in ((False, wanted), (True, coarse)):
                drawing = rearranged.Drawing(model, coarse=small, low=low)
                given = [tiny, marks, *drawing.prepare(key), *drawing.weights()]
                assert psnr(drawing(*given), want) > needed


def test_a_recorded_drawing_changes_with_the_keyframe(
    model: Upsampler, moving_face: tuple[np.ndarray, np.ndarray]
) -> None:
    """And draws no face where the keyframe has none; the same twice."""
    frames = moving_face[0]
    wall = np.ascontiguousarray(np.broadcast_to(frames[0, :1, :1], (1, 256, 256, 3)))
    tiny, mel = box_down(from_pixels(torch.from_numpy(frames[:5])), 8)[None], torch.zeros(1, 20, 80)
    drawing = graph.record(model, fast=False, coarse=False)
    assert isinstance(drawing, graph.Rearranged)
    with torch.inference_mode():
        for picture in (frames[:1], wall, frames[:1]):
            key = model.encode_keyframe(from_pixels(torch.from_numpy(picture)))
            marks = model.guess(key, tiny)
            drawn = drawing(key, tiny, mel, marks)
            assert psnr(drawn, graph.picture(model, key, tiny, mel, marks, coarse=False)) > LOW_DB
            assert torch.equal(drawing(key, tiny, mel, marks), drawn)


def test_other_networks_are_drawn_as_they_are() -> None:
    for config in (NetworkConfig(shape="light"), NetworkConfig(closeups=False), NetworkConfig.from_json(None)):
        assert not rearranged.fits(Upsampler(config))
