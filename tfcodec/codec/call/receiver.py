"""The exact part of a call's receiver: packets in any order become keyframes, tiny frames and speech. No clock here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bitstream import (
    DEFAULT_LIMITS,
    SIGNATURE,
    TAGS,
    CallPacket,
    Chunk,
    EndPacket,
    FeedbackPacket,
    KeyframeChunk,
    KeyframePacket,
    KeyframeParts,
    Limits,
    MediaPacket,
    SequenceCounter,
    StreamHeader,
    TinyUnit,
    extend,
    iter_chunks,
    parse_chunk,
    parse_packet,
)
from ...errors import BitstreamError, UnsupportedVersion
from ...rates import OPUS_PER_MS
from ..parts import StreamDecoder
from ..parts.keyframes import Chain, ReferenceLostError
from ..parts.layer import State
from .jitter import SpeechJitter
from .origin import first_number

KEEP = 128
"""Past frames that are kept, decoded or waiting for what they depend on: twice the longest reference."""
MAX_GAP = DEFAULT_LIMITS.max_gap_frames
CALL_PACKET_SAMPLES = (960, 1920)
"""Durations of speech packets in calls, in samples at 48 kHz: half a frame or a whole one, so that the number of a
frame, which wraps, says the number of its packets."""
_LIMITS = Limits(max_frames=1 << 30)  # a call may be longer than a file
REPEAT = 1
"""Ticks between feedback while something is missing: feedback is small, and may be lost itself."""
REGULAR = 25
"""Ticks between feedback while nothing is missing."""


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A decoded keyframe: first frame, picture [256, 256, 3] uint8, and the state that layers start from."""

    frame: int
    tag: int
    picture: NDArray[np.uint8]
    state: State
    chain: Chain = ()
    """What the next keyframe may refer to."""


@dataclass(frozen=True, eq=False)
class CallFrame:
    """What the layers say of a frame, by name, and the keyframe it belongs to."""

    layers: dict[str, NDArray[Any]]
    keyframe: Keyframe

    @property
    def tiny(self) -> NDArray[np.uint8]:
        """The tiny frame [8, 8, 3] uint8."""
        return self.layers["tiny"]


@dataclass(frozen=True, slots=True)
class _Waiting:
    first: int
    tag: int
    unit: TinyUnit


