"""Packets of calls (appendix B of the specification): what goes into one datagram.

Every packet stands alone: a header with sequence number and timestamp, a body, a CRC-16. Media packets say what each
unit of frames depends on. So a receiver knows at once whether it can decode it, and a sender can choose a reference
that the receiver is known to have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.primitives import FieldReader, crc16, fail, write_varint
from tfcodec.bitstream.sequence import WRAP
from tfcodec.errors import BitstreamError, ChecksumError, LimitExceeded, TruncatedError

MEDIA, KEYFRAME, FEEDBACK, END = range(4)
MAX_PACKET = 1200
"""Most bytes of a packet: so many fit into one datagram on any path."""
MAX_UNITS = 7
MAX_UNIT_FRAMES = 4
MAX_REFERENCE = 63
"""How many frames back a unit may refer."""
MAX_MISSING = 64
HEADER_BYTES, CRC_BYTES = 5, 2
_KEYFRAME_OVERHEAD = HEADER_BYTES + CRC_BYTES + 4


def _frame(kind: int, tag: int, flags: int, sequence: int, timestamp: int, body: bytes) -> bytes:
    first = kind << 6 | tag << 4 | flags
    head = bytes([first]) + (sequence % WRAP).to_bytes(2, "big") + (timestamp % WRAP).to_bytes(2, "big") + body
    return head + crc16(head).to_bytes(CRC_BYTES, "big")


@dataclass(frozen=True, slots=True)
class TinyUnit:
    """A run of frames coded together, and what it depends on."""

    frames: int
    """1..4."""
    reference: int
    """How many frames before the unit's first the frame lies whose state it is predicted from; 0: the keyframe."""
    payload: bytes
    """Data of the motion layer, if there is one, and of the tiny-frame layer, in one range coder; may be empty."""


@dataclass(frozen=True, slots=True)
class MediaPacket:
    """Units of frames, and the speech that goes with them."""

    KIND: ClassVar[int] = MEDIA

    sequence: int
    timestamp: int
    """Index, modulo 2^16, of the last frame of the newest unit, and of the frame up to which speech is complete."""
    keyframe_tag: int
    units: tuple[TinyUnit, ...]
    """Newest first: each ends right before the first frame of the one listed before it."""
    speech: tuple[bytes, ...] = ()
    """Consecutive speech packets; the last is the last one complete at the end of frame `timestamp`."""

    def to_bytes(self) -> bytes:
        """The whole packet. Raises BitstreamError if a field cannot be written."""
        if len(self.units) > MAX_UNITS or not (self.units or self.speech) or len(self.speech) > 255:
            raise BitstreamError(f"a packet cannot hold {len(self.units)} units and {len(self.speech)} speech packets")
        blocks = [(b"", packet) for packet in self.speech]
        for unit in self.units:
            if not 1 <= unit.frames <= MAX_UNIT_FRAMES or not 0 <= unit.reference <= MAX_REFERENCE:
                raise BitstreamError(f"a unit of {unit.frames} frames at distance {unit.reference} cannot be written")
            blocks.append((bytes([(unit.frames - 1) << 6 | unit.reference]), unit.payload))
        body = bytes([len(self.speech)]) if self.speech else b""
        for head, data in blocks[:-1]:
            body += head + write_varint(len(data)) + data
        body += blocks[-1][0] + blocks[-1][1]
        flags = bool(self.speech) << 3 | len(self.units)
        return _frame(self.KIND, self.keyframe_tag, flags, self.sequence, self.timestamp, body)

    @classmethod
    def read(cls, first: int, sequence: int, timestamp: int, reader: FieldReader, limits: Limits) -> MediaPacket:
        """Parse the body."""
        count, speech_count = first & 7, 0
        if first & 8:
            start = reader.position
            speech_count = reader.byte("speech_count")
            if not speech_count:
                fail(BitstreamError, 57, start, "a list of no speech packets")
        elif not count:
            fail(BitstreamError, 57, reader.position, "a media packet of nothing")
        speech, units = [], []
        for i in range(speech_count):
            last = i + 1 == speech_count and not count
            start = reader.position
            speech.append(reader.rest() if last else reader.take(reader.varint("length"), "speech"))
            if len(speech[-1]) > limits.max_speech_packet_bytes:
                fail(LimitExceeded, 6, start, f"speech packet of {len(speech[-1])} bytes")
        for i in range(count):
            head = reader.byte("unit")
            payload = reader.rest() if i + 1 == count else reader.take(reader.varint("length"), "tiny frames")
            units.append(TinyUnit((head >> 6) + 1, head & MAX_REFERENCE, payload))
        return cls(sequence, timestamp, first >> 4 & 3, tuple(units), tuple(speech))


