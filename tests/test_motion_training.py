"""The motion that training meets is the motion layer's own, for many references at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_landmarks import face_marks, turned

from tfcodec.motion import geometry
from tfcodec.training import motion


def pixels(marks: torch.Tensor) -> torch.Tensor:
    return (marks + 1) * 128


@pytest.fixture(scope="module")
def faces() -> tuple[torch.Tensor, torch.Tensor]:
    """References and frames [12, 70, 2] in pixels: turned, moved and scaled faces whose landmarks also move alone."""
    torch.manual_seed(1)
    poses = [(float(a), float(s), (float(x), float(y))) for a, s, x, y in
             torch.rand(24, 4) * torch.tensor([50, 0.5, 0.2, 0.2]) + torch.tensor([-25, 0.7, -0.1, -0.1])]  # fmt: skip
    every = pixels(torch.cat([turned(face_marks(), *pose) for pose in poses])) + 1.5 * torch.randn(24, 70, 2)
    return every[:12], every[12:]


def test_numbers_are_the_layers(faces: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference, marks = faces
    ours = motion.analyse(reference, marks).numpy()
    assert ours.shape == (12, geometry.NUMBERS)
    for i in range(12):
        theirs = geometry.analyse(reference[i].numpy(), marks[i : i + 1].numpy())[0]
        assert np.abs(ours[i] - theirs).max() < 0.2, i  # of steps of 20 and more
    assert np.abs(ours).max() > 100


def test_landmarks_are_the_layers(faces: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference, marks = faces
    numbers = motion.analyse(reference, marks).round()
    ours = motion.synthesise(reference, numbers).numpy()
    for i in range(12):
        theirs = geometry.synthesise(reference[i].numpy(), numbers[i : i + 1].numpy())[0]
        assert np.abs(ours[i] - theirs).max() < 0.01, i


def test_coding_is_rounding_by_the_layers_geometry(faces: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference, marks = faces
    coarseness = torch.linspace(0.5, 2.5, 12)
    got = motion.coded(reference, marks, coarseness).numpy()
    for i in range(12):
        steps = np.array(motion.STEPS) * float(coarseness[i])
        numbers = geometry.analyse(reference[i].numpy(), marks[i : i + 1].numpy())
        levels = numbers / steps
        clear = np.abs(levels - np.floor(levels) - 0.5).min() > 1e-3  # no number is on the edge between two
        wanted = geometry.synthesise(reference[i].numpy(), np.rint(levels) * steps)[0]
        assert not clear or np.abs(got[i] - wanted).max() < 0.02, i
    errors = [float((motion.coded(reference, marks, torch.full((12,), c)) - marks).norm(dim=-1).mean())
              for c in (0.1, 1.0, 4.0)]  # fmt: skip
    assert errors[0] < errors[1] < errors[2]


def test_what_does_not_move_stays(faces: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference, _ = faces
    assert motion.analyse(reference, reference).abs().max() < 0.1
    assert (motion.coded(reference, reference, torch.ones(12)) - reference).abs().max() < 1e-3


def test_no_face_gives_numbers_all_the_same() -> None:
    """Batches hold frames without a face, too: their motion is not used, but must be finite."""
    nothing = torch.full((2, 70, 2), -1.0)
    assert torch.isfinite(motion.coded(nothing, nothing, torch.ones(2))).all()
    assert torch.isfinite(motion.coded(nothing, pixels(face_marks()).expand(2, -1, -1), torch.ones(2))).all()
