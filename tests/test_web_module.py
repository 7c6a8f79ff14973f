"""The module in JavaScript, written from the specification, against the package: the same fields, numbers and errors.

Node runs it once, over everything that Python hands it (tests/web/check.mjs).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_chain
from test_spec import DATA as EXAMPLE
from web_streams import CHAIN, chained, displaced, file_of, moved, other_speech, speech_without_a_decoder

from tfcodec import bitstream as bs
from tfcodec.bitstream.framing import build_chunk
from tfcodec.bitstream.parse import measure_chunk
from tfcodec.bitstream.parts import BY_TYPE
from tfcodec.codec.file.decoder import read_exact
from tfcodec.codec.file.encoder import FileEncoder, finish_file
from tfcodec.codec.options import EncodeOptions
from tfcodec.displacement import DisplacementDecoder, DisplacementEncoder
from tfcodec.errors import BitstreamError
from tfcodec.keyframe import av1, decode_inter_keyframe, decode_keyframe, encode_keyframe
from tfcodec.keyframe.colour import to_rgb
from tfcodec.keyframe.still import split
from tfcodec.model.logmel import log_mel
from tfcodec.model.renderer import sound_windows
from tfcodec.motion import MotionDecoder, MotionEncoder, motion_hash, synthesise
from tfcodec.speech import packet_duration_ms
from tfcodec.speech.comfort import ComfortNoise
from tfcodec.tinyframe import TinyDecoder, TinyEncoder, TinyPlanes, tiny_from_frames, tiny_to_rgb
from tfcodec.tinyframe.moved import SHAPES, Move, MovedKeyframe, restored
from tfcodec.tinyframe.rangecoder import RangeDecoder
from tfcodec.web.page import TABLES

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "tfcodec/web/module"
VECTORS = ROOT / "tests/vectors"
FILES = sorted(path for group in ("valid", "faulty", "layers") for path in (VECTORS / group).glob("*.tfc"))
RUNS = json.loads((VECTORS / "motion/payloads.json").read_text(encoding="utf-8"))
FAULTY = json.loads((VECTORS / "motion/faulty.json").read_text(encoding="utf-8"))
NODE = shutil.which("node")
MEL_FRAMES = [0, 3, 12, 19]
SAYS = {
    "no valid symbol": 50, "in a zero byte": 51, "at most were needed": 52, "holds only zeros": 53, "out of range": 54,
}  # fmt: skip
"""What the package says where a payload breaks a rule."""

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node, which runs the module: apt-get install nodejs")


def sha(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def chunk(c: Any) -> list[Any]:
    """A chunk as check.mjs puts it."""
    if isinstance(c, bs.StreamHeader):
        a = c.audio
        sound = None if a is None else [a.codec, a.packet_samples, a.pre_skip, a.total_samples]
        return [
            "HEADER", c.version, c.min_reader_version, c.profile, c.experimental, list(c.rate), c.frame_count,
            c.model_id, c.model_hash.hex(), c.tables_id, sound,
        ]  # fmt: skip
    if isinstance(c, bs.InterKeyframeChunk):
        return ["KEYFRAME_INTER", c.frame_index, c.keyframe_tag, c.reference, c.data.hex()]
    if isinstance(c, bs.KeyframeChunk):
        return ["KEYFRAME", c.frame_index, c.keyframe_tag, c.data.hex()]
    if isinstance(c, bs.LayerChunk):
        head = [c.shape, c.x, c.y, c.distance] if isinstance(c, bs.MovedTinyChunk) else []
        return [c.NAME, c.first_frame, c.frame_count, c.keyframe_tag, c.payload.hex(), *head]
    if isinstance(c, bs.MotionTablesChunk):
        return ["MOTION_TABLES", c.motion_id, c.motion_hash.hex()]
    if isinstance(c, bs.DisplacementTablesChunk):
        return ["DISPLACEMENT_TABLES", c.displacement_id, c.displacement_hash.hex()]
    if isinstance(c, bs.SpeechChunk):
        return ["SPEECH", c.first_packet, [packet.hex() for packet in c.packets]]
    if isinstance(c, bs.EndChunk):
        return ["END", c.frame_count, c.audio_samples]
    if isinstance(c, bs.MetaChunk):
        return ["META", [list(dataclasses.astuple(crop)) for crop in c.crops], [list(text) for text in c.texts]]
    if isinstance(c, bs.PaddingChunk):
        return ["PADDING", c.length]
    return ["unknown", c.chunk_type, c.payload.hex()]


def container(data: bytes) -> dict[str, Any]:
    """What the package makes of a file: its fields, or the error."""
    try:
        parsed = bs.read_stream(data)
    except BitstreamError as error:
        found = re.fullmatch(r"byte (\d+): .+ \[R(\d+)\]", str(error), re.S)
        assert found is not None
        return {"error": type(error).__name__, "rule": int(found[2]), "offset": int(found[1])}
    return {
        "chunks": [chunk(c) for c in parsed.chunks], "frames": parsed.frame_count, "samples": parsed.audio_samples,
        "bytes": bs.account_stream(parsed, len(data)),
    }  # fmt: skip


def flipped(data: bytes, rng: random.Random, count: int = 1) -> bytes:
    out = bytearray(data)
    for _ in range(count if data else 0):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def resealed(data: bytes, rng: random.Random) -> bytes:
    """A file with one bit of one payload inverted, whose checksum is made right again."""
    try:
        parsed = bs.read_stream(data)
    except BitstreamError:
        return flipped(data, rng)
    pieces = [c.to_bytes() for c in parsed.chunks]
    if sum(map(len, pieces)) + 4 != len(data):
        return flipped(data, rng)
    i = rng.randrange(len(pieces))
    measured = measure_chunk(pieces[i], 0)
    pieces[i] = build_chunk(pieces[i][0], flipped(pieces[i][measured[0] : measured[1]], rng))
    return data[:4] + b"".join(pieces)


def broken_streams() -> list[bytes]:
    """All vectors; each cut, with bits inverted, and with fields changed under good checksums, at places of a seed; and
    one with its chunks in other orders."""
    rng = random.Random(16)
    found = [b"", EXAMPLE]
    rich = moved(displaced(chained()))
    for data in [EXAMPLE, chained(), displaced(chained()), rich, *(path.read_bytes() for path in FILES)]:
        found.append(data)
        found += [data[: rng.randrange(len(data) + 1)] for _ in range(6)]
        found += [flipped(data, rng) for _ in range(6)]
        found += [resealed(data, rng) for _ in range(8)]
        found.append(data + rng.randbytes(3))
    _, tables, key, *_ = bs.read_stream(displaced(chained())).chunks
    ahead = bs.DisplacementChunk(0, 4, b"")
    found.append(file_of(bs.StreamHeader(), tables, key, ahead, bs.TinyChunk(0, 2, b""), bs.EndChunk(2)))
    found += [file_of(bs.StreamHeader(frame_count=2), *more, bs.MovedTinyChunk(0, 2, b"")) for more in ([], [key])]
    return found + badly_moved() + reordered(rich)


def badly_moved() -> list[bytes]:
    """Files of a chunk that says in all ways, right and wrong, how the keyframe moves; and of the longest."""
    _, motion_tables, key, motion, *_ = bs.read_stream(moved(chained())).chunks
    start = file_of(bs.StreamHeader(frame_count=4), motion_tables, key, motion)
    heads = ((128, 0, 0, 1), (255, 9, 9, 9), (127, 0, 0, 0), (0, 255, 0, 1), (127, 0, 255, 255))
    found = [bytes(head) for head in heads]
    found += [found[-1][:size] for size in range(4)] + [found[-1] + bytes(n) for n in (65534, 65535)]
    return [start + build_chunk(bs.MovedTinyChunk.TYPE, b"\0\3" + head) for head in found]


def reordered(data: bytes) -> list[bytes]:
    """A file with each of its chunks left out, twice, and after the one behind it."""
    c = bs.read_stream(data).chunks
    found = []
    for i in range(len(c)):
        found += [[*c[:i], *c[i + 1 :]], [*c[: i + 1], *c[i:]], [*c[:i], *c[i + 1 : i + 2], c[i], *c[i + 2 :]]]
    return [file_of(*chunks) for chunks in found]


def layer_result(decode: Any, coder: Any = None) -> dict[str, Any]:
    try:
        return {"values": sha(decode()), **({} if coder is None else coder())}
    except BitstreamError as error:
        message = str(error)
    [rule] = [rule for words, rule in SAYS.items() if words in message]
    return {"error": "BitstreamError", "rule": rule, "offset": None}


def motion_values(decoder: MotionDecoder, payload: bytes, frames: int) -> np.ndarray:
    numbers, there = decoder.decode(payload, frames)
    return np.concatenate((numbers, there[:, None]), 1).astype("<i2")


def displacement_values(decoder: DisplacementDecoder, payload: bytes | None, frames: int) -> np.ndarray:
    return (decoder.conceal(frames) if payload is None else decoder.decode(payload, frames)).astype("<i2")


@cache
def motion_runs() -> list[list[tuple[bytes, int]]]:
    rng = random.Random(22)
    runs = [[(bytes.fromhex(x["payload"]), x["frames"]) for x in run] for run in RUNS.values()]
    runs += [[(bytes.fromhex(x["payload"]), x["frames"])] for x in FAULTY]
    payload, frames = runs[0][0]
    runs += [[(flipped(payload, rng, 2), frames), (payload, frames)] for _ in range(8)]
    return runs + [[(payload[: rng.randrange(len(payload))], frames)] for _ in range(4)]


@cache
def displacement_runs() -> list[list[tuple[bytes | None, int]]]:
    """Payloads of numbers from small to beyond their limit; some left out, in another order, damaged or cut."""
    rng, noise = random.Random(23), np.random.default_rng(23)
    runs: list[list[tuple[bytes | None, int]]] = []
    for quality, size in ((0, 10), (5, 4), (5, 400), (10, 20000)):
        encoder = DisplacementEncoder(quality)
        numbers = np.cumsum(noise.normal(0, size, (60, 12)), 0)
        runs.append([(encoder.encode(numbers[a:b]), b - a) for a, b in ((0, 45), (45, 60))])
        encoder.leave_out(7)
        runs[-1] += [(None, 7), (encoder.encode(numbers[:9]), 9)]
    (first, count), (second, rest), *_ = runs[1]
    assert first is not None
    runs += [[(second, rest), (first, count), (None, 2), (second, rest), (first, count)], [(b"", 128)]]
    runs += [[(flipped(first, rng, 2), count), (first, count)] for _ in range(8)]
    return runs + [[(first[: rng.randrange(len(first))], count)] for _ in range(4)]


@cache
def tiny_runs() -> list[tuple[TinyPlanes, list[tuple[bytes | None, int]]]]:
    """Payloads of a moving pattern at the finest, a middle and the coarsest step; some lost, some damaged."""
    rng, noise = random.Random(10), np.random.default_rng(10)
    t = np.arange(50)[:, None, None]
    wave = 2040 + 900 * np.sin(t / 7 + np.arange(8)[:, None] / 2 + np.arange(8)) + noise.normal(0, 20, (50, 8, 8))
    colour = 2048 + 300 * np.sin(t[:, None] / 9 + np.arange(2)[:, None, None] + np.zeros((4, 4)))
    planes = TinyPlanes(np.clip(wave, 0, 4080).astype(np.int16), np.clip(colour, 0, 4080).astype(np.int16))
    runs: list[tuple[TinyPlanes, list[tuple[bytes | None, int]]]] = []
    for step in (0, 5, 10):
        encoder = TinyEncoder(step, mode="file")
        encoder.reset(planes[0])
        runs.append((planes[0], [(encoder.encode(planes[:40]), 40), (encoder.encode(planes[40:]), 10)]))
    (first, count), (second, rest) = runs[1][1]
    assert first is not None
    assert second is not None
    runs.append((planes[0], [(first, count), (None, 7), (second, rest), (first, count)]))
    runs.append((planes[0], [(b"", 128)]))
    short = runs[0][1][0][0]
    assert short is not None
    return runs + [
        (planes[0], [(flipped(short, rng, 2), count), (short[: rng.randrange(len(short))], count)]) for _ in range(15)
    ]


@cache
def moves() -> tuple[np.ndarray, np.ndarray, list[Move], np.ndarray]:
    """A keyframe, coded samples of frames, how it moves, and the frames' motion, from none to what numbers can say."""
    noise = np.random.default_rng(24)
    picture = noise.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    motion = np.zeros((30, 17), np.int32)
    motion[:, :16] = noise.normal(0, np.array([0, 20, 200, 1000, 5000, 40000]).repeat(5)[:, None], (30, 16)).round()
    motion[-4:, :4] = [[32767] * 4, [-32767] * 4, [-32767, 32767, -32767, 32767], [32767, -32767, -32767, 32767]]
    motion = np.clip(motion, -32767, 32767)
    motion[:, 16] = np.arange(30) % 6 != 3
    heads = [(0, 0, 0, 1), (127, 255, 255, 255), (112, 0, 255, 255), (15, 255, 0, 1), (113, 128, 128, 127)]
    heads += [(int(shape), *noise.integers(1, 256, 3).tolist()) for shape in noise.permutation(SHAPES)[:19]]
    return picture, noise.integers(0, 4081, (30, 96)), [Move(*head) for head in heads], motion


