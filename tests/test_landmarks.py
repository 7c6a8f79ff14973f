"""The landmark prior: what it tells the network, and its training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")

import torch

from tfcodec.errors import TfcodecError
from tfcodec.model.blocks import box_down
from tfcodec.model.config import BEFORE, NetworkConfig
from tfcodec.model.landmarks import COUNT, GROUPS, LandmarkPrior, cut, mouth_change, mouth_place
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import read_weights, save_weights
from tfcodec.training import data, landmarks, plans
from tfcodec.training.landmark_examples import Source, mirror_marks
from tfcodec.training.options import parse
from tfcodec.training.start import start_network

SECOND = NetworkConfig(**{**BEFORE, "landmarks": True})
"""Network 2's options: no landmarks are sent, so that the prior finds the keyframe's by itself."""


def face_marks() -> torch.Tensor:
    """A drawn face's landmarks [1, 70, 2], roughly where a face's are, left-right symmetric."""
    marks = torch.zeros(1, COUNT, 2)
    angle = torch.linspace(0, torch.pi, 17)
    marks[0, :17] = torch.stack((-0.5 * angle.cos(), 0.1 + 0.5 * angle.sin()), -1)
    marks[0, 17:27, 0] = torch.linspace(-0.4, 0.4, 10)
    marks[0, 17:27, 1] = -0.3
    marks[0, 27:31, 1] = torch.linspace(-0.15, 0.1, 4)
    marks[0, 31:36, 0] = torch.linspace(-0.1, 0.1, 5)
    marks[0, 31:36, 1] = 0.15
    for first, x in ((36, -0.22), (42, 0.22)):
        turn = torch.tensor([180.0, 120, 60, 0, -60, -120]).deg2rad()
        marks[0, first : first + 6] = torch.stack((x + 0.07 * turn.cos(), -0.15 - 0.03 * turn.sin()), -1)
    for first, count, size in ((48, 12, 0.16), (60, 8, 0.1)):
        turn = torch.pi - torch.arange(count) * 2 * torch.pi / count
        marks[0, first : first + count] = torch.stack((size * turn.cos(), 0.35 - 0.4 * size * turn.sin()), -1)
    marks[0, 68:, 0] = torch.tensor([-0.22, 0.22])
    marks[0, 68:, 1] = -0.15
    return marks


def turned(marks: torch.Tensor, degrees: float, size: float, shift: tuple[float, float]) -> torch.Tensor:
    """Landmarks of a head that is turned in the picture's plane, farther away or nearer, and elsewhere."""
    angle = torch.tensor(degrees).deg2rad()
    turn = torch.stack((torch.stack((angle.cos(), angle.sin())), torch.stack((-angle.sin(), angle.cos()))))
    return torch.matmul(size * marks, turn) + torch.tensor(shift)


def test_hints_lead_back_to_the_keyframe() -> None:
    """The dense motion, at a landmark's new place, points to where it was; away from the face nothing is claimed."""
    prior, marks = LandmarkPrior(), face_marks()
    moved = torch.zeros(1, COUNT, 2)
    moved[..., 0] = 0.1
    hints = prior.draw(marks, moved)
    inside = hints.cover[0, 0] > 0.8
    assert inside.sum() > 200
    assert torch.allclose(hints.motion[0, 0][inside], torch.tensor(-0.1), atol=0.02)
    assert hints.motion[0, 1].abs().max() < 1e-6
    assert float(hints.cover[0, 0, 2, 2]) < 0.01
    # The mouth did not change its shape; the drawing shows each group where it is in the keyframe.
    assert hints.shape.abs().max() < 1e-6
    for plane, group in zip(hints.drawing[0], GROUPS, strict=True):
        for x, y in marks[0, list(group)].tolist():
            assert float(plane[min(63, int((y + 1) * 32)), min(63, int((x + 1) * 32))]) > 0.4
    assert hints.drawing.max() <= 1


LOWER_LIP = [55, 56, 57, 58, 59, 65, 66, 67]


def test_a_mouth_that_opens_moves_the_lips_apart() -> None:
    prior, marks = LandmarkPrior(), face_marks()
    moved = torch.zeros(1, COUNT, 2)
    moved[..., 0] = 0.15  # the head moves as well
    moved[0, LOWER_LIP, 1] = 0.08
    shape = prior.draw(marks, moved).shape[0, 1]

    def at(mark: int, dy: float) -> float:
        x, y = marks[0, mark].tolist()
        return float(shape[int((y + dy + 1) * 32), int((x + 1) * 32)])

    # About the middle of the change: the lower lip comes from above, the upper one from below.
    assert at(57, 0.045) < -0.03
    assert at(51, -0.03) > 0.015
    assert shape[:20].abs().max() < 0.005


