"""The face tracker: its closer looks, smoothing in time, weights and training."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")

import torch  # noqa: I001 - what follows needs OpenCV
from test_landmarks import face_marks

from tfcodec.errors import MediaError, WeightsError
from tfcodec.model import tracking
from tfcodec.model.config import NetworkConfig
from tfcodec.model.landmarks import MOUTH
from tfcodec.model.tracker import (
    FOUND, FaceTracker, eye_opening, head_of, mouth_opening, patch, place, read_tracker, save_tracker,
    within,
)  # fmt: skip
from tfcodec.model.tracking import CALL, FILE, default_tracker, find, runs, smooth, track
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import read_weights, save_weights
from tfcodec.training import tracker as training
from tfcodec.training.data import rgb
from tfcodec.training.landmark_examples import mirror_marks
from tfcodec.training.tracker_examples import FaceSource


def turned(marks: torch.Tensor, degrees: float, size: float, shift: tuple[float, float]) -> torch.Tensor:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[cos, sin], [-sin, cos]])
    return torch.matmul(size * marks, turn) + torch.tensor(shift)


def eager(seed: int = 0, score: float = 5.0) -> FaceTracker:
    """An untrained tracker that begins with the drawn face's landmarks and takes everything for a face."""
    torch.manual_seed(seed)
    tracker = FaceTracker().eval().requires_grad_(False)
    tracker.begin_with(face_marks())
    last = tracker.present[2]
    assert isinstance(last, torch.nn.Linear)
    last.bias.fill_(score)
    return tracker


def test_the_head_turns_and_grows_with_the_face() -> None:
    plain = head_of(face_marks())
    other = head_of(turned(face_marks(), 20, 0.7, (0.1, -0.2)))
    angle = torch.atan2(other.across[0, 1], other.across[0, 0])
    assert float(angle.rad2deg()) == pytest.approx(20, abs=0.01)
    assert float(other.across.norm() / plain.across.norm()) == pytest.approx(0.7, abs=1e-4)
    assert float((other.across * other.down).sum()) == pytest.approx(0, abs=1e-6)
    assert float(other.down[0, 1]) > 0  # towards the chin
    # Where the eyes close up, as on a head that turns aside, eyes and mouth tell the size.
    aside = face_marks() * torch.tensor([0.3, 1.0])
    assert float(head_of(aside).across.norm()) > 0.7 * float(plain.across.norm())


@pytest.mark.parametrize("degrees", [0.0, 25.0, -40.0])
def test_a_patch_shows_what_its_coordinates_say(degrees: float) -> None:
    """A bright dot painted at a landmark appears in the patch at the place where `within` puts the landmark."""
    marks = turned(face_marks(), degrees, 0.8, (0.05, 0.02))
    head = head_of(marks)
    middle, half = marks[:, MOUTH].mean(1), (0.75, 0.5625)
    line = (torch.arange(256) * 2 + 1) / 256 - 1
    for which in (48, 54, 57):
        x, y = marks[0, which]
        dot = torch.exp(-((line[None] - x) ** 2 + (line[:, None] - y) ** 2) / (2 * 0.02**2))
        seen = patch(dot.expand(1, 3, 256, 256), middle, head, half, (48, 64))[0, 0]
        at = within(marks[:, which, None], middle, head, half)[0, 0]
        row, column = divmod(int(seen.argmax()), 64)
        assert (column + 0.5) / 32 - 1 == pytest.approx(float(at[0]), abs=1.5 / 32)
        assert (row + 0.5) / 24 - 1 == pytest.approx(float(at[1]), abs=1.5 / 24)


def test_place_undoes_within_mirrored_or_not() -> None:
    marks = turned(face_marks(), 13, 0.9, (0.1, 0.1))
    head = head_of(marks)
    for one in (head, head.mirrored()):
        back = place(within(marks, head.middle, one, (0.4, 0.3)), head.middle, one, (0.4, 0.3))
        assert torch.allclose(back, marks, atol=1e-6)


def test_all_looks_put_their_points_in_the_layouts_order() -> None:
    """An untrained tracker that begins with a mean face gives that face: lips, both eyes and irises in their places."""
    picture = torch.full((2, 3, 256, 256), 0.5)
    tracker = eager()
    marks, score = tracker(picture)
    assert marks.shape == (2, 70, 2)
    assert score.shape == (2,)
    assert float((marks - face_marks()).norm(dim=-1).max()) < 0.05
    looks = tracker.look(picture)
    assert torch.equal(looks.marks[:, :36], looks.face[:, :36])
    assert not torch.equal(looks.marks[:, 36:], looks.face[:, 36:])


