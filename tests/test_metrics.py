"""Metrics of pixels and populations, LPIPS on frames, and the self-test's own alarm."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter

from tfcodec.errors import TfcodecError, WeightsError
from tfcodec.metrics import frechet, pixels, selftest
from tfcodec.metrics.files import MissingPackage, find_weights
from tfcodec.metrics.frames import frozen_keyframes
from tfcodec.metrics.lpips import FILES, LPIPS, lpips_of_arms, lpips_of_frames
from tfcodec.metrics.speech import judge
from tfcodec.rates import SAMPLE_RATE

needs_weights = pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """A smooth random picture, [256, 256, 3] float64 in about 40..210."""
    noise = np.random.default_rng(3).normal(size=(256, 256, 3))
    smooth = gaussian_filter(noise, (4, 4, 0), mode="wrap")
    return 128 + 40 * smooth / smooth.std()


def video(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.clip(np.round(p), 0, 255).astype(np.uint8) for p in pictures])


def moving(texture: np.ndarray, frames: int = 8, speed: float = 1.0) -> np.ndarray:
    # By turning the phases: exact for a picture that repeats.
    waves, frequency = np.fft.rfft(texture, axis=1), np.fft.rfftfreq(256)[:, None]
    turned = [waves * np.exp(-2j * np.pi * frequency * speed * t) for t in range(frames)]
    return video([np.fft.irfft(w, 256, axis=1) for w in turned])


def noisy(frames: np.ndarray, sigma: float) -> np.ndarray:
    return video(list(frames + np.random.default_rng(5).normal(0, sigma, frames.shape)))


def test_psnr() -> None:
    a = np.full((2, 16, 16, 3), 100, np.uint8)
    b = a.copy()
    b[1] += 5
    assert pixels.psnr(b, a) == pytest.approx([10 * np.log10(255**2 / 1e-6), 10 * np.log10(255**2 / 25)])
    assert pixels.psnr(a[:, ::-1], a).shape == (2,)


def test_ms_ssim_orders_and_is_symmetric(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("pytorch_msssim", reason="needs tfcodec[bench]")
    frames = moving_face[0][:3]
    blurred = np.stack([gaussian_filter(f, (2, 2, 0)) for f in frames])
    assert pixels.ms_ssim(frames, frames) == pytest.approx(1, abs=1e-5)
    near, far = pixels.ms_ssim(blurred, frames), pixels.ms_ssim(255 - frames, frames)
    assert (near > far).all()
    assert (near < 0.999).all()
    assert pixels.ms_ssim(frames, blurred) == pytest.approx(near, abs=1e-5)
    with pytest.raises(TfcodecError, match="160"):
        pixels.ms_ssim(frames[:, :100], frames[:, :100])


def test_frame_difference_error() -> None:
    source = np.zeros((4, 8, 8, 3), np.uint8)
    source[2:] = 40  # one jump
    assert pixels.frame_difference_error(source, source).tolist() == [0, 0, 0]
    assert pixels.frame_difference_error(np.zeros_like(source), source).tolist() == [0, 40, 0]
    late = np.zeros_like(source)
    late[3:] = 40
    assert pixels.frame_difference_error(late, source).tolist() == [0, 40, 40]
    # A constant error of the picture is no error of its changes.
    assert pixels.frame_difference_error(source + 9, source).tolist() == [0, 0, 0]


def test_flicker_of_identical_videos_is_one(texture: np.ndarray) -> None:
    for frames in (moving(texture), video([texture] * 4)):
        for box in (1, 8, 32):
            for still in (False, True):
                assert pixels.flicker_ratio(frames, frames, box=box, still=still) == pytest.approx(1)


def test_flicker_counts_noise_on_a_still_picture(texture: np.ndarray) -> None:
    still = video([texture] * 20)
    grain = noisy(still, 2.0)
    # Six times the variance of luma's share of the noise, over the rounding of a picture without any.
    variance = 4.0 * np.square([0.2126, 0.7152, 0.0722]).sum()
    expected = np.sqrt((6 * variance + 0.5) / 0.5)
    assert pixels.flicker_ratio(grain, still) == pytest.approx(expected, rel=0.05)
    twice = pixels.flicker_ratio(noisy(still, 4.0), grain)
    assert 1.7 < twice < 2.05
    assert pixels.flicker_ratio(grain, noisy(still, 2.0)[::-1]) == pytest.approx(1, abs=0.02)


def test_flicker_does_not_count_steady_motion(texture: np.ndarray) -> None:
    calm = moving(texture, speed=0.25)
    fast = moving(texture, speed=0.75)
    first = np.sqrt(np.square(np.diff(fast.astype(float), axis=0)).mean())
    trembling = noisy(video([texture] * 8), first / np.sqrt(2))  # as much change from frame to frame, but to and fro
    assert pixels.flicker_ratio(fast, calm) < 1.7
    assert pixels.flicker_ratio(trembling, calm) > 3 * pixels.flicker_ratio(fast, calm)


def test_blur_does_not_hide_pumping(texture: np.ndarray) -> None:
    source = noisy(moving(texture), 2.0)
    blurred = [gaussian_filter(f.astype(float), (2, 2, 0)) for f in source]
    pumping = video([f + (4 if t % 2 else -4) for t, f in enumerate(blurred)])
    assert pixels.flicker_ratio(video(blurred), source) < 0.7
    assert pixels.flicker_ratio(pumping, source, box=32) > 5
    assert pixels.flicker_ratio(video(blurred), source, box=32) < 1.1


def test_flicker_where_the_source_is_still(texture: np.ndarray) -> None:
    source = moving(texture, speed=3)
    source[:, :128] = video([texture] * 8)[:, :128]
    decoded = video([texture] * 8)  # no motion at all ...
    decoded[:, :128] = noisy(decoded[:, :128], 1.5)  # ... and noise where there was none
    assert pixels.flicker_ratio(decoded, source) < 0.8
    assert pixels.flicker_ratio(decoded, source, still=True) > 2


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_frechet_distance_is_that_of_the_definition(n: int, m: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)) * rng.uniform(0.1, 3, d), rng.normal(1, 2, size=(m, d))
    ours = frechet.frechet_distance(a, b)
    assert ours == pytest.approx(frechet.frechet_distance(b, a), rel=1e-8, abs=1e-8)
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    ca, cb = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # The usual formula, with a matrix square root that is symmetric and so also sound for singular covariances.
    values, vectors = np.linalg.eigh(ca)
    half = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ cb @ half), 0)).sum()
    wanted = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca) + np.trace(cb) - 2 * cross
    assert ours == pytest.approx(max(0, wanted), rel=1e-5, abs=1e-5)


def test_frechet_distance_agrees_with_scipy_where_that_is_sound() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(400, 6)), rng.normal(0.5, 1.5, size=(300, 6))
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    usual = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet.frechet_distance(a, b) == pytest.approx(usual, rel=1e-6)


def test_frechet_distance_with_fewer_samples_than_features_is_finite() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(5, 2048))
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet.frechet_distance(a, a + 1) == pytest.approx(2048, rel=1e-6)  # a shift alone
    for bad in (a[:1], a[:, :7], np.full_like(a, np.nan)):
        with pytest.raises(TfcodecError):
            frechet.frechet_distance(a, bad)


@needs_weights
def test_lpips_of_frames_reproduces_the_published_example() -> None:
    folder = find_weights()
    assert folder is not None

    def load(name: str) -> np.ndarray:
        return np.asarray(Image.open(folder / "lpips_example" / name).convert("RGB"))[None]

    judge = LPIPS("alex")
    reference = load("ex_ref.png")
    both = np.concatenate((load("ex_p0.png"), load("ex_p1.png")))
    scores = lpips_of_frames(judge, both, np.repeat(reference, 2, 0))
    assert scores == pytest.approx([0.722, 0.138], abs=0.001)
    assert scores.dtype == np.float64


@needs_weights
@pytest.mark.parametrize("net", list(FILES))
def test_lpips_of_arms(net: str, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    judge = LPIPS(net)
    frames = moving_face[0][:18]  # more than a batch of 16
    still = np.broadcast_to(frames[0], frames.shape)
    both = lpips_of_arms(judge, [frames[::-1], still], frames)
    assert both.shape == (2, 18)
    assert both[1] == pytest.approx(lpips_of_frames(judge, still.copy(), frames), abs=1e-6)
    assert both[1, 0] == pytest.approx(0, abs=1e-6)
    assert both[1, 10] > 0.001


@needs_weights
def test_frechet_backbone_is_never_called_fid_without_inception(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    backbone = frechet.alexnet()
    assert "FID" not in backbone.name
    frames = moving_face[0]
    own = backbone.features(frames[::4])
    assert own.shape == (15, 256)
    other = backbone.features(frames[2::4])
    far = backbone.features(255 - frames[2::4])
    assert frechet.frechet_distance(own, other) < 0.2 * frechet.frechet_distance(own, far)


class Stand(torch.nn.Module):
    """The interface of FID's TorchScript file: pictures [N, 3, H, W] uint8 -> [N, D]."""

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert return_features
        assert img.dtype == torch.uint8
        return img.float().mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_inception_is_used_where_it_is_at_hand(tmp_path: Path, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    torch.jit.save(torch.jit.script(Stand()), str(tmp_path / frechet.INCEPTION))
    backbone = frechet.find_backbone(tmp_path)
    assert backbone.name == "FID"
    frames = moving_face[0][:20]
    assert backbone.features(frames) == pytest.approx(frames.mean((1, 2)), abs=1e-3)


def test_bad_input_is_named() -> None:
    frames = np.zeros((3, 256, 256, 3), np.uint8)
    for measure in (pixels.psnr, pixels.ms_ssim, pixels.frame_difference_error, pixels.flicker_ratio):
        with pytest.raises(TfcodecError, match="shape"):
            measure(frames, frames[:2] if measure is pixels.psnr else np.zeros((3, 128, 256, 3), np.uint8))
        with pytest.raises(TfcodecError, match="uint8"):
            measure(frames.astype(np.float32), frames)
        with pytest.raises(TfcodecError, match="uint8"):
            measure(frames[0], frames[0])
    with pytest.raises(TfcodecError, match="3 frames"):
        pixels.flicker_ratio(frames[:2], frames[:2])
    with pytest.raises(TfcodecError, match="squares of 7"):
        pixels.flicker_ratio(frames, frames, box=7)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_missing_networks_and_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="alexnet_features_torch"):
        frechet.find_backbone(tmp_path)
    with pytest.raises(WeightsError, match="inception"):
        frechet.inception(tmp_path)
    for content in (b"", b"rubbish", b"PK\x03\x04 rubbish"):
        (tmp_path / "alexnet_features_torch.pth").write_bytes(content)
        (tmp_path / "lpips_lin").mkdir(exist_ok=True)
        (tmp_path / "lpips_lin" / "alex.pth").write_bytes(content)
        with pytest.raises(WeightsError, match="LPIPS"):
            LPIPS("alex", tmp_path)
    (tmp_path / frechet.INCEPTION).write_bytes(b"")
    with pytest.raises(WeightsError, match="FID"):
        frechet.find_backbone(tmp_path)
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    with pytest.raises(MissingPackage, match=r"pytorch_msssim.*tfcodec\[bench\]"):
        pixels.ms_ssim(np.zeros((1, 256, 256, 3), np.uint8), np.zeros((1, 256, 256, 3), np.uint8))


