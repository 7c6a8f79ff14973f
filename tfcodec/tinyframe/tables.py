"""The shipped integer tables: transforms, quantiser steps and the entropy model's weights.

One binary file, `tables.bin`: 8 bytes magic, then for each array in the order of `layout` its values, big-endian,
row by row. Nothing else is in the file, so its length is fixed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from tfcodec.errors import WeightsError
from tfcodec.tinyframe.planes import SAMPLES, IntArray

TABLES_ID = 1
TABLES_SHA256 = "db62244356a4cfc14570c79d0995fa1301283c0f8f02a971fd89155a34acd44c"
MAGIC = b"TFTABLE1"

SIZES = (1, 2, 4, 8, 16, 32)  # group lengths in frames
ROWS = sum(SIZES)  # one row of coefficients per temporal frequency of each group length
CLASSES = 4  # single frame; first, second, later row of a group
BINS = 8  # activity levels
STEPS = 64
STEP_BINS = 16
SCORE_LIMIT = 320  # scores are log-odds in 1/32 nat

Layout = tuple[tuple[str, str, tuple[int, ...]], ...]


def layout(samples: int) -> Layout:
    """Name, type and shape of each array of a coder of rows of `samples` coefficients, in the file's order."""
    n = samples
    return (
        ("forward", ">i2", (n, n)),
        ("inverse", ">i2", (n, n)),
        ("temporal", ">i2", (sum(k * k for k in SIZES),)),
        ("steps", ">i2", (STEPS,)),
        ("weight_of_one", ">i4", (2 * SCORE_LIMIT,)),
        ("group_split", ">i2", (len(SIZES) + 1, len(SIZES))),
        ("filled_row", ">i2", (ROWS,)),
        ("filled_recent", ">i2", (CLASSES, BINS)),
        ("filled_density", ">i2", (CLASSES, BINS)),
        ("filled_step", ">i2", (CLASSES, STEP_BINS)),
        ("zero_row", ">i2", (ROWS, n)),
        ("zero_recent", ">i2", (CLASSES, BINS, n)),
        ("zero_density", ">i2", (CLASSES, BINS, n)),
        ("zero_step", ">i2", (CLASSES, STEP_BINS, n)),
        ("zero_previous", "i1", (CLASSES, n, n)),
        ("zero_trace", "i1", (CLASSES, n, n)),
        ("zero_current", "i1", (CLASSES, n, n)),
        ("sign_previous", "i1", (CLASSES, n, n)),
        ("sign_current", "i1", (CLASSES, n, n)),
        ("large", ">i2", (2, CLASSES, n)),
        ("large_score", ">i2", (2, CLASSES, 2 * SCORE_LIMIT // 32)),
        ("larger", ">i2", (12,)),
    )


LAYOUT = layout(SAMPLES)


@dataclass(frozen=True)
class Tables:
    """The arrays of a layout as int64."""

    arrays: dict[str, IntArray]
    sha256: str

    def __getattr__(self, name: str) -> IntArray:
        try:
            return self.arrays[name]
        except KeyError:
            raise AttributeError(name) from None


def table_bytes(arrays: dict[str, IntArray], arrangement: Layout = LAYOUT, magic: bytes = MAGIC) -> bytes:
    """The file's content for these arrays."""
    parts = [magic]
    for name, kind, shape in arrangement:
        values = arrays[name]
        if values.shape != shape:
            raise WeightsError(f"table {name} must have shape {shape}, not {values.shape}")
        stored = values.astype(kind)
        if not np.array_equal(stored, values):
            raise WeightsError(f"table {name} does not fit {kind}")
        parts.append(stored.tobytes())
    return b"".join(parts)


def parse_tables(content: bytes, arrangement: Layout = LAYOUT, magic: bytes = MAGIC) -> Tables:
    """Read a table file; the caller checks its hash."""
    expected = len(magic) + sum(np.dtype(kind).itemsize * int(np.prod(shape)) for _, kind, shape in arrangement)
    if len(content) != expected or not content.startswith(magic):
        raise WeightsError(f"the tables are not {expected} bytes beginning with {magic!r}")
    arrays: dict[str, IntArray] = {}
    offset = len(magic)
    for name, kind, shape in arrangement:
        count = int(np.prod(shape))
        array = np.frombuffer(content, kind, count, offset).astype(np.int64).reshape(shape)
        array.flags.writeable = False
        arrays[name] = array
        offset += count * np.dtype(kind).itemsize
    return Tables(arrays, hashlib.sha256(content).hexdigest())


def packaged(package: str, name: str, sha256: str) -> bytes:
    """The file `name`.bin of one of the library's packages.

    Raises:
        WeightsError: it is missing or is not the one this version was made with.
    """
    try:
        content = resources.files(f"tfcodec.{package}").joinpath(f"{name}.bin").read_bytes()
    except OSError as error:
        raise WeightsError(f"{package}/{name}.bin is missing from the installation: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise WeightsError(f"{package}/{name}.bin is damaged: SHA-256 {digest}, expected {sha256}")
    return content


@cache
def load_tables() -> Tables:
    """The tables that come with the package.

    Raises:
        WeightsError: the file is missing or is not the one this version was made with.
    """
    return parse_tables(packaged("tinyframe", "tables", TABLES_SHA256))


def tables_sha256() -> str:
    """SHA-256 of the tables in use, in hex: two coders with the same value give the same symbols."""
    return load_tables().sha256
