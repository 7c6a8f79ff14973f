"""The parts of a stream, coded alike in files and calls.

A stream has keyframes, layers (coded frame by frame under a keyframe: motion, tiny frames) and speech. Each can do
the same five things: **encode**, **decode**, make up for what is **lost**, **reset**, **count** its bytes. Counting
is done by its row in `tfcodec.bitstream.parts`. For layers, `layer` has the contract of the other four; each layer
has a module that fulfils it, ``tfcodec/codec/parts/NAME.py``, with the row's name in small letters. `speech` is the
speech; `stream` has the keyframes and puts the parts together. docs/architecture.md has the recipe for a new layer.
"""

from .layer import Layer, LayerDecoder, LayerEncoder, Sending, layer
from .stream import StreamDecoder, StreamEncoder

__all__ = ["Layer", "LayerDecoder", "LayerEncoder", "Sending", "StreamDecoder", "StreamEncoder", "layer"]
