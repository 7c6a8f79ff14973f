#!/usr/bin/env bash
# ncnn.Mat(array) takes an array's shape and its memory, but not its strides and hardly its type.
#
# Pictures lie as height, width, channel; networks want the channel first. `ncnn.Mat(picture.transpose(2, 0, 1))` has
# the right shape and scrambled pixels, without an error, and so has every other view: a crop, every second row, an
# array in Fortran's order. Integers are read as the bits of floats. What goes in has to be made contiguous and
# float32 first.
#
# Guessed before the first run: ncnn copies such an array in the order of its indices, as torch and onnxruntime do, or
# refuses it; int32 is refused or converted.
#
# Seen on 2026-11-28 with ncnn 1.0.20261020:
#
#   transposed, Fortran's order, every second column    the shape of the view, the values in the order of the memory
#   Mat.from_pixels of a crop                           the same
#   int32 1, 2, 3                                       float32 1.4e-45, 2.8e-45, 4.2e-45
#   the same after numpy.ascontiguousarray(x, float32)  right
#
# The script makes its own input and runs for a second after the packages are there. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check ncnn==1.0.20261020 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import ncnn
import numpy as np

picture = np.arange(8 * 6 * 3, dtype=np.float32).reshape(8, 6, 3)
columns = np.arange(8 * 6, dtype=np.float32).reshape(8, 6)
views = {
    "transposed, channels first": (picture.transpose(2, 0, 1), picture),
    "Fortran's order": (columns.T, columns),
    "every second column": (columns[:, ::2], columns),
}
for name, (view, owner) in views.items():
    seen = np.array(ncnn.Mat(view))
    print(f"{name:27} {view.shape}, begins {view.ravel()[:4]}, in ncnn {seen.ravel()[:4]}")
    assert seen.shape == view.shape, "another shape"
    assert not np.array_equal(seen, view), "strides are followed now"
    assert np.array_equal(seen.ravel(), owner.ravel()[: view.size]), "not the values in the order of the memory"
    packed = np.ascontiguousarray(view, np.float32)
    assert np.array_equal(np.array(ncnn.Mat(packed)), view), "a contiguous array is wrong, too"

whole = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
for name, crop, right in (("crop", whole[2:6, 1:5], False), ("crop, contiguous", whole[2:6, 1:5].copy(), True)):
    seen = np.array(ncnn.Mat.from_pixels(crop, ncnn.Mat.PixelType.PIXEL_RGB, crop.shape[1], crop.shape[0]))
    equal = np.array_equal(seen, crop.transpose(2, 0, 1))
    print(f"from_pixels, {name}: the crop's pixels: {equal}")
    assert equal == right, "from_pixels treats a crop otherwise"

integers = np.array([1, 2, 3], np.int32)
seen = np.array(ncnn.Mat(integers))
print(f"int32 {integers} in ncnn: {seen.dtype} {seen}")
assert seen.dtype == np.float32 and np.array_equal(seen.view(np.int32), integers), "int32 is not taken for float32"
print("as described")
PYTHON
