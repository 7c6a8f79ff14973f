"""The chunks of the media: keyframes, tiny frames, motion, displacement, speech, and the end of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from tfcodec.bitstream.framing import CRITICAL, LONG_CRC, build_chunk
from tfcodec.bitstream.limits import Limits
from tfcodec.bitstream.primitives import FieldReader, crc16, fail, write_varint
from tfcodec.errors import BitstreamError, LimitExceeded

TAGS = 4
"""Keyframe tags count modulo this."""
MAX_CHAIN = 8
"""Keyframes of a chain: one that stands alone, and those after it that refer to the one before."""
MAX_FRAMES_PER_CHUNK = 128
"""Most frames of one layer's chunk; as a chunk has 6 bytes at least, the size of a file bounds its frames."""
SHAPES = 128
"""Ways of a head to take the picture along."""
TABLES_HASH_BYTES = 4
_MAX_TAGGED = 1 << 30


def _tagged(value: int, tag: int) -> bytes:
    if not 0 <= tag < TAGS or not 0 <= value < _MAX_TAGGED:
        raise BitstreamError(f"index {value} with keyframe tag {tag} cannot be written")
    return write_varint(value * TAGS + tag)


def _read_place(reader: FieldReader, limits: Limits) -> tuple[int, int]:
    """A keyframe's frame and tag."""
    start = reader.position
    frame_index, tag = divmod(reader.varint("position"), TAGS)
    if frame_index >= limits.max_frames:
        fail(LimitExceeded, 21, start, f"keyframe at frame {frame_index} is past the limit")
    return frame_index, tag


@dataclass(frozen=True, slots=True)
class KeyframeChunk:
    """A keyframe: the random-access point, from which the prediction of tiny frames starts anew."""

    TYPE: ClassVar[int] = CRITICAL | LONG_CRC | 2

    frame_index: int
    """First frame that refers to the picture; the picture may be that of another frame."""
    data: bytes
    """AV1 OBUs of one still picture."""
    keyframe_tag: int = 0
    """Number of the keyframe in the stream, modulo 4: 0, 1, 2, 3, 0, ..."""

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        if not self.data:
            raise BitstreamError("a keyframe needs data")
        return build_chunk(self.TYPE, _tagged(self.frame_index, self.keyframe_tag) + self.data)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> KeyframeChunk:
        """Parse the payload."""
        frame_index, tag = _read_place(reader, limits)
        if not reader.remaining:
            fail(BitstreamError, 10, reader.position, "keyframe without data")
        return cls(frame_index, reader.rest(), tag)


@dataclass(frozen=True, slots=True)
class InterKeyframeChunk(KeyframeChunk):
    """A keyframe coded as a difference from the one before: a random-access point only together with that one."""

    TYPE: ClassVar[int] = CRITICAL | LONG_CRC | 12

    reference: int = 0
    """CRC-16 of ``data`` of the keyframe before."""

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        if not self.data:
            raise BitstreamError("a keyframe needs data")
        head = _tagged(self.frame_index, self.keyframe_tag) + self.reference.to_bytes(2, "big")
        return build_chunk(self.TYPE, head + self.data)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> InterKeyframeChunk:
        """Parse the payload."""
        frame_index, tag = _read_place(reader, limits)
        reference = int.from_bytes(reader.take(2, "reference"), "big")
        if not reader.remaining:
            fail(BitstreamError, 10, reader.position, "keyframe without data")
        return cls(frame_index, reader.rest(), tag, reference)

    @classmethod
    def after(cls, before: bytes, frame_index: int, data: bytes, keyframe_tag: int) -> InterKeyframeChunk:
        """A keyframe made from the one of ``data`` ``before``."""
        return cls(frame_index, data, keyframe_tag, crc16(before))

    def refers_to(self, before: bytes) -> bool:
        """Whether it was made from the keyframe of that ``data``."""
        return self.reference == crc16(before)


