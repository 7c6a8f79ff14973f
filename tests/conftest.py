"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

Value = TypeVar("Value")

QUICK = (
    "architecture", "bitstream", "bitstream_damage", "bitstream_reference", "bitstream_vectors", "call_packets",
    "displacement", "docs", "keyframe", "layer_vectors", "motion", "network", "playout", "spec", "tinyframe",
    "web_module",
)  # fmt: skip
"""Files of tests that need no torch: with ``--quick`` only they are run, without what is marked as slow."""

LONGEST = (
    "training", "bench", "player", "refine", "codec", "tinyframe", "live", "light", "reader", "speech_codecs",
    "keyframe", "cli", "quarter", "batch", "motion_layer", "model", "tracker", "motion", "bitstream_damage",
    "odd_calls", "device", "keypoint_training", "docs", "fast", "torch_defaults", "demo_clip", "media", "keypoint",
)  # fmt: skip
"""Files of tests that take longest, to be begun with: processes that share the files then end together."""
# A test that fails by chance, or because others take the processor, says nothing of the change that it is run for.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes of tests have a core each; threads beyond that would only get into each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Where a test asks for two, they wait without working: half of what was counted was waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _NoTorch:
    """Refuses to import torch, so that the quick tests stay what they are."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "torch":
            raise ImportError("a quick test asks for torch: take its file out of QUICK in tests/conftest.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests without torch, in less than a minute")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quick"):
        sys.meta_path.insert(0, _NoTorch())
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" and all(Path(given).is_dir() for given in config.args):
        # In a fresh clone modules are compiled when they are imported, which takes seconds: two processes begin at both
        # ends, so that each finds half of them compiled. What fails here is told when it is collected.
        for path in sorted(Path(__file__).parent.glob("test_*.py"), reverse=True):
            with contextlib.suppress(Exception, pytest.skip.Exception):
                importlib.import_module(path.stem)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    other = collection_path.suffix == ".py" and collection_path.stem.removeprefix("test_") not in QUICK
    return True if other and config.getoption("--quick") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rank = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def there(value: Value | None) -> Value:
    """The value; the test fails if it is not there."""
    assert value is not None
    return value


def psnr(one: Any, other: Any) -> float:
    """Of all values in 0..255 of two arrays or tensors, in dB; at most 138."""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def worst_psnr(one: Any, other: Any) -> float:
    """The worst frame's, of [..., H, W, 3] in two arrays or tensors of one shape."""
    assert one.shape == other.shape
    size = one.shape[-3:]
    return min(psnr(*pair) for pair in zip(one.reshape(-1, *size), other.reshape(-1, *size), strict=True))


def by_chance(shape: str) -> Any:
    """A network of another shape, with weights by chance, but for the parts that all shapes share."""
    import torch

    from tfcodec.model.config import NetworkConfig
    from tfcodec.model.registry import default_model
    from tfcodec.model.upsampler import Upsampler
    from tfcodec.model.weights import load_model

    torch.manual_seed(5)
    model, trained = Upsampler(NetworkConfig(shape=shape)).eval(), load_model(default_model()).state_dict()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in trained and trained[name].shape == value.shape:
                value.copy_(trained[name])
            elif not value.any():
                value.copy_(0.02 * torch.randn_like(value))
    return model


def find_data() -> Path | None:
    """The folder of talking-face clips, or None: TFCODEC_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("TFCODEC_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if (folder / "manifest.tsv").is_file() else None


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("TFCODEC_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The clips' folder; the test is skipped where there is none."""
    folder = find_data()
    if folder is None:
        pytest.skip("needs talking-face clips: set TFCODEC_DATA to a folder with manifest.tsv, train/ and val/")
    return folder


CODES_KEYFRAMES = ("keyframe", "keyframe_inter", "web_module", "webrtc")
"""Files of tests of keyframes themselves, and of calls in real time: there each is coded anew."""


@pytest.fixture(scope="module", autouse=True)
def computed_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """What AV1 makes of a picture is kept, since hundreds of tests begin with the same ones; so is what the tracker
    sees in it, and in some files what is drawn (see `once`).

    That doing it again gives the same is shown by `test_keyframe`, `test_tracker` and `test_render`.
    """
    import once

    name = request.path.stem.removeprefix("test_")
    with pytest.MonkeyPatch.context() as patch:
        if name not in CODES_KEYFRAMES:
            from tfcodec.keyframe import av1

            patch.setattr(av1, "encode", once.coding(av1.encode))
        if name in once.TRACKED:
            from tfcodec.model import tracking

            patch.setattr(tracking, "find", once.tracking(tracking.find))
        if name in once.DRAWN:
            from tfcodec.model.renderer import Renderer

            patch.setattr(Renderer, "begin", once.drawing(Renderer.begin))
        yield


