"""Damaged and hostile files: nothing but BitstreamError, no damage unnoticed, bounded time and memory."""

from __future__ import annotations

import contextlib
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfcodec.bitstream as bs
from tfcodec.bitstream.framing import build_chunk
from tfcodec.errors import BitstreamError, ChecksumError, LimitExceeded, TruncatedError, UnsupportedVersion

VALID = sorted((Path(__file__).parent / "vectors/valid").glob("*.tfc"))
HEADER = bs.StreamHeader(model_id=1, model_hash=b"hash")
AUDIO = bs.AudioConfig(packet_samples=2880, pre_skip=312)


def stream(*chunks: bs.Chunk) -> bytes:
    return bs.write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)


def long_stream(rng: random.Random, moving: bool = False) -> tuple[bytes, list[tuple[int, int]]]:
    """A file of two keyframes, 20 TINY and 10 SPEECH chunks, with motion or without, and where each chunk lies."""
    audio = replace(AUDIO, total_samples=20 * 2880)
    chunks: list[bs.Chunk] = [
        replace(HEADER, frame_count=200, audio=audio),
        *([bs.MotionTablesChunk(1, b"hash")] if moving else []),
        bs.KeyframeChunk(0, rng.randbytes(900)),
    ]
    for k in range(20):
        if k == 10:
            chunks.append(bs.KeyframeChunk(100, rng.randbytes(700), 1))
        if moving:
            chunks.append(bs.MotionChunk(10 * k, 10, rng.randbytes(rng.randrange(5, 20)), k // 10))
        tiny = bs.MovedTinyChunk if moving and k % 3 else bs.TinyChunk
        chunks.append(tiny(10 * k, 10, rng.randbytes(rng.randrange(5, 60)), k // 10))
        if k % 2 == 0:
            chunks.append(bs.SpeechChunk(k, (rng.randbytes(40), rng.randbytes(30))))
    chunks.append(bs.SpeechChunk(20, (b"last",)))
    places, data = [], bs.write_signature()
    for chunk in chunks:
        places.append((len(data), len(data) + len(chunk.to_bytes())))
        data += chunk.to_bytes()
    return data, places


def survives(data: bytes) -> bs.ParsedStream | None:
    """Read in both ways, letting any error but BitstreamError out. Returns the strict result."""
    try:
        concealed = bs.read_stream(data, errors="conceal")
    except BitstreamError:
        concealed = None
    if concealed is not None:
        assert all(0 <= start <= stop <= len(data) for start, stop, _ in concealed.damaged)
        assert concealed.frame_count <= 1_080_000
        assert sum(bs.account_bytes(data, errors="conceal").values()) == 2 * len(data)
    try:
        return bs.read_stream(data)
    except BitstreamError:
        return None


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_truncation_at_every_byte(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            bs.read_stream(data[:length])
        survives(data[:length])


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_every_single_bit_flip_is_detected(path: Path) -> None:
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert survives(bytes(damaged)) is None, f"flip of bit {bit} went unnoticed"


@pytest.mark.parametrize("length", [1, 5, 300, 40_000])
def test_bursts_up_to_the_checksum_width_are_detected(length: int) -> None:
    """Every error burst of at most 16 bits (CRC-16) within a payload."""
    rng = random.Random(length)
    chunk = bytearray(bs.TinyChunk(0, 1, rng.randbytes(length)).to_bytes())
    for _ in range(200):
        at = rng.randrange(8 * (len(chunk) - length - 2), 8 * len(chunk) - 16)
        damaged = int.from_bytes(chunk, "big") ^ (rng.randrange(1, 1 << 16) << (8 * len(chunk) - 16 - at))
        with pytest.raises(ChecksumError):
            bs.parse_chunk(damaged.to_bytes(len(chunk), "big"))


def test_random_bytes() -> None:
    rng = random.Random(1)
    for _ in range(500):
        data = rng.randbytes(rng.randrange(300))
        assert survives(data) is None
        assert survives(bs.write_signature() + data) is None
        assert survives(stream(HEADER, bs.KeyframeChunk(0, b"k")) + data) is None


def mutations(rng: random.Random) -> Iterator[bytes]:
    files = [path.read_bytes() for path in VALID]
    while True:
        data = bytearray(rng.choice(files))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(5)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            elif kind == 2:
                del data[at : at + rng.randrange(1, 20)]
            elif kind == 3:
                other = rng.choice(files)
                data[at:at] = other[rng.randrange(len(other)) :][: rng.randrange(1, 40)]
            else:
                data[at : at + 1] = b"\x8f\xff\xff\xff\x7f"
        yield bytes(data)


def test_ten_thousand_mutations() -> None:
    source = mutations(random.Random(2))
    for _ in range(10_000):
        survives(next(source))


def test_mutated_payloads_with_good_checksums() -> None:
    """What a checksum cannot stop: fields of any value, well framed."""
    rng = random.Random(3)
    for _ in range(5_000):
        data = bytearray(stream(HEADER, bs.KeyframeChunk(0, b"k")))
        for _ in range(rng.randrange(1, 4)):
            chunk_type = rng.choice([0xC1, 0xC2, 0xC3, 0x84, 0x85, 0xC6, 7, 8, 9, rng.randrange(1, 64)])
            payload = bytes(
                rng.choice([0, 1, 2, 127, 128, 255, rng.randrange(256)]) for _ in range(rng.randrange(1, 14))
            )
            data += build_chunk(chunk_type, payload)
        survives(bytes(data))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_payloads_parse_or_are_refused(payload: bytes) -> None:
    for chunk_type in (0xC1, 0xC2, 0xC3, 0x84, 0x85, 0xC6, 7, 8, 9):
        try:
            chunk, _ = bs.parse_chunk(build_chunk(chunk_type, payload or b"\x00"))
        except BitstreamError:
            continue
        if chunk_type != 7 and not (isinstance(chunk, bs.StreamHeader) and chunk.version > 1):
            # One way to write each chunk: what parses is what is written.
            assert bs.parse_chunk(chunk.to_bytes())[0] == chunk


@pytest.mark.parametrize("seed", range(20))
def test_damage_costs_only_the_chunks_it_hits(seed: int) -> None:
    rng, moving = random.Random(seed), seed % 2 == 1
    data, places = long_stream(rng, moving)
    whole = bs.read_stream(data)
    hit = rng.randrange(1 + moving, len(places))  # not what says that there is motion: all of it would be lost
    start, stop = places[hit]
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        damaged[rng.randrange(start, stop)] ^= rng.randrange(1, 256)
    if damaged == data:
        return
    parsed = bs.read_stream(bytes(damaged), errors="conceal")
    assert parsed.chunks == whole.chunks[:hit] + whole.chunks[hit + 1 :]
    assert parsed.frame_count == 200
    assert [(a, b) for a, b, _ in parsed.damaged if a < b] == [(start, stop)]


@pytest.mark.parametrize("seed", range(20))
def test_lost_and_inserted_bytes_are_survived(seed: int) -> None:
    rng = random.Random(100 + seed)
    data, places = long_stream(rng, seed % 4 > 1)
    whole = bs.read_stream(data)
    start = rng.randrange(places[2][0], places[-3][0])
    cut = rng.randrange(1, 400)
    if seed % 2:
        changed = data[:start] + data[start + cut :]
        intact = [b <= start or a >= start + cut for a, b in places]
    else:
        changed = data[:start] + rng.randbytes(cut) + data[start:]
        intact = [b <= start or a >= start for a, b in places]
    parsed = bs.read_stream(changed, errors="conceal")
    survivors = [chunk for chunk, good in zip(whole.chunks, intact, strict=True) if good]
    # A false start inside the damage may swallow the chunk right behind it, never more.
    assert [chunk for chunk in survivors if chunk not in parsed.chunks][1:] == []
    assert [chunk for chunk in parsed.chunks if chunk not in whole.chunks] == []


def test_concealing_bridges_short_gaps_only() -> None:
    key, open_end = bs.KeyframeChunk(0, b"k"), bs.EndChunk(2)
    bridged = bs.read_stream(stream(HEADER, key, bs.TinyChunk(1_500, 1, b"t")), errors="conceal")
    assert bridged.frame_count == 1_501
    refused = bs.read_stream(stream(HEADER, key, bs.TinyChunk(1_501, 1, b"t")), errors="conceal")
    assert (refused.frame_count, refused.tiny) == (0, [])
    assert "[R26]" in refused.damaged[0][2]
    totals = bs.read_stream(stream(replace(HEADER, frame_count=1_080_000), key), errors="conceal")
    assert totals.frame_count == 0
    ended = bs.read_stream(stream(HEADER, key, bs.TinyChunk(0, 1, b"t"), open_end), errors="conceal")
    assert (ended.frame_count, ended.damaged) == (2, ())


def test_concealing_bridges_short_gaps_of_speech_only() -> None:
    live, key = replace(HEADER, audio=AUDIO), bs.KeyframeChunk(0, b"k")
    for packet, kept in ((1_000, 1), (1_001, 0)):
        data = stream(live, key, bs.SpeechChunk(packet, (b"a",)))
        assert len(bs.read_stream(data, errors="conceal").speech) == kept


def test_concealing_keeps_later_keyframes_with_their_tags() -> None:
    chunks: list[bs.Chunk] = [
        HEADER,
        bs.KeyframeChunk(0, b"k"),
        bs.TinyChunk(0, 5, b"t"),
        bs.TinyChunk(5, 5, b"t", 1),
    ]
    chunks += [bs.KeyframeChunk(10, b"k", 2), bs.TinyChunk(10, 5, b"t", 2), bs.EndChunk(15)]
    parsed = bs.read_stream(stream(*chunks), errors="conceal")
    assert parsed.chunks == tuple(chunks)
    assert [chunk.keyframe_tag for chunk in parsed.tiny] == [0, 1, 2]


def test_lost_motion_costs_motion_only() -> None:
    head, key = replace(HEADER, frame_count=8), bs.KeyframeChunk(0, b"k")
    named, tiny = bs.MotionTablesChunk(1, b"hash"), [bs.TinyChunk(0, 4, b"t"), bs.TinyChunk(4, 4, b"t")]
    motion = [bs.MotionChunk(0, 4, b"m"), bs.MotionChunk(4, 4, b"m")]
    whole: list[bs.Chunk] = [head, named, key, motion[0], tiny[0], motion[1], tiny[1]]
    for lost, left in ((1, []), (3, motion[1:]), (5, motion[:1]), (4, motion)):
        parsed = bs.read_stream(stream(*whole[:lost], *whole[lost + 1 :]), errors="conceal")
        assert parsed.motion == left
        assert parsed.tiny == [chunk for chunk in tiny if chunk is not whole[lost]]
        assert parsed.frame_count == 8
        assert parsed.motion_tables == (named if lost != 1 else None)
    repeated = bs.read_stream(stream(head, *whole[2:5], named, *whole[5:]), errors="conceal")
    assert repeated.motion == motion[1:]


def test_lost_displacement_costs_displacement_only() -> None:
    head, key = replace(HEADER, frame_count=8), bs.KeyframeChunk(0, b"k")
    named, tiny = bs.DisplacementTablesChunk(1, b"hash"), [bs.TinyChunk(0, 4, b"t"), bs.TinyChunk(4, 4, b"t")]
    moved = [bs.DisplacementChunk(0, 4, b"d"), bs.DisplacementChunk(4, 4, b"d")]
    whole: list[bs.Chunk] = [head, named, key, moved[0], tiny[0], moved[1], tiny[1]]
    for lost, left in ((1, []), (3, moved[1:]), (5, moved[:1])):
        data = stream(*whole[:lost], *whole[lost + 1 :])
        parsed = bs.read_stream(data, errors="conceal")
        assert (parsed.displacement, parsed.tiny, parsed.frame_count) == (left, tiny, 8)
        assert parsed.displacement_tables == (named if lost != 1 else None)
        if lost != 1:
            assert bs.read_stream(data).chunks == parsed.chunks  # no damage at all
        broken = bytearray(stream(*whole))
        broken[len(stream(*whole[: lost + 1])) - 1] ^= 1
        damaged = bs.read_stream(bytes(broken), errors="conceal")
        assert (damaged.displacement, damaged.tiny) == (left, tiny)
        assert len(damaged.damaged) == (1 if lost != 1 else 3)
    wild = bs.DisplacementChunk(900, 100, b"d")
    parsed = bs.read_stream(stream(replace(head, frame_count=0), *whole[1:3], wild, tiny[0], moved[1], tiny[1],
                                   bs.EndChunk(8)), errors="conceal")  # fmt: skip
    assert (parsed.tiny, parsed.frame_count) == (tiny, 8)


def test_damaged_signature_can_be_concealed() -> None:
    data = stream(replace(HEADER, frame_count=1), bs.KeyframeChunk(0, b"k"), bs.TinyChunk(0, 1, b"t"))
    parsed = bs.read_stream(b"junk" + data[4:], errors="conceal")
    assert parsed.frame_count == 1
    assert parsed.damaged == ((0, 4, "byte 0: not a tfcodec stream [R1]"),)


def test_what_concealing_cannot_help() -> None:
    for data in (b"", b"\xc6", b"junk", bs.write_signature(), bs.write_signature() + b"junk"):
        with pytest.raises(BitstreamError):
            bs.read_stream(data, errors="conceal")
    with pytest.raises(UnsupportedVersion):
        bs.read_stream(stream(HEADER, bs.UnknownChunk(0xAA, b"x")), errors="conceal")
    with pytest.raises(ValueError, match="'raise' or 'conceal'"):
        bs.read_stream(b"", errors="ignore")  # type: ignore[arg-type]


def test_audio_totals() -> None:
    key, tiny = bs.KeyframeChunk(0, b"k"), bs.TinyChunk(0, 1, b"t")
    known = replace(HEADER, frame_count=1, audio=replace(AUDIO, total_samples=100))
    speech = bs.SpeechChunk(0, (b"x",))
    assert bs.read_stream(stream(replace(HEADER, frame_count=1), key, tiny)).audio_samples is None
    assert bs.read_stream(stream(known, key, tiny, speech)).audio_samples == 100
    live = replace(HEADER, audio=AUDIO)
    parsed = bs.read_stream(stream(live, key, tiny, speech, bs.EndChunk(1, 90)))
    assert (parsed.audio_samples, len(parsed.speech), len(parsed.keyframes)) == (90, 1, 1)
    cut = bs.read_stream(stream(live, key, tiny, speech), errors="conceal")
    assert cut.audio_samples == 0


def test_limits_of_streams() -> None:
    key, tiny, pad = bs.KeyframeChunk(0, b"k"), bs.TinyChunk(0, 1, b"t"), bs.PaddingChunk(1)
    data = stream(HEADER, key, tiny, pad, pad, bs.EndChunk(1))
    for limits in (bs.Limits(max_chunks=5), bs.Limits(max_ancillary_chunks=1)):
        with pytest.raises(LimitExceeded, match=r"\[R38\]"):
            bs.read_stream(data, limits=limits)
        # The rest of a stream past these limits is given up, not searched.
        assert bs.read_stream(data, errors="conceal", limits=limits).damaged
    assert len(bs.read_stream(data, limits=bs.Limits(max_chunks=6, max_ancillary_chunks=2)).chunks) == 6
    live = stream(replace(HEADER, audio=AUDIO), key, tiny, bs.SpeechChunk(0, (b"x",) * 40), bs.EndChunk(1, 1))
    with pytest.raises(LimitExceeded, match=r"\[R21\]"):
        bs.read_stream(live, limits=bs.Limits(max_duration_seconds=2))
    slow = stream(replace(HEADER, rate=(1, 1)), key, bs.TinyChunk(0, 32, b"t"), bs.EndChunk(32))
    with pytest.raises(LimitExceeded, match=r"\[R21\]"):
        bs.read_stream(slow, limits=bs.Limits(max_duration_seconds=31))


HALF = 500_000
HOSTILE = {
    "random": random.Random(4).randbytes(HALF),
    "chunk types": b"\x84" * HALF,
    "short END": b"\xc6\x01\x01" * 166_666,
    "nested 16 KB TINY": b"\x84\xff\x7f\x00\x00" * 100_000,
    "nested 64 KB TINY": b"\x84\x83\x7f" * 166_666,
    "nested 1 MB KEYFRAME": b"\xc2\xbf\x7f" * 166_666,
    "smallest TINY": b"".join(bs.TinyChunk(i, 1, b"").to_bytes() for i in range(62_500)),
    "repeated TINY": bs.TinyChunk(0, 1, b"t").to_bytes() * 70_000,
    "padding": bs.PaddingChunk(1).to_bytes() * 100_000,
    "headers": HEADER.to_bytes() * 32_500,
    "bad checksums": (bs.TinyChunk(0, 1, b"t").to_bytes()[:-1] + b"\x00") * 70_000,
    "missing speech": bs.SpeechChunk(0, (b"",) * 60_000).to_bytes() * 8,
    "metadata": bs.MetaChunk(texts=(("", ""),) * 16_000).to_bytes() * 8,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_half_megabyte_takes_at_most_two_seconds(name: str) -> None:
    """A quarter of that on an idle machine; test machines are shared, and measuring coverage slows them down."""
    allowed = 2.0 if sys.gettrace() is None else 16.0
    data = stream(replace(HEADER, audio=AUDIO), bs.KeyframeChunk(0, b"k")) + HOSTILE[name]
    start = time.process_time()
    with contextlib.suppress(BitstreamError):
        bs.read_stream(data)
    middle = time.process_time()
    with contextlib.suppress(BitstreamError):
        bs.read_stream(data, errors="conceal")
    assert middle - start < allowed
    assert time.process_time() - middle < allowed


def test_hostile_kilobyte_takes_little_memory() -> None:
    payload = bytes.fromhex("00 00 8f ff ff ff 7f") * 140
    tracemalloc.start()
    for chunk_type in (0xC1, 0xC2, 0xC3, 0x84, 0x85, 0xC6, 7, 8, 9):
        data = stream(HEADER, bs.KeyframeChunk(0, b"k")) + build_chunk(chunk_type, payload)
        survives(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
