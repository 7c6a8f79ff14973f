"""Keyframes: rate and quality, exactness, and what happens to bytes that are no keyframe."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import psnr
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcodec.errors import BitstreamError, LimitExceeded, MediaError, TfcodecError, TruncatedError
from tfcodec.keyframe import MAX_KEYFRAME_BYTES, SEQUENCE_HEADER, av1, colour, decode_keyframe, encode_keyframe, still

Picture = npt.NDArray[np.uint8]
VECTOR = Path(__file__).parent / "vectors" / "keyframe.bin"


def drawn_face() -> Picture:
    """A cartoon head, the same on every machine: integers only."""
    y, x = np.mgrid[0:256, 0:256]
    out = np.stack([60 + x // 4, 90 + y // 4, 140 - x // 5], axis=-1)

    def disc(cx: int, cy: int, rx: int, ry: int, colour: tuple[int, int, int]) -> None:
        inside = ((x - cx) * ry) ** 2 + ((y - cy) * rx) ** 2 <= (rx * ry) ** 2
        out[inside] = np.array(colour) + ((x - y)[inside, None] >> 4)

    disc(128, 120, 80, 100, (70, 45, 30))
    disc(128, 140, 64, 84, (205, 160, 130))
    for side in (-1, 1):
        disc(128 + 26 * side, 120, 13, 7, (235, 235, 230))
        disc(128 + 26 * side, 120, 6, 6, (50, 70, 60))
    disc(128, 180, 24, 9, (170, 70, 70))
    disc(128, 177, 18, 3, (240, 235, 225))
    return np.clip(out + ((x * 7 + y * 13) % 5)[..., None], 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def face() -> Picture:
    return drawn_face()


@pytest.fixture(scope="module")
def small(face: Picture) -> bytes:
    return encode_keyframe(face, 0)


def explicit(payload: bytes, sequence: bytes = SEQUENCE_HEADER) -> bytes:
    return bytes((0x0A, len(sequence))) + sequence + payload


def test_ladder_is_monotone_in_bytes_and_quality(face: Picture) -> None:
    sizes, quality = [], []
    for step in range(11):
        payload = encode_keyframe(face, step)
        sizes.append(len(payload))
        quality.append(psnr(decode_keyframe(payload), face))
    assert all(a < b for a, b in pairwise(sizes)), sizes
    # The drawing's sharp colour edges end at about 40 dB: 4:2:0 takes the rest.
    assert all(a < b or (b > 40 and a - b < 0.05) for a, b in pairwise(quality)), quality
    assert quality[0] > 26
    assert quality[10] > 38


def test_payload_is_bare_and_encoding_repeats(face: Picture, small: bytes) -> None:
    assert small[0] == 0x30
    assert SEQUENCE_HEADER not in small
    assert encode_keyframe(face, 0) == small


def coded_without_restoration(face: Picture, preset: int, crf: float, more: str = "") -> tuple[bytes, bytes]:
    options = f"{still._SVT_OPTIONS}{more}:crf={crf}"
    return av1.picture_of(b"".join(av1.encode([colour.to_planes(face)], preset, options)))


@pytest.mark.parametrize(
    ("preset", "crf", "more"),
    [
        (2, 60, ""), (2, 20, ""), (5, 50, ""), (5, 50, ":enable-dlf=0:enable-qm=0"),
        (8, 30, ":enable-variance-boost=0"), (8, 2, ":aq-mode=1:variance-boost-strength=1"),
    ],
)  # fmt: skip
def test_restoration_is_switched_off_in_the_frame_header(face: Picture, preset: int, crf: float, more: str) -> None:
    """The same picture, whichever header says that nothing is restored."""
    sequence, frame = coded_without_restoration(face, preset, crf, more)
    assert not sequence[4] & 1  # SVT-AV1 leaves the tool out of the sequence
    other, renamed = still._with_restoration(sequence, frame)
    assert other == sequence[:4] + bytes((sequence[4] | 1,)) + sequence[5:]
    assert len(renamed) - len(frame) in (0, 1)
    before, after = (av1.decode([av1.packet(*each)]) for each in ((frame, sequence), (renamed, other)))
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a, b)


def test_headers_that_cannot_be_renamed_stay(face: Picture) -> None:
    sequence, frame = coded_without_restoration(face, 8, 50)
    for odd in (bytes((frame[0] ^ 0x02,)) + frame[1:], frame[:5], b"\xff" * 40):  # more tiles, cut off, nonsense
        assert still._with_restoration(sequence, odd) == (sequence, odd)
    without_cdef = coded_without_restoration(face, 8, 50, ":enable-cdef=0")
    assert still._with_restoration(*without_cdef) == without_cdef
    assert still._with_restoration(SEQUENCE_HEADER, frame) == (SEQUENCE_HEADER, frame)


def test_fast_encoding_costs_little(face: Picture) -> None:
    careful, fast = encode_keyframe(face, 5), encode_keyframe(face, 5, fast=True)
    assert len(fast) < 1.3 * len(careful)
    assert psnr(decode_keyframe(fast), face) > psnr(decode_keyframe(careful), face) - 1


def test_real_faces_meet_the_budget(data_dir: Path) -> None:
    import av

    sizes, quality = [], []
    for clip in sorted((data_dir / "train").glob("d*.mp4"))[::30][:6]:
        with av.open(str(clip)) as container:
            picture: Picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(np.uint8)
        payload = encode_keyframe(picture)
        sizes.append(len(payload))
        quality.append(psnr(decode_keyframe(payload), picture))
        if len(sizes) == 1:
            ladder = [payload if step == 5 else encode_keyframe(picture, step) for step in (0, 2, 4, 5, 6, 8, 10)]
            assert all(len(a) < len(b) for a, b in pairwise(ladder))
            assert all(a < b for a, b in pairwise(psnr(decode_keyframe(data), picture) for data in ladder))
    assert len(sizes) == 6
    assert np.mean(sizes) <= 2200
    assert np.mean(quality) >= 35


@pytest.mark.parametrize("value", [0, 255])
def test_flat_pictures(value: int) -> None:
    picture = np.full((256, 256, 3), value, np.uint8)
    payload = encode_keyframe(picture)
    assert len(payload) < 100
    assert np.abs(decode_keyframe(payload).astype(int) - value).max() <= 2


@pytest.mark.slow
def test_noise_stays_below_the_ceiling() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    payload = encode_keyframe(noise, 5)
    assert decode_keyframe(payload).shape == (256, 256, 3)
    assert len(payload) < len(encode_keyframe(noise, 10, fast=True))


def test_odd_memory_layouts(face: Picture) -> None:
    mirrored = face[:, ::-1]
    assert encode_keyframe(mirrored, 0) == encode_keyframe(np.ascontiguousarray(mirrored), 0)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((256, 256), np.uint8),
        np.zeros((128, 256, 3), np.uint8),
        np.zeros((256, 256, 4), np.uint8),
        np.zeros((256, 256, 3), np.float32),
        None,
    ],
)
def test_other_pictures_are_refused(picture: Any) -> None:
    with pytest.raises(MediaError, match="256, 256, 3"):
        encode_keyframe(picture)


@pytest.mark.parametrize("quality", [-1, 11, float("nan"), "5", None, True])
def test_other_qualities_are_refused(face: Picture, quality: Any) -> None:
    with pytest.raises(MediaError, match="0 to 10"):
        encode_keyframe(face, quality)


# Exactness


def test_golden_vector() -> None:
    """The decoded pixels of a stored payload are the same everywhere and for ever."""
    pixels = decode_keyframe(VECTOR.read_bytes())
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == (
        "3ffcc75d2a3840815f459285b30194e8dd8324253f92fe02fd268e42d0e550e7"
    )


def rgb_by_the_book(luma: Picture, cb: Picture, cr: Picture, x: int, y: int) -> list[int]:
    """One pixel as the specification words it, in Python's integers."""

    def chroma(plane: Picture) -> int:
        i, j = x // 2, y // 2
        near_i = min(127, i + 1) if x % 2 else max(0, i - 1)
        near_j = min(127, j + 1) if y % 2 else max(0, j - 1)
        here, beside = int(plane[j, i]) - 128, int(plane[j, near_i]) - 128
        above, corner = int(plane[near_j, i]) - 128, int(plane[near_j, near_i]) - 128
        return 9 * here + 3 * beside + 3 * above + corner

    u, v, base = chroma(cb), chroma(cr), (int(luma[y, x]) << 18) + (1 << 17)
    exact = (base + 25802 * v, base - 7670 * v - 3069 * u, base + 30402 * u)
    return [min(255, max(0, value >> 18)) for value in exact]


