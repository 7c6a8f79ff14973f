"""Writes `motion/` and `displacement/`: ``python tests/vectors/make_numbers_vectors.py``.

`payloads.json` holds runs of payloads of the layer that a decoder must read, each with its number of frames, the
SHA-256 of the decoded numbers (16-bit big-endian, frame by frame), of motion also of the presence (a byte a frame), and
the range decoder's final state; `faulty.json` payloads that it must refuse, each after a keyframe, by rule. To be run
again when the tables change.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfcodec.displacement import NUMBERS as DISPLACEMENT_NUMBERS
from tfcodec.displacement import DisplacementDecoder, DisplacementEncoder
from tfcodec.errors import BitstreamError
from tfcodec.motion import NUMBERS, MotionDecoder, MotionEncoder
from tfcodec.tinyframe import numbers as numbers_module
from tfcodec.tinyframe.rangecoder import HALF, RangeEncoder

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import reference_decoder  # noqa: E402
import reference_numbers  # noqa: E402
from reference_numbers import ReferenceDisplacementDecoder, ReferenceMotionDecoder  # noqa: E402

Reference = ReferenceMotionDecoder | ReferenceDisplacementDecoder
Decoder = type[MotionDecoder] | type[DisplacementDecoder]
PACKAGE = HERE.parents[1] / "tfcodec"


def walk(frames: int, seed: int, speed: float, numbers: int = NUMBERS) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A smooth random walk [frames, numbers]; whole numbers, so that every machine makes the same."""
    rng = random.Random(seed)
    push = np.array([[rng.uniform(-speed, speed) for _ in range(numbers)] for _ in range(frames + 4)])
    return np.asarray(np.rint(np.cumsum(sum(push[i : i + frames] for i in range(5)) / 5, axis=0)))


def run(mode: Literal["file", "call"], frames: int, part: int, **options: Any) -> list[dict[str, Any]]:
    """Payloads of motion of one keyframe group, as the encoder makes them, with what the second decoder reads."""
    numbers = walk(frames, options.pop("seed"), options.pop("speed", 60.0))
    rng = random.Random(1)
    gaps = options.pop("gaps", 0.0)
    present = np.repeat([rng.random() >= gaps for _ in range(frames)], 4)[:frames]
    encoder = MotionEncoder(options.pop("quality", 5), mode, **options)
    reference = ReferenceMotionDecoder(reference_numbers.read_motion_tables(PACKAGE / "motion/tables.bin"))
    out = []
    for start in range(0, frames, part):
        payload = encoder.encode(numbers[start : start + part], present[start : start + part])
        out.append(described(reference, payload, min(part, frames - start)))
    return out


def displaced(frames: int, part: int, *, seed: int, speed: float = 12.0, quality: int = 5) -> list[dict[str, Any]]:
    """The same of displacement."""
    numbers = walk(frames, seed, speed, DISPLACEMENT_NUMBERS)
    encoder = DisplacementEncoder(quality)
    tables = reference_numbers.read_displacement_tables(PACKAGE / "displacement/tables.bin")
    reference = ReferenceDisplacementDecoder(tables)
    return [
        described(reference, encoder.encode(numbers[start : start + part]), min(part, frames - start))
        for start in range(0, frames, part)
    ]


def described(reference: Reference, payload: bytes, frames: int) -> dict[str, Any]:
    """A payload and what the second decoder makes of it."""
    made: list[reference_decoder.Coder] = []

    class Recorded(reference_decoder.Coder):
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            made.append(self)

    modules = (vars(reference_numbers), vars(reference_decoder))
    for module in modules:
        module["Coder"] = Recorded
    try:
        result = reference.decode(payload, frames)
    finally:
        for module in modules:
            module["Coder"] = Recorded.__base__
    coder = made[0]
    numbers, there = result if isinstance(result, tuple) else (result, None)
    presence = {} if there is None else {"presence_sha256": hashlib.sha256(bytes(there)).hexdigest()}
    return {
        "frames": frames,
        "payload": payload.hex(),
        "numbers_sha256": hashlib.sha256(np.array(numbers, ">i2").tobytes()).hexdigest(),
        **presence,
        "lower": f"{coder.lower:016x}",
        "range": f"{coder.range:016x}",
        "words": coder.words,
    }