class Receiver:
    """Takes packets; keeps what can be decoded, and knows what cannot and why.

    Attributes:
        header: the stream's HEADER, once a keyframe has come.
        frames: decoded frames by number: the newest, and of the last 128 those that could be decoded.
        newest: number of the newest decoded frame, -1 before the first.
        seen: number of the newest frame that any packet has named.
        end: number of frames, once the sender has ended the call.
        keyframe: the last that was decoded.
        damaged: packets that could not be read.
        arrivals: what the sequence numbers say.
    """

    def __init__(self) -> None:
        self.header: StreamHeader | None = None
        self.speech: SpeechJitter | None = None
        self.frames: dict[int, CallFrame] = {}
        self.newest = -1
        self.seen: int | None = None
        self.end: int | None = None
        self.damaged = 0
        self.arrivals = SequenceCounter()
        self._stream: StreamDecoder | None = None
        self._tag: int | None = None  # of the newest packet
        self._tag_at = -1
        self.keyframe: Keyframe | None = None
        self._keyframes: dict[int, Keyframe] = {}
        self._parts: dict[int, tuple[int, KeyframeParts]] = {}
        self._orphan: int | None = None  # tag of a keyframe that came, and refers to one that is not here
        self._states: dict[int, tuple[Keyframe, State]] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._early_speech: dict[int, bytes] = {}
        self._feedback_sequence = first_number()
        self._feedback_at = -REGULAR
        self._trouble: tuple[bool, bool] = (False, False)

    def push(self, packet: bytes) -> StreamHeader | None:
        """Take one packet; gives HEADER when it has come for the first time, which says which network is needed.

        A packet that cannot be read is counted and ignored. Raises UnsupportedVersion if a newer version is needed, and
        BitstreamError if the call begins with a piece of a file: no damage on the way makes one of a packet.
        """
        try:
            parsed = parse_packet(bytes(packet))
        except BitstreamError:
            if self.seen is None and _is_of_a_file(bytes(packet)):
                raise BitstreamError(
                    "this is a piece of a .tfc file, and Decoder is for calls: decode files with tfcodec.decode, "
                    'or make packets with Encoder(latency="call")'
                ) from None
            self.damaged += 1
            return None
        return self.take(parsed)

    def take(self, parsed: CallPacket) -> StreamHeader | None:
        """`push`, of a packet that has been parsed."""
        if isinstance(parsed, FeedbackPacket) or not self.arrivals.add(parsed.sequence):
            return None
        number = extend(parsed.timestamp, parsed.timestamp if self.seen is None else self.seen)
        if self.seen is not None and number > self.seen + MAX_GAP:
            self.damaged += 1  # no sender is so far ahead: damage that a checksum missed, or a forgery
            return None
        before = self.header
        if isinstance(parsed, MediaPacket):
            self._media(parsed, number)
        elif isinstance(parsed, KeyframePacket):
            self._fragment(parsed, number)
        elif isinstance(parsed, EndPacket):
            self.end = number
        return self.header if before is None else None

    @property
    def wanted(self) -> bool:
        """The keyframe that arriving frames refer to is missing."""
        return self.seen is not None and (self._tag is None or self._tag not in self._keyframes)

    @property
    def broken(self) -> bool:
        """Frames have come that depend on something lost."""
        return any(w.first > self.newest and w.tag in self._keyframes for w in self._waiting.values())

    def feedback(self, tick: int) -> bytes | None:
        """What to tell the sender at the receiver's clock ``tick``, if it is time to tell something."""
        if self.seen is None:
            return None
        trouble = (self.wanted, self.broken)
        every = REPEAT if any(trouble) else REGULAR
        if tick - self._feedback_at < every and not (any(trouble) and trouble != self._trouble):
            return None
        self._feedback_at, self._trouble = tick, trouble
        tag, state = self._tag or 0, None
        missing: tuple[tuple[int, int], ...] = ()
        if self.wanted:
            if tag in self._parts:
                missing = self._parts[tag][1].missing
        else:
            held = self._keyframes[tag]
            state = max((f for f, (key, _) in self._states.items() if key is held), default=None)
        packet = FeedbackPacket(
            self._feedback_sequence, self.seen, tag, self.arrivals.newest or 0, self.arrivals.fraction_lost(),
            state, self.broken, self.wanted, missing, self.wanted and self._orphan == tag and not missing,
        )  # fmt: skip
        self._feedback_sequence += 1
        return packet.to_bytes()

    def _media(self, packet: MediaPacket, last: int) -> None:
        self.seen = last if self.seen is None else max(self.seen, last)
        if packet.units and last > self._tag_at:
            self._tag, self._tag_at = packet.keyframe_tag, last
            # Tags come back after four keyframes; what is older than the one before must not be taken for a new one.
            for old in {(self._tag + 1) % 4, (self._tag + 2) % 4} & self._keyframes.keys():
                del self._keyframes[old]
        self._take_speech(packet.speech or self._not_sent(packet), last)
        end = last + 1
        for unit in packet.units:
            first = end - unit.frames
            if first not in self.frames and first not in self._waiting and first > self.seen - KEEP and first >= 0:
                self._waiting[first] = _Waiting(first, packet.keyframe_tag, unit)
            end = first
        self._decode()

    def _not_sent(self, packet: MediaPacket) -> tuple[bytes, ...]:
        """Frames without a list of speech packets are frames in which nobody spoke."""
        count = packet.units[0].frames if packet.units else 0
        return (b"",) * (count * (1 if self.speech is None else self.speech.per_frame))

    def _take_speech(self, packets: tuple[bytes, ...], last: int) -> None:
        # A sender's speech packets are as long as a frame or half a frame; HEADER says which.
        for back, packet in enumerate(reversed(packets)):
            if self.speech is not None:
                self.speech.add(((last + 1) * self.speech.per_frame) - 1 - back, packet)
            elif len(self._early_speech) < KEEP:
                self._early_speech[(last << 8) + back] = packet

    def _fragment(self, packet: KeyframePacket, frame: int) -> None:
        tag = packet.keyframe_tag
        if self.seen is None:
            self.seen = frame
        if self._tag is None or frame > self._tag_at:
            self._tag, self._tag_at = tag, max(frame - 1, self._tag_at)
        held = self._keyframes.get(tag)
        if (held is not None and held.frame >= frame) or (not self.wanted and frame < self.newest - KEEP):
            return
        at, parts = self._parts.get(tag, (-1, KeyframeParts(packet.total)))
        if at != frame or parts.total != packet.total:
            if at > frame:
                return
            parts = KeyframeParts(packet.total)
        self._parts[tag] = (frame, parts)
        if not parts.add(packet.offset, packet.data):
            return
        del self._parts[tag]
        try:
            self._keyframe(parts.data, frame, tag)
            self._orphan = None
        except UnsupportedVersion:
            raise
        except ReferenceLostError:
            self._orphan = tag
        except BitstreamError:
            self.damaged += 1

    def _keyframe(self, data: bytes, frame: int, tag: int) -> None:
        header = chunk = None
        parts = list(iter_chunks(data, _LIMITS))
        for part in parts:
            if isinstance(part, StreamHeader):
                header = part
            elif isinstance(part, KeyframeChunk):
                chunk = part
        if header is None or chunk is None or chunk.keyframe_tag != tag:
            raise BitstreamError("a keyframe object needs HEADER and KEYFRAME")
        decoder = self._stream or self._begin(header, parts)
        before = self._keyframes.get((tag - 1) % TAGS)
        decoder.chain = () if before is None else before.chain
        picture = decoder.keyframe(chunk)
        self.keyframe = Keyframe(frame, tag, picture, decoder.state, decoder.chain)
        self._keyframes[tag] = self.keyframe
        self._decode()

    def _begin(self, header: StreamHeader, parts: list[Chunk]) -> StreamDecoder:
        decoder = StreamDecoder(header, parts, "call")
        if header.audio is not None:
            if header.audio.packet_samples not in CALL_PACKET_SAMPLES:
                raise BitstreamError(f"speech packets of {header.audio.packet_samples / OPUS_PER_MS:g} ms in a call")
            self.speech = SpeechJitter(header.audio)
            for key, packet in self._early_speech.items():
                self.speech.add(((key >> 8) + 1) * self.speech.per_frame - 1 - (key & 255), packet)
        self.header, self._early_speech, self._stream = header, {}, decoder
        return decoder

    def _decode(self) -> None:
        progress = True
        while progress:
            progress = False
            for first in sorted(self._waiting):
                waiting = self._waiting[first]
                state = self._state_for(waiting)
                if state is not None:
                    del self._waiting[first]
                    progress |= self._decode_unit(waiting, *state)
        oldest = (self.seen or 0) - KEEP
        for kept in (self._waiting, self.frames, self._states):
            # The newest frame stays, however old it is: until another comes, it is all that there is to show.
            for old in [f for f in kept if f < oldest and not (kept is self.frames and f == self.newest)]:
                del kept[old]

    def _state_for(self, waiting: _Waiting) -> tuple[Keyframe, State] | None:
        keyframe = self._keyframes.get(waiting.tag)
        if keyframe is None or waiting.first < keyframe.frame:
            return None
        if waiting.unit.reference == 0:
            return keyframe, keyframe.state
        found = self._states.get(waiting.first - waiting.unit.reference)
        return found if found is not None and found[0] is keyframe else None

    def _decode_unit(self, waiting: _Waiting, keyframe: Keyframe, state: State) -> bool:
        decoder = self._stream
        if decoder is None:
            return False
        decoder.state = state
        try:
            said = decoder.decode(waiting.unit.payload, waiting.unit.frames)
        except BitstreamError:
            self.damaged += 1
            return False
        for i in range(waiting.unit.frames):
            self.frames[waiting.first + i] = CallFrame({name: values[i] for name, values in said.items()}, keyframe)
        last = waiting.first + waiting.unit.frames - 1
        self._states[last] = (keyframe, decoder.state)
        self.newest = max(self.newest, last)
        return True


def _is_of_a_file(packet: bytes) -> bool:
    try:
        parse_chunk(packet.removeprefix(SIGNATURE), 0, _LIMITS)
    except BitstreamError:
        return packet.startswith(SIGNATURE)
    return True
