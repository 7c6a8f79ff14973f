"""Tiny frames: sampling, coding, concealment, malformed payloads, and agreement with a second decoder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import constriction
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Malformed, ReferenceDecoder, read_tables

import tfcodec.tinyframe as tinyframe
from tfcodec.errors import BitstreamError, MediaError, TfcodecError, WeightsError
from tfcodec.tinyframe import (
    MAX_FRAMES,
    TinyDecoder,
    TinyEncoder,
    TinyPlanes,
    tables_sha256,
    tiny_from_frames,
    tiny_to_rgb,
)
from tfcodec.tinyframe.entropy import GroupContext, History, Model
from tfcodec.tinyframe.rangecoder import TOTAL, RangeDecoder, RangeEncoder
from tfcodec.tinyframe.rows import read_row, write_row
from tfcodec.tinyframe.tables import SIZES, load_tables, parse_tables, table_bytes

TABLE_FILE = Path(tinyframe.__file__).parent / "tables.bin"


def moving(frames: int, seed: int, speed: float = 16.0) -> TinyPlanes:
    """A smooth random walk around a random picture."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(600, 3400, 96)
    pushes = rng.normal(0, 1, (frames, 6)).cumsum(axis=0) @ rng.normal(0, speed, (6, 96))
    noise = rng.normal(0, speed, (frames, 96))
    return TinyPlanes.from_samples(np.rint(start + pushes + noise).astype(np.int64))


def payloads(mode: str, frames: int, seed: int, quality: int = 5, part: int = 20) -> Iterator[tuple[bytes, TinyPlanes]]:
    planes = moving(frames, seed)
    encoder = TinyEncoder(quality, mode)  # type: ignore[arg-type]
    encoder.reset(planes[0])
    for start in range(0, frames, part):
        payload = encoder.encode(planes[start : start + part])
        yield payload, encoder.reconstruction


# --- sampling -------------------------------------------------------------------------------------------------


def test_box_mean_and_colour_match_floating_point() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    frames[1, :100] = (240, 10, 3)
    planes = tiny_from_frames(frames)
    rgb = frames.reshape(3, 8, 32, 8, 32, 3).mean(axis=(2, 4))
    luma = rgb @ [0.2126, 0.7152, 0.0722]
    small = frames.reshape(3, 4, 64, 4, 64, 3).mean(axis=(2, 4))
    y = small @ [0.2126, 0.7152, 0.0722]
    assert np.abs(planes.luma / planes.scale - luma).max() < 0.04
    assert np.abs(planes.chroma[:, 0] / 16 - 128 - (small[..., 2] - y) / 1.8556).max() < 0.04
    assert np.abs(planes.chroma[:, 1] / 16 - 128 - (small[..., 0] - y) / 1.5748).max() < 0.04


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (77, 77, 77), (255, 0, 0), (0, 255, 0), (10, 20, 250)])
def test_flat_colours_survive(colour: tuple[int, int, int]) -> None:
    frame = np.broadcast_to(np.array(colour, np.uint8), (1, 256, 256, 3))
    back = tiny_to_rgb(tiny_from_frames(frame)).astype(int)
    assert np.abs(back - np.array(colour)).max() <= 1


@pytest.mark.parametrize("shape", [(256, 256, 3), (1, 256, 255, 3), (1, 8, 8, 3), (1, 256, 256, 4)])
def test_wrong_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="256"):
        tiny_from_frames(np.zeros(shape, np.uint8))
    with pytest.raises(MediaError, match="float"):
        tiny_from_frames(np.zeros((1, 256, 256, 3)))  # type: ignore[arg-type]


def test_planes_slice_join_and_check() -> None:
    planes = moving(7, 0)
    assert len(planes) == 7
    assert len(planes[-1]) == 1
    assert TinyPlanes.concatenate([planes[:3], planes[3:]]) == planes
    assert len(TinyPlanes.concatenate([])) == 0
    assert TinyPlanes.from_samples(planes.samples()) == planes
    with pytest.raises(MediaError):
        TinyPlanes(planes.luma, planes.chroma[:2])
    with pytest.raises(MediaError):
        TinyPlanes(planes.luma.astype(np.int32), planes.chroma)


