"""Displacement layer: where the picture lies beside where the network would draw it, as 12 numbers a frame.

The numbers are in 1/32 pixel of the picture of 256x256, -32767..32767, and 0 where the picture stays: numbers 0-5
displace it horizontally, 6-11 vertically, by the polynomials 1, x, y, x*y, (3x^2-1)/2 and (3y^2-1)/2, with x, y = -1..1
over the picture. Its place p shows what would else be drawn at p + displacement(p).
"""

from tfcodec.displacement.decoder import DisplacementDecoder
from tfcodec.displacement.encoder import DisplacementEncoder
from tfcodec.displacement.tables import (
    DISPLACEMENT_ID,
    NUMBERS,
    TABLES_SHA256,
    UNIT,
    check_displacement,
    displacement_hash,
)

__all__ = [
    "DISPLACEMENT_ID",
    "NUMBERS",
    "TABLES_SHA256",
    "UNIT",
    "DisplacementDecoder",
    "DisplacementEncoder",
    "check_displacement",
    "displacement_hash",
]