@dataclass(frozen=True, slots=True)
class KeyframePacket:
    """A fragment of a *keyframe object*: the chunks HEADER, MOTION_TABLES (if there is motion) and KEYFRAME."""

    KIND: ClassVar[int] = KEYFRAME

    sequence: int
    timestamp: int
    """Index, modulo 2^16, of the first frame that refers to the keyframe."""
    keyframe_tag: int
    total: int
    """Bytes of the whole object."""
    offset: int
    data: bytes

    def to_bytes(self) -> bytes:
        """The whole packet. Raises BitstreamError if a field cannot be written."""
        if not self.data or self.offset < 0 or not self.offset + len(self.data) <= self.total < WRAP:
            raise BitstreamError(f"{len(self.data)} bytes at {self.offset} of {self.total}: not a fragment")
        body = self.total.to_bytes(2, "big") + self.offset.to_bytes(2, "big") + self.data
        return _frame(self.KIND, self.keyframe_tag, 0, self.sequence, self.timestamp, body)

    @classmethod
    def read(cls, first: int, sequence: int, timestamp: int, reader: FieldReader, limits: Limits) -> KeyframePacket:
        """Parse the body."""
        del limits  # the object's size is a field of 16 bits
        start = reader.position
        total = int.from_bytes(reader.take(2, "total"), "big")
        offset = int.from_bytes(reader.take(2, "offset"), "big")
        if not reader.remaining or offset + reader.remaining > total:
            fail(BitstreamError, 58, start, f"fragment of {reader.remaining} bytes at {offset} of {total}")
        return cls(sequence, timestamp, first >> 4 & 3, total, offset, reader.rest())


@dataclass(frozen=True, slots=True)
class FeedbackPacket:
    """What a receiver has, lacks and wants; sent against the direction of the media."""

    KIND: ClassVar[int] = FEEDBACK

    sequence: int
    timestamp: int
    """Index, modulo 2^16, of the newest frame that any media packet has named."""
    keyframe_tag: int
    """Of the keyframe that is held, or, if ``wanted``, of the one that is missing."""
    highest_sequence: int
    """Of the packets received, modulo 2^16."""
    fraction_lost: float
    """0..1, in 1/255, since the feedback before."""
    state: int | None = None
    """Index, modulo 2^16, of the newest frame whose decoder state is held, under the keyframe that is held; or None."""
    broken: bool = False
    """Frames have come that depend on something lost."""
    wanted: bool = False
    """The keyframe with this packet's tag is missing, or parts of it."""
    missing: tuple[tuple[int, int], ...] = ()
    """(offset, length) of missing parts of that keyframe's object; empty: nothing of it is there."""
    orphaned: bool = False
    """That keyframe is there, and the one that it refers to is not: only one that stands alone helps."""

    def to_bytes(self) -> bytes:
        """The whole packet. Raises BitstreamError if a field cannot be written."""
        if len(self.missing) > MAX_MISSING or (self.missing and (self.orphaned or not self.wanted)):
            raise BitstreamError(f"feedback cannot name {len(self.missing)} missing parts")
        if self.orphaned and not self.wanted:
            raise BitstreamError("feedback cannot want nothing and miss what a keyframe refers to")
        body = (self.highest_sequence % WRAP).to_bytes(2, "big") + bytes([round(255 * self.fraction_lost)])
        if self.state is not None:
            body += (self.state % WRAP).to_bytes(2, "big")
        for offset, length in self.missing:
            body += offset.to_bytes(2, "big") + length.to_bytes(2, "big")
        flags = self.orphaned << 3 | (self.state is not None) << 2 | self.broken << 1 | self.wanted
        return _frame(self.KIND, self.keyframe_tag, flags, self.sequence, self.timestamp, body)

    @classmethod
    def read(cls, first: int, sequence: int, timestamp: int, reader: FieldReader, limits: Limits) -> FeedbackPacket:
        """Parse the body."""
        del limits  # a packet's own length bounds the list
        if first & 9 == 8:
            fail(BitstreamError, 59, 0, "feedback that wants no keyframe says that what it refers to is missing")
        highest = int.from_bytes(reader.take(2, "highest_sequence"), "big")
        lost = reader.byte("fraction_lost") / 255
        state = int.from_bytes(reader.take(2, "state"), "big") if first & 4 else None
        missing: list[tuple[int, int]] = []
        while reader.remaining and first & 1:
            start = reader.position
            offset = int.from_bytes(reader.take(2, "offset"), "big")
            length = int.from_bytes(reader.take(2, "length"), "big")
            if not length or offset + length >= WRAP or len(missing) == MAX_MISSING:
                fail(BitstreamError, 59, start, f"part {len(missing)} of {length} bytes at {offset} is no part")
            missing.append((offset, length))
        if missing and first & 8:
            fail(BitstreamError, 59, 0, "parts are missing of a keyframe that is said to be there")
        reader.finish("feedback")
        tag, broken, wanted = first >> 4 & 3, bool(first & 2), bool(first & 1)
        orphaned = bool(first & 8)
        return cls(sequence, timestamp, tag, highest, lost, state, broken, wanted, tuple(missing), orphaned)