def test_both_eyes_are_looked_at_alike() -> None:
    """In a picture that is its own mirror image, the eyes' landmarks are each other's mirror images."""
    torch.manual_seed(1)
    half = torch.rand(1, 3, 32, 16)
    small = torch.cat((half, half.flip(-1)), -1)
    picture = torch.nn.functional.interpolate(small, size=(256, 256), mode="bilinear")
    tracker = eager()
    for look in (tracker.coarse, tracker.face):  # where these find the face is not the question
        look.heat.weight.zero_()
        look.shape.weight.zero_()
    marks, _ = tracker(picture)
    other = mirror_marks(marks, torch.tensor([True]))
    eyes = [*range(36, 48), 68, 69]
    assert torch.allclose(other[:, eyes], marks[:, eyes], atol=1e-4)
    assert float((marks[:, eyes] - face_marks()[:, eyes]).abs().max()) > 1e-4  # the picture did count


def test_openings() -> None:
    marks = face_marks()
    wide = marks.clone()
    wide[:, [37, 38, 43, 44], 1] -= 0.05
    wide[:, [65, 66, 67], 1] += 0.1
    size = float((marks[:, 36:42].mean(1) - marks[:, 42:48].mean(1)).norm())
    assert float(eye_opening(wide) - eye_opening(marks)) == pytest.approx(0.05 / size, rel=0.05)
    assert float(mouth_opening(wide) - mouth_opening(marks)) == pytest.approx(0.1 / size, rel=0.05)


def moving(count: int) -> np.ndarray:
    """Landmarks [count, 70, 2] in pixels of a face that moves evenly."""
    still = (face_marks()[0].numpy() + 1) * 128
    return (still[None] + np.arange(count)[:, None, None] * np.array([0.7, -0.4])).astype(np.float32)


@pytest.mark.parametrize("weights", [FILE, CALL])
def test_smoothing_calms_without_lag(weights: Any) -> None:
    marks, found = moving(40), np.ones(40, bool)
    assert np.allclose(smooth(marks, found, weights), marks, atol=1e-3)  # at the ends too
    rng = np.random.default_rng(0)
    noisy = (marks + rng.normal(0, 1, marks.shape)).astype(np.float32)
    calm = smooth(noisy, found, weights)
    for group, share in ((slice(36), 0.65), (slice(36, None), 0.85)):
        assert (calm - marks)[2:-2, group].std() < share * (noisy - marks)[2:-2, group].std()


def test_blinks_survive_smoothing() -> None:
    """An eye that is shut in one frame and half shut beside it is still at least three quarters shut."""
    marks = np.repeat(moving(1), 15, 0)
    gap = marks[:, [41, 40, 47, 46], 1] - marks[:, [37, 38, 43, 44], 1]
    shut = np.zeros(15)
    shut[6:9] = (0.5, 1, 0.5)
    marks[:, [37, 38, 43, 44], 1] += gap * shut[:, None]
    usual = float(eye_opening(torch.from_numpy(marks[:1])))
    for weights in (FILE, CALL):
        open_ = eye_opening(torch.from_numpy(smooth(marks, np.ones(15, bool), weights)))
        assert float(open_.min()) < 0.25 * usual
        assert int(open_.argmin()) == 7


def test_nothing_is_smoothed_across_a_cut_or_a_gap() -> None:
    marks, found = moving(20), np.ones(20, bool)
    marks[10:] += 60
    assert list(np.flatnonzero(np.diff(runs(marks, found)))) == [9]
    assert np.allclose(smooth(marks, found), marks, atol=1e-3)
    found[15] = False
    marks[15] = 0
    assert np.allclose(smooth(marks, found), marks, atol=1e-3)


