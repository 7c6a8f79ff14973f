"""Keyframes: AV1 still pictures of 256x256 pixels, and later ones as inter frames that refer to the one before.

`still` has the pictures that stand alone, `inter` the others, `av1` the way through PyAV, `colour` the way to RGB.
"""

from .colour import SIDE
from .inter import MAX_CHAIN, decode_inter_keyframe, encode_inter_keyframe
from .still import MAX_KEYFRAME_BYTES, SEQUENCE_HEADER, decode_keyframe, encode_keyframe

__all__ = [
    "MAX_CHAIN",
    "MAX_KEYFRAME_BYTES",
    "SEQUENCE_HEADER",
    "SIDE",
    "decode_inter_keyframe",
    "decode_keyframe",
    "encode_inter_keyframe",
    "encode_keyframe",
]
