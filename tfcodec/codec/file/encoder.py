"""The encoder of files, which looks ahead; and the whole-clip encoder built on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...bitstream import (
    AudioConfig,
    Chunk,
    EndChunk,
    KeyframeChunk,
    LayerChunk,
    SpeechChunk,
    StreamHeader,
    write_signature,
)
from ...errors import MediaError, TfcodecError
from ...model.registry import default_model
from ...rates import FPS, OPUS_PER_SAMPLE, SAMPLES_PER_FRAME
from ...samples import Samples
from ...speech.packets import Encoder as SpeechEncoder
from .. import policy
from ..frames import Frame, check_frames, check_silent, check_speech
from ..options import EncodeOptions
from ..parts import Sending, StreamEncoder, speech
from ..parts.layer import Aligning, Refining, follow
from ..parts.stream import stream_header
from ..results import Packet
from .align import Aligner
from .refine import Refiner

Progress = Callable[[int, int], None]

WINDOW = 128
"""Frames (5.12 s) that the encoder looks at together."""
SPEECH_MS = 5000
"""Of speech that shares a chunk: long lists of packets are cheaper to frame."""


class FileEncoder:
    """What `tfcodec.Encoder` does for files; the arguments are described there.

    Attributes:
        frames: frames taken.
        stream: keyframes and layers.
    """

    def __init__(self, options: EncodeOptions, audio: bool | None, expected_frames: int | None = None) -> None:
        self.frames = 0
        self.stream = StreamEncoder(
            Sending(
                options.quality, "file", _refiner(options), *follow(options.motion), options.where(), _aligner(options)
            )
        )
        self._voice = options.voice()
        self._audio, self._expected = audio if self._voice else False, expected_frames
        self._packet_ms = self._voice.file_packet_ms if self._voice else SPEECH_MS
        self._options = options
        self._speech: SpeechEncoder | None = None
        self._speech_packets: list[bytes] = []
        self._speech_sent = 0
        self._samples = 0
        self._window: list[Frame] = []
        self._signatures: list[policy.Signature] = []
        self._cuts = policy.CutDetector()
        self._key: policy.Signature | None = None
        self._key_at = 0
        self._wanted = True
        self._requested = False
        self._begun = False
        self._finished = False

    @property
    def silent(self) -> bool:
        """Whether it takes no speech."""
        return self._audio is False

    def request_keyframe(self) -> None:
        """Begin a new window, with a keyframe, at the next frame."""
        self._requested = True

    def push(self, frame: Frame | None, audio: ArrayLike | None = None) -> list[Packet]:
        """See `tfcodec.Encoder.push`."""
        if self._finished:
            raise TfcodecError("the encoder was flushed; make a new one")
        frames, samples = check_frames(frame), self._check_speech(audio)
        out: list[Packet] = []
        for i, picture in enumerate(frames):
            out += self._to_packets(self.push_chunks(picture, samples if i == 0 else None))
        if not len(frames) and samples is not None:
            self._audio = True if self._audio is None else self._audio
            out += self._to_packets(self._push_speech(samples))
        return out

    def flush(self) -> list[Packet]:
        """See `tfcodec.Encoder.flush`."""
        if self._finished or not self.frames:
            return []
        end = self.flush_chunks()
        total = OPUS_PER_SAMPLE * self._samples if self._audio else None
        return self._to_packets([*end, EndChunk(self.frames, total)])

    def push_chunks(self, frame: Frame, audio: ArrayLike | None = None) -> list[Chunk]:
        """One frame as chunks of a file; the HEADER is left to the caller."""
        if self._finished:
            raise TfcodecError("the encoder was flushed; make a new one")
        frame, samples = check_frames(frame)[0], self._check_speech(audio)
        if self._audio is None:
            self._audio = samples is not None
        out = self._push_speech(samples)
        mark = policy.signature(frame)
        requested, self._requested = self._requested, False
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
        audio = self._audio_config()
        if self._speech is not None and audio is not None:
            self._speech_packets += self._speech.flush()
            # The codec may round its last block up; the stream holds what the length asks for.
            needed = speech.packets_for(audio, self._samples)
            del self._speech_packets[needed - self._speech_sent :]
            out += self._speech_chunks(1)
        return out

    def header(self, *, final: bool = False) -> StreamHeader:
        """The stream's HEADER; ``final``: with the totals, which are known after `flush_chunks`."""
        frames, samples = (self.frames, self._samples) if final else (0, 0)
        return stream_header(self._audio_config(samples), frames)

    def _check_speech(self, audio: ArrayLike | None) -> Samples | None:
        return check_speech(audio) if self._voice else None

    def _audio_config(self, samples: int = 0) -> AudioConfig | None:
        return speech.audio_config(self._voice, self._packet_ms, samples) if self._voice and self._audio else None

    def _push_speech(self, samples: Samples | None) -> list[Chunk]:
        if not self._audio:
            check_silent(samples)
            return []
        if samples is None:
            return []
        if self._speech is None and self._voice is not None:
            self._speech = speech.encoder(self._voice, self._packet_ms, self._options.silence, lookback=1)
        if self._speech is None:
            return []
        self._speech_packets += self._speech.push(samples)
        self._samples += len(samples)
        return self._speech_chunks(SPEECH_MS // self._packet_ms)

    def _speech_chunks(self, at_least: int) -> list[Chunk]:
        if len(self._speech_packets) < at_least or not self._speech_packets:
            return []
        chunk = SpeechChunk(self._speech_sent, tuple(self._speech_packets))
        self._speech_sent += len(self._speech_packets)
        self._speech_packets = []
        return [chunk]

    def _code_window(self) -> list[Chunk]:
        if not self._window:
            return []
        out: list[Chunk] = []
        first, frames = self.frames - len(self._window), np.stack(self._window)
        if self._wanted or (self._key is not None and policy.has_drifted(self._key, self._signatures)):
            best = policy.choose_keyframe(self._signatures, self._window)
            if self._key is None:
                out += self.stream.announcements
            serves = policy.TYPICAL_FRAMES if self._expected is None else self._expected - first
            if not self._wanted:  # it is sent for drift: the next will come as soon
                serves = min(serves, first - self._key_at)
            # After a cut there is nothing to refer to, and one that was asked for is to be a point to begin at.
            refer = self._options.inter_keyframes and not self._wanted
            out.append(self.stream.keyframe(self._window[best], first, serves, refer=refer, ahead=frames))
            self._key, self._key_at, self._wanted = self._signatures[best], first, False
        out += self.stream.chunks(frames, first)
        self._window, self._signatures = [], []
        return out

    def _to_packets(self, chunks: list[Chunk]) -> list[Packet]:
        packets = [c.to_bytes() for c in chunks]
        if chunks and not self._begun:
            self._begun = True
            packets[0] = write_signature() + self.header().to_bytes() + packets[0]
        return [
            Packet(packet, isinstance(chunk, KeyframeChunk), time=_time(chunk, self._packet_ms))
            for packet, chunk in zip(packets, chunks, strict=True)
        ]


def _time(chunk: Chunk, packet_ms: int) -> float:
    """See `Packet.time`."""
    if isinstance(chunk, SpeechChunk):
        return (chunk.first_packet + len(chunk.packets) - 1) * packet_ms / 1000
    if isinstance(chunk, LayerChunk):
        return (chunk.end_frame - 1) / FPS
    if isinstance(chunk, KeyframeChunk):
        return chunk.frame_index / FPS
    return chunk.frame_count / FPS if isinstance(chunk, EndChunk) else 0.0


def _refiner(options: EncodeOptions) -> Refining | None:
    if not isinstance(options.refine, bool):
        return options.refine
    if not options.refine:
        return None
    from ...model.weights import load_model

    device = options.where()
    return Refiner(load_model(default_model(), device), device=device)


def _aligner(options: EncodeOptions) -> Aligning | None:
    """Who looks at what will be drawn also says how far that is displaced."""
    if not options.refine:
        return None
    network = options.refine.model if isinstance(options.refine, Refiner) else default_model()
    return Aligner(network, device=options.where())


def encode_clip(
    frames: Iterator[Frame],
    audio: NDArray[np.float32] | None,
    options: EncodeOptions,
    expected: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Encode a whole clip, with totals in the header and no END chunk. Raises MediaError when it has no frames."""
    encoder = FileEncoder(options, audio is not None, expected)
    chunks: list[Chunk] = []
    for i, frame in enumerate(frames):
        part = None if audio is None else audio[i * SAMPLES_PER_FRAME : (i + 1) * SAMPLES_PER_FRAME]
        chunks += encoder.push_chunks(frame, part)
        if progress is not None:
            progress(i + 1, expected or i + 1)
    if not encoder.frames:
        raise MediaError("the source has no frames")
    return finish_file(encoder, chunks)


def finish_file(encoder: FileEncoder, chunks: list[Chunk]) -> bytes:
    """A file of what `FileEncoder.push_chunks` gave and what is left in the encoder: totals in the header, no END."""
    chunks = [*chunks, *encoder.flush_chunks()]
    return b"".join([write_signature(), encoder.header(final=True).to_bytes(), *(c.to_bytes() for c in chunks)])
