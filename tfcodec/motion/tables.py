"""The motion coder's integer tables, for rows of 16 numbers."""

from __future__ import annotations

import hashlib
from functools import cache

from tfcodec.motion.geometry import NUMBERS, bases_content
from tfcodec.tinyframe.numbers import check_named, numbers_layout
from tfcodec.tinyframe.tables import Tables, packaged, parse_tables

MOTION_ID = 1  # of these tables together with the components
TABLES_SHA256 = "b31b75e6d081dbf0bc84de6052dad92565b3e47de9060a32757faf93d72fa89f"
MAGIC = b"TFMOTTA1"
LAYOUT = numbers_layout(NUMBERS)


@cache
def load_tables() -> Tables:
    """The tables that come with the package.

    Raises:
        WeightsError: the file is missing or is not the one this version was made with.
    """
    return parse_tables(packaged("motion", "tables", TABLES_SHA256), LAYOUT, MAGIC)


@cache
def motion_hash() -> bytes:
    """What a stream names components and tables by: 4 bytes of the SHA-256 of bases.bin followed by tables.bin."""
    return hashlib.sha256(bases_content() + packaged("motion", "tables", TABLES_SHA256)).digest()[:4]


def check_motion(motion_id: int, named: bytes) -> None:
    """Raise unless a stream's motion layer is coded with the components and tables of this package.

    Raises:
        UnsupportedVersion: it names others.
    """
    check_named("motion", (motion_id, named), (MOTION_ID, motion_hash()), 62)
