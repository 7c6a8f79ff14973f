"""The network as ONNX files, for programs without torch: `tfcodec export onnx`.

Four graphs, as a decoder needs them at different times: the keyframe part once a keyframe, the frame part for every
frame, the guess for frames whose motion was not sent, and the lips for those of them that have sound. Between them lies
arithmetic that is too small for a graph: `tfcodec.motion.synthesise`. Weights are stored in float16, as in the package,
and computed with in float32.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import MediaError, WeightsError
from ..files import make_folder, write_atomically
from . import graph
from .blocks import box_down
from .displacement import DISPLACEMENTS, PER_PIXEL
from .inputs import LIPS_COLUMNS, LIPS_FUTURE, LIPS_REACH, MEL_BANDS, MEL_COLUMNS, WINDOW
from .landmarks import COUNT
from .lips import LIPS_SHA256, load_lips
from .portable_lips import PortableLips
from .portable_programs import programs_of
from .registry import ModelEntry
from .stage1 import KeyframeFeatures
from .upsampler import Upsampler
from .weights import load_model

OPSET = 17
"""The first with LayerNormalization; GridSample is there from 16 on."""
KEY = KeyframeFeatures._fields
NEEDED_DB = 60.0
"""PSNR against torch below which an export is refused."""
_BATCH = 2  # of the examples that the graphs are recorded with


@dataclass(frozen=True)
class Tensors:
    """An input or output: its name, its shape without the batch, its range and what it is."""

    name: str
    shape: tuple[int, ...]
    meaning: str
    range: tuple[float, float] | None = None
    type: str = "float32"

    def as_dict(self) -> dict[str, Any]:
        """For the card; the batch is called N."""
        return {"name": self.name, "type": self.type, "shape": ["N", *self.shape], "meaning": self.meaning} | (
            {} if self.range is None else {"range": list(self.range)}
        )


_TINY = Tensors(
    "tiny", (WINDOW, 3, 8, 8), "tiny frames in RGB around the frame to draw, which is in the middle; the ends of the "
    "keyframe's frames repeat", (0, 1),
)  # fmt: skip
_MEL = Tensors(
    "mel", (LIPS_COLUMNS, MEL_BANDS), f"log-mel of the speech (specification, 9.4) of {LIPS_REACH} frames before each "
    f"to {LIPS_FUTURE} after; silence where it is not there", (-1, 1),
)  # fmt: skip
_GUESSED = Tensors(
    "guessed", (1,), "1 if the frame's landmarks are the guess, since no motion was sent; 0 if they were held, since "
    "it was lost", (0, 1),
)  # fmt: skip
_DISPLACEMENT = Tensors(
    "displacement", (DISPLACEMENTS,), "numbers of the displacement layer in pixels, of which what is sent has "
    f"{PER_PIXEL} parts each; zeros without the layer",
)  # fmt: skip
_MARKS = "landmarks, x and y, over the picture: pixel p lies at p / 128 - 1"


class _Keyframe(nn.Module):
    def __init__(self, model: Upsampler) -> None:
        super().__init__()
        self.model = model

    def forward(self, keyframe: Tensor) -> list[Tensor]:
        return [value for value in self.model.encode_keyframe(keyframe) if value is not None]


class _Frame(nn.Module):
    def __init__(self, model: Upsampler) -> None:
        super().__init__()
        self.model = model

    def forward(self, tiny: Tensor, marks: Tensor, displacement: Tensor, *key: Tensor) -> Tensor:
        silence = torch.zeros(1, MEL_COLUMNS, MEL_BANDS)  # these networks do not hear
        return graph.picture(self.model, KeyframeFeatures(*key), tiny, silence, marks, False, displacement)


class _Guess(nn.Module):
    def __init__(self, model: Upsampler) -> None:
        super().__init__()
        self.model = model

    def forward(self, tiny: Tensor, key_small: Tensor, key_marks: Tensor) -> Tensor:
        prior = self.model.stage1.prior
        assert prior is not None
        return prior.guess(key_marks, box_down(key_small, 8), tiny)


@torch.no_grad()
def export_onnx(entry: ModelEntry, folder: str | Path) -> dict[str, Any]:
    """Write keyframe.onnx, frame.onnx, guess.onnx, lips.onnx, programs of the same names for browsers, and their card,
    card.json, into a folder; it is made.

    Args:
        entry: which network; it has to be one that takes landmarks (3 or later).

    Returns:
        The card: what goes in and comes out of each graph, the hash of the weights, what the self-test found.

    Raises:
        WeightsError: the network's weights are not there, or it is one of those before landmarks.
        MediaError: `onnx` or `onnxruntime` is not installed, or the graphs do not draw what torch draws.
    """
    _require()
    model = load_model(entry)
    if not model.config.motion or not model.config.closeups or model.config.audio:
        raise WeightsError(f"network {entry.title} takes no landmarks: only later ones can be exported")
    folder = make_folder(folder)
    picture, tiny = _example()
    key = [value for value in model.encode_keyframe(picture) if value is not None]
    named = dict(zip(KEY, key, strict=True))
    names = [f"key_{name}" for name in KEY]
    about = [Tensors(f"key_{name}", tuple(value.shape[1:]), "of the keyframe part") for name, value in named.items()]
    of_keyframe = [Tensors("keyframe", (3, 256, 256), "the decoded keyframe in RGB", (0, 1))]
    drawn = Tensors("picture", (256, 256, 3), "the frame in RGB", (0, 255), "uint8")
    marks = Tensors("marks", (COUNT, 2), f"the frame's {_MARKS}", (-1, 1))
    by_name = {x.name: x for x in about}
    parts = (
        ("keyframe", _Keyframe(model), (picture,), of_keyframe, about),
        (
            "frame", _Frame(model), (tiny, named["marks"], _example_displacement(), *key),
            [_TINY, marks, _DISPLACEMENT, *about], [drawn],
        ),
        (
            "guess", _Guess(model), (tiny, named["small"], named["marks"]),
            [_TINY, by_name["key_small"], by_name["key_marks"]], [marks],
        ),
        (
            "lips", PortableLips(load_lips()), (_example_sound(), named["marks"], named["marks"], torch.ones(1, 1)),
            [_MEL, by_name["key_marks"], marks, _GUESSED], [dataclasses.replace(marks, name="heard")],
        ),
    )  # fmt: skip
    files, contents = {}, {}
    for name, module, given, inputs, outputs in parts:
        content = _record(module, given, [x.name for x in inputs], [x.name for x in outputs])
        write_atomically(folder / f"{name}.onnx", content)
        contents[name] = content
        files[name] = {
            "file": f"{name}.onnx", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
            "inputs": [x.as_dict() for x in inputs], "outputs": [x.as_dict() for x in outputs],
        }  # fmt: skip
    made = programs_of(contents)
    for name, content in made.files.items():
        write_atomically(folder / f"{name}.program", content)
    named_by = entry.full  # whose streams it draws
    card = {
        "network": {"model_id": named_by.model_id, "file": named_by.file, "sha256": named_by.sha256},
        **({"stand_in": {"name": entry.name, "file": entry.file, "sha256": entry.sha256}} if entry.name else {}),
        "lips": {"sha256": LIPS_SHA256},
        "programs": {**made.memory, "files": {
            name: {"file": f"{name}.program", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in made.files.items()
        }},
        "opset": OPSET, "computes_in": "float32", "stores_weights_in": "float16", "graphs": files,
        "landmarks": _MARKS, "key": names,
        "self_test": _self_test(model, folder, picture, tiny),
    }  # fmt: skip
    write_atomically(folder / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    return card


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MediaError(f"export needs the package {error.name}: pip install 'tfcodec[onnx]'") from None


def _example() -> tuple[Tensor, Tensor]:
    """Keyframes [2, 3, 256, 256] and windows [2, 5, 3, 8, 8] that are no face, but smooth and of all colours."""
    line = torch.linspace(0, 3, 256)
    waves = [
        0.5 + 0.3 * torch.sin(a * line[:, None] + b * line + c) for a, b, c in
        ((3, 1, 0), (2, 5, 1), (7, 2, 2), (4, 4, 3), (1, 6, 4), (5, 3, 5))
    ]  # fmt: skip
    picture = torch.stack(waves).reshape(_BATCH, 3, 256, 256)
    small = box_down(picture, 8)
    steps = torch.linspace(-0.05, 0.05, WINDOW)[None, :, None, None, None]
    return picture, (small[:, None] + steps).clamp(0, 1)


def _example_sound() -> Tensor:
    """Log-mel [2, 148, 80] of no sound in particular."""
    columns, bands = _MEL.shape
    return (torch.arange(_BATCH * columns * bands) * 0.37).sin().reshape(_BATCH, columns, bands)


def _example_displacement() -> Tensor:
    """Displacements [2, 12] by a pixel or three."""
    return (3 * torch.sin(torch.arange(1, 1 + _BATCH * DISPLACEMENTS))).reshape(_BATCH, DISPLACEMENTS)


def _record(module: nn.Module, given: Sequence[Tensor], inputs: list[str], outputs: list[str]) -> bytes:
    import onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module.eval(), tuple(given), str(path), input_names=inputs, output_names=outputs, opset_version=OPSET,
            dynamic_axes={name: {0: "N"} for name in [*inputs, *outputs]}, dynamo=False,
        )  # fmt: skip
        found = onnx.load(str(path))
    _pad_channels(found)
    _store_in_halves(found)
    onnx.checker.check_model(found)
    content: bytes = found.SerializeToString()
    return content


def _pad_channels(model: Any) -> None:
    """Give convolutions whose input channels are a multiple of 3 but not of 4 some more, which are zeros.

    Nothing changes by it, but that onnxruntime-web computes them right on WebGPU. Its kernel for groups of three
    channels (1.30) gives pictures that are wrong by up to half of their range.
    """
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    padded: dict[str, str] = {}
    nodes: list[Any] = []
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if weight is not None and groups == 1 and weight.dims[1] % 3 == 0 and weight.dims[1] % 4:
            extra = -weight.dims[1] % 4
            if weight.name not in padded:
                padded[weight.name] = f"{weight.name}.padded"
                values = np.pad(numpy_helper.to_array(weight), ((0, 0), (0, extra), (0, 0), (0, 0)))
                model.graph.initializer.append(numpy_helper.from_array(values, padded[weight.name]))
            ends = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, extra, 0, 0], np.int64), f"{node.output[0]}.ends")
            model.graph.initializer.append(ends)
            wide = f"{node.output[0]}.wide"
            nodes.append(helper.make_node("Pad", [node.input[0], ends.name], [wide], wide))
            node.input[0], node.input[1] = wide, padded[weight.name]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)


def _store_in_halves(model: Any) -> None:
    """Store weights in float16 where nothing is lost by it: every one was read from float16. A runtime folds the casts
    when it loads the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size < 64 or not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _self_test(model: Upsampler, folder: Path, picture: Tensor, tiny: Tensor) -> dict[str, float]:
    """PSNR in dB of the graphs' pictures against torch's. Raises MediaError below `NEEDED_DB`."""
    import onnxruntime

    def session(name: str) -> Any:
        return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])

    key = model.encode_keyframe(picture)
    marks = model.guess(key, tiny)
    shifted = marks + 0.02 * torch.sin(torch.arange(2 * COUNT).reshape(COUNT, 2))
    displaced, silence = _example_displacement(), torch.zeros(1, MEL_COLUMNS, MEL_BANDS)
    wanted = graph.picture(model, key, tiny, silence, shifted, False, displaced).numpy()
    found_key = session("keyframe").run(None, {"keyframe": picture.numpy()})
    features = {f"key_{name}": value for name, value in zip(KEY, found_key, strict=True)}
    guessed = session("guess").run(None, {
        "tiny": tiny.numpy(), "key_small": features["key_small"], "key_marks": features["key_marks"],
    })[0]  # fmt: skip
    sound = _example_sound()
    assert key.marks is not None
    lips = PortableLips(load_lips())
    lips_error = 0.0
    for kind in (torch.zeros(1, 1), torch.ones(1, 1)):
        found_lips = session("lips").run(None, {
            "mel": sound.numpy(), "key_marks": features["key_marks"], "marks": shifted.numpy(),
            "guessed": kind.numpy(),
        })[0]  # fmt: skip
        error = np.abs(found_lips - lips(sound, key.marks, shifted, kind).numpy()).max()
        lips_error = max(lips_error, float(error))
    given = {"tiny": tiny.numpy(), "marks": shifted.numpy(), "displacement": displaced.numpy()}
    drawn = session("frame").run(None, {**given, **features})[0]
    error = np.square(drawn.astype(np.float64) - wanted).mean()
    result = {
        "psnr_db": round(float(min(99.0, 10 * np.log10(255**2 / max(error, 1e-9)))), 1),
        "guess_max_error": float(np.abs(guessed - marks.numpy()).max()),
        "lips_max_error": lips_error,
    }
    if result["psnr_db"] < NEEDED_DB or max(result["guess_max_error"], result["lips_max_error"]) > 1e-3:
        raise MediaError(f"the exported network does not draw what torch draws: {result}")
    return result
