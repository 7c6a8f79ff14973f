"""The contract of a layer: what is coded frame by frame under a keyframe, with a state that is carried along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ...tinyframe import TinyPlanes

Frames = NDArray[np.uint8]
Mode = Literal["file", "call"]
State = Any
"""What the next payload depends on; opaque to all but the layer, and the same in encoder and decoder."""


class Refining(Protocol):
    """Looks for tiny frames that the network draws better from, as `tfcodec.codec.file.refine.Refiner` does."""

    def refine(self, keyframe: Frames, frames: Frames, planes: TinyPlanes) -> TinyPlanes:
        """Tiny frames for ``frames``, drawn from ``keyframe``, to be coded in place of their box means ``planes``."""


@dataclass(frozen=True)
class Sending:
    """How a stream is sent: what a layer's encoder is made for."""

    quality: int
    """0 (fewest bits) to 10."""
    mode: Mode
    """"file": payloads of up to 128 frames that are coded together; "call": frames are coded as they come."""
    refiner: Refining | None = None
    """Looks for the tiny frames that the network draws best from; None: box means."""


class LayerEncoder(Protocol):
    """Frames to payloads."""

    state: State
    """To be read after a payload, and set before one that is to follow another than the last (in calls, after loss)."""

    def reset(self, keyframe: Frames) -> None:
        """Begin anew from a decoded keyframe [256, 256, 3] uint8."""

    def encode(self, frames: Frames) -> bytes:
        """The payload of consecutive frames [n, 256, 256, 3] uint8, 1 to 128 of them."""


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

    def lose(self, frames: int) -> NDArray[Any]:
        """Stand-ins for so many frames that are lost, [frames, ...]; also before the first `reset`."""


class Layer(Protocol):
    """A layer's module."""

    def encoder(self, sending: Sending) -> LayerEncoder | None:
        """An encoder; None if streams that are sent so are without the layer."""

    def decoder(self) -> LayerDecoder:
        """A decoder."""


@cache
def layer(name: str) -> Layer:
    """The module of the layer whose row in `tfcodec.bitstream.parts` has that name, in small letters."""
    module: Any = import_module(f"{__package__}.{name}")
    return module
