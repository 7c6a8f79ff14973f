"""The displacement coder's integer tables, for rows of 12 numbers."""

from __future__ import annotations

from functools import cache

from tfcodec.tinyframe.numbers import check_named, numbers_layout
from tfcodec.tinyframe.tables import Tables, packaged, parse_tables

NUMBERS = 12
UNIT = 32  # numbers are in 1/32 pixel
DISPLACEMENT_ID = 1  # of these tables
TABLES_SHA256 = "17feef6765214ac7139962df0afd57909651bb561fc291b7732505beb0242daf"
MAGIC = b"TFDSPTA1"
LAYOUT = numbers_layout(NUMBERS)


@cache
def load_tables() -> Tables:
    """The tables that come with the package.

    Raises:
        WeightsError: the file is missing or is not the one this version was made with.
    """
    return parse_tables(packaged("displacement", "tables", TABLES_SHA256), LAYOUT, MAGIC)


def displacement_hash() -> bytes:
    """What a stream names the tables by: 4 bytes of the SHA-256 of tables.bin."""
    return bytes.fromhex(TABLES_SHA256[:8])


def check_displacement(displacement_id: int, named: bytes) -> None:
    """Raise unless a stream's displacement layer is coded with the tables of this package.

    Raises:
        UnsupportedVersion: it names others.
    """
    check_named("displacement", (displacement_id, named), (DISPLACEMENT_ID, displacement_hash()), 73)