def test_the_heads_motion_is_no_change_of_the_mouth() -> None:
    marks = face_marks()
    turn = torch.tensor([[0.9, 0.3], [-0.3, 0.9]])
    head = marks @ turn + torch.tensor([0.2, -0.1]) - marks
    assert mouth_change(marks, head).abs().max() < 1e-6
    opened = head.clone()
    opened[0, LOWER_LIP, 1] += 0.08
    change = mouth_change(marks, opened)
    assert change[:, :48].abs().max() == 0
    assert torch.allclose(change.mean(1), torch.zeros(1, 2), atol=1e-7)
    assert float(change[0, 57, 1] - change[0, 51, 1]) == pytest.approx(0.08, abs=0.02)


def test_a_square_about_the_mouth() -> None:
    marks = face_marks()
    place, half = mouth_place(marks)
    picture = torch.zeros(1, 3, 128, 128)
    x, y = ((marks[0, 48] + 1) * 64).tolist()  # a corner of the mouth
    picture[0, :, int(y), int(x)] = 1.0
    square = cut(picture, place, half)
    where = torch.nonzero(square[0, 0] == square.max())[0].flip(0)
    expected = (marks[0, 48] - place[0, 0]) / half[0, 0, 0]
    assert ((where + 0.5) / 16 - 1 - expected).abs().max() < 0.1


def test_a_new_prior_says_that_nothing_moves() -> None:
    torch.manual_seed(0)
    prior = LandmarkPrior(SECOND).eval()
    tiny = torch.rand(2, 5, 3, 8, 8)
    assert prior.finder is not None
    hints = prior(prior.finder(torch.rand(2, 3, 256, 256)), tiny[:, 0], tiny)
    assert hints.motion.abs().max() == 0
    assert hints.moved.shape == (2, COUNT, 2)


def test_files_without_options_are_of_networks_without_the_prior(tmp_path: Path) -> None:
    assert not NetworkConfig.from_json(None).landmarks
    assert not NetworkConfig.from_json('{"audio": true}').landmarks
    save_weights(Upsampler(), tmp_path / "new.safetensors")
    assert read_weights(tmp_path / "new.safetensors").config.landmarks


def test_examples_are_what_the_decoder_will_see(loaded_pack: data.Pack) -> None:
    source = Source(loaded_pack)
    frame, key = torch.tensor([5, 18, 0, 25]), torch.tensor([0, 1, 10, 22])
    got = source.take(frame, key)
    clip_start = {5: (0, 5), 18: (0, 18), 0: (0, 0), 25: (1, 5)}
    for i, f in enumerate(frame.tolist()):
        clip, place = clip_start[f]
        window = loaded_pack.tiny[plans.window(loaded_pack, clip, place)] / 255
        assert (got.tiny[i] - window).abs().mean() < 0.02  # quantised, chroma refined
    assert torch.allclose((got.marks + 1) * 128, loaded_pack.marks[frame])


def test_drawn_examples(loaded_pack: data.Pack) -> None:
    source = Source(loaded_pack, seed=3)
    frames = source.frames(400)
    assert source.face[frames].all()
    assert len(torch.unique(frames)) > 25
    one, two = source.examples(64), Source(loaded_pack, seed=3)
    assert 32 < len(one.marks) <= 64
    assert torch.equal(two.frames(400), frames)
    source.keep_pictures(2)
    small, marks = source.pictures(16)
    mouths, lips = source.mouths(16)
    assert small.shape == (16, 3, 64, 64)
    assert marks.shape == (16, COUNT, 2)
    assert mouths.shape == (16, 3, 32, 32)
    assert lips.shape == (16, 20, 2)


