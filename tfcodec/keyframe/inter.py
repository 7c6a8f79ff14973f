"""Later keyframes, coded as an AV1 inter frame that refers to the keyframe before.

AV1's *switch frame* begins with default contexts, replaces all references, and may follow any picture: decoding it
takes the samples of the keyframe before and nothing else. So it does not matter how that one was coded. The encoder,
which cannot be handed a decoded picture, is shown it as the first of two frames to be coded finely. What it made of it
is thrown away; its second frame is sent, without the part of its header that is always the same.

A decoder is given the whole chain, from a still picture on, under one sequence header. This wants the still's frame
header in another form. Widths of fields are chosen so that both headers grow and shrink by whole bytes; no bit behind
them moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tfcodec.errors import BitstreamError, LimitExceeded, MediaError, TruncatedError

from . import av1
from .colour import SIDE, Planes, to_planes, to_rgb
from .still import MAX_KEYFRAME_BYTES, split

MAX_CHAIN = 8
"""Keyframes of a chain, the still that it begins with included."""

_HINT_BITS, _WIDTH_BITS, _HEIGHT_BITS = 2, 8, 9
_RESERVED = 7  # the low bits of `tools`

# What SVT-AV1's switch frame begins with: 14 bits each for width and height, 7 for order hints.
_SVT_PREFIX = bytes.fromhex("70080000000000000124ada07f81fe")
# Chosen on training pictures. Against the stills' options: no variance boost, which at equal LPIPS costs a quarter of
# the bytes here, and no sharpness. The frame that stands for the keyframe before need not be perfect: finer than CRF 20
# changes nothing.
_OPTIONS = (
    "lp=1:tune=1:enable-qm=1:qm-min=2:max-tx-size=32:ac-bias=2:pred-struct=1:keyint=-1:scd=0:scm=0:crf=20"
    ":sframe-dist=1:sframe-mode=3"
)
_PRESETS = (2, 0)
"""To find the quantiser's parameter with, and to code with it. ..."""
_FAST_PRESETS = (5, 5)
"""... In calls."""
_STEP_DB, _FINER_DB = 0.2, 0.15  # what a step of the quantiser's parameter costs at most, and brings at least, about
_NEAR_DB, _NEAR_FAST_DB = 0.25, 0.5  # a surplus of PSNR that is not worth another try
_HOPE = 1.1
_CAREFUL = 3  # codings with the second preset, which at equal PSNR takes a tenth fewer bytes than the first
ALLOWED_DB = 0.75
"""PSNR by which a difference may fall short of the still: at equal PSNR its LPIPS is better, at 1 dB less the same."""
DEAREST = 0.9
"""Share of a still's bytes beyond which a difference is not worth what it costs to seek, and to lose."""
_COARSEST = 63