@pytest.fixture
def processor_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are taught for so much of the processor's time: how far they come does not depend on what else runs."""
    from tfcodec.training import teacher

    monkeypatch.setattr(teacher, "time", SimpleNamespace(monotonic=time.process_time))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a shape of few channels: most of what is done with networks does not depend on their number."""
    from tfcodec.model.config import SHAPES, Shape

    monkeypatch.setitem(SHAPES, "narrow", Shape({128: 8, 64: 8, 32: 16, 16: 16, 8: 32}, 1, 1, 1, False, (8, 8, 16), 1))
    return "narrow"


@pytest.fixture(scope="session")
def moving_face() -> tuple[np.ndarray, np.ndarray]:
    """A drawn face that sways and talks: pictures [60, 256, 256, 3] uint8 at 25 fps, and a voice-like sound at 16 kHz.

    Not a likeness of anybody; enough structure for every part of the codec to have work to do.
    """
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    wall = np.stack([110 + 40 * np.sin(x / 31), 120 + 30 * np.cos(y / 23), 140 + 20 * np.sin((x + y) / 17)], -1)
    frames = np.empty((60, 256, 256, 3), np.uint8)
    opening = np.clip(np.sin(np.arange(60) * 0.9), 0, 1)
    for t in range(60):
        cx, cy = 128 + 14 * np.sin(t / 9), 130 + 5 * np.cos(t / 7)

        def disc(px: float, py: float, rx: float, ry: float) -> tuple[tuple[slice, slice], np.ndarray]:
            place = slice(int(py - ry), int(py + ry) + 2), slice(int(px - rx), int(px + rx) + 2)
            r = ((x[place] - px) / rx) ** 2 + ((y[place] - py) / ry) ** 2
            return place, np.clip((1 - r) * min(rx, ry) / 2, 0, 1)[..., None]

        picture = wall.astype(np.float64)
        for px, py, rx, ry, colour in (
            (cx, cy, 62, 82, (205, 160, 135)),
            (cx - 24, cy - 20, 10, 6, (250, 250, 250)), (cx + 24, cy - 20, 10, 6, (250, 250, 250)),
            (cx - 24, cy - 20, 4, 4, (40, 30, 30)), (cx + 24, cy - 20, 4, 4, (40, 30, 30)),
            (cx, cy + 38, 20, 4 + 12 * opening[t], (120, 40, 45)),
        ):  # fmt: skip
            place, a = disc(px, py, rx, ry)
            picture[place] = picture[place] * (1 - a) + np.array(colour, np.float32) * a
        frames[t] = np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255)
    time = np.arange(60 * 640) / 16000
    loudness = np.interp(time, np.arange(60) / 25, opening)
    voice = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 12))
    return frames, (0.15 * loudness * voice).astype(np.float32)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs Chromium; TFCODEC_CHROMIUM names one that is not on the path")
    switches = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=switches)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest network as ONNX, by `tfcodec export onnx`."""
    return _exported(tmp_path_factory, "full")


@pytest.fixture(scope="session")
def exported_light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its light stand-in, likewise."""
    return _exported(tmp_path_factory, "light")


def _exported(tmp_path_factory: pytest.TempPathFactory, network: str) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from filelock import FileLock

    from tfcodec.cli import main

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"onnx-{network}"
    with FileLock(folder.with_suffix(".lock")):  # one process of tests makes it for all
        if not (folder / "card.json").exists():
            assert main(["export", "onnx", str(folder), "--network", network, "--quiet"]) == 0
    return folder


PACK_FRAMES = 20


@pytest.fixture(scope="session")
def drawn_clips(moving_face: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training pack is made of: two drawn clips of 20 frames for each split; frame 3 has no face."""
    from tfcodec.media import write_video

    frames, audio = moving_face
    count = PACK_FRAMES
    source = tmp_path_factory.mktemp("clips")
    sway = 16 * 14 * np.sin(np.arange(2 * count) / 9)  # the drawn face's
    marks = np.full((2 * count, 70, 2), 128 * 16, np.int16)
    marks[..., 0] += np.arange(70, dtype=np.int16) * 8 + sway.astype(np.int16)[:, None]
    marks[[3, count + 3]] = -16
    for split in ("train", "val"):
        (source / split).mkdir()
        write_video(source / split / "d1_00.mp4", frames[:count], 25, audio[: 640 * count], 16000)
        write_video(source / split / "n1_00.mp4", frames[count : 2 * count], 25)
        np.savez(source / f"landmarks_{split}.npz", d1_00=marks[:count], n1_00=marks[count:])
    return source


@pytest.fixture(scope="session")
def prepared_pack(drawn_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training pack made of them by the product's own preparation."""
    from tfcodec.training.prepare import main as prepare

    folder = tmp_path_factory.mktemp("pack")
    prepare([str(drawn_clips), str(folder), "--keys", "2", "--parts-mib", "0.12"])
    return folder


@pytest.fixture(scope="session")
def loaded_pack(prepared_pack: Path) -> Any:
    """Its train split, a `tfcodec.training.data.Pack`."""
    from tfcodec.training.data import Pack

    return Pack(prepared_pack, "train")