def test_colour_conversion_is_the_one_specified() -> None:
    rng = np.random.default_rng(7)
    luma = rng.integers(0, 256, (256, 256), dtype=np.uint8)
    cb, cr = rng.integers(0, 256, (2, 128, 128), dtype=np.uint8)
    rgb = colour.to_rgb(luma, cb, cr)
    places = [(0, 0), (255, 0), (0, 255), (255, 255), (1, 1), (254, 3)]
    places += [tuple(place) for place in rng.integers(0, 256, (300, 2))]
    for x, y in places:
        assert rgb[y, x].tolist() == rgb_by_the_book(luma, cb, cr, int(x), int(y)), (x, y)


def test_colour_conversion_goes_there_and_back() -> None:
    y, x = np.mgrid[0:256, 0:256]
    smooth = np.stack([x, y, 255 - (x + y) // 2], axis=-1).astype(np.uint8)
    back = colour.to_rgb(*colour.to_planes(smooth))
    assert np.abs(back.astype(int) - smooth).max() <= 2
    for shade in np.random.default_rng(3).integers(0, 256, (50, 3), dtype=np.uint8):
        flat = np.broadcast_to(shade, (256, 256, 3))
        assert np.abs(colour.to_rgb(*colour.to_planes(flat)).astype(int) - flat).max() <= 2


def test_decoding_does_not_depend_on_threads(face: Picture) -> None:
    import av

    payload = encode_keyframe(face, 5)
    expected = decode_keyframe(payload)
    body = payload[1:]
    stream = b"\x12\x00\x0a" + bytes((len(SEQUENCE_HEADER),)) + SEQUENCE_HEADER
    stream += b"\x32" + av1.leb128(len(body)) + body
    for threads in (1, 2, 4):
        codec: Any = av.codec.CodecContext.create("libdav1d", "r")
        codec.thread_count = threads
        frame = [*codec.decode(av.Packet(stream)), *codec.decode(None)][0]
        planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes]
        assert np.array_equal(colour.to_rgb(*planes), expected)


# Bytes that are no keyframe


def decodes_or_refuses(data: bytes) -> bool:
    try:
        picture = decode_keyframe(data)
    except BitstreamError:
        return False
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8
    return True


def test_explicit_sequence_header(face: Picture, small: bytes) -> None:
    assert np.array_equal(decode_keyframe(explicit(small)), decode_keyframe(small))
    level = bytearray(SEQUENCE_HEADER)
    level[1] |= 0x40  # another level: allowed, and not the constant header
    assert np.array_equal(decode_keyframe(explicit(small, bytes(level))), decode_keyframe(small))


def test_truncation_at_every_byte(small: bytes) -> None:
    for data in (small, explicit(small)):
        for length in range(len(data)):
            decodes_or_refuses(data[:length])
    for length in range(14):
        with pytest.raises(BitstreamError):
            decode_keyframe(explicit(small)[:length])
    for length in (0, 1):
        with pytest.raises(TruncatedError):
            decode_keyframe(small[:length])


def test_every_bit_flip(small: bytes) -> None:
    data = explicit(small)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        decodes_or_refuses(bytes(flipped))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    decodes_or_refuses(data)
    decodes_or_refuses(b"\x30" + data)
    decodes_or_refuses(bytes((0x0A, 10)) + SEQUENCE_HEADER + b"\x30" + data)


def test_a_damaged_picture_decodes_to_the_same_pixels_twice(small: bytes) -> None:
    rng = random.Random(5)
    same = 0
    for _ in range(40):
        damaged = bytearray(small)
        damaged[rng.randrange(8, len(small))] ^= rng.randrange(1, 256)
        if decodes_or_refuses(bytes(damaged)):
            same += np.array_equal(decode_keyframe(bytes(damaged)), decode_keyframe(bytes(damaged)))
        else:
            same += 1
    assert same == 40


def test_a_megabyte_of_rubbish_is_refused_quickly(small: bytes) -> None:
    with pytest.raises(LimitExceeded):
        decode_keyframe(small + bytes(MAX_KEYFRAME_BYTES))
    decodes_or_refuses(small + random.Random(2).randbytes(MAX_KEYFRAME_BYTES - len(small)))


def test_a_picture_and_another_picture_is_not_a_keyframe(small: bytes) -> None:
    # The frame reaches to the end of the payload: what follows counts as its last bytes, not as a second one.
    decodes_or_refuses(small + small)
    with pytest.raises(BitstreamError):
        decode_keyframe(b"\x12\x00" + explicit(small))
    with pytest.raises(BitstreamError):
        decode_keyframe(explicit(explicit(small)))


@pytest.mark.parametrize("rubbish", [b"\xff\xd8\xff\xe0" + bytes(60), b"\x89PNG\r\n\x1a\n", b"\0" * 40, b"\x30"])
def test_other_formats_are_refused(rubbish: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_keyframe(rubbish)


def bits(*fields: tuple[int, int]) -> bytes:
    text = "".join(f"{value:0{width}b}" for value, width in fields) + "1"
    return int(text + "0" * (-len(text) % 8), 2).to_bytes(-(-len(text) // 8), "big")


def sequence(**changes: tuple[int, int]) -> bytes:
    """A sequence header of the profile (AV1, 5.5.1), with some fields changed: name=(value, width)."""
    fields = {
        "profile": (0, 3),
        "still": (1, 1),
        "reduced": (1, 1),
        "level": (0, 5),
        "width_bits": (7, 4),
        "height_bits": (7, 4),
        "width": (255, 8),
        "height": (255, 8),
        "tools": (0b100, 3),
        "superres": (0, 1),
        "filters": (0b11, 2),
        "high_bitdepth": (0, 1),
        "mono": (0, 1),
        "described": (1, 1),
        "primaries": (1, 8),
        "transfer": (1, 8),
        "matrix": (1, 8),
        "full_range": (1, 1),
        "siting": (0, 2),
        "separate_uv": (0, 1),
        "grain": (0, 1),
    }
    return bits(*(fields | changes).values())


def test_the_constant_header_is_of_the_profile() -> None:
    still._check_sequence(SEQUENCE_HEADER)
    still._check_sequence(sequence())


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": (1, 3)},
        {"still": (0, 1)},
        {"reduced": (0, 1)},
        {"width": (127, 8)},
        {"height_bits": (15, 4), "height": (65535, 16)},
        {"superres": (1, 1)},
        {"high_bitdepth": (1, 1)},
        {"mono": (1, 1)},
        {"described": (0, 1)},
        {"matrix": (0, 8)},
        {"full_range": (0, 1)},
        {"grain": (1, 1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_profiles_are_refused_before_decoding(
    small: bytes, changes: dict[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(packets: list[bytes]) -> None:
        raise AssertionError("the decoder was started")

    monkeypatch.setattr(av1, "decode", never)
    with pytest.raises(BitstreamError, match="keyframe"):
        decode_keyframe(explicit(small, sequence(**changes)))


def test_a_real_stream_of_another_size_is_refused() -> None:
    import av

    codec: Any = av.codec.CodecContext.create("libsvtav1", "w")
    codec.width, codec.height, codec.pix_fmt = 320, 256, "yuv420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"preset": "10", "svtav1-params": "avif=1:lp=1"}
    frame = av.VideoFrame.from_ndarray(np.zeros((256, 320, 3), np.uint8), "rgb24").reformat(format="yuv420p")
    # Otherwise this process, and all that later tests start, would be real-time processes where root runs the tests.
    with av1.own_priority():
        stream = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    with pytest.raises(TfcodecError):
        decode_keyframe(stream)
    with pytest.raises(MediaError, match="profile"):
        still._strip(stream)


def test_nothing_is_printed_and_av_is_imported_late() -> None:
    code = (
        "import sys, numpy as np, tfcodec.keyframe as k, tfcodec.speech\n"
        "assert 'av' not in sys.modules and 'torch' not in sys.modules and 'librosa' not in sys.modules\n"
        "p = k.encode_keyframe(np.zeros((256, 256, 3), np.uint8))\n"
        "k.decode_keyframe(p)\n"
        "for data in (p[:4], b'\\x30' + bytes(50), b'\\x30' + bytes(range(99))):\n"
        "    try:\n"
        "        k.decode_keyframe(data)\n"
        "    except ValueError:\n"
        "        pass\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
def test_encoding_leaves_the_thread_s_priority_alone() -> None:
    before = os.sched_getscheduler(0)
    encode_keyframe(np.zeros((256, 256, 3), np.uint8), 5)
    assert os.sched_getscheduler(0) == before
