#!/usr/bin/env bash
# ncnn's pow gives 2.4e38 for 0 squared and for (-3) squared, unless the number stands at the end of its row.
#
# A power in a network (a variance, an energy) becomes ncnn's BinaryOp pow. It computes exp(y * log(x)) for several
# numbers at once, and log(x) has no real value there; the result is neither inf nor NaN but 2.4061436e38, so a test for
# NaN finds nothing. The one to three numbers that are left over go through C's pow and are right, so a small test
# passes. UnaryOp square (0=4) or x * x is right everywhere.
#
# One would guess: (-3) ** 2 is 9 and 0 ** 2 is 0, wherever the number stands.
#
# Seen on 2026-11-28 with ncnn 1.0.20261020 on x86-64, rows of the same number, float32:
#
#   (-3) ** 2, row of 3         9 9 9
#   (-3) ** 2, row of 5         2.4e38 2.4e38 2.4e38 2.4e38 9
#   0 ** 2, row of 5            2.4e38 2.4e38 2.4e38 2.4e38 0
#   2 ** 2, row of 5            4 4 4 4 4
#   square of all of them       9, 0, 4
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check ncnn==1.0.20261020 numpy==2.4.6

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import ncnn
import numpy as np

LAYERS = {"pow": "BinaryOp l 1 1 x y 0=6 1=1 2=2.0", "square": "UnaryOp l 1 1 x y 0=4"}
open(f"{sys.argv[1]}/net.bin", "wb").close()


def computed(layer, row):
    with open(f"{sys.argv[1]}/net.param", "w") as file:
        file.write(f"7767517\n2 2\nInput i 0 1 x\n{LAYERS[layer]}\n")
    net = ncnn.Net()
    net.load_param(f"{sys.argv[1]}/net.param")
    net.load_model(f"{sys.argv[1]}/net.bin")
    extractor = net.create_extractor()
    extractor.input("x", ncnn.Mat(row).clone())
    _, out = extractor.extract("y")
    values = np.array(out).copy()
    del out, extractor
    return values


for value in (-3, 0, 2):
    for count in (3, 5):
        row = np.full(count, value, np.float32)
        power, square = computed("pow", row), computed("square", row)
        print(f"{value:2}, row of {count}: pow {power}, square {square}")
        assert np.array_equal(square, row * row), "square is wrong"
        assert np.allclose(power[4:] if count == 5 else power, value * value), "pow is wrong at the end of a row"
        if count == 5 and value > 0:
            assert np.allclose(power, value * value), "pow is wrong for positive numbers"
        elif count == 5:
            assert np.allclose(power[:4], 2.4061436e38, rtol=1e-5), "pow has another value"
print("as described")
PYTHON