@dataclass(frozen=True, slots=True)
class EndPacket:
    """The sender has ended the call; `timestamp` is the number of frames, modulo 2^16."""

    KIND: ClassVar[int] = END

    sequence: int
    timestamp: int

    def to_bytes(self) -> bytes:
        """The whole packet."""
        return _frame(self.KIND, 0, 0, self.sequence, self.timestamp, b"")

    @classmethod
    def read(cls, first: int, sequence: int, timestamp: int, reader: FieldReader, limits: Limits) -> EndPacket:
        """Parse the body."""
        del limits
        if first & 0x3F:
            fail(BitstreamError, 60, 0, "reserved bits are set")
        reader.finish("END packet")
        return cls(sequence, timestamp)


CallPacket = MediaPacket | KeyframePacket | FeedbackPacket | EndPacket
_KINDS: dict[int, type[CallPacket]] = {p.KIND: p for p in (MediaPacket, KeyframePacket, FeedbackPacket, EndPacket)}


def parse_packet(packet: bytes, limits: Limits = DEFAULT_LIMITS) -> CallPacket:
    """One packet of a call. Raises BitstreamError and its kin for what section 14 of the specification lists."""
    if len(packet) > limits.max_packet_bytes:
        fail(LimitExceeded, 6, 0, f"packet of {len(packet)} bytes, limit {limits.max_packet_bytes}")
    end = len(packet) - CRC_BYTES
    if end < HEADER_BYTES:
        fail(TruncatedError, 55, 0, f"packet of {len(packet)} bytes")
    if crc16(packet[:end]) != int.from_bytes(packet[end:], "big"):
        fail(ChecksumError, 56, end, "the packet's checksum does not match")
    reader = FieldReader(packet, HEADER_BYTES, end)
    sequence, timestamp = int.from_bytes(packet[1:3], "big"), int.from_bytes(packet[3:5], "big")
    return _KINDS[packet[0] >> 6].read(packet[0], sequence, timestamp, reader, limits)


@dataclass
class KeyframeParts:
    """Puts the fragments of one keyframe object together, in any order, cut anywhere.

    The memory is bounded by the object's size, 64 KiB at most.
    """

    total: int
    _data: bytearray = field(init=False, repr=False)
    _holes: list[tuple[int, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._data = bytearray(self.total)
        self._holes = [(0, self.total)]

    def add(self, offset: int, data: bytes) -> bool:
        """Take a fragment; True when the object is complete. Fragments of another total are the caller's to refuse."""
        end = offset + len(data)
        self._data[offset:end] = data
        left: list[tuple[int, int]] = []
        for a, b in self._holes:
            left += [(x, y) for x, y in ((a, min(b, offset)), (max(a, end), b)) if x < y]
        self._holes = left
        return not left

    @property
    def missing(self) -> tuple[tuple[int, int], ...]:
        """(offset, length) of what is missing, at most 64 parts."""
        return tuple((a, b - a) for a, b in self._holes[:MAX_MISSING])

    @property
    def data(self) -> bytes:
        """The object; holes are zeros."""
        return bytes(self._data)


def fragment(total: int, parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut parts (offset, length) of an object into pieces that fit into packets; parts outside are left out."""
    step = MAX_PACKET - _KEYFRAME_OVERHEAD
    pieces = []
    for offset, length in parts:
        end = min(offset + length, total)
        if end <= offset:
            continue
        # Equal pieces: a last one of a few bytes is as easily lost as a full one.
        count = -(-(end - offset) // step)
        size = -(-(end - offset) // count)
        pieces += [(at, min(size, end - at)) for at in range(offset, end, size)]
    return pieces
