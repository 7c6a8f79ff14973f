"""Whole files: reading them strictly, or past damage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tfcodec.bitstream.chunks import (
    DisplacementChunk,
    DisplacementTablesChunk,
    EndChunk,
    KeyframeChunk,
    MotionChunk,
    MotionTablesChunk,
    SpeechChunk,
    TinyChunk,
)
from tfcodec.bitstream.framing import LONG_CRC, SIGNATURE
from tfcodec.bitstream.header import StreamHeader
from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.order import OrderChecker
from tfcodec.bitstream.parse import KNOWN_TYPES, measure_chunk, parse_chunk
from tfcodec.bitstream.parts import Chunk
from tfcodec.bitstream.primitives import fail
from tfcodec.errors import BitstreamError, TruncatedError, UnsupportedVersion

_SCAN_CANDIDATES = 1 << 16
"""How often, in one stream, a reader that looks for the next good chunk may try to parse one."""
_SCAN_BYTES = 1 << 25
"""Bytes that it may checksum in doing so; after that the rest counts as damaged."""
_MAX_DAMAGE = 10_000
"""Good chunks in the wrong place after which the rest of the stream counts as damaged."""
_TYPE_BYTE = re.compile(b"[" + b"".join(re.escape(bytes([number])) for number in sorted(KNOWN_TYPES)) + b"]")


@dataclass(frozen=True, slots=True)
class ParsedStream:
    """What a file holds."""

    header: StreamHeader
    chunks: tuple[Chunk, ...]
    """All good chunks in file order, HEADER included, padding and unknown ancillary chunks too."""
    damaged: tuple[tuple[int, int, str], ...] = ()
    """(first byte, byte after the last, reason) of what could not be used; empty with ``errors="raise"``."""
    frame_count: int = 0
    """Frames of the stream. With damage: the announced total if it is believable, else what was found."""

    @property
    def keyframes(self) -> list[KeyframeChunk]:
        return [chunk for chunk in self.chunks if isinstance(chunk, KeyframeChunk)]

    @property
    def tiny(self) -> list[TinyChunk]:
        return [chunk for chunk in self.chunks if isinstance(chunk, TinyChunk)]

    @property
    def motion(self) -> list[MotionChunk]:
        return [chunk for chunk in self.chunks if isinstance(chunk, MotionChunk)]

    @property
    def motion_tables(self) -> MotionTablesChunk | None:
        """What the motion layer is coded with; None without one."""
        return next((chunk for chunk in self.chunks if isinstance(chunk, MotionTablesChunk)), None)

    @property
    def displacement(self) -> list[DisplacementChunk]:
        return [chunk for chunk in self.chunks if isinstance(chunk, DisplacementChunk)]

    @property
    def displacement_tables(self) -> DisplacementTablesChunk | None:
        """What the displacement layer is coded with; None without one."""
        return next((chunk for chunk in self.chunks if isinstance(chunk, DisplacementTablesChunk)), None)

    @property
    def speech(self) -> list[SpeechChunk]:
        return [chunk for chunk in self.chunks if isinstance(chunk, SpeechChunk)]

    @property
    def audio_samples(self) -> int | None:
        """Length of the speech at the codec's clock, from HEADER or END; None without speech."""
        if self.header.audio is None:
            return None
        ends = [chunk.audio_samples for chunk in self.chunks if isinstance(chunk, EndChunk)]
        return self.header.audio.total_samples or (ends[0] if ends else 0)


def read_stream(
    data: bytes, *, errors: Literal["raise", "conceal"] = "raise", limits: Limits = DEFAULT_LIMITS
) -> ParsedStream:
    """Read a whole file.

    With ``errors="raise"`` every broken rule of the specification raises the BitstreamError subclass that it
    names, with the byte offset in the message. With ``errors="conceal"`` the reader notes the damage, looks
    for the next chunk whose checksum holds, and raises only if no HEADER is found or the stream needs a newer
    reader.
    """
    data = bytes(data)
    if errors == "raise":
        return _read_strictly(data, limits)
    if errors == "conceal":
        return _read_past_damage(data, limits)
    raise ValueError(f"errors must be 'raise' or 'conceal', not {errors!r}")


def check_signature(data: bytes) -> None:
    """Raise unless `data` begins with the signature of a file."""
    if data.startswith(SIGNATURE):
        return
    if SIGNATURE.startswith(data):
        fail(TruncatedError, 1, len(data), "the data end within the signature")
    if data[:3] in (b"\xc6T\n", b"\xc6T\r", b"FT\r", b"FT\n") or data.startswith(b"\xc3\x86T"):
        fail(BitstreamError, 1, 0, "a tfcodec stream that was damaged by a transfer in text mode")
    fail(BitstreamError, 1, 0, "not a tfcodec stream")


