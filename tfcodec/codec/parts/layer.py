"""The contract of a layer: what is coded frame by frame under a keyframe, with a state that is carried along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ...model.tracker import FaceTracker
    from ...tinyframe import Move, TinyPlanes
    from ...tinyframe.rangecoder import RangeDecoder, RangeEncoder

Frames = NDArray[np.uint8]
Mode = Literal["file", "call"]
State = Any
"""What the next payload depends on; opaque to all but the layer, and the same in encoder and decoder."""
Said = Mapping[str, NDArray[Any]]
"""What layers say of some frames, [n, ...], by name."""
NEVER = 1 << 30
"""A refresh interval, in frames, that is never reached: units of calls name the state that they are predicted from, so
a coder need not start its contexts anew by itself."""


class Refining(Protocol):
    """Looks for tiny frames that the network draws better from, as `tfcodec.codec.file.refine.Refiner` does."""

    def refine(
        self, keyframe: Frames, frames: Frames, planes: TinyPlanes, motion: NDArray[np.int32] | None = None
    ) -> TinyPlanes:
        """Tiny frames for ``frames``, drawn from ``keyframe``, to be coded in place of their box means ``planes``;
        ``motion`` [n, 17] is what the layer of motion says of them."""


@runtime_checkable
class Trying(Refining, Protocol):
    """Has several proposals, between which coding decides."""

    def tries(
        self, keyframe: Frames, frames: Frames, planes: TinyPlanes, motion: NDArray[np.int32] | None = None
    ) -> tuple[list[TinyPlanes], Callable[[TinyPlanes], float]]:
        """Proposals, and how far pictures are off that are drawn from coded ones; arguments as `refine`'s."""


class Aligning(Protocol):
    """Finds out where the pictures lie beside where the network would draw them."""

    def fit(
        self, keyframe: Frames, frames: Frames, tiny: Frames, motion: NDArray[np.int32] | None
    ) -> NDArray[np.float64]:
        """Displacement [T, 12] of the frames in 1/32 pixel, unrounded; the numbers' meaning: `tfcodec.displacement`.

        Args:
            keyframe: what they are drawn from, [256, 256, 3] uint8.
            frames: [T, 256, 256, 3] uint8.
            tiny: what the layer of tiny frames says of them, [T, 8, 8, 3] uint8.
            motion: what the layer of motion says of them, [T, 17]; None without it.
        """


@dataclass(frozen=True)
class Sending:
    """How a stream is sent: what a layer's encoder is made for."""

    quality: int
    """0 (fewest bits) to 10."""
    mode: Mode
    """"file": payloads of up to 128 frames that are coded together; "call": frames are coded as they come."""
    refiner: Refining | None = None
    """Looks for the tiny frames that the network draws best from; None: box means."""
    motion: bool = True
    """Say how the face moves."""
    tracker: FaceTracker | None = None
    """Follows the face; None: the one that comes with the network."""
    device: str = "cpu"
    """Where that one computes, as torch calls it."""
    aligner: Aligning | None = None
    """Finds the displacement of a file's pictures; None: none is sent."""


def follow(motion: bool | FaceTracker) -> tuple[bool, FaceTracker | None]:
    """`Sending.motion` and `Sending.tracker` of what a user asks for: yes, no, or with a tracker of their own."""
    return (motion, None) if isinstance(motion, bool) else (True, motion)


@runtime_checkable
class Looking(Protocol):
    """What a layer's encoder may do besides: work that needs no keyframe, while that is still being coded."""

    def look(self, frames: Frames) -> None:
        """The next `encode` will be of these very frames, [n, 256, 256, 3] uint8."""


@runtime_checkable
class Placing(Protocol):
    """A layer's encoder that knows where the face is in the keyframe."""

    @property
    def place(self) -> tuple[int, int, int] | None:
        """Centre of the face, x and y, and the distance between its eyes, in pixels; None: there is no face."""


@runtime_checkable
class Moving(Protocol):
    """A layer's encoder that may predict from the moved keyframe (`tfcodec.tinyframe.Move`)."""

    place: tuple[int, int, int] | None
    """To be set after `reset`: as `Placing` says."""

    @property
    def move(self) -> Move | None:
        """How the keyframe was moved for the last payload; None if it was not."""


class LayerEncoder(Protocol):
    """Frames to payloads."""

    state: State
    """To be read after a payload, and set before one that is to follow another than the last (in calls, after loss)."""

    def reset(self, keyframe: Frames) -> None:
        """Begin anew from a decoded keyframe [256, 256, 3] uint8."""

    def set_quality(self, quality: int) -> None:
        """Code what comes next for this quality, 0 to 10 as in `Sending`."""

    def encode(self, frames: Frames, beside: Said) -> bytes:
        """The payload of consecutive frames [n, 256, 256, 3] uint8, 1 to 128 of them.

        ``beside``: what the layers before this one, in the order of the registry, say of the same frames. An empty
        payload of an ancillary layer is not sent: the decoder makes up for the frames as for lost ones.
        """

    def encode_into(self, coder: RangeEncoder, frames: Frames, beside: Said) -> None:
        """As `encode`, into a range coder that layers share, as in the units of calls."""

    @property
    def said(self) -> NDArray[Any]:
        """What a decoder gets from the last payload, [n, ...]."""


class LayerDecoder(Protocol):
    """Payloads to what the layer says of each frame."""

    state: State
    """As the encoder's."""

    def reset(self, keyframe: Frames) -> None:
        """Begin anew from a decoded keyframe [256, 256, 3] uint8."""

    def decode(self, payload: bytes, frames: int) -> NDArray[Any]:
        """What the payload says of so many frames, [frames, ...].

        Raises BitstreamError when it is malformed; the state then is the one before.
        """

    def decode_from(self, coder: RangeDecoder, frames: int) -> NDArray[Any]:
        """As `decode`, out of a range coder that layers share; when it raises, the state is undefined."""

    def lose(self, frames: int) -> NDArray[Any]:
        """Stand-ins for so many frames that are lost, [frames, ...]; also before the first `reset`."""


class Carrying:
    """An end of a layer whose state is that of its coder."""

    _coder: Any

    @property
    def state(self) -> State:
        """As `LayerEncoder` says."""
        return self._coder.state

    @state.setter
    def state(self, state: State) -> None:
        self._coder.restore(state)


class Layer(Protocol):
    """A layer's module."""

    def encoder(self, sending: Sending) -> LayerEncoder | None:
        """An encoder; None if streams that are sent so are without the layer."""

    def decoder(self, announced: Any) -> LayerDecoder:
        """A decoder. ``announced``: the chunk that announces the layer, or None for a layer that needs none.

        Raises UnsupportedVersion when it names something that is not here.
        """

    def announcement(self) -> Any:
        """The chunk that announces the layer; not asked for of layers that need none."""


@cache
def layer(name: str) -> Layer:
    """The module of the layer whose row in `tfcodec.bitstream.parts` has that name, in small letters."""
    module: Any = import_module(f"{__package__}.{name}")
    return module
