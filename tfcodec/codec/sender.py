"""The sender of a call: frames and speech in, packets out, and what the receiver says about them in between."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import speech
from ..bitstream import (
    MAX_PACKET,
    MAX_REFERENCE,
    MAX_UNIT_FRAMES,
    MAX_UNITS,
    TAGS,
    AudioConfig,
    EndPacket,
    FeedbackPacket,
    KeyframeChunk,
    KeyframePacket,
    MediaPacket,
    SequenceCounter,
    StreamHeader,
    TinyUnit,
    extend,
    fragment,
    parse_packet,
)
from ..errors import BitstreamError, MediaError, TfcodecError
from ..keyframe import decode_keyframe, encode_keyframe
from ..model.registry import default_model
from ..tinyframe import TABLES_ID, CoderState, TinyEncoder, tiny_from_frames
from . import policy
from .types import Packet

Frame = NDArray[np.uint8]
Redundancy = int | Literal["auto"]

SPEECH_MS = 40
"""Speech packets last as long as a frame, so that one number serves both."""
SAMPLES = speech.SAMPLE_RATE // 25
PATIENCE = 25
"""Frames for which a picture waits for its speech; what is missing then is sent as silence."""
RESEND = (3, 25)
"""Least and most frames in which a part of a keyframe is not sent again; between them, the round trip decides."""
ALIVE = 35
"""Frames (1.4 s) without feedback after which the sender helps itself by restarts."""
AUTO_REDUNDANCY = ((0.02, 1), (0.10, 2))
"""Reported share of lost packets, and how many earlier units are then repeated in each packet."""


class CallSender:
    """What `tfcodec.Encoder` does in calls; the arguments are described there."""

    def __init__(self, quality: int, audio: bool | None, bundle: int, redundancy: Redundancy, refresh: int) -> None:
        if not 1 <= bundle <= MAX_UNIT_FRAMES:
            raise TfcodecError(f"bundle must be 1 to {MAX_UNIT_FRAMES} frames, not {bundle!r}")
        if redundancy != "auto" and redundancy not in range(MAX_UNITS):
            raise TfcodecError(f'redundancy must be "auto" or 0 to {MAX_UNITS - 1}, not {redundancy!r}')
        if refresh < 1:
            raise TfcodecError(f"refresh must be at least 1 frame, not {refresh}")
        self.quality = quality
        self.audio = audio
        self.frames = 0
        self.fraction_lost = 0.0
        self._bundle, self._redundancy, self._refresh = bundle, redundancy, refresh
        # Every payload names the state it is predicted from, so contexts never have to start anew by themselves.
        self._tiny = TinyEncoder(policy.tiny_quality(quality), mode="call", refresh=1 << 30)
        self._policy = policy.CallPolicy()
        self._requested = False
        self._sequence = 0
        self._queue: list[Frame] = []
        self._unit: list[Frame] = []
        self._recent: list[TinyUnit] = []
        self._tag = -1
        self._key_state: CoderState | None = None
        self._states: dict[int, CoderState] = {}
        self._restart = True
        self._restarted_at = 0
        self._reference: int | None = None
        self._recovered_at = 0
        self._object = b""
        self._object_at = 0
        self._resent: dict[tuple[int, int], int] = {}
        self._round_trip = RESEND[0]  # frames
        self._feedback = SequenceCounter()
        self._heard_at: int | None = None
        self._speech: speech.SpeechEncoder | None = None
        self._sound = np.zeros(0, np.float32)  # waits for its frame
        self._debt = 0  # samples that were sent as silence and may still come
        self._samples = 0
        self._speech_ready: list[bytes] = []
        self._finished = False

    def request_keyframe(self) -> None:
        self._requested = True

    def push(self, frame: Frame | None, audio: ArrayLike | None) -> list[Packet]:
        if self._finished:
            raise TfcodecError("the encoder was flushed; make a new one")
        frames = check_frames(frame)
        self._take_sound(audio)
        out: list[Packet] = []
        for picture in frames:
            self._queue.append(picture)
            out += self._advance()
        return out + self._advance()

    def flush(self) -> list[Packet]:
        if self._finished:
            return []
        out = []
        while self._queue:
            out += self._code(self._queue.pop(0))
        self._finished = True
        if not self.frames:
            return []
        out += self._close_unit()
        if self._speech is not None:
            rest = self._speech.flush()
            config = AudioConfig(48 * SPEECH_MS, 3 * speech.PRE_SKIP, 0)
            del rest[config.packets_for(3 * self._samples) - self.frames :]
            for packet in rest:
                self._speech_ready = [packet]
                self.frames += 1
                out += self._media((), self.frames - 1)
                self.frames -= 1
        return [*out, Packet(EndPacket(self._number(), self.frames).to_bytes(), parts={"header": 7})]

    def push_feedback(self, packet: bytes) -> list[Packet]:
        """Take the receiver's feedback; give what is to be sent at once."""
        try:
            feedback = parse_packet(bytes(packet))
        except BitstreamError:
            return []
        if not isinstance(feedback, FeedbackPacket) or not self._feedback.add(feedback.sequence) or not self.frames:
            return []
        self._heard_at = self.frames
        # Losses come in bursts: believe bad news at once and good news slowly.
        self.fraction_lost = max(feedback.fraction_lost, 0.8 * self.fraction_lost)
        seen = extend(feedback.timestamp, self.frames)
        self._round_trip = min(max(self.frames - seen + 1, RESEND[0]), RESEND[1])
        if feedback.wanted:
            whole = feedback.keyframe_tag != self._tag or not feedback.missing
            return self._resend([(0, len(self._object))] if whole else list(feedback.missing))
        if feedback.broken and feedback.keyframe_tag == self._tag and seen >= self._recovered_at:
            known = None if feedback.state is None else extend(feedback.state, self.frames)
            if known in self._states:
                self._reference = known
            else:
                self._restart = True
            self._recovered_at = self.frames  # what the receiver says before it can have seen this frame is old news
        return []

    # Pictures

    def _advance(self) -> list[Packet]:
        out: list[Packet] = []
        while self._queue:
            if self.audio and len(self._sound) < SAMPLES and len(self._queue) <= PATIENCE:
                break
            out += self._code(self._queue.pop(0))
        return out

    def _code(self, frame: Frame) -> list[Packet]:
        out: list[Packet] = []
        mark = policy.signature(frame)
        if self._policy.wants(self.frames, mark) or self._requested:
            out += self._close_unit()
            out += self._keyframe(frame, mark)
        self._unit.append(frame)
        self._code_sound()
        self.frames += 1
        if len(self._unit) == self._bundle:
            out += self._close_unit()
        return out

    def _keyframe(self, frame: Frame, mark: policy.Signature) -> list[Packet]:
        data = encode_keyframe(frame, policy.keyframe_quality(self.quality, policy.TYPICAL_FRAMES), fast=True)
        self._tiny.reset(tiny_from_frames(decode_keyframe(data)[None]))
        self._key_state, self._states, self._recent = self._tiny.state, {}, []
        self._tag = (self._tag + 1) % TAGS
        self._policy.sent(self.frames, mark)
        self._requested, self._restart, self._reference = False, True, None
        self._object = self._header().to_bytes() + KeyframeChunk(self.frames, data, self._tag).to_bytes()
        self._object_at, self._resent = self.frames, {}
        return self._resend([(0, len(self._object))])

    def _resend(self, parts: list[tuple[int, int]]) -> list[Packet]:
        out = []
        for offset, length in fragment(len(self._object), parts):
            if self.frames - self._resent.get((offset, length), -RESEND[1]) < self._round_trip:
                continue
            self._resent[offset, length] = self.frames
            data = self._object[offset : offset + length]
            packet = KeyframePacket(
                self._number(), self._object_at, self._tag, len(self._object), offset, data
            ).to_bytes()
            out.append(Packet(packet, True, {"header": len(packet) - length, "keyframe": length}))
        return out

    def _close_unit(self) -> list[Packet]:
        if not self._unit:
            return []
        first, count = self.frames - len(self._unit), len(self._unit)
        deaf = self._heard_at is None or self.frames - self._heard_at > ALIVE
        state, reference = None, 1
        if self._restart or (deaf and first - self._restarted_at >= self._refresh):
            state, reference = self._key_state, 0
        elif self._reference is not None and first - self._reference <= MAX_REFERENCE:
            state, reference = self._states.get(self._reference), first - self._reference
        if state is not None:
            self._tiny.restore(state)
        if reference == 0:
            self._restarted_at = first
        elif state is None:
            reference = 1
        self._restart, self._reference = False, None
        payload = self._tiny.encode(tiny_from_frames(np.stack(self._unit)))
        self._unit = []
        last = first + count - 1
        self._states[last] = self._tiny.state
        for old in [f for f in self._states if f < last - MAX_REFERENCE]:
            del self._states[old]
        unit = TinyUnit(count, reference, payload)
        out = self._media((unit, *self._recent[: self._repeats()]), last)
        self._recent = [unit, *self._recent[: MAX_UNITS - 2]]
        return out

    def _repeats(self) -> int:
        if self._redundancy != "auto":
            return self._redundancy
        return max((n for share, n in AUTO_REDUNDANCY if self.fraction_lost > share), default=0)

    # Sound

    def _take_sound(self, audio: ArrayLike | None) -> None:
        if self.audio is None:
            self.audio = audio is not None
        if audio is None:
            return
        samples = np.asarray(audio, np.float32)
        if not self.audio:
            if samples.size:
                raise MediaError("speech after a beginning without: give Encoder audio=True")
            return
        if samples.ndim != 1:
            raise MediaError(f"speech must be mono, [n], not {list(samples.shape)}")
        late = min(self._debt, len(samples))
        self._debt -= late
        self._sound = np.concatenate([self._sound, samples[late:]])

    def _code_sound(self) -> None:
        if not self.audio:
            return
        if self._speech is None:
            self._speech = speech.SpeechEncoder(speech.bitrate_of(self.quality), SPEECH_MS)
        piece, self._sound = self._sound[:SAMPLES], self._sound[SAMPLES:]
        self._samples += SAMPLES
        self._debt += SAMPLES - len(piece)
        self._speech_ready += self._speech.push(np.pad(piece, (0, SAMPLES - len(piece))))

    # Packets

    def _media(self, units: tuple[TinyUnit, ...], timestamp: int) -> list[Packet]:
        sound, self._speech_ready = tuple(self._speech_ready), []
        packet = MediaPacket(self._number(), timestamp, max(self._tag, 0), units, sound)
        while len(packet.to_bytes()) > MAX_PACKET and len(packet.units) > 1:
            packet = MediaPacket(packet.sequence, timestamp, packet.keyframe_tag, packet.units[:-1], sound)
        if len(packet.to_bytes()) <= MAX_PACKET or not (packet.units and sound):
            return [_accounted(packet)]
        alone = MediaPacket(packet.sequence, timestamp, packet.keyframe_tag, packet.units)
        return [_accounted(alone), _accounted(MediaPacket(self._number(), timestamp, packet.keyframe_tag, (), sound))]

    def _number(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    def _header(self) -> StreamHeader:
        entry = default_model()
        sound = AudioConfig(48 * SPEECH_MS, 3 * speech.PRE_SKIP, 0) if self.audio else None
        return StreamHeader(0, entry.model_id, entry.hash_prefix, TABLES_ID, sound)


def check_frames(frame: Frame | None) -> Frame:
    """[n, 256, 256, 3] uint8 of one frame, several or none. Raises MediaError for anything else."""
    if frame is None:
        return np.zeros((0, 256, 256, 3), np.uint8)
    good = isinstance(frame, np.ndarray) and frame.shape[-3:] == (256, 256, 3) and frame.ndim <= 4
    if not good or frame.dtype != np.uint8:
        got = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise MediaError(f"a frame must be [256, 256, 3] uint8 RGB, not {got}")
    return frame[None] if frame.ndim == 3 else frame


def _accounted(packet: MediaPacket) -> Packet:
    data = packet.to_bytes()
    tiny = len(packet.units[0].payload) if packet.units else 0
    repeated = sum(len(unit.payload) for unit in packet.units[1:])
    sound = sum(len(p) for p in packet.speech)
    rest = len(data) - tiny - repeated - sound
    return Packet(data, False, {"header": rest, "tiny": tiny, "redundancy": repeated, "speech": sound})
