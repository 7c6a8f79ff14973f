"""The network by ncnn, without torch: it draws what torch draws."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import by_chance, worst_psnr

import tfcodec
from tfcodec.errors import MediaError, TfcodecError, WeightsError
from tfcodec.model.config import NetworkConfig
from tfcodec.model.registry import default_model
from tfcodec.runtime import open_renderer
from tfcodec.runtime.network import check

NEEDED_DB = 60.0

DECODE = """
import sys
import numpy as np
import tfcodec

stream, packets, out = sys.argv[1:]
reader = tfcodec.open(stream, runtime="ncnn")
pictures = np.stack([frame.pixels for frame in reader.frames((0, 1, 7))])
coarse = next(iter(tfcodec.open(stream, runtime="ncnn", coarse=True))).pixels
decoder = tfcodec.Decoder(runtime="ncnn")
for packet in np.load(packets).values():
    decoder.push(packet.tobytes())
shown = decoder.pull()
assert "torch" not in sys.modules
np.savez(out, pictures=pictures, coarse=coarse, shown=shown)
"""


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    if "without_ncnn" not in request.node.name:
        pytest.importorskip("ncnn", reason="the extra fast is not installed")


@pytest.fixture(scope="module")
def stream(moving_face: tuple[np.ndarray, np.ndarray]) -> bytes:
    return tfcodec.encode(moving_face[0][:8], fps=25, refine=False)


def test_a_process_without_torch_decodes_files_and_calls(
    stream: bytes, moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    encoder = tfcodec.Encoder(latency="call", audio=False)
    packets = encoder.push(moving_face[0][0])
    np.savez(tmp_path / "packets.npz", *[np.frombuffer(packet, np.uint8) for packet in packets])
    (tmp_path / "clip.tfc").write_bytes(stream)
    given = [str(tmp_path / name) for name in ("clip.tfc", "packets.npz", "out.npz")]
    subprocess.run([sys.executable, "-c", DECODE, *given], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "out.npz")
    with tfcodec.open(stream) as reader:
        wanted = np.stack([frame.pixels for frame in reader.frames((0, 1, 7)) if frame.pixels is not None])
    assert worst_psnr(found["pictures"], wanted) > NEEDED_DB
    decoder = tfcodec.Decoder()
    for packet in packets:
        decoder.push(packet)
    assert worst_psnr(found["shown"], decoder.pull()) > NEEDED_DB
    assert found["coarse"].shape == (64, 64, 3)


def test_guesses_lips_and_missing_faces_are_torch_s(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    """Displaced frames, motion that was sent, lost and never there, with speech; a keyframe without a face."""
    from tfcodec.model.tracking import find
    from tfcodec.motion import LOST

    frames = moving_face[0]
    rng = np.random.default_rng(3)
    mel, sound = np.full((3, 20, 80), -1, np.float32), rng.uniform(-1, 0, (3, 148, 80)).astype(np.float32)
    motion = np.zeros((3, 17), np.int32)
    motion[:, :16] = rng.integers(-60, 60, (3, 16))
    motion[:, 16] = 1, LOST, 0
    small = frames[:5].reshape(5, 8, 32, 8, 32, 3).mean((2, 4)).astype(np.uint8)
    windows = np.stack([small] * 3)
    wall = np.ascontiguousarray(np.broadcast_to(frames[0, :1, :1], (256, 256, 3)))
    scores = find(np.stack((frames[0], wall)))[1]
    assert scores[0] > 0.5 > scores[1]  # otherwise this tests less than it says
    one, other = (open_renderer(default_model(), runtime=runtime) for runtime in ("ncnn", "torch"))
    displaced = rng.integers(-60, 60, (3, 12)).astype(np.int32)
    for picture, said, heard, displacement in (
        (frames[0], motion, sound, displaced), (frames[0], None, sound, None), (wall, motion, None, displaced),
    ):  # fmt: skip
        drawn = []
        for renderer in (one, other):
            renderer.set_keyframe(picture)
            drawn.append(renderer.render(windows, mel, motion=said, sound=heard, displacement=displacement))
        assert worst_psnr(*drawn) > NEEDED_DB
    drawn = [renderer.render(windows[:1], mel[:1], True, displacement=displaced[:1]) for renderer in (one, other)]
    assert drawn[0].shape == (1, 64, 64, 3)
    assert worst_psnr(*drawn) > NEEDED_DB


@pytest.mark.parametrize("shape", ["deep", "wide"])
def test_other_shapes_of_the_network(shape: str, moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    import torch

    from tfcodec.model import graph
    from tfcodec.model.blocks import box_down, from_pixels, refine_chroma
    from tfcodec.model.displacement import field
    from tfcodec.runtime.renderer import Net

    model = by_chance(shape)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.half().float())
    state = {name: value.half().numpy() for name, value in model.state_dict().items()}
    frames = moving_face[0]
    net = Net(state)
    key = net.keyframe(frames[0])
    with torch.inference_mode():
        known = model.encode_keyframe(from_pixels(torch.from_numpy(frames[:1])))
        tiny = box_down(from_pixels(torch.from_numpy(frames[:5])), 8)[None]
        marks, displaced = model.guess(known, tiny), torch.linspace(-3, 3, 12)[None]
        wanted = graph.picture(model, known, tiny, torch.zeros(1, 20, 80), marks, False, displaced).numpy()
        window = refine_chroma(tiny, box_down(known.small, 8))[0].numpy()
    assert key.face
    assert np.abs(net.marks(key, window[None], None, None) - marks.numpy()).max() < 1e-4
    drawn = net.frame(key, window, marks[0].numpy(), coarse=False, displaced=field(displaced.numpy())[0])
    assert worst_psnr(drawn[None], wanted) > NEEDED_DB


def test_what_cannot_be_drawn_is_refused(stream: bytes) -> None:
    with pytest.raises(WeightsError, match=r"network 1 .*\(audio, landmarks.*runtime=\"torch\""):
        check(NetworkConfig.from_json(None), "1 (577b95f7)")
    with pytest.raises(WeightsError, match=r"\(light\)"):
        check(NetworkConfig(shape="light"), "3-light")
    check(NetworkConfig(shape="large"), "3")
    with pytest.raises(TfcodecError, match="draws on the processor"):
        tfcodec.open(stream, runtime="ncnn", device="cuda")
    with pytest.raises(TfcodecError, match="runtime must be 'torch' or 'ncnn', not 'onnx'"):
        tfcodec.decode(stream, runtime="onnx")  # type: ignore[call-overload]
    with pytest.raises(TfcodecError, match="runtime must be"):
        tfcodec.Decoder(runtime="")  # type: ignore[arg-type]


def test_without_ncnn_it_is_said_what_to_install(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfcodec.runtime import renderer

    renderer._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MediaError, match=r"pip install 'tfcodec\[fast\]'"):
        tfcodec.decode(stream, runtime="ncnn")


def test_a_network_that_ncnn_cannot_draw_is_not_called_damaged(stream: bytes) -> None:
    with pytest.raises(WeightsError, match=rf"^network light {default_model().model_id} .*another kind"):
        tfcodec.decode(stream, runtime="ncnn", network="light")


def test_a_full_disk_is_not_the_weights_fault(
    stream: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tfcodec.runtime import renderer

    renderer._loaded.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(MediaError, match="temporary file, which cannot be written"):
        tfcodec.decode(stream, runtime="ncnn")