def clip() -> tuple[bytes, list[np.ndarray]]:
    """A file of two keyframes with motion, displacement and speech, and its keyframes as pictures."""
    y, x = np.mgrid[:256, :256]
    base = [128 + 60 * np.sin((x + 2 * y) / s) for s in (30, 50, 70)]
    frames = np.stack([np.stack([b + 10 * np.sin(t / 3) for b in base], -1) for t in range(20)]).astype(np.uint8)
    encoder = FileEncoder(EncodeOptions(refine=False, motion=False), True)
    chunks: list[bs.Chunk] = []
    sound = (0.1 * np.sin(np.arange(640) / 5)).astype(np.float32)
    for i, frame in enumerate(frames):
        if i == 11:
            encoder.request_keyframe()
        chunks += encoder.push_chunks(255 - frame if i >= 11 else frame, sound)
    data = finish_file(encoder, chunks)
    rng = np.random.default_rng(3)
    out: list[bs.Chunk] = []
    for c in bs.read_stream(data).chunks:
        if isinstance(c, bs.KeyframeChunk):
            if not any(isinstance(other, bs.KeyframeChunk) for other in out):
                out.append(bs.MotionTablesChunk(1, motion_hash()))
            coder = MotionEncoder(5, "file")
        if isinstance(c, bs.TinyChunk):
            values = rng.normal(0, 300, (c.frame_count, 16))
            present = np.arange(c.frame_count) % 5 != 3
            out.append(bs.MotionChunk(c.first_frame, c.frame_count, coder.encode(values, present), c.keyframe_tag))
        out.append(c)
    return displaced(file_of(*out)), [decode_keyframe(c.data) for c in out if isinstance(c, bs.KeyframeChunk)]