def test_selftest_reports_what_it_could_not_do(
    moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path, texture: np.ndarray
) -> None:
    report = selftest.selftest(moving_face[0][:16:4], video([texture])[0], tmp_path)
    assert {"psnr", "frame_difference_error", "flicker_ratio"} <= set(report.figures)
    assert {"lpips_alex", "lpips_squeeze", "frechet", "mouth_distance", "identity_cosine"} <= set(report.skipped)
    assert all("needs" in reason for reason in report.skipped.values())


def test_selftest_raises_with_the_offending_figures(
    moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texture: np.ndarray
) -> None:
    true = pixels.psnr
    monkeypatch.setattr(pixels, "psnr", lambda a, b: -true(a, b))  # a metric with its sign the wrong way round
    with pytest.raises(TfcodecError, match=r"psnr: identical -108.* is not better than blurred"):
        selftest.selftest(moving_face[0][:16:4], video([texture])[0], tmp_path)


@needs_weights
def test_selftest_passes(moving_face: tuple[np.ndarray, np.ndarray], texture: np.ndarray) -> None:
    report = selftest.selftest(moving_face[0][:20:5], video([texture])[0])
    assert {"lpips_alex", "lpips_squeeze"} <= set(report.figures)
    assert report.figures["lpips_alex"]["identical"] == 0


