"""Lips from speech: the network, what it says relative to a keyframe, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from test_landmarks import face_marks

from tfcodec.errors import TfcodecError, WeightsError
from tfcodec.metrics.faces import mouth_opening
from tfcodec.model.lips import (
    FUTURE,
    LIPS_FILE,
    MOUTH_PART,
    OUTPUTS,
    PAST,
    SHARP,
    STEADY,
    Lips,
    load_lips,
    read_lips,
    save_lips,
)
from tfcodec.model.logmel import log_mel
from tfcodec.model.mouth import GAIN, HEARD, lips_apart, moved
from tfcodec.model.registry import FOLDER
from tfcodec.model.renderer import sound_windows
from tfcodec.motion import analyse, synthesise
from tfcodec.speech import decode_speech, encode_speech
from tfcodec.training import lips as training
from tfcodec.training import lips_data
from tfcodec.training.lips import Speech
from tfcodec.training.lips_data import STATES, Item, find_items, read_landmarks, read_sound


def a_face(opening: float = 0.0) -> np.ndarray:
    """Landmarks [70, 2] in pixels; the lower lip lower by `opening` inter-ocular distances."""
    marks = (face_marks()[0].numpy() + 1) * 128
    low = [*range(55, 60), 65, 66, 67]
    marks[low, 1] += opening * np.hypot(*(marks[36:42].mean(0) - marks[42:48].mean(0)))
    return marks.astype(np.float32)


def voices(frames: int, seed: int = 0) -> torch.Tensor:
    """Log-mel [4 * frames, 80] of something that changes."""
    steps = np.random.default_rng(seed).normal(size=(4 * frames, 80)).astype(np.float32)
    return torch.from_numpy(np.clip(0.5 * steps - 0.3, -1, 1))


@pytest.fixture(scope="module")
def network() -> Lips:
    torch.manual_seed(3)
    return Lips().requires_grad_(False).eval()


def test_a_frame_hears_80_ms_of_future_and_no_more(network: Lips) -> None:
    mel = voices(60)
    other = mel.clone()
    other[4 * 30 + 4 + FUTURE :] = 0.5  # from 80 ms after the end of frame 30 on
    before, after = network.of_stream(mel, 0, 60), network.of_stream(other, 0, 60)
    assert torch.equal(before[:31], after[:31])
    assert not torch.allclose(before[31], after[31])
    past = mel.clone()
    past[: 4 * 40 - PAST] = 0.5
    assert torch.allclose(network.of_stream(past, 40, 1), network.of_stream(mel, 40, 1), atol=1e-6)


def test_pieces_of_a_stream_say_what_the_whole_says(network: Lips) -> None:
    mel = voices(50)
    whole = network.of_stream(mel, 0, 50)
    assert whole.shape == (50, OUTPUTS)
    for first, count in ((0, 1), (7, 13), (49, 1)):
        torch.testing.assert_close(network.of_stream(mel, first, count), whole[first : first + count])
    # Beyond the end there is silence, and before the beginning.
    beyond = torch.cat((mel, torch.full((40, 80), -1.0)))
    torch.testing.assert_close(network.of_stream(beyond, 0, 50), whole)


def test_a_known_lag_moves_what_is_said(network: Lips) -> None:
    mel = voices(40)
    padded = torch.cat((torch.full((PAST, 80), -1.0), mel, torch.full((FUTURE, 80), -1.0)))
    both = network(padded[None])[0]
    torch.testing.assert_close(network.of_stream(mel, 0, 40), both[:, STEADY])
    torch.testing.assert_close(network.of_stream(mel, 5, 20, lag=3), both[8:28, SHARP])
    torch.testing.assert_close(network.of_stream(mel, 5, 20, lag=-2), both[3:23, SHARP])


def test_a_lag_is_found_by_the_mouth(network: Lips) -> None:
    mel = voices(120)
    for lag in (-3, 0, 4):
        mouth = network.of_stream(mel, 0, 120, lag).numpy() @ np.eye(OUTPUTS, 4) * 1024 + 7
        mouth += np.random.default_rng(1).normal(0, mouth.std(0), mouth.shape)
        mouth[20:30] = np.nan
        assert network.find_lag(mel, mouth) == lag
    assert network.find_lag(mel, np.full((120, 4), np.nan)) == 0
    assert network.find_lag(mel, np.zeros((120, 4))) == 0


def test_numbers_are_relative_to_the_keyframes_mouth() -> None:
    lips = load_lips()
    closed, opened = a_face(-0.09), a_face(0.25)
    said = torch.zeros(3, OUTPUTS)
    said[:, :4] = torch.from_numpy(lips.key_state(closed)).float()
    np.testing.assert_allclose(lips.relative(said, closed), 0, atol=0.05)
    # A speaker at the mean of speech opens a closed mouth and closes an open one.
    for marks, direction in ((closed, 1), (opened, -1)):
        numbers = np.zeros((1, 16))
        numbers[:, MOUTH_PART.numbers] = lips.relative(torch.zeros(1, OUTPUTS), marks)
        moved = synthesise(marks, numbers).astype(np.float64)
        assert direction * (mouth_opening(moved[:, :68]) - mouth_opening(marks[None, :68].astype(np.float64))) > 0.01


def test_speech_and_tiny_frames_both_move_the_mouth() -> None:
    """Where no motion was sent the speech is added to the guess; where it was lost, what was held is forgotten.
    Either way the speech moves the mouth further than it says.
    """
    from tfcodec.model.marks import frame_marks
    from tfcodec.model.places import HALF
    from tfcodec.model.portable_lips import PortableLips
    from tfcodec.model.registry import default_model
    from tfcodec.model.weights import load_model
    from tfcodec.motion.geometry import ABSENT, LOST

    lips, model = load_lips(), load_model(default_model())
    with torch.no_grad():
        key = model.encode_keyframe(torch.full((1, 3, 256, 256), 0.5))
    key = key._replace(marks=torch.from_numpy(a_face(0.1))[None] / HALF - 1, face=torch.ones(1))
    reference = ((cast(torch.Tensor, key.marks)[0] + 1) * HALF).numpy()
    sound = voices(111, seed=4).view(3, 148, 80).numpy()
    windows = torch.rand(3, 5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    motion = np.zeros((3, 17), np.int32)
    motion[:, 4:8], motion[:, 16] = 50, (LOST, ABSENT, ABSENT)

    def marks(sound: np.ndarray | None) -> np.ndarray:
        return ((frame_marks(model, key, windows, motion, sound) + 1) * HALF).numpy()

    numbers = analyse(reference, marks(None))
    said = lips.of_frames(torch.from_numpy(sound))
    assert said[:, 0].abs().max() > 0.02
    told, mouth = GAIN * 1024 * said[:, :4].double().numpy(), numbers[:, MOUTH_PART.numbers]
    mouth[0] = told[0] - 1024 * lips.key_state(reference)
    mouth[1:] += HEARD * told[1:]
    assert min(map(lips_apart, synthesise(reference, numbers))) > 0  # nothing to shut
    np.testing.assert_allclose(marks(sound), synthesise(reference, numbers), atol=1e-2)
    # The graph that is exported does the same.
    keys, before = (torch.from_numpy(x) / HALF - 1 for x in (np.stack([reference] * 3), marks(None)))
    with torch.no_grad():
        graph = PortableLips(lips)(torch.from_numpy(sound), keys, before, torch.tensor([[0.0], [1.0], [1.0]]))
    np.testing.assert_allclose((graph.numpy() + 1) * HALF, marks(sound), atol=1e-2)


def test_windows_say_the_mean_of_two_frames(network: Lips) -> None:
    mel = voices(60)
    frames = np.arange(60)
    whole = network.of_stream(mel, 0, 61)
    said = network.of_frames(torch.from_numpy(sound_windows(mel.numpy(), frames)))
    # The earlier of the two lacks two columns of 1.4 s ago.
    torch.testing.assert_close(said, (whole[:-1] + whole[1:]) / 2, rtol=0, atol=0.05 * float(whole.std()))


def test_lips_do_not_pass_through_one_another() -> None:
    """Whatever the speech says, at whatever angle the head is held; mouths that stay open are not changed."""
    reference = a_face(-0.08)
    turned = np.asarray(synthesise(reference, np.array([[-100, 300, 0, 0, *[0] * 12]]))[0], np.float64)
    numbers = np.random.default_rng(5).normal(0, 60, (200, 16))
    said, guessed = np.random.default_rng(6).normal(0, 0.1, (200, 5)), np.arange(200) % 2 > 0
    told = GAIN * 1024 * said[:, :4]
    for marks in (reference, turned):
        there = numbers.copy()
        there[:, MOUTH_PART.numbers] = moved(marks, numbers, said, told / GAIN, guessed)
        free = numbers.copy()
        free[:, MOUTH_PART.numbers] = np.where(guessed[:, None], numbers[:, 4:8] + HEARD * told, told)
        # The head's own numbers move the reference as a whole: without them the eyes' line is as it was.
        gaps = []
        for values in (free, there):
            values[:, :4] = 0
            gaps.append([lips_apart(one) for one in synthesise(marks, values)])
        before, after = np.array(gaps)
        assert min((before < -0.02).sum(), (before > 0.02).sum()) > 20
        np.testing.assert_allclose(after, np.maximum(before, 0), atol=0.01)


def test_weights_are_those_of_their_hash(tmp_path: Path, network: Lips) -> None:
    path = tmp_path / "lips.safetensors"
    save_lips(network, torch.full((OUTPUTS,), 2.0), path)
    mel = voices(10)
    torch.testing.assert_close(
        read_lips(path).of_stream(mel, 0, 10), 2 * network.of_stream(mel, 0, 10), rtol=0.02, atol=0.02
    )
    with pytest.raises(WeightsError, match="damaged"):
        read_lips(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="lips"):
        read_lips(path)
    with pytest.raises(WeightsError, match="lips"):
        read_lips(tmp_path / "none.safetensors")
    assert (FOLDER / LIPS_FILE).stat().st_size < 1_500_000
    assert sum(p.numel() for p in load_lips().parameters()) <= 500_000


def test_lips_follow_the_speech_of_val(data_dir: Path) -> None:
    lips, landmarks, found = load_lips(), read_landmarks(data_dir), []
    for item, path in [pair for pair in find_items(data_dir) if pair[0].kind == "val"][::4]:
        sound, marks = read_sound(path, item.frames), landmarks[item.name][: item.frames]
        assert sound is not None
        mel = torch.from_numpy(log_mel(decode_speech(encode_speech(sound, 5)), item.frames))
        numbers = np.zeros((item.frames, 16))
        numbers[:, MOUTH_PART.numbers] = lips.relative(lips.of_stream(mel, 0, item.frames), marks[0])
        drawn = mouth_opening(synthesise(marks[0], numbers)[:, :68].astype(np.float64))
        found.append(np.corrcoef(drawn, mouth_opening(marks[:, :68].astype(np.float64)))[0, 1])
    assert len(found) == 8
    assert np.mean(found) > 0.25  # the figure of all 30 clips: benchmarks/results/lips_val.json


# Training


def test_the_teachers_log_mel() -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is the second opinion on the mel bands")
    bank = librosa.filters.mel(sr=16000, n_fft=400, n_mels=80)
    np.testing.assert_allclose(lips_data._whisper_bank(), bank.T, atol=1e-6)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    mel = lips_data.whisper_mel(tone)
    assert mel.shape == (80, 800)
    assert mel[:, 50].argmax() == bank[:, 25].argmax()  # bin 25 of 400 is 1000 Hz
    assert np.ptp(mel) == pytest.approx(2)  # 8 decades


def test_sounds_of_a_person_share_the_teachers_window() -> None:
    class Ears(lips_data.SpeechTeacher):
        """Stands for the encoder: its state is the sample at its time."""

        def __init__(self) -> None:
            self.windows = 0

        def states(self, window: np.ndarray) -> np.ndarray:
            self.windows += 1
            whole = np.zeros(128000, np.float32)
            whole[: len(window)] = window
            return np.repeat(whole[::320, None], 768, 1)

    ears = Ears()
    sounds = [np.arange(n * 640, dtype=np.float32) + 10**6 * k for k, n in enumerate((30, 29, 31, 150, 450, 12))]
    states = ears.of_sounds(sounds)
    for sound, found in zip(sounds, states, strict=True):
        np.testing.assert_array_equal(found[:, 0], sound[::320])
    assert ears.windows == 5  # 30, 29, 31; 150 with 12 behind it; three of the long one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared folder: the first state of the teacher is how far the mouth is open, in one clip two frames late."""
    rng = np.random.default_rng(5)
    items, landmarks, first = [], {}, 0
    rows = [("train", "p1", "p1_00", 240), ("train", "p2", "p2_00", 90), ("train", "p3", "p3_00", 90)]
    rows += [("train", "p4", f"p4_{k:02}", 30) for k in range(3)] + [("speech", "s", "s_0", 120)]
    total = sum(row[3] for row in rows)
    states = (0.05 * rng.normal(size=(2 * total, STATES))).astype(np.float16)
    for kind, person, name, frames in rows:
        items.append(Item(kind, person, name, first, frames))
        smooth = np.convolve(rng.normal(size=frames + 8), np.ones(3) / 3, "same")[4:-4]
        states[2 * first : 2 * (first + frames), 0] = np.repeat(np.roll(smooth, 2 * (name == "p2_00")), 2)
        if kind == "train":
            face = np.stack([a_face(0.08 + 0.04 * float(np.clip(v, -1.5, 1.5))) for v in smooth])
            landmarks[name] = np.round(face * 16).astype(np.int16)
        first += frames
    landmarks["p3_00"][5:9] = -16  # no face
    np.savez(tmp_path / "landmarks_train_x.npz", **cast("Any", landmarks))
    lips_data.write_items(tmp_path, items)
    np.save(tmp_path / "states.npy", states)
    np.save(tmp_path / "mel.npy", rng.integers(0, 255, (2, 4 * total, 80), np.uint8))
    lips_data.write_mouths(tmp_path, tmp_path)
    return tmp_path


