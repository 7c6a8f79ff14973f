"""Training: the pack, the batches, and a few real steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")

import cv2
import torch

from tfcodec.metrics.lpips import find_weights
from tfcodec.model.blocks import box_down, refine_chroma
from tfcodec.model.weights import read_weights
from tfcodec.training import data, losses, train
from tfcodec.training.export import main as export
from tfcodec.training.prepare import main as prepare

COUNT = 20


@pytest.fixture(scope="module")
def pack(moving_face: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack made by the product's own preparation, of two drawn clips."""
    from tfcodec.media import write_video

    frames, audio = moving_face
    source = tmp_path_factory.mktemp("clips")
    for split in ("train", "val"):
        (source / split).mkdir()
        write_video(source / split / "d1_00.mp4", frames[:COUNT], 25, audio[: 640 * COUNT], 16000)
        write_video(source / split / "n1_00.mp4", frames[COUNT : 2 * COUNT], 25)
        marks = np.full((COUNT, 70, 2), 128 * 16, np.int16)
        marks[3] = -16
        np.savez(source / f"landmarks_{split}.npz", d1_00=marks, n1_00=marks)
    folder = tmp_path_factory.mktemp("pack")
    prepare([str(source), str(folder), "--keys", "2"])
    return folder


def test_prepared_pack(pack: Path) -> None:
    loaded = data.Pack(pack, "train")
    assert [(name, count) for name, _, count in loaded.clips] == [("d1_00.mp4", COUNT), ("n1_00.mp4", COUNT)]
    assert len(loaded.keys) == 4
    assert loaded.mel[: 4 * COUNT].max() > -0.5  # a voice
    assert (loaded.mel[4 * COUNT :] == -1).all()  # no sound
    assert (loaded.marks[3] == -1).all()
    assert (loaded.marks[4] == 128).all()
    assert len(json.loads((pack / "val_keys.json").read_text())) == 2


def test_windows(pack: Path) -> None:
    loaded = data.Pack(pack, "train")
    assert loaded.window(0, 0).tolist() == [0, 0, 0, 1, 2]
    assert loaded.window(0, 10, future=0).tolist() == [8, 9, 10, 10, 10]
    assert loaded.window(0, 10, lost=2).tolist() == [8, 9, 9, 11, 12]
    assert loaded.window(1, COUNT - 1).tolist() == [2 * COUNT - 3, 2 * COUNT - 2] + 3 * [2 * COUNT - 1]
    whole, past = loaded.mel_window(0, 10), loaded.mel_window(0, 10, future=0)
    assert np.array_equal(whole[:12], past[:12])
    assert (past[12:] == -1).all()


def test_batches_are_what_the_decoder_will_see(pack: Path) -> None:
    batch = next(data.batches(data.Pack(pack, "train"), keys=2, targets=3, seed=1))
    assert batch.key.shape == (2, 3, 256, 256)
    assert batch.target.shape == (6, 3, 256, 256)
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 1]
    # Tiny frames are quantised box means of the target: near it, not equal to it.
    error = (batch.tiny[:, 2] - box_down(batch.target, 8)).abs()
    assert 0 < float(error.mean()) < 0.05
    key8 = box_down(batch.key, 8)[batch.owner]
    assert torch.allclose(refine_chroma(batch.tiny, key8), batch.tiny, atol=0.02)


def test_mirroring_landmarks_twice_changes_nothing() -> None:
    marks = np.random.default_rng(0).uniform(1, 255, (4, 70, 2)).astype(np.float32)
    marks[2] = -1
    once = data._flip_marks(marks)
    assert np.allclose(data._flip_marks(once), marks, atol=1e-3)
    assert np.allclose(once[0, 36, 0], 256 - marks[0, 45, 0])  # outer corners of the eyes change places


def test_landmark_loss_wants_the_right_direction() -> None:
    marks = torch.full((1, 70, 2), 120.0)
    key_marks = marks + torch.tensor([8.0, 0.0])  # the keyframe's points lie 8 pixels to the right
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = 8 / 128
    assert float(losses.landmark_loss(flow, marks, key_marks)) < 1e-6
    still = float(losses.landmark_loss(0 * flow, marks, key_marks))
    assert float(losses.landmark_loss(-flow, marks, key_marks)) > still > 0


def test_region_weight_is_high_at_the_mouth() -> None:
    marks = torch.full((1, 70, 2), -1.0)
    marks[:, losses.MOUTH] = torch.tensor([128.0, 200.0])
    weight = losses.region_weight(marks, 64, 4.0)
    assert float(weight[0, 0, 50, 32]) > 4
    assert float(weight[0, 0, 5, 5]) == pytest.approx(1)


@pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")
def test_training_learns_resumes_and_exports(pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    common = [str(pack), str(run), "--keys", "1", "--targets", "2", "--eval-every", "3"]
    train.main([*common, "--minutes", "0.05", "--coarse-only"])
    first = torch.load(run / "state.pt", weights_only=True)
    assert first["step"] > 0
    train.main([*common, "--minutes", "0.05", "--anneal"])
    second = torch.load(run / "state.pt", weights_only=True)
    assert second["step"] > first["step"]
    assert second["seconds"] > first["seconds"]
    assert not torch.equal(first["model"]["stage2.paint.weight"], second["model"]["stage2.paint.weight"])
    assert all(torch.isfinite(v).all() for v in second["ema"].values())
    assert len((run / "val.csv").read_text().splitlines()) >= 2
    export([str(run), "9", "--folder", str(tmp_path)])
    (line,) = json.loads((tmp_path / "registry.json").read_text())
    assert line["model_id"] == 9
    weights = tmp_path / line["file"]
    assert weights.stat().st_size < 12_000_000
    train.main([str(pack), str(tmp_path / "next"), "--start", str(weights), "--minutes", "0", "--keys", "1"])
    third = torch.load(tmp_path / "next" / "state.pt", weights_only=True)
    assert third["step"] == 0
    for name, value in read_weights(weights).state_dict().items():
        assert torch.equal(third["model"][name], value), name


def test_training_imports_nothing_that_a_gpu_machine_lacks() -> None:
    code = (
        "import sys\nfor name in ('av', 'librosa', 'constriction'): sys.modules[name] = None\n"
        "import tfcodec.training.train, tfcodec.training.export; print('fine')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "fine"


def test_colours_are_those_of_the_tiny_frame_layer() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    again = data.rgb(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420))
    assert again.shape == picture.shape
    assert np.allclose(data.TO_YCC @ data.FROM_YCC, np.eye(3), atol=1e-5)


@pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")
def test_two_processes_train_one_network(pack: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
        "tfcodec.training.train", str(pack), str(tmp_path), "--keys", "1", "--targets", "1", "--minutes", "0.03",
        "--coarse-only", "--threads", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] > 0
    assert len((tmp_path / "val.csv").read_text().splitlines()) == 2  # one process evaluates
