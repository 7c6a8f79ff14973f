#!/usr/bin/env bash
# safetensors.numpy saves what lies in memory, not what an array shows: transposed weights are saved scrambled.
#
# Weights change their layout on the way from one framework to another, `weight.T` or `weight[:, ::2]`, and are saved.
# safetensors.torch refuses tensors that are not contiguous; safetensors.numpy takes such views, writes their shape and
# the bytes of the memory beneath, and the file loads without an error, with other numbers. Nothing in the file tells.
# `numpy.ascontiguousarray` before saving is safe.
#
# Guessed before the first run: views are saved with the right values, or refused as safetensors.torch does.
#
# Seen on 2026-11-28 with safetensors 0.8.0, float32 [3, 4], saved and loaded again:
#
#   a.T, a[:, ::2], Fortran's order, broadcast    right shape, wrong values
#   big-endian, contiguous                        right
#   the same after numpy.ascontiguousarray        right
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6

"$folder/venv/bin/python" - "$folder/weights.safetensors" <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load, load_file, save, save_file

whole = np.arange(12, dtype=np.float32).reshape(3, 4)
views = {
    "transposed": whole.T,
    "every second column": whole[:, ::2],
    "Fortran's order": np.asfortranarray(whole),
    "broadcast": np.broadcast_to(whole[:, :1], (3, 4)),
    "big-endian": whole.astype(">f4"),
}
for name, view in views.items():
    save_file({"x": view}, sys.argv[1])
    back = load_file(sys.argv[1])["x"]
    equal = np.array_equal(back, view)
    print(f"{name:20} begins {view.ravel()[:4]}, loaded {back.ravel()[:4]}: {'right' if equal else 'wrong'}")
    assert back.shape == view.shape, "another shape"
    assert equal == (name == "big-endian"), "strides are followed now"
    assert np.array_equal(load(save({"x": np.ascontiguousarray(view)}))["x"], view), "a contiguous copy is wrong"
print("as described")
PYTHON
