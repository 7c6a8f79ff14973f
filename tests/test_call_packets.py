"""The packets of calls, byte by byte: round trips, wrapping numbers, damage, fragments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcodec import bitstream as bs
from tfcodec.bitstream.primitives import crc16
from tfcodec.errors import BitstreamError, ChecksumError, LimitExceeded, TruncatedError

u16 = st.integers(0, 65535)
tags = st.integers(0, 3)
units = st.builds(bs.TinyUnit, st.integers(1, 4), st.integers(0, 63), st.binary(max_size=60))
medias = st.builds(
    bs.MediaPacket, u16, u16, tags,
    st.lists(units, max_size=7).map(tuple), st.lists(st.binary(max_size=80), max_size=4).map(tuple),
).filter(lambda p: bool(p.units or p.speech))  # fmt: skip
keyframes = st.builds(
    lambda s, t, g, o, d, more: bs.KeyframePacket(s, t, g, o + len(d) + more, o, d),
    u16, u16, tags, st.integers(0, 9000), st.binary(min_size=1, max_size=400), st.integers(0, 3000),
)  # fmt: skip
parts = st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 1200)), max_size=8).map(tuple)
feedbacks = st.builds(
    lambda s, t, g, h, lost, state, broken, missing: bs.FeedbackPacket(
        s, t, g, h, lost / 255, state, broken, bool(missing) or not broken, missing
    ),
    u16, u16, tags, u16, st.integers(0, 255), st.none() | u16, st.booleans(), parts,
)  # fmt: skip
packets = st.one_of(medias, keyframes, feedbacks, st.builds(bs.EndPacket, u16, u16))


@given(packets)
def test_every_packet_comes_back(packet: bs.CallPacket) -> None:
    assert bs.parse_packet(packet.to_bytes()) == packet


def test_the_bytes_are_those_of_the_specification() -> None:
    unit, again = bs.TinyUnit(2, 1, b"\x12\x34\x56"), bs.TinyUnit(2, 0, b"\xaa")
    packet = bs.MediaPacket(0x1234, 0x0102, 1, (unit, again), (b"speech",))
    body = bytes.fromhex("1A 1234 0102 01 06") + b"speech" + bytes.fromhex("41 03 123456 40 AA")
    assert packet.to_bytes() == body + crc16(body).to_bytes(2, "big")
    specification = (Path(__file__).parents[1] / "bitstream_spec.md").read_text(encoding="utf-8")
    assert f"\n    {packet.to_bytes().hex(' ').upper()}\n" in specification
    alone = bs.MediaPacket(0, 7, 0, (bs.TinyUnit(1, 1, b"\x12\x34"),))
    assert alone.to_bytes()[:-2].hex() == "010000000701" + "1234"
    assert len(alone.to_bytes()) == 8 + 2


@given(packets, st.data())
def test_a_burst_of_wrong_bits_is_noticed(packet: bs.CallPacket, data: st.DataObject) -> None:
    good = packet.to_bytes()
    width = data.draw(st.integers(1, 16))
    at = data.draw(st.integers(0, 8 * len(good) - width))
    pattern = 1 | data.draw(st.integers(0, (1 << width) - 1)) | 1 << (width - 1)
    damaged = int.from_bytes(good, "big") ^ pattern << at
    with pytest.raises(ChecksumError, match="R56"):
        bs.parse_packet(damaged.to_bytes(len(good), "big"))


@given(packets)
def test_no_cut_packet_is_accepted(packet: bs.CallPacket) -> None:
    good = packet.to_bytes()
    rng = random.Random(len(good))
    for length in {0, 1, 6, *(rng.randrange(len(good)) for _ in range(8))}:
        cut = good[:length]
        if length == len(good) or (length > 6 and crc16(cut[:-2]) == int.from_bytes(cut[-2:], "big")):
            continue  # one cut in 65,536 ends in its own checksum, and hypothesis is good at finding those
        with pytest.raises((ChecksumError, TruncatedError)):
            bs.parse_packet(cut)


@settings(max_examples=300)
@given(st.binary(min_size=5, max_size=60))
def test_rubbish_with_a_right_checksum_never_crashes(rubbish: bytes) -> None:
    try:
        packet = bs.parse_packet(rubbish + crc16(rubbish).to_bytes(2, "big"))
    except BitstreamError:
        return
    # What is accepted has one way to be written, but for lengths that are not in the shortest form, which are refused.
    assert bs.parse_packet(packet.to_bytes()) == packet


def _raw(first: int, body: bytes) -> bytes:
    head = bytes([first, 0, 0, 0, 0]) + body
    return head + crc16(head).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("packet", "rule"),
    [
        (b"", "R55"),
        (b"\x01\x00\x00\x00\xff\xff", "R55"),
        (_raw(0x00, b""), "R57"),
        (_raw(0x08, b"\x00"), "R57"),
        (_raw(0x02, b"\x01\x7f"), "R10"),
        (_raw(0x40, b"\x00\x05\x00\x00"), "R58"),
        (_raw(0x40, b"\x00\x05\x00\x03abc"), "R58"),
        (_raw(0x88, b"\x00\x00\x00"), "R59"),
        (_raw(0x89, b"\x00\x00\x00\x00\x01\x00\x02"), "R59"),
        (_raw(0x81, b"\x00\x00\x00\x00\x01\x00\x00"), "R59"),
        (_raw(0x80, b"\x00\x00\x00\x00"), "R11"),
        (_raw(0xC1, b""), "R60"),
        (_raw(0xC0, b"\x00"), "R11"),
    ],
)
def test_what_is_refused_and_by_which_rule(packet: bytes, rule: str) -> None:
    with pytest.raises(BitstreamError, match=rf"\[{rule}\]"):
        bs.parse_packet(packet)


def test_limits() -> None:
    with pytest.raises(LimitExceeded, match="R6"):
        bs.parse_packet(bytes(65_537))
    with pytest.raises(LimitExceeded, match="R6"):
        bs.parse_packet(bs.MediaPacket(0, 0, 0, (), (bytes(4001),)).to_bytes())


@pytest.mark.parametrize(
    "packet",
    [
        bs.MediaPacket(0, 0, 0, ()),
        bs.MediaPacket(0, 0, 0, (bs.TinyUnit(5, 1, b""),)),
        bs.MediaPacket(0, 0, 0, (bs.TinyUnit(1, 64, b""),)),
        bs.MediaPacket(0, 0, 0, (bs.TinyUnit(1, 1, b""),) * 8),
        bs.KeyframePacket(0, 0, 0, 5, 3, b"abc"),
        bs.KeyframePacket(0, 0, 0, 5, 3, b""),
        bs.FeedbackPacket(0, 0, 0, 0, 0, missing=((0, 1),)),
    ],
)
def test_what_cannot_be_written(packet: bs.CallPacket) -> None:
    with pytest.raises(BitstreamError):
        packet.to_bytes()


@given(st.integers(0, 2**40), st.integers(-32767, 32767))
def test_wrapping_numbers_are_extended(near: int, step: int) -> None:
    number = near + step
    if number >= 0:
        assert bs.extend(number % bs.WRAP, near) == number
    assert bs.extend(number % bs.WRAP, near) >= 0


@settings(deadline=None)
@given(st.integers(0, 65535), st.lists(st.integers(-3, 3), max_size=200), st.randoms(use_true_random=False))
def test_sequence_numbers_count_losses_copies_and_disorder(start: int, noise: list[int], rng: random.Random) -> None:
    sent = list(range(start, start + len(noise)))
    arriving = sorted((n + shift * 0.9, n) for n, shift in zip(sent, noise, strict=True) if rng.random() < 0.8)
    numbers = [n for _, n in arriving]
    counter = bs.SequenceCounter()
    for number in numbers:
        assert counter.add(number % bs.WRAP)
    for number in numbers[:3]:
        assert not counter.add(number % bs.WRAP)
    if numbers:
        assert counter.received == len(numbers)
        assert counter.lost == max(numbers) - min(numbers) + 1 - len(numbers)
        assert counter.duplicates == len(numbers[:3])
        assert counter.newest is not None
        assert counter.newest % bs.WRAP == max(numbers) % bs.WRAP
    assert 0 <= counter.fraction_lost() <= 1
    assert counter.fraction_lost() == 0  # nothing new since


@given(st.integers(1, 9000), st.lists(st.tuples(st.integers(0, 8999), st.integers(1, 3000)), max_size=6), st.data())
def test_fragments_in_any_order_make_the_object(total: int, again: list[tuple[int, int]], data: st.DataObject) -> None:
    whole = random.Random(total).randbytes(total)
    pieces = bs.fragment(total, [(0, total), *again])
    assert all(length > 0 and offset + length <= total for offset, length in pieces)
    collected = bs.KeyframeParts(total)
    needed = set(range(total))
    for offset, length in data.draw(st.permutations(pieces)):
        packet = bs.KeyframePacket(0, 0, 0, total, offset, whole[offset : offset + length])
        assert len(packet.to_bytes()) <= bs.MAX_PACKET
        needed -= set(range(offset, offset + length))
        assert collected.add(offset, packet.data) == (not needed)
        assert set().union(*(range(a, a + n) for a, n in collected.missing)) == needed or len(collected.missing) == 64
    assert collected.data == whole
