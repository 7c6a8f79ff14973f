"""The keyframe: one AV1 still picture of 256x256 pixels, stripped to the bytes that differ between pictures.

The payload is a sequence of AV1 open bitstream units (OBUs; AV1 Bitstream & Decoding Process Specification,
5.3) with everything left out that the reader knows already: no temporal delimiter, no size field on the
frame, no padding or metadata, and no sequence header when it equals :data:`SEQUENCE_HEADER`. AV1 decoding is
exact, and the way from the decoded YCbCr planes to RGB is integer arithmetic in this file, so a decoded
keyframe is the same on every machine: the first tiny frame is predicted from it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tfcodec.errors import BitstreamError, LimitExceeded, MediaError, TruncatedError

if TYPE_CHECKING:
    from av.codec.context import CodecContext

__all__ = ["MAX_KEYFRAME_BYTES", "SEQUENCE_HEADER", "SIDE", "decode_keyframe", "encode_keyframe"]

SIDE = 256
MAX_KEYFRAME_BYTES = 1 << 20

SEQUENCE_HEADER = bytes.fromhex("181dffffd32020203080")
"""The profile's sequence header (OBU payload); a picture coded with exactly this one does not carry it."""

_HEADER_SEQUENCE = 0x0A  # OBU header byte: type 1, size field present
_HEADER_FRAME = 0x30  # OBU header byte: type 6, no size field: the frame reaches to the end of the payload
_OBU_SEQUENCE, _OBU_DELIMITER, _OBU_FRAME = 1, 2, 6
_MAX_SEQUENCE_BYTES = 64

# By quality 0...10: the encoder's CRF, and the size in bytes beyond which a picture (noise, foliage) is coded
# more coarsely. No finer rate control is needed: at equal mean bytes one CRF for all pictures gives the best
# mean LPIPS.
_CRF = (63, 61, 59, 56, 53, 49.5, 46, 41, 35, 29, 23)
_CEILING = (1200, 1500, 1800, 2300, 2800, 3400, 4300, 5700, 7800, 10000, 12000)

# Chosen on training pictures; at 1.6 KB 0.2 dB and 14 % of LPIPS better than the encoder's own tune=3 (image quality).
# avif: a still with the reduced header; lp: one thread; variance boost: more bits for smooth areas such as skin;
# chroma finer than the encoder thinks best, as it is RGB that counts.
_SVT_OPTIONS = (
    "avif=1:lp=1:tune=1:enable-variance-boost=1:variance-boost-strength=3:variance-octile=4:variance-boost-curve=2"
    ":enable-qm=1:qm-min=2:max-tx-size=32:sharpness=4:ac-bias=2:key-frame-chroma-qindex-offset=-24"
)
_PRESET, _FAST_PRESET = 2, 5


def encode_keyframe(picture: npt.NDArray[np.uint8], quality: float = 5, *, fast: bool = False) -> bytes:
    """Code one picture as a keyframe payload.

    Args:
        picture: `[256, 256, 3] uint8`, RGB.
        quality: 0 (smallest) to 10 (best); fractions lie in between.
        fast: a quarter of the encoder's time (about 25 ms) for some 9 % more bytes at equal quality: for calls.

    Returns:
        The payload: what :func:`decode_keyframe` takes.

    Raises:
        MediaError: if the picture has another shape or type, the quality is out of range, or PyAV has no AV1
            encoder.
    """
    if not isinstance(picture, np.ndarray) or picture.shape != (SIDE, SIDE, 3) or picture.dtype != np.uint8:
        found = type(picture).__name__
        if isinstance(picture, np.ndarray):
            found = f"{picture.dtype} {list(picture.shape)}"
        raise MediaError(f"a keyframe is made from a uint8 [{SIDE}, {SIDE}, 3] picture, not from {found}")
    if isinstance(quality, bool) or not isinstance(quality, (int, float, np.number)) or not 0 <= quality <= 10:
        raise MediaError(f"keyframe quality must be a number from 0 to 10, not {quality!r}")
    planes = _to_planes(picture)
    ladder = np.arange(len(_CRF))
    crf = round(4 * float(np.interp(quality, ladder, _CRF))) / 4  # the encoder takes quarters
    ceiling = float(np.interp(quality, ladder, _CEILING))
    while True:
        payload = _strip(_encode_still(planes, crf, _FAST_PRESET if fast else _PRESET))
        if len(payload) <= ceiling or crf == _CRF[0]:
            return payload
        crf = min(_CRF[0], crf + math.ceil(12 * math.log2(len(payload) / ceiling)))  # 12 steps halve the bytes


