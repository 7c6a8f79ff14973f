"""The synthetic clip that the demonstration runs on, and the script that shows the result."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("skimage", "mtcnn", "lz4", "joblib")),
    reason="needs the portrait and the face detector: pip install 'tfcodec[demo]'",
)


def test_the_voice_is_speech_and_not_a_tone_and_the_same_every_time() -> None:
    from synthetic_speech import SAMPLE_RATE, speak

    voice = speak(4.0)
    again = speak(4.0)
    assert (voice.samples == again.samples).all()
    assert (voice.opening == again.opening).all()
    assert voice.samples.shape == (4 * SAMPLE_RATE,)
    assert voice.samples.dtype == np.float32
    assert np.isfinite(voice.samples).all()
    assert 0.3 < np.abs(voice.samples).max() < 0.95
    blocks = voice.samples.reshape(-1, 320)  # 20 ms
    level = np.sqrt((blocks**2).mean(axis=1))
    assert level.min() < 0.002 < 0.03 < level.max()  # pauses and vowels
    loud = blocks[level > 0.02]
    spectra = np.abs(np.fft.rfft(loud * np.hanning(320), axis=1)) ** 2
    low = spectra[:, 2:20].sum(axis=1) / spectra.sum(axis=1)  # 100 to 1000 Hz
    assert low.max() > 0.8  # a vowel
    assert low.min() < 0.1  # a sibilant


def test_the_mouth_opens_with_the_voice() -> None:
    from synthetic_speech import speak

    voice = speak(8.0)
    level = np.sqrt((voice.samples.reshape(-1, 16) ** 2).mean(axis=1))  # per millisecond
    smooth = np.convolve(level, np.ones(60) / 60, mode="same")
    later = np.roll(voice.opening, 40)  # the lips are that much ahead
    wide, pause = later > 0.5, smooth < 1e-3
    assert smooth[wide].mean() > 3 * smooth[later < 0.1].mean()
    assert np.median(later[pause]) < 0.05


def test_the_face_moves_where_it_should() -> None:
    from make_demo_clip import Puppet

    puppet = Puppet(240)
    rest = puppet.pose(opening=-0.3).astype(int)
    assert (puppet.pose(opening=-0.3) == rest).all()
    scale = 240 / 280
    mouth = (slice(int(135 * scale), int(165 * scale)), slice(int(115 * scale), int(165 * scale)))
    eyes = (slice(int(93 * scale), int(110 * scale)), slice(int(105 * scale), int(178 * scale)))
    background = (slice(0, 60), slice(0, 40))
    spoken = np.abs(puppet.pose(opening=1.0) - rest).mean(axis=2)
    blink = np.abs(puppet.pose(opening=-0.3, blink=1.0) - rest).mean(axis=2)
    turned = np.abs(puppet.pose(opening=-0.3, yaw=5.0, sway=(3, 1)) - rest).mean(axis=2)
    assert spoken[mouth].mean() > 15
    assert spoken[eyes].max() < 3
    assert blink[eyes].mean() > 3
    assert blink[mouth].max() < 3
    assert turned[mouth].mean() > 5
    assert turned[background].mean() < 2


def test_a_voice_too_short_to_say_anything_is_silent() -> None:
    from synthetic_speech import speak

    assert not speak(0.2).samples.any()


def test_the_clip_is_found_by_the_face_detector(tmp_path: Path) -> None:
    from make_demo_clip import make_demo_clip

    from tfcodec.media import open_source

    make_demo_clip(tmp_path / "a.mp4", seconds=0.6, size=320)
    with open_source(tmp_path / "a.mp4") as clip:
        assert clip.frame_count == 15
        assert clip.crop is not None
        assert len(clip.crop) == 1
        assert 200 < clip.crop[0][3] < 300
        assert clip.audio is not None
        assert len(clip.audio) == 9600


def test_the_demonstration_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import demo

    demo.run(None, tmp_path, quality=5, seconds=0.4)
    out = capsys.readouterr().out
    assert "synthetic" in out
    assert "PSNR" in out
    assert {p.name for p in tmp_path.iterdir()} == {
        "source.mp4", "demo.tfc", "decoded.mp4", "side_by_side.mp4", "contact_sheet.png"
    }  # fmt: skip
    import av

    with av.open(str(tmp_path / "side_by_side.mp4")) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (768, 256)
        assert len(video.streams.audio) == 1
        assert sum(1 for _ in video.decode(video=0)) == 10
    with av.open(str(tmp_path / "contact_sheet.png")) as sheet:
        assert next(sheet.decode(video=0)).width == 8 * 256
