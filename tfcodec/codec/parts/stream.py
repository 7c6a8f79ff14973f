"""Keyframes and layers together, the same for files and calls: the one place where a keyframe enters a stream."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from ...bitstream import (
    LAYERS,
    TAGS,
    AudioConfig,
    Chunk,
    InterKeyframeChunk,
    KeyframeChunk,
    LayerChunk,
    MovedTinyChunk,
    StreamHeader,
    TinyChunk,
)
from ...errors import UnsupportedVersion
from ...keyframe import encode_inter_keyframe, encode_keyframe
from ...model.registry import default_model
from ...tinyframe import TABLES_ID
from ...tinyframe.rangecoder import RangeDecoder, RangeEncoder
from .. import policy
from .keyframes import Chain, KeyframeDecoder
from .layer import Frames, LayerDecoder, LayerEncoder, Looking, Mode, Moving, Placing, Sending, State, layer

Values = dict[str, NDArray[Any]]
"""What each layer says of some frames, [n, ...], by the layer's name."""
States = Mapping[str, State]


def stream_header(audio: AudioConfig | None, frames: int = 0) -> StreamHeader:
    """The HEADER of a stream that this version writes; ``frames`` 0: not known yet."""
    entry = default_model()
    return StreamHeader(frames, entry.model_id, entry.hash_prefix, TABLES_ID, audio)


def _cores() -> int:
    """Cores that the program may use: torch's threads, which there are none of where nothing has imported it."""
    torch = sys.modules.get("torch")
    return 1 if torch is None else torch.get_num_threads()


class _Layers:
    """The layers of one end of a stream, whose states are kept and set together."""

    layers: Mapping[str, LayerEncoder] | Mapping[str, LayerDecoder]

    @property
    def state(self) -> States:
        """What the next payloads depend on; to be set when they follow others than the last."""
        return {name: coder.state for name, coder in self.layers.items()}

    @state.setter
    def state(self, states: States) -> None:
        for name, state in states.items():
            self.layers[name].state = state


class StreamEncoder(_Layers):
    """Keyframes and layers to chunks, or to the payloads of a call.

    Attributes:
        layers: the layers' encoders by name.
        tag: of the last keyframe.
        chain: what the next keyframe may refer to.
    """

    def __init__(self, sending: Sending) -> None:
        made = ((part.key, layer(part.key).encoder(sending)) for part in LAYERS)
        self.layers: dict[str, LayerEncoder] = {name: coder for name, coder in made if coder is not None}
        self.tag = -1
        self.chain: Chain = ()
        self.announcements: list[Chunk] = [
            layer(part.key).announcement() for part in LAYERS if part.announced_by and part.key in self.layers
        ]
        """What goes between HEADER and the first keyframe."""
        self._sending = sending

    def keyframe(
        self, frame: Frames, index: int, serves: int = policy.TYPICAL_FRAMES, *, refer: bool = False,
        ahead: Frames | None = None,
    ) -> KeyframeChunk:  # fmt: skip
        """Code a frame [256, 256, 3] uint8 as keyframe, from which all layers begin anew.

        Args:
            frame: the picture.
            index: number of the first frame that refers to it.
            serves: frames that will; the more, the more bytes it is worth.
            refer: it may refer to the keyframe before, if that is cheaper.
            ahead: the frames that `chunks` will be asked for next; the face is followed in them meanwhile, if there is
                a core for that.
        """
        self.tag = (self.tag + 1) % TAGS
        looking = [one for one in self.layers.values() if isinstance(one, Looking)]
        if ahead is not None and looking and _cores() > 1:
            with ThreadPoolExecutor(1, "tfcodec-keyframe") as pool:
                coded = pool.submit(self._code, frame, index, serves, refer)
                for one in looking:
                    one.look(ahead)
                chunk = coded.result()
        else:
            chunk = self._code(frame, index, serves, refer)
        decoder = KeyframeDecoder(self.chain)
        picture = decoder.decode(chunk)  # what the receiver will have
        self.chain = decoder.chain
        place = None
        for coder in self.layers.values():
            coder.reset(picture)
            if isinstance(coder, Moving):
                coder.place = place
            elif isinstance(coder, Placing):
                place = coder.place
        return chunk

    def _code(self, frame: Frames, index: int, serves: int, refer: bool) -> KeyframeChunk:
        quality = policy.keyframe_quality(self._sending.quality, serves)
        fast = self._sending.mode == "call"
        data = encode_keyframe(frame, quality, fast=fast)
        if refer and self.chain and (shorter := encode_inter_keyframe(frame, self.chain, data, fast=fast)) is not None:
            return InterKeyframeChunk.after(self.chain[-1], index, shorter, self.tag)
        return KeyframeChunk(index, data, self.tag)

    @property
    def quality(self) -> int:
        """Of what comes next, 0 to 10."""
        return self._sending.quality

    @quality.setter
    def quality(self, quality: int) -> None:
        if quality != self._sending.quality:
            self._sending = replace(self._sending, quality=quality)
            for coder in self.layers.values():
                coder.set_quality(quality)

    def encode(self, frames: Frames) -> dict[str, bytes]:
        """Payloads of consecutive frames [n, 256, 256, 3] uint8, by layer."""
        return {name: coder.encode(frames, beside) for name, coder, beside in self._in_turn()}

    def _in_turn(self) -> Iterator[tuple[str, LayerEncoder, Values]]:
        """The layers, each with what those before it have said of the frames that it is to encode."""
        said: Values = {}
        for name, coder in self.layers.items():
            yield name, coder, said
            said[name] = coder.said

    def chunks(self, frames: Frames, first: int) -> list[LayerChunk]:
        """`encode`, as chunks of a file; ``first``: the number of the first frame."""
        payloads = self.encode(frames)
        chunks: list[LayerChunk] = []
        for part in LAYERS:
            payload, coder = payloads.get(part.key, b""), self.layers.get(part.key)
            if coder is None or (part.ancillary and not payload):
                continue
            if isinstance(coder, Moving) and (move := coder.move) is not None:
                place = (move.shape, move.x, move.y, move.distance)
                chunks.append(MovedTinyChunk(first, len(frames), payload, self.tag, *place))
            else:
                chunks.append(part.chunk(first, len(frames), payload, self.tag))
        return sorted(chunks, key=lambda chunk: isinstance(chunk, TinyChunk))  # with tiny frames a file ends

    def unit(self, frames: Frames) -> tuple[bytes, dict[str, int]]:
        """The payload of a call's unit of frames [n, 256, 256, 3] uint8, all layers in one range coder; and how many
        of its bytes each layer takes, to the nearest."""
        whole = RangeEncoder()
        ends: list[float] = []
        for _, coder, beside in self._in_turn():
            coder.encode_into(whole, frames, beside)
            ends.append(whole.bits / 8)
        payload = whole.finish()
        edges = [0, *(min(round(end), len(payload)) for end in ends[:-1]), len(payload)]
        return payload, {name: end - start for name, (start, end) in zip(self.layers, pairwise(edges), strict=True)}


