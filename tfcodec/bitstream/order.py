"""The rules that bind the chunks of one file together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tfcodec.bitstream.chunks import (
    MAX_CHAIN,
    TAGS,
    DisplacementChunk,
    DisplacementTablesChunk,
    EndChunk,
    InterKeyframeChunk,
    KeyframeChunk,
    LayerChunk,
    MotionChunk,
    MotionTablesChunk,
    MovedTinyChunk,
    SpeechChunk,
    TinyChunk,
)
from tfcodec.bitstream.header import StreamHeader, check_frame_count
from tfcodec.bitstream.limits import Limits
from tfcodec.bitstream.parts import Chunk
from tfcodec.bitstream.primitives import fail
from tfcodec.errors import BitstreamError, LimitExceeded, TruncatedError

Tables: TypeAlias = MotionTablesChunk | DisplacementTablesChunk


@dataclass(frozen=True)
class _Announced:
    """A layer that a chunk announces, and the rules of its order, by what breaks them."""

    layer: type[LayerChunk]
    changed: int
    """The announcement comes late, or differs from the first."""
    unannounced: int
    place: int
    """Its chunk is not at the next tiny frame, or is the second for a frame."""
    left: int
    """A keyframe or the end comes before the tiny frames of its frames."""

    @property
    def name(self) -> str:
        return self.layer.NAME.lower()


_ANNOUNCED: dict[type[Tables], _Announced] = {
    MotionTablesChunk: _Announced(MotionChunk, 61, 63, 64, 65),
    DisplacementTablesChunk: _Announced(DisplacementChunk, 72, 74, 75, 76),
}
_ANNOUNCED_BY = {what.layer: tables for tables, what in _ANNOUNCED.items()}


class OrderChecker:
    """Follows a file chunk by chunk; `strict` refuses gaps in frames and speech that are bridged otherwise."""

    def __init__(self, limits: Limits, *, strict: bool) -> None:
        self.limits = limits
        self.strict = strict
        self.header: StreamHeader | None = None
        self.next_packet = 0
        self.ended = False
        self._announced: dict[type[Tables], Tables] = {}
        self._ahead = dict.fromkeys(_ANNOUNCED_BY, 0)  # the frame after the last, of each layer that is announced
        self._positions: dict[type[LayerChunk], int] = {}  # the same of the others
        self._chunks = 0
        self._ancillary = 0
        self._keyframe: KeyframeChunk | None = None
        self._keyframe_is_new = False
        self._chain = 0  # keyframes since the last that stands alone, that one included

    @property
    def next_frame(self) -> int:
        """The frame after the last. Every frame has a tiny frame; other layers may leave some out."""
        return self._positions.get(TinyChunk, 0)

    @property
    def exhausted(self) -> bool:
        """Whether the limits on the number of chunks are used up, so that no chunk can be accepted."""
        return self._chunks > self.limits.max_chunks or self._ancillary > self.limits.max_ancillary_chunks

    def accept(self, chunk: Chunk, offset: int) -> None:
        """Check the chunk that was read at `offset` and take note of it. Raises what the broken rule says."""
        self._chunks += 1
        if self._chunks > self.limits.max_chunks:
            fail(LimitExceeded, 38, offset, f"more than {self.limits.max_chunks} chunks")
        if self.header is None:
            if not isinstance(chunk, StreamHeader):
                fail(BitstreamError, 12, offset, "the first chunk is not HEADER")
            self.header = chunk
        elif isinstance(chunk, StreamHeader):
            if chunk != self.header:
                fail(BitstreamError, 22, offset, "a repeated HEADER differs from the first")
        elif isinstance(chunk, KeyframeChunk):
            self._accept_keyframe(chunk, offset, self.header)
        elif isinstance(chunk, Tables):
            self._accept_tables(chunk, offset)
        elif type(chunk) in _ANNOUNCED_BY and isinstance(chunk, LayerChunk):
            self._accept_announced(chunk, offset, self.header)
        elif isinstance(chunk, LayerChunk):
            self._accept_layer(chunk, offset, self.header)
        elif isinstance(chunk, SpeechChunk):
            self._accept_speech(chunk, offset, self.header)
        elif isinstance(chunk, EndChunk):
            self._accept_end(chunk, offset, self.header)
        else:
            self._ancillary += 1
            if self._ancillary > self.limits.max_ancillary_chunks:
                fail(
                    LimitExceeded,
                    38,
                    offset,
                    f"more than {self.limits.max_ancillary_chunks} ancillary chunks",
                )
        if self.header.frame_count:
            self.ended = self.next_frame == self.header.frame_count and self._speech_complete(self.header)

    def finish(self, offset: int) -> StreamHeader:
        """Check that the stream, whose bytes end at `offset`, is complete, and return its header."""
        if self.header is None or not self.ended:
            fail(TruncatedError, 33, offset, f"the stream ends after {self.next_frame} frames, before its end")
        return self.header

    def _accept_keyframe(self, chunk: KeyframeChunk, offset: int, header: StreamHeader) -> None:
        self._check_position(chunk.frame_index, self.next_frame, offset, 24, "keyframe")
        if self._keyframe is None:
            if self.strict and chunk.keyframe_tag != 0:
                fail(BitstreamError, 25, offset, f"the first keyframe has tag {chunk.keyframe_tag}")
        else:
            if chunk.frame_index <= self._keyframe.frame_index:
                fail(BitstreamError, 24, offset, f"second keyframe for frame {chunk.frame_index}")
            if self.strict and chunk.keyframe_tag != (self._keyframe.keyframe_tag + 1) % TAGS:
                fail(BitstreamError, 25, offset, f"keyframe tag {chunk.keyframe_tag} out of turn")
        if header.frame_count and chunk.frame_index >= header.frame_count:
            fail(
                BitstreamError,
                32,
                offset,
                f"keyframe at {chunk.frame_index} in a stream of {header.frame_count}",
            )
        self._check_used(offset)
        if isinstance(chunk, InterKeyframeChunk) and self.strict:
            self._check_reference(chunk, offset)
        self._chain = self._chain + 1 if isinstance(chunk, InterKeyframeChunk) else 1
        self._keyframe = chunk
        self._keyframe_is_new = True
        self._positions = {TinyChunk: chunk.frame_index} | dict.fromkeys(self._positions, chunk.frame_index)

    def _check_reference(self, chunk: InterKeyframeChunk, offset: int) -> None:
        if self._keyframe is None:
            fail(BitstreamError, 66, offset, "KEYFRAME_INTER before the first keyframe")
        if not chunk.refers_to(self._keyframe.data):
            fail(BitstreamError, 66, offset, "KEYFRAME_INTER that refers to another keyframe than the one before")
        if self._chain >= MAX_CHAIN:
            fail(LimitExceeded, 67, offset, f"more than {MAX_CHAIN - 1} keyframes in a row that refer to others")

    def _accept_layer(self, chunk: LayerChunk, offset: int, header: StreamHeader) -> None:
        kind = TinyChunk if isinstance(chunk, TinyChunk) else type(chunk)
        due = self._positions.get(kind, 0 if self._keyframe is None else self._keyframe.frame_index)
        if self.strict and isinstance(chunk, MovedTinyChunk) and MotionTablesChunk not in self._announced:
            fail(BitstreamError, 77, offset, f"{chunk.NAME} in a stream without MOTION_TABLES")
        self._check_layer(chunk, due, 26, offset, header)
        moved = self._ahead[MotionChunk]
        if self.strict and MotionTablesChunk in self._announced and chunk.end_frame > moved:
            fail(BitstreamError, 65, offset, f"tiny frames up to {chunk.end_frame}, motion up to {moved}")
        self._positions[kind] = chunk.end_frame
        self._keyframe_is_new &= not isinstance(chunk, TinyChunk)

    def _check_layer(self, chunk: LayerChunk, due: int, rule: int, offset: int, header: StreamHeader) -> None:
        """What holds for every layer. `rule`: the one that is broken unless the chunk begins with the frame `due`."""
        if self.strict and self._keyframe is None:
            fail(BitstreamError, 23, offset, f"{chunk.NAME} frames before the first keyframe")
        self._check_position(chunk.first_frame, due, offset, rule, f"{chunk.NAME} chunk")
        if self.strict and self._keyframe is not None and chunk.keyframe_tag != self._keyframe.keyframe_tag:
            fail(BitstreamError, 25, offset, f"{chunk.NAME} frames refer to a keyframe of tag {chunk.keyframe_tag}")
        if header.frame_count and chunk.end_frame > header.frame_count:
            what = f"{chunk.NAME} frames up to {chunk.end_frame} in a stream of {header.frame_count}"
            fail(BitstreamError, 32, offset, what)
        check_frame_count(chunk.end_frame, header.rate, offset, self.limits)

    def _accept_tables(self, chunk: Tables, offset: int) -> None:
        what, first = _ANNOUNCED[type(chunk)], self._announced.get(type(chunk))
        if first is not None and chunk != first:
            fail(BitstreamError, what.changed, offset, f"a repeated {what.layer.NAME}_TABLES differs from the first")
        if self.strict and first is None and self._keyframe is not None:
            fail(BitstreamError, what.changed, offset, f"{what.layer.NAME}_TABLES for the first time after a keyframe")
        self._announced[type(chunk)] = chunk

    def _accept_announced(self, chunk: LayerChunk, offset: int, header: StreamHeader) -> None:
        tables = _ANNOUNCED_BY[type(chunk)]
        what = _ANNOUNCED[tables]
        if tables not in self._announced:
            fail(BitstreamError, what.unannounced, offset, f"{what.name} in a stream without {what.layer.NAME}_TABLES")
        if chunk.first_frame < self._ahead[type(chunk)]:
            fail(BitstreamError, what.place, offset, f"second {chunk.NAME} chunk for frame {chunk.first_frame}")
        self._check_layer(chunk, self.next_frame, what.place, offset, header)
        self._ahead[type(chunk)] = chunk.end_frame

    def _check_used(self, offset: int) -> None:
        for layer, end in self._ahead.items():
            if self.strict and end > self.next_frame:
                what = _ANNOUNCED[_ANNOUNCED_BY[layer]]
                fail(
                    BitstreamError, what.left, offset, f"{what.name} up to {end}, tiny frames up to {self.next_frame}"
                )  # fmt: skip

    def _accept_speech(self, chunk: SpeechChunk, offset: int, header: StreamHeader) -> None:
        audio = header.audio
        if audio is None:
            fail(BitstreamError, 28, offset, "speech in a stream whose header has no audio")
        end = chunk.first_packet + len(chunk.packets)
        longest = self.limits.max_gap_frames * header.rate[1] * audio.sample_rate // header.rate[0]
        gap = 0 if self.strict else longest // audio.packet_samples
        if not self.next_packet <= chunk.first_packet <= self.next_packet + gap:
            fail(
                BitstreamError,
                29,
                offset,
                f"speech packet {chunk.first_packet} where {self.next_packet} is due",
            )
        total = audio.total_samples or self.limits.max_duration_seconds * audio.sample_rate
        if end > audio.packets_for(total):
            if audio.total_samples:
                fail(
                    BitstreamError,
                    32,
                    offset,
                    f"{end} speech packets, {audio.packets_for(total)} are announced",
                )
            fail(LimitExceeded, 21, offset, f"{end} speech packets are more than the limit allows")
        self.next_packet = end

    def _accept_end(self, chunk: EndChunk, offset: int, header: StreamHeader) -> None:
        if header.frame_count:
            fail(BitstreamError, 34, offset, "END in a stream whose header has the totals")
        if (chunk.audio_samples is None) != (header.audio is None):
            fail(BitstreamError, 34, offset, "END and HEADER disagree about speech")
        if chunk.frame_count == 0:
            fail(BitstreamError, 35, offset, "a stream without frames")
        if self._keyframe_is_new:
            fail(BitstreamError, 35, offset, "a keyframe without tiny frames")
        self._check_used(offset)
        packets = None if header.audio is None else header.audio.packets_for(chunk.audio_samples or 0)
        if self.strict and (chunk.frame_count != self.next_frame or packets not in (None, self.next_packet)):
            fail(
                BitstreamError,
                34,
                offset,
                f"END counts {chunk.frame_count} frames and {packets or 0} speech packets, "
                f"there are {self.next_frame} and {self.next_packet}",
            )
        self.ended = True

    def _speech_complete(self, header: StreamHeader) -> bool:
        audio = header.audio
        return audio is None or self.next_packet == audio.packets_for(audio.total_samples)

    def _check_position(self, frame: int, due: int, offset: int, rule: int, what: str) -> None:
        gap = 0 if self.strict else self.limits.max_gap_frames
        if not due <= frame <= due + gap:
            fail(BitstreamError, rule, offset, f"{what} at frame {frame} where frame {due} is due")
