"""Finding the face and laying the crop around it, on NASA's public-domain portrait in pictures made by the test."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcodec.errors import MediaError, NoFaceError
from tfcodec.media import crop, open_source
from tfcodec.media.face import Found, Sighting

Place = tuple[int, int]

needs_face = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mtcnn", "lz4", "joblib", "skimage")),
    reason="needs the detector and the portrait: pip install 'tfcodec[demo]'",
)


@pytest.fixture(scope="module")
def scene() -> Callable[..., np.ndarray]:
    """scene((x, y), ...) -> [480, 640, 3] with the portrait's head, 200 wide, at each place on a busy background."""
    from make_demo_clip import portrait

    head = portrait()[10:210, 125:325]
    rng = np.random.default_rng(0)
    background = np.kron(rng.integers(0, 256, (30, 40, 3)), np.ones((16, 16, 1))).astype(np.uint8)

    def make(*places: Place, size: int = 200) -> np.ndarray:
        picture = background.copy()
        for x, y in places:
            picture[y : y + size, x : x + size] = head if size == 200 else crop.resize(head.copy(), size, size)
        return picture

    return make


def middle(square: tuple[int, int, int, int]) -> tuple[float, float]:
    return square[1] + square[3] / 2, square[2] + square[3] / 2


@needs_face
def test_the_crop_is_around_the_face_and_stays(scene: Callable[..., np.ndarray]) -> None:
    # a head that trembles by a few pixels
    rng = np.random.default_rng(1)
    frames = np.stack([scene((300 + int(dx), 150 + int(dy))) for dx, dy in rng.integers(-8, 9, (30, 2))])
    seen: list[tuple[int, int]] = []
    with open_source(frames, fps=25, progress=lambda done, total: seen.append((done, total))) as clip:
        assert clip.crop is not None
        assert len(clip.crop) == 1
        x, y = middle(clip.crop[0])
        assert abs(x - (300 + 99)) < 20  # eyes and mouth of the portrait are about (99, 108) from the head's corner
        assert abs(y - (150 + 105)) < 25
        assert 190 < clip.crop[0][3] < 260
        assert next(clip.frames_iter()).shape == (256, 256, 3)
    assert seen
    assert all(0 < done <= total == 30 for done, total in seen)


@needs_face
def test_the_larger_face_wins(scene: Callable[..., np.ndarray]) -> None:
    small = scene((20, 20), size=110)
    picture = small.copy()
    picture[200:400, 380:580] = scene((380, 200))[200:400, 380:580]
    with open_source(np.stack([picture] * 10), fps=25) as clip:
        assert clip.crop is not None
        assert len(clip.crop) == 1
        assert abs(middle(clip.crop[0])[0] - 479) < 25


@needs_face
def test_the_crop_follows_a_face_that_leaves_and_not_one_that_is_away_for_a_moment(
    scene: Callable[..., np.ndarray],
) -> None:
    left, right, none = scene((30, 150)), scene((400, 150)), scene()
    with open_source(np.stack([left] * 40 + [right] * 40), fps=25) as clip:
        assert clip.crop is not None
        assert [square[0] for square in clip.crop] == [0, 40]  # at the very frame
        assert middle(clip.crop[0])[0] < 200 < 450 < middle(clip.crop[1])[0]
    with open_source(np.stack([left] * 30 + [none] * 20 + [left] * 30), fps=25) as clip:
        assert clip.crop is not None
        assert len(clip.crop) == 1


Shots = list[tuple[int, np.ndarray]]


@pytest.fixture(scope="module")
def squares(scene: Callable[..., np.ndarray]) -> Callable[[Shots], list[tuple[int, int, int, int]]]:
    """What is cut out of shots, given as (frames, picture [480, 640, 3]); each picture is looked at once only."""
    from tfcodec.media import face, mtcnn

    seen: dict[int, list[mtcnn.Face]] = {}

    class Once(mtcnn.Detector):
        def __call__(self, picture: np.ndarray, min_face: float = 20.0) -> list[mtcnn.Face]:
            if id(picture) not in seen:
                seen[id(picture)] = super().__call__(picture, min_face)
            return seen[id(picture)]

    kept: list[np.ndarray] = []

    def plan(shots: Shots) -> list[tuple[int, int, int, int]]:
        small = [(count, crop.resize(picture, 320, 240)) for count, picture in shots]
        kept.extend(picture for _, picture in small)  # so that no other picture gets its id
        frames = [picture for count, picture in small for _ in range(count)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mtcnn, "Detector", Once)
            found = face.track(lambda side: iter(frames), lambda side: 2.0, len(frames), None)
        return crop.plan(found, 640, 480)

    return plan