class StreamDecoder(_Layers):
    """Chunks, or the payloads of a call, to keyframes and what the layers say.

    Args:
        header: the stream's.
        chunks: those between HEADER and the first keyframe, which announce layers; others among them do not matter.
        mode: of the stream: some layers are in files only.

    Raises UnsupportedVersion if the stream's tables are not here.
    """

    def __init__(self, header: StreamHeader, chunks: Iterable[Chunk] = (), mode: Mode = "file") -> None:
        if header.tables_id != TABLES_ID:
            raise UnsupportedVersion(f"the stream uses entropy tables {header.tables_id}; this version has {TABLES_ID}")
        said = {type(chunk): chunk for chunk in chunks}
        self.layers: dict[str, LayerDecoder] = {
            part.key: layer(part.key).decoder(said.get(part.announced_by))
            for part in LAYERS
            if (part.announced_by is None or part.announced_by in said) and (mode == "file" or part.in_calls)
        }
        self.tag: int | None = None
        """Of the last keyframe."""
        self._keyframes = KeyframeDecoder()

    @property
    def chain(self) -> Chain:
        """What the next keyframe may refer to; to be set when that is not the last."""
        return self._keyframes.chain

    @chain.setter
    def chain(self, chain: Chain) -> None:
        self._keyframes.chain = chain

    def keyframe(self, chunk: KeyframeChunk) -> Frames:
        """The picture [256, 256, 3] uint8; all layers begin anew from it.

        Raises ReferenceLostError if it refers to another than the last, BitstreamError if it is damaged.
        """
        picture = self._keyframes.decode(chunk)
        for coder in self.layers.values():
            coder.reset(picture)
        self.tag = chunk.keyframe_tag
        return picture

    def decode(self, payload: bytes, frames: int) -> Values:
        """What a unit of a call says. Raises BitstreamError when it is malformed; the state is undefined then."""
        whole = RangeDecoder(payload)
        values = {name: coder.decode_from(whole, frames) for name, coder in self.layers.items()}
        whole.finish()
        return values
