"""The engine for browsers draws what onnxruntime draws; Node runs it, with the module's own loader."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import psnr

from tfcodec.errors import MediaError

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "tfcodec/web/module"
NODE = shutil.which("node")
RUN = """
import fs from "node:fs";
const [module, folder, given, out] = process.argv.slice(2);
const { Programs, parseProgram } = await import(`${module}/programs.js`);
const card = JSON.parse(fs.readFileSync(`${folder}/card.json`));
const programs = new Programs("", card.programs);
await programs.start(new WebAssembly.Module(fs.readFileSync(`${module}/engine.wasm`)));
const file = (name) => new Uint8Array(fs.readFileSync(name));
for (const name of Object.keys(card.graphs)) programs.put(name, file(`${folder}/${name}.program`));
const floats = (name) => new Float32Array(file(`${given}/${name}.f32`).buffer);
const save = (name, values) => fs.writeFileSync(`${out}/${name}.f32`, new Uint8Array(values.slice().buffer));
const key = await programs.keyframe(floats("keyframe"));
save("key_marks", key.marks);
const other = await programs.keyframe(floats("other")); // and back
save("other", await programs.frame(other, floats("tiny"), floats("marks"), floats("displacement")));
save("picture", await programs.frame(key, floats("tiny"), floats("marks"), floats("displacement")));
save("guess", await programs.guess(key, floats("tiny")));
save("held", await programs.lips(key, floats("mel"), floats("marks"), false));
save("heard", await programs.lips(key, floats("mel"), floats("marks"), true));
const whole = file(`${folder}/guess.program`);
for (const bad of [whole.subarray(0, 5), whole.subarray(4), whole.subarray(0, whole.length - 4)]) {
  try {
    parseProgram(bad);
    throw new Error("a damaged program was taken");
  } catch (error) {
    if (error.name !== "WeightsError") throw error;
  }
}
"""


@pytest.mark.skipif(NODE is None, reason="needs Node, which runs the module: apt-get install nodejs")
def test_engine_draws_what_onnxruntime_draws(
    exported: Path, moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    import onnxruntime

    def run(name: str, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(str(exported / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        found: list[np.ndarray] = session.run(None, given)
        return found

    card = json.loads((exported / "card.json").read_text())
    pictures = moving_face[0][[0, 9]].astype(np.float32).transpose(0, 3, 1, 2) / 255
    keys = [dict(zip(card["key"], run("keyframe", {"keyframe": p[None]}), strict=True)) for p in pictures]
    key = keys[0]
    tiny = pictures[1].reshape(3, 8, 32, 8, 32).mean((2, 4))[None, None].repeat(5, 1)
    marks = key["key_marks"] + 0.02 * np.sin(np.arange(140, dtype=np.float32)).reshape(1, 70, 2)
    mel = np.sin(np.arange(148 * 80, dtype=np.float32) * 0.37).reshape(1, 148, 80)
    guess = run("guess", {"tiny": tiny, "key_small": key["key_small"], "key_marks": key["key_marks"]})[0]
    of_lips = {"mel": mel, "key_marks": key["key_marks"], "marks": marks}
    held, heard = (run("lips", {**of_lips, "guessed": np.full((1, 1), x, np.float32)})[0] for x in (0, 1))
    assert np.abs(held - heard).max() > 1e-3
    frame = {"tiny": tiny, "marks": marks, "displacement": np.linspace(-3, 3, 12, dtype=np.float32)[None]}
    wanted = [run("frame", {**frame, **k})[0].astype(np.float64).ravel() for k in keys]

    given = {"keyframe": pictures[0], "other": pictures[1], "mel": mel, **frame}
    for name, values in given.items():
        values.astype("<f4").tofile(tmp_path / f"{name}.f32")
    script = tmp_path / "run.mjs"
    script.write_text(RUN)
    subprocess.run([str(NODE), str(script), MODULE.as_uri().removeprefix("file://"), str(exported), *[tmp_path] * 2],
                   check=True)  # fmt: skip

    def found(name: str) -> np.ndarray:
        return np.fromfile(tmp_path / f"{name}.f32", "<f4")

    for name, picture in (("picture", wanted[0]), ("other", wanted[1])):
        assert psnr(found(name), picture) > 60
    np.testing.assert_allclose(found("key_marks"), key["key_marks"].ravel(), atol=1e-4)
    np.testing.assert_allclose(found("guess"), guess.ravel(), atol=1e-4)
    np.testing.assert_allclose(found("held"), held.ravel(), atol=1e-4)
    np.testing.assert_allclose(found("heard"), heard.ravel(), atol=1e-4)


def test_graphs_with_unknown_operators_are_refused() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    from tfcodec.model.portable_programs import programs_of

    pytest.importorskip("onnxruntime")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    with pytest.raises(MediaError, match="Erf"):
        programs_of({"frame": model.SerializeToString()})


def test_odd_sizes_that_would_be_halved_are_refused() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    from tfcodec.model.portable_programs import programs_of

    pytest.importorskip("onnxruntime")
    sizes = {"x": (8, 7), "y": (4, 4)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, *size]) for name, size in sizes.items()]
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    weights = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    with pytest.raises(MediaError, match="odd"):
        programs_of({"frame": model.SerializeToString()})


def test_engine_is_what_its_source_says(tmp_path: Path) -> None:
    """The compiler is pinned: the same version makes the same bytes."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the compiler: pip install ziglang==0.17.1")
    subprocess.run([sys.executable, str(ROOT / "tfcodec/web/engine/build.py"), str(tmp_path)], check=True)
    for path in MODULE.glob("*.wasm"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