@needs_face
def test_what_the_crop_does_is_defined_and_steady(
    scene: Callable[..., np.ndarray], squares: Callable[[Shots], list[tuple[int, int, int, int]]]
) -> None:
    black = np.zeros((480, 640, 3), np.uint8)
    nobody, one = scene(), scene((80, 150))
    small = scene((440, 60), size=110)
    both, neighbour = small.copy(), small
    both[150:350, 80:280] = one[150:350, 80:280]
    hand = one.copy()
    hand[230:330, 100:260] = (150, 110, 90)  # before mouth and nose
    main, other = (80 + 99, 150 + 105), (440 + 54, 60 + 58)

    def near(square: tuple[int, int, int, int], place: tuple[int, int]) -> bool:
        return float(np.hypot(*np.subtract(middle(square), place))) < 40

    # no face at first: the first one's square from the beginning
    found = squares([(50, black), (50, one)])
    assert len(found) == 1
    assert found[0][0] == 0
    assert near(found[0], main)
    # the main person turns away, a neighbour stays: for 4 seconds the square does not move
    found = squares([(100, both), (100, neighbour), (150, both)])
    assert len(found) == 1
    assert near(found[0], main)
    # for good: then the neighbour has it
    found = squares([(150, both), (60, neighbour)])
    assert [near(square, place) for square, place in zip(found, (main, other), strict=True)] == [True, True]
    assert 150 <= found[1][0] <= 155
    # a hand before the face
    found = squares([(50, one), (60, hand), (50, one)])
    assert len(found) == 1
    assert near(found[0], main)
    # a cut to another person: from its very frame
    there = 255 - scene((440, 240))
    there[240:440, 440:640] = scene((440, 240))[240:440, 440:640]
    found = squares([(52, one), (48, there)])
    assert [square[0] for square in found] == [0, 52]
    assert found[1][1] + found[1][3] == 640  # a face at the edge: the square ends there
    assert near(found[0], main)
    # somebody who is seen now and then among pictures without a face
    found = squares([(20, nobody), (30, one), (40, nobody), (30, one)])
    assert len(found) == 1


@needs_face
def test_no_face_is_said_with_the_way_out(scene: Callable[..., np.ndarray]) -> None:
    frames = np.stack([scene()] * 10)
    with pytest.raises(NoFaceError, match=r'no face found.*crop="none"'):
        open_source(frames, fps=25)
    with open_source(frames, fps=25, crop="none") as clip:
        assert clip.crop == [(0, 80, 0, 480)]


@needs_face
def test_the_detector_sees_eyes_and_mouth_where_they_are() -> None:
    from make_demo_clip import portrait

    from tfcodec.media.mtcnn import Detector

    face = Detector()(portrait(), 40)[0]
    assert face.score > 0.99
    expected = [(203.5, 101), (247, 103), (224.5, 127), (204, 140), (245, 141)]  # read off the portrait by eye
    assert np.abs(face.points - expected).max() < 6


@needs_face
@pytest.mark.parametrize("shape", [(1, 1), (11, 300), (12, 12), (300, 13)])
def test_tiny_pictures_have_no_face_and_no_trouble(shape: tuple[int, int]) -> None:
    from tfcodec.media.mtcnn import Detector

    assert Detector()(np.zeros((*shape, 3), np.uint8)) == []


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mtcnn" else real(name, *a))
    with pytest.raises(MediaError, match=r"pip install 'tfcodec\[face\]'"):
        open_source(np.zeros((2, 300, 300, 3), np.uint8), fps=25)


def test_weights_that_were_changed_are_not_loaded(tmp_path: Path) -> None:
    from tfcodec.media.mtcnn import _load

    (tmp_path / "pnet.lz4").write_bytes(b"not the weights")
    with pytest.raises(MediaError, match="not the file"):
        _load(tmp_path, "pnet")


sightings = st.lists(
    st.tuples(st.floats(-50, 2000), st.floats(-50, 1200), st.floats(2, 3000)), min_size=1, max_size=60
).map(lambda places: [Sighting(5 * i, *place) for i, place in enumerate(places)])


@settings(max_examples=60)
@given(sightings, st.integers(2, 1920), st.integers(2, 1080), st.lists(st.integers(1, 300), max_size=5).map(sorted))
def test_every_square_lies_inside_the_picture(seen: list[Sighting], width: int, height: int, cuts: list[int]) -> None:
    squares = crop.plan(Found(seen, cuts), width, height)
    assert squares[0][0] == 0
    starts = [square[0] for square in squares]
    assert starts == sorted(set(starts))
    for _, x, y, size in squares:
        assert 1 <= size <= min(width, height)
        assert 0 <= x <= width - size
        assert 0 <= y <= height - size


def test_a_slow_walk_is_followed_in_few_steps() -> None:
    seen = [Sighting(5 * i, 300 + 6.0 * i, 400, 300) for i in range(100)]
    squares = crop.plan(Found(seen, []), 1280, 720)
    assert 3 <= len(squares) <= 8
    for sight in seen:
        square = [s for s in squares if s[0] <= sight.frame][-1]
        assert abs(middle(square)[0] - sight.x) < 0.3 * 300