def test_with_one_frame_ahead_marks_depend_on_no_later_one(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    tracker, frames = eager(), moving_face[0][:6]
    marks, found = track(frames, tracker, ahead=1)
    for count in (2, 4):
        assert np.allclose(track(frames[:count], tracker, ahead=1)[0][:-1], marks[: count - 1], atol=1e-3)
    raw, scores = find(frames, tracker)
    assert np.array_equal(track(frames, tracker, ahead=0)[0], raw)
    assert not np.array_equal(raw, marks)
    assert (scores > FOUND).all()
    assert found.all()
    assert not track(frames, eager(score=-5.0))[1].any()


def test_frames_of_other_kinds_are_refused() -> None:
    bad: tuple[Any, ...] = (np.zeros((2, 128, 128, 3), np.uint8), np.zeros((2, 256, 256, 3), np.float32))
    for frames in bad:
        with pytest.raises(MediaError, match="256, 256, 3"):
            track(frames, eager())
    marks, found = track(np.zeros((0, 256, 256, 3), np.uint8), eager())
    assert marks.shape == (0, 70, 2)
    assert found.shape == (0,)


def test_weights_come_back_and_damage_is_noticed(tmp_path: Path) -> None:
    tracker, picture = eager(3), torch.rand(1, 3, 256, 256)
    path = tmp_path / "tracker.safetensors"
    save_tracker(tracker, path)
    again = read_tracker(path)
    assert float((again(picture)[0] - tracker(picture)[0]).abs().max()) < 2e-3  # float16
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="does not hold"):
        read_tracker(path)


def test_a_networks_file_brings_its_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, picture, path = eager(3), torch.rand(1, 3, 256, 256), tmp_path / "network.safetensors"
    model = Upsampler(NetworkConfig())
    assert model.tracker is not None
    model.tracker.load_state_dict(tracker.state_dict())
    save_weights(model, path)
    inside = read_weights(path).tracker
    assert inside is not None
    assert float((inside(picture)[0] - tracker(picture)[0]).abs().max()) < 2e-3  # float16
    # What is asked when no tracker is given is the newest network's; one that comes without says so.
    monkeypatch.setattr(tracking, "load_model", lambda entry, device: read_weights(path))
    frames = np.full((1, 256, 256, 3), 128, np.uint8)
    assert np.array_equal(find(frames)[0], find(frames, inside)[0])
    plain = Upsampler(NetworkConfig(motion=False))
    monkeypatch.setattr(tracking, "load_model", lambda entry, device: plain)
    with pytest.raises(WeightsError, match="without a face tracker"):
        default_tracker()


@pytest.fixture
def drawn_pack(loaded_pack: Any) -> Any:
    """The drawn pack with landmarks where the drawn face's are, near enough."""
    pack = copy.copy(loaded_pack)
    time = torch.arange(len(pack.marks)).float()
    # As the fixture `moving_face` moves it; its clips are the two thirds of that.
    middle = torch.stack((128 + 14 * (time / 9).sin(), 130 + 5 * (time / 7).cos()), -1)
    marks = 110 * face_marks() + middle[:, None] + torch.tensor([0.0, -3.0])
    pack.marks = torch.where(loaded_pack.marks < 0, -1.0, marks)
    return pack


def test_examples(drawn_pack: Any) -> None:
    source = FaceSource(drawn_pack, 4)
    faces = source.faces(64)
    again = FaceSource(drawn_pack, 4).faces(64)
    assert torch.equal(faces.picture, again.picture)
    assert faces.picture.shape == (64, 3, 256, 256)
    assert float(faces.picture.min()) >= 0
    assert float(faces.picture.max()) <= 1
    assert faces.present[:8].eq(0).all()
    assert 40 < int(faces.present.eq(1).sum()) <= 56
    inside = (faces.marks.abs() < 1).all(-1).float().mean(1)
    assert (inside[faces.present == 1] > 0.8).all()
    # Frames without a face (3 of each clip) are never drawn, nor is a keyframe made of one.
    chance = torch.diff(source.chance, prepend=source.chance.new_zeros(1))
    assert chance[3] == chance[23] == 0
    assert int((chance > 0).sum()) == 38
    shares = torch.stack([chance[:20].sum(), chance[20:].sum()])
    assert float(shares.sum()) == pytest.approx(1)


def test_landmarks_move_with_the_picture(drawn_pack: Any) -> None:
    """However a picture is turned, moved and scaled: the drawn mouth's dark red is where its landmarks are."""
    source = FaceSource(drawn_pack, 2)
    picture = torch.zeros(16, 3, 256, 256)
    marks = face_marks().repeat(16, 1, 1)
    line = (torch.arange(256) * 2 + 1) / 256 - 1
    x, y = marks[0, 30]
    picture[:] = torch.exp(-((line[None] - x) ** 2 + (line[:, None] - y) ** 2) / (2 * 0.02**2))
    changed, moved = source._moved(picture, marks, 0)
    count = 0
    for one, at in zip(changed, moved[:, 30], strict=True):
        if at.abs().max() < 0.95:
            row, column = divmod(int(one[0].argmax()), 256)
            assert (column + 0.5) / 128 - 1 == pytest.approx(float(at[0]), abs=3 / 128)
            assert (row + 0.5) / 128 - 1 == pytest.approx(float(at[1]), abs=3 / 128)
            count += 1
    assert count > 8


