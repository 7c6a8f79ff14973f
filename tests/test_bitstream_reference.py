"""The package's reader against a second one that was written from the specification."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import reference_container as reference
from hypothesis import given, settings
from hypothesis import strategies as st

import tfcodec.bitstream as bs
from tfcodec.bitstream.framing import build_chunk
from tfcodec.bitstream.primitives import crc16, crc32
from tfcodec.errors import BitstreamError

VECTORS = Path(__file__).parent / "vectors"
FILES = sorted([*VECTORS.glob("valid/*.tfc"), *VECTORS.glob("faulty/*.tfc")])
HEADER = bs.StreamHeader(model_id=1, model_hash=b"hash", audio=bs.AudioConfig())


def outcome(data: bytes) -> list[tuple[Any, ...]] | None:
    """What the package reads, in the form of the other reader; None if it refuses the file."""
    try:
        parsed = bs.read_stream(data)
    except BitstreamError:
        return None
    result: list[tuple[Any, ...]] = []
    for chunk in parsed.chunks:
        if isinstance(chunk, bs.StreamHeader):
            sound = chunk.audio
            audio = sound and (sound.packet_samples, sound.pre_skip, sound.total_samples)
            model = (chunk.model_id, chunk.model_hash)
            result.append(("header", chunk.frame_count, chunk.rate, model, chunk.tables_id, audio))
        elif isinstance(chunk, bs.KeyframeChunk):
            reference = [chunk.reference.to_bytes(2, "big")] if isinstance(chunk, bs.InterKeyframeChunk) else []
            result.append(("keyframe", chunk.frame_index, chunk.keyframe_tag, chunk.data, *reference))
        elif isinstance(chunk, bs.TinyChunk):
            fields = (chunk.first_frame, chunk.frame_count, chunk.keyframe_tag, chunk.payload)
            if isinstance(chunk, bs.MovedTinyChunk):
                result.append(("tiny moved", *fields, chunk.shape, chunk.x, chunk.y, chunk.distance))
            else:
                result.append(("tiny", *fields))
        elif isinstance(chunk, bs.MotionChunk):
            result.append(("motion", chunk.first_frame, chunk.frame_count, chunk.keyframe_tag, chunk.payload))
        elif isinstance(chunk, bs.DisplacementChunk):
            result.append(("displacement", chunk.first_frame, chunk.frame_count, chunk.keyframe_tag, chunk.payload))
        elif isinstance(chunk, bs.DisplacementTablesChunk):
            result.append(("displacement tables", chunk.displacement_id, chunk.displacement_hash))
        elif isinstance(chunk, bs.MotionTablesChunk):
            result.append(("motion tables", chunk.motion_id, chunk.motion_hash))
        elif isinstance(chunk, bs.SpeechChunk):
            result.append(("speech", chunk.first_packet, *chunk.packets))
        elif isinstance(chunk, bs.EndChunk):
            result.append(("end", chunk.frame_count, chunk.audio_samples))
    return result


def expected(data: bytes) -> list[tuple[Any, ...]] | None:
    try:
        return reference.read(data)
    except reference.RefusedError:
        return None


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_checksums_agree(data: bytes) -> None:
    assert reference.crc(data, long=False) == crc16(data)
    assert reference.crc(data, long=True) == crc32(data)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vectors(path: Path) -> None:
    data = path.read_bytes()
    assert outcome(data) == expected(data)
    assert (outcome(data) is not None) == (path.parent.name == "valid")


def test_rule_numbers_agree_on_the_vectors() -> None:
    """Each faulty vector breaks one rule only, so both readers must name the same."""
    for path in VECTORS.glob("faulty/*.tfc"):
        with pytest.raises(reference.RefusedError) as refused:
            reference.read(path.read_bytes())
        assert refused.value.args[0] == int(path.stem[1:3]), path.stem


def test_mutated_fields() -> None:
    """Chunks with good checksums whose fields are nearly right: many are valid, many are not."""
    rng = random.Random(5)
    accepted = 0
    for _ in range(1_500):
        chunks = [HEADER.to_bytes() if rng.random() < 0.8 else random_header(rng)]
        tag, frame, packet, moving = rng.choice([0, 0, 0, 1]), 0, 0, rng.random() < 0.5
        shifting = rng.random() < 0.5
        if moving:
            chunks.append(bs.MotionTablesChunk(rng.randrange(2), b"hash").to_bytes())
        if shifting:
            chunks.append(bs.DisplacementTablesChunk(rng.randrange(2), b"hash").to_bytes())
        for _ in range(rng.randrange(1, 6)):
            kind = rng.randrange(6)
            if kind == 0:
                chunks.append(bs.KeyframeChunk(frame, b"k", tag).to_bytes())
            elif kind <= 2:
                count = rng.choice([1, 2, 128])
                if moving:
                    some = rng.choice([count] * 9 + [1])
                    chunks.append(bs.MotionChunk(frame, some, b"moves"[:some], tag).to_bytes())
                if shifting and rng.random() < 0.5:
                    some = rng.choice([count] * 9 + [1])
                    chunks.append(bs.DisplacementChunk(frame, some, b"shift"[:some], tag).to_bytes())
                if rng.random() < (0.4 if moving else 0.05):
                    place = bytes(rng.choice([0, 1, 127, 255]) for _ in range(3))
                    move = bytes([rng.choice([0, 0, 127, 128])]) + place
                    head = bs.TinyChunk(frame, count, move[: rng.choice([4] * 9 + [3])], tag).to_bytes()
                    chunks.append(build_chunk(0x8F, head[2:-2]))
                else:
                    chunks.append(bs.TinyChunk(frame, count, b"tiny", tag).to_bytes())
                frame += count - (rng.random() < 0.05)
            elif kind == 3:
                chunks.append(bs.SpeechChunk(packet, (b"a", b"b" * rng.randrange(3))).to_bytes())
                packet += 2
            elif kind == 4:
                chunks.append(bs.PaddingChunk(3).to_bytes())
            else:
                payload = bytes(rng.choice([0, 1, 2, 4, 97, 128, 255]) for _ in range(rng.randrange(1, 9)))
                types = [0x84, 0x85, 7, 0xC6, 0xC2, 10, 0x8A, 0x8B, 0xCC, 0xAA, 13, 14, 0x8F]
                chunks.append(build_chunk(rng.choice(types), payload))
            if rng.random() < 0.7 and len(chunks) <= 5 and not any(c[0] == 0xC2 for c in chunks):
                chunks.insert(1 + moving + shifting, bs.KeyframeChunk(0, b"k", 0).to_bytes())
        if rng.random() < 0.8:
            samples = max(0, packet * 2_880 - 312 - rng.choice([0, 1, 2_879, 2_880]))
            chunks.append(bs.EndChunk(frame, samples).to_bytes())
        data = bs.write_signature() + b"".join(chunks)
        assert outcome(data) == expected(data), data.hex()
        accepted += outcome(data) is not None
    assert accepted > 25


def random_header(rng: random.Random) -> bytes:
    payload = bytes([rng.choice([0x11, 0x11, 0x21]), rng.choice([0, 2, 4, 6])])
    payload += bytes(rng.choice([0, 1, 2, 24, 25, 128]) for _ in range(rng.randrange(7, 14)))
    return build_chunk(0xC1, payload)
