"""The receiver of a call: packets in as they arrive, a frame out at every tick of the receiver's clock."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bitstream import (
    DEFAULT_LIMITS,
    SIGNATURE,
    Chunk,
    EndChunk,
    KeyframeChunk,
    KeyframePartChunk,
    SpeechChunk,
    StreamHeader,
    TinyChunk,
    iter_chunks_of_packet,
    join_keyframe_parts,
)
from ..errors import BitstreamError, UnsupportedVersion
from ..model.inputs import MEL_BANDS, MEL_COLUMNS, MEL_PER_FRAME, REACH
from ..model.registry import find_model
from .render import MEL_SILENCE, Renderer, tiny_windows
from .speechline import SAMPLES_PER_FRAME, SpeechLine
from .tracks import GREY, TinyTrack

MAX_PENDING = 1024
"""Chunks that wait for their turn; more can only come from a broken or hostile sender, and the oldest are dropped."""
MAX_GAP = DEFAULT_LIMITS.max_gap_frames


class Decoder:
    """Decodes a call. `push` takes packets in any order; `pull` gives the next frame and never blocks or fails.

    A frame counts as lost when a later one is there; it is concealed. When nothing newer is there either, the last
    picture is shown again and the clock waits.

    Args:
        lookahead: 0, 1 or 2 frames (of 40 ms) to wait for, so that the network sees a little of the future. Speech
            needs one, because its codec delays it by 6.5 ms: with 0 it comes one frame later than the picture.

    Attributes:
        wants_keyframe: a loss has damaged the prediction; ask the sender for ``Encoder.request_keyframe()``.
        lost_frames: frames concealed so far.
        damaged_packets: packets that were ignored because they could not be read.
        next_frame: index of the frame that `pull` gives next; None before the first keyframe.
    """

    def __init__(self, *, lookahead: int = 1) -> None:
        if lookahead not in (0, 1, 2):
            raise ValueError(f"lookahead must be 0, 1 or 2, not {lookahead!r}")
        self.lookahead = lookahead
        self.lost_frames = 0
        self.damaged_packets = 0
        self.next_frame: int | None = None
        self._header: StreamHeader | None = None
        self._renderer: Renderer | None = None
        self._track: TinyTrack | None = None
        self._speech: SpeechLine | None = None
        self._early_speech: list[SpeechChunk] = []
        self._pending: list[KeyframeChunk | TinyChunk] = []
        self._parts: dict[tuple[int, int], list[KeyframePartChunk]] = {}
        self._tiny: dict[int, NDArray[np.uint8]] = {}
        self._pictures: dict[int, NDArray[np.uint8]] = {}
        self._held: set[int] = set()
        self._waited = 0
        self._segment = 0
        self._decoded = 0
        self._newest = -1
        self._end: int | None = None
        self._shown = np.full((256, 256, 3), GREY, np.uint8)
        self._sound = np.zeros(SAMPLES_PER_FRAME, np.float32)

    @property
    def wants_keyframe(self) -> bool:
        """Whether the picture is held or drifting because something was lost."""
        return self._track is None or self._track.broken

    def push(self, packet: bytes) -> None:
        """Take one packet; a damaged one is counted and ignored.

        Raises:
            UnsupportedVersion: the stream needs a newer version of tfcodec.
            WeightsError: the stream names a network that is not installed.
        """
        packet = bytes(packet).removeprefix(SIGNATURE)
        try:
            for chunk in iter_chunks_of_packet(packet):
                self._take(chunk)
        except UnsupportedVersion:
            raise
        except BitstreamError:
            self.damaged_packets += 1

    def pull(self) -> NDArray[np.uint8]:
        """The next frame, [256, 256, 3] uint8 RGB; grey before the first keyframe has come."""
        self._sound = np.zeros(SAMPLES_PER_FRAME, np.float32)
        if not self._ready():
            self._waited += self.next_frame is not None
            return self._shown.copy()
        frame = self.next_frame
        if frame is None or self._renderer is None or self._track is None:
            return self._shown.copy()
        self._decode_until(frame + 1)
        # While the clock waited for frames that, as is known now, were lost, the last picture stood in for them: what
        # is shown now is the first frame after them, or the delay would grow with every loss.
        while self._waited and frame in self._held and frame + self.lookahead < self._newest:
            self._waited -= 1
            frame += 1
            self._decode_until(frame + 1)
        future = min(frame + self.lookahead, self._newest)
        if future > frame:
            self._decode_until(future + 1)
        for first in sorted(f for f in self._pictures if f <= frame):
            self._renderer.set_keyframe(self._pictures.pop(first))
            self._segment = first
        if self._speech is not None:
            self._sound = self._speech.frame(frame if self.lookahead else frame - 1)
        self._shown = self._draw(frame)
        self.next_frame = frame + 1
        for old in [f for f in self._tiny if f < frame - REACH]:
            del self._tiny[old]
            self._held.discard(old)
        return self._shown.copy()

    def pull_audio(self) -> NDArray[np.float32]:
        """Speech of the frame that `pull` gave last: [640] float32 at 16 kHz; silence where there is none."""
        return self._sound

    def _take(self, chunk: Chunk) -> None:
        if isinstance(chunk, StreamHeader):
            self._begin(chunk)
        elif isinstance(chunk, KeyframePartChunk):
            parts = self._parts.setdefault((chunk.frame_index, chunk.keyframe_tag), [])
            if len(parts) < MAX_PENDING:
                parts.append(chunk)
            whole = join_keyframe_parts(parts)
            if whole is not None:
                del self._parts[chunk.frame_index, chunk.keyframe_tag]
                self._queue(whole)
            while len(self._parts) > 4:
                del self._parts[min(self._parts)]
        elif isinstance(chunk, KeyframeChunk | TinyChunk):
            self._queue(chunk)
        elif isinstance(chunk, SpeechChunk):
            if self._speech is not None:
                self._speech.add(chunk)
            elif self._header is None and len(self._early_speech) < MAX_PENDING:
                self._early_speech.append(chunk)
        elif isinstance(chunk, EndChunk):
            self._end = chunk.frame_count

    def _begin(self, header: StreamHeader) -> None:
        if self._header is not None:
            return
        track = TinyTrack(header.tables_id, strict=False)
        self._renderer = Renderer(find_model(header.model_id, header.model_hash))
        self._header, self._track = header, track
        self._end = header.frame_count or None
        if header.audio is not None:
            self._speech = SpeechLine(header.audio)
            for chunk in self._early_speech:
                self._speech.add(chunk)
        self._early_speech = []

    def _queue(self, chunk: KeyframeChunk | TinyChunk) -> None:
        if self.next_frame is not None and _position(chunk)[0] > max(self.next_frame, self._newest) + MAX_GAP:
            self.damaged_packets += 1  # no sender is so far ahead: damage that a checksum missed, or a forgery
            return
        if isinstance(chunk, TinyChunk):
            if chunk.first_frame < self._decoded or chunk in self._pending:
                return  # too late, or a second copy
            self._newest = max(self._newest, chunk.end_frame - 1)
        elif chunk in self._pending or (self.next_frame is not None and chunk.frame_index < self._segment):
            return
        self._pending.append(chunk)
        self._pending.sort(key=_position)
        if len(self._pending) > MAX_PENDING:
            del self._pending[0]

    def _ready(self) -> bool:
        if self.next_frame is None:
            keys = [c.frame_index for c in self._pending if isinstance(c, KeyframeChunk)]
            if self._track is None or not keys:
                return False
            self.next_frame = self._decoded = keys[0]
            self._pending = [c for c in self._pending if _position(c)[0] >= keys[0]]
        needed = self.next_frame + self.lookahead
        if self._end is not None:
            needed = min(needed, self._end - 1)
        return self.next_frame <= self._newest and needed <= self._newest

    def _decode_until(self, end: int) -> None:
        """Decode what is pending, in order, until frame ``end``; lost frames in between are held."""
        track = self._track
        if track is None:
            return
        while self._pending and _position(self._pending[0])[0] < end:
            chunk = self._pending.pop(0)
            if isinstance(chunk, KeyframeChunk):
                self._hold_until(chunk.frame_index)
                picture = track.keyframe(chunk)
                if picture is not None:
                    # One that was late (its parts were lost at first) counts from the first frame not drawn yet.
                    self._pictures[max(chunk.frame_index, self.next_frame or 0)] = picture
            elif chunk.first_frame >= self._decoded:
                self._hold_until(chunk.first_frame)
                self._store(track.tiny(chunk))
        self._hold_until(end)

    def _hold_until(self, frame: int) -> None:
        if self._track is not None:
            while self._decoded < frame:
                self.lost_frames += 1
                self._held.add(self._decoded)
                self._store(self._track.hold(1))

    def _store(self, tiny: NDArray[np.uint8]) -> None:
        for picture in tiny:
            self._tiny[self._decoded] = picture
            self._decoded += 1

    def _draw(self, frame: int) -> NDArray[np.uint8]:
        if self._renderer is None:
            return self._shown
        last = min([frame + self.lookahead, self._decoded - 1, *(f - 1 for f in self._pictures)])
        first = max(self._segment, frame - REACH)
        while first not in self._tiny:
            first += 1
        stack = np.stack([self._tiny[f] for f in range(first, last + 1)])
        windows = tiny_windows(stack, np.array([frame - first]))
        if self._speech is None:
            mel = np.full((MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, np.float32)
        else:
            mel = self._speech.mel(frame, last - frame)
            mel[(REACH + 1 + last - frame) * MEL_PER_FRAME :] = MEL_SILENCE
        try:
            return self._renderer.render(windows, mel[None])[0]
        except RuntimeError:
            return self._shown  # no keyframe has survived


def _position(chunk: KeyframeChunk | TinyChunk) -> tuple[int, int]:
    return (chunk.frame_index, 0) if isinstance(chunk, KeyframeChunk) else (chunk.first_frame, 1)
