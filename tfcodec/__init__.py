"""tfcodec: talking-face video at very low bit rates.

    data = tfcodec.encode("talk.mp4")          # bytes of a .tfc stream
    clip = tfcodec.decode(data)                # clip.frames [T, 256, 256, 3] uint8, clip.audio float32
    info = tfcodec.probe(data)                 # where every byte goes
    for frame in tfcodec.open("talk.tfc"):     # one frame after another, however long the file
        frame.pixels, frame.audio, frame.time

Heavy libraries (torch, PyAV, SciPy) are loaded when they are first needed, not by this import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .api import decode, decode_to, encode, open, probe
from .errors import (
    BitstreamError,
    ChecksumError,
    LimitExceeded,
    MediaError,
    NoFaceError,
    SpeechCodecMissing,
    TfcodecError,
    TruncatedError,
    UnsupportedVersion,
    WeightsError,
)

if TYPE_CHECKING:
    from .batch import decode_batch, encode_batch
    from .codec.call.decoder import Decoder
    from .codec.encoder import Encoder
    from .codec.file.reader import Reader
    from .codec.results import Clip, DecodedFrame, DrawnClip, Packet, Shown, StreamInfo

__version__ = "0.1.0"
__all__ = [
    "BitstreamError",
    "ChecksumError",
    "Clip",
    "DecodedFrame",
    "Decoder",
    "DrawnClip",
    "Encoder",
    "LimitExceeded",
    "MediaError",
    "NoFaceError",
    "Packet",
    "Reader",
    "Shown",
    "SpeechCodecMissing",
    "StreamInfo",
    "TfcodecError",
    "TruncatedError",
    "UnsupportedVersion",
    "WeightsError",
    "__version__",
    "decode",
    "decode_batch",
    "decode_to",
    "encode",
    "encode_batch",
    "open",
    "probe",
]

_LAZY = {
    "Encoder": "codec.encoder", "Decoder": "codec.call.decoder", "Reader": "codec.file.reader", "encode_batch": "batch",
    "decode_batch": "batch",
    **dict.fromkeys(("Clip", "DecodedFrame", "DrawnClip", "Packet", "Shown", "StreamInfo"), "codec.results"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
