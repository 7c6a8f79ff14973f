"""Writes `layers/` and its README: ``python tests/vectors/make_layer_vectors.py``.

Each file is the example of the specification with one part replaced, so that the container is sound and the rule of a
layer above it (R40 and up) is broken. To be run again when the example or the tables change.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tfcodec import bitstream as bs
from tfcodec.errors import BitstreamError, LimitExceeded
from tfcodec.keyframe import SEQUENCE_HEADER, decode_keyframe
from tfcodec.tinyframe import TinyDecoder, TinyPlanes, tiny_from_frames
from tfcodec.tinyframe import decoder as tiny_module
from tfcodec.tinyframe.rangecoder import HALF, RangeEncoder

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "bitstream_spec.md"
SEQUENCE = b"\x0a" + bytes([len(SEQUENCE_HEADER)])

Vector = tuple[int, str, bytes, str]
"""Rule, name, content, sentence."""


def example() -> bs.ParsedStream:
    """The example of appendix A."""
    text = SPEC.read_text(encoding="utf-8")
    found = re.search(r"```hex\n(.*?)```", text, re.S)
    if found is None:
        raise ValueError(f"{SPEC} has no example")
    return bs.read_stream(bytes.fromhex(found[1]))


def rebuild(
    stream: bs.ParsedStream,
    *,
    tables: int | None = None,
    keyframe: bytes | None = None,
    tiny: bytes | None = None,
    speech: bytes | None = None,
) -> bytes:
    """The stream with another keyframe, tiny-frame payload or speech packet, or other tables."""
    result = bs.write_signature()
    for chunk in stream.chunks:
        if isinstance(chunk, bs.StreamHeader) and tables is not None:
            chunk = replace(chunk, tables_id=tables)
        elif isinstance(chunk, bs.KeyframeChunk) and keyframe is not None:
            chunk = replace(chunk, data=keyframe)
        elif isinstance(chunk, bs.TinyChunk) and tiny is not None:
            chunk = replace(chunk, payload=tiny)
        elif isinstance(chunk, bs.SpeechChunk) and speech is not None:
            chunk = replace(chunk, packets=(speech,))
        result += chunk.to_bytes()
    return result


def changed_sequence_header(error: type[BitstreamError], frame: bytes) -> bytes:
    """A keyframe whose sequence header differs from the constant one by a bit and is refused by that very error."""
    for bit in range(8 * len(SEQUENCE_HEADER)):
        header = bytearray(SEQUENCE_HEADER)
        header[bit // 8] ^= 0x80 >> bit % 8
        data = SEQUENCE + bytes(header) + frame
        try:
            decode_keyframe(data)
        except BitstreamError as caught:
            if type(caught) is error and str(caught).find("decodable") < 0:
                return data
    raise ValueError(f"no bit leads to {error}")


class ForcedCoder:
    """In the range decoder's place: gives the answers that lead to a magnitude without end, and notes all decisions."""

    made: RangeEncoder

    def __init__(self, payload: bytes) -> None:
        ForcedCoder.made = RangeEncoder()
        self.answers: Iterator[int] = self.script()

    def script(self) -> Iterator[int]:
        yield from (0, 0, 0, 0, 0, 0)  # quantiser step
        yield from (1, 1, 0)  # a filled row, a level that is not zero, and positive
        yield from [1] * 14  # greater than 1, 2, ... 14
        yield from [0] * 15

    def decode(self, one: int) -> int:
        answer = next(self.answers)
        ForcedCoder.made.encode(answer, one)
        return answer

    def decode_bits(self, count: int) -> int:
        return sum(self.decode(HALF) << count - 1 - position for position in range(count))

    def finish(self) -> None:
        raise ValueError("the payload was to be refused")


def endless_magnitude(reference: TinyPlanes) -> bytes:
    """A payload of one frame whose first level has 15 leading zeros."""
    original = vars(tiny_module)["RangeDecoder"]
    vars(tiny_module)["RangeDecoder"] = ForcedCoder
    try:
        decoder = TinyDecoder()
        decoder.reset(reference)
        decoder.decode(b"", 1)
    except BitstreamError:
        return ForcedCoder.made.finish()
    finally:
        vars(tiny_module)["RangeDecoder"] = original
    raise ValueError("the forced payload was accepted")


