"""The light network: what it costs, which streams it may draw, and how it comes about."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tfcodec
from tfcodec.cli import main
from tfcodec.codec.call.worker import DrawingThread
from tfcodec.errors import MediaError, TfcodecError, WeightsError
from tfcodec.metrics.files import find_weights
from tfcodec.model import registry
from tfcodec.model.blocks import enlarge_smoothly, upsample
from tfcodec.model.closeup import LIGHT_SQUARES, CloseUps, head_frame, paste_square
from tfcodec.model.config import SHAPES, NetworkConfig
from tfcodec.model.inputs import MEL_BANDS, MEL_COLUMNS, WINDOW
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import load_model, read_weights, save_weights

LIGHT = NetworkConfig(shape="light")
needs_metrics = pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")
Face = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def stream(moving_face: Face) -> bytes:
    frames, audio = moving_face
    return tfcodec.encode(frames[:5], fps=25, audio=audio[: 5 * 640], sample_rate=16000, refine=False)


@pytest.fixture(scope="module")
def light() -> registry.ModelEntry:
    return registry.stand_ins(registry.default_model())["light"]


def test_a_frame_costs_a_gigaflop_at_most() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = Upsampler(LIGHT).eval()
    with torch.no_grad():
        key = model.encode_keyframe(torch.rand(1, 3, 256, 256))
        given = torch.rand(1, WINDOW, 3, 8, 8), torch.zeros(1, MEL_COLUMNS, MEL_BANDS)
        with FlopCounterMode(display=False) as counter:
            model(key, *given, marks=key.marks)
    assert counter.get_total_flops() <= 1.0e9
    own = [n for n in model.state_dict() if not n.startswith(("tracker.", "restorer.", "stage1.prior."))]
    assert sum(model.state_dict()[n].numel() for n in own) < 2e6


def test_there_are_no_other_light_networks() -> None:
    for other in (
        replace(LIGHT, audio=True), replace(LIGHT, recurrence=True), replace(LIGHT, window=False),
        replace(LIGHT, stage2=False),
    ):  # fmt: skip
        with pytest.raises(WeightsError, match="no variants"):
            Upsampler(other)
    assert Upsampler(replace(LIGHT, closeups=False)).closeups is None


def test_smooth_enlargement_is_the_bilinear_one() -> None:
    x = torch.randn(2, 2, 64, 64)
    assert (enlarge_smoothly(x, 256) - upsample(x, 4)).abs().max() < 1e-5


def test_squares_pasted_at_once_are_those_pasted_one_by_one() -> None:
    torch.manual_seed(0)
    closeups = CloseUps(SHAPES["light"])
    changes = [torch.randn(2, 3, s.height, s.width) for s in LIGHT_SQUARES]
    for part, change in zip(closeups.parts, changes, strict=True):
        part.forward = lambda *_, change=change: change
    marks = torch.zeros(2, 70, 2)
    marks[:, 36:42, 0], marks[:, 42:48, 0], marks[:, :, 1] = -0.2, 0.25, -0.1
    marks[1, 42:48, 1] = 0.05  # a tilted head
    picture = torch.rand(2, 3, 256, 256)
    found = closeups(picture, marks, closeups.prepare(picture, marks), torch.ones(2))
    frame = head_frame(marks)
    wanted = picture + sum(paste_square(c, frame, s, 256) for c, s in zip(changes, LIGHT_SQUARES, strict=True))
    assert (wanted - picture).abs().max() > 1
    assert (found - wanted).abs().max() < 2e-3  # at the seam both have faded out
    seen = closeups.cut(picture, frame)
    assert [tuple(x.shape[-2:]) for x in seen] == [(s.height, s.width) for s in LIGHT_SQUARES]


def test_the_registry_says_which_may_stand_in(light: registry.ModelEntry) -> None:
    newest = registry.default_model()
    assert not newest.name
    assert light not in registry.models()
    assert light.full == newest
    assert light.title.startswith(f"light {newest.model_id} (")
    assert registry.stand_in(newest, None) == registry.stand_in(newest, "full") == newest
    assert registry.find_model(newest.model_id, newest.hash_prefix, "light") == light
    assert registry.stand_ins(registry.models()[0]) == {}
    with pytest.raises(WeightsError, match="may not stand in for network 1"):
        registry.stand_in(registry.models()[0], "light")
    with pytest.raises(WeightsError, match=r"no network 'tiny'.*full and light"):
        registry.stand_in(newest, "tiny")


def test_its_file_holds_what_is_its_own(light: registry.ModelEntry, tmp_path: Path) -> None:
    path = registry.weights_file(light)
    assert path.stat().st_size < 5_000_000
    assert light.sha256[:8] in light.file
    assert path.with_suffix(".md").is_file()
    model, full = load_model(light), load_model(light.full)
    assert model.config.shape == "light"
    again = read_weights(path)  # the other's file lies beside it
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
        if name.startswith(("tracker.", "restorer.", "stage1.prior.")):
            assert torch.equal(tensor, full.state_dict()[name])
    (tmp_path / light.file).write_bytes(path.read_bytes())
    with pytest.raises(WeightsError):
        read_weights(tmp_path / light.file)
    save_weights(model, tmp_path / "whole.safetensors")
    assert read_weights(tmp_path / "whole.safetensors").config == model.config


def test_it_draws_the_same_streams(stream: bytes, light: registry.ModelEntry) -> None:
    full, ours = tfcodec.decode(stream), tfcodec.decode(stream, network="light")
    assert (full.network, ours.network) == (light.full.title, light.title)
    assert np.array_equal(full.tiny, ours.tiny)
    assert np.array_equal(full.keyframes[0][1], ours.keyframes[0][1])
    error = np.square(full.frames.astype(float) - ours.frames).mean()
    assert 0 < error < 255**2 / 10**2.6  # 26 dB: the drawn face is nothing that either has learnt
    assert tfcodec.decode(stream, pixels=False).network == ""
    with tfcodec.open(stream, network="light") as reader:
        assert reader.network == light.title
        first = reader[0].pixels
        assert first is not None
        assert np.abs(first.astype(int) - ours.frames[0]).max() <= 1
    with pytest.raises(WeightsError, match="no network 'lite'"):
        tfcodec.decode(stream, network="lite")


@pytest.mark.parametrize("worker", [False, True])
def test_calls(moving_face: Face, light: registry.ModelEntry, worker: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []
    monkeypatch.setattr(DrawingThread, "_recording", lambda self, entry: recorded.append(entry))
    encoder = tfcodec.Encoder(latency="call")
    with tfcodec.Decoder(network="light", worker=worker) as decoder:
        for frame in moving_face[0][:3]:
            for packet in encoder.push(frame):
                decoder.push(packet)
        picture = decoder.pull()
        if not worker:
            assert decoder.call.entry == light
            assert picture.std() > 5
        else:
            assert recorded[0] == light
    with pytest.raises(WeightsError, match="no network 'lite'"):
        tfcodec.Decoder(network="lite")


def test_command_line(stream: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tfc").write_bytes(stream)
    given = ["decode", str(tmp_path / "a.tfc"), str(tmp_path / "a.mkv"), "--lossless", "--quiet", "--network"]
    assert main([*given, "lite"]) == 1
    assert "no network 'lite'" in capsys.readouterr().err
    assert not (tmp_path / "a.mkv").exists()
    assert main([*given, "light"]) == 0
    assert (tmp_path / "a.mkv").stat().st_size > 10_000


def test_export(tmp_path: Path, light: registry.ModelEntry, exported_light: Path) -> None:
    card = json.loads((exported_light / "card.json").read_text())
    assert card["network"]["sha256"] == light.full.sha256  # whose streams it draws
    assert card["stand_in"] == {"name": "light", "file": light.file, "sha256": light.sha256}
    assert card["self_test"]["psnr_db"] >= 60
    assert sum(part["bytes"] for part in card["graphs"].values()) < 9_000_000
    assert main(["export", "onnx", str(tmp_path / "y"), "--network", "7"]) == 1
    assert not (tmp_path / "y").exists()


@needs_metrics
def test_it_comes_out_of_the_full_one_and_learns(
    prepared_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")
    from tfcodec.training import export, lessons, options, prune
    from tfcodec.training import light as training
    from tfcodec.training.data import Pack
    from tfcodec.training.start import is_shared, start_network

    with pytest.raises(MediaError, match="no lessons"):
        lessons.lessons(tmp_path)
    entry = registry.default_model()
    full = load_model(entry)
    lessons.write(full, Pack(prepared_pack, "train"), tmp_path / "lessons", range(2), keys=1, targets=2)
    prune.main([str(tmp_path / "lessons"), str(tmp_path / "start.safetensors")])
    start = read_weights(tmp_path / "start.safetensors")
    some = [lessons.read(path) for path in lessons.lessons(tmp_path / "lessons")]
    assert full.closeups is not None
    for one in some:
        drawn = training.Drawn(start, one, torch.arange(2)).frame
        wanted, still = one.drawn / 255, one.picture[one.owner] / 255
        assert (drawn - wanted).abs().mean() < 0.7 * (still - wanted).abs().mean()

    out = tmp_path / "light.safetensors"
    training.main([
        str(tmp_path / "lessons"), str(out), "--weights", str(tmp_path / "start.safetensors"), "--minutes", "0.03",
        "--batch", "2", "--threads", "1", "--val", str(tmp_path / "lessons"),
    ])  # fmt: skip
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores["steps"] >= 1
    assert np.isfinite(list(scores.values())).all()
    learnt = read_weights(out).state_dict()
    for name, tensor in start.state_dict().items():
        same = torch.equal(tensor, learnt[name])
        assert same or not (is_shared(name) or name.startswith("closeups.")), name
    assert not torch.equal(learnt["stage1.see64.weight"], start.state_dict()["stage1.see64.weight"])

    network = start_network(options.parse(
        ["-", "-", "--shape", "light", "--fitting", "--weights", str(registry.weights_file(entry))]
    ))  # fmt: skip
    for name, tensor in network.named_parameters():
        assert tensor.requires_grad != is_shared(name), name
        assert tensor.requires_grad or torch.equal(tensor, full.state_dict()[name]), name

    folder = tmp_path / "weights"
    folder.mkdir()
    for path in registry.weights_files(entry):
        shutil.copy(path, folder)
    lines = [{"model_id": entry.model_id, "file": entry.file, "sha256": entry.sha256}]
    (folder / "registry.json").write_text(json.dumps(lines))
    for _ in range(2):  # the second takes the place of the first
        export.main([str(out), str(entry.model_id), "--stand-in", "light", "--folder", str(folder)])
    listed = json.loads((folder / "registry.json").read_text())
    assert listed[0] == lines[0]
    assert [line.get("name") for line in listed] == [None, "light"]
    with pytest.raises(TfcodecError, match="tracker"):
        export.register_stand_in(Upsampler(LIGHT), folder, entry.model_id, "light")
    assert torch.equal(read_weights(folder / listed[1]["file"]).state_dict()["stage1.trust"], learnt["stage1.trust"])
