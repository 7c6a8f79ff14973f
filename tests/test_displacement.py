"""The displacement layer: coding, loss, malformed payloads, a second decoder; in files, and for readers of before."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Malformed
from reference_numbers import ReferenceDisplacementDecoder, read_displacement_tables

import tfcodec
from tfcodec import bitstream as bs
from tfcodec import displacement
from tfcodec.bitstream import DisplacementChunk, DisplacementTablesChunk, TinyChunk
from tfcodec.cli import main
from tfcodec.codec.file.decoder import ExactParts, read_exact
from tfcodec.codec.parts import Sending, StreamDecoder, StreamEncoder
from tfcodec.codec.parts import displacement as part
from tfcodec.codec.parts.stream import stream_header
from tfcodec.displacement import (
    DISPLACEMENT_ID,
    NUMBERS,
    TABLES_SHA256,
    DisplacementDecoder,
    DisplacementEncoder,
    check_displacement,
    displacement_hash,
)
from tfcodec.displacement.tables import LAYOUT, MAGIC, load_tables
from tfcodec.errors import BitstreamError, TfcodecError, UnsupportedVersion, WeightsError
from tfcodec.tinyframe import MAX_FRAMES
from tfcodec.tinyframe.rangecoder import RangeDecoder
from tfcodec.tinyframe.tables import parse_tables, table_bytes

FOLDER = Path(displacement.__file__).parent
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Frames = npt.NDArray[np.uint8]


def walk(frames: int, seed: int, speed: float = 8.0) -> FloatArray:
    """Numbers [frames, 12] of a smooth random walk that begins a pixel or two off."""
    rng = np.random.default_rng(seed)
    pushes = rng.normal(0, speed, (frames + 4, NUMBERS))
    return rng.normal(0, 30, NUMBERS) + np.cumsum(sum(pushes[i : i + frames] for i in range(5)) / 5, axis=0)


def payloads(numbers: FloatArray, quality: int = 5, size: int = 20) -> Iterator[tuple[bytes, IntArray]]:
    encoder = DisplacementEncoder(quality)
    for start in range(0, len(numbers), size):
        payload = encoder.encode(numbers[start : start + size])
        yield payload, encoder.reconstruction


# --- coding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [128, 17, 1])
def test_decoder_reproduces_the_encoder(size: int) -> None:
    numbers, decoder, shown = walk(60, 5), DisplacementDecoder(), []
    for payload, expected in payloads(numbers, size=size):
        shown.append(decoder.decode(payload, len(expected)))
        assert np.array_equal(shown[-1], expected)
    assert np.abs(np.concatenate(shown) - numbers).max() < 1.6 * 40  # quantiser steps


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_numbers_come_back(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    numbers = rng.normal(0, 10.0 ** data.draw(st.integers(0, 7)), (frames, NUMBERS))
    decoder, size = DisplacementDecoder(), data.draw(st.integers(1, 40))
    for payload, expected in payloads(numbers, data.draw(st.integers(0, 10)), size):
        got = decoder.decode(payload, len(expected))
        assert np.array_equal(got, expected)
        assert np.abs(got).max() <= 32767


def test_finer_qualities_take_more_bits_and_err_less() -> None:
    numbers, sizes, errors = walk(120, 3), [], []
    for quality in range(0, 11, 2):
        coded = list(payloads(numbers, quality, 120))
        sizes.append(sum(len(p) for p, _ in coded))
        errors.append(float(np.abs(np.concatenate([r for _, r in coded]) - numbers).mean()))
    assert all(a < b for a, b in pairwise(sizes))
    assert all(a > b for a, b in pairwise(errors))


def test_a_keyframe_starts_from_nothing() -> None:
    encoder, decoder = DisplacementEncoder(), DisplacementDecoder()
    first = encoder.encode(walk(9, 1))
    shown = decoder.decode(first, 9)
    encoder.reset()
    decoder.reset()
    assert encoder.encode(walk(9, 1)) == first
    assert np.array_equal(decoder.decode(first, 9), shown)
    decoder.reset()
    assert not decoder.conceal(3).any()


def test_what_is_lost_or_left_out_is_held() -> None:
    encoder, lossy = DisplacementEncoder(), DisplacementDecoder()
    numbers = walk(60, 7)
    coded = [encoder.encode(numbers[:20])]
    before = encoder.reconstruction[-1]
    encoder.leave_out(20)
    assert (encoder.reconstruction == before).all()
    coded.append(encoder.encode(numbers[40:]))
    assert np.array_equal(lossy.decode(coded[0], 20)[-1], before)
    assert (lossy.conceal(20) == before).all()
    assert np.array_equal(lossy.decode(coded[1], 20), encoder.reconstruction)


def test_bad_arguments_are_refused() -> None:
    for quality in (-1, 11, "5"):
        with pytest.raises(TfcodecError, match="quality"):
            DisplacementEncoder(quality)  # type: ignore[arg-type]
    encoder = DisplacementEncoder()
    bad = np.zeros((2, 12))
    bad[1, 3] = np.nan
    for numbers in (np.zeros((0, 12)), np.zeros((129, 12)), np.zeros((2, 16)), np.zeros(12), bad):
        with pytest.raises(TfcodecError, match="displacement"):
            encoder.encode(numbers)
    for frames in (0, 129):
        with pytest.raises(BitstreamError, match="displacement"):
            DisplacementDecoder().decode(b"", frames)


# --- tables and the second decoder ----------------------------------------------------------------------------


def test_tables_are_the_ones_named() -> None:
    content = (FOLDER / "tables.bin").read_bytes()
    assert hashlib.sha256(content).hexdigest() == TABLES_SHA256
    assert table_bytes(load_tables().arrays, LAYOUT, MAGIC) == content
    assert np.array_equal(load_tables().inverse, np.eye(NUMBERS) * (40 << 14) // 128)
    with pytest.raises(WeightsError):
        parse_tables(content, LAYOUT)
    assert displacement_hash() == hashlib.sha256(content).digest()[:4]
    check_displacement(DISPLACEMENT_ID, displacement_hash())
    for number, name in ((DISPLACEMENT_ID + 1, displacement_hash()), (DISPLACEMENT_ID, b"\0" * 4)):
        with pytest.raises(UnsupportedVersion, match=r"\[R73\]"):
            check_displacement(number, name)


def second_decoder() -> ReferenceDisplacementDecoder:
    return ReferenceDisplacementDecoder(read_displacement_tables(FOLDER / "tables.bin"))


def alike(payload: bytes, frames: int) -> bool:
    """Whether both decoders take the payload, which both must do or neither."""
    try:
        want = second_decoder().decode(payload, frames)
    except Malformed:
        with pytest.raises(BitstreamError, match="displacement"):
            DisplacementDecoder().decode(payload, frames)
        return False
    assert DisplacementDecoder().decode(payload, frames).tolist() == want
    return True


def test_the_second_decoder_agrees() -> None:
    reference = second_decoder()
    for payload, expected in payloads(walk(80, 13), size=37):
        assert reference.decode(payload, len(expected)) == expected.tolist()
    reference.reset([])
    product = DisplacementDecoder()
    assert reference.lose(2) == product.conceal(2).tolist()
    encoder = DisplacementEncoder()
    encoder.leave_out(2)
    payload = encoder.encode(walk(5, 1))
    assert reference.decode(payload, 5) == product.decode(payload, 5).tolist() == encoder.reconstruction.tolist()


def test_the_second_decoder_agrees_on_random_payloads() -> None:
    rng = np.random.default_rng(5)
    taken = [alike(rng.bytes(int(rng.integers(0, 20))), 1 + index % 5) for index in range(50)]
    assert 0 < sum(taken) < 50


# --- vectors --------------------------------------------------------------------------------------------------

VECTORS = Path(__file__).parent / "vectors/displacement"
RUNS = json.loads((VECTORS / "payloads.json").read_text(encoding="utf-8"))
FAULTY = json.loads((VECTORS / "faulty.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RUNS)
def test_vectors_are_read_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    coders: list[RangeDecoder] = []

    class Recorded(RangeDecoder):
        def __init__(self, payload: bytes, layer: str) -> None:
            super().__init__(payload, layer)
            coders.append(self)

    monkeypatch.setattr("tfcodec.tinyframe.numbers.RangeDecoder", Recorded)
    decoder, reference = DisplacementDecoder(), second_decoder()
    for vector in RUNS[name]:
        payload, frames = bytes.fromhex(vector["payload"]), vector["frames"]
        numbers = decoder.decode(payload, frames)
        assert hashlib.sha256(numbers.astype(">i2").tobytes()).hexdigest() == vector["numbers_sha256"]
        coder = coders.pop()
        assert f"{coder._range:016x}" == vector["range"]
        assert coder._next == vector["words"]
        assert reference.decode(payload, frames) == numbers.tolist()


@pytest.mark.parametrize("vector", FAULTY, ids=lambda v: f"R{v['rule']}")
def test_faulty_vectors_are_refused(vector: dict[str, Any]) -> None:
    payload, frames = bytes.fromhex(vector["payload"]), vector["frames"]
    words = {50: "no valid symbol", 51: "zero byte", 52: "at most were needed", 53: "only zeros", 54: "out of range"}
    decoder = DisplacementDecoder()
    with pytest.raises(BitstreamError, match=f"displacement .*{words[vector['rule']]}"):
        decoder.decode(payload, frames)
    assert decoder.state is DisplacementDecoder().state
    with pytest.raises(Malformed):
        second_decoder().decode(payload, frames)


def test_mutated_vectors_are_read_alike_or_refused_by_both() -> None:
    rng = random.Random(7)
    payload, taken = bytes.fromhex(RUNS["short payloads"][0]["payload"]), []
    for _ in range(100):
        broken = bytearray(payload)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        changed = bytes(broken[: rng.choice([len(broken)] * 3 + [rng.randrange(len(broken))])])
        taken.append(alike(changed, 5))
    assert 0 < sum(taken) < 100


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(1, MAX_FRAMES))
def test_any_bytes_are_decoded_or_refused(payload: bytes, frames: int) -> None:
    decoder = DisplacementDecoder()
    try:
        assert decoder.decode(payload, frames).shape == (frames, NUMBERS)
    except BitstreamError:
        assert decoder.state is DisplacementDecoder().state


# --- the layer in files ---------------------------------------------------------------------------------------


class Known:
    """An aligner that knows what to find."""

    def __init__(self, numbers: FloatArray) -> None:
        self.numbers, self.at = numbers, 0

    def fit(
        self, keyframe: Frames, frames: Frames, tiny: Frames, motion: npt.NDArray[np.int32] | None
    ) -> npt.NDArray[np.float64]:
        assert (keyframe.shape, frames.shape) == ((256, 256, 3), (len(frames), 256, 256, 3))
        assert tiny.shape == (len(frames), 8, 8, 3)
        assert tiny.dtype == np.uint8
        assert motion is None
        self.at += len(frames)
        return self.numbers[self.at - len(frames) : self.at]


def picture(seed: int) -> Frames:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return np.asarray(small.repeat(32, 0).repeat(32, 1))


def coded(numbers: FloatArray, size: int = 20, cut: int | None = None) -> tuple[list[Any], IntArray]:
    """Chunks of a file of still pictures displaced by these numbers, with a keyframe at 0 and one at `cut`; and what
    the encoder says that a decoder gets."""
    encoder = StreamEncoder(Sending(5, "file", motion=False, aligner=Known(numbers)))
    chunks: list[Any] = [stream_header(None, len(numbers)), *encoder.announcements]
    said = []
    for start in range(0, len(numbers), size):
        if start in (0, cut):
            chunks.append(encoder.keyframe(picture(start), start))
        count = min(size, len(numbers) - start)
        chunks += encoder.chunks(np.repeat(picture(start)[None], count, 0), start)
        said.append(encoder.layers["displacement"].said)
    return chunks, np.concatenate(said)


def joined(chunks: list[Any]) -> bytes:
    return b"".join([bs.write_signature(), *(chunk.to_bytes() for chunk in chunks)])


@pytest.fixture(scope="module")
def stream() -> tuple[list[Any], IntArray]:
    return coded(walk(60, 2), cut=40)


def test_a_file_holds_what_the_aligner_found(stream: tuple[list[Any], IntArray]) -> None:
    chunks, said = stream
    got = read_exact(joined(chunks)).layers["displacement"]
    assert got.shape == (60, NUMBERS)
    assert got.dtype == np.int32
    assert np.array_equal(got, said)
    assert np.abs(got - walk(60, 2)).max() < 2 * 40
    assert chunks[1] == DisplacementTablesChunk(DISPLACEMENT_ID, displacement_hash())
    kinds = [type(chunk).__name__ for chunk in chunks[2:]]
    two = ["DisplacementChunk", "TinyChunk"]
    assert kinds == ["KeyframeChunk", *two, *two, "KeyframeChunk", *two]


def test_bytes_are_counted(
    stream: tuple[list[Any], IntArray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunks, _ = stream
    data, count = joined(chunks), sum(len(c.payload) for c in chunks if isinstance(c, DisplacementChunk))
    info = tfcodec.probe(data)
    assert info.bytes["displacement"] == count > 0
    assert sum(info.bytes.values()) == 2 * len(data)
    assert info.video_bytes == len(data)
    (tmp_path / "a.tfc").write_bytes(data)
    assert main(["info", str(tmp_path / "a.tfc")]) == 0
    assert f"  displacement {count:8} bytes" in capsys.readouterr().out


def test_a_reader_of_before_skips_the_layer(
    stream: tuple[list[Any], IntArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, _ = stream
    data, now = joined(chunks), read_exact(joined(chunks))
    known = {number: row for number, row in bs.parts.BY_TYPE.items() if number not in (0x0D, 0x0E)}
    monkeypatch.setattr("tfcodec.bitstream.parse.BY_TYPE", known)
    parsed = bs.read_stream(data)
    unknown = [chunk.chunk_type for chunk in parsed.chunks if isinstance(chunk, bs.UnknownChunk)]
    assert unknown == [0x0D, 0x0E, 0x0E, 0x0E]
    before = read_exact(data)
    assert "displacement" not in before.layers
    assert np.array_equal(before.tiny, now.tiny)
    plain = joined([c for c in chunks if not isinstance(c, DisplacementChunk | DisplacementTablesChunk)])
    assert np.array_equal(read_exact(plain).tiny, now.tiny)


def without(parts: ExactParts) -> tuple[Any, ...]:
    return parts.tiny.tobytes(), [picture.tobytes() for _, picture in parts.keyframes]


def test_damage_costs_the_layer_only(stream: tuple[list[Any], IntArray]) -> None:
    chunks, said = stream
    whole = read_exact(joined(chunks))
    ends = np.cumsum([4] + [len(chunk.to_bytes()) for chunk in chunks])
    for at, chunk in enumerate(chunks):
        if not isinstance(chunk, DisplacementChunk | DisplacementTablesChunk):
            continue
        broken = bytearray(joined(chunks))
        broken[ends[at + 1] - 1] ^= 1
        parts = read_exact(bytes(broken), errors="conceal")
        assert without(parts) == without(whole)
        assert parts.damaged
        if isinstance(chunk, DisplacementTablesChunk):
            assert "displacement" not in parts.layers
            continue
        held = said.copy()
        first = chunk.first_frame
        held[first : chunk.end_frame] = said[first - 1] if first % 40 else 0
        got = parts.layers["displacement"]
        assert np.array_equal(got[: chunk.end_frame], held[: chunk.end_frame])
        if first != 0:  # the changes that come later are right, on top of what was missed
            continue
        change = got[20:40] - said[20:40]
        assert (np.ptp(change, axis=0) <= 1).all()
        assert np.array_equal(got[40:], said[40:])
    malformed = [replace(c, payload=b"\xff" * 12) if isinstance(c, DisplacementChunk) else c for c in chunks]
    with pytest.raises(BitstreamError, match="displacement frames from 0 on"):
        read_exact(joined(malformed))
    parts = read_exact(joined(malformed), errors="conceal")
    assert without(parts) == without(whole)
    assert not parts.layers["displacement"].any()


def test_other_tables_are_refused(stream: tuple[list[Any], IntArray]) -> None:
    chunks, _ = stream
    for changed in (replace(chunks[1], displacement_id=2), replace(chunks[1], displacement_hash=b"else")):
        for errors in ("raise", "conceal"):
            with pytest.raises(UnsupportedVersion, match=r"displacement tables .*\[R73\]"):
                read_exact(joined([chunks[0], changed, *chunks[2:]]), errors=errors)


def test_frames_that_stay_are_not_sent() -> None:
    numbers = np.zeros((80, NUMBERS))
    numbers[40:] = 308  # ten steps: it is there at once
    chunks, said = coded(numbers)
    sent = [(c.first_frame, c.frame_count) for c in chunks if isinstance(c, DisplacementChunk)]
    assert sent == [(40, 20)]
    assert not said[:40].any()
    assert np.array_equal(read_exact(joined(chunks)).layers["displacement"], said)


def test_later_frames_are_left_out_when_readers_would_have_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "MOST_CHUNKS", 3)
    numbers = np.full((60, NUMBERS), 150.0)
    numbers[:, 0] += np.arange(60) * 20
    chunks, said = coded(numbers, size=10)
    assert [c.first_frame for c in chunks if isinstance(c, DisplacementChunk)] == [0, 10, 20]
    assert np.abs(said[30:]).max() < 40  # the last chunk leads back
    assert np.array_equal(read_exact(joined(chunks)).layers["displacement"], said)


def test_without_an_aligner_and_in_calls_there_is_none(stream: tuple[list[Any], IntArray]) -> None:
    for sending in (
        Sending(5, "file", motion=False),
        Sending(5, "call", motion=False, aligner=Known(walk(1, 1))),
    ):
        encoder = StreamEncoder(sending)
        assert "displacement" not in encoder.layers
        assert encoder.announcements == []
    chunks, _ = stream
    unit = StreamEncoder(Sending(5, "call", motion=False))
    unit.keyframe(picture(0), 0)
    payload, parts = unit.unit(picture(0)[None])
    assert list(parts) == ["tiny"]
    receiver = StreamDecoder(chunks[0], chunks[:2], "call")  # a call's keyframe object that announces it all the same
    receiver.keyframe(chunks[2])
    assert list(receiver.decode(payload, 1)) == ["tiny"]
    assert list(StreamDecoder(chunks[0], chunks[:2]).layers) == ["tiny", "displacement"]


def test_tiny_frames_come_last_of_their_frames(stream: tuple[list[Any], IntArray]) -> None:
    """So that a file without speech ends with tiny frames, behind which no reader takes anything."""
    chunks, _ = stream
    assert isinstance(chunks[-1], TinyChunk)
    with pytest.raises(BitstreamError, match=r"\[R36\]"):
        bs.read_stream(joined([*chunks[:-2], chunks[-1], chunks[-2]]))
