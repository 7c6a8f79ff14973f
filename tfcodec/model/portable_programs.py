"""Programs of the engine for browsers, out of the graphs of an export: see `program`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .lowering import lower
from .program import Buffer, Written, write


def programs_of(graphs: Mapping[str, bytes]) -> Written:
    """Programs of graphs in ONNX that are given to each other by the names of what goes in and comes out.

    Raises:
        MediaError: a graph has something that the engine cannot.
    """
    io: dict[str, Buffer] = {}
    return write({name: lower(_simple(content), io) for name, content in graphs.items()})


def _simple(content: bytes) -> Any:
    """The graph for a batch of one, with its constants folded and its shapes known."""
    import onnx
    import onnxruntime

    model = onnx.load_from_string(content)
    for x in (*model.graph.input, *model.graph.output):
        x.type.tensor_type.shape.dim[0].dim_value = 1
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(path))