@dataclass(frozen=True, slots=True)
class LayerChunk:
    """Consecutive frames of one layer, under one keyframe; the payload belongs to the layer's coder."""

    TYPE: ClassVar[int]
    NAME: ClassVar[str]

    first_frame: int
    frame_count: int
    payload: bytes
    """Data of the layer; may be empty."""
    keyframe_tag: int = 0
    """Tag of the keyframe that the frames refer to."""

    @property
    def end_frame(self) -> int:
        """Index of the frame after the last."""
        return self.first_frame + self.frame_count

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        return build_chunk(self.TYPE, self._head() + self.payload)

    def _head(self) -> bytes:
        if not 1 <= self.frame_count <= MAX_FRAMES_PER_CHUNK:
            held = f"1 to {MAX_FRAMES_PER_CHUNK} frames, not {self.frame_count}"
            raise BitstreamError(f"a {self.NAME} chunk holds {held}")
        return _tagged(self.first_frame, self.keyframe_tag) + write_varint(self.frame_count - 1)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> Self:
        """Parse the payload."""
        first_frame, count, tag = cls._read_head(reader, limits)
        return cls(first_frame, count, reader.rest(), tag)

    @classmethod
    def _read_head(cls, reader: FieldReader, limits: Limits) -> tuple[int, int, int]:
        """First frame, number of frames and tag."""
        start = reader.position
        first_frame, tag = divmod(reader.varint("position"), TAGS)
        position = reader.position
        count = reader.varint("frame_count") + 1
        if count > MAX_FRAMES_PER_CHUNK:
            fail(
                BitstreamError,
                27,
                position,
                f"{count} frames in a {cls.NAME} chunk, {MAX_FRAMES_PER_CHUNK} at most",
            )
        if first_frame + count > limits.max_frames:
            fail(LimitExceeded, 21, start, f"{cls.NAME} frames up to {first_frame + count} are past the limit")
        return first_frame, count, tag


@dataclass(frozen=True, slots=True)
class TinyChunk(LayerChunk):
    """Tiny frames."""

    TYPE: ClassVar[int] = CRITICAL | 4
    NAME: ClassVar[str] = "TINY"


@dataclass(frozen=True, slots=True)
class MovedTinyChunk(TinyChunk):
    """Tiny frames coded as a difference from those of the keyframe, moved as the motion says."""

    TYPE: ClassVar[int] = CRITICAL | 15
    NAME: ClassVar[str] = "TINY_MOVED"

    shape: int = 0
    """How far the head takes the picture along, 0 to 127."""
    x: int = 0
    """Centre of the face in the keyframe, in pixels ..."""
    y: int = 0
    distance: int = 1
    """... and what is between the eyes, 1 to 255."""

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        if not (0 <= self.shape < SHAPES and 1 <= self.distance <= 255 and 0 <= self.x <= 255 and 0 <= self.y <= 255):
            where = f"{self.x}, {self.y} and distance {self.distance}"
            raise BitstreamError(f"a {self.NAME} chunk cannot have shape {self.shape} at {where}")
        return build_chunk(self.TYPE, self._head() + bytes((self.shape, self.x, self.y, self.distance)) + self.payload)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> MovedTinyChunk:
        """Parse the payload."""
        first_frame, count, tag = cls._read_head(reader, limits)
        position = reader.position
        if reader.remaining < 4:
            fail(BitstreamError, 78, position, f"{cls.NAME} chunk without shape and place")
        shape, x, y, distance = reader.take(4, "shape")
        if shape >= SHAPES or not distance:
            fail(BitstreamError, 78, position, f"{cls.NAME} chunk of shape {shape} and distance {distance}")
        return cls(first_frame, count, reader.rest(), tag, shape, x, y, distance)


@dataclass(frozen=True, slots=True)
class MotionChunk(LayerChunk):
    """The motion of the face."""

    TYPE: ClassVar[int] = CRITICAL | 11
    NAME: ClassVar[str] = "MOTION"


@dataclass(frozen=True, slots=True)
class DisplacementChunk(LayerChunk):
    """Where the pictures lie beside where the network would draw them. Readers may skip it."""

    TYPE: ClassVar[int] = 14
    NAME: ClassVar[str] = "DISPLACEMENT"


def _tables_chunk(chunk_type: int, number: int, digest: bytes, name: str) -> bytes:
    """A chunk that announces a layer. Raises BitstreamError if a field cannot be written."""
    if len(digest) != TABLES_HASH_BYTES:
        raise BitstreamError(f"the {name} hash must be {TABLES_HASH_BYTES} bytes, not {len(digest)}")
    return build_chunk(chunk_type, write_varint(number) + digest)


def _read_tables(reader: FieldReader, name: str) -> tuple[int, bytes]:
    """Registry number and hash."""
    number = reader.varint(f"{name}_id")
    digest = reader.take(TABLES_HASH_BYTES, f"{name}_hash")
    reader.finish(f"{name.upper()}_TABLES")
    return number, digest


