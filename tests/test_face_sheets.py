"""Sheets of mouths and eyes: the right moments, and source above decoded above frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.publish import face_sheets
from tfcodec.errors import WeightsError
from tfcodec.metrics.faces import FaceMeter, eye_crops, mouth_crops
from tfcodec.metrics.files import MissingPackage

LANDMARKS = np.random.default_rng(2).uniform(80, 176, (60, 68, 2))
LANDMARKS[:, [36, 45]] = [(80, 100), (176, 100)]


def test_mouths_from_widest_to_narrowest() -> None:
    opening = 0.2 + 0.15 * np.sin(np.arange(200) / 11)
    opening[17] = np.nan
    moments = face_sheets.mouth_moments(opening)
    shown = [opening[m.frame] for m in moments]
    assert len(moments) == 8
    assert shown[0] == np.nanmax(opening)
    assert shown[-1] == np.nanmin(opening)
    assert np.all(np.diff(shown) < 0.01)
    frames = sorted(m.frame for m in moments)
    assert min(np.diff(frames)) >= 5
    assert len(face_sheets.mouth_moments(opening[:9])) == 2  # no room for more
    assert face_sheets.mouth_moments(np.full(9, np.nan)) == []


def test_eyes_in_blinks() -> None:
    opening = np.full(200, 0.1)
    opening[0] = 0.11
    for at, depth in ((30, 0.5), (80, 0.8), (120, 0.4), (170, 0.7)):
        opening[at - 2 : at + 3] -= 0.1 * depth * np.array([0.3, 0.8, 1, 0.8, 0.3])
    moments = face_sheets.eye_moments(opening)
    assert [m.frame for m in moments] == [0, 80, 27, 30, 33, 77, 80, 83, 167, 170, 173]
    assert [m.why for m in moments[2:5]] == ["before", "blink 0.50", "after"]
    assert [m.frame for m in face_sheets.eye_moments(np.array([0.1, 0.2, 0.15]))] == [1, 0]
    assert face_sheets.eye_moments(np.full(9, np.nan)) == []


@pytest.mark.parametrize("cut", [mouth_crops, eye_crops])
def test_rows_are_in_order(cut: object) -> None:
    pytest.importorskip("cv2")
    videos = {name: np.full((60, 256, 256, 3), grey, np.uint8) for name, grey in (("a", 40), ("b", 120), ("c", 200))}
    moments = [face_sheets.Moment(3, "first"), face_sheets.Moment(50, "second")]
    picture = np.asarray(face_sheets.sheet(videos, LANDMARKS, moments, cut))  # type: ignore[arg-type]
    height = (picture.shape[0] - face_sheets.LABEL) // 3
    middles = [picture[face_sheets.LABEL + height * i + height // 2, -20] for i in range(3)]
    assert [tuple(m) for m in middles] == [(40,) * 3, (120,) * 3, (200,) * 3]
    many = [face_sheets.Moment(i, "") for i in range(20)]
    tall = np.asarray(face_sheets.sheet(videos, LANDMARKS, many, cut))  # type: ignore[arg-type]
    assert tall.shape[1] <= face_sheets.MARGIN + face_sheets.WIDTH
    assert tall.shape[0] >= 3 * picture.shape[0]


def test_sheets_of_a_stream_and_its_clip(moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    try:
        meter = FaceMeter()
    except (WeightsError, MissingPackage) as error:
        pytest.skip(str(error))
    data = pytest.importorskip("skimage.data", reason="needs tfcodec[demo]")
    portrait = np.ascontiguousarray(data.astronaut()[0:256, 96:352])
    rows = {"source": np.stack([np.roll(portrait, s, 1) for s in range(12)]),
            "decoded": np.stack([portrait] * 12)}  # fmt: skip
    written = face_sheets.write_sheets(rows, "x", tmp_path / "new", meter)
    assert [path.name for path in written] == ["x_mouth.png", "x_eyes.png"]
    assert all(path.stat().st_size > 10_000 for path in written)
    with pytest.raises(SystemExit, match="no face"):
        face_sheets.write_sheets({"source": np.zeros((3, 256, 256, 3), np.uint8)}, "y", tmp_path, meter)
    import tfcodec

    stream = tmp_path / "talk.tfc"
    stream.write_bytes(tfcodec.encode(moving_face[0][:12], fps=25, refine=False))
    found = face_sheets.videos(stream, None, None, 5, False)
    assert list(found) == ["decoded", "frozen"]
    assert found["decoded"].shape == found["frozen"].shape == (12, 256, 256, 3)