class ForcedCoder:
    """In the range decoder's place: gives the answers that lead to a magnitude without end, and notes all decisions."""

    made: RangeEncoder

    def __init__(self, payload: bytes, name: str) -> None:
        del payload
        self.name = name
        ForcedCoder.made = RangeEncoder()
        # step; in motion the face stays; a filled row, a level that is not zero, positive, greater than 14; then zeros
        presence = [0] if name == "motion" else []
        self.answers = iter([0] * 6 + presence + [1, 1, 0] + [1] * 14 + [0] * 15)

    def decode(self, one: int) -> int:
        answer = next(self.answers)
        ForcedCoder.made.encode(answer, one)
        return answer

    def decode_bits(self, count: int) -> int:
        return sum(self.decode(HALF) << count - 1 - position for position in range(count))


def endless_magnitude(decoder: Decoder) -> bytes:
    original = vars(numbers_module)["RangeDecoder"]
    vars(numbers_module)["RangeDecoder"] = ForcedCoder
    try:
        decoder().decode(b"", 1)
    except BitstreamError:
        return ForcedCoder.made.finish()
    finally:
        vars(numbers_module)["RangeDecoder"] = original
    raise ValueError("the forced payload was accepted")


def found(decoder: Decoder, words: str, length: int, frames: int, change: Callable[[bytes], bytes] = bytes) -> bytes:
    """A random payload that is refused with these words."""
    rng = random.Random(3)
    while True:
        payload = change(rng.randbytes(length))
        try:
            decoder().decode(payload, frames)
        except BitstreamError as error:
            if words in str(error):
                return payload


def faulty(decoder: Decoder, good: bytes) -> list[dict[str, Any]]:
    """Payloads that must be refused; ``good``: one of 8 frames that must not."""
    found_zeros = found(decoder, "only zeros", 3, 2)
    cases = [
        (50, 30, b"\xff" * 12, "No symbol: q is 2^24 or more."),
        (51, 8, good + b"\0", "A last byte of zero."),
        (52, 8, good + b"\1" * 9, "Bytes that no decision needs."),
        (53, 2, found_zeros, "A row announced as filled that holds zeros."),
        (54, 1, endless_magnitude(decoder), "A magnitude with 15 leading zeros."),
    ]
    return [
        {"rule": rule, "frames": frames, "payload": payload.hex(), "what": what}
        for rule, frames, payload, what in cases
    ]


def motion_vectors() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Content of both files of motion."""
    runs = {
        "file": run("file", 200, 128, seed=1),
        "file, fine": run("file", 60, 60, seed=2, quality=10),
        "file, coarse": run("file", 60, 60, seed=3, quality=0),
        "file, wild": run("file", 20, 20, seed=4, speed=30000.0),
        "file, faces come and go": run("file", 90, 40, seed=5, gaps=0.3),
        "call": run("call", 40, 1, seed=6, refresh=15),
        "call, units of three": run("call", 36, 3, seed=7),
        "call, faces come and go": run("call", 40, 2, seed=8, gaps=0.3),
        "file, no face": run("file", 128, 128, seed=9, gaps=1.0),
    }
    return runs, faulty(MotionDecoder, MotionEncoder().encode(walk(8, 1, 60.0)))


def displacement_vectors() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Content of both files of displacement."""
    runs = {
        "file": displaced(200, 128, seed=1),
        "fine": displaced(60, 60, seed=2, quality=10),
        "coarse": displaced(60, 60, seed=3, quality=0),
        "wild": displaced(20, 20, seed=4, speed=30000.0),
        "short payloads": displaced(36, 5, seed=5),
        "still": displaced(128, 128, seed=6, speed=0.0),
    }
    return runs, faulty(DisplacementDecoder, DisplacementEncoder().encode(walk(8, 1, 12.0, DISPLACEMENT_NUMBERS)))


def write_all() -> None:
    """Write all four files."""
    for layer, vectors in (("motion", motion_vectors()), ("displacement", displacement_vectors())):
        folder = HERE / layer
        folder.mkdir(exist_ok=True)
        for name, content in zip(("payloads", "faulty"), vectors, strict=True):
            (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_all()