# --- range coder ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, TOTAL - 1)), max_size=150))
def test_range_coder_is_what_constriction_reads(decisions: list[tuple[bool, int]]) -> None:
    encoder = RangeEncoder()
    for bit, one in decisions:
        encoder.encode(bit, one)
    payload = encoder.finish()
    decoder = RangeDecoder(payload)
    assert [decoder.decode(one) for _, one in decisions] == [b for b, _ in decisions]
    decoder.finish()
    words = np.frombuffer(payload + bytes(-len(payload) % 4 + 12), ">u4").astype(np.uint32)
    other = constriction.stream.queue.RangeDecoder(words)
    for bit, one in decisions:
        counts = np.array([TOTAL - one - 1, one - 1], np.float64)
        model = constriction.stream.model.Categorical(counts, perfect=False)
        assert other.decode(model) == bit


def test_rows_of_any_size_come_back() -> None:
    model = Model(load_tables())
    rng = np.random.default_rng(3)
    rows = [np.zeros(96, np.int64)]
    rows += [np.rint(rng.laplace(0, scale, 96)).astype(np.int64) for scale in (0.3, 1, 5, 60, 4000)]
    rows.append(np.where(np.arange(96) == 95, -32000, 0))
    for kind_size in (0, 3):
        encoder, history = RangeEncoder(), History()
        context = GroupContext(model, kind_size, 20, history)
        for row in rows:
            write_row(encoder, model, context.scores(), row)
            context.push(row)
        decoder = RangeDecoder(encoder.finish())
        context = GroupContext(model, kind_size, 20, history)
        for row in rows:
            got = read_row(decoder, model, context.scores())
            assert np.array_equal(got, row)
            context.push(row)
        decoder.finish()


# --- coding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "part"), [("file", 128), ("file", 17), ("call", 1), ("call", 5)])
def test_decoder_reproduces_the_encoder(mode: str, part: int) -> None:
    frames = 40
    decoder = TinyDecoder()
    decoder.reset(moving(frames, 5)[0])
    count = 0
    for payload, expected in payloads(mode, frames, 5, part=part):
        assert decoder.decode(payload, len(expected)) == expected
        count += len(expected)
    assert count == frames


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 10), st.booleans(), st.integers(0, 99))
def test_any_division_into_payloads(parts: list[int], quality: int, call: bool, seed: int) -> None:
    planes = moving(sum(parts), seed, speed=1 + 5 * (seed % 9))
    encoder, decoder = TinyEncoder(quality, "call" if call else "file"), TinyDecoder()
    encoder.reset(planes[0])
    decoder.reset(planes[0])
    at = 0
    for index, part in enumerate(parts):
        if index == 2:
            encoder.reset(planes[at])
            decoder.reset(planes[at])
        payload = encoder.encode(planes[at : at + part])
        assert decoder.decode(payload, part) == encoder.reconstruction
        at += part


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["file", "call"])
def test_quality_is_a_ladder(mode: str) -> None:
    source = moving(24, 11)
    sizes, errors = [], []
    for quality in (0, 2, 4, 5, 6, 8, 10):
        coded = list(payloads_of(source, mode, quality))
        sizes.append(sum(len(p) for p, _ in coded))
        luma, chroma = TinyPlanes.concatenate([r for _, r in coded]).mse(source)
        errors.append(luma * 2 + chroma)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)
    assert errors == sorted(errors, reverse=True)


def payloads_of(source: TinyPlanes, mode: str, quality: int) -> Iterator[tuple[bytes, TinyPlanes]]:
    encoder = TinyEncoder(quality, mode)  # type: ignore[arg-type]
    encoder.reset(source[0])
    part = 1 if mode == "call" else 64
    for start in range(0, len(source), part):
        yield encoder.encode(source[start : start + part]), encoder.reconstruction


def test_a_still_picture_costs_next_to_nothing() -> None:
    still = TinyPlanes.concatenate([moving(1, 2)] * 100)
    call = [len(p) for p, _ in payloads_of(still, "call", 5)]
    assert sum(call) <= 16
    assert call.count(0) >= 90
    assert sum(len(p) for p, _ in payloads_of(still, "file", 5)) <= 8


def test_extreme_pictures_are_coded_within_range() -> None:
    black, white = np.zeros((4, 96), np.int64), np.full((4, 96), 4080)
    planes = TinyPlanes.from_samples(np.concatenate([black, white, black, white]))
    for mode, part in (("file", 16), ("call", 1)):
        encoder, decoder = TinyEncoder(10, mode), TinyDecoder()  # type: ignore[arg-type]
        encoder.reset(planes[0])
        decoder.reset(planes[0])
        for start in range(0, 16, part):
            payload = encoder.encode(planes[start : start + part])
            assert decoder.decode(payload, part) == encoder.reconstruction


