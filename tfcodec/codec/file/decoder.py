"""Whole streams back to clips: `read_exact` for the exact parts, `decode` for everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...bitstream import (
    BY_CLASS,
    DEFAULT_LIMITS,
    KeyframeChunk,
    LayerChunk,
    Limits,
    ParsedStream,
    SpeechChunk,
    StreamHeader,
    account_stream,
    read_stream,
)
from ...errors import BitstreamError
from ...model.logmel import log_mel
from ...model.registry import find_model
from ...model.renderer import Renderer, render_all
from ...rates import SAMPLE_RATE
from ..results import Clip, StreamInfo
from .tracks import Track, decode_speech_packets

Errors = Literal["raise", "conceal"]
Progress = Callable[[int, int], None]


@dataclass
class ExactParts:
    """The normative part of a decoded stream: the same on every machine."""

    header: StreamHeader
    tiny: NDArray[np.uint8]
    keyframes: list[tuple[int, NDArray[np.uint8]]]
    audio: NDArray[np.float32] | None
    damaged: list[str] = field(default_factory=list)
    layers: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What layers beside the tiny frames say of each frame, [T, ...], by name."""


def read_exact(data: bytes, errors: Errors = "raise", limits: Limits = DEFAULT_LIMITS) -> ExactParts:
    """Decode tiny frames, keyframes and speech; needs no network. Raises BitstreamError."""
    stream = read_stream(data, errors=errors, limits=limits)
    strict = errors == "raise"
    track = Track(stream.header, stream.chunks, strict=strict)
    said: dict[str, list[NDArray[Any]]] = {name: [] for name in track.layers}
    reached = dict.fromkeys(track.layers, 0)
    keyframes: list[tuple[int, NDArray[np.uint8]]] = []

    def fill(name: str, until: int) -> None:
        if until > reached[name]:
            said[name].append(track.lose(name, until - reached[name]))
            reached[name] = until

    for chunk in stream.chunks:
        if isinstance(chunk, KeyframeChunk):
            for name in track.layers:
                fill(name, chunk.frame_index)
            picture = track.keyframe(chunk)
            if picture is not None:
                keyframes.append((chunk.frame_index, picture))
        elif isinstance(chunk, LayerChunk) and (name := BY_CLASS[type(chunk)].key) in reached:
            fill(name, chunk.first_frame)
            said[name].append(track.layer(chunk))
            reached[name] = chunk.end_frame
    for name in track.layers:
        fill(name, stream.frame_count)
    if not keyframes:
        raise BitstreamError("the stream has no keyframe that can be decoded")
    damaged = [reason for _, _, reason in stream.damaged] + track.damaged
    audio = _speech(stream, None if strict else damaged)
    layers = {name: np.concatenate(values) for name, values in said.items()}
    return ExactParts(stream.header, layers.pop("tiny"), keyframes, audio, damaged, layers)


def _speech(stream: ParsedStream, damaged: list[str] | None) -> NDArray[np.float32] | None:
    audio = stream.header.audio
    if audio is None:
        return None
    packets = {
        chunk.first_packet + i: packet
        for chunk in stream.chunks
        if isinstance(chunk, SpeechChunk)
        for i, packet in enumerate(chunk.packets)
    }
    # With damage the total may be unknown; the video's length stands in for it.
    rate = stream.header.rate
    length = stream.audio_samples or stream.frame_count * rate[1] * audio.sample_rate // rate[0]
    return decode_speech_packets(audio, packets, length, damaged)


def render_exact(
    parts: ExactParts, *, coarse: bool = False, fast: bool = False, only: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Draw a stream's frames, in batches [n, 256, 256, 3] uint8. Raises WeightsError before the first one.

    ``fast`` as in `Renderer`, ``only`` as in `render_all`.
    """
    renderer = Renderer(find_model(parts.header.model_id, parts.header.model_hash), fast=fast)
    mel = None if parts.audio is None else log_mel(parts.audio, len(parts.tiny), parts.header.fps)
    return render_all(renderer, parts.keyframes, parts.tiny, mel, coarse, only=only, motion=parts.layers.get("motion"))


def decode_bytes(
    data: bytes, *, errors: Errors = "raise", pixels: bool = True, fast: bool = False, progress: Progress | None = None
) -> Clip:
    """A whole stream as a clip; see `tfcodec.decode`."""
    parts = read_exact(data, errors)
    frames = None
    if pixels:
        batches = render_exact(parts, fast=fast)
        frames = np.empty((len(parts.tiny), 256, 256, 3), np.uint8)
        done = 0
        for batch in batches:
            frames[done : done + len(batch)] = batch
            done += len(batch)
            if progress is not None:
                progress(done, len(frames))
    return Clip(frames, parts.header.fps, parts.audio, SAMPLE_RATE, parts.tiny, parts.keyframes, tuple(parts.damaged))


def probe_bytes(data: bytes, *, errors: Errors = "raise") -> StreamInfo:
    """What a stream holds; see `tfcodec.probe`."""
    stream = read_stream(data, errors=errors)
    if not stream.frame_count:
        raise BitstreamError("the stream has no frames")
    header = stream.header
    return StreamInfo(
        frames=stream.frame_count,
        fps=header.fps,
        model_id=header.model_id,
        model_hash=header.model_hash.hex(),
        keyframes=len(stream.keyframes),
        has_audio=header.audio is not None,
        bytes=account_stream(stream, len(data)),
        damaged=tuple(reason for _, _, reason in stream.damaged),
    )
