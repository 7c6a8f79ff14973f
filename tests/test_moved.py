"""Tiny frames of a moved keyframe: against a second maker of them, in chunks, and in whole files, damaged ones too."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference_container
import reference_moved
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import read_tables
from reference_moved import ReferenceMoved, ReferenceStream
from reference_numbers import read_motion_tables

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.bitstream import MotionChunk, MotionTablesChunk, MovedTinyChunk, TinyChunk
from tfcodec.codec.file import reader as reader_module
from tfcodec.codec.file.decoder import read_exact
from tfcodec.codec.parts.tiny import TinyLayerDecoder, TinyLayerEncoder
from tfcodec.errors import BitstreamError
from tfcodec.keyframe import decode_inter_keyframe, decode_keyframe
from tfcodec.tinyframe import (
    Move,
    MovedKeyframe,
    TinyEncoder,
    TinyPlanes,
    restored,
    tiny_from_frames,
    without,
)
from tfcodec.tinyframe.moved import SHAPES
from tfcodec.tinyframe.moving import CLIPPED, Mover

PACKAGE = Path(tfcodec.__file__).parent
Picture = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int32]


def patches(seed: int) -> Picture:
    """A picture of 16 x 16 patches."""
    small = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return np.asarray(small.repeat(16, 0).repeat(16, 1))


def slope() -> Picture:
    """A smooth picture, the same on every machine."""
    y, x = np.mgrid[:256, :256]
    return np.stack([x, 255 - y, (x + y) // 2], -1).astype(np.uint8)


def noise(seed: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (256, 256, 3), np.uint8)


def motion_of(*heads: Sequence[int], there: int = 1) -> Numbers:
    """[n, 17] of heads' first four numbers."""
    out = np.zeros((len(heads), 17), np.int32)
    out[:, :4], out[:, 16] = heads, there
    return out


def random_motion(rng: random.Random) -> list[int]:
    size = rng.choice([1, 300, 300, 3000, 32767])
    numbers = [rng.choice([-size, size, rng.randrange(-size, size + 1)]) for _ in range(16)]
    return [*numbers, rng.choice([0, 1, 1, 1, 1, 1, 2])]


# --- the moved keyframe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [noise, patches, lambda seed: slope()], ids=["noise", "patches", "slope"])
def test_the_second_maker_agrees(make: Any) -> None:
    rng, picture = random.Random(3), make(4)
    product, reference = MovedKeyframe(picture), ReferenceMoved(picture.tolist())
    still = reference.still
    assert tiny_from_frames(picture[None]).samples().tolist() == [still]
    for shape in rng.sample(range(SHAPES), 4):
        move = Move(shape, rng.choice([0, 255, 120]), rng.choice([0, 255, 130]), rng.choice([1, 255, 30, 60]))
        motion = [random_motion(rng) for _ in range(2)]
        planes = product.planes(move, np.array(motion, np.int32))
        for i, numbers in enumerate(motion):
            sent = numbers if numbers[16] == 1 else None
            wanted = reference.frame(move.shape, move.x, move.y, move.distance, sent)
            assert planes[i].samples().tolist() == [wanted], (move, numbers)
            coded = [rng.randrange(4081) for _ in range(96)]
            got = restored(TinyPlanes.from_samples(np.array([coded])), planes[i], tiny_from_frames(picture[None]))
            assert got.samples().tolist() == [reference_moved.restored(coded, wanted, still)]


def test_nothing_moves_without_motion() -> None:
    """For every shape, and wherever the face is; nor do frames without a face, or whose motion is lost."""
    picture = noise(1)
    keyframe, still = MovedKeyframe(picture), tiny_from_frames(picture[None])
    absent, lost = (motion_of((900, -900, 4000, -4000), there=there) for there in (0, 2))
    motion = np.concatenate((motion_of((0, 0, 0, 0)), absent, lost))
    for shape in range(SHAPES):
        move = Move(shape, shape * 2, 255 - shape, 1 + shape * 2)
        assert keyframe.planes(move, motion) == TinyPlanes.concatenate([still] * 3), shape
    assert len(keyframe.planes(move, motion[:0])) == 0