def _read_strictly(data: bytes, limits: Limits) -> ParsedStream:
    check_signature(data)
    order = OrderChecker(limits, strict=True)
    chunks: list[Chunk] = []
    offset = len(SIGNATURE)
    while offset < len(data):
        if order.ended:
            fail(BitstreamError, 36, offset, f"{len(data) - offset} bytes follow the end of the stream")
        chunk, stop = parse_chunk(data, offset, limits)
        order.accept(chunk, offset)
        chunks.append(chunk)
        offset = stop
    return ParsedStream(order.finish(offset), tuple(chunks), (), order.next_frame)


def _read_past_damage(data: bytes, limits: Limits) -> ParsedStream:
    damage = _Damage()
    chunks: list[Chunk] = []
    order = OrderChecker(limits, strict=False)
    offset = len(SIGNATURE)
    try:
        check_signature(data)
    except BitstreamError as error:
        damage.add(0, min(offset, len(data)), error)
    scanner = _Scanner(data, limits)
    while offset < len(data) and not order.ended:
        try:
            chunk, stop = parse_chunk(data, offset, limits)
        except UnsupportedVersion:
            raise
        except BitstreamError as error:
            stop = scanner.next_good(offset)
            damage.add(offset, stop, error)
        else:
            try:
                order.accept(chunk, offset)
                chunks.append(chunk)
            except BitstreamError as error:
                if damage.count >= _MAX_DAMAGE or order.exhausted:
                    stop = len(data)
                damage.add(offset, stop, error)
        offset = stop
    if offset < len(data):
        damage.add(offset, len(data), f"byte {offset}: bytes follow the end of the stream [R36]")
    if order.header is None:
        raise damage.first or TruncatedError(f"byte {offset}: the data end before the HEADER [R33]")
    if not order.ended:
        damage.add(len(data), len(data), f"byte {len(data)}: the data end before the stream does [R33]")
    ends = [chunk.frame_count for chunk in chunks if isinstance(chunk, EndChunk)]
    announced = ends[0] if ends else order.header.frame_count
    believable = 0 <= announced - order.next_frame <= limits.max_gap_frames
    frame_count = announced if believable else order.next_frame
    return ParsedStream(order.header, tuple(chunks), tuple(damage.ranges), frame_count)


class _Damage:
    """The damaged ranges, neighbours merged under the reason of the first."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, str]] = []
        self.count = 0
        self.first: BitstreamError | None = None

    def add(self, start: int, stop: int, reason: BitstreamError | str) -> None:
        self.count += 1
        if self.first is None and isinstance(reason, BitstreamError):
            self.first = reason
        if self.ranges and self.ranges[-1][1] == start < stop:
            self.ranges[-1] = (self.ranges[-1][0], stop, self.ranges[-1][2])
        else:
            self.ranges.append((start, stop, str(reason)))


class _Scanner:
    """Looks for the next good chunk after damage, with bounded work for a whole stream."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.limits = limits
        self.candidates = _SCAN_CANDIDATES
        self.checked_bytes = _SCAN_BYTES

    def next_good(self, offset: int) -> int:
        """Offset of the next good chunk after the damaged one at `offset`, or the end of the data."""
        # Usually the length is sound and the damage ends with the chunk.
        try:
            stop = measure_chunk(self.data, offset, self.limits)[2]
        except BitstreamError:
            pass
        else:
            if stop == len(self.data) or self._is_good(stop):
                return stop
        for start in self._candidates(offset + 1):
            if self._is_good(start):
                return start
        return len(self.data)

    def _candidates(self, offset: int) -> Iterator[int]:
        for match in _TYPE_BYTE.finditer(self.data, offset):
            if self.candidates <= 0 or self.checked_bytes <= 0:
                return
            self.candidates -= 1
            yield match.start()

    def _is_good(self, start: int) -> bool:
        try:
            _, end, stop = measure_chunk(self.data, start, self.limits)
            self.checked_bytes -= end - start
            parse_chunk(self.data, start, self.limits)
        except BitstreamError:
            return False
        # A short checksum alone would be right by chance too often in a long damaged region: what follows has
        # to look like a chunk as well.
        return bool(self.data[start] & LONG_CRC) or stop == len(self.data) or self.data[stop] in KNOWN_TYPES
