"""A file's chunks in order, as blocks of decoded frames: nothing is kept, so memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bitstream import BY_CLASS, KeyframeChunk, LayerChunk, MovedTinyChunk, ParsedStream, TinyChunk
from ..parts.keyframes import Chain
from ..parts.layer import State
from .tracks import Track


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A keyframe that could be decoded.

    Attributes:
        number: of the keyframe in the stream, from 0; those that could not be decoded count too.
        first: the first frame drawn from it.
        picture: [256, 256, 3] uint8.
    """

    number: int
    first: int
    picture: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive frames under one keyframe.

    Attributes:
        first: number of the first frame.
        layers: what each layer says of them, [n, ...], by name; of tiny frames [n, 8, 8, 3] uint8.
        held: their tiny frames were lost or damaged, and are made up.
        keyframe: what they are drawn from; None before the first that could be decoded.
    """

    first: int
    layers: dict[str, NDArray[Any]]
    held: bool
    keyframe: Keyframe | None

    @property
    def end(self) -> int:
        """Number of the frame after the last."""
        return self.first + len(self.layers["tiny"])


@dataclass(frozen=True, eq=False)
class Place:
    """Where decoding can begin: at a chunk, with the frame that comes next and what its decoding depends on."""

    chunk: int = 0
    frame: int = 0
    keyframe: Keyframe | None = None
    keyframes: int = 0
    """Number of keyframes in the chunks before ``chunk``."""
    state: State = None
    """Of the layers; None at the beginning and at a keyframe, where they begin anew."""
    chain: Chain = ()
    """What the keyframe that comes next may refer to."""


class Walk:
    """Decodes a file's layers from a place on.

    Args:
        stream: the file.
        track: decodes its chunks; fresh, or left over from another walk.
        place: where to begin.
    """

    def __init__(self, stream: ParsedStream, track: Track, place: Place) -> None:
        self._stream, self._track = stream, track
        self._keyframe, self._keyframes = place.keyframe, place.keyframes
        self._emitted = place.frame
        self._reached = dict.fromkeys(track.layers, place.frame)
        self._said: dict[str, list[NDArray[Any]]] = {name: [] for name in track.layers}
        self._chunk = place.chunk
        self._between = False  # whether all frames of the chunks read so far have been given
        if place.state is not None:
            track.state = place.state
        else:
            track.follow(place.chain)

    @property
    def place(self) -> Place | None:
        """Where another walk could go on from here; None if it could not, as between blocks of one chunk."""
        ahead = any(reached != self._emitted for reached in self._reached.values())
        if not self._between or self._keyframe is None or ahead:
            return None
        return Place(self._chunk, self._emitted, self._keyframe, self._keyframes, self._track.state)

    def __iter__(self) -> Iterator[Block]:
        """The blocks, in order and without gaps, up to the last frame of the stream."""
        chunks = self._stream.chunks
        while self._chunk < len(chunks):
            chunk = chunks[self._chunk]
            self._chunk += 1
            if isinstance(chunk, KeyframeChunk):
                yield from self._hold(chunk.frame_index)
                picture = self._track.keyframe(chunk)
                if picture is not None:
                    self._keyframe = Keyframe(self._keyframes, chunk.frame_index, picture)
                self._keyframes += 1
            elif isinstance(chunk, LayerChunk) and BY_CLASS[type(chunk)].key in self._reached:
                if isinstance(chunk, TinyChunk):
                    yield from self._hold(chunk.first_frame)
                name, notes = BY_CLASS[type(chunk)].key, len(self._track.damaged)
                self._fill(name, chunk.first_frame)
                self._said[name].append(self._track.layer(chunk, self._motion_of(chunk)))
                self._reached[name] = chunk.end_frame
                if isinstance(chunk, TinyChunk):
                    self._between = True
                    yield self._block(chunk.end_frame, len(self._track.damaged) > notes)
                    self._between = False
        yield from self._hold(self._stream.frame_count)

    def _motion_of(self, chunk: LayerChunk) -> NDArray[Any] | None:
        """What the layer of motion says of the frames of a chunk that is predicted from the moved keyframe."""
        if not isinstance(chunk, MovedTinyChunk) or "motion" not in self._said:
            return None
        self._fill("motion", chunk.end_frame)
        start = chunk.first_frame - self._emitted
        return np.concatenate(self._said["motion"])[start : start + chunk.frame_count]

    def _hold(self, until: int) -> Iterator[Block]:
        """Blocks that stand in for frames without tiny frames, before ``until``."""
        if until > self._emitted:
            self._fill("tiny", until)
            yield self._block(until, held=True)

    def _fill(self, name: str, until: int) -> None:
        if until > self._reached[name]:
            self._said[name].append(self._track.lose(name, until - self._reached[name]))
            self._reached[name] = until

    def _block(self, end: int, held: bool) -> Block:
        layers, count = {}, end - self._emitted
        for name, values in self._said.items():
            self._fill(name, end)
            whole = values[0] if len(values) == 1 else np.concatenate(values)
            layers[name] = whole[:count]
            values[:] = [whole[count:]] if len(whole) > count else []
        first, self._emitted = self._emitted, end
        return Block(first, layers, held, self._keyframe)
