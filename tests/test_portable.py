"""The network as ONNX: drawn by onnxruntime in a process without torch, it gives torch's pictures."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import psnr

from tfcodec.errors import WeightsError
from tfcodec.model.registry import default_model, models

DRAW = """
import sys
import numpy as np
import onnxruntime as ort

folder, given, out = sys.argv[1:]
data = np.load(given)
run = lambda name, x: ort.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"]).run(None, x)
key = run("keyframe", {"keyframe": data["keyframe"]})
names = [str(name) for name in data["names"]]
key = {name: np.repeat(value, len(data["tiny"]), 0) for name, value in zip(names, key, strict=True)}
guess = run("guess", {"tiny": data["tiny"], "key_small": key["key_small"], "key_marks": key["key_marks"]})[0]
given = {name: data[name] for name in ("tiny", "marks", "displacement")}
picture = run("frame", {**given, **key})[0]
assert "torch" not in sys.modules
np.savez(out, picture=picture, guess=guess, marks=key["key_marks"][:1], face=key["key_face"])
"""


def test_onnxruntime_draws_what_torch_draws(
    exported: Path, moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """One keyframe and three frames, though the graphs were recorded with two of each."""
    import torch

    from tfcodec.model import graph
    from tfcodec.model.blocks import box_down, from_pixels
    from tfcodec.model.weights import load_model

    card = json.loads((exported / "card.json").read_text())
    frames = torch.from_numpy(moving_face[0][[0, 4, 8]])
    windows = box_down(from_pixels(frames), 8)
    tiny = windows[:, None].repeat(1, 5, 1, 1, 1)
    model = load_model(default_model())
    with torch.inference_mode():
        key = model.encode_keyframe(from_pixels(frames[:1]))
        key_of_each = key.select(torch.zeros(3, dtype=torch.long))
        guess = model.guess(key_of_each, tiny)
        marks = guess + 0.03
        displaced = torch.linspace(-3, 3, 36).reshape(3, 12)
        wanted = graph.picture(model, key_of_each, tiny, torch.zeros(3, 20, 80), marks, False, displaced).numpy()
    given, out = tmp_path / "given.npz", tmp_path / "out.npz"
    keyframe = from_pixels(frames[:1]).numpy()
    np.savez(
        given, keyframe=keyframe, tiny=tiny.numpy(), marks=marks.numpy(), displacement=displaced.numpy(),
        names=np.array(card["key"]),
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", DRAW, str(exported), str(given), str(out)], check=True, cwd=tmp_path)
    found = np.load(out)
    assert found["picture"].shape == (3, 256, 256, 3)
    assert psnr(found["picture"], wanted) > 60
    assert key.marks is not None
    np.testing.assert_allclose(found["marks"], key.marks.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["guess"], guess.numpy(), atol=1e-4)


def test_the_card_says_what_the_files_are(exported: Path) -> None:
    import onnx

    card = json.loads((exported / "card.json").read_text())
    entry = default_model()
    assert card["network"] == {"model_id": entry.model_id, "file": entry.file, "sha256": entry.sha256}
    assert card["self_test"]["psnr_db"] >= 60
    assert set(card["graphs"]) == {"keyframe", "frame", "guess", "lips"}
    for name, part in card["graphs"].items():
        content = (exported / part["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        found = onnx.load_from_string(content)
        assert [x.version for x in found.opset_import] == [card["opset"]]
        for given, described in ((found.graph.input, part["inputs"]), (found.graph.output, part["outputs"])):
            assert [x.name for x in given] == [x["name"] for x in described], name
        shapes = [[d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in found.graph.input]
        assert shapes == [x["shape"] for x in part["inputs"]], name


def test_convolutions_suit_webgpu(exported: Path) -> None:
    """Input channels that are a multiple of 3 but not of 4 are computed wrong by onnxruntime-web 1.30 there."""
    import onnx

    widths = []
    for name in ("keyframe", "frame"):
        graph = onnx.shape_inference.infer_shapes(onnx.load(exported / f"{name}.onnx")).graph
        shapes = {x.name: [d.dim_value for d in x.type.tensor_type.shape.dim] for x in graph.value_info}
        shapes |= {x.name: list(x.dims) for x in graph.initializer}
        widths += [shapes[node.input[1]][1] for node in graph.node if node.op_type == "Conv"]
    assert len(widths) > 50
    assert not [width for width in widths if width % 3 == 0 and width % 4]


def test_networks_without_landmarks_are_refused(tmp_path: Path) -> None:
    from tfcodec.model.portable import export_onnx

    with pytest.raises(WeightsError):
        export_onnx(models()[0], tmp_path)
