"""Which implementation codes which arm."""

from __future__ import annotations

from .arms import CLASSICAL, Arm, Codec
from .classical import Classical
from .own import Frozen, Tfcodec, TfcodecCall, TinyBicubic


def codec_of(arm: Arm) -> Codec:
    """The implementation of an arm."""
    if arm.codec in CLASSICAL:
        return Classical()
    codec = Tfcodec() if arm.delay == "file" else TfcodecCall()
    own: dict[str, Codec] = {"tfcodec": codec, "frozen": Frozen(), "bicubic8": TinyBicubic()}
    return own[arm.codec]