def test_pictures_and_their_landmarks_are_changed_alike(loaded_pack: data.Pack) -> None:
    """A bright square painted at a landmark is found at the changed landmark, in the picture and about the mouth."""
    painted = data.Pack.__new__(data.Pack)
    vars(painted).update(vars(loaded_pack))
    for mark, pixels in ((36, (slice(136, 144), slice(92, 100))), (48, (slice(178, 182), slice(112, 116)))):
        painted.frames = loaded_pack.frames.clone()
        painted.frames[:, :256], painted.frames[:, 256:] = 60, 128
        painted.frames[:, *pixels] = 230
        marks = (face_marks()[0] + 1) * 128
        marks[mark] = torch.tensor([(p.start + p.stop) / 2 for p in reversed(pixels)])
        painted.marks = marks.expand_as(loaded_pack.marks).contiguous()
        source = Source(painted, seed=1)
        source.keep_pictures(4)
        of_mouth = mark >= 48
        for picture, found in zip(*(source.mouths(12) if of_mouth else source.pictures(12)), strict=True):
            bright = picture.mean(0)
            where = torch.nonzero(bright > 0.75 * bright.max()).float().mean(0).flip(0)
            place = (where + 0.5) * 2 / len(bright) - 1
            # Mirrored pictures have it at the other corner.
            assert min(float((place - found[k]).abs().max()) for k in ((0, 6) if of_mouth else (36, 45))) < 0.08


def test_mirrored_landmarks_stay_what_they_are() -> None:
    marks = face_marks()
    flip = torch.tensor([True])
    assert torch.allclose(mirror_marks(marks, flip), marks, atol=1e-5)  # the drawn face is symmetric
    turned = marks + torch.tensor([0.2, 0.1])
    assert torch.allclose(mirror_marks(mirror_marks(turned, flip), flip), turned)
    assert landmarks.opening(marks).item() == pytest.approx(0.08 * 0.7 / 0.44, rel=0.3)


@pytest.mark.usefixtures("processor_clock")
def test_training_the_prior(prepared_pack: Path, tmp_path: Path) -> None:
    """Both networks learn, and their weights reach the upsampler, beside those of a network that had no prior."""
    out = tmp_path / "prior.safetensors"
    common = [str(prepared_pack), str(out), "--batch", "64", "--threads", "1", "--lr", "3e-3"]
    landmarks.main([*common, "--only", "finder", "mouth", "--minutes", "0.03"])
    landmarks.main([*common, "--only", "motion", "--minutes", "0.03"])
    for config in (SECOND, NetworkConfig()):  # with a finder, and with a tracker in its place
        prior = Upsampler(config).stage1.prior
        assert prior is not None
        landmarks.read_prior(out, prior)
    import safetensors

    with safetensors.safe_open(out, framework="pt") as file:
        about = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
    assert about["mouth"]["figures"]["steps"] > 5
    figures = about["motion"]["figures"]
    assert figures["mouth"] < 0.7 * figures["mouth_key"]  # the drawn face sways
    old = tmp_path / "old.safetensors"
    save_weights(Upsampler(NetworkConfig(landmarks=False)), old)
    options = ["--weights", str(old), "--prior", str(out), "--freeze-prior", "--keys", "1", "--targets", "2"]
    args = parse([str(prepared_pack), str(tmp_path / "run"), *options, "--loss", "perceptual=0", "--hint-rate", "4"])
    network = start_network(args)
    assert network.stage1.prior is not None
    given = {n: t.clone() for n, t in network.stage1.prior.state_dict().items()}
    assert any(t.abs().sum() > 0 for n, t in given.items() if n.startswith("motion.out"))
    with pytest.raises(TfcodecError, match="--prior"):
        landmarks.read_prior(old, network.stage1.prior)


def test_the_prior_reaches_the_picture() -> None:
    """With full trust the picture follows the landmarks."""
    torch.manual_seed(0)
    network = Upsampler(SECOND).eval()
    prior = network.stage1.prior
    assert prior is not None
    assert prior.finder is not None
    with torch.no_grad():
        marks = face_marks()
        prior.finder.forward = lambda picture: marks  # type: ignore[method-assign]
        lower = 2 * torch.tensor(LOWER_LIP) + 1
        prior.motion.out.bias[lower] = 0.8  # the lower lip goes down
        picture = torch.rand(1, 3, 256, 256)
        still = box_down(picture, 8)[:, None].expand(-1, 5, -1, -1, -1)
        before = network(network.encode_keyframe(picture), still, torch.zeros(1, 20, 80)).flow
        network.stage1.trust.fill_(1.0)
        after = network(network.encode_keyframe(picture), still, torch.zeros(1, 20, 80)).flow
    assert float(before.abs().max()) < 1e-6
    assert float(after[0, 1, 40:50, 28:36].min()) < -0.02