@dataclass(frozen=True, slots=True)
class MotionTablesChunk:
    """Says that the stream has a motion layer, and names its components and tables."""

    TYPE: ClassVar[int] = CRITICAL | 10

    motion_id: int
    """Registry number of components and tables."""
    motion_hash: bytes
    """First 4 bytes of the SHA-256 of the file of components followed by the file of tables."""

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        return _tables_chunk(self.TYPE, self.motion_id, self.motion_hash, "motion")

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> MotionTablesChunk:
        """Parse the payload."""
        del limits  # nothing is allocated from the fields
        return cls(*_read_tables(reader, "motion"))


@dataclass(frozen=True, slots=True)
class DisplacementTablesChunk:
    """Says that the stream has a displacement layer, and names its tables. Readers may skip it."""

    TYPE: ClassVar[int] = 13

    displacement_id: int
    """Registry number of the tables."""
    displacement_hash: bytes
    """First 4 bytes of the SHA-256 of the file of tables."""

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        return _tables_chunk(self.TYPE, self.displacement_id, self.displacement_hash, "displacement")

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> DisplacementTablesChunk:
        """Parse the payload."""
        del limits  # nothing is allocated from the fields
        return cls(*_read_tables(reader, "displacement"))


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """Consecutive speech packets. An empty packet stands for one that is missing: the decoder conceals it."""

    TYPE: ClassVar[int] = CRITICAL | 5

    first_packet: int
    packets: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """The whole chunk, in the shorter list form. Raises BitstreamError if a field cannot be written."""
        if not self.packets:
            raise BitstreamError("a speech chunk needs packets")
        lengths = [len(packet) for packet in self.packets]
        shared = lengths[0] > 0 and len(set(lengths)) == 1
        head = write_varint(self.first_packet) + write_varint(len(lengths) * 2 + shared)
        if not shared:
            head += b"".join(write_varint(length) for length in lengths[:-1])
        return build_chunk(self.TYPE, head + b"".join(self.packets))

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> SpeechChunk:
        """Parse the payload."""
        first_packet = reader.varint("first_packet")
        position = reader.position
        count, shared = divmod(reader.varint("packet_count"), 2)
        # In both forms a packet, the last one excepted, takes a byte of the payload at least.
        if not 1 <= count <= reader.remaining + 1:
            fail(BitstreamError, 30, position, f"{count} speech packets cannot lie in {reader.remaining} bytes")
        if shared:
            length, rest = divmod(reader.remaining, count)
            if rest or not length:
                fail(
                    BitstreamError,
                    30,
                    position,
                    f"{reader.remaining} bytes are not {count} equal speech packets",
                )
            lengths = [length] * count
        else:
            lengths = [reader.varint("packet_length") for _ in range(count - 1)]
            lengths.append(reader.remaining - sum(lengths))
            if lengths[-1] < 0:
                fail(BitstreamError, 30, position, "speech packets run past their chunk")
            if lengths[0] > 0 and len(set(lengths)) == 1:
                fail(BitstreamError, 30, position, "equal speech packets must use the shared length")
        if max(lengths) > limits.max_speech_packet_bytes:
            fail(LimitExceeded, 6, position, f"speech packet of {max(lengths)} bytes")
        return cls(first_packet, tuple(reader.take(length, "packet") for length in lengths))


@dataclass(frozen=True, slots=True)
class EndChunk:
    """Totals of a stream whose header could not know them."""

    TYPE: ClassVar[int] = CRITICAL | LONG_CRC | 6

    frame_count: int
    audio_samples: int | None = None
    """Length of the speech after the pre-skip, at the codec's clock; None without speech."""

    def to_bytes(self) -> bytes:
        """The whole chunk. Raises BitstreamError if a field cannot be written."""
        payload = write_varint(self.frame_count)
        if self.audio_samples is not None:
            payload += write_varint(self.audio_samples)
        return build_chunk(self.TYPE, payload)

    @classmethod
    def read(cls, reader: FieldReader, limits: Limits) -> EndChunk:
        """Parse the payload."""
        start = reader.position
        frame_count = reader.varint("frame_count")
        if frame_count > limits.max_frames:
            fail(LimitExceeded, 21, start, f"{frame_count} frames are more than the limit allows")
        audio_samples = reader.varint("audio_samples") if reader.remaining else None
        reader.finish("END")
        return cls(frame_count, audio_samples)
