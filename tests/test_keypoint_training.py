"""The keypoint baseline learns on the product's own data path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")

import torch
import torch.nn.functional as F

from tfcodec.baselines import keypoint
from tfcodec.baselines.keypoint_model import Detector, KeypointAnimator, KeypointConfig, Keypoints, read_animator
from tfcodec.errors import TfcodecError
from tfcodec.metrics.files import find_weights
from tfcodec.model.config import NetworkConfig
from tfcodec.model.registry import default_model, weights_file
from tfcodec.model.stage1 import KeyframeEncoder
from tfcodec.model.stage2 import Stage2
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import read_weights
from tfcodec.training import keypoint as training
from tfcodec.training.state import load_state


def test_equivariance_knows_which_way_pictures_turn() -> None:
    # A bright spot; the keypoint is its centre of mass, which turns as the picture does.
    y, x = torch.meshgrid(*[(torch.arange(256) * 2 + 1) / 256 - 1] * 2, indexing="ij")
    picture = torch.exp(-((x - 0.3) ** 2 + (y + 0.2) ** 2) / 0.005)[None, None]
    theta = training.random_affine(1, torch.Generator().manual_seed(3))
    turned = F.grid_sample(picture, F.affine_grid(theta, [1, 1, 256, 256], align_corners=False), align_corners=False)

    def centre(p: torch.Tensor) -> Keypoints:
        mass = p[0, 0] / p.sum()
        return Keypoints(torch.stack(((mass * x).sum(), (mass * y).sum()))[None, None], None)

    assert centre(picture).place[0, 0].tolist() == pytest.approx([0.3, -0.2], abs=0.01)
    assert float(training.equivariance(centre(picture), centre(turned), theta)) < 0.005
    still = torch.eye(2, 3)[None]
    assert float(training.equivariance(centre(picture), centre(turned), still)) > 0.02


def test_equivariance_of_jacobians() -> None:
    theta = training.random_affine(2, torch.Generator().manual_seed(1))
    place = torch.zeros(2, 3, 2)
    matrices = torch.eye(2) + 0.1 * torch.randn(2, 3, 2, 2)
    turned = Keypoints(
        (torch.linalg.inv(theta[:, None, :, :2]) @ (place - theta[:, None, :, 2])[..., None])[..., 0],
        torch.linalg.inv(theta[:, None, :, :2]) @ matrices,
    )
    assert float(training.equivariance(Keypoints(place, matrices), turned, theta)) < 1e-5


def test_keypoints_are_exact_under_autocast() -> None:
    torch.manual_seed(0)
    detector, picture = Detector(KeypointConfig(10, True)).eval(), torch.rand(2, 3, 256, 256)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        points = detector(picture)
    assert points.place.dtype == torch.float32
    assert len(points.place.flatten().unique()) > 30  # more than bfloat16 could tell apart near 0


@pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")
@pytest.mark.parametrize("jacobian", [False, True])
def test_training_learns_resumes_and_codes(
    prepared_pack: Path, tmp_path: Path, jacobian: bool, moving_face: tuple[np.ndarray, np.ndarray]
) -> None:
    run, weights = tmp_path / "run", tmp_path / "w.safetensors"
    common = [str(prepared_pack), str(run), "--keys", "1", "--targets", "1", "--eval-every", "100", "--minutes", "5"]
    if jacobian:
        common.append("--jacobian")
    training.main([*common, "--steps", "1"])
    first, about = load_state(run / "state")
    assert about["step"] == 1
    training.main([*common, "--steps", "2", "--export", str(weights)])
    second, about = load_state(run / "state")
    assert about["step"] == 2
    for part in ("detector.heat.weight", "mask.weight", "paint.weight", "keyframe.stem.weight"):
        assert not torch.equal(first[f"model.{part}"], second[f"model.{part}"]), part
    assert all(torch.isfinite(v).all() for v in second.values())
    assert (run / "val.csv").read_text().splitlines()[0] == ",".join(training.COLUMNS)
    animator = read_animator(weights)
    assert animator.config.jacobian == jacobian
    data = keypoint.encode(moving_face[0][:3], animator)
    assert keypoint.decode(data, animator).shape == (3, 256, 256, 3)
    with pytest.raises(TfcodecError, match="another network"):
        training.main([*common, "--keypoints", "5"])


def test_keypoints_are_drawn_to_landmarks() -> None:
    marks = torch.rand(2, 70, 2) * 200 + 20
    there = marks[:, training.ANCHORS] / 128 - 1
    assert float(training.anchor(Keypoints(there, None), marks)) == pytest.approx(0, abs=1e-6)
    assert float(training.anchor(Keypoints(there + 0.1, None), marks)) == pytest.approx(0.1, abs=1e-5)
    assert float(training.anchor(Keypoints(there[:, :4] + 0.1, None), marks)) == pytest.approx(0.1, abs=1e-5)
    # Where there is no face nothing is asked.
    assert float(training.anchor(Keypoints(there + 0.1, None), torch.zeros_like(marks))) == 0


def test_a_run_may_begin_with_the_product_s_layers() -> None:
    network, other = KeypointAnimator(), read_weights(weights_file(default_model()))
    training.borrow(network, other)
    assert isinstance(other.keyframe, KeyframeEncoder)
    assert isinstance(other.stage2, Stage2)
    assert torch.equal(network.keyframe.stem.weight, other.keyframe.stem.weight)
    assert torch.equal(network.merge128.weight, other.stage2.merge128.weight)
    with pytest.raises(TfcodecError, match="second stage"):
        training.borrow(network, Upsampler(NetworkConfig(stage2=False)))