def exact_result(path: Path) -> dict[str, Any]:
    try:
        parts = read_exact(path.read_bytes())
    except BitstreamError as error:
        return {"error": type(error).__name__}
    layers = {name: parts.layers.get(name) for name in ("motion", "displacement")}
    numbers = {name: None if found is None else sha(found.astype("<i2")) for name, found in layers.items()}
    return {"tiny": sha(parts.tiny), **numbers}


@cache
def keyframe_payloads() -> list[bytes]:
    rng = random.Random(8)
    good = b"\x30" + split(encode_keyframe(np.full((256, 256, 3), 90, np.uint8), fast=True))[1]
    header = bytes.fromhex("0a0a181dffffd32020203080")
    written = header + good
    found = [good, written, b"", b"\x0a", b"\x30", header, b"\xff\xd8", header[:7], b"\x0a\x00" + good]
    found += [flipped(header, rng) + good for _ in range(60)]
    return found + [bytes([10, n, *header[2 : 2 + n]]) + good for n in range(12)]


@cache
def keyframe_chains() -> list[list[bytes]]:
    """Keyframes that stand alone; chains that are right, with all kinds of frame headers; and chains that are not."""
    rng, still, (first, *later) = random.Random(68), keyframe_payloads()[0], CHAIN
    found = [[payload] for payload in keyframe_payloads()]
    found += [CHAIN[:2], CHAIN, [first, *later, *later, *later, later[0]]]
    found += [[still, bytes([tools]) + rng.randbytes(200)] for tools in range(0, 256, 8)]
    found += [[bytes([0x30, rng.randrange(256)]) + rng.randbytes(40), later[0]] for _ in range(40)]
    found += [[b"\x30" + bytes([byte, 255]), later[0]] for byte in (0x00, 0x20, 0x40, 0x50, 0x60, 0x80)]
    found += [[first, b"\xa0"], [first, b""], [first, b"\xa1" + later[0][1:]]]
    return [*found, [first, later[0], b"\xa8" + later[1][1:]], [first, *later, *later, *later, *later]]


