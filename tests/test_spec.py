"""`bitstream_spec.md` against the code: its worked example, tables, rules and figures are those of the package."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import reference_decoder

from tfcodec import bitstream as bs
from tfcodec import displacement
from tfcodec.bitstream import framing, parts
from tfcodec.bitstream.primitives import crc16, crc32, write_varint
from tfcodec.bitstream.stream import _SCAN_BYTES, _SCAN_CANDIDATES
from tfcodec.keyframe import decode_keyframe
from tfcodec.motion import BASES_SHA256, TABLES_SHA256, motion_hash
from tfcodec.speech import SpeechDecoder
from tfcodec.tinyframe import TABLES_ID, TinyDecoder, TinyPlanes, tables_sha256, tiny_from_frames

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "bitstream_spec.md").read_text(encoding="utf-8")
LETTERS = {
    "BitstreamError": "B",
    "TruncatedError": "T",
    "ChecksumError": "C",
    "UnsupportedVersion": "U",
    "LimitExceeded": "L",
}


def section(start: str, end: str) -> str:
    """The text from one heading to the next."""
    return SPEC[SPEC.index(f"\n{start}") : SPEC.index(f"\n{end}")]


def rows(text: str) -> Iterator[list[str]]:
    """Cells of the rows of all tables in a text, headings included."""
    for line in re.findall(r"^\|(.+)\|$", text, re.M):
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]


EXAMPLE = section("## Appendix A", "## Appendix B")
DATA = bytes.fromhex(re.findall(r"```hex\n(.*?)```", EXAMPLE, re.S)[0])


@pytest.fixture(scope="module")
def parsed() -> bs.ParsedStream:
    return bs.read_stream(DATA)


def test_example_is_annotated_byte_by_byte() -> None:
    assert len(DATA) <= 200
    assert f"A complete file of {len(DATA)} bytes" in EXAMPLE
    position = 0
    for offset, shown, *_ in rows(EXAMPLE):
        if not offset.isdigit():
            continue
        assert int(offset) == position
        match = re.fullmatch(r"`([0-9A-F ]+)( … \((\d+) bytes\))?`", shown)
        assert match is not None
        first = bytes.fromhex(match[1])
        assert DATA[position : position + len(first)] == first
        position += int(match[3] or len(first))
    assert position == len(DATA)


def test_example_chunks(parsed: bs.ParsedStream) -> None:
    header, keyframe, tiny, speech = parsed.chunks
    audio = bs.AudioConfig(packet_samples=5760, pre_skip=312, total_samples=3840)
    assert header == bs.StreamHeader(2, tables_id=TABLES_ID, audio=audio)
    assert isinstance(keyframe, bs.KeyframeChunk)
    assert isinstance(tiny, bs.TinyChunk)
    assert isinstance(speech, bs.SpeechChunk)
    assert (keyframe.frame_index, keyframe.keyframe_tag) == (0, 0)
    assert (tiny.first_frame, tiny.frame_count, tiny.keyframe_tag) == (0, 2, 0)
    assert (speech.first_packet, len(speech.packets)) == (0, audio.packets_for(3840))
    assert bs.write_signature() + b"".join(chunk.to_bytes() for chunk in parsed.chunks) == DATA
    account = bs.account_bytes(DATA)
    assert account["keyframe"] == len(keyframe.data)
    assert account["tiny"] == len(tiny.payload)
    assert account["audio"] == len(speech.to_bytes()) + 6
    assert sum(account.values()) == 2 * len(DATA)


def test_example_keyframe(parsed: bs.ParsedStream) -> None:
    picture = decode_keyframe(parsed.keyframes[0].data)
    assert f"`{hashlib.sha256(picture.tobytes()).hexdigest()}`" in EXAMPLE
    for x, y in ((0, 0), (128, 128)):
        assert str(picture[y, x].tolist()) in EXAMPLE


def test_example_tiny_frames(parsed: bs.ParsedStream) -> None:
    decoder = TinyDecoder()
    decoder.reset(tiny_from_frames(decode_keyframe(parsed.keyframes[0].data)[None]))
    decoded = decoder.decode(parsed.tiny[0].payload, parsed.tiny[0].frame_count)
    blocks = re.findall(r"```samples\n(.*?)```", EXAMPLE, re.S)
    numbers = [[int(n) for n in re.findall(r"^ *[\d ]+$", block, re.M) for n in n.split()] for block in blocks]
    listed = np.array(numbers, np.int16)
    assert listed.shape == (2, 96)
    luma, chroma = listed[:, :64].reshape(2, 8, 8), listed[:, 64:].reshape(2, 2, 4, 4)
    assert decoded == TinyPlanes(luma, chroma)


def test_example_by_the_second_decoder(parsed: bs.ParsedStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples once more, and the range decoder's final state, by plain Python that shares no code."""
    coders: list[reference_decoder.Coder] = []

    class Recorded(reference_decoder.Coder):
        def __init__(self, payload: bytes) -> None:
            super().__init__(payload)
            coders.append(self)

    monkeypatch.setattr(reference_decoder, "Coder", Recorded)
    decoder = reference_decoder.ReferenceDecoder(reference_decoder.read_tables(ROOT / "tfcodec/tinyframe/tables.bin"))
    decoder.reset(tiny_from_frames(decode_keyframe(parsed.keyframes[0].data)[None]).samples()[0].tolist())
    decoded = decoder.decode(parsed.tiny[0].payload, parsed.tiny[0].frame_count)
    blocks = re.findall(r"```samples\n(.*?)```", EXAMPLE, re.S)
    assert decoded == [[int(n) for n in " ".join(re.findall(r"^ *[\d ]+$", block, re.M)).split()] for block in blocks]
    coder = coders[0]
    state = f"`lower` = {coder.lower:#018x}, `range` = {coder.range:#018x}, {coder.words} words taken"
    assert state in " ".join(EXAMPLE.split())