def test_lags_are_found(folder: Path) -> None:
    speech = Speech(folder)
    clips = speech.clips()
    assert np.isnan(speech.mouth[speech.span(clips[2])][5:9]).all()
    training.write_readout(speech, clips, [])
    assert speech.lags == {item.name: 2 if item.name == "p2_00" else 0 for item in clips}
    for item in clips:
        late = speech.labels(item, speech.lags[item.name])
        assert training.correlation(speech.readout[speech.span(item), SHARP], late)[-1] > 0.8


def test_the_loss_is_within_clips() -> None:
    torch.manual_seed(0)
    said, wanted, trust = torch.randn(2, 20, 2, OUTPUTS), torch.randn(2, 20, 2, OUTPUTS), torch.ones(2)
    wanted[0, 12:] = torch.nan
    loss = training.within(said, wanted, trust)
    moved = said + torch.randn(2, 1, 2, OUTPUTS)
    torch.testing.assert_close(training.within(moved, wanted, trust), loss)
    assert training.within(wanted.nan_to_num(), wanted, trust) < 1e-9
    assert training.within(said, wanted, torch.tensor([1.0, 0.1])) < loss


def test_training_from_end_to_end(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lips.safetensors"
    training.main([str(folder), str(folder), str(out), "--minutes", "0.02", "0.02"])
    assert "tune" in capsys.readouterr().out
    lips = read_lips(out)
    marks = a_face(0.1)
    assert np.isfinite(lips.relative(lips.of_stream(voices(10), 0, 10), marks)).all()
    # The map of single keyframes knows an open mouth from a closed one.
    way = analyse(marks, a_face(0.2)[None])[0, MOUTH_PART.numbers]
    assert (lips.key_state(a_face(0.2)) - lips.key_state(marks)) @ way > 0
    with pytest.raises(SystemExit, match="teacher"):
        training.main([str(folder), str(tmp_path / "empty"), str(out)])
    with pytest.raises(TfcodecError, match="no prepared speech"):
        Speech(tmp_path / "empty")