def test_the_picture_goes_where_the_head_does() -> None:
    """A dark head in the middle of a light picture: to the right, down, larger, and turned."""
    picture = np.full((256, 256, 3), 220, np.uint8)
    picture[64:192, 96:160] = 40
    picture[64:96, 96:160, 0] = 200  # a red cap
    keyframe, move = MovedKeyframe(picture), Move(7 << 4, 128, 128, 64)
    motion = motion_of((0, 0, 0, 0), (0, 0, 512, 0), (0, 0, 0, 512), (512, 0, 0, 0), (-1024, 1024, 0, 0))
    still, right, down, larger, turned = keyframe.planes(move, motion).luma.astype(int)
    assert (right[2:6, 4:] < still[2:6, 3:-1] + 60).all()
    assert (right[3:6, 3] > still[3:6, 3] + 900).all()
    assert (down[3:7, 3:5] - still[2:6, 3:5] < 60).all()
    assert larger.sum() < still.sum() - 10_000
    assert (turned[3:5, [2, 5]] < still[3:5, [2, 5]] - 1000).all()  # it lies ...
    assert (turned[2, 3:5] + turned[5, 3:5] > still[2, 3:5] + still[5, 3:5] + 600).all()
    red = keyframe.planes(move, motion).chroma[:, 1].astype(int)
    assert red[0, 1, 1:3].min() > red[0, 2, 1:3].max() + 200
    assert red[4, 1:3, 2:].max() > red[4, 1:3, :2].max() + 100  # ... with the cap to the right
    half = keyframe.planes(Move(7 << 4 | 2 << 2, 128, 128, 64), motion_of((0, 0, 512, 0))).luma.astype(int)[0]
    quarter = keyframe.planes(Move(7 << 4, 128, 128, 64), motion_of((0, 0, 256, 0))).luma.astype(int)[0]
    assert np.array_equal(half, quarter)  # half of the way


def test_what_lies_far_from_the_face_stays() -> None:
    picture = noise(2)
    keyframe, still = MovedKeyframe(picture), tiny_from_frames(picture[None])
    moved = keyframe.planes(Move(0, 128, 128, 30), motion_of((300, 200, 900, 900)))
    changed = (moved.luma != still.luma)[0]
    assert changed[2:5, 3:5].any()
    assert not changed[[0, 1, 6, 7]].any()
    assert not changed[:, [0, 1, 6, 7]].any()


GOLDEN = "03d8c9dbb32aa4552228e8a378c1158eadda951709fec0770a6b14a123b4cb08"


def test_planes_are_the_same_on_every_machine() -> None:
    rng = random.Random(11)
    motion = np.array([random_motion(rng) for _ in range(16)], np.int32)
    digest = hashlib.sha256()
    keyframe = MovedKeyframe(slope())
    for shape in range(0, SHAPES, 9):
        planes = keyframe.planes(Move(shape, 2 * shape, 200 - shape, 20 + shape), motion)
        digest.update(planes.samples().astype(">i2").tobytes())
    assert digest.hexdigest() == GOLDEN


