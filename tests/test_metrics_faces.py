"""Face metrics: geometry without any network, and the networks on a public-domain portrait."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from tfcodec.errors import TfcodecError, WeightsError
from tfcodec.metrics import faces, selftest
from tfcodec.metrics.files import MissingPackage, find_weights

RNG = np.random.default_rng(11)
POINTS = RNG.uniform(60, 200, (5, 68, 2))


def turned(points: np.ndarray, degrees: float, scale: float, move: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]]) + move


def test_mouth_distance_in_inter_ocular_units() -> None:
    other = POINTS.copy()
    other[:, faces.MOUTH] += (3, 4)
    unit = np.linalg.norm(POINTS[:, 36] - POINTS[:, 45], axis=-1)
    assert faces.mouth_distance(other, POINTS) == pytest.approx(5 / unit)
    assert faces.mouth_distance(3 * other, 3 * POINTS) == pytest.approx(5 / unit)
    assert faces.mouth_distance(POINTS, POINTS).tolist() == [0] * 5
    other[:, :48] += 1  # nothing but the mouth counts
    assert faces.mouth_distance(other, POINTS) == pytest.approx(5 / unit)


def test_mouth_shape_distance_does_not_see_the_head_move() -> None:
    moved = turned(POINTS, 12, 1.2, (15, -7))
    assert (faces.mouth_distance(moved, POINTS) > 0.05).all()
    assert faces.mouth_shape_distance(moved, POINTS) == pytest.approx(0, abs=1e-9)
    opened = POINTS.copy()
    opened[:, 57] += (0, 10)
    wanted = faces.mouth_distance(opened, POINTS)
    assert faces.mouth_shape_distance(turned(opened, -5, 0.9, (4, 4)), POINTS) == pytest.approx(wanted)


def test_frames_without_a_face_are_nan() -> None:
    lost = POINTS.copy()
    lost[2] = np.nan
    for measure in (faces.mouth_distance, faces.mouth_shape_distance):
        for a, b in ((lost, POINTS), (POINTS, lost)):
            assert np.isnan(measure(a, b)).tolist() == [False, False, True, False, False]
    vectors = RNG.normal(size=(3, 128))
    nothing = np.full((3, 128), np.nan)
    assert faces.identity_cosine(vectors, 2 * vectors) == pytest.approx(1)
    assert faces.identity_cosine(vectors, -vectors) == pytest.approx(-1)
    assert np.isnan(faces.identity_cosine(nothing, vectors)).all()


def test_mouth_opening() -> None:
    points = np.zeros((2, 68, 2))
    points[:, 45, 0] = 50
    points[1, 65:68, 1] = 10
    assert faces.mouth_opening(points).tolist() == [0, 0.2]


def test_eye_opening() -> None:
    points = np.zeros((2, 68, 2))
    points[:, 45, 0] = 50
    points[1, [40, 41, 46, 47], 1] = 5
    assert faces.eye_opening(points).tolist() == [0, 0.1]
    assert faces.eye_opening(turned(3 * points, 20, 1.5, (7, 8))) == pytest.approx([0, 0.1])


def test_bad_input_is_named() -> None:
    with pytest.raises(TfcodecError, match="68"):
        faces.mouth_distance(POINTS, POINTS[:2])
    with pytest.raises(TfcodecError, match="128"):
        faces.identity_cosine(np.zeros((2, 128)), np.zeros((3, 128)))
    pytest.importorskip("cv2")
    for crops in (faces.mouth_crops, faces.eye_crops):
        with pytest.raises(TfcodecError, match=f"{crops.__name__} needs finite"):
            crops(np.zeros((5, 256, 256, 3), np.uint8), np.full((5, 68, 2), np.nan))


def test_missing_networks_and_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("cv2", "onnxruntime", "ncnn"):
        pytest.importorskip(package)
    with pytest.raises(WeightsError, match="yunet"):
        faces.FaceMeter(tmp_path)
    (tmp_path / "mobilefacenet").mkdir()
    for name in (faces._YUNET, faces._PFLD, faces._MOBILEFACENET + ".param", faces._MOBILEFACENET + ".bin"):
        (tmp_path / name).write_bytes(b"rubbish")
    meter = faces.FaceMeter(tmp_path)
    picture = np.zeros((1, 256, 256, 3), np.uint8)
    with pytest.raises(WeightsError, match="face detector"):
        meter.landmarks(picture)
    with pytest.raises(WeightsError, match="landmark network"):
        _ = meter._session
    with pytest.raises(WeightsError, match="identity network"):
        _ = meter._net
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MissingPackage, match="ncnn"):
        faces.FaceMeter(tmp_path)


@pytest.fixture(scope="module")
def meter() -> faces.FaceMeter:
    if find_weights() is None:
        pytest.skip("needs metric networks: set TFCODEC_METRIC_WEIGHTS")
    try:
        return faces.FaceMeter()
    except (WeightsError, MissingPackage) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """NASA's public-domain portrait, face in the middle, [256, 256, 3] uint8."""
    data = pytest.importorskip("skimage.data", reason="needs tfcodec[demo]")
    return np.ascontiguousarray(data.astronaut()[0:256, 96:352])


