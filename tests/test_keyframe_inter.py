"""Keyframes that refer to the one before: exact, refused when they are not, and never worse than a still."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_chain
from conftest import psnr
from test_keyframe import drawn_face

from tfcodec.bitstream import InterKeyframeChunk, KeyframeChunk
from tfcodec.codec.parts.keyframes import KeyframeDecoder, ReferenceLostError, chains, decode_keyframes
from tfcodec.errors import BitstreamError, LimitExceeded, TruncatedError
from tfcodec.keyframe import (
    MAX_CHAIN,
    colour,
    decode_inter_keyframe,
    decode_keyframe,
    encode_inter_keyframe,
    encode_keyframe,
    inter,
)
from tfcodec.keyframe.inter import ALLOWED_DB, DEAREST

VECTOR = json.loads((Path(__file__).parent / "vectors/keyframe_chain.json").read_text())
CHAIN = [bytes.fromhex(row["data"]) for row in VECTOR]


def digest(picture: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def chunks() -> list[KeyframeChunk]:
    first = KeyframeChunk(0, CHAIN[0], 0)
    return [first, *(InterKeyframeChunk.after(CHAIN[n - 1], 50 * n, CHAIN[n], n) for n in (1, 2))]


def test_golden_chain() -> None:
    assert digest(decode_keyframe(CHAIN[0])) == VECTOR[0]["sha256"]
    for n in (1, 2):
        assert digest(decode_inter_keyframe(CHAIN[n], CHAIN[:n])) == VECTOR[n]["sha256"]


def test_a_second_reader_gives_an_av1_decoder_the_same_pictures() -> None:
    import av

    codec: Any = av.codec.CodecContext.create("libdav1d", "r")
    codec.thread_count = 1
    frames = [f for packet in reference_chain.packets(CHAIN) for f in codec.decode(av.Packet(packet))]
    frames += codec.decode(None)
    assert len(frames) == 3
    for frame, row in zip(frames, VECTOR, strict=True):
        planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes]
        assert digest(colour.to_rgb(*planes)) == row["sha256"]


def test_it_is_cheaper_and_as_good_as_the_still() -> None:
    face = drawn_face()
    moved = np.roll(face, 4, 1)
    before, still = encode_keyframe(face, 4, fast=True), encode_keyframe(moved, 4, fast=True)
    data = encode_inter_keyframe(moved, [before], still, fast=True, allowed=0)
    assert data is not None
    assert len(data) < 0.7 * len(still)
    assert psnr(decode_inter_keyframe(data, [before]), moved) >= psnr(decode_keyframe(still), moved)


@pytest.mark.parametrize("fast", [False, True])
def test_a_difference_is_cheaper_and_good_enough_or_none(fast: bool) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for picture, quality in ((noise, 2), (drawn_face()[:, ::-1].copy(), 5))[0 if fast else 1 :]:  # noise takes long
        still = encode_keyframe(picture, quality, fast=fast)
        found = encode_inter_keyframe(picture, CHAIN[:1], still, fast=fast)
        if found is not None:
            assert len(found) <= DEAREST * len(still)
            wanted = psnr(decode_keyframe(still), picture) - ALLOWED_DB
            assert psnr(decode_inter_keyframe(found, CHAIN[:1]), picture) >= wanted - 1e-3


@pytest.mark.parametrize(
    ("good", "bad", "step"),
    [
        ((0, 0.0), (50, -0.6), 45),  # finer, by what is missing
        ((40, 1.0), (64, 0.0), 45),  # coarser, by what is over
        ((40, 1.0), (50, -1.0), 45),  # between
        ((40, 0.01), (50, -3.0), 41),
        ((40, 1.0), (41, -0.1), 40),  # nothing between: the end
        ((45, 0.3), (40, -0.1), 45),
        ((0, 0.0), (3, -9.0), 1),
        ((60, 9.0), (64, 0.0), 63),
    ],
)
def test_where_to_look_next(good: tuple[int, float], bad: tuple[int, float], step: int) -> None:
    assert inter._next_step(good, bad) == step


def test_chains_end() -> None:
    still = encode_keyframe(drawn_face(), 0, fast=True)
    assert encode_inter_keyframe(drawn_face(), [CHAIN[0]] * MAX_CHAIN, still, fast=True) is None
    assert encode_inter_keyframe(drawn_face(), [], still, fast=True) is None
    with pytest.raises(LimitExceeded):
        decode_inter_keyframe(CHAIN[1], [CHAIN[0], *[CHAIN[1]] * (MAX_CHAIN - 1)])
    with pytest.raises(reference_chain.Refused, match="R67"):
        reference_chain.packets([CHAIN[0], *[CHAIN[1]] * MAX_CHAIN])


def test_decoder_follows_references() -> None:
    pictures = decode_keyframes(chunks())
    assert [digest(picture) for picture in pictures] == [row["sha256"] for row in VECTOR]
    assert chains(chunks()) == [(), tuple(CHAIN[:1]), tuple(CHAIN[:2])]
    first, second, third = chunks()
    decoder = KeyframeDecoder()
    with pytest.raises(ReferenceLostError):
        decoder.decode(second)
    decoder.decode(first)
    with pytest.raises(ReferenceLostError):
        decoder.decode(third)
    # What could not be decoded changes nothing: the one before is still there to refer to.
    assert digest(decoder.decode(second)) == VECTOR[1]["sha256"]
    assert digest(decoder.decode(third)) == VECTOR[2]["sha256"]


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", TruncatedError), (CHAIN[1][:1], TruncatedError), (bytes([CHAIN[1][0] | 1]) + CHAIN[1][1:], BitstreamError)],
)
def test_faulty_payloads(data: bytes, error: type[BitstreamError]) -> None:
    with pytest.raises(error):
        decode_inter_keyframe(data, CHAIN[:1])
    with pytest.raises(reference_chain.Refused, match="R68"):
        reference_chain.packets([CHAIN[0], data])


def test_tools_stay_the_same_in_a_chain() -> None:
    other = bytes([CHAIN[2][0] ^ 0x80]) + CHAIN[2][1:]
    with pytest.raises(BitstreamError, match="tools"):
        decode_inter_keyframe(other, CHAIN[:2])


def test_mutations_decode_to_a_picture_or_are_refused() -> None:
    rng = random.Random(8)
    for _ in range(150):
        data, before = bytearray(CHAIN[1]), [bytearray(CHAIN[0])]
        target = data if rng.random() < 0.7 else before[0]
        kind = rng.randrange(3)
        if kind == 0:
            target[rng.randrange(len(target))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del target[rng.randrange(len(target)) :]
        else:
            at = rng.randrange(len(target))
            target[at:at] = rng.randbytes(3)
        try:
            picture = decode_inter_keyframe(bytes(data), [bytes(before[0])])
        except BitstreamError:
            continue
        assert picture.shape == (256, 256, 3)
