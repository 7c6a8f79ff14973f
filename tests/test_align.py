"""The encoder finds how far what will be drawn is displaced, and says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tfcodec
from tfcodec.codec.file.align import Aligner, Alignment, _normal, _smoothest
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.displacement import NUMBERS, UNIT
from tfcodec.metrics.pixels import psnr
from tfcodec.model.inputs import MEL_BANDS, MEL_COLUMNS
from tfcodec.model.registry import default_model
from tfcodec.model.renderer import MEL_SILENCE, Renderer, tiny_windows
from tfcodec.tinyframe import tiny_from_frames, tiny_to_rgb

Face = tuple[np.ndarray, np.ndarray]
CALM = Alignment(stride=1, steps=3, calm=0, small=1e-9)


@pytest.fixture(scope="module")
def drawn(moving_face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A keyframe, tiny frames, displacements in 1/32 pixel, and what the network draws of all three."""
    frames = moving_face[0][:6]
    tiny = tiny_to_rgb(tiny_from_frames(frames))
    numbers = np.zeros((6, NUMBERS), np.int32)
    numbers[:, 0] = UNIT * np.array([0, 1, 2, 1, 0, -1])  # aside
    numbers[:, 6] = UNIT * -2  # up
    numbers[:, 1] = UNIT  # wider
    renderer = Renderer(default_model())
    renderer.set_keyframe(frames[3])
    silence = np.full((6, MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, np.float32)
    return frames[3], tiny, numbers, renderer.render(tiny_windows(tiny, np.arange(6)), silence, displacement=numbers)


def test_a_known_displacement_is_found(drawn: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    keyframe, tiny, numbers, source = drawn
    found = Aligner(default_model(), CALM).fit(keyframe, source, tiny)
    assert found.shape == numbers.shape
    assert np.abs(found - numbers).max() < 0.75 * UNIT  # the network goes on to draw with it, and not quite along
    assert np.abs(found - numbers).mean() < 0.2 * UNIT


def test_without_one_none_is_found(drawn: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    keyframe, tiny, *_ = drawn
    renderer = Renderer(default_model())
    renderer.set_keyframe(keyframe)
    silence = np.full((6, MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, np.float32)
    source = renderer.render(tiny_windows(tiny, np.arange(6)), silence)
    found = Aligner(default_model()).fit(keyframe, source, tiny)
    assert np.abs(found).max() < 0.2 * UNIT  # the aligner draws in bfloat16 where there is


def test_frames_between_those_that_are_drawn_lie_between(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    keyframe, tiny, _, source = drawn
    found = Aligner(default_model(), Alignment(stride=3)).fit(keyframe, source, tiny)  # frames 0, 3 and 5
    np.testing.assert_allclose(found[1], (2 * found[0] + found[3]) / 3)
    np.testing.assert_allclose(found[4], (found[3] + found[5]) / 2)


def test_a_grey_wall_is_not_displaced(drawn: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Nothing can be seen to move there, so that the equations say nothing."""
    grey = np.full((2, 256, 256, 3), 90, np.uint8)
    bends, pulls = (x.double().numpy() for x in _normal(grey, grey + np.uint8(40), torch.zeros(2, NUMBERS)))
    assert not _smoothest(bends, pulls, Alignment()).any()


def test_the_banded_system_is_the_whole_one() -> None:
    rng = np.random.default_rng(3)
    half = rng.normal(size=(5, NUMBERS, 20))
    bends, pulls, how = half @ half.transpose(0, 2, 1), rng.normal(size=(5, NUMBERS)), Alignment(calm=0.7, small=0.2)
    whole = np.zeros((5, NUMBERS, 5, NUMBERS))
    for t in range(5):
        whole[t, :, t] += bends[t] + how.small * np.eye(NUMBERS)
        if t:
            for a, b, sign in ((t, t, 1), (t - 1, t - 1, 1), (t, t - 1, -1), (t - 1, t, -1)):
                whole[a, :, b] += sign * how.calm * np.eye(NUMBERS)
    expected = np.linalg.solve(whole.reshape(60, 60), pulls.ravel()).reshape(5, NUMBERS)
    np.testing.assert_allclose(_smoothest(bends, pulls, how), expected)


def test_files_say_it_and_pictures_lie_better(moving_face: Face) -> None:
    frames, some = moving_face[0][:24], np.arange(1, 24, 4)
    data = tfcodec.encode(frames, fps=25)
    parts = read_exact(data)
    assert parts.layers["displacement"].shape == (24, NUMBERS)
    assert parts.layers["displacement"].any()
    assert tfcodec.probe(data).bytes["displacement"] > 0
    aligned = np.concatenate(list(render_exact(parts, only=some)))
    del parts.layers["displacement"]
    plain = np.concatenate(list(render_exact(parts, only=some)))
    assert psnr(frames[some], aligned).mean() > psnr(frames[some], plain).mean() + 0.1


def test_without_looking_nothing_is_said(moving_face: Face) -> None:
    assert "displacement" not in read_exact(tfcodec.encode(moving_face[0][:8], fps=25, refine=False)).layers