def opened(portrait: np.ndarray, landmarks: np.ndarray, pixels: float, sway: float) -> np.ndarray:
    """The portrait with everything below the lips drawn down by so many pixels, and moved to the side as a whole."""
    y, x = np.mgrid[:256, :256].astype(np.float64)
    lip = landmarks[62, 1]
    width = np.exp(-(((x - landmarks[62, 0]) / 25) ** 2))
    down = pixels * width * np.clip((y - lip) / 6, 0, 1) * np.exp(-((np.maximum(y - lip - 20, 0) / 30) ** 2))
    planes = [map_coordinates(p, (y - down, x - sway), order=1, mode="nearest") for p in portrait.transpose(2, 0, 1)]
    return np.round(np.stack(planes, -1)).astype(np.uint8)


def blinking(portrait: np.ndarray, landmarks: np.ndarray, closed: float) -> np.ndarray:
    """The portrait with its upper lids drawn down over the eyes by so much of the gap."""
    y, x = np.mgrid[:256, :256].astype(np.float64)
    down = np.zeros_like(y)
    for eye, upper, lower in ((slice(36, 42), [37, 38], [40, 41]), (slice(42, 48), [43, 44], [46, 47])):
        (cx, _), top, bottom = landmarks[eye].mean(0), landmarks[upper, 1].mean(), landmarks[lower, 1].mean()
        gap, wide = bottom - top, np.ptp(landmarks[eye, 0]) / 2
        width = np.exp(-(((x - cx) / (1.2 * wide)) ** 4))
        # What lies a gap above the upper lid comes down to the lower one; below it nothing moves.
        fall = np.clip((bottom + 0.3 * gap - y) / (0.5 * gap), 0, 1) * np.clip((y - top + 3 * gap) / (2 * gap), 0, 1)
        down += closed * 1.1 * gap * width * fall
    planes = [map_coordinates(p, (y - down, x), order=1, mode="nearest") for p in portrait.transpose(2, 0, 1)]
    return np.round(np.stack(planes, -1)).astype(np.uint8)