def empty_row(reference: TinyPlanes) -> bytes:
    """A payload of two frames that announces a row and then codes zeros only; found by trying."""
    rng = random.Random(1)
    while True:
        payload = rng.randbytes(3)
        decoder = TinyDecoder()
        decoder.reset(reference)
        try:
            decoder.decode(payload, 2)
        except BitstreamError as error:
            if "only zeros" in str(error):
                return payload


def vectors() -> list[Vector]:
    """All of them, by rule."""
    stream = example()
    keyframe, tiny = stream.keyframes[0].data, stream.tiny[0].payload
    opus = stream.speech[0].packets[0]
    toc, reference = opus[0], tiny_from_frames(decode_keyframe(keyframe)[None])
    wrong_size = changed_sequence_header(LimitExceeded, keyframe)
    wrong_field = changed_sequence_header(BitstreamError, keyframe)
    rubbish = b"\x30" + bytes(range(40, 90))
    one_frame = replace(stream.tiny[0], frame_count=1, payload=endless_magnitude(reference))
    second = replace(stream.tiny[0], first_frame=1, frame_count=1)
    endless = bs.write_signature() + b"".join(
        chunk.to_bytes()
        for old in stream.chunks
        for chunk in ([one_frame, second] if isinstance(old, bs.TinyChunk) else [old])
    )
    return [
        (40, "tables", rebuild(stream, tables=2), "Tables that do not exist."),
        (41, "jpeg", rebuild(stream, keyframe=b"\xff\xd8\xff\xe0"), "A keyframe that is a JPEG file."),
        (42, "cut", rebuild(stream, keyframe=SEQUENCE + SEQUENCE_HEADER[:5]), "A cut sequence header."),
        (42, "no_frame", rebuild(stream, keyframe=b"\x30"), "A keyframe without its frame."),
        (43, "size", rebuild(stream, keyframe=wrong_size), "A picture of another size."),
        (44, "profile", rebuild(stream, keyframe=wrong_field), "A sequence header of another profile."),
        (44, "length_0", rebuild(stream, keyframe=b"\x0a\x00" + keyframe), "A sequence header of no bytes."),
        (45, "rubbish", rebuild(stream, keyframe=rubbish), "A frame of rubbish."),
        (46, "no_count", rebuild(stream, speech=bytes([toc | 3])), "An Opus packet without its frame count."),
        (47, "stereo", rebuild(stream, speech=bytes([toc | 4]) + opus[1:]), "A stereo Opus packet."),
        (48, "duration", rebuild(stream, speech=bytes([0x08, 0])), "An Opus packet of 20 ms, not 120."),
        (49, "lengths", rebuild(stream, speech=bytes([0x1B, 0x82, 200, 1])), "A frame longer than its packet."),
        (50, "no_symbol", rebuild(stream, tiny=b"\xff" * 8), "A code value past the interval."),
        (51, "zero", rebuild(stream, tiny=tiny + b"\0"), "A zero byte too many."),
        (52, "long", rebuild(stream, tiny=tiny + bytes(20) + b"\1"), "Bytes that are never reached."),
        (53, "empty_row", rebuild(stream, tiny=empty_row(reference)), "A row of zeros, announced as filled."),
        (54, "magnitude", endless, "A magnitude with 15 leading zeros."),
    ]


def write_all() -> None:
    """Write every vector and the table that describes them."""
    lines = ["# Vectors of the layers above the container", ""]
    lines += ["Written by `make_layer_vectors.py` from the example of `bitstream_spec.md`; checked by"]
    lines += ["`tests/test_layer_vectors.py`. Their containers are sound; a decoder must refuse them.", ""]
    lines += ["| file | rule | what |", "|---|---|---|"]
    (HERE / "layers").mkdir(exist_ok=True)
    for rule, name, data, sentence in vectors():
        (HERE / f"layers/r{rule}_{name}.tfc").write_bytes(data)
        lines.append(f"| `r{rule}_{name}.tfc` | R{rule} | {sentence} |")
    (HERE / "layers/README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_all()