@pytest.mark.slow
def test_target_error_is_met() -> None:
    source = moving(100, 21)
    for mode, luma_most, chroma_most in (("file", 3.5, 2.5), ("call", 4.0, 3.2)):
        luma, chroma = TinyPlanes.concatenate([r for _, r in payloads_of(source, mode, 5)]).mse(source)
        assert 1.5 < luma <= luma_most
        assert chroma <= chroma_most


def test_wrong_use_is_refused() -> None:
    planes = moving(2, 0)
    for quality in (-1, 11, 2.5):
        with pytest.raises(TfcodecError, match="quality"):
            TinyEncoder(quality)  # type: ignore[arg-type]
    with pytest.raises(TfcodecError, match="mode"):
        TinyEncoder(5, "live")  # type: ignore[arg-type]
    with pytest.raises(TfcodecError, match="refresh"):
        TinyEncoder(5, "call", refresh=0)
    with pytest.raises(TfcodecError, match="reset"):
        TinyEncoder().encode(planes)
    with pytest.raises(TfcodecError, match="reset"):
        TinyDecoder().decode(b"", 1)
    with pytest.raises(TfcodecError, match="reset"):
        TinyDecoder().conceal(1)
    with pytest.raises(TfcodecError, match="one tiny frame"):
        TinyDecoder().reset(planes)
    encoder, decoder = TinyEncoder(), TinyDecoder()
    encoder.reset(planes[0])
    decoder.reset(planes[0])
    for count in (0, MAX_FRAMES + 1):
        with pytest.raises(TfcodecError, match="128"):
            encoder.encode(TinyPlanes.concatenate([planes[:1]] * count))
        with pytest.raises(BitstreamError, match="128"):
            decoder.decode(b"", count)


# --- loss and damage ------------------------------------------------------------------------------------------


def test_a_lost_file_payload_costs_its_own_frames_and_a_fading_difference() -> None:
    coded = list(payloads("file", 60, 4, part=20))
    decoder = TinyDecoder()
    decoder.reset(moving(60, 4)[0])
    decoder.decode(coded[0][0], 20)
    held = decoder.conceal(20)
    assert len(held) == 20
    assert held[19] == coded[0][1][-1]
    third = decoder.decode(coded[2][0], 20)
    # the movement of the third payload is there, on top of what was missed in the second
    true, got = coded[2][1].samples(), third.samples()
    assert np.abs(np.diff(true, axis=0) - np.diff(got, axis=0)).mean() < 2


def test_after_a_loss_a_call_waits_for_a_payload_that_starts_anew() -> None:
    planes = moving(60, 9)
    encoder, decoder = TinyEncoder(5, "call", refresh=10), TinyDecoder()
    encoder.reset(planes[0])
    decoder.reset(planes[0])
    moved = []
    last = planes[0]
    for index in range(40):
        payload = encoder.encode(planes[index])
        got = decoder.conceal(1) if index == 13 else decoder.decode(payload, 1)
        moved.append(got == encoder.reconstruction)
        if index in range(14, 20):
            assert got == last
        last = got
    assert all(moved[:13])
    # decoding again from frame 20 on: same changes as the encoder's
    assert decoder.decode(encoder.encode(planes[40]), 1) != last


def test_losing_the_first_payload_after_a_reset() -> None:
    coded = list(payloads("file", 40, 6))
    decoder = TinyDecoder()
    decoder.reset(moving(40, 6)[0])
    decoder.conceal(20)
    assert len(decoder.decode(coded[1][0], 20)) == 20


def decode_or_refuse(payload: bytes, frames: int, reference: TinyPlanes) -> TinyPlanes | None:
    decoder = TinyDecoder()
    decoder.reset(reference)
    try:
        planes = decoder.decode(payload, frames)
    except BitstreamError:
        return None
    assert len(planes) == frames
    assert planes.luma.min() >= 0
    assert planes.luma.max() <= 4080
    return planes