def test_example_speech(parsed: bs.ParsedStream) -> None:
    pcm = SpeechDecoder(packet_ms=120).decode(parsed.speech[0].packets[0])
    assert len(pcm) == 1920
    assert np.abs(pcm).max() < 0.01


def test_checksums() -> None:
    table = {row[0]: row for row in rows(section("## 4", "## 5")) if row[0].startswith("CRC")}
    assert int(table["CRC-16/IBM-3740"][6], 16) == crc16(b"123456789")
    assert int(table["CRC-32/ISO-HDLC"][6], 16) == crc32(b"123456789")


def test_chunk_types() -> None:
    table = {row[2]: row for row in rows(section("## 4", "## 5")) if row[0].startswith("0x")}
    assert {int(row[0], 16): name for name, row in table.items()} == parts.NAMES
    for name, (value, number, _, critical, checksum, place) in table.items():
        chunk_type = int(value, 16)
        assert int(number) == chunk_type & framing.NUMBER_MASK
        assert critical == ("yes" if chunk_type & framing.CRITICAL else "no")
        assert checksum == ("CRC-32" if chunk_type & framing.LONG_CRC else "CRC-16")
        assert f"\n### {place} {name}\n" in SPEC
        grammar = rf"^{name.lower().replace('_', '-')} += %x{chunk_type:02X} "
        assert re.search(grammar, SPEC, re.M), name


def test_signature_and_varints() -> None:
    assert f"`{framing.SIGNATURE.hex(' ').upper()}`" in section("## 5", "## 6")
    examples = re.findall(r"(\d+(?:\^32 − 1)?) is `([0-9A-F ]+)`", section("## 2", "## 3"))
    assert len(examples) == 5
    for number, coded in examples:
        value = 2**32 - 1 if "^" in number else int(number)
        assert write_varint(value) == bytes.fromhex(coded)


def test_limits() -> None:
    text = section("## 13", "## 14")
    limits = bs.Limits()
    for value in (
        limits.max_header_bytes,
        limits.max_keyframe_bytes,
        limits.max_tiny_bytes,
        limits.max_motion_bytes,
        limits.max_displacement_bytes,
        limits.max_speech_packet_bytes,
        limits.max_chunks,
        limits.max_ancillary_chunks,
        limits.max_frames,
        limits.max_duration_seconds,
        limits.max_frame_rate,
        limits.max_gap_frames,
        limits.max_packet_bytes,
        bs.MAX_FRAMES_PER_CHUNK,
    ):
        assert re.search(rf"(?<![\d,]){value:,}(?!\d|,\d)", text), value
    same = (limits.max_tiny_bytes, limits.max_speech_bytes, limits.max_ancillary_bytes, limits.max_packet_bytes)
    assert len(set(same)) == 1
    past_damage = section("### 12.3", "### 12.4")
    assert f"{_SCAN_CANDIDATES:,} offsets" in past_damage
    assert f"{_SCAN_BYTES >> 20} MiB" in past_damage


def rules_of_the_spec() -> dict[int, str]:
    return {int(row[0][2:-1]): row[2] for row in rows(section("## 14", "## 15")) if row[0].startswith("[R")}


def test_rules_are_numbered_through_and_referred_to_correctly() -> None:
    rules = rules_of_the_spec()
    assert list(rules) == list(range(1, len(rules) + 1))
    assert {int(number) for number in re.findall(r"\[R(\d+)\]", SPEC)} == set(rules)


def test_rules_of_the_container_are_those_of_the_code() -> None:
    found: dict[int, set[str]] = {}
    for path in (ROOT / "tfcodec/bitstream").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        for number, letter in re.findall(r"\[R(\d+)\]\"\)()", source):
            found.setdefault(int(number), set()).update(letter)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fail":
                error, rule = node.args[0], node.args[1]
                if isinstance(rule, ast.Constant) and isinstance(error, ast.Name):
                    found.setdefault(int(str(rule.value)), set()).add(LETTERS[error.id])
    rules = rules_of_the_spec()
    for number, letters in found.items():
        assert letters <= set(rules[number].split(", ")), f"R{number}"
    # R24 and R26 share one check, whose rule number is an argument; R39 is of a chunk that no file may hold.
    assert set(range(1, 40)) - set(found) <= {26, 39}


def test_tables_and_links() -> None:
    assert tables_sha256() in SPEC
    for value in (BASES_SHA256, TABLES_SHA256, motion_hash().hex()):
        assert value in section("## 22", "## 23")
    content = (ROOT / "tfcodec/displacement/tables.bin").read_bytes()
    for said in (displacement.TABLES_SHA256, f"`{displacement.displacement_hash().hex()}`", f"{len(content)} bytes"):
        assert said in section("## 23", "## Appendix A")
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", SPEC, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", SPEC)) <= headings
    for number in range(1, 25):
        assert len(re.findall(rf"^## {number} ", SPEC, re.M)) == 1, number


def test_vectors_that_are_named_exist() -> None:
    names = re.findall(r"`(\w+)`", section("## Appendix C", "## Appendix D"))
    assert len(names) >= 8
    for name in names:
        assert (ROOT / f"tests/vectors/valid/{name}.tfc").is_file(), name


@pytest.mark.parametrize(("frame", "size"), [(0, 6), (1_000, 7), (5_000, 8)])
def test_stated_costs_in_a_call(frame: int, size: int) -> None:
    assert bs.account_chunk(bs.TinyChunk(frame, 1, b"tiny"))["container"] == size
