#!/usr/bin/env bash
# onnxoptimizer's default passes give two Reshapes in a row another shape, and MaxPool after Pad other values.
#
# In Reshape a 0 copies a size of the input. Fusing two of them, the optimiser keeps the second's 0, which then copies
# from another tensor. As the number of elements fits, nothing fails; only the shape is another, and with it whatever is
# computed along an axis later. Pad with zeros in front of MaxPool moves into MaxPool's own padding, where zeros do not
# take part: negative maxima appear at the rim. onnxslim, onnxsim and onnxruntime's own optimiser keep both right.
# Compare outputs before and after, on negative inputs too.
#
# Guessed before the first run: the optimised network gives the same bits.
#
# Seen on 2026-11-28 with onnxoptimizer 0.4.2, onnx 1.23.2 and onnxruntime 1.32.0, `onnxoptimizer.optimize(model)`:
#
#                                                       before       after
#   [4, 6] by [2, 12], then by [0, 3, -1]; shape        [2, 3, 4]    [4, 3, 2]
#   -1, zeros around it, MaxPool 3x3; corner            0            -1
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnxoptimizer==0.4.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxoptimizer
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def network(nodes, shape, constants):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def both(model, x):
    optimised = onnxoptimizer.optimize(model)
    for name, network_of in (("before", model), ("after", optimised)):
        print("operators", name, [node.op_type for node in network_of.graph.node])
    return run(model, x), run(optimised, x)


reshape = network(
    [helper.make_node("Reshape", ["x", "first"], ["a"]), helper.make_node("Reshape", ["a", "second"], ["y"])],
    [4, 6], {"first": [2, 12], "second": [0, 3, -1]},
)
before, after = both(reshape, np.arange(24, dtype=np.float32).reshape(4, 6))
print("shape before", before.shape, "after", after.shape)
assert before.shape == (2, 3, 4), "onnxruntime reads 0 otherwise"
assert after.shape == (4, 3, 2), "the optimiser has another shape"

pool = network(
    [helper.make_node("Pad", ["x", "pads"], ["a"]), helper.make_node("MaxPool", ["a"], ["y"], kernel_shape=[3, 3])],
    [1, 1, 8, 8], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
)
before, after = both(pool, np.full((1, 1, 8, 8), -1, np.float32))
print("corner before", before[0, 0, 0, 0], "after", after[0, 0, 0, 0])
assert before.shape == after.shape
assert before[0, 0, 0, 0] == 0, "padding does not take part before"
assert after[0, 0, 0, 0] == -1, "padding takes part after"
print("as described")
PYTHON
