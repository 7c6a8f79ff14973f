"""The sender of a call: frames and speech in, packets out, and what the receiver says about them in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ...bitstream import (
    MAX_PACKET,
    MAX_REFERENCE,
    MAX_UNITS,
    AudioConfig,
    EndPacket,
    FeedbackPacket,
    KeyframePacket,
    MediaPacket,
    TinyUnit,
    extend,
    fragment,
    parse_packet,
)
from ...errors import BitstreamError, TfcodecError
from ...rates import FPS, FRAME_MS, SAMPLES_PER_FRAME
from ...samples import Samples
from ...speech.gate import GatedEncoder
from ...speech.packets import Encoder as SpeechEncoder
from .. import policy
from ..frames import Frame, check_frames, check_silent, check_speech
from ..options import EncodeOptions
from ..parts import Sending, StreamEncoder, speech
from ..parts.layer import State, follow
from ..parts.stream import stream_header
from ..results import Packet
from .drift import Drift, squeezed
from .origin import Listeners, first_number

if TYPE_CHECKING:
    from ..typical import RateControl

PACKET_MS = FRAME_MS
"""Speech packets last as long as a frame, so that one number serves both."""
PATIENCE = 25
"""Frames for which a picture waits for its speech; what is missing then is sent as silence."""
RESEND = (3, 25)
"""Frames to wait before a part of a keyframe is sent again: the round trip, but at least and at most these."""
ALIVE = 35
"""Frames (1.4 s) without feedback after which the sender restarts from the keyframe by itself, now and then."""
AUTO_REDUNDANCY = ((0.02, 1), (0.10, 2))
"""Reported share of lost packets, and how many earlier units are then repeated in each packet."""


class CallEncoder:
    """What `tfcodec.Encoder` does in calls; the arguments are described there."""

    def __init__(self, options: EncodeOptions, audio: bool | None, control: RateControl | None = None) -> None:
        self._voice, self._control = options.voice(), control
        self.audio = audio if self._voice else False
        self.frames = 0
        self.fraction_lost = 0.0
        self.drift = Drift()
        self._options = options
        self.stream = StreamEncoder(Sending(options.quality, "call", None, *follow(options.motion), options.where()))
        self._policy = policy.CallPolicy()
        self._requested = False
        self._sequence = first_number() if options.origin is None else options.origin
        self._queue: list[Frame] = []
        self._unit: list[Frame] = []
        self._recent: list[TinyUnit] = []
        self._key_state: State | None = None
        self._states: dict[int, State] = {}
        self._restart = True
        self._restarted_at = 0
        self._reference: int | None = None
        self._recovered_at = 0
        self._object = b""
        self._object_at = 0
        self._held = False  # the receiver has said that it has the last keyframe
        self._resent: dict[tuple[int, int], int] = {}
        self._round_trip = RESEND[0]  # frames
        self._feedback = Listeners()
        self._heard_at: int | None = None
        self._speech: SpeechEncoder | None = None
        self._sound = np.zeros(0, np.float32)  # waits for its frame
        self._debt = 0  # samples that were sent as silence and may still come
        self._samples = 0
        self._speech_ready: list[bytes] = []
        self._finished = False

    @property
    def silent(self) -> bool:
        """Whether it takes no speech."""
        return self.audio is False

    def request_keyframe(self) -> None:
        self._requested = True

    def push(self, frame: Frame | None, audio: ArrayLike | None) -> list[Packet]:
        if self._finished:
            raise TfcodecError("the encoder was flushed; make a new one")
        frames = check_frames(frame)
        sound = check_speech(audio) if self._voice else None
        self.drift.pushed(len(frames), 0 if sound is None else len(sound))
        self._take_sound(sound)
        out: list[Packet] = []
        for picture in frames:
            self._queue.append(picture)
            if self.audio and self.drift.leaves_out(len(self._queue) - 1):
                self._queue.pop(0)
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
        config = self._audio_config()
        if self._speech is not None and config is not None:
            rest = self._speech.flush()
            del rest[speech.packets_for(config, self._samples) - self.frames :]
            for packet in rest:
                self._speech_ready = [packet]
                self.frames += 1
                out += self._media((), self.frames - 1)
                self.frames -= 1
        end = EndPacket(self._number(), self.frames).to_bytes()
        return [*out, Packet(end, parts={"header": len(end)}, time=self.frames / FPS)]

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
        current = feedback.keyframe_tag == self.stream.tag
        if feedback.orphaned:
            # Only a keyframe that stands alone helps, and it is on its way if this is said of another than the last.
            self._requested |= current
            return []
        self._held |= current and not feedback.wanted and seen >= self._object_at
        if feedback.wanted:
            whole = not current or not feedback.missing
            return self._resend([(0, len(self._object))] if whole else list(feedback.missing))
        if feedback.broken and current and seen >= self._recovered_at:
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
            if self.audio and len(self._sound) < SAMPLES_PER_FRAME and len(self._queue) <= PATIENCE:
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
        if len(self._unit) == self._options.bundle:
            out += self._close_unit()
        return out

    def _keyframe(self, frame: Frame, mark: policy.Signature) -> list[Packet]:
        # What was asked for may be asked for because something is lost; after a cut there is nothing to refer to.
        refer = self._options.inter_keyframes and self._held and not (self._requested or self._policy.cut)
        serves = policy.TYPICAL_FRAMES if self._requested else self._policy.serves(self.frames)
        chunk = self.stream.keyframe(frame, self.frames, serves, refer=refer)
        self._held = False
        self._key_state, self._states, self._recent = self.stream.state, {}, []
        self._policy.sent(self.frames, mark)
        self._requested, self._restart, self._reference = False, True, None
        header = stream_header(self._audio_config())
        self._object = b"".join(part.to_bytes() for part in (header, *self.stream.announcements, chunk))
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
                self._number(), self._object_at, self.stream.tag, len(self._object), offset, data
            ).to_bytes()
            parts_of = {"header": len(packet) - length, "keyframe": length}
            out.append(Packet(packet, True, parts_of, self._object_at / FPS))
        if self._control is not None:
            self._control.sent(out)
        return out

    def _close_unit(self) -> list[Packet]:
        if not self._unit:
            return []
        first, count = self.frames - len(self._unit), len(self._unit)
        deaf = self._heard_at is None or self.frames - self._heard_at > ALIVE
        state, reference = None, 1
        if self._restart or (deaf and first - self._restarted_at >= self._options.refresh):
            state, reference = self._key_state, 0
        elif self._reference is not None and first - self._reference <= MAX_REFERENCE:
            state, reference = self._states.get(self._reference), first - self._reference
        if state is not None:
            self.stream.state = state
        if reference == 0:
            self._restarted_at = first
        elif state is None:
            reference = 1
        self._restart, self._reference = False, None
        if self._control is not None:
            self.stream.quality = self._control.at(first)
        payload, shares = self.stream.unit(np.stack(self._unit))
        self._unit = []
        last = first + count - 1
        self._states[last] = self.stream.state
        for old in [f for f in self._states if f < last - MAX_REFERENCE]:
            del self._states[old]
        unit = TinyUnit(count, reference, payload)
        out = self._media((unit, *self._recent[: self._repeats()]), last, shares)
        if self._control is not None:
            self._control.sent(out)
        self._recent = [unit, *self._recent[: MAX_UNITS - 2]]
        return out

    def _repeats(self) -> int:
        if self._options.redundancy != "auto":
            return self._options.redundancy
        return max((n for share, n in AUTO_REDUNDANCY if self.fraction_lost > share), default=0)

    # Sound

    def _take_sound(self, samples: Samples | None) -> None:
        if self.audio is None:
            self.audio = samples is not None
        if samples is None:
            return
        if not self.audio:
            check_silent(samples)
            return
        late = min(self._debt, len(samples))
        self._debt -= late
        self._sound = np.concatenate([self._sound, samples[late:]])

    def _audio_config(self) -> AudioConfig | None:
        return speech.audio_config(self._voice, PACKET_MS) if self._voice and self.audio else None

    def _code_sound(self) -> None:
        if not self.audio or self._voice is None:
            return
        if self._speech is None:
            # Packets that leave together can be sent after all if there is voice in the last of them.
            lookback = self._options.bundle - 1
            self._speech = speech.encoder(self._voice, PACKET_MS, self._options.silence, lookback=lookback)
        taken = SAMPLES_PER_FRAME + self.drift.extra(max(0, len(self._sound) - SAMPLES_PER_FRAME))
        piece, self._sound = self._sound[:taken], self._sound[taken:]
        if len(piece) > SAMPLES_PER_FRAME:
            piece = squeezed(piece, SAMPLES_PER_FRAME)
        self._samples += SAMPLES_PER_FRAME
        self._debt += SAMPLES_PER_FRAME - len(piece)
        self._speech_ready += self._speech.push(np.pad(piece, (0, SAMPLES_PER_FRAME - len(piece))))

    # Packets

    def _media(
        self, units: tuple[TinyUnit, ...], timestamp: int, layers: Mapping[str, int] | None = None
    ) -> list[Packet]:
        """Packets of units, whose first has these ``layers``, and of the speech that is ready."""
        if isinstance(self._speech, GatedEncoder):
            self._speech_ready += self._speech.release()
        # With no list at all they are known to be empty as well, and cost nothing.
        sound, self._speech_ready = tuple(self._speech_ready if any(self._speech_ready) else ()), []
        if not (units or sound):
            return []
        tag, layers = max(self.stream.tag, 0), layers or {}
        packet = MediaPacket(self._number(), timestamp, tag, units, sound)
        while len(packet.to_bytes()) > MAX_PACKET and len(packet.units) > 1:
            packet = MediaPacket(packet.sequence, timestamp, tag, packet.units[:-1], sound)
        if len(packet.to_bytes()) <= MAX_PACKET or not (packet.units and sound):
            return [_accounted(packet, layers)]
        alone = MediaPacket(packet.sequence, timestamp, tag, packet.units)
        return [
            _accounted(alone, layers), _accounted(MediaPacket(self._number(), timestamp, tag, (), sound), {})
        ]  # fmt: skip

    def _number(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def _accounted(packet: MediaPacket, layers: Mapping[str, int]) -> Packet:
    data = packet.to_bytes()
    parts = dict(layers)
    parts["redundancy"] = sum(len(unit.payload) for unit in packet.units[1:])
    parts["speech"] = sum(len(p) for p in packet.speech)
    return Packet(data, False, {"header": len(data) - sum(parts.values()), **parts}, packet.timestamp / FPS)
