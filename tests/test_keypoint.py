"""The keypoint codec that tfcodec is compared with: its bytes, its network, its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import tfcodec
from tfcodec.baselines import keypoint
from tfcodec.baselines import keypoint_bits as bits
from tfcodec.baselines.keypoint_bits import decode_track
from tfcodec.baselines.keypoint_model import KeypointAnimator, KeypointConfig, Keypoints, read_animator, save_animator
from tfcodec.errors import BitstreamError, TfcodecError, WeightsError
from tfcodec.keyframe import decode_keyframe
from tfcodec.model.config import BEFORE, NetworkConfig
from tfcodec.model.registry import default_model, weights_file
from tfcodec.model.upsampler import Upsampler


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 22), st.sampled_from([0, 1, 3, 40, bits.LIMIT - 1]), st.integers(0, 2**32))
def test_tracks_come_back_exactly(count: int, numbers: int, size: int, seed: int) -> None:
    track = np.random.default_rng(seed).integers(-size, size + 1, (count, numbers))
    assert np.array_equal(bits.decode_track(bits.encode_track(track), count, numbers), track)


def walk(frames: int = 250, numbers: int = 20, share: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(4)
    steps = rng.integers(-1, 2, (frames, numbers)) * (rng.random((frames, numbers)) < share)
    steps[0] = rng.integers(-64, 65, numbers)
    return steps.cumsum(0)


def test_cost_is_near_the_entropy() -> None:
    track = walk()
    steps = np.diff(track, axis=0)
    p = np.array([(steps == v).mean() for v in (-1, 0, 1)])
    entropy = -(p * np.log2(p)).sum() * steps.size
    coded = 8 * len(bits.encode_track(track))
    assert coded < 1.12 * entropy + 20 * 9  # 20 numbers of the first frame; what learning the counts costs
    assert 8 * len(bits.encode_track(np.repeat(track[:1], 250, 0))) < 20 * 16 + 60  # a still costs almost nothing


def test_damaged_payloads_raise_or_decode_but_never_hang() -> None:
    payload = bits.encode_track(walk(60))
    for cut in range(0, len(payload), 17):
        try:
            bits.decode_track(payload[:cut].rstrip(b"\0"), 60, 20)
        except BitstreamError:
            continue
    rng = np.random.default_rng(1)
    for _ in range(20):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        try:
            bits.decode_track(bytes(damaged).rstrip(b"\0"), 60, 20)
        except BitstreamError:
            continue
    with pytest.raises(BitstreamError):
        bits.decode_track(payload + b"\1" * 16, 60, 20)


def test_bad_tracks_are_named() -> None:
    wrong: list[Any] = [np.zeros((2, 3)), np.zeros(4, np.int64), np.zeros((0, 3), np.int64)]
    for bad in wrong:
        with pytest.raises(TfcodecError, match="integers"):
            bits.encode_track(bad)
    with pytest.raises(TfcodecError, match="within"):
        bits.encode_track(np.array([[bits.LIMIT]]))


@pytest.fixture(scope="module", params=[False, True], ids=["places", "jacobians"])
def animator(request: pytest.FixtureRequest) -> KeypointAnimator:
    torch.manual_seed(0)
    model = KeypointAnimator(KeypointConfig(10, request.param)).eval().requires_grad_(False)
    # Something to see: an untrained network only copies.
    for layer in (model.mask, model.paint64, *([model.detector.matrix] if model.detector.matrix is not None else [])):
        torch.nn.init.normal_(layer.weight, std=0.02)
    return model


def test_budget_is_that_of_the_network_it_is_compared_with(animator: KeypointAnimator) -> None:
    picture = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        key, points = animator.encode_keyframe(picture), animator.detector(picture)
        with FlopCounterMode(display=False) as counter:
            out = animator(key, points, points)
    ours = Upsampler(NetworkConfig(**{**BEFORE, "landmarks": True}))  # network 2's, which it was made for
    assert 3e9 < counter.get_total_flops() <= 5e9
    sizes = [sum(p.numel() for p in m.parameters()) for m in (animator, ours)]
    assert 0.8 < sizes[0] / sizes[1] < 1.2
    assert out.frame.shape == picture.shape
    assert out.flow.shape == (1, 2, 64, 64)


def test_untrained_it_copies_the_keyframe() -> None:
    model, picture = KeypointAnimator().eval(), torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        points = model.detector(picture)
        frame = model(model.encode_keyframe(picture), points, points).frame
    assert (frame - picture).abs().mean() < 0.02


def test_keypoints_move_the_picture() -> None:
    model, picture = KeypointAnimator().eval(), torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        points = model.detector(picture)
        moved = Keypoints(points.place + torch.tensor([0.25, 0.0]), None)
        flow, _ = model.dense_motion(torch.rand(1, 3, 64, 64), points, moved)
    # What is drawn came from where the keyframe's keypoints are: to the left.
    assert -0.25 <= float(flow[:, 0].mean()) < -0.05
    assert float(flow[:, 1].abs().max()) < 1e-4


def test_quantised_keypoints_are_what_is_coded() -> None:
    points = Keypoints(torch.rand(3, 10, 2, requires_grad=True) * 2 - 1, torch.rand(3, 10, 2, 2))
    coarse = points.quantised(1 / 64)
    whole = coarse.flat() * 64
    assert torch.allclose(whole, whole.round(), atol=1e-4)
    assert float((coarse.flat() - points.flat()).detach().abs().max()) <= 1 / 128 + 1e-6
    (gradient,) = torch.autograd.grad(coarse.place.sum(), points.place)
    assert (gradient == 1).all()


def test_files_come_back(animator: KeypointAnimator, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    frames = moving_face[0][:6]
    data = keypoint.encode(frames, animator)
    stream = keypoint.read(data)
    sizes = stream.bytes
    assert sizes["total"] == len(data) == sizes["container"] + sizes["keyframe"] + sizes["keypoints"]
    assert sizes["container"] < 40
    assert stream.frames == 6
    # The same keyframes as tfcodec's at the same quality.
    own = tfcodec.decode(tfcodec.encode(frames, fps=25, refine=False), pixels=False).keyframes
    assert [at for at, _ in own] == [at for at, _ in stream.keyframes]
    assert np.array_equal(decode_keyframe(stream.keyframes[0][1]), own[0][1])
    shown = keypoint.decode(data, animator)
    assert shown.shape == frames.shape
    some = np.array([0, 2, 5])
    assert np.abs(keypoint.decode(data, animator, only=some).astype(int) - shown[some]).max() <= 1
    # What is drawn depends on what was sent, and on nothing else.
    coded = decode_track(stream.track, 6, animator.config.numbers)
    found = keypoint.find_keypoints(animator, frames) * keypoint.STEPS
    assert np.abs(coded - found).max() <= 0.501
    assert keypoint.encode(frames, animator) == data


def test_damaged_files_are_refused(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    torch.manual_seed(0)
    model = KeypointAnimator().eval()
    data = keypoint.encode(moving_face[0][:3], model)
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            keypoint.read(data[:size])
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 16
        with pytest.raises(BitstreamError):
            keypoint.read(bytes(damaged))
    with pytest.raises(TfcodecError, match="keypoints"):
        keypoint.decode(data, KeypointAnimator(KeypointConfig(5)).eval())
    with pytest.raises(TfcodecError, match="uint8"):
        keypoint.encode(moving_face[0][0], model)
    with pytest.raises(TfcodecError, match="steps"):
        keypoint.encode(moving_face[0][:1], model, steps=0)


def test_weights_survive_saving(animator: KeypointAnimator, tmp_path: Path) -> None:
    save_animator(animator, tmp_path / "w.safetensors")
    again = read_animator(tmp_path / "w.safetensors")
    assert again.config == animator.config
    for name, value in again.state_dict().items():
        assert torch.equal(value, animator.state_dict()[name].half().float()), name
    for content in (b"", b"rubbish", (tmp_path / "w.safetensors").read_bytes()[:2000]):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(WeightsError):
            read_animator(tmp_path / "x.safetensors")
    shipped = weights_file(default_model())
    with pytest.raises(WeightsError, match="keypoint network"):
        read_animator(shipped)