def test_landmarks_lie_on_the_face(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    frames = np.stack((portrait, np.zeros_like(portrait), np.roll(portrait, (5, -9), (0, 1)), portrait[:, ::-1]))
    points = meter.landmarks(frames)
    assert points.shape == (4, 68, 2)
    assert np.isnan(points[1]).all()  # no face
    first = points[0]
    unit = faces.inter_ocular(points)[0]
    five = meter.detect(frames[:1])[0, 4:].reshape(5, 2)
    for got, wanted in (
        (first[36:42].mean(0), five[0]), (first[42:48].mean(0), five[1]), (first[30], five[2]), (first[48], five[3]),
        (first[54], five[4]),
    ):  # fmt: skip
        assert np.linalg.norm(got - wanted) < 0.15 * unit  # two networks that know nothing of each other
    assert faces.mouth_distance(points[2:3] - (-9, 5), points[:1])[0] < 0.02
    mirrored = points[3].copy()
    mirrored[:, 0] = 256 - mirrored[:, 0]
    assert np.linalg.norm(mirrored[faces.MIRRORED] - first, axis=-1).mean() < 0.02 * unit


def test_tiny_numbers_are_zero_only_while_landmarks_are_sought() -> None:
    tiny = np.float32(1e-40)
    with faces._tiny_numbers_as_zero():
        assert tiny * np.float32(1) == 0
        with faces._tiny_numbers_as_zero():
            pass
        assert tiny * np.float32(1) == 0
    assert tiny * np.float32(1) > 0


def test_an_opening_mouth_is_seen_and_a_moving_head_taken_out(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    own = meter.landmarks(portrait[None])
    assert faces.mouth_opening(own)[0] > 0.03  # she smiles
    moved = meter.landmarks(np.stack([opened(portrait, own[0], p, s) for p, s in ((0, 8), (4, 0), (10, 0))]))
    reference = np.repeat(own, 3, 0)
    place, shape = faces.mouth_distance(moved, reference), faces.mouth_shape_distance(moved, reference)
    assert place[0] > 0.08
    assert shape[0] < 0.02
    assert shape[0] < shape[1] < shape[2]
    assert faces.mouth_opening(moved)[2] > faces.mouth_opening(own)[0] + 0.03


def test_identity(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    nobody = np.zeros_like(portrait)
    blurred = gaussian_filter(portrait, (1, 1, 0))
    at = np.linspace(0, 255, 192).astype(int)
    smaller = np.full_like(portrait, 90)
    smaller[32:224, 32:224] = gaussian_filter(portrait, (0.7, 0.7, 0))[at[:, None], at]
    # A face to the detector, but not hers.
    stretched = portrait[:, np.clip(((np.arange(256) - 124) * 0.55 + 124).astype(int), 0, 255)]
    vectors = meter.identity(np.stack((portrait, blurred, smaller, nobody, stretched)))
    assert np.linalg.norm(vectors[0]) == pytest.approx(1)
    cosine = faces.identity_cosine(vectors, np.repeat(vectors[:1], 5, 0))
    assert cosine[0] == pytest.approx(1)
    assert cosine[1] > 0.9
    assert cosine[2] > 0.8
    assert np.isnan(cosine[3])
    assert cosine[4] < cosine[2]


def test_mouth_crops_show_the_mouth(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    points = meter.landmarks(portrait[None])
    crop = faces.mouth_crops(portrait[None], points)
    assert crop.shape == (1, 128, 128, 3)
    x, y = points[0, faces.MOUTH].mean(0).round().astype(int)
    middle = portrait[y - 2 : y + 2, x - 2 : x + 2].mean((0, 1))
    assert np.abs(crop[0, 60:68, 60:68].mean((0, 1)) - middle).max() < 8
    shaded = portrait.copy()
    shaded[:60] = 0  # nothing but the mouth is looked at
    assert np.array_equal(faces.mouth_crops(shaded[None], points), crop)


def test_eye_crops_show_both_eyes_level(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    points = meter.landmarks(portrait[None])
    crop = faces.eye_crops(portrait[None], points)
    assert crop.shape == (1, 64, 192, 3)
    lids = points[0, faces.UPPER_LIDS + faces.LOWER_LIDS].mean(0).round().astype(int)
    middle = portrait[lids[1] - 2 : lids[1] + 2, lids[0] - 2 : lids[0] + 2].mean((0, 1))
    assert np.abs(crop[0, 28:36, 92:100].mean((0, 1)) - middle).max() < 8
    shaded = portrait.copy()
    shaded[points[0, 48:68, 1].min().astype(int) :] = 0  # nothing but the eyes is looked at
    assert np.array_equal(faces.eye_crops(shaded[None], points), crop)
    # Turned and enlarged together with its landmarks, the picture has the same eyes.
    turn = np.radians(14)
    c, s = 1.2 * np.cos(turn), 1.2 * np.sin(turn)
    away = np.array([128.0, 128.0])
    moved = (points - away) @ np.array([[c, s], [-s, c]]) + away
    y, x = np.mgrid[:256, :256] + 0.5 - 128
    back = ((c * y - s * x) / 1.44 + 127.5, (c * x + s * y) / 1.44 + 127.5)
    planes = [map_coordinates(p, back, order=1, mode="nearest") for p in portrait.transpose(2, 0, 1)]
    turned_crop = faces.eye_crops(np.round(np.stack(planes, -1)).astype(np.uint8)[None], moved)
    assert np.abs(turned_crop.astype(int) - crop).mean() < 5
    assert np.abs(turned_crop[:, :, ::-1].astype(int) - crop).mean() > 15


def test_closing_eyes_are_seen(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    own = meter.landmarks(portrait[None])[0]
    seen = meter.landmarks(np.stack([blinking(portrait, own, closed) for closed in (0, 0.4, 0.8)]))
    opening = faces.eye_opening(seen)
    assert opening[0] > opening[1] > opening[2]
    assert opening[2] < 0.75 * opening[0]


def test_selftest_with_everything(meter: faces.FaceMeter, portrait: np.ndarray) -> None:
    own = meter.landmarks(portrait[None])[0]
    shut = [blinking(portrait, own, closed) for closed in (0.4, 0, 0.9, 0)]
    clip = np.stack([opened(x, own, p, s) for x, p, s in zip(shut, (0, 6, 9, 4), (0, 3, 5, 4), strict=True)])
    wall = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 256, 3))
    report = selftest.selftest(clip, wall)
    assert not report.skipped
    assert report.figures["mouth_distance"]["unrelated"] == np.inf  # no face
    assert report.figures["eye_opening_correlation"]["identical"] == pytest.approx(1)
    assert report.figures["eye_opening_correlation"]["frozen"] == 0
    stiff = selftest.selftest(np.stack([opened(portrait, own, p, p) for p in (0, 3, 5, 8)]), wall)
    assert "noise" in stiff.skipped["eye_opening_correlation"]
    assert report.figures["identity_cosine"]["unrelated"] == -1
