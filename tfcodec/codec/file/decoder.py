"""Whole streams back to clips: `read_exact` for the exact parts, `read_clip` for everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bitstream import DEFAULT_LIMITS, Limits, StreamHeader, read_stream
from ...errors import BitstreamError, LimitExceeded
from ...model.logmel import log_mel
from ...model.registry import find_model
from ...model.renderer import render_all
from ...rates import SAMPLE_RATE
from ...runtime import open_renderer
from ..results import Clip, DrawnClip, StreamInfo
from .info import Errors, describe_bytes
from .reader import Reader
from .sound import FileSpeech
from .tracks import Track
from .walk import Place, Walk

MAX_FRAMES = 15_000
"""Frames (10 minutes, 2.7 GiB) that `tfcodec.decode` draws unless it is asked for more."""
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
    track = Track(stream.header, stream.chunks, strict=errors == "raise")
    said: dict[str, list[NDArray[Any]]] = {name: [] for name in track.layers}
    keyframes: dict[int, NDArray[np.uint8]] = {}
    for block in Walk(stream, track, Place()):
        for name, values in block.layers.items():
            said[name].append(values)
        if block.keyframe is not None:
            keyframes.setdefault(block.keyframe.first, block.keyframe.picture)
    if not keyframes:
        raise BitstreamError("the stream has no keyframe that can be decoded")
    layers = {name: np.concatenate(values) for name, values in said.items()}
    audio, damaged = None, [reason for _, _, reason in stream.damaged] + track.damaged
    sound = FileSpeech(stream, strict=track.strict) if stream.header.audio is not None else None
    if sound is not None and not sound.missing:
        audio = sound.samples(0, sound.length)
        damaged += sound.damaged
    return ExactParts(stream.header, layers.pop("tiny"), list(keyframes.items()), audio, damaged, layers)


def render_exact(parts: ExactParts, *, only: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.uint8]]:
    """Draw a stream's frames, in batches [n, 256, 256, 3] uint8; ``only`` as in `render_all`. Raises WeightsError."""
    renderer = open_renderer(find_model(parts.header.model_id, parts.header.model_hash))
    mel = None if parts.audio is None else log_mel(parts.audio, len(parts.tiny), parts.header.fps)
    motion, displacement = (parts.layers.get(name) for name in ("motion", "displacement"))
    return render_all(
        renderer, parts.keyframes, parts.tiny, mel, only=only, motion=motion, displacement=displacement
    )  # fmt: skip


def read_clip(
    reader: Reader, *, pixels: bool = True, progress: Progress | None = None, max_frames: int | None = None
) -> Clip:
    """A whole stream as a clip; see `tfcodec.decode`."""
    count = len(reader)
    most = (MAX_FRAMES if pixels else count) if max_frames is None else max_frames
    if count > most:
        raise LimitExceeded(
            f"the stream has {count} frames, whose pictures take {count * 256 * 256 * 3 / (1 << 30):.1f} GiB: pass "
            f"max_frames={count} to have them all at once, or read them one by one with tfcodec.open"
        )
    frames = np.empty((count, 256, 256, 3), np.uint8) if pixels else None
    tiny = np.empty((count, 8, 8, 3), np.uint8)
    sound: list[NDArray[np.float32]] = []
    for frame in reader:
        tiny[frame.number] = frame.tiny
        if frames is not None and frame.pixels is not None:
            frames[frame.number] = frame.pixels
        if frame.audio is not None:
            sound.append(frame.audio)
        if progress is not None and frames is not None:
            progress(frame.number + 1, count)
    audio = None if reader.speech is None else reader.speech.whole(sound)
    rest = (
        reader.fps, audio, SAMPLE_RATE, tiny, reader.keyframes(), reader.damaged, reader.speech_missing,
        reader.network,
    )  # fmt: skip
    return Clip(None, *rest) if frames is None else DrawnClip(frames, *rest)


def probe_bytes(data: bytes, *, errors: Errors = "raise") -> StreamInfo:
    """What a stream holds; see `tfcodec.probe`."""
    return describe_bytes(data, errors=errors)
