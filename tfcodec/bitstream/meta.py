"""Ancillary chunks: crop geometry and free text, padding, and whatever a newer writer adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfcodec.bitstream.framing import build_chunk
from tfcodec.bitstream.limits import Limits
from tfcodec.bitstream.primitives import FieldReader, fail, unzigzag, write_varint, zigzag
from tfcodec.errors import BitstreamError

_TAG_CROP = 1
_TAG_TEXT = 2


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BitstreamError(f"{text!r} cannot be written as UTF-8") from None


@dataclass(frozen=True, slots=True)
class CropRegion:
    """The square of the source picture that the stream shows, from `first_frame` until the next region."""

    first_frame: int
    source_width: int
    """Width of the source picture in pixels, after its display rotation has been applied."""
    source_height: int
    x: int
    """Left edge in 1/16 pixel; negative if the square reaches beyond the picture."""
    y: int
    """Top edge in 1/16 pixel."""
    side: int
    """Side of the square in 1/16 pixel."""


@dataclass(frozen=True, slots=True)
class MetaChunk:
    """Crop geometry and key/value texts. Not written unless asked for."""

    TYPE: ClassVar[int] = 7

    crops: tuple[CropRegion, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if it would be empty or a field cannot be written."""
        payload = b""
        for crop in self.crops:
            numbers = (crop.first_frame, crop.source_width, crop.source_height)
            body = b"".join(map(write_varint, (*numbers, zigzag(crop.x), zigzag(crop.y), crop.side)))
            payload += bytes([_TAG_CROP]) + write_varint(len(body)) + body
        for key, value in self.texts:
            key_bytes = _utf8(key)
            body = write_varint(len(key_bytes)) + key_bytes + _utf8(value)
            payload += bytes([_TAG_TEXT]) + write_varint(len(body)) + body
        return build_chunk(self.TYPE, payload)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> MetaChunk:
        """Parse the payload; items of unknown tag are left out."""
        del limits  # the payload's length bounds everything
        crops: list[CropRegion] = []
        texts: list[tuple[str, str]] = []
        while reader.remaining:
            tag = reader.byte("item_tag")
            length = reader.varint("item_length")
            start = reader.position
            reader.take(length, "item")
            item = FieldReader(reader.data, start, reader.position)
            if tag == _TAG_CROP:
                first_frame, width, height = (item.varint(name) for name in ("first_frame", "width", "height"))
                x, y = unzigzag(item.varint("x")), unzigzag(item.varint("y"))
                crops.append(CropRegion(first_frame, width, height, x, y, item.varint("side")))
                item.finish("crop region")
                if not (width and height and crops[-1].side):
                    fail(BitstreamError, 37, start, "crop region without extent")
            elif tag == _TAG_TEXT:
                key = item.take(item.varint("key_length"), "key")
                try:
                    texts.append((key.decode(), item.rest().decode()))
                except UnicodeDecodeError:
                    fail(BitstreamError, 37, start, "text that is not UTF-8")
        return cls(tuple(crops), tuple(texts))


@dataclass(frozen=True, slots=True)
class PaddingChunk:
    """Bytes without meaning."""

    TYPE: ClassVar[int] = 8

    length: int
    """Payload bytes, at least 1."""

    def to_bytes(self) -> bytes:
        """The whole chunk, filled with zeros."""
        return build_chunk(self.TYPE, bytes(max(self.length, 0)))

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> PaddingChunk:
        """Parse the payload, whose content does not matter."""
        del limits  # the payload's length bounds everything
        return cls(reader.remaining)


@dataclass(frozen=True, slots=True)
class UnknownChunk:
    """An ancillary chunk of a type that this reader does not know."""

    chunk_type: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """The whole chunk."""
        return build_chunk(self.chunk_type, self.payload)
