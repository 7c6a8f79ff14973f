"""The parts of a stream, coded alike in files and calls.

A stream has keyframes (`keyframe`), layers (coded frame by frame under a keyframe: tiny frames) and speech (`speech`).
Each must be able to do the same things: **encode**, **decode**, make up for what is **lost**, **reset**, **count** its
bytes. The last is the affair of its row in `tfcodec.bitstream.parts`; the rest is the contract in `layer`, which the
module of a layer fills: ``tfcodec/codec/parts/NAME.py``, with the row's name in small letters. `stream` puts the parts
together. docs/architecture.md has the recipe for a new one.
"""

from .layer import Layer, LayerDecoder, LayerEncoder, Sending, layer
from .stream import StreamDecoder, StreamEncoder

__all__ = ["Layer", "LayerDecoder", "LayerEncoder", "Sending", "StreamDecoder", "StreamEncoder", "layer"]