def test_training_brings_the_landmarks_nearer(drawn_pack: Any) -> None:
    torch.manual_seed(0)
    tracker = FaceTracker()
    tracker.begin_with(face_marks() * 0.5 + 0.2)
    loss, faces = training.TrackerLoss(drawn_pack.device), FaceSource(drawn_pack, 0, far=0).faces(8)
    optimiser, values = torch.optim.Adam(tracker.parameters(), 1e-3), []
    for _ in range(24):
        torch.manual_seed(0)  # the closer looks are taken at the same places: other places change the loss more
        optimiser.zero_grad()
        value = loss(tracker, faces)
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.9 * values[0]
    assert values[-1] < min(values[:12])


def test_train_and_run_on_a_pack_in_memory(drawn_pack: Any) -> None:
    tracker = training.train_tracker(drawn_pack, drawn_pack, 0.01, batch=8)
    tracks = training.run_tracker(tracker, drawn_pack)
    assert tracks.frames.shape == (40, 70, 2)
    assert tracks.scores.shape == (40,)
    assert tracks.keys.shape == (len(drawn_pack.keys), 70, 2)
    assert tracks.key_scores.shape == (len(drawn_pack.keys),)
    # The same as of the decoded frames themselves, in pixels.
    pictures = rgb(drawn_pack.frames[:3]).byte().permute(0, 2, 3, 1).numpy()
    marks, scores = find(pictures, tracker)
    assert np.allclose(marks, tracks.frames[:3], atol=1e-2)
    assert np.allclose(scores, tracks.scores[:3], atol=1e-3)


def test_agreement_knows_what_it_measures() -> None:
    marks = torch.from_numpy(moving(60))
    shut = torch.zeros(60)
    shut[[10, 11, 40, 41]] = 0.8
    gap = marks[:, [41, 40, 47, 46], 1] - marks[:, [37, 38, 43, 44], 1]
    marks[:, [37, 38, 43, 44], 1] += gap * shut[:, None]
    marks[:30, [65, 66, 67], 1] += torch.rand(30, 1) * 9
    marks[30:, [65, 66, 67], 1] += torch.rand(30, 1) * 9
    clips = [(0, 30), (30, 60)]
    same = training.agreement(marks, marks, clips)
    assert same["error"] == 0
    assert same["mouth_r"] == pytest.approx(1, abs=1e-5)
    assert same["eye_r"] == pytest.approx(1, abs=1e-5)
    staring = marks.clone()
    staring[:, 36:48] = torch.from_numpy(moving(60))[:, 36:48]
    stare = training.agreement(staring, marks, clips)
    assert stare["mouth_r"] == pytest.approx(1, abs=1e-5)
    assert abs(stare["eye_r"]) < 0.3
    # A clip whose eyes do not move says nothing about eyes.
    still = torch.from_numpy(moving(60))
    assert training.agreement(still, still, clips)["eye_r"] == 0


def test_the_shipped_tracker_follows_lips_and_lids(data_dir: Path) -> None:
    """On a clip of a person that it was not trained on, and on decoded keyframes of it."""
    from tfcodec.keyframe import decode_keyframe, encode_keyframe
    from tfcodec.media import open_source

    with open_source(data_dir / "val" / "d241_00.mp4", crop="none") as source:
        frames = np.stack(list(source.frames_iter()))
    labels = torch.from_numpy(np.load(data_dir / "landmarks_val.npz")["d241_00"][: len(frames)].astype(np.float32) / 16)
    marks, found = track(frames)
    assert found.all()
    figures = training.agreement(torch.from_numpy(marks), labels, [(0, len(frames))])
    assert figures["error"] < 0.05
    assert figures["mouth_r"] > 0.93
    assert figures["eye_r"] > 0.93
    keys = np.stack([decode_keyframe(encode_keyframe(frames[t], 3)) for t in (0, 60)])
    marks, scores = find(keys)
    assert (scores > FOUND).all()
    assert training.agreement(torch.from_numpy(marks), labels[[0, 60]], [])["error"] < 0.06


def test_command_trains_and_writes(prepared_pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "tracker.safetensors"
    training.main([str(prepared_pack), str(out), "--minutes", "0.02", "--batch", "8", "--threads", "1"])
    tracker = read_tracker(out)
    assert torch.isfinite(tracker(torch.rand(1, 3, 256, 256))[0]).all()
    with safetensors.safe_open(out, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["options"]["minutes"] == "0.02"
    assert "error" in about["figures"]
