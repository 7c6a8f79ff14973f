"""The frame header of a still picture (AV1, 5.9), as far as loop restoration's place in it.

Keyframes are coded without loop restoration, since the network restores them. SVT-AV1 then leaves the tool out of the
sequence header, which the payload would have to carry, 12 bytes. Six bits in the frame header say the same.
"""

from __future__ import annotations

from tfcodec.errors import BitstreamError

from .av1 import Bits

_NONE = "00" * 3  # lr_type of three planes: RESTORE_NONE


def say_no_restoration(frame: bytes) -> bytes:
    """A still's frame (OBU payload) for a sequence that has loop restoration, made from one for a sequence without.

    Both are of the profile: 256x256, 4:2:0, 64x64 or 128x128 superblocks. Raises BitstreamError if the header is not of
    that kind, or has more than one tile.
    """
    bits = Bits(frame, "frame header")
    _skip_to_restoration(bits)
    place = bits.at
    bits.read(2)  # tx_mode_select, reduced_tx_set
    end = bits.at
    text = f"{int.from_bytes(frame[: (end + 7) // 8], 'big'):0{(end + 7) // 8 * 8}b}"
    if "1" in text[end:]:
        raise BitstreamError("keyframe: the frame header does not end where it should")
    header = text[:place] + _NONE + text[place:end]
    header += "0" * (-len(header) % 8)
    return int(header, 2).to_bytes(len(header) // 8, "big") + frame[(end + 7) // 8 :]


def _skip_to_restoration(bits: Bits) -> None:
    """Read `uncompressed_header` of a reduced still picture up to `lr_params`."""
    bits.read(1)  # disable_cdf_update
    screen = bits.read(1)
    if screen:
        bits.read(1)  # force_integer_mv
    if bits.read(1):  # render_and_frame_size_different
        bits.read(32)
    copies = bits.read(1) if screen else 0  # allow_intrabc
    if bits.read(3) != 0b100:  # uniform_tile_spacing_flag, and no more columns and rows
        raise BitstreamError("keyframe: more than one tile")
    index = bits.read(8)
    _delta(bits)
    _delta(bits)
    _delta(bits)
    if bits.read(1):  # using_qmatrix
        bits.read(8)
    if bits.read(1):
        _skip_segments(bits)
    varies = bits.read(1) if index else 0  # delta_q_present
    if varies:
        bits.read(2)
    if varies and not copies and bits.read(1):  # delta_lf_present
        bits.read(3)
    if copies or not index:
        raise BitstreamError("keyframe: a frame of screen content, or without loss")
    if bits.read(6) + bits.read(6):
        bits.read(12)
    bits.read(3)
    if bits.read(1) and bits.read(1):  # loop_filter_delta_enabled, loop_filter_delta_update
        for _ in range(10):
            if bits.read(1):
                bits.read(7)
    bits.read(2)
    for _ in range(1 << bits.read(2)):
        bits.read(12)


def _delta(bits: Bits) -> None:
    if bits.read(1):
        bits.read(7)


def _skip_segments(bits: Bits) -> None:
    """`segmentation_params` of a frame that refers to none."""
    for _ in range(8):
        for width in (9, 7, 7, 7, 7, 3, 0, 0):
            if bits.read(1) and width:
                bits.read(width)