def decode_inter_keyframe(data: bytes | bytearray | memoryview, before: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Decode the payload of a keyframe that refers to the one before, to `[256, 256, 3] uint8` RGB.

    Args:
        data: the payload.
        before: payloads of the keyframes that it builds on, in order: a still, then such as refer to the one before.

    Raises:
        LimitExceeded: if a payload is larger than :data:`MAX_KEYFRAME_BYTES`, or the chain longer than `MAX_CHAIN`.
        TruncatedError: if a payload ends inside its headers.
        BitstreamError: if there is nothing before, or a payload is not of the profile or cannot be decoded.
    """
    return to_rgb(*_planes([*before, bytes(data)]))


def encode_inter_keyframe(
    picture: npt.NDArray[np.uint8], before: Sequence[bytes], still: bytes, *, fast: bool = False,
    allowed: float = ALLOWED_DB,
) -> bytes | None:  # fmt: skip
    """Code a picture as a keyframe that refers to the one before, if that is cheaper.

    Args:
        picture: `[256, 256, 3] uint8`, RGB.
        before: as for `decode_inter_keyframe`.
        still: the same picture by `encode_keyframe`, which says how good it must be.
        fast: for calls: fewer tries, at a faster preset.
        allowed: dB of PSNR by which it may be worse than the still.

    Returns:
        A payload of at most `DEAREST` of the still's bytes that is good enough; None if none was found.

    Raises:
        MediaError: if PyAV has no AV1 encoder, or it fails.
    """
    if not 0 < len(before) < MAX_CHAIN:
        return None
    reference, sources, sequence = _planes(before), to_planes(picture), split(before[0])[0]
    wanted, most = _psnr(to_rgb(*_planes([still])), picture) - allowed, int(DEAREST * len(still))
    search, final = _FAST_PRESETS if fast else _PRESETS

    def code(step: int, preset: int) -> tuple[bytes, float] | None:
        payload = _encode(reference, sources, step, preset, sequence)
        return None if payload is None else (payload, _psnr(decode_inter_keyframe(payload, before), picture) - wanted)

    step, good, bad = _first_step(wanted), (0, 0.0), (_COARSEST + 1, 0.0)
    tried: dict[int, bytes] = {}
    while step not in tried and len(tried) < (3 if fast else 5):
        coded = code(step, search)
        if coded is None:
            return None
        tried[step], surplus = coded
        if surplus >= 0:
            good = max(good, (step, surplus))
            if surplus < (_NEAR_FAST_DB if fast else _NEAR_DB):
                break
        else:
            bad = min(bad, (step, surplus))
            if len(tried[step]) > (most if fast else _HOPE * most):
                break
        step = _next_step(good, bad)
    if not good[0]:
        return None
    step, finest = good[0], tried[good[0]]
    for _ in range(_CAREFUL if final != search else 0):
        coded = code(step, final)
        if coded is None or coded[1] < 0:
            break
        finest = min(finest, coded[0], key=len)
        if coded[1] < _STEP_DB or step == _COARSEST:
            break
        step = min(step + math.floor(coded[1] / _STEP_DB), _COARSEST)
    return finest if len(finest) <= most else None


def _next_step(good: tuple[int, float], bad: tuple[int, float]) -> int:
    """Where to look next, given the coarsest step that was good enough, the finest that was not, and by how many dB."""
    (low, over), (high, under) = good, bad
    if not low:
        return max(high + math.floor(under / _FINER_DB) - 1, 1)
    if high > _COARSEST:
        return min(low + math.floor(over / _STEP_DB), _COARSEST)
    if high - low < 2:
        return low
    return min(max(low + math.floor((high - low) * over / (over - under)), low + 1), high - 1)


def _first_step(wanted: float) -> int:
    # A fit to training pictures: pictures that are hard to code are coded coarsely, and then so are their differences.
    return int(np.clip(round(40 - 2.5 * (wanted - 35)), 20, 58))


def _psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    error = float(np.square(a.astype(np.float32) - b).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-3)))


def _encode(reference: Planes, picture: Planes, step: int, preset: int, still: bytes) -> bytes | None:
    """The payload at a quantiser's parameter, 1 to 63; None if the encoder uses what it cannot say.

    ``still``: sequence header of the still that the chain begins with.
    """
    packets = av1.encode([reference, picture], preset, f"{_OPTIONS}:sframe-qp={step}")
    if len(packets) != 2:
        raise MediaError(f"the AV1 encoder gave {len(packets)} pictures for two")
    sequence, _ = av1.picture_of(packets[0])
    _, frame = av1.picture_of(packets[1])
    tools = _tools(sequence, still)
    if tools is None or not frame.startswith(_SVT_PREFIX) or len(frame) == len(_SVT_PREFIX):
        return None
    return bytes((tools,)) + frame[len(_SVT_PREFIX) :]


def _tools(sequence: bytes, still: bytes) -> int | None:
    """The byte `tools` for the encoder's sequence header (AV1, 5.5); None if it does not go with the still's.

    The intra edge filter may differ: it moves no bit, and what it does to the picture is seen when that is decoded.
    """
    bits = av1.Bits(sequence)
    bits.read(3 + 1 + 1 + 1 + 1 + 5 + 12)  # profile, still, reduced, timing, display delay, operating points, its idc
    if bits.read(5) > 7:
        bits.read(1)  # tier
    bits.read(sum((bits.read(4) + 1, bits.read(4) + 1)))
    bits.read(1)  # frame ids
    intra, compound, hints = bits.read(3), bits.read(4), bits.read(1)
    distances = bits.read(2) >> 1
    if not bits.read(1):  # may choose screen content tools
        bits.read(1)
    if not bits.read(1):  # may choose whole vectors
        bits.read(1)
    bits.read(3)
    theirs = _intra_and_filters(still)
    if not hints or (intra >> 1, bits.read(3)) != (theirs[0] >> 1, theirs[1]):
        return None
    return compound << 4 | distances << 3


# The chain


def _planes(chain: Sequence[bytes]) -> Planes:
    """The planes of a chain's last picture."""
    if not chain:
        raise BitstreamError("keyframe: refers to one before, and there is none")
    if len(chain) > MAX_CHAIN:
        raise LimitExceeded(f"keyframe: the {len(chain)}th of a chain, at most {MAX_CHAIN} are allowed")
    sequence, frame = split(chain[0])
    if len(chain) == 1:
        return av1.decode([av1.packet(frame, sequence)])
    for data in chain[1:]:
        if len(data) > MAX_KEYFRAME_BYTES:
            raise LimitExceeded(f"keyframe: {len(data)} bytes, at most {MAX_KEYFRAME_BYTES} are allowed")
        if len(data) < 2:
            raise TruncatedError("keyframe: no frame that refers to the one before")
        if data[0] & _RESERVED:
            raise BitstreamError(f"keyframe: reserved bits of 0x{data[0]:02x} are set")
        if data[0] != chain[1][0]:
            raise BitstreamError(f"keyframe: tools 0x{data[0]:02x} after 0x{chain[1][0]:02x} in one chain")
    packets = [av1.packet(_shown(frame), _sequence(sequence, chain[1][0]))]
    packets += [av1.packet(_prefix(place) + data[1:]) for place, data in enumerate(chain[1:], 1)]
    return av1.decode(packets)


def _sequence(still: bytes, tools: int) -> bytes:
    """The sequence header of a chain that begins with a still of this (reduced) sequence header."""
    intra, filters, colour = _intra_and_filters(still)
    return av1.from_bits(
        (0, 3 + 1 + 1 + 1 + 1 + 5 + 12 + 5),  # profile, ... up to the level
        (_WIDTH_BITS - 1, 4), (_HEIGHT_BITS - 1, 4), (SIDE - 1, _WIDTH_BITS), (SIDE - 1, _HEIGHT_BITS), (0, 1),
        (intra, 3), (tools >> 4, 4), (1, 1), (tools >> 3 & 1, 1), (0, 1), (1, 1), (1, 1), (_HINT_BITS - 1, 3),
        (filters, 3), (colour, 32), (1, 1),
    )  # fmt: skip


def _intra_and_filters(still: bytes) -> tuple[int, int, int]:
    """Of a reduced sequence header: 128x128 superblocks, filter-intra and intra edge filter; super-resolution, CDEF and
    loop restoration; and the colour, up to film grain."""
    bits = av1.Bits(still)
    bits.read(3 + 1 + 1 + 5)  # profile, still, reduced, level
    bits.read(sum((bits.read(4) + 1, bits.read(4) + 1)))
    return bits.read(3), bits.read(3), bits.read(1 + 1 + 1 + 24 + 1 + 2 + 1 + 1)


def _shown(still: bytes) -> bytes:
    """The still's frame with a whole frame header in place of the reduced one (AV1, 5.9.2): a byte longer."""
    bits = av1.Bits(still, "frame header")
    first, count = bits.read(2), 2  # disable_cdf_update, allow_screen_content_tools
    screen = first & 1
    if screen:
        first, count = first << 1 | bits.read(1), 3  # force_integer_mv
    sized = bits.read(1)
    rest = bits.at
    size = bits.read(32) if sized else 0
    copying = bits.read(1) if screen else 0
    head = [(1, 4), (first, count), (0, 1 + _HINT_BITS), (sized, 1), (size, bits.at - rest - screen), (copying, screen)]
    left = 8 * len(still) - bits.at
    return av1.from_bits(*head, (1, 1), (int.from_bytes(still, "big") & (1 << left) - 1, left))


def _prefix(place: int) -> bytes:
    """What a switch frame begins with that is number ``place`` of its chain."""
    now, before = place % 4, (place - 1) % 4
    return av1.from_bits(
        (7, 4), (0, 2), (now, _HINT_BITS), *[(before, _HINT_BITS)] * 8, (0, 1 + 7 * 3),
        (SIDE - 1, _WIDTH_BITS), (SIDE - 1, _HEIGHT_BITS), (0, 1),
    )  # fmt: skip
