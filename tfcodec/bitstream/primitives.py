"""Varints, checksums and the error helper: the alphabet that chunks are written in."""

from __future__ import annotations

import binascii
import zlib
from typing import NoReturn

from tfcodec.errors import BitstreamError

MAX_VARINT = 0xFFFF_FFFF
_MAX_VARINT_BYTES = 5


def fail(error: type[BitstreamError], rule: int, offset: int, message: str) -> NoReturn:
    """Raise `error`, with the byte offset in front and the number of the broken rule behind the message."""
    raise error(f"byte {offset}: {message} [R{rule}]")


def crc16(data: bytes | memoryview) -> int:
    """CRC-16/IBM-3740: polynomial 0x1021, start 0xFFFF, not reflected; 0x29B1 for ``b"123456789"``."""
    return binascii.crc_hqx(data, 0xFFFF)


def crc32(data: bytes | memoryview) -> int:
    """CRC-32/ISO-HDLC (IEEE 802.3, zlib); 0xCBF43926 for ``b"123456789"``."""
    return zlib.crc32(data)


def write_varint(value: int) -> bytes:
    """Base-128 digits, most significant first, bit 7 set on all but the last; always the shortest form.

    Raises BitstreamError if `value` is outside 0 .. 2^32-1.
    """
    if not 0 <= value <= MAX_VARINT:
        raise BitstreamError(f"{value} does not fit into a varint (0 to 2^32-1)")
    digits = [value & 0x7F]
    value >>= 7
    while value:
        digits.append(0x80 | (value & 0x7F))
        value >>= 7
    return bytes(reversed(digits))


def zigzag(value: int) -> int:
    """Map 0, -1, 1, -2, ... to 0, 1, 2, 3, ... so that small signed numbers make short varints."""
    return value * 2 if value >= 0 else -value * 2 - 1


def unzigzag(value: int) -> int:
    """The inverse of `zigzag`."""
    return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)


class FieldReader:
    """Reads the fields of one chunk's payload, ``data[position:end]``, which has passed its checksum."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    @property
    def remaining(self) -> int:
        return self.end - self.position

    def byte(self, name: str) -> int:
        if self.position >= self.end:
            fail(BitstreamError, 10, self.position, f"payload ends before its field '{name}'")
        self.position += 1
        return self.data[self.position - 1]

    def varint(self, name: str) -> int:
        start = self.position
        value = self.byte(name)
        if value < 0x80:
            return value
        if value == 0x80:
            fail(BitstreamError, 3, start, f"field '{name}' is a varint with a leading zero digit")
        value &= 0x7F
        while True:
            if self.position - start == _MAX_VARINT_BYTES:
                fail(BitstreamError, 4, start, f"field '{name}' is a varint of more than 5 bytes")
            digit = self.byte(name)
            value = value << 7 | (digit & 0x7F)
            if digit < 0x80:
                break
        if value > MAX_VARINT:
            fail(BitstreamError, 4, start, f"field '{name}' exceeds 2^32-1")
        return value

    def take(self, length: int, name: str) -> bytes:
        if length > self.remaining:
            fail(
                BitstreamError,
                10,
                self.position,
                f"field '{name}' of {length} bytes runs past the payload ({self.remaining} bytes left)",
            )
        self.position += length
        return self.data[self.position - length : self.position]

    def rest(self) -> bytes:
        return self.take(self.remaining, "rest")

    def finish(self, what: str) -> None:
        if self.position != self.end:
            fail(BitstreamError, 11, self.position, f"{self.remaining} bytes follow the last field of {what}")


def read_length(data: bytes, offset: int, end: int) -> tuple[int, int] | None:
    """Read the varint at `offset`; returns (value, next offset), or None if `end` comes first.

    Raises BitstreamError if it is not in the shortest form or exceeds 2^32-1.
    """
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if offset + count >= end:
            return None
        digit = data[offset + count]
        if count == 0 and digit == 0x80:
            fail(BitstreamError, 3, offset, "chunk length is a varint with a leading zero digit")
        value = value << 7 | (digit & 0x7F)
        if digit < 0x80:
            if value > MAX_VARINT:
                fail(BitstreamError, 4, offset, "chunk length exceeds 2^32-1")
            return value, offset + count + 1
    fail(BitstreamError, 4, offset, "chunk length is a varint of more than 5 bytes")