def test_frames_do_not_depend_on_what_they_come_with() -> None:
    rng = random.Random(2)
    motion = np.array([random_motion(rng) for _ in range(35)], np.int32)
    keyframe, move = MovedKeyframe(patches(1)), Move(70, 120, 130, 60)
    whole = keyframe.planes(move, motion)
    for i in (0, 15, 16, 34):
        assert keyframe.planes(move, motion[i : i + 1]) == whole[i]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_restored_undoes_without_but_for_the_clipping(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planes, moved, still = (TinyPlanes.from_samples(rng.integers(0, 4081, (3, 96))) for _ in range(3))
    still = still[0]
    coded = without(planes, moved, still)
    back = restored(coded, moved, still).samples()
    free = planes.samples() - moved.samples() + still.samples()
    inside = (free >= 0) & (free <= 4080)
    assert np.array_equal(back[inside], planes.samples()[inside])
    assert np.array_equal(coded.samples(), np.clip(free, 0, 4080))
    # Where it was clipped, what comes back is as near as can be.
    assert np.array_equal(back, np.clip(np.clip(free, 0, 4080) + moved.samples() - still.samples(), 0, 4080))


def head_over_a_wall(shift: int) -> Picture:
    """A head that moves to the right over a wall that stays."""
    y, x = np.mgrid[:256, :256]
    out = np.stack([120 + x // 4, 150 - y // 4, 100 + (x + y) // 8], -1)
    for cx, cy, rx, ry, colour in ((128, 120, 62, 84, (40, 30, 25)), (128, 130, 48, 64, (210, 165, 135))):
        inside = ((x - cx - shift) * ry) ** 2 + ((y - cy) * rx) ** 2 <= (rx * ry) ** 2
        out[inside] = colour
    return out.astype(np.uint8)


def test_a_head_that_moves_costs_less() -> None:
    frames = np.stack([head_over_a_wall(round(26 * np.sin(t / 6))) for t in range(24)])
    picture, distance = frames[0], 40
    motion = motion_of(*((0, 0, round(26 * np.sin(t / 6)) * 1024 // distance, 0) for t in range(24)))
    still, planes = tiny_from_frames(picture[None]), tiny_from_frames(frames)
    moved = MovedKeyframe(picture).planes(Move(4 << 4, 128, 130, distance), motion)
    assert moved.mse(planes)[0] < TinyPlanes.concatenate([still] * 24).mse(planes)[0] / 4

    def cost(wanted: TinyPlanes) -> tuple[int, TinyPlanes]:
        encoder = TinyEncoder(5)
        encoder.reset(still)
        payload = encoder.encode(wanted)
        return len(payload), encoder.reconstruction

    plain, shown = cost(planes)
    less, coded = cost(without(planes, moved, still))
    assert less < 0.8 * plain
    errors = [planes.mse(one) for one in (restored(coded, moved, still), shown)]
    assert errors[0][0] < errors[1][0] * 1.1


def layer_of(picture: Picture, *, moves: bool = True) -> TinyLayerEncoder:
    layer = TinyLayerEncoder(TinyEncoder(1), moves=moves)
    layer.reset(picture)
    layer.place = (128, 130, 40)
    return layer


def test_the_layer_moves_the_keyframe_where_that_saves_bytes() -> None:
    shifts = [round(26 * np.sin(t / 6)) for t in range(24)]
    frames = np.stack([head_over_a_wall(shift) for shift in shifts])
    motion = motion_of(*((0, 0, shift * 1024 // 40, 0) for shift in shifts))
    moving, still = layer_of(frames[0]), layer_of(frames[0], moves=False)
    payload, plain = (layer.encode(frames, {"motion": motion}) for layer in (moving, still))
    assert still.move is None
    assert moving.move is not None
    assert (moving.move.x, moving.move.y, moving.move.distance) == (128, 130, 40)
    assert len(payload) + 4 < 0.8 * len(plain)
    decoder = TinyLayerDecoder()
    decoder.reset(frames[0])
    assert np.array_equal(decoder.decode_moved(payload, moving.move, motion), moving.said)
    # What follows depends on the coded samples alone, and on the keyframe: another decoder can go on.
    other = TinyLayerDecoder()
    other.state = decoder.state
    payload = moving.encode(frames[::-1], {"motion": motion[::-1]})
    assert moving.move is not None
    for one in (decoder, other):
        assert np.array_equal(one.decode_moved(payload, moving.move, motion[::-1]), moving.said)


def test_the_layer_lets_the_keyframe_stand_where_moving_saves_nothing() -> None:
    frames = np.stack([head_over_a_wall(0)] * 8)
    layer = layer_of(frames[0])
    for motion in (motion_of(*[(0, 0, 300, 0)] * 8), motion_of(*[(0, 0, 0, 0)] * 8), np.zeros((8, 17), np.int32)):
        assert layer.encode(frames, {"motion": motion}) == layer_of(frames[0], moves=False).encode(frames, {})
        assert layer.move is None
        layer.reset(frames[0])
        layer.place = (128, 130, 40)
    layer.place = None  # no face in the keyframe
    moved = np.stack([head_over_a_wall(20)] * 8)
    layer.encode(moved, {"motion": motion_of(*[(0, 0, 512, 0)] * 8)})
    assert layer.move is None


def test_a_move_is_taken_only_where_what_is_coded_fits() -> None:
    """The head comes back whole, also before a wall of black and white, where differences leave the samples' range."""
    taken = clipped = 0
    for stripes in (16, 24, 40, 64):
        wall = np.where(np.mgrid[:256, :256][1] // stripes % 2, 255, 0).astype(np.uint8)[..., None].repeat(3, 2)
        frames = np.stack([wall] * 16)
        shifts = [round(20 * np.sin(t / 4)) for t in range(16)]
        for t, shift in enumerate(shifts):
            frames[t, 60:200, 88 + shift : 168 + shift] = (230, 190, 160)
        motion, still = motion_of(*((0, 0, shift * 1024 // 40, 0) for shift in shifts)), tiny_from_frames(frames[:1])
        planes, mover = tiny_from_frames(frames), Mover(frames[0], (128, 130, 40))
        for shape in range(0, SHAPES, 16):
            moved = mover.keyframe.planes(Move(shape, 128, 130, 40), motion)
            clipped += max(restored(without(planes, moved, still), moved, still).mse(planes)) > CLIPPED
        chosen = mover.choose(planes, motion, 512.0)
        if chosen is not None:
            taken += 1
            move, moved = chosen
            assert moved == mover.keyframe.planes(move, motion)
            assert max(restored(without(planes, moved, still), moved, still).mse(planes)) <= CLIPPED
    assert taken
    assert clipped  # without the rule


# --- chunks ---------------------------------------------------------------------------------------------------

CHUNK = MovedTinyChunk(7, 3, b"data", 2, shape=127, x=255, y=0, distance=1)


def test_a_chunk_comes_back() -> None:
    data = CHUNK.to_bytes()
    assert data[:6] == bytes([0x8F, 10, 4 * 7 + 2, 2, 127, 255])
    assert bs.parse_chunk(data) == (CHUNK, len(data))
    assert bs.account_chunk(CHUNK)["tiny"] == 4 + 4
    empty = replace(CHUNK, payload=b"")
    assert bs.parse_chunk(empty.to_bytes())[0] == empty


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": 128}, {"shape": -1}, {"x": 256}, {"x": -1}, {"y": 256}, {"y": -1}, {"distance": 0},
        {"distance": 256}, {"distance": -5}, {"frame_count": 0}, {"frame_count": 129}, {"first_frame": -1},
        {"keyframe_tag": 4},
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BitstreamError):
        replace(CHUNK, **fields).to_bytes()


# --- whole files ----------------------------------------------------------------------------------------------

VECTORS = Path(__file__).parent / "vectors"
SAMPLES = json.loads((VECTORS / "moved/samples.json").read_text(encoding="utf-8"))
KEYFRAMES = json.loads((VECTORS / "keyframe_chain.json").read_text(encoding="utf-8"))
CHAIN = [bytes.fromhex(row["data"]) for row in KEYFRAMES]


def vector(name: str) -> bytes:
    return (VECTORS / f"moved/{name}.tfc").read_bytes()


def joined(chunks: Sequence[Any]) -> bytes:
    return bs.write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)


@cache
def tables() -> tuple[Any, Any]:
    return read_tables(PACKAGE / "tinyframe/tables.bin"), read_motion_tables(PACKAGE / "motion/tables.bin")


@cache
def keyframes() -> list[ReferenceMoved]:
    pictures = [decode_keyframe(CHAIN[0]), decode_inter_keyframe(CHAIN[1], CHAIN[:1])]
    return [ReferenceMoved(picture.tolist()) for picture in pictures]


@cache
def second(data: bytes, lost: frozenset[int] = frozenset()) -> list[list[int]]:
    """What the second decoder makes of a file; ``lost``: numbers of its chunks of which only the frames are known."""
    reference = ReferenceStream(*tables(), keyframes())
    for i, chunk in enumerate(reference_container.read(data)):
        reference.read(chunk, lost=i in lost)
    return reference.frames


def pixels(frames: list[list[int]]) -> npt.NDArray[np.uint8]:
    return np.array([reference_moved.rgb(frame) for frame in frames], np.uint8)


def test_every_vector_is_listed() -> None:
    assert {path.stem for path in VECTORS.glob("moved/*.tfc")} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_whole_files_decode_to_the_second_decoders_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = vector(name)
    frames = second(data)
    assert len(frames) == SAMPLES[name]["frames"]
    assert hashlib.sha256(np.array(frames, ">i2").tobytes()).hexdigest() == SAMPLES[name]["samples_sha256"]
    wanted = pixels(frames)
    clip = tfcodec.decode(data, pixels=False)
    assert np.array_equal(clip.tiny, wanted)
    assert np.array_equal(read_exact(data, errors="conceal").tiny, wanted)
    with tfcodec.open(data, pixels=False) as reader:
        for start in (len(wanted) - 1, len(wanted) // 2, 1):  # back and forth, from keyframes
            reader.seek(start / 25)
            assert np.array_equal(np.stack([frame.tiny for frame in reader]), wanted[start:])
    monkeypatch.setattr(reader_module, "MARK_EVERY", 3)
    monkeypatch.setattr(reader_module, "REACH", 0)
    with tfcodec.open(data, pixels=False) as reader:
        assert np.array_equal(np.stack([frame.tiny for frame in reader]), wanted)
        for number in range(len(wanted) - 1, -1, -3):  # from states that were kept on the way
            assert np.array_equal(reader[number].tiny, wanted[number])
        assert any(place.state is not None for place in reader._places)


def damaged(data: bytes, number: int, how: str) -> bytes:
    """The file with one chunk cut out, with a bit of it inverted, or with a payload that is refused."""
    chunks: list[Any] = list(bs.read_stream(data).chunks)
    if how == "cut out":
        return joined(chunks[:number] + chunks[number + 1 :])
    if how == "malformed":
        chunks[number] = replace(chunks[number], payload=b"\xff" * 12)
        return joined(chunks)
    broken = bytearray(joined(chunks))
    broken[4 + sum(len(chunk.to_bytes()) for chunk in chunks[: number + 1]) - 1] ^= 1
    return bytes(broken)


@pytest.mark.parametrize("how", ["cut out", "inverted", "malformed"])
@pytest.mark.parametrize("kind", [MotionChunk, MovedTinyChunk, TinyChunk])
@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_lost_is_lost_as_the_text_says(name: str, kind: type[bs.LayerChunk], how: str) -> None:
    """Frames of a TINY_MOVED that is lost hold what was coded last; those whose motion is lost stand still."""
    data = vector(name)
    whole = pixels(second(data))
    numbers = [i for i, chunk in enumerate(bs.read_stream(data).chunks) if type(chunk) is kind]
    for number in numbers:
        if how == "inverted" and number != numbers[0]:
            continue  # as if it were cut out
        wanted = pixels(second(data, frozenset([number])))
        assert not np.array_equal(wanted, whole)
        broken = damaged(data, number, how)
        with pytest.raises(BitstreamError):
            tfcodec.decode(broken, pixels=False)
        clip = tfcodec.decode(broken, pixels=False, errors="conceal")
        assert np.array_equal(clip.tiny, wanted), number
        with tfcodec.open(broken, pixels=False, errors="conceal") as reader:
            assert np.array_equal(reader[-1].tiny, wanted[-1])


def test_without_the_tables_all_stand_still() -> None:
    """MOTION_TABLES is lost: the tiny frames are decoded all the same."""
    data = vector("in_turn")
    motion = frozenset(i for i, chunk in enumerate(bs.read_stream(data).chunks) if type(chunk) is MotionChunk)
    wanted = pixels(second(data, motion))
    for how in ("cut out", "inverted"):
        clip = tfcodec.decode(damaged(data, 1, how), pixels=False, errors="conceal")
        assert np.array_equal(clip.tiny, wanted)
        assert clip.damaged
    assert type(bs.read_stream(data).chunks[1]) is MotionTablesChunk
