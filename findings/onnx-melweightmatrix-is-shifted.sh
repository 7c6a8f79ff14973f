#!/usr/bin/env bash
# ONNX's MelWeightMatrix is not the mel filterbank of its definition: its filters lie too low and end below the edge
# asked for.
#
# A network that listens is trained on a mel spectrogram of the textbook (librosa with htk=True and norm=None,
# torchaudio) and exported with MelWeightMatrix in front. The operator divides the mel range by bands + 2 instead of
# bands + 1 and moves every edge down to a bin of the spectrum. onnxruntime and onnx's reference agree on that, so a
# test of one against the other finds nothing. Ship the matrix that the network was trained on as a constant instead.
#
# Guessed before the first run: MelWeightMatrix equals librosa's filters with htk=True, norm=None to 1e-3.
#
# Seen on 2026-11-28 with onnxruntime 1.32.0 and onnx 1.23.2, 80 bands, 512 points, 16 kHz, 0 to 8000 Hz:
#
#   largest difference of a weight            1.0, in weights of 0 to 1
#   centre of the highest filter              257 Hz too low, of the 41st 47 Hz
#   highest frequency with any weight         7719 Hz, of the textbook's 7969 Hz
#   bands of white noise                      rms difference 3.0 dB; 79 filters of 80 differ from each other
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

BANDS, POINTS, RATE, TOP = 80, 512, 16000, 8000.0
given = {
    "bands": np.int64(BANDS), "points": np.int64(POINTS), "rate": np.int64(RATE),
    "low": np.float32(0), "top": np.float32(TOP),
}
graph = helper.make_graph(
    [helper.make_node("MelWeightMatrix", list(given), ["y"])], "g", [],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    [numpy_helper.from_array(np.array(value), name) for name, value in given.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
ours = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {})[0]
reference = ReferenceEvaluator(model).run(None, {})[0]

bins = np.arange(POINTS // 2 + 1)[:, None] * RATE / POINTS
edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + TOP / 700), BANDS + 2) / 2595) - 1)
rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
textbook = np.maximum(0, np.minimum(rising, falling))


def centres(filters):
    return (bins * filters).sum(0) / filters.sum(0)


def highest(filters):
    return bins[filters.sum(1) > 1e-6].max()


shift = centres(ours) - centres(textbook)
power = np.abs(np.fft.rfft(np.random.default_rng(1).normal(size=(200, POINTS)) * np.hanning(POINTS))) ** 2
decibel = 10 * np.log10(power @ ours / (power @ textbook))
print(f"onnxruntime against the reference: {np.abs(ours - reference).max():.1g}; "
      f"against the textbook: {np.abs(ours - textbook).max():.2f}")
print(f"centres: 41st {shift[40]:.0f} Hz, highest {shift[-1]:.0f} Hz")
print(f"highest frequency with any weight: {highest(ours):.0f} Hz, textbook {highest(textbook):.0f} Hz")
print(f"white noise: rms {np.sqrt(np.mean(decibel**2)):.1f} dB; different filters: {len(np.unique(ours, axis=1).T)}")
assert np.abs(ours - reference).max() < 1e-5, "onnxruntime and the reference differ"
assert np.abs(ours - textbook).max() > 0.5, "the textbook's filters"
assert shift[-1] < -200 and shift[40] < -30, "the filters are where they should be"
assert highest(ours) < highest(textbook) - 200, "they reach the edge that was asked for"
assert np.sqrt(np.mean(decibel**2)) > 2
print("as described")
PYTHON
