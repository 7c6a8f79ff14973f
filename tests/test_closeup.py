"""Close-ups: squares are cut, drawn on and pasted back where they were, in the head's own frame."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_landmarks import face_marks, turned

from tfcodec.model.closeup import (
    EYES_SQUARE,
    MOUTH_SQUARE,
    SQUARES,
    CloseUp,
    CloseUps,
    HeadFrame,
    Square,
    cut_square,
    dots,
    head_frame,
    paste_square,
)  # fmt: skip
from tfcodec.model.places import EDGE
from tfcodec.model.upsampler import Upsampler
from tfcodec.training.landmark_examples import mirror_marks

POSES = ((0.0, 1.0, (0.0, 0.0)), (17.0, 0.9, (0.06, -0.04)), (-30.0, 0.7, (-0.1, 0.05)))


def posed(index: int) -> torch.Tensor:
    return turned(face_marks(), *POSES[index])


def smooth_picture(count: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return F.interpolate(torch.rand(count, 3, 16, 16), size=256, mode="bicubic", align_corners=False)


def in_head(frame: HeadFrame, points: torch.Tensor) -> torch.Tensor:
    """Points [N, 2] of a picture in the head's frame, by solving what `HeadFrame` says."""
    return torch.linalg.solve(frame.turn[0], (points - frame.middle[0]).T).T


@pytest.mark.parametrize("pose", range(3))
def test_the_heads_frame_lies_between_the_eyes(pose: int) -> None:
    marks = posed(pose)
    frame = head_frame(marks)
    eyes = torch.stack([marks[0, [36, 39]].mean(0), marks[0, [42, 45]].mean(0)])
    assert torch.allclose(in_head(frame, eyes), torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), atol=1e-5)
    # The same face is at the same place in it, whatever the head does.
    assert torch.allclose(in_head(frame, marks[0]), in_head(head_frame(posed(0)), posed(0)[0]), atol=1e-4)


def test_what_is_no_face_has_a_frame_too() -> None:
    frame = head_frame(torch.zeros(1, 70, 2))
    assert torch.isfinite(torch.linalg.inv(frame.turn)).all()


@pytest.mark.parametrize("square", SQUARES, ids=["mouth", "eyes"])
@pytest.mark.parametrize("pose", range(3))
def test_what_is_cut_out_is_pasted_where_it_was(square: Square, pose: int) -> None:
    picture, frame = smooth_picture(), head_frame(posed(pose))
    pasted = paste_square(cut_square(picture, frame, square), frame, square, 256)
    line = (torch.arange(256) * 2 + 1) / 256 - 1
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
    x, y = ((in_head(frame, points) - torch.tensor([square.left, square.top])) / torch.tensor(
        [square.right - square.left, square.bottom - square.top]
    )).unbind(-1)  # fmt: skip
    depth = torch.minimum(torch.minimum(x, 1 - x), torch.minimum(y, 1 - y)).reshape(256, 256)
    inside, outside = depth > EDGE + 0.02, depth < -0.02
    assert inside.sum() > 1000
    assert (pasted - picture)[0, :, inside].abs().max() < 0.02
    assert pasted[0, :, outside].abs().max() == 0
    half_way = (depth > 0.4 * EDGE) & (depth < 0.6 * EDGE)
    share = (pasted[0, :, half_way] / picture[0, :, half_way]).median()
    assert 0.3 < float(share) < 0.7  # it fades out softly


