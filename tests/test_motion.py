"""The motion layer: landmarks to numbers, coding, presence, loss, malformed payloads, a second decoder."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Malformed
from reference_numbers import ReferenceMotionDecoder, read_motion_tables

import tfcodec.motion as motion
from tfcodec.errors import BitstreamError, MediaError, TfcodecError, UnsupportedVersion, WeightsError
from tfcodec.motion import (
    BASES_SHA256,
    MOTION_ID,
    NUMBERS,
    PARTS,
    TABLES_SHA256,
    UNIT,
    MotionDecoder,
    MotionEncoder,
    analyse,
    check_motion,
    distance,
    motion_hash,
    smooth,
    synthesise,
)
from tfcodec.motion.geometry import HEAD, load_bases, parse_bases, residual
from tfcodec.motion.tables import LAYOUT, MAGIC, load_tables
from tfcodec.tinyframe import MAX_FRAMES, TinyDecoder, TinyEncoder, TinyPlanes
from tfcodec.tinyframe.rangecoder import RangeDecoder, RangeEncoder
from tfcodec.tinyframe.tables import parse_tables, table_bytes

FOLDER = Path(motion.__file__).parent
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def face(seed: int = 0, turn: float = 0.0, size: float = 60.0) -> FloatArray:
    """Something like the landmarks of a face [70, 2]: eyes `size` pixels apart, the head turned by an angle."""
    rng = np.random.default_rng(seed)
    marks = rng.uniform(-0.8, 0.8, (70, 2))
    ring = np.stack([np.cos(np.arange(6) * np.pi / 3), 0.4 * np.sin(np.arange(6) * np.pi / 3)], axis=1) * 0.15
    marks[36:42], marks[42:48] = ring - (0.5, 0.4), ring - (-0.5, 0.4)
    c, s = np.cos(turn), np.sin(turn)
    return np.asarray(marks @ np.array([[c, s], [-s, c]]) * size + 128)


def walk(frames: int, seed: int, speed: float = 25.0) -> FloatArray:
    """Numbers [frames, 16] of a smooth random walk from 0."""
    rng = np.random.default_rng(seed)
    pushes = rng.normal(0, speed, (frames + 4, NUMBERS))
    return np.cumsum(sum(pushes[i : i + frames] for i in range(5)) / 5, axis=0)


def presence(frames: int, seed: int, share: float = 0.8) -> BoolArray:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.random(frames // 3 + 1) < share, 3)[:frames]


def payloads(
    mode: str, numbers: FloatArray, present: BoolArray | None = None, quality: int = 5, part: int = 20
) -> Iterator[tuple[bytes, npt.NDArray[np.int64], BoolArray]]:
    encoder = MotionEncoder(quality, mode)  # type: ignore[arg-type]
    for start in range(0, len(numbers), part):
        there = None if present is None else present[start : start + part]
        payload = encoder.encode(numbers[start : start + part], there)
        yield payload, *encoder.reconstruction


# --- geometry -------------------------------------------------------------------------------------------------


def test_numbers_come_back_from_the_landmarks_they_make_in_a_given_head() -> None:
    numbers = walk(40, 1, 60)
    numbers[:, :2] /= 8  # heads do not double in size
    for reference in (face(1), face(2, 0.5), face(3, -1.2, 35.0)):
        marks = synthesise(reference, numbers)
        assert marks.shape == (40, 70, 2)
        assert marks.dtype == np.float32
        left = residual(reference, marks.astype(np.float64), numbers[:, :HEAD]).reshape(40, -1)
        assert np.abs(left @ load_bases().forward.T * UNIT - numbers[:, HEAD:]).max() < 1.5


def test_no_motion_is_no_numbers() -> None:
    reference = face(4, 0.3)
    assert np.abs(analyse(reference, reference[None])).max() < 1e-6
    assert np.abs(synthesise(reference, np.zeros((1, NUMBERS)))[0] - reference).max() < 1e-4


def test_a_moving_head_is_four_numbers() -> None:
    reference = face(5)
    c, s = 1.1 * np.cos(0.2), 1.1 * np.sin(0.2)
    marks = ((reference - 128) @ np.array([[c, s], [-s, c]]) + 128 + [7, -3])[None]
    numbers = analyse(reference, marks)[0]
    assert np.abs(numbers[HEAD:]).max() < 1e-6
    assert numbers[:2] == pytest.approx([1024 * (c - 1), 1024 * s])
    assert np.abs(synthesise(reference, numbers[None])[0] - marks[0]).max() < 1e-4


@pytest.mark.parametrize("turn", [0.0, 0.7, -2.0])
def test_numbers_do_not_depend_on_how_the_reference_lies(turn: float) -> None:
    still = synthesise(face(6), walk(5, 2)).astype(np.float64)
    numbers = analyse(face(6), still)
    c, s = np.cos(turn), np.sin(turn)
    rotation = 1.5 * np.array([[c, s], [-s, c]])
    again = analyse((face(6) - 100) @ rotation + 90, (still - 100) @ rotation + 90)
    # translation is in picture axes: turn it back
    again[:, 2:4] = again[:, 2:4] @ rotation.T / 1.5
    assert np.abs(again - numbers).max() < 1e-6


def test_parts_move_their_points_and_the_face_moves_all() -> None:
    reference = face(7)
    for part in PARTS:
        numbers = np.zeros((1, NUMBERS))
        numbers[0, part.first] = 300
        moved = np.abs(synthesise(reference, numbers)[0] - reference).max(axis=1) > 1e-3
        others = np.ones(70, bool)
        others[list(part.points)] = False
        assert moved[list(part.points)].any()
        assert moved[others].any() == (part.name == "face")


def test_a_reference_without_extent_stays_finite() -> None:
    flat = np.full((70, 2), 128.0)
    assert np.isfinite(analyse(flat, face(1)[None])).all()
    assert np.isfinite(synthesise(flat, walk(3, 1))).all()
    assert distance(flat) == 4


@pytest.mark.parametrize(
    ("reference", "marks"),
    [
        (face(1)[:69], face(1)[None]),
        (face(1), face(1)),
        (face(1), np.full((1, 70, 2), np.nan)),
        (np.full((70, 2), np.inf), face(1)[None]),
    ],
)
def test_bad_landmarks_are_refused(reference: FloatArray, marks: FloatArray) -> None:
    with pytest.raises(MediaError):
        analyse(reference, marks)


@pytest.mark.parametrize("numbers", [np.zeros((1, 15)), np.zeros(16), np.full((1, 16), np.nan)])
def test_bad_numbers_are_refused(numbers: FloatArray) -> None:
    with pytest.raises(MediaError):
        synthesise(face(1), numbers)
    with pytest.raises(TfcodecError):
        MotionEncoder().encode(numbers)


def test_bases_are_the_ones_named_and_invert() -> None:
    content = (FOLDER / "bases.bin").read_bytes()
    assert hashlib.sha256(content).hexdigest() == BASES_SHA256
    bases = load_bases()
    assert np.abs(bases.forward @ bases.inverse.T - np.eye(12)).max() < 3e-3
    lengths = np.linalg.norm(bases.inverse[:10], axis=1)
    assert lengths == pytest.approx(np.ones(10), abs=1e-3)
    with pytest.raises(WeightsError):
        parse_bases(content[:-1])
    with pytest.raises(WeightsError):
        parse_bases(b"X" + content[1:])


# --- smoothing ------------------------------------------------------------------------------------------------


def test_smoothing_keeps_parabolas_and_removes_noise() -> None:
    t = np.arange(30.0)[:, None]
    curve = 3 + 2 * t - 0.1 * t**2
    noise = np.random.default_rng(0).normal(0, 1, curve.shape)
    for ahead in (0, 1, 2):
        assert np.allclose(smooth(curve, ahead=ahead), curve)
        left = (smooth(curve + noise, ahead=ahead) - curve)[4:-4]
        assert left.std() < (0.97 if ahead == 0 else 0.85) * noise[4:-4].std()


def test_smoothing_looks_ahead_no_further_and_not_across_gaps() -> None:
    values = np.random.default_rng(1).normal(0, 1, (30, 2))
    changed = values.copy()
    changed[20:] += 5
    for ahead in (0, 1, 2):
        same = (smooth(values, ahead=ahead) == smooth(changed, ahead=ahead)).all(axis=1)
        assert same[: 20 - ahead].all()
        assert not same[20 - ahead :].any()
    there = np.ones(30, bool)
    there[14:16] = False
    assert np.array_equal(smooth(values, there)[:14], smooth(values[:14]))
    assert np.array_equal(smooth(values, there)[14:16], values[14:16])
    with pytest.raises(MediaError):
        smooth(values, there[:5])
    with pytest.raises(MediaError):
        smooth(values, ahead=3)


# --- coding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "part"), [("file", 128), ("file", 17), ("call", 1), ("call", 5)])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.0])
def test_decoder_reproduces_the_encoder(mode: str, part: int, share: float) -> None:
    numbers, there = walk(40, 5), presence(40, 5, share)
    decoder = MotionDecoder()
    shown = []
    for payload, expected, present in payloads(mode, numbers, there, part=part):
        got, face_there = decoder.decode(payload, len(expected))
        assert np.array_equal(got, expected)
        assert np.array_equal(face_there, present)
        shown.append(got)
    decoded = np.concatenate(shown)
    error = np.abs(decoded - numbers)[there] / np.diag(load_tables().inverse) * (16384 / 128)
    if there.any():
        assert error.max() < 1.6  # quantiser steps


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_numbers_come_back(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 40))
    mode = data.draw(st.sampled_from(["file", "call"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    scale = 10.0 ** data.draw(st.integers(0, 7))
    numbers, there = rng.normal(0, scale, (frames, NUMBERS)), rng.random(frames) < data.draw(st.sampled_from([0.2, 1]))
    numbers[~there] = np.nan  # not looked at
    decoder, part = MotionDecoder(), data.draw(st.integers(1, 40))
    for payload, expected, present in payloads(mode, numbers, there, data.draw(st.integers(0, 10)), part):
        got, face_there = decoder.decode(payload, len(expected))
        assert np.array_equal(got, expected)
        assert np.array_equal(face_there, present)
        assert np.abs(got).max() <= 32767


def test_stillness_is_nearly_free() -> None:
    still = np.zeros((128, NUMBERS))
    assert len(MotionEncoder().encode(still)) <= 12
    encoder = MotionEncoder(mode="call")
    sizes = [len(encoder.encode(still[:1])) for _ in range(24)]
    assert sizes[0] <= 2
    assert sum(sizes[1:]) <= 3
    decoder = MotionDecoder()
    decoder.decode(encoder.encode(still[:1]), 1)
    assert decoder.decode(b"", 7)[1].all()


def test_absence_is_cheap_and_keeps_its_place() -> None:
    numbers = walk(60, 9)
    there = np.ones(60, bool)
    there[20:41] = False
    absent, all_there = MotionEncoder().encode(numbers, there), MotionEncoder().encode(numbers)
    assert len(absent) < len(all_there)
    got, face_there = MotionDecoder().decode(absent, 60)
    assert np.array_equal(face_there, there)
    assert (got[20:41] == got[19]).all()
    assert len(MotionEncoder().encode(numbers, np.zeros(60, bool))) <= 3


@pytest.mark.slow
def test_finer_qualities_take_more_bits_and_err_less() -> None:
    numbers = walk(120, 3)
    for mode, part in (("file", 120), ("call", 1)):
        sizes, errors = [], []
        for quality in range(11):
            coded = list(payloads(mode, numbers, quality=quality, part=part))
            sizes.append(sum(len(p) for p, _, _ in coded))
            errors.append(float(np.abs(np.concatenate([r for _, r, _ in coded]) - numbers).mean()))
        assert all(a < b for a, b in pairwise(sizes))
        assert all(a > b for a, b in pairwise(errors))


def test_states_can_be_restored() -> None:
    numbers = walk(12, 4)
    encoder, decoder = MotionEncoder(mode="call"), MotionDecoder()
    first = encoder.encode(numbers[:4])
    decoder.decode(first, 4)
    kept, held = encoder.state, decoder.state
    lost = encoder.encode(numbers[4:8])
    assert lost
    encoder.restore(kept)
    decoder.restore(held)
    payload = encoder.encode(numbers[8:])
    got, _ = decoder.decode(payload, 4)
    assert np.array_equal(got, encoder.reconstruction[0])
    decoder.reset()
    encoder.reset()
    got, _ = decoder.decode(encoder.encode(numbers[:2]), 2)
    assert np.array_equal(got, encoder.reconstruction[0])


def test_after_loss_a_fresh_payload_goes_on() -> None:
    numbers = walk(40, 6)
    encoder, decoder = MotionEncoder(mode="call", refresh=10), MotionDecoder()
    read: list[tuple[int, bool]] = []
    before = np.zeros(NUMBERS, np.int64)
    for t in range(40):
        payload = encoder.encode(numbers[t : t + 1])
        if t == 3:
            held, there = decoder.conceal(1)
            assert np.array_equal(held[0], before)
            assert there.all()
            continue
        got, _ = decoder.decode(payload, 1)
        before = got[0]
        read.append((t, decoder.state.history is not None))
    assert [known for t, known in read if t < 3] == [True] * 3
    again = next(t for t, known in read if t > 3 and known)
    assert 4 <= again <= 12
    assert all(known for t, known in read if t >= again)


def test_one_payload_holds_motion_and_tiny_frames() -> None:
    numbers = walk(30, 8)
    rng = np.random.default_rng(0)
    planes = TinyPlanes.from_samples(
        np.rint(2000 + rng.normal(0, 20, (31, 96)).cumsum(axis=0)).astype(np.int64).clip(0, 4080)
    )
    encoders, decoders = (MotionEncoder(mode="call"), TinyEncoder(mode="call")), (MotionDecoder(), TinyDecoder())
    encoders[1].reset(planes[0])
    decoders[1].reset(planes[0])
    for t in range(30):
        coder = RangeEncoder()
        encoders[0].encode_into(coder, numbers[t : t + 1])
        encoders[1].encode_into(coder, planes[t + 1])
        reader = RangeDecoder(coder.finish())
        got, _ = decoders[0].decode_from(reader, 1)
        assert np.array_equal(got, encoders[0].reconstruction[0])
        assert decoders[1].decode_from(reader, 1) == encoders[1].reconstruction
        reader.finish()


# --- malformed payloads and arguments -------------------------------------------------------------------------


def decode_or_refuse(payload: bytes, frames: int) -> None:
    decoder = MotionDecoder()
    before = decoder.state
    try:
        got, there = decoder.decode(payload, frames)
    except BitstreamError:
        assert decoder.state is before
    else:
        assert got.shape == (frames, NUMBERS)
        assert there.shape == (frames,)
        assert np.abs(got).max() <= 32767


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(1, MAX_FRAMES))
def test_any_bytes_are_decoded_or_refused(payload: bytes, frames: int) -> None:
    decode_or_refuse(payload, frames)


@cache
def one_payload() -> bytes:
    payload, _, _ = next(payloads("file", walk(32, 1), part=32))
    return payload


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 7), st.integers(0, 200), st.integers(-3, 3))
def test_damaged_payloads_are_decoded_or_refused(at: int, bit: int, cut: int, more: int) -> None:
    payload = one_payload()
    broken = bytearray(payload)
    broken[at % len(broken)] ^= 1 << bit
    for variant in (bytes(broken), payload[: cut % len(payload)], bytes(broken) + b"\x01" * max(more, 0)):
        decode_or_refuse(variant, max(1, 32 + more))


def test_bytes_too_many_are_refused() -> None:
    for payload, expected, _ in payloads("file", walk(20, 3), part=20):
        with pytest.raises(BitstreamError, match="motion"):
            MotionDecoder().decode(payload + b"\0", 20)
        with pytest.raises(BitstreamError, match="motion"):
            MotionDecoder().decode(payload + b"\1" * 9, 20)
        assert np.array_equal(MotionDecoder().decode(payload, 20)[0], expected)


def test_hostile_payloads_take_bounded_time() -> None:
    started = time.process_time()
    for byte in (b"\xff", b"\x55", b"\x80"):
        decode_or_refuse(byte * 65536, MAX_FRAMES)
    assert time.process_time() - started < 5


def test_bad_arguments_are_refused() -> None:
    for quality in (-1, 11, "5"):
        with pytest.raises(TfcodecError, match="quality"):
            MotionEncoder(quality)  # type: ignore[arg-type]
    with pytest.raises(TfcodecError, match="mode"):
        MotionEncoder(mode="live")  # type: ignore[arg-type]
    with pytest.raises(TfcodecError, match="refresh"):
        MotionEncoder(refresh=0)
    encoder = MotionEncoder()
    for numbers, there in ((np.zeros((0, 16)), None), (np.zeros((129, 16)), None), (np.zeros((2, 16)), [True])):
        with pytest.raises(TfcodecError):
            encoder.encode(numbers, there)
    for frames in (0, 129):
        with pytest.raises(BitstreamError, match="motion"):
            MotionDecoder().decode(b"", frames)


# --- tables and the second decoder ----------------------------------------------------------------------------


def test_tables_are_the_ones_named() -> None:
    content = (FOLDER / "tables.bin").read_bytes()
    assert hashlib.sha256(content).hexdigest() == TABLES_SHA256
    assert table_bytes(load_tables().arrays, LAYOUT, MAGIC) == content
    with pytest.raises(WeightsError):
        parse_tables(content, LAYOUT)
    both = (FOLDER / "bases.bin").read_bytes() + content
    assert motion_hash() == hashlib.sha256(both).digest()[:4]
    check_motion(MOTION_ID, motion_hash())
    for number, name in ((MOTION_ID + 1, motion_hash()), (MOTION_ID, b"\0" * 4)):
        with pytest.raises(UnsupportedVersion, match=r"\[R62\]"):
            check_motion(number, name)


@pytest.mark.parametrize(("mode", "part"), [("file", 37), ("file", 128), ("call", 1)])
def test_the_reference_decoder_agrees(mode: str, part: int) -> None:
    reference = ReferenceMotionDecoder(read_motion_tables(FOLDER / "tables.bin"))
    for payload, expected, present in payloads(mode, walk(80, 13), presence(80, 2), part=part):
        numbers, there = reference.decode(payload, len(expected))
        assert there == present.tolist()
        assert numbers == expected.tolist()


def test_the_reference_decoder_agrees_on_random_payloads() -> None:
    tables = read_motion_tables(FOLDER / "tables.bin")
    rng = np.random.default_rng(5)
    refused = 0
    for index in range(60):
        payload = rng.bytes(int(rng.integers(0, 20)))
        reference, product, frames = ReferenceMotionDecoder(tables), MotionDecoder(), 1 + index % 5
        try:
            want = reference.decode(payload, frames)
        except Malformed:
            refused += 1
            with pytest.raises(BitstreamError):
                product.decode(payload, frames)
        else:
            numbers, there = product.decode(payload, frames)
            assert (numbers.tolist(), there.tolist()) == want
    assert 0 < refused < 60


# --- vectors --------------------------------------------------------------------------------------------------

VECTORS = Path(__file__).parent / "vectors/motion"
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
    decoder = MotionDecoder()
    reference = ReferenceMotionDecoder(read_motion_tables(FOLDER / "tables.bin"))
    for vector in RUNS[name]:
        payload, frames = bytes.fromhex(vector["payload"]), vector["frames"]
        numbers, there = decoder.decode(payload, frames)
        assert hashlib.sha256(numbers.astype(">i2").tobytes()).hexdigest() == vector["numbers_sha256"]
        assert hashlib.sha256(bytes(there.tolist())).hexdigest() == vector["presence_sha256"]
        coder = coders.pop()
        assert f"{coder._range:016x}" == vector["range"]
        assert coder._next == vector["words"]
        assert reference.decode(payload, frames) == (numbers.tolist(), there.tolist())


@pytest.mark.parametrize("vector", FAULTY, ids=lambda v: f"R{v['rule']}")
def test_faulty_vectors_are_refused(vector: dict[str, Any]) -> None:
    payload, frames = bytes.fromhex(vector["payload"]), vector["frames"]
    words = {50: "no valid symbol", 51: "zero byte", 52: "at most were needed", 53: "only zeros", 54: "out of range"}
    decoder = MotionDecoder()
    with pytest.raises(BitstreamError, match=f"motion .*{words[vector['rule']]}"):
        decoder.decode(payload, frames)
    assert decoder.state is MotionDecoder().state
    with pytest.raises(Malformed):
        ReferenceMotionDecoder(read_motion_tables(FOLDER / "tables.bin")).decode(payload, frames)


def test_mutated_vectors_are_read_alike_or_refused_by_both() -> None:
    rng = random.Random(7)
    tables = read_motion_tables(FOLDER / "tables.bin")
    vector = RUNS["call, units of three"][0]
    payload, refused = bytes.fromhex(vector["payload"]), 0
    for _ in range(120):
        broken = bytearray(payload)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        changed = bytes(broken[: rng.choice([len(broken)] * 3 + [rng.randrange(len(broken))])])
        try:
            want = ReferenceMotionDecoder(tables).decode(changed, 3)
        except Malformed:
            refused += 1
            with pytest.raises(BitstreamError):
                MotionDecoder().decode(changed, 3)
        else:
            numbers, there = MotionDecoder().decode(changed, 3)
            assert (numbers.tolist(), there.tolist()) == want
    assert 0 < refused < 120


# --- real faces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "most"), [("file", 14), ("call", 18)])
def test_bits_and_openings_on_real_faces(data_dir: Path, mode: str, most: float) -> None:
    with np.load(data_dir / "landmarks_val.npz") as archive:
        clips = [archive[name].astype(np.float64) / 16 for name in sorted(archive.files)[-6:]]
    size = frames = 0
    r = []
    for marks in clips:
        numbers = smooth(analyse(marks[0], marks), ahead=2 if mode == "file" else 1)
        coded = list(payloads(mode, numbers, part=128 if mode == "file" else 1))
        size, frames = size + sum(len(p) for p, _, _ in coded), frames + len(marks)
        shown = synthesise(marks[0], np.concatenate([n for _, n, _ in coded]))
        opening = [np.linalg.norm(m[:, 62] - m[:, 66], axis=-1) for m in (shown, marks)]
        r.append(np.corrcoef(*opening)[0, 1])
    assert 8 * size / frames < most
    assert np.mean(r) > 0.9