def decode_keyframe(data: bytes | bytearray | memoryview) -> npt.NDArray[np.uint8]:
    """Decode a keyframe payload to `[256, 256, 3] uint8` RGB, the same on every machine.

    Raises:
        LimitExceeded: if the payload is larger than :data:`MAX_KEYFRAME_BYTES`, or has another picture size.
        TruncatedError: if the payload ends inside its headers.
        BitstreamError: if the payload is not one AV1 still picture of the profile.
    """
    data = bytes(data)
    if len(data) > MAX_KEYFRAME_BYTES:
        raise LimitExceeded(f"keyframe: {len(data)} bytes, at most {MAX_KEYFRAME_BYTES} are allowed")
    sequence, frame = _split(data)
    if sequence != SEQUENCE_HEADER:
        _check_sequence(sequence)
    stream = (
        bytes((_OBU_DELIMITER << 3 | 2, 0, _HEADER_SEQUENCE, len(sequence)))
        + sequence
        + bytes((_HEADER_FRAME | 2,))
        + _leb128(len(frame))
        + frame
    )
    return _to_rgb(*_decode_still(stream))


# AV1


def _encode_still(planes: tuple[npt.NDArray[np.uint8], ...], crf: float, preset: int) -> bytes:
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
    codec.options = {"preset": str(preset), "svtav1-params": f"{_SVT_OPTIONS}:crf={crf}"}
    picture = av.VideoFrame(SIDE, SIDE, "yuv420p")
    for plane, samples in zip(picture.planes, planes, strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : plane.width] = samples
        plane.update(padded.tobytes())
    picture.color_range = 2
    picture.pts = 0
    try:
        with _own_priority():
            return b"".join(bytes(packet) for packet in [*codec.encode(picture), *codec.encode(None)])
    except av.FFmpegError as error:
        raise MediaError(f"the AV1 encoder failed: {error}") from error


@contextmanager
def _own_priority() -> Iterator[None]:
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


def _decoder() -> CodecContext:
    import av

    for name in ("libdav1d", "libaom-av1"):
        try:
            return av.codec.CodecContext.create(name, "r")
        except (av.FFmpegError, ValueError):
            continue
    raise MediaError(f"this PyAV ({av.__version__}) has no AV1 decoder")


