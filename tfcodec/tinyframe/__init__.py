"""Tiny frames: 8x8 luma and 4x4 chroma averages of the picture, coded at some hundred bits a second."""

from tfcodec.tinyframe.decoder import TinyDecoder
from tfcodec.tinyframe.encoder import TinyEncoder
from tfcodec.tinyframe.entropy import MAX_FRAMES, CoderState
from tfcodec.tinyframe.moved import Move, MovedKeyframe, restored, without
from tfcodec.tinyframe.planes import TinyPlanes, tiny_from_frames, tiny_to_rgb
from tfcodec.tinyframe.tables import TABLES_ID, tables_sha256

__all__ = [
    "MAX_FRAMES",
    "TABLES_ID",
    "CoderState",
    "Move",
    "MovedKeyframe",
    "TinyDecoder",
    "TinyEncoder",
    "TinyPlanes",
    "restored",
    "tables_sha256",
    "tiny_from_frames",
    "tiny_to_rgb",
    "without",
]