def test_frozen_keyframes() -> None:
    pictures = np.arange(3, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 4, 4, 3), np.uint8)
    shown = frozen_keyframes([(0, pictures[0]), (2, pictures[1]), (5, pictures[2])], 7)
    assert shown[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 1, 2, 2]
    # The first one serves what comes before it, and one alone takes no memory.
    alone = frozen_keyframes([(3, pictures[1])], 6)
    assert alone.shape == (6, 4, 4, 3)
    assert (alone == 1).all()
    assert alone.strides[0] == 0
    with pytest.raises(TfcodecError, match="no keyframe"):
        frozen_keyframes([], 3)


def test_visqol_is_not_measured_without_what_decides_its_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    judge.cache_clear()
    with pytest.raises(MissingPackage, match=r"tfcodec\[bench-speech\]"):
        judge("visqol")


def test_visqol_maps_by_the_lattice_network() -> None:
    visqol = pytest.importorskip("visqol", reason="needs visqol-python, of the extra bench-speech")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, of the extra bench-speech")
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20)) * np.clip(np.sin(12 * time), 0, 1)
    noise = np.random.default_rng(1).standard_normal(len(time))
    source = (0.2 * tones).astype(np.float32)
    decoded = (source + 0.003 * noise).astype(np.float32)
    padded = [np.pad(sound.astype(np.float64), SAMPLE_RATE // 2) for sound in (source, decoded)]
    scores = []
    for lattice in (True, False):
        api = visqol.VisqolApi()
        api.create(mode="speech", use_lattice_model=lattice)
        scores.append(api.measure_from_arrays(*padded, SAMPLE_RATE).moslqo)
    judge.cache_clear()
    assert judge("visqol")(source, decoded) == pytest.approx(scores[0], abs=1e-6)
    assert abs(scores[0] - scores[1]) > 0.1


def test_dnsmos_hears_all_of_a_long_clip() -> None:
    dnsmos = pytest.importorskip("speechmos.dnsmos", reason="needs tfcodec[bench-speech]")
    judge.cache_clear()
    time = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    clean = (0.3 * np.sin(2 * np.pi * 200 * time) * np.sin(2 * np.pi * 2 * time)).astype(np.float32)
    late = clean.copy()
    late[16 * SAMPLE_RATE :] += np.random.default_rng(1).normal(0, 0.1, 4 * SAMPLE_RATE).astype(np.float32)
    measured = judge("dnsmos")
    assert abs(measured(late, late) - measured(clean, clean)) > 0.01
    for seconds in (4, 8.5, 10.6):  # where the package leaves no window out, its own score
        short = clean[: int(seconds * SAMPLE_RATE)]
        padded = np.pad(short, SAMPLE_RATE // 2)
        assert measured(short, short) == pytest.approx(dnsmos.run(padded, SAMPLE_RATE)["p808_mos"], abs=1e-5)