def _decode_still(stream: bytes) -> tuple[npt.NDArray[np.uint8], ...]:
    import av

    codec: Any = _decoder()
    codec.thread_count = 1
    try:
        frames = [*codec.decode(av.Packet(stream)), *codec.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise BitstreamError("keyframe: not a decodable AV1 picture") from error
    if len(frames) != 1:
        raise BitstreamError(f"keyframe: {len(frames)} pictures instead of one")
    frame = frames[0]
    if (frame.width, frame.height) != (SIDE, SIDE) or frame.format.name not in ("yuv420p", "yuvj420p"):
        raise BitstreamError(f"keyframe: decodes to {frame.width}x{frame.height} {frame.format.name}")
    return tuple(
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()
        for plane in frame.planes
    )


# OBUs


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _strip(stream: bytes) -> bytes:
    """Encoder's stream (low-overhead format, every OBU with its size) -> payload."""
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
        if kind == _OBU_SEQUENCE:
            sequence = body
        elif kind == _OBU_FRAME and not frame:
            frame = body
        elif kind in (3, 4, 6, 7):
            raise MediaError("the AV1 encoder split the keyframe into several units")
    if not sequence or not frame:
        raise MediaError("the AV1 encoder gave no picture")
    if sequence == SEQUENCE_HEADER:
        return bytes((_HEADER_FRAME,)) + frame
    try:
        _check_sequence(sequence)
    except BitstreamError as error:
        raise MediaError(f"the AV1 encoder left the profile ({error})") from error
    return bytes((_HEADER_SEQUENCE, len(sequence))) + sequence + bytes((_HEADER_FRAME,)) + frame


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Payload -> (sequence header, frame), both as OBU payloads."""
    if not data:
        raise TruncatedError("keyframe: empty")
    sequence, at = SEQUENCE_HEADER, 0
    if data[0] == _HEADER_SEQUENCE:
        if len(data) < 2 or len(data) < 2 + data[1]:
            raise TruncatedError("keyframe: ends inside the sequence header")
        if not 0 < data[1] <= _MAX_SEQUENCE_BYTES:
            raise BitstreamError(f"keyframe: sequence header of {data[1]} bytes")
        sequence, at = data[2 : 2 + data[1]], 2 + data[1]
        if at == len(data):
            raise TruncatedError("keyframe: no frame after the sequence header")
    if data[at] != _HEADER_FRAME:
        raise BitstreamError(f"keyframe: byte {at} is 0x{data[at]:02x}, must be 0x{_HEADER_FRAME:02x} (frame)")
    if at + 1 == len(data):
        raise TruncatedError("keyframe: the frame is empty")
    return sequence, data[at + 1 :]


@dataclass
class _Bits:
    data: bytes
    at: int = 0

    def read(self, count: int) -> int:
        end = self.at + count
        if end > 8 * len(self.data):
            raise TruncatedError("keyframe: ends inside the sequence header")
        value = int.from_bytes(self.data, "big") >> (8 * len(self.data) - end) & ((1 << count) - 1)
        self.at = end
        return value


def _check_sequence(sequence: bytes) -> None:
    """Refuse any sequence header (AV1, 5.5) that is not of one still 256x256 8-bit 4:2:0 picture."""
    bits = _Bits(sequence)

    def want(name: str, count: int, value: int) -> None:
        found = bits.read(count)
        if found != value:
            raise BitstreamError(f"keyframe: {name} is {found}, must be {value}")

    want("seq_profile", 3, 0)
    want("still_picture", 1, 1)
    want("reduced_still_picture_header", 1, 1)
    bits.read(5)  # level
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    if (width, height) != (SIDE, SIDE):
        raise LimitExceeded(f"keyframe: {width}x{height} pixels, must be {SIDE}x{SIDE}")
    bits.read(3)  # 128x128 superblocks, filter-intra, intra edge filter
    want("enable_superres", 1, 0)
    bits.read(2)  # CDEF, loop restoration
    want("high_bitdepth", 1, 0)
    want("mono_chrome", 1, 0)
    want("color_description_present_flag", 1, 1)
    bits.read(16)  # primaries and transfer: the encoder's business
    want("matrix_coefficients", 8, 1)
    want("color_range", 1, 1)
    bits.read(3)  # chroma sample position (the siting is fixed by our own conversion), separate_uv_delta_q
    want("film_grain_params_present", 1, 0)
    want("trailing one bit", 1, 1)
    while bits.at < 8 * len(sequence):
        want("trailing bit", 1, 0)


# Colour

# BT.709, full range. Forward in 1/65536 (not normative), inverse in 1/16384 (normative).
_Y = (13933, 46871, 4732)
_CB = (-7509, -25259, 32768)
_CR = (32768, -29763, -3005)
_R_CR, _B_CB, _G_CR, _G_CB = 25802, 30402, 7670, 3069


def _to_planes(rgb: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], ...]:
    wide = rgb.astype(np.int32)
    luma = (wide @ np.array(_Y, np.int32) + (1 << 15)) >> 16
    quads = wide.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).sum((1, 3), dtype=np.int32)
    chroma = (((quads @ np.array(row, np.int32) + (1 << 17)) >> 18) + 128 for row in (_CB, _CR))
    return (luma.astype(np.uint8), *(np.clip(plane, 0, 255).astype(np.uint8) for plane in chroma))


def _double(x: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Twice as many rows: a sample's two children lie a quarter to either side of it. Units of 1/4."""
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    return np.stack([3 * x + before, 3 * x + after], axis=1).reshape(2 * x.shape[0], *x.shape[1:])


def _to_rgb(luma: npt.NDArray[np.uint8], cb: npt.NDArray[np.uint8], cr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    y = (luma.astype(np.int32) << 18) + (1 << 17)
    u, v = (_double(_double(plane.astype(np.int32) - 128).T).T for plane in (cb, cr))  # in units of 1/16
    rgb = np.stack([y + _R_CR * v, y - _G_CR * v - _G_CB * u, y + _B_CB * u], axis=-1) >> 18
    pixels: npt.NDArray[np.uint8] = np.clip(rgb, 0, 255).astype(np.uint8)
    return pixels
