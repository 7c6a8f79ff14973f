"""The streaming encoder: frames and speech in, packets out; and the whole-clip encoder built on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import speech
from ..bitstream import (
    TAGS,
    AudioConfig,
    Chunk,
    EndChunk,
    KeyframeChunk,
    SpeechChunk,
    StreamHeader,
    TinyChunk,
    write_signature,
)
from ..errors import MediaError, TfcodecError
from ..keyframe import decode_keyframe, encode_keyframe
from ..model.registry import default_model
from ..tinyframe import TABLES_ID, TinyEncoder, tiny_from_frames
from . import policy
from .refine import Refiner
from .sender import CallSender, check_frames
from .types import Packet

Frame = NDArray[np.uint8]
Latency = Literal["call", "file"]
Progress = Callable[[int, int], None]

WINDOW = 128
"""Frames (5.12 s) that the encoder looks at together when delay does not matter."""
PACKET_MS = {"file": 120, "call": 20}


class Encoder:
    """Turns frames and speech into packets, as they come.

    ``latency="call"``: packets leave as soon as their frames are there; each fits into a datagram and can be lost.
    ``latency="file"``: looks up to 5 seconds ahead, costs fewer bits; the packets put together are a `.tfc` file.

    Args:
        quality: 0 (fewest bits) to 10 (best picture and sound).
        latency: see above.
        audio: whether there will be speech; None: decided by the first `push`.
        sample_rate: of the speech that is pushed, in Hz; only 16000.
        expected_frames: length of the clip, if known: a short one gets a smaller keyframe.
        bundle: in calls, frames (1 to 4) that share a packet. Each more is 40 ms more delay and saves about 10 bytes of
            tfcodec's and 60 to 90 of the transport's headers a frame.
        redundancy: in calls, how many earlier packets' tiny frames are repeated in each packet; "auto": as many as the
            losses ask for that the receiver reports.
        refresh: in calls without feedback, frames after which, at the latest, tiny frames start from the keyframe
            again, which costs about 30 bytes; with feedback the sender knows what the receiver has.
        refine: in files, let the network choose the tiny frames that it draws best from (see `tfcodec.codec.refine`)
            in place of box means: 0.8 dB and 4 % of LPIPS (`val`) for 2 % more bits. It comes in bursts, every 128
            frames, and takes about as long as drawing them; without it the encoder needs no network. A `Refiner` brings
            a network of its own.

    Raises:
        TfcodecError: an argument out of range.
        WeightsError: with ``refine``, if the network's weights are not there.
    """

    def __init__(
        self,
        quality: int = 5,
        latency: Latency = "call",
        *,
        audio: bool | None = None,
        sample_rate: int = speech.SAMPLE_RATE,
        expected_frames: int | None = None,
        bundle: int = 2,
        redundancy: int | Literal["auto"] = "auto",
        refresh: int = 25,
        refine: bool | Refiner = True,
    ) -> None:
        self._settings: dict[str, Any] = {
            "quality": quality, "latency": latency, "audio": audio, "sample_rate": sample_rate,
            "expected_frames": expected_frames, "bundle": bundle, "redundancy": redundancy, "refresh": refresh,
            "refine": refine,
        }  # fmt: skip
        if latency not in PACKET_MS:
            raise TfcodecError(f'latency must be "call" or "file", not {latency!r}')
        if sample_rate != speech.SAMPLE_RATE:
            raise TfcodecError(f"speech must be sampled at {speech.SAMPLE_RATE} Hz, not {sample_rate}")
        self.quality = check_quality(quality)
        self.latency: Latency = latency
        self.frames = 0
        self._call = CallSender(self.quality, audio, bundle, redundancy, refresh) if latency == "call" else None
        self._expected = expected_frames
        self._audio = audio
        self._speech: speech.SpeechEncoder | None = None
        self._speech_packets: list[bytes] = []
        self._speech_sent = 0
        self._samples = 0
        self._tiny = TinyEncoder(policy.tiny_quality(self.quality), mode=latency)
        self._window: list[Frame] = []
        self._signatures: list[policy.Signature] = []
        self._cuts = policy.CutDetector()
        self._policy = policy.CallPolicy()
        self._key: policy.Signature | None = None
        self._refiner = _refiner(refine) if latency == "file" else None
        self._picture: Frame | None = None
        self._tag = -1
        self._wanted = True
        self._requested = False
        self._begun = False
        self._finished = False

    def request_keyframe(self) -> None:
        """Send a keyframe with the next frame."""
        self._requested = True
        if self._call is not None:
            self._call.request_keyframe()

    def push(self, frame: Frame | None, audio: ArrayLike | None = None) -> list[Packet]:
        """Encode frames and the speech that goes with them.

        In which pieces they come makes no difference to the packets. With speech, a frame's packet waits until the
        speech of its 40 ms is there, for a second at most; what is missing then counts as silence.

        Args:
            frame: [256, 256, 3] uint8 RGB, frames being 1/25 s apart; or several, [n, 256, 256, 3]; or None.
            audio: [n] float32 mono at 16 kHz in -1..1, any length; time 0 is the beginning of frame 0.

        Returns:
            Packets to send, in order; often none.

        Raises:
            MediaError: wrong shape or type, or speech after a beginning without.
        """
        if self._call is not None:
            packets = self._call.push(frame, audio)
            self.frames = self._call.frames
            return packets
        out: list[Packet] = []
        for i, picture in enumerate(check_frames(frame)):
            out += self._to_packets(self.push_chunks(picture, audio if i == 0 else None))
        if frame is None and audio is not None:
            self._audio = True if self._audio is None else self._audio
            out += self._to_packets(self._push_speech(audio))
        return out

    def push_feedback(self, packet: bytes) -> list[Packet]:
        """Take what the receiver's `Decoder.feedback` said, in a call.

        Returns:
            Packets to send at once: parts of a keyframe that were lost. Anything that is not feedback is ignored.
        """
        return [] if self._call is None else self._call.push_feedback(packet)

    def flush(self) -> list[Packet]:
        """The last packets. The encoder takes nothing after that; a second call returns nothing."""
        if self._call is not None:
            return self._call.flush()
        if self._finished or not self.frames:
            return []
        end = self.flush_chunks()
        return self._to_packets([*end, EndChunk(self.frames, 3 * self._samples if self._audio else None)])

    def reset(self) -> None:
        """Begin a new stream or call with the same settings."""
        self.__init__(**self._settings)  # type: ignore[misc]

    def push_chunks(self, frame: Frame, audio: ArrayLike | None = None) -> list[Chunk]:
        """One frame as chunks of a file; the HEADER is left to the caller.

        With ``latency="call"`` too: tiny frames are then coded one by one, for measuring what that costs.
        """
        if self._finished:
            raise TfcodecError("the encoder was flushed; make a new one")
        frame = check_frames(frame)[0]
        if self._audio is None:
            self._audio = audio is not None
        out = self._push_speech(audio)
        mark = policy.signature(frame)
        requested, self._requested = self._requested, False
        if self.latency == "call":
            self._wanted = self._policy.wants(self.frames, mark) or requested
            out = self._push_now(frame, mark) + out
        else:
            cut = self._cuts.is_cut(mark) or requested
            if cut or len(self._window) == WINDOW:
                out = self._code_window() + out
                self._wanted |= cut
            self._window.append(frame)
            self._signatures.append(mark)
        self.frames += 1
        return out

    def flush_chunks(self) -> list[Chunk]:
        """`flush`, as chunks; END is left to the caller."""
        if self._finished:
            return []
        self._finished = True
        out = self._code_window()
        if self._speech is not None:
            self._speech_packets += self._speech.flush()
            # The codec may round its last block up; the stream holds what the length asks for.
            config = self.audio_config(self._samples)
            del self._speech_packets[config.packets_for(3 * self._samples) - self._speech_sent :]
            out += self._speech_chunks(1)
        return out

    def audio_config(self, samples: int) -> AudioConfig:
        """How the speech is coded; ``samples`` at 16 kHz, 0 if not known yet."""
        skip = 3 * self._speech_encoder().pre_skip  # at the codec's clock of 48 kHz
        return AudioConfig(48 * PACKET_MS[self.latency], skip, 3 * samples)

    def header(self, *, final: bool = False) -> StreamHeader:
        """The stream's HEADER; ``final``: with the totals, which are known after `flush_chunks`."""
        entry = default_model()
        frames, samples = (self.frames, self._samples) if final else (0, 0)
        audio = self.audio_config(samples) if self._audio else None
        return StreamHeader(frames, entry.model_id, entry.hash_prefix, TABLES_ID, audio)

    def _speech_encoder(self) -> speech.SpeechEncoder:
        if self._speech is None:
            self._speech = speech.SpeechEncoder(speech.bitrate_of(self.quality), PACKET_MS[self.latency])
        return self._speech

    def _push_speech(self, audio: ArrayLike | None) -> list[Chunk]:
        if not self._audio:
            if audio is not None and np.size(audio):
                raise MediaError("speech after a beginning without: give Encoder audio=True")
            return []
        if audio is None:
            return []
        samples = np.asarray(audio, np.float32)
        self._speech_packets += self._speech_encoder().push(samples)
        self._samples += len(samples)
        # Long lists are cheaper to frame; in a call every packet goes at once.
        return self._speech_chunks(1 if self.latency == "call" else 5000 // PACKET_MS["file"])

    def _speech_chunks(self, at_least: int) -> list[Chunk]:
        if len(self._speech_packets) < at_least or not self._speech_packets:
            return []
        chunk = SpeechChunk(self._speech_sent, tuple(self._speech_packets))
        self._speech_sent += len(self._speech_packets)
        self._speech_packets = []
        return [chunk]

    def _push_now(self, frame: Frame, mark: policy.Signature) -> list[Chunk]:
        out: list[Chunk] = []
        if self._wanted:
            out.append(self._send_keyframe(frame, mark, self.frames))
        payload = self._tiny.encode(tiny_from_frames(frame[None]))
        out.append(TinyChunk(self.frames, 1, payload, self._tag))
        return out

    def _code_window(self) -> list[Chunk]:
        if not self._window:
            return []
        out: list[Chunk] = []
        first = self.frames - len(self._window)
        if self._wanted or (self._key is not None and policy.has_drifted(self._key, self._signatures)):
            best = policy.choose_keyframe(self._signatures, self._window)
            out.append(self._send_keyframe(self._window[best], self._signatures[best], first))
        frames = np.stack(self._window)
        planes = tiny_from_frames(frames)
        if self._refiner is not None and self._picture is not None:
            planes = self._refiner.refine(self._picture, frames, planes)
        out.append(TinyChunk(first, len(planes), self._tiny.encode(planes), self._tag))
        self._window, self._signatures = [], []
        return out

    def _send_keyframe(self, frame: Frame, mark: policy.Signature, index: int) -> KeyframeChunk:
        frames = policy.TYPICAL_FRAMES if self._expected is None else self._expected - index
        quality = policy.keyframe_quality(self.quality, frames)
        data = encode_keyframe(frame, quality, fast=self.latency == "call")
        self._picture = decode_keyframe(data)
        self._tiny.reset(tiny_from_frames(self._picture[None]))
        self._tag = (self._tag + 1) % TAGS
        self._key, self._wanted = mark, False
        self._policy.sent(index, mark)
        return KeyframeChunk(index, data, self._tag)

    def _to_packets(self, chunks: list[Chunk]) -> list[Packet]:
        packets = [c.to_bytes() for c in chunks]
        if chunks and not self._begun:
            self._begun = True
            packets[0] = write_signature() + self.header().to_bytes() + packets[0]
        return [Packet(packet) for packet in packets]


def _refiner(refine: bool | Refiner) -> Refiner | None:
    if not isinstance(refine, bool):
        return refine
    if not refine:
        return None
    from ..model.weights import load_model

    return Refiner(load_model(default_model()))


def check_quality(quality: int) -> int:
    """The quality, if it is one. Raises TfcodecError."""
    if isinstance(quality, bool) or not isinstance(quality, int | np.integer) or not 0 <= quality <= 10:
        raise TfcodecError(f"quality must be a whole number from 0 to 10, not {quality!r}")
    return int(quality)


def encode_clip(
    frames: Iterator[Frame],
    audio: NDArray[np.float32] | None,
    quality: int,
    expected: int | None,
    progress: Progress | None,
    refine: bool | Refiner = True,
) -> bytes:
    """Encode a whole clip, with totals in the header and no END chunk. Raises MediaError when it has no frames."""
    encoder = Encoder(quality, "file", audio=audio is not None, expected_frames=expected, refine=refine)
    per_frame = speech.SAMPLE_RATE // 25
    chunks: list[Chunk] = []
    for i, frame in enumerate(frames):
        part = None if audio is None else audio[i * per_frame : (i + 1) * per_frame]
        chunks += encoder.push_chunks(frame, part)
        if progress is not None:
            progress(i + 1, expected or i + 1)
    if not encoder.frames:
        raise MediaError("the source has no frames")
    return finish_file(encoder, chunks)


def finish_file(encoder: Encoder, chunks: list[Chunk]) -> bytes:
    """A file of what `Encoder.push_chunks` gave and what is left in the encoder: totals in the header, no END chunk."""
    chunks = [*chunks, *encoder.flush_chunks()]
    return b"".join([write_signature(), encoder.header(final=True).to_bytes(), *(c.to_bytes() for c in chunks)])
