"""The network: shapes, budget, weights, and the metric it is judged by."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.utils.flop_counter import FlopCounterMode

from tfcodec.errors import WeightsError
from tfcodec.metrics.lpips import LPIPS, find_weights
from tfcodec.model import registry
from tfcodec.model.blocks import box_down, refine_chroma, warp
from tfcodec.model.config import BEFORE, SHAPES, NetworkConfig
from tfcodec.model.stage1 import Stage1
from tfcodec.model.upsampler import MEL_BANDS, MEL_COLUMNS, WINDOW, KeyframeFeatures, Upsampler
from tfcodec.model.weights import load_model, read_weights, save_weights
from tfcodec.training.options import network_config

WITHOUT = NetworkConfig(**BEFORE)
"""Network 1's."""
SECOND = replace(WITHOUT, landmarks=True)
"""Network 2's."""


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (
        torch.rand(count, 3, 256, 256), torch.rand(count, WINDOW, 3, 8, 8), torch.rand(count, MEL_COLUMNS, MEL_BANDS),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_budget(shape: str) -> None:
    model = Upsampler(NetworkConfig(shape=shape)).eval()
    assert sum(p.numel() for p in model.parameters()) <= 8_000_000
    picture, tiny, mel = inputs(1)
    with torch.no_grad():
        key = model.encode_keyframe(picture)
        with FlopCounterMode(display=False) as counter:
            out = model(key, tiny, mel)
    assert counter.get_total_flops() <= 5e9
    assert out.frame.shape == (1, 3, 256, 256)
    assert out.coarse.picture.shape == (1, 3, 64, 64)
    assert out.flow.shape == (1, 2, 64, 64)


def test_an_untrained_network_copies_the_keyframe() -> None:
    model = Upsampler().eval()
    picture, _, mel = inputs(2)
    still = box_down(picture, 8)[:, None].expand(-1, WINDOW, -1, -1, -1)
    with torch.no_grad():
        frame = model(model.encode_keyframe(picture), still, mel).frame
    # What remains is the small share of the blurred coarse picture that the blending starts with.
    assert (frame - picture).abs().mean() < 0.02


def test_the_frame_before_is_remembered() -> None:
    picture, tiny, mel = inputs(2)
    model = Upsampler(NetworkConfig(recurrence=True)).eval()
    with torch.no_grad():
        key = model.encode_keyframe(picture)
        first = model(key, tiny, mel)
        # Nothing listens to it as long as the network is untrained.
        assert torch.equal(model(key, tiny, mel, first.memory()).frame, first.frame)
        assert isinstance(model.stage1, Stage1)
        torch.nn.init.normal_(model.stage1.recall64.weight, std=0.01)
        torch.nn.init.normal_(model.stage1.flow64.weight, std=0.01)
        first = model(key, tiny, mel)
        assert torch.equal(model(key, tiny, mel, torch.zeros_like(first.memory())).frame, first.frame)
        assert not torch.equal(model(key, tiny, mel, first.memory()).frame, first.frame)


def test_the_keyframe_that_fits_the_tiny_frame_counts_more() -> None:
    _, tiny, mel = inputs(2)
    # Two that differ at 8x8, and grey: no chroma detail is taken from a keyframe.
    picture = torch.nn.functional.interpolate(tiny[:, 0, :1].expand(-1, 3, -1, -1), size=256)
    model = Upsampler(NetworkConfig(second_reference=True, projection=False)).eval()
    with torch.no_grad():
        key = model.encode_keyframe(picture)
        other = model.encode_keyframe(picture.flip(0))
        tiny = box_down(picture.flip(0), 8)[:, None].expand(-1, WINDOW, -1, -1, -1)

        def error(second: KeyframeFeatures | None) -> float:
            frame = model(key, tiny, mel, second=second).frame
            return float((frame - picture.flip(0)).abs().mean())

        assert error(other) < error(None) / 2
        assert error(key) > error(None) / 2


def test_a_new_restorer_leaves_the_keyframe_alone_and_then_mends_all_that_is_drawn() -> None:
    picture, _, _ = inputs(2)
    shipped = load_model(registry.default_model())
    plain, model = (Upsampler(replace(shipped.config, restoration=x)).eval() for x in (False, True))
    known = {name: value for name, value in shipped.state_dict().items() if not name.startswith("restorer.")}
    for network in (plain, model):
        network.load_state_dict(known, strict=False)
    assert model.restorer is not None
    with torch.no_grad():
        assert torch.equal(model.encode_keyframe(picture).picture, picture)
        assert model.restorer.paint.bias is not None
        model.restorer.paint.bias.fill_(0.25)
        key = model.encode_keyframe(picture)
        assert torch.allclose(key.picture, picture + 0.25)
        assert torch.allclose(key.small, box_down(picture, 64) + 0.25, atol=1e-6)
        # Landmarks are found where they were: the finder knows decoded keyframes.
        marks = plain.encode_keyframe(picture).marks
        assert marks is not None
        assert key.marks is not None
        assert torch.allclose(key.marks, marks, atol=1e-4)


def test_warping() -> None:
    picture = torch.rand(1, 3, 64, 64)
    assert torch.allclose(warp(picture, torch.zeros(1, 2, 16, 16)), picture, atol=1e-5)
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = 2 * 8 / 64  # half a side is one unit: 8 pixels to the right
    assert torch.allclose(warp(picture, flow)[..., :-8], picture[..., 8:], atol=1e-4)


def test_frames_of_a_batch_do_not_touch_each_other() -> None:
    model = load_model(registry.default_model())
    picture, tiny, mel = inputs(3)
    with torch.no_grad():
        key = model.encode_keyframe(picture)
        together = model(key, tiny, mel).frame
        alone = model(key.select(torch.tensor([1])), tiny[1:2], mel[1:2]).frame
    assert (together[1:2] - alone).abs().max() < 2e-3


def test_tiny_frames_matter_and_so_do_landmarks_or_speech() -> None:
    model = load_model(registry.default_model())
    picture, tiny, mel = inputs(1)
    with torch.no_grad():
        key = model.encode_keyframe(picture)
        frame = model(key, tiny, mel).frame
        assert (model(key, tiny.flip(1), mel).frame - frame).abs().max() > 1e-3
        if model.config.audio:
            assert (model(key, tiny, -torch.ones_like(mel)).frame - frame).abs().max() > 1e-4
        if model.config.motion:
            assert key.marks is not None
            moved = model(key, tiny, mel, marks=key.marks + 0.1).frame
            assert (moved - model(key, tiny, mel, marks=key.marks).frame).abs().max() > 1e-2


def test_registered_weights_are_whole_and_small() -> None:
    entries = registry.models()
    assert [e.model_id for e in entries] == list(range(1, len(entries) + 1))
    newest = registry.default_model()
    assert newest == entries[-1]
    data = registry.weights_file(newest).read_bytes()
    assert hashlib.sha256(data).hexdigest() == newest.sha256
    assert sum(path.stat().st_size for path in registry.weights_files(newest)) <= 18_000_000
    for entry in entries:
        assert entry.sha256[:8] in entry.file
        assert (registry.FOLDER / entry.file).with_suffix(".md").is_file()  # the card
        assert registry.find_model(entry.model_id, entry.hash_prefix) == entry
    assert [entry.model_id for entry in entries if (registry.FOLDER / entry.file).is_file()] == [3, 4]
    for entry in entries[:2]:  # registered for good, but for its size the file is not carried along
        with pytest.raises(WeightsError, match="TFCODEC_WEIGHTS_DIR"):
            registry.weights_file(entry)


def test_weights_survive_saving(tmp_path: Path) -> None:
    model = load_model(registry.default_model())
    save_weights(model, tmp_path / "w.safetensors")
    again = read_weights(tmp_path / "w.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_damaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.default_model()
    data = bytearray((registry.FOLDER / entry.file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / entry.file).write_bytes(data)
    monkeypatch.setenv("TFCODEC_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="damaged"):
        registry.weights_file(entry)
    for content in (b"", b"not safetensors", data[:1000]):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(WeightsError):
            read_weights(tmp_path / "x.safetensors")


def test_options_travel_with_the_weights(tmp_path: Path, narrow: str) -> None:
    path = tmp_path / "w.safetensors"
    picture, tiny, mel = inputs(1)
    shapes = [NetworkConfig(shape=shape) for shape in SHAPES if shape != narrow]
    parts = (
        NetworkConfig(), NetworkConfig(audio=True), network_config(["keyframe"]), NetworkConfig(window=False),
        NetworkConfig(consistency=False), NetworkConfig(projection=False), NetworkConfig(stage2=False), WITHOUT, SECOND,
        NetworkConfig(recurrence=True), NetworkConfig(second_reference=True), NetworkConfig(restoration=False),
        NetworkConfig(closeups=False), network_config(["motion"]),
    )  # fmt: skip
    for config in (*shapes, *(replace(config, shape=narrow) for config in parts)):
        model = Upsampler(config).eval()
        save_weights(model, path)
        again = read_weights(path)
        assert again.config == config
        with torch.no_grad():
            out = again(again.encode_keyframe(picture), tiny, mel)
            assert out.frame.shape == (1, 3, 256, 256)
            if replace(config, shape="standard") in (NetworkConfig(), network_config(["keyframe"])):
                changed = again(again.encode_keyframe(1 - picture), tiny, mel).frame
                assert torch.equal(changed, out.frame) != config.keyframe


def test_leaving_a_part_out_leaves_out_its_effect() -> None:
    picture, tiny, mel = inputs(1)
    shipped = load_model(registry.default_model())
    full, whole = shipped.config, shipped.state_dict()

    @functools.cache
    def frame(config: NetworkConfig, backwards: bool = False, sound: float = 1) -> torch.Tensor:
        model = Upsampler(config).eval()
        model.load_state_dict(whole, strict=False)
        with torch.no_grad():
            given = tiny.flip(1) if backwards else tiny
            return model(model.encode_keyframe(picture), given, sound * mel).frame

    short = replace(full, window=False)
    assert torch.equal(frame(short), frame(short, backwards=True))
    assert not torch.equal(frame(full), frame(full, backwards=True))
    deaf = replace(full, audio=False)
    assert torch.equal(frame(deaf), frame(deaf, sound=-1))
    assert torch.equal(frame(full), frame(full, sound=-1)) != full.audio
    # Projection brings the box means nearer to the tiny frame.
    now = refine_chroma(tiny, box_down(picture, 8))[:, 2]
    errors = [(box_down(frame(replace(full, projection=p)), 8) - now).abs().mean() for p in (True, False)]
    assert errors[0] < errors[1]
    assert not torch.equal(frame(replace(full, consistency=False)), frame(full))


def test_weights_of_an_unknown_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    state = {name: value.half().contiguous() for name, value in Upsampler(WITHOUT).state_dict().items()}
    safetensors.torch.save_file(state, path)  # as files from before there were options
    assert read_weights(path).config == WITHOUT
    unknown = ('{"audio": true, "colour": true}', '{"audio": 1}', '{"shape": true}', '{"shape": "round"}')
    for text in (*unknown, "{", "[]", '["audio"]', ""):
        safetensors.torch.save_file(state, path, {"config": text})
        with pytest.raises(WeightsError, match="network"):
            read_weights(path)
    safetensors.torch.save_file(state, path, {"config": '{"audio": false}'})
    with pytest.raises(WeightsError):
        read_weights(path)


@pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")
def test_lpips_reproduces_the_published_example() -> None:
    from PIL import Image

    folder = find_weights()
    assert folder is not None

    def load(name: str) -> torch.Tensor:
        picture = np.asarray(Image.open(folder / "lpips_example" / name).convert("RGB"))
        return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255

    judge = LPIPS("alex")
    reference = load("ex_ref.png")
    assert float(judge(reference, load("ex_p0.png"))) == pytest.approx(0.722, abs=0.001)
    assert float(judge(reference, load("ex_p1.png"))) == pytest.approx(0.138, abs=0.001)
    assert float(judge(reference, reference)) == 0
    blurred = torch.nn.functional.avg_pool2d(reference, 5, 1, 2)
    unrelated = torch.rand_like(reference)
    assert 0 < float(judge(reference, blurred)) < float(judge(reference, unrelated))


def test_missing_metric_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="LPIPS"):
        LPIPS("alex", tmp_path)


def test_chroma_detail_comes_from_the_keyframe() -> None:
    torch.manual_seed(1)
    reference = torch.rand(2, 3, 8, 8)
    weights = torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None]
    luma = (reference * weights).sum(1, keepdim=True)
    coarse = torch.nn.functional.avg_pool2d(reference - luma, 2)
    sent = luma + torch.nn.functional.interpolate(coarse, scale_factor=2.0)  # what 4x4 chroma leaves of the keyframe
    assert torch.allclose(refine_chroma(sent[:, None], reference)[:, 0], reference, atol=1e-5)
    darker = refine_chroma(0.5 * sent[:, None], reference)[:, 0]
    assert torch.allclose((darker * weights).sum(1, keepdim=True), 0.5 * luma, atol=1e-5)