@pytest.mark.slow
def test_truncation_flips_and_garbage_never_do_harm() -> None:
    payload, right = next(payloads("file", 8, 8, part=8))
    reference = moving(8, 8)[0]
    assert decode_or_refuse(payload, 8, reference) == right
    for cut in range(len(payload)):
        assert decode_or_refuse(payload[:cut], 8, reference) != right
    for bit in range(0, 8 * len(payload), 11):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_or_refuse(bytes(damaged), 8, reference) != right
    rng = np.random.default_rng(0)
    for size in range(0, 60, 3):
        decode_or_refuse(rng.bytes(size), 8, reference)


def test_trailing_bytes_are_refused() -> None:
    payload, _ = next(payloads("file", 12, 8, part=12))
    reference = moving(12, 8)[0]
    assert decode_or_refuse(payload + b"\0", 12, reference) is None
    assert decode_or_refuse(payload + b"12345678\1", 12, reference) is None


def test_a_refused_payload_leaves_the_decoder_as_it_was() -> None:
    coded = list(payloads("call", 6, 3, part=1))
    decoder = TinyDecoder()
    decoder.reset(moving(6, 3)[0])
    for payload, expected in coded:
        with pytest.raises(BitstreamError):
            decoder.decode(payload + b"\0", 1)
        assert decoder.decode(payload, 1) == expected


def test_hostile_payloads_take_bounded_time() -> None:
    reference = moving(1, 0)
    started = time.process_time()
    for byte in (b"\xff", b"\x55", b"\x80"):
        decode_or_refuse(byte * 65536, MAX_FRAMES, reference)
    assert time.process_time() - started < 5


# --- tables ---------------------------------------------------------------------------------------------------


def test_tables_are_the_ones_named() -> None:
    content = TABLE_FILE.read_bytes()
    assert hashlib.sha256(content).hexdigest() == tables_sha256()
    assert len(content) < 300_000
    assert table_bytes(load_tables().arrays) == content
    with pytest.raises(WeightsError):
        parse_tables(content[:-1])
    with pytest.raises(WeightsError):
        parse_tables(b"X" + content[1:])


def test_transforms_invert() -> None:
    model = Model(load_tables())
    samples = moving(50, 1).samples()
    assert np.abs(model.synthesise(model.analyse(samples)) - samples).max() <= 4
    for size, n in enumerate(SIZES):
        product = model.temporal[size] @ model.temporal[size].T
        assert np.abs(product / (1 << 28) - np.eye(n)).max() < 1e-3


def test_weights_of_one_rise_and_stay_inside() -> None:
    one = load_tables().weight_of_one
    assert np.all(np.diff(one) > 0)
    assert one[0] > 0
    assert one[-1] < TOTAL


# --- the second decoder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "part"), [("file", 37), ("call", 1)])
def test_the_reference_decoder_agrees(mode: str, part: int) -> None:
    frames = 37 if mode == "file" else 12
    reference = ReferenceDecoder(read_tables(TABLE_FILE))
    start = moving(frames, 13)[0]
    reference.reset([int(x) for x in start.samples()[0]])
    for payload, expected in payloads(mode, frames, 13, part=part):
        assert reference.decode(payload, len(expected)) == expected.samples().tolist()


def test_the_reference_decoder_agrees_on_random_payloads() -> None:
    tables = read_tables(TABLE_FILE)
    rng = np.random.default_rng(5)
    start = moving(1, 13)
    refused = 0
    for index in range(16):
        payload = rng.bytes(int(rng.integers(0, 30)))
        reference, product = ReferenceDecoder(tables), TinyDecoder()
        reference.reset([int(x) for x in start.samples()[0]])
        product.reset(start)
        frames = 1 + index % 3
        want: list[list[int]] | None
        try:
            want = reference.decode(payload, frames)
        except Malformed:
            want = None
            refused += 1
        try:
            got: npt.NDArray[np.int64] | None = product.decode(payload, frames).samples()
        except BitstreamError:
            got = None
        assert (want is None) == (got is None)
        if got is not None:
            assert got.tolist() == want


# --- real clips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "most"), [("file", 28), ("call", 40)])
def test_bits_on_a_real_clip(data_dir: Path, mode: str, most: float) -> None:
    av = pytest.importorskip("av")
    clip = sorted((data_dir / "train").glob("*.mp4"))[900]
    with av.open(str(clip)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    source = tiny_from_frames(frames)
    coded = list(payloads_of(source, mode, 5))
    assert sum(len(p) for p, _ in coded) * 8 / len(source) < most
    luma, chroma = TinyPlanes.concatenate([r for _, r in coded]).mse(source)
    assert luma < 4.5
    assert chroma < 3.5
