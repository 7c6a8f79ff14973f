"""Drawing in bfloat16 (`fast`): the same pictures by arithmetic in another order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import by_chance, worst_psnr

from tfcodec.model import graph
from tfcodec.model.blocks import box_down, from_pixels
from tfcodec.model.closeup import SQUARES, fade, head_frame, paste_square
from tfcodec.model.config import NetworkConfig
from tfcodec.model.registry import default_model
from tfcodec.model.renderer import Renderer, has_bfloat16
from tfcodec.model.upsampler import Upsampler

NEEDED_DB = 54.0

pytestmark = pytest.mark.skipif(not has_bfloat16(), reason="no instructions for bfloat16")


def test_renderers_draw_alike_alone_together_and_recorded(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """Displaced; motion that was sent and not, coarse pictures, a keyframe without a face; one thread and two."""
    frames = moving_face[0]
    count = graph.TOGETHER + 1
    rng = np.random.default_rng(7)
    mel = np.full((count, 20, 80), -1, np.float32)
    motion = np.zeros((count, 17), np.int32)
    motion[:, :16] = rng.integers(-60, 60, (count, 16))
    motion[:, 16] = 1, 1, 0, 1, 0
    displaced = rng.integers(-60, 60, (count, 12)).astype(np.int32)
    tiny = frames[: count + 4].reshape(-1, 8, 32, 8, 32, 3).mean((2, 4)).astype(np.uint8)
    windows = np.stack([tiny[i : i + 5] for i in range(count)])
    wall = np.ascontiguousarray(np.broadcast_to(frames[0, :1, :1], (256, 256, 3)))
    exact, fast = Renderer(default_model()), Renderer(default_model(), fast=True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for picture in (wall, frames[0]):
            for renderer in (exact, fast):
                renderer.set_keyframe(picture)
            wanted = exact.render(windows, mel, motion=motion, displacement=displaced)
            drawn = fast.render(windows, mel, motion=motion, displacement=displaced)
            assert worst_psnr(drawn, wanted) > NEEDED_DB
        assert worst_psnr(fast.render(windows[:1], mel[:1], True), exact.render(windows[:1], mel[:1], True)) > NEEDED_DB
        assert isinstance(fast._drawings[False], graph.Rearranged)
        fast.prepare()
        for number in (1, 2):
            torch.set_num_threads(number)
            assert worst_psnr(fast.render(windows, mel, motion=motion, displacement=displaced), drawn) > 80
        alone = fast.render(windows[3:4], mel[:1], motion=motion[3:4], displacement=displaced[3:4])
        assert worst_psnr(alone, drawn[3:4]) > 80
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", ["deep", "wide"])
def test_other_shapes_of_the_network(shape: str, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    model = by_chance(shape)
    frames, mel = moving_face[0], torch.zeros(1, 20, 80)
    drawing = graph.drawing(model, fast=True, coarse=False, record=False)
    assert drawing is not None
    with torch.inference_mode():
        known = model.encode_keyframe(from_pixels(torch.from_numpy(frames[:1])))
        tiny = box_down(from_pixels(torch.from_numpy(frames[:5])), 8)[None]
        marks = model.guess(known, tiny)
        displaced = torch.linspace(-3, 3, 12)[None]
        wanted = graph.picture(model, known, tiny, mel, marks, False, displaced).numpy()
        found = drawing(known, tiny, mel, marks, displaced).numpy()
    assert worst_psnr(found, wanted) > 48


def test_networks_of_another_kind_are_drawn_as_before() -> None:
    assert graph.drawing(Upsampler(NetworkConfig(closeups=False)), fast=True, coarse=False, record=False) is None


@pytest.mark.parametrize("shift", [0.0, 0.9, 5.0])
def test_close_ups_are_pasted_where_they_were(shift: float, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """In the middle, across the edge and outside of the picture; two frames at once."""
    from tfcodec.model.laid_out import run
    from tfcodec.model.tracking import find

    marks = torch.from_numpy(find(moving_face[0][:2])[0] / 128 - 1).float() + torch.tensor([shift, -shift / 3])
    frame = head_frame(marks)
    rng = np.random.default_rng(1)
    for s in SQUARES:
        change = torch.from_numpy(rng.uniform(-1, 1, (2, 3, s.height, s.width)).astype(np.float32))
        wanted, found = paste_square(change, frame, s, 256), torch.zeros(2, 3, 256, 256)
        faded = change * fade(s, torch.device("cpu"))
        run().paste(found, faded, frame.middle, frame.turn, s.left, s.top, s.right, s.bottom)
        assert (shift < 1) == bool(wanted.abs().max() > 0.1)
        assert torch.allclose(found, wanted, atol=1e-3)