@pytest.mark.parametrize("square", SQUARES, ids=["mouth", "eyes"])
@pytest.mark.parametrize("pose", range(3))
def test_dots_lie_at_the_landmarks_of_the_cut_square(square: Square, pose: int) -> None:
    """A bright spot at a landmark of the picture and the landmark's dot are at the same place of the square."""
    marks = face_marks()
    marks[0, :17] *= 0.85  # the drawn face's chin would lie below the square
    marks = turned(marks, *POSES[pose])
    frame = head_frame(marks)
    line = (torch.arange(256) * 2 + 1) / 256 - 1
    for plane, members in enumerate(square.planes):
        # The landmark that is deepest inside: brows and jaw reach beyond the squares.
        head = in_head(frame, marks[0, list(members)])
        middle = torch.tensor([square.left + square.right, square.top + square.bottom]) / 2
        which = members[int((head - middle).norm(dim=1).argmin())]
        x, y = marks[0, which]
        spot = torch.exp(-((line - x) ** 2 + (line[:, None] - y) ** 2) / (2 * 0.012**2)).expand(1, 3, 256, 256)
        seen = cut_square(spot, frame, square)[0, 0]
        alone = marks.clone()
        others = [m for m in members if m != which]
        alone[0, others] = 5.0  # far away
        dot = dots(alone, frame, square)[0, plane]
        assert dot.shape == (square.height // 2, square.width // 2)
        row, column = divmod(int(dot.argmax()), dot.shape[1])
        there, across = divmod(int(seen.argmax()), seen.shape[1])
        assert abs(2 * row + 0.5 - there) <= 2
        assert abs(2 * column + 0.5 - across) <= 2
        assert 0.6 < float(dot.max()) <= 1.01


def taught(seed: int = 0) -> CloseUps:
    """Close-ups that change something, as trained ones do."""
    torch.manual_seed(seed)
    closeups = CloseUps().eval().requires_grad_(False)
    for part in closeups.parts:
        assert isinstance(part, CloseUp)
        for head in (part.flow, part.paint):
            torch.nn.init.normal_(head.weight, std=0.02)
    return closeups


def test_an_untrained_close_up_only_blends_the_keyframe_in() -> None:
    """Where the keyframe's square is what was drawn, nothing changes at all."""
    closeups, picture, marks = CloseUps().eval(), smooth_picture(), posed(1)
    with torch.no_grad():
        prepared = closeups.prepare(picture, marks)
        out = closeups(picture, marks, prepared, torch.ones(1))
        assert torch.allclose(out, picture, atol=1e-6)
        # What differs is taken over to an eighth, within the squares alone: sigmoid(-2).
        other = closeups(picture - 0.1, marks, prepared, torch.ones(1)) - (picture - 0.1)
    assert float(other.max()) == pytest.approx(0.1 * float(torch.sigmoid(torch.tensor(-2.0))), rel=0.05)
    assert float((other.abs() > 1e-6).float().mean()) < 0.3


def test_without_a_face_nothing_changes() -> None:
    closeups, picture, marks = taught(), smooth_picture(2), posed(0).expand(2, -1, -1)
    with torch.no_grad():
        prepared = closeups.prepare(picture, marks)
        out = closeups(picture, marks, prepared, torch.tensor([0.0, 1.0]))
    assert torch.equal(out[0], picture[0])
    assert (out[1] - picture[1]).abs().max() > 0.01


def test_squares_of_a_mirrored_picture_are_mirrored() -> None:
    picture, marks = smooth_picture(), posed(2)
    mirrored, there = picture.flip(-1), mirror_marks(marks, torch.tensor([True]))
    for square in SQUARES:
        frame, other = head_frame(marks), head_frame(there)
        cut = cut_square(picture, frame, square)
        assert torch.allclose(cut_square(mirrored, other, square).flip(-1), cut, atol=1e-3)
        assert torch.allclose(paste_square(cut.flip(-1), other, square, 256).flip(-1),
                              paste_square(cut, frame, square, 256), atol=1e-3)  # fmt: skip
        # The planes are groups of landmarks that are their own mirror images.
        assert torch.allclose(dots(there, other, square).flip(-1), dots(marks, frame, square), atol=1e-3)


def test_the_network_draws_its_close_ups_where_the_landmarks_are() -> None:
    """What a trained close-up adds to the frame lies within the squares of the landmarks that were given."""
    torch.manual_seed(0)
    model = Upsampler().eval().requires_grad_(False)
    model.closeups = taught()
    picture, mel = smooth_picture(), torch.zeros(1, 20, 80)
    tiny = F.avg_pool2d(picture, 32)[:, None].expand(-1, 5, -1, -1, -1)
    key = model.encode_keyframe(picture, posed(0), torch.ones(1))
    out = model(key, tiny, mel, marks=posed(2))
    assert out.plain is not None
    changed = (out.frame - out.plain).abs().amax(1)[0] > 1e-6
    frame = head_frame(posed(2))
    room = sum(paste_square(torch.ones(1, 3, s.height, s.width), frame, s, 256) for s in (MOUTH_SQUARE, EYES_SQUARE))
    assert isinstance(room, torch.Tensor)
    assert changed.sum() > 1000
    assert not changed[room[0, 0] == 0].any()
    without = model(key._replace(face=torch.zeros(1)), tiny, mel, marks=posed(2))
    assert torch.equal(without.frame, out.plain)