def chain_result(chain: list[bytes]) -> list[str] | dict[str, Any]:
    """What the package gives the AV1 decoder, or the error before that."""
    given: list[bytes] = []

    def decode(packets: list[bytes]) -> tuple[np.ndarray, ...]:
        given.extend(packets)
        return tuple(np.zeros((side, side), np.uint8) for side in (256, 128, 128))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(av1, "decode", decode)
        try:
            decode_inter_keyframe(chain[-1], chain[:-1])
        except BitstreamError as error:
            return {"error": type(error).__name__}
    return [packet.hex() for packet in given]


@cache
def pausing() -> tuple[np.ndarray, list[bool]]:
    """Sound of packets of 40 ms, of which some were not sent: a tone over soft noise, then noise alone, then a gap."""
    sent = [True] * 8 + [False] * 6 + [True] * 3 + [False, True]
    sound = np.random.default_rng(9).normal(0, 0.01, 640 * len(sent))
    sound = np.convolve(sound, [0.25, 0.5, 0.25], "same")
    sound[: 4 * 640] += 0.3 * np.sin(np.arange(4 * 640) / 5)
    return sound.astype(np.float32), sent


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Python hands to Node, and Node's answers."""
    folder = tmp_path_factory.mktemp("module")
    streams = broken_streams()
    (folder / "pool").write_bytes(b"".join(streams))
    data, pictures = clip()
    names = []
    for i, picture in enumerate(pictures):
        names.append(folder / f"key{i}.rgb")
        names[-1].write_bytes(picture.tobytes())
    (folder / "clip.tfc").write_bytes(data)
    (folder / "example.tfc").write_bytes(EXAMPLE)
    example = folder / "example.rgb"
    example.write_bytes(decode_keyframe(bs.read_stream(EXAMPLE).keyframes[0].data).tobytes())
    exact = [(folder / "clip.tfc", names), (folder / "example.tfc", [example])]
    names = []
    for i, data in enumerate(CHAIN):
        names.append(folder / f"chain{i}.rgb")
        names[-1].write_bytes((decode_inter_keyframe(data, CHAIN[:i]) if i else decode_keyframe(data)).tobytes())
    (folder / "chained.tfc").write_bytes(displaced(chained()))
    exact.append((folder / "chained.tfc", names))
    for name, (path, found) in {"clip": exact[0], "chained": exact[-1]}.items():
        (folder / f"moved_{name}.tfc").write_bytes(moved(path.read_bytes()))
        exact.append((folder / f"moved_{name}.tfc", found))
    exact += [
        (path, names[: len(bs.read_stream(path.read_bytes()).keyframes)])
        for path in sorted((VECTORS / "moved").glob("*.tfc"))
    ]
    header, _, *others = bs.read_stream(displaced(EXAMPLE)).chunks
    unknown = file_of(header, bs.DisplacementTablesChunk(1, bytes(4)), *others)
    (folder / "r73_displacement.tfc").write_bytes(unknown)
    exact.append((folder / "r73_displacement.tfc", [example]))
    exact += [(path, [example]) for path in sorted((VECTORS / "layers").glob("*.tfc"))]
    planes = folder / "planes"
    planes.write_bytes(np.random.default_rng(1).integers(0, 256, 98304, dtype=np.uint8).tobytes())
    noise = folder / "noise"
    noise.write_bytes(pausing()[0].tobytes())
    (folder / "moved.rgb").write_bytes(moves()[0].tobytes())
    rng = np.random.default_rng(2)
    marks = [(rng.uniform(60, 200, (70, 2)), rng.integers(-900, 900, 16)) for _ in range(3)]
    marks.append((np.full((70, 2), 100.0), rng.integers(-900, 900, 16)))
    given = {
        "tables": {name: str(path) for name, path in TABLES.items()},
        "pool": str(folder / "pool"),
        "streams": [len(stream) for stream in streams],
        "anySpeech": [data.hex() for data in (other_speech(), EXAMPLE, *speech_without_a_decoder().values())],
        "exact": [{"path": str(path), "pictures": [str(name) for name in found]} for path, found in exact],
        "motion": [[(payload.hex(), frames) for payload, frames in run] for run in motion_runs()],
        "displacement": [
            [(None if payload is None else payload.hex(), frames) for payload, frames in run]
            for run in displacement_runs()
        ],
        "tiny": [
            {
                "reference": reference.samples()[0].tolist(),
                "payloads": [(None if payload is None else payload.hex(), frames) for payload, frames in payloads],
            }
            for reference, payloads in tiny_runs()
        ],
        "moved": {
            "picture": str(folder / "moved.rgb"), "coded": moves()[1].tolist(), "motion": moves()[3].tolist(),
            "heads": [dataclasses.astuple(move) for move in moves()[2]],
        },
        "chains": [[payload.hex() for payload in chain] for chain in keyframe_chains()],
        "gaps": [["", "08aa", "08bb", "", "", "48cc", ""]],
        "comfort": [{"path": str(noise), "sent": pausing()[1], "size": 640}],
        "mel": {"path": str(noise), "fps": [25, 30], "frames": MEL_FRAMES},
        "lost": [(c, n) for c in range(32) for n in (960, 1920, 2880, 3840, 4800, 5760)],
        "pictures": [str(planes)],
        "marks": [{"reference": a.ravel().tolist(), "numbers": b.tolist()} for a, b in marks],
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(given))
    script = ROOT / "tests/web/check.mjs"
    done = subprocess.run(
        [str(NODE), str(script), str(MODULE), str(folder / "job.json"), str(folder / "answers.json")],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads((folder / "answers.json").read_text())
    return {"streams": streams, "exact": [path for path, _ in exact], "planes": planes, "marks": marks} | {
        f"answers_{name}": value for name, value in answers.items()
    }


def differing(wanted: Iterable[Any], found: Iterable[Any]) -> list[Any]:
    return [(i, a, b) for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b]


def test_checksums(job: dict[str, Any]) -> None:
    assert job["answers_crc"] == [0x29B1, 0xCBF43926]


def test_containers_are_read_alike(job: dict[str, Any]) -> None:
    """Every vector, and some thousand damaged files: the same fields, or the same error, rule and place."""
    wanted = [container(stream) for stream in job["streams"]]
    found = job["answers_streams"]
    assert len(wanted) == len(found)
    assert BY_TYPE.keys() == set(job["answers_kinds"])
    for stream, one, other in zip(job["streams"], wanted, found, strict=True):
        assert other == one, stream.hex()
    rules = {one["rule"] for one in wanted if "rule" in one}
    assert {*range(1, 38), 61, *range(63, 68), 72, *range(74, 79)} <= rules
    assert sum("chunks" in one for one in wanted) > 100


def test_speech_of_an_unknown_codec_leaves_the_pictures(job: dict[str, Any]) -> None:
    other, example, *known = job["answers_anySpeech"]
    assert container(other_speech())["rule"] == 19
    assert other["frames"] == 2
    assert other["samples"] == 0
    assert example == container(EXAMPLE)
    assert known == [container(data) for data in speech_without_a_decoder().values()]


def test_layers_of_files(job: dict[str, Any]) -> None:
    """Clips of two keyframes and of a chain of three, also moved, the specification's example, and faulty layers."""
    for path, found in zip(job["exact"], job["answers_exact"], strict=True):
        wanted = exact_result(path)
        if path.name in ("r45_rubbish.tfc", "r49_lengths.tfc"):
            assert "tiny" in found, "only the browser's AV1 and Opus decoders can notice that"
            continue
        if "error" in wanted:
            assert found["error"] == wanted["error"], path
            if path.name.startswith("r"):
                assert found["rule"] == int(path.name[1:3])
        else:
            assert found == wanted, path


def test_motion_and_displacement_payloads(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, presence and the exact state of the range decoder."""
    coders: list[RangeDecoder] = []

    class Recorded(RangeDecoder):
        def __init__(self, payload: bytes, layer: str) -> None:
            super().__init__(payload, layer)
            coders.append(self)

    monkeypatch.setattr("tfcodec.tinyframe.numbers.RangeDecoder", Recorded)
    state = lambda: {"range": f"{coders[-1]._range:016x}", "words": coders[-1]._next}  # noqa: E731
    layers: dict[str, tuple[Any, ...]] = {
        "motion": (motion_runs(), MotionDecoder, motion_values),
        "displacement": (displacement_runs(), DisplacementDecoder, displacement_values),
    }
    lower, rules = {}, set()
    for name, (runs, new, values) in layers.items():
        wanted = []
        for run in runs:
            decoder = new()
            for payload, frames in run:
                said = None if payload is None else state
                wanted.append(layer_result(partial(values, decoder, payload, frames), said))
        found = [answer for run in job[f"answers_{name}"] for answer in run]
        lower[name] = [answer.pop("lower", None) for answer in found]
        assert differing(wanted, found) == []
        rules |= {answer.get("rule") for answer in found}
    assert lower["motion"][: sum(map(len, RUNS.values()))] == [x["lower"] for run in RUNS.values() for x in run]
    assert {50, 51, 52, 53, 54} <= rules


def test_tiny_payloads(job: dict[str, Any]) -> None:
    wanted = []
    for reference, payloads in tiny_runs():
        decoder = TinyDecoder()
        decoder.reset(reference)
        for payload, frames in payloads:

            def decode(payload: bytes | None = payload, frames: int = frames, of: TinyDecoder = decoder) -> Any:
                planes = of.conceal(frames) if payload is None else of.decode(payload, frames)
                return planes.samples().astype("<i2")

            wanted.append(layer_result(decode))
    found = [answer for run in job["answers_tiny"] for answer in run]
    assert differing(wanted, found) == []
    assert sum("rule" in answer for answer in found) > 3


def test_tiny_frames_of_a_moved_keyframe(job: dict[str, Any]) -> None:
    picture, samples, heads, motion = moves()
    keyframe, still = MovedKeyframe(picture), tiny_from_frames(picture[None].repeat(len(motion), 0))
    coded = TinyPlanes.from_samples(samples)
    wanted = [restored(coded, keyframe.planes(move, motion), still).samples() for move in heads]
    assert len(np.unique(np.concatenate(wanted), axis=0)) > 400
    assert [sha(values.astype("<i2")) for values in wanted] == job["answers_moved"]


def test_keyframes_up_to_the_decoder(job: dict[str, Any]) -> None:
    """What the AV1 decoder is given, byte by byte, or the error. A third reader gives it the same for right chains."""
    found = job["answers_chains"]
    wanted = [chain_result(chain) for chain in keyframe_chains()]
    assert differing(wanted, [x if isinstance(x, list) else {"error": x["error"]} for x in found]) == []
    assert {41, 42, 43, 44, 45, 67, 68} <= {x["rule"] for x in found if isinstance(x, dict)}
    assert found[0] == found[1]
    long = [(a, b) for a, b in zip(keyframe_chains(), found, strict=True) if len(a) > 1 and isinstance(b, list)]
    assert len(long) > 60
    for chain, packets in long:
        assert [packet.hex() for packet in reference_chain.packets(chain)] == packets


def test_packets_for_lost_ones_last_as_long(job: dict[str, Any]) -> None:
    found = iter(job["answers_lost"])
    for _ in range(32):
        for samples in (960, 1920, 2880, 3840, 4800, 5760):
            assert packet_duration_ms(bytes.fromhex(next(found))) == samples / 48


def test_packets_that_were_not_sent(job: dict[str, Any]) -> None:
    """The first of a row is concealed, the rest pass the decoder by; none shifts what follows."""
    [[*given]] = job["answers_gaps"]
    assert [number for number, _ in given] == [1, 2, 3, 5, 6]
    assert [data for _, data in given][:2] == ["08aa", "08bb"]
    assert [packet_duration_ms(bytes.fromhex(data)) for number, data in given if number in (3, 6)] == [40, 40]


def test_pauses_are_noise_like_that_before_them(job: dict[str, Any]) -> None:
    sound, sent = pausing()
    [found] = job["answers_comfort"]
    comfort = ComfortNoise()
    comfort.learn(sound[: 8 * 640])
    np.testing.assert_allclose(found["filter"], comfort._filter, rtol=1e-4, atol=1e-8)
    made = np.array(found["sound"], np.float32).reshape(-1, 640)
    before = sound.reshape(-1, 640)
    for k, there in enumerate(sent):
        if there:
            late = 160 if k and not sent[k - 1] else 0
            assert (made[k, late:] == before[k, late:]).all()
        else:
            assert 0.5 < np.std(made[k, 160:]) / np.std(sound[6 * 640 : 8 * 640]) < 1.5
            assert not (made[k, 160:] == before[k, 160:]).any()


def test_what_lips_hear(job: dict[str, Any]) -> None:
    sound = pausing()[0]
    for fps, found in zip((25, 30), job["answers_mel"], strict=True):
        count = len(sound) * fps // 16000
        wanted = sound_windows(log_mel(sound, count, fps), np.array(MEL_FRAMES))
        np.testing.assert_allclose(np.array(found).reshape(wanted.shape), wanted, atol=1e-4)


def test_colours(job: dict[str, Any]) -> None:
    planes = np.fromfile(job["planes"], np.uint8)
    y, u, v = planes[:65536].reshape(256, 256), planes[65536:81920].reshape(128, 128), planes[81920:].reshape(128, 128)
    rgb = to_rgb(y, u, v)
    tiny = tiny_from_frames(rgb[None])
    wanted = {"rgb": sha(rgb), "tiny": sha(tiny.samples().astype("<i2")), "small": sha(tiny_to_rgb(tiny))}
    assert job["answers_pictures"] == [wanted]


def test_landmarks(job: dict[str, Any]) -> None:
    for (reference, numbers), found in zip(job["marks"], job["answers_marks"], strict=True):
        wanted = synthesise(reference, numbers[None])[0].ravel()
        np.testing.assert_allclose(found, wanted, atol=1e-3)
