"""The keyframe: one AV1 still picture of 256x256 pixels, stripped to the bytes that differ between pictures.

The payload is a sequence of AV1 open bitstream units (OBUs; AV1 Bitstream & Decoding Process Specification,
5.3) with everything left out that the reader knows already: no temporal delimiter, no size field on the
frame, no padding or metadata, and no sequence header when it equals :data:`SEQUENCE_HEADER`. AV1 decoding is
exact, and the way from the decoded YCbCr planes to RGB is integer arithmetic in this file, so a decoded
keyframe is the same on every machine: the first tiny frame is predicted from it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tfcodec.errors import BitstreamError, LimitExceeded, MediaError, TruncatedError

from . import av1
from .colour import SIDE, to_planes, to_rgb
from .header import say_no_restoration

MAX_KEYFRAME_BYTES = 1 << 20

SEQUENCE_HEADER = bytes.fromhex("181dffffd32020203080")
"""The profile's sequence header (OBU payload); a picture coded with exactly this one does not carry it."""

_CDEF_ALONE = 2  # the last two bits of its fifth byte: enable_cdef, enable_restoration
_HEADER_SEQUENCE = 0x0A  # OBU header byte: type 1, size field present
_HEADER_FRAME = 0x30  # OBU header byte: type 6, no size field: the frame reaches to the end of the payload
_MAX_SEQUENCE_BYTES = 64

# By quality 0...10: the encoder's CRF, and the size in bytes beyond which a picture (noise, foliage) is coded
# more coarsely. No finer rate control is needed: at equal mean bytes one CRF for all pictures gives the best
# mean LPIPS.
_CRF = (60.25, 57.75, 55.75, 53.25, 50, 46, 42.5, 37.5, 31.25, 25.25, 19.25)
_COARSEST = 63
_CEILING = (1200, 1500, 1800, 2300, 2800, 3400, 4300, 5700, 7800, 10000, 12000)

# Chosen on training pictures and by what is drawn from them (benchmarks/search/keyframe_options.py).
# avif: a still with the reduced header; lp: one thread; variance boost: more bits for smooth areas such as skin;
# chroma finer than the encoder thinks best, as it is RGB that counts. No loop restoration: the network restores, and
# what that smooths is lost to it.
_SVT_OPTIONS = (
    "avif=1:lp=1:tune=0:enable-variance-boost=1:variance-boost-strength=3:variance-octile=6:variance-boost-curve=2"
    ":enable-qm=1:qm-min=2:max-tx-size=32:sharpness=4:ac-bias=3:key-frame-chroma-qindex-offset=-24"
    ":enable-restoration=0"
)
_PRESET, _FAST_PRESET = 1, 5
_COARSE, _COARSE_PRESET = 2.5, 2  # below this quality slower presets cost LPIPS (lowest_keyframe.json)


def encode_keyframe(picture: npt.NDArray[np.uint8], quality: float = 5, *, fast: bool = False) -> bytes:
    """Code one picture as a keyframe payload.

    Args:
        picture: `[256, 256, 3] uint8`, RGB.
        quality: 0 (smallest) to 10 (best); fractions lie in between.
        fast: a tenth of the encoder's time (some 30 ms) for about 10 % more bytes at equal quality: for calls.

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
    planes = to_planes(picture)
    ladder = np.arange(len(_CRF))
    crf = round(4 * float(np.interp(quality, ladder, _CRF))) / 4  # the encoder takes quarters
    ceiling = float(np.interp(quality, ladder, _CEILING))
    while True:
        preset = _FAST_PRESET if fast else _COARSE_PRESET if quality < _COARSE else _PRESET
        payload = _strip(b"".join(av1.encode([planes], preset, f"{_SVT_OPTIONS}:crf={crf}")))
        if len(payload) <= ceiling or crf == _COARSEST:
            return payload
        crf = min(_COARSEST, crf + math.ceil(12 * math.log2(len(payload) / ceiling)))  # 12 steps halve the bytes


def decode_keyframe(data: bytes | bytearray | memoryview) -> npt.NDArray[np.uint8]:
    """Decode a keyframe payload to `[256, 256, 3] uint8` RGB, the same on every machine.

    Raises:
        LimitExceeded: if the payload is larger than :data:`MAX_KEYFRAME_BYTES`, or has another picture size.
        TruncatedError: if the payload ends inside its headers.
        BitstreamError: if the payload is not one AV1 still picture of the profile.
    """
    return to_rgb(*av1.decode([av1.packet(*reversed(split(data)))]))


def split(data: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
    """(sequence header, frame) of a keyframe payload, both as OBU payloads; the sequence header is one of the profile.

    Raises as `decode_keyframe` does.
    """
    data = bytes(data)
    if len(data) > MAX_KEYFRAME_BYTES:
        raise LimitExceeded(f"keyframe: {len(data)} bytes, at most {MAX_KEYFRAME_BYTES} are allowed")
    sequence, frame = _split(data)
    if sequence != SEQUENCE_HEADER:
        _check_sequence(sequence)
    return sequence, frame


def _strip(stream: bytes) -> bytes:
    """Encoder's stream (low-overhead format, every OBU with its size) -> payload."""
    sequence, frame = av1.picture_of(stream)
    if not sequence or not frame:
        raise MediaError("the AV1 encoder gave no picture")
    sequence, frame = _with_restoration(sequence, frame)
    if sequence == SEQUENCE_HEADER:
        return bytes((_HEADER_FRAME,)) + frame
    try:
        _check_sequence(sequence)
    except BitstreamError as error:
        raise MediaError(f"the AV1 encoder left the profile ({error})") from error
    return bytes((_HEADER_SEQUENCE, len(sequence))) + sequence + bytes((_HEADER_FRAME,)) + frame


def _with_restoration(sequence: bytes, frame: bytes) -> tuple[bytes, bytes]:
    """The same picture under a sequence header that has loop restoration, like the constant one, and like those of
    later keyframes that refer to it."""
    if sequence[:4] != SEQUENCE_HEADER[:4] or sequence[4] & 3 != _CDEF_ALONE:
        return sequence, frame
    other = sequence[:4] + bytes((sequence[4] | 1,)) + sequence[5:]
    try:
        renamed = say_no_restoration(frame)
        before, after = (av1.decode([av1.packet(*each)]) for each in ((frame, sequence), (renamed, other)))
    except BitstreamError:
        return sequence, frame
    same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    return (other, renamed) if same else (sequence, frame)


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


def _check_sequence(sequence: bytes) -> None:
    """Refuse any sequence header (AV1, 5.5) that is not of one still 256x256 8-bit 4:2:0 picture."""
    bits = av1.Bits(sequence)

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
