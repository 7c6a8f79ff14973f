"""The container piece by piece: varints, checksums, chunks, packets, the byte account."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfcodec.bitstream as bs
from tfcodec.bitstream.framing import build_chunk
from tfcodec.bitstream.header import check_frame_count
from tfcodec.bitstream.parts import RESERVED, Chunk, chunk_name
from tfcodec.bitstream.primitives import (
    FieldReader,
    crc16,
    crc32,
    read_length,
    unzigzag,
    write_varint,
    zigzag,
)
from tfcodec.errors import (
    BitstreamError,
    ChecksumError,
    LimitExceeded,
    TruncatedError,
    UnsupportedVersion,
)

INDEX = st.integers(0, 1_000_000)
TAG = st.integers(0, 3)
OPUS_SAMPLES = st.sampled_from([960, 1920, 2880, 3840, 4800, 5760])


@st.composite
def headers(draw: st.DrawFn) -> bs.StreamHeader:
    frames = draw(st.integers(0, 40_000))
    samples = draw(st.integers(1, 2**31)) if frames else 0
    audio = bs.AudioConfig(draw(OPUS_SAMPLES), draw(st.integers(0, 6_000)), min(samples, 2 * 10**9))
    model = draw(st.integers(0, 2**32 - 1))
    return bs.StreamHeader(
        frame_count=frames,
        model_id=model,
        model_hash=draw(st.binary(min_size=4, max_size=4)) if model else bytes(4),
        tables_id=draw(st.integers(0, 2**32 - 1)),
        audio=draw(st.sampled_from([audio, None])),
        rate=draw(st.sampled_from([(25, 1), (30, 1), (30000, 1001), (1, 1), (120, 1), (24, 1)])),
        experimental=draw(st.booleans()),
        version=draw(st.integers(1, 1)),
    )


@st.composite
def tiny_chunks(draw: st.DrawFn) -> bs.TinyChunk:
    payload = draw(st.binary(max_size=300))
    count = draw(st.integers(1, 128))
    return bs.TinyChunk(draw(INDEX), count, payload, draw(TAG))


@st.composite
def motion_chunks(draw: st.DrawFn) -> bs.MotionChunk:
    return bs.MotionChunk(draw(INDEX), draw(st.integers(1, 128)), draw(st.binary(max_size=300)), draw(TAG))


SIGNED = st.integers(-(2**31) + 1, 2**31 - 1)
EXTENT = st.integers(1, 2**32 - 1)
CROPS = st.builds(bs.CropRegion, INDEX, EXTENT, EXTENT, SIGNED, SIGNED, EXTENT)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CHUNKS: st.SearchStrategy[Chunk] = st.one_of(
    headers(),
    tiny_chunks(),
    motion_chunks(),
    st.builds(bs.MotionTablesChunk, st.integers(0, 2**32 - 1), st.binary(min_size=4, max_size=4)),
    st.builds(bs.KeyframeChunk, INDEX, st.binary(min_size=1, max_size=5_000), TAG),
    st.builds(
        bs.SpeechChunk,
        st.integers(0, 2**31),
        st.lists(st.binary(max_size=60), min_size=1, max_size=20).map(tuple),
    ),
    st.builds(bs.EndChunk, INDEX, st.none() | st.integers(0, 2**32 - 1)),
    st.builds(bs.PaddingChunk, st.integers(1, 500)),
    st.builds(bs.UnknownChunk, st.sampled_from([0x04, 0x0A, 0x2F, 0x3F, 0x4A]), st.binary(min_size=1, max_size=99)),
    st.tuples(st.lists(CROPS, max_size=3), st.lists(st.tuples(TEXT, TEXT), max_size=3))
    .filter(any)
    .map(lambda both: bs.MetaChunk(tuple(both[0]), tuple(both[1]))),
)
PERMISSIVE = bs.Limits(allow_experimental=True, max_frames=2**31)


def test_checksums_match_their_check_values() -> None:
    assert crc16(b"123456789") == 0x29B1
    assert crc32(b"123456789") == 0xCBF43926


@pytest.mark.parametrize(
    ("value", "coded"),
    [(0, "00"), (127, "7f"), (128, "8100"), (300, "822c"), (16_383, "ff7f"), (2**32 - 1, "8fffffff7f")],
)
def test_varint_examples(value: int, coded: str) -> None:
    data = bytes.fromhex(coded)
    assert write_varint(value) == data
    assert read_length(data, 0, len(data)) == (value, len(data))
    assert FieldReader(data, 0, len(data)).varint("x") == value


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_varint_round_trip(value: int) -> None:
    data = write_varint(value)
    assert FieldReader(data, 0, len(data)).varint("x") == value
    assert len(data) == max(1, -(-value.bit_length() // 7))


@given(st.integers())
@settings(deadline=None)
def test_zigzag_round_trip(value: int) -> None:
    assert unzigzag(zigzag(value)) == value
    assert zigzag(value) >= 0


@pytest.mark.parametrize("coded", ["8000", "ffffffffff00", "9080808000"])
def test_bad_varints(coded: str) -> None:
    data = bytes.fromhex(coded)
    with pytest.raises(BitstreamError):
        read_length(data, 0, len(data))
    with pytest.raises(BitstreamError):
        FieldReader(data, 0, len(data)).varint("x")


@given(CHUNKS)
@settings(max_examples=400, deadline=None)
def test_chunk_round_trip(chunk: Chunk) -> None:
    data = chunk.to_bytes()
    assert bs.parse_chunk(b"before" + data + b"after", 6, PERMISSIVE) == (chunk, 6 + len(data))
    account = bs.account_chunk(chunk)
    assert account.pop("total") == len(data) == sum(account.values())
    assert min(account.values()) >= 0


@pytest.mark.parametrize(
    "chunk",
    [
        bs.StreamHeader(version=16),
        bs.StreamHeader(version=1, min_reader_version=2),
        bs.StreamHeader(profile=1),
        bs.StreamHeader(model_id=1, model_hash=b"abc"),
        bs.StreamHeader(model_id=0, model_hash=b"abcd"),
        bs.StreamHeader(rate=(50, 2)),
        bs.StreamHeader(rate=(0, 1)),
        bs.StreamHeader(rate=(25, 0)),
        bs.StreamHeader(frame_count=-1),
        bs.StreamHeader(frame_count=2**32),
        bs.StreamHeader(frame_count=1, audio=bs.AudioConfig()),
        bs.StreamHeader(audio=bs.AudioConfig(packet_samples=480)),
        bs.StreamHeader(audio=bs.AudioConfig(packet_samples=121)),
        bs.StreamHeader(audio=bs.AudioConfig(codec=2)),
        bs.StreamHeader(frame_count=0, audio=bs.AudioConfig(total_samples=1)),
        bs.KeyframeChunk(0, b""),
        bs.KeyframeChunk(0, b"k", 4),
        bs.KeyframeChunk(2**30, b"k"),
        bs.KeyframeChunk(-1, b"k"),
        bs.TinyChunk(0, 0, b"t"),
        bs.TinyChunk(0, 129, b"t"),
        bs.TinyChunk(0, 1, b"t", -1),
        bs.MotionChunk(0, 129, b"m"),
        bs.MotionTablesChunk(1, b"abc"),
        bs.SpeechChunk(0, ()),
        bs.MetaChunk(),
        bs.MetaChunk(texts=(("key", "\ud800"),)),
        bs.PaddingChunk(0),
        bs.PaddingChunk(-1),
        bs.UnknownChunk(0x80, b"x"),
        bs.UnknownChunk(256, b"x"),
    ],
)
def test_what_cannot_be_written(chunk: Chunk) -> None:
    with pytest.raises(BitstreamError):
        chunk.to_bytes()


def test_names_in_messages() -> None:
    assert chunk_name(0x84) == "TINY"
    with pytest.raises(BitstreamError, match="0x84"):
        build_chunk(0x84, b"")


def test_unknown_chunks() -> None:
    unknown, end = bs.parse_chunk(build_chunk(0x6A, b"new"))
    assert unknown == bs.UnknownChunk(0x6A, b"new")
    assert end == 1 + 1 + 3 + 4
    with pytest.raises(UnsupportedVersion, match=r"0xAA.*\[R9\]"):
        bs.parse_chunk(build_chunk(0xAA, b"new"))


def test_unknown_meta_items_are_skipped() -> None:
    body = bytes.fromhex("09 02 abcd 02 04 01 61 62 63")
    assert bs.parse_chunk(build_chunk(7, body))[0] == bs.MetaChunk(texts=(("a", "bc"),))


@pytest.mark.parametrize(
    "payload",
    ["01", "0105", "0101 00", "0107 00 0a 0a 00 00 01 00", "02 01 05", "02 00"],
)
def test_broken_meta_items(payload: str) -> None:
    with pytest.raises(BitstreamError):
        bs.parse_chunk(build_chunk(7, bytes.fromhex(payload)))


def test_header_fields() -> None:
    audio = bs.AudioConfig(packet_samples=2880, pre_skip=312, total_samples=240_000)
    header = bs.StreamHeader(frame_count=125, model_id=1, model_hash=b"\xa1\xb2\xc3\xd4", audio=audio, rate=(30, 1))
    assert header.to_bytes()[:-4].hex(" ") == "c1 12 11 06 1e 01 7d 01 a1 b2 c3 d4 01 01 18 82 38 8e d3 00"
    assert header.fps == 30.0
    assert bs.AudioConfig() == bs.AudioConfig(packet_samples=2880, pre_skip=312, total_samples=0, codec=1)
    assert (audio.sample_rate, audio.packets_for(0), audio.packets_for(240_000)) == (48_000, 1, 84)


@pytest.mark.parametrize(
    ("limits", "data"),
    [
        (bs.Limits(max_keyframe_bytes=10), bs.KeyframeChunk(0, bytes(27)).to_bytes()),
        (bs.Limits(max_tiny_bytes=10), bs.TinyChunk(0, 1, bytes(11)).to_bytes()),
        (bs.Limits(max_motion_bytes=10), bs.MotionChunk(0, 1, bytes(11)).to_bytes()),
        (bs.Limits(max_displacement_bytes=10), bs.DisplacementChunk(0, 1, bytes(11)).to_bytes()),
        (bs.Limits(max_speech_bytes=10), bs.SpeechChunk(0, (bytes(11),)).to_bytes()),
        (bs.Limits(max_header_bytes=5), bs.StreamHeader().to_bytes()),
        (bs.Limits(max_ancillary_bytes=5), bs.PaddingChunk(6).to_bytes()),
        (bs.Limits(max_frames=5), bs.KeyframeChunk(5, b"x").to_bytes()),
        (bs.Limits(max_frames=5), bs.TinyChunk(3, 3, b"x").to_bytes()),
        (bs.Limits(max_frames=5), bs.EndChunk(6).to_bytes()),
        (bs.Limits(max_frames=5), bs.StreamHeader(frame_count=6).to_bytes()),
    ],
)
def test_limits_of_chunks(limits: bs.Limits, data: bytes) -> None:
    with pytest.raises(LimitExceeded):
        bs.parse_chunk(data, 0, limits)


def test_duration_limit_uses_the_frame_rate() -> None:
    limits = bs.Limits(max_duration_seconds=10)
    check_frame_count(250, (25, 1), 0, limits)
    check_frame_count(100, (10, 1), 0, limits)
    with pytest.raises(LimitExceeded):
        check_frame_count(101, (10, 1), 0, limits)


def test_keyframe_object_of_a_call() -> None:
    chunks: list[Chunk] = [bs.StreamHeader(model_id=1, model_hash=b"abcd"), bs.KeyframeChunk(7, b"kf", 3)]
    chunks += [bs.TinyChunk(7, 1, b"t", 3), bs.SpeechChunk(4, (b"opus",))]
    packet = b"".join(chunk.to_bytes() for chunk in chunks)
    assert list(bs.iter_chunks(packet)) == chunks
    found: list[Chunk] = []
    with pytest.raises(ChecksumError):
        found.extend(bs.iter_chunks(packet[:-1] + b"\x00"))
    iterator = bs.iter_chunks(packet[:-1] + b"\x00")
    assert [next(iterator) for _ in range(3)] == chunks[:3]


@pytest.mark.parametrize("chunk_type", sorted(RESERVED))
def test_reserved_types_are_refused(chunk_type: int) -> None:
    with pytest.raises(BitstreamError, match=r"\[R31\]"):
        bs.parse_chunk(build_chunk(chunk_type, b"\0\x05\0abc"))


def test_objects_that_are_none() -> None:
    with pytest.raises(TruncatedError):
        list(bs.iter_chunks(b""))
    with pytest.raises(LimitExceeded):
        list(bs.iter_chunks(bytes(65_537)))


def test_where_no_chunk_begins() -> None:
    with pytest.raises(TruncatedError, match=r"byte 4: .* \[R7\]"):
        bs.parse_chunk(b"1234", 4)


def test_byte_account() -> None:
    audio = bs.AudioConfig(2880, 312, 0)
    speech = bs.SpeechChunk(0, (b"speech", b"packets"))
    chunks: list[Chunk] = [
        bs.StreamHeader(model_id=1, model_hash=b"abcd", audio=audio),
        bs.KeyframeChunk(0, bytes(100)),
    ]
    chunks[1:1] = [bs.MotionTablesChunk(1, b"hash"), bs.DisplacementTablesChunk(1, b"hash")]
    chunks += [bs.MotionChunk(0, 5, bytes(7)), bs.DisplacementChunk(0, 5, bytes(6))]
    chunks += [bs.TinyChunk(0, 5, bytes(9)), speech, bs.EndChunk(5, 5_000)]
    data = bs.write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)
    expected = {"keyframe": 100, "tiny": 9, "motion": 7, "displacement": 6, "audio": len(speech.to_bytes()) + 5 + 2}
    expected["total"] = len(data)
    expected["container"] = len(data) - sum(expected.values()) + len(data)
    assert bs.account_bytes(data) == expected
    with pytest.raises(TruncatedError):
        bs.account_bytes(data[:-1])
    cut = bs.account_bytes(data[:-1], errors="conceal")
    assert cut["total"] == len(data) - 1
    assert cut["audio"] == expected["audio"] - 2


@pytest.mark.parametrize(("seconds", "most"), [(5, 34), (10, 43), (60, 123)])
def test_container_costs_little(seconds: int, most: int) -> None:
    """What a typical file spends outside keyframe and tiny frames: 128 frames a chunk, 20 bits a frame."""
    frames = seconds * 25
    data = bs.write_signature() + bs.StreamHeader(frames, 1, b"hash").to_bytes()
    data += bs.KeyframeChunk(0, bytes(1_800)).to_bytes()
    for first in range(0, frames, 128):
        count = min(128, frames - first)
        data += bs.TinyChunk(first, count, bytes(count * 20 // 8)).to_bytes()
    account = bs.account_bytes(data)
    assert account["container"] == most
    assert account["container"] <= 0.022 * account["total"]


def test_import_needs_nothing_heavy() -> None:
    code = (
        "import sys, tfcodec.bitstream; "
        "print([m for m in ('torch', 'av', 'librosa', 'scipy', 'constriction') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_package_imports_stdlib_and_numpy_only() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "tfcodec"}
    for path in Path(bs.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path
