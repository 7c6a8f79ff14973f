"""AV1 through PyAV: pictures to packets and back, and the framing of its open bitstream units (OBUs; AV1, 5.3)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcodec.errors import BitstreamError, MediaError, TruncatedError

from .colour import SIDE, Planes

if TYPE_CHECKING:
    from av.codec.context import CodecContext

SEQUENCE, DELIMITER, FRAME = 1, 2, 6
"""Types of OBUs."""
_HEADERS = (3, 4, 6, 7)  # frame headers, tile groups and whole frames: what a picture is made of


def encode(pictures: Iterable[Planes], preset: int, options: str) -> list[bytes]:
    """Packets of SVT-AV1, one for each picture. Raises MediaError if PyAV has no such encoder, or it fails."""
    import av

    # The library writes its banner to stderr by itself and can be told not to in this way only.
    os.environ.setdefault("SVT_LOG", "-1")
    try:
        codec: Any = av.codec.CodecContext.create("libsvtav1", "w")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"this PyAV ({av.__version__}) has no SVT-AV1 encoder") from error
    codec.width = codec.height = SIDE
    codec.pix_fmt = "yuv420p"
    codec.framerate = 25
    codec.time_base = codec.framerate**-1
    codec.thread_count = 1
    codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc = 2, 1, 1, 1
    codec.options = {"preset": str(preset), "svtav1-params": options}
    packets: list[bytes] = []
    try:
        with own_priority():
            for time, planes in enumerate(pictures):
                picture = av.VideoFrame(SIDE, SIDE, "yuv420p")
                for plane, samples in zip(picture.planes, planes, strict=True):
                    padded = np.zeros((plane.height, plane.line_size), np.uint8)
                    padded[:, : plane.width] = samples
                    plane.update(padded.tobytes())
                picture.color_range = 2
                picture.pts = time
                packets += map(bytes, codec.encode(picture))
            packets += map(bytes, codec.encode(None))
    except av.FFmpegError as error:
        raise MediaError(f"the AV1 encoder failed: {error}") from error
    return packets


@contextmanager
def own_priority() -> Iterator[None]:
    """Leave the calling thread's scheduling as it is: SVT-AV1, run as root, makes it a real-time thread for good."""
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def decode(packets: Sequence[bytes]) -> Planes:
    """The last of as many pictures as there are packets, each in one packet. Raises BitstreamError."""
    import av

    codec: Any = _decoder()
    codec.thread_count = 1
    try:
        frames = [frame for packet in packets for frame in codec.decode(av.Packet(packet))] + codec.decode(None)
    except (av.FFmpegError, ValueError) as error:
        raise BitstreamError("keyframe: not a decodable AV1 picture") from error
    if len(frames) != len(packets):
        raise BitstreamError(f"keyframe: {len(frames)} pictures instead of {len(packets)}")
    frame = frames[-1]
    if (frame.width, frame.height) != (SIDE, SIDE) or frame.format.name not in ("yuv420p", "yuvj420p"):
        raise BitstreamError(f"keyframe: decodes to {frame.width}x{frame.height} {frame.format.name}")
    return tuple(
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()
        for plane in frame.planes
    )


def _decoder() -> CodecContext:
    import av

    for name in ("libdav1d", "libaom-av1"):
        try:
            return av.codec.CodecContext.create(name, "r")
        except (av.FFmpegError, ValueError):
            continue
    raise MediaError(f"this PyAV ({av.__version__}) has no AV1 decoder")


def packet(frame: bytes, sequence: bytes = b"") -> bytes:
    """A packet for the decoder: temporal delimiter, sequence header if there is one, and a frame (OBU payloads)."""
    units = ((DELIMITER, b""), (SEQUENCE, sequence), (FRAME, frame))
    return b"".join(
        bytes((kind << 3 | 2,)) + leb128(len(body)) + body for kind, body in units if body or kind == DELIMITER
    )


def picture_of(stream: bytes) -> tuple[bytes, bytes]:
    """(sequence header, frame) of an encoder's packet of one picture, as OBU payloads; empty where there is none.

    Raises MediaError if the picture is in several units.
    """
    sequence = frame = b""
    at = 0
    while at < len(stream):
        header = stream[at]
        at += 2 if header & 4 else 1
        size = shift = 0
        while True:
            size |= (stream[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not stream[at - 1] & 0x80:
                break
        body = stream[at : at + size]
        at += size
        kind = header >> 3 & 15
        if kind == SEQUENCE:
            sequence = body
        elif kind == FRAME and not frame:
            frame = body
        elif kind in _HEADERS:
            raise MediaError("the AV1 encoder split the keyframe into several units")
    return sequence, frame


def leb128(value: int) -> bytes:
    """A length as AV1 writes it (4.10.5)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


@dataclass
class Bits:
    """Reads the bits of a header, the most significant first."""

    data: bytes
    what: str = "sequence header"
    at: int = 0

    def read(self, count: int) -> int:
        """An unsigned integer. Raises TruncatedError."""
        end = self.at + count
        if end > 8 * len(self.data):
            raise TruncatedError(f"keyframe: ends inside the {self.what}")
        value = int.from_bytes(self.data, "big") >> (8 * len(self.data) - end) & ((1 << count) - 1)
        self.at = end
        return value


def from_bits(*fields: tuple[int, int]) -> bytes:
    """Whole bytes of unsigned integers (value, number of bits); zeros fill up the last."""
    text = "".join(f"{value:0{count}b}" for value, count in fields if count)
    return int(text + "0" * (-len(text) % 8), 2).to_bytes(-(-len(text) // 8), "big")
