"""Writes appendix A of `bitstream_spec.md`, and the hash of the tables: ``python tests/vectors/make_spec_example.py``.

A grey picture with a light rectangle that moves, and silence: real keyframe, tiny-frame and speech data that are short
enough to be read by a person. The text in the document stays as it is when encoders get better; run this only when
the format or its tables change, and `make_layer_vectors.py` after it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfcodec import tinyframe
from tfcodec.bitstream import AudioConfig, KeyframeChunk, SpeechChunk, StreamHeader, TinyChunk, write_signature
from tfcodec.bitstream.primitives import write_varint
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.speech import encode_speech
from tfcodec.tinyframe import TABLES_ID, TinyDecoder, TinyEncoder, TinyPlanes, tables_sha256, tiny_from_frames

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference_decoder

FRAMES = 2
SPEC = Path(__file__).parents[2] / "bitstream_spec.md"
HEADING = "## Appendix A Worked example\n\n"
INTRODUCTION = """\
A complete file of {size} bytes: two frames of a light rectangle on grey that moves to the right, and 80 ms of
silence. It names no network. `tests/test_spec.py` takes the bytes and the figures from this text and checks them.
"""


def picture(frame: int) -> NDArray[np.uint8]:
    """[256, 256, 3] uint8: a rectangle of 64 x 128 pixels, 8 pixels further right in every frame."""
    result = np.full((256, 256, 3), 120, np.uint8)
    result[64:192, 96 + 8 * frame : 160 + 8 * frame] = (224, 172, 140)
    return result


def make() -> tuple[list[tuple[bytes, str, str]], NDArray[np.uint8], TinyPlanes]:
    """The file as (bytes, name, meaning) of every field, the decoded keyframe, and the decoded tiny frames."""
    frames = np.stack([picture(frame) for frame in range(FRAMES)])
    keyframe = encode_keyframe(frames[0], 0)
    decoded = decode_keyframe(keyframe)
    reference = tiny_from_frames(decoded[None])
    encoder, decoder = TinyEncoder(5, mode="file"), TinyDecoder()
    encoder.reset(reference)
    decoder.reset(reference)
    payload = encoder.encode(tiny_from_frames(frames))
    track = encode_speech(np.zeros(FRAMES * 640, np.float32), 0, 120)
    audio = AudioConfig(packet_samples=5760, pre_skip=3 * track.pre_skip, total_samples=3 * track.samples)

    fields: list[tuple[bytes, str, str]] = [(write_signature(), "signature", "")]

    def chunk(data: bytes, name: str, *inner: tuple[bytes, str, str]) -> None:
        body = b"".join(part for part, _, _ in inner)
        length = write_varint(len(body))
        crc = data[1 + len(length) + len(body) :]
        fields.append((data[:1], "type", name))
        fields.append((length, "length", str(len(body))))
        fields.extend(inner)
        fields.append((crc, "checksum", f"CRC-{8 * len(crc)}"))
        if b"".join(part for part, _, _ in fields)[-len(data) :] != data:
            raise ValueError(f"the description of {name} does not match its bytes")

    header = StreamHeader(FRAMES, tables_id=TABLES_ID, audio=audio)
    chunk(
        header.to_bytes(),
        "HEADER",
        (b"\x11", "version, min_reader_version", "1, 1"),
        (b"\x04", "profile, flags", "0, has_audio"),
        (write_varint(FRAMES), "frame_count", str(FRAMES)),
        (b"\x00", "model_id", "0: none"),
        (bytes(4), "model_hash", ""),
        (write_varint(TABLES_ID), "tables_id", str(TABLES_ID)),
        (b"\x01", "audio_codec", "1: Opus"),
        (b"\x30", "packet_duration", "48: 120 ms"),
        (write_varint(audio.pre_skip), "pre_skip", str(audio.pre_skip)),
        (write_varint(audio.total_samples), "total_samples", f"{audio.total_samples}: 80 ms"),
    )
    chunk(
        KeyframeChunk(0, keyframe).to_bytes(),
        "KEYFRAME",
        (b"\x00", "position", "frame 0, tag 0"),
        (keyframe, "data", "section 8"),
    )
    chunk(
        TinyChunk(0, FRAMES, payload).to_bytes(),
        "TINY",
        (b"\x00", "position", "frame 0, tag 0"),
        (write_varint(FRAMES - 1), "frame_count_minus_1", f"{FRAMES - 1}: {FRAMES} frames"),
        (payload, "data", "section 10"),
    )
    chunk(
        SpeechChunk(0, tuple(track.packets)).to_bytes(),
        "SPEECH",
        (b"\x00", "first_packet", "0"),
        (b"\x03", "count_and_form", "1 packet, shared"),
        (track.packets[0], "packet", "section 9"),
    )
    return fields, decoded, decoder.decode(payload, FRAMES)


def final_state(reference: TinyPlanes, payload: bytes) -> str:
    """State of the range decoder after the payload, from the plain-Python decoder."""
    made: list[reference_decoder.Coder] = []

    class Recorded(reference_decoder.Coder):
        def __init__(self, payload: bytes) -> None:
            super().__init__(payload)
            made.append(self)

    original = reference_decoder.Coder
    vars(reference_decoder)["Coder"] = Recorded
    tables = Path(tinyframe.__file__).parent / "tables.bin"
    decoder = reference_decoder.ReferenceDecoder(reference_decoder.read_tables(tables))
    decoder.reset(reference.samples()[0].tolist())
    decoder.decode(payload, FRAMES)
    vars(reference_decoder)["Coder"] = original
    return f"`lower` = {made[0].lower:#018x}, `range` = {made[0].range:#018x}, {made[0].words} words taken"


def table(plane: NDArray[np.int16]) -> list[str]:
    """Rows of numbers in columns."""
    return [" ".join(f"{value:4d}" for value in row) for row in plane]


def appendix() -> str:
    """The appendix in Markdown."""
    fields, keyframe, tiny = make()
    data = b"".join(part for part, _, _ in fields)
    lines = [INTRODUCTION.format(size=len(data)), "```hex"]
    lines += [data[at : at + 16].hex(" ").upper() for at in range(0, len(data), 16)]
    lines += ["```", "", "| offset | bytes | field | value |", "|---|---|---|---|"]
    offset = 0
    for part, name, meaning in fields:
        shown = part.hex(" ").upper() if len(part) <= 8 else f"{part[:6].hex(' ').upper()} … ({len(part)} bytes)"
        lines.append(f"| {offset} | `{shown}` | {name} | {meaning} |")
        offset += len(part)
    lines += [
        "",
        "The decoded keyframe, as 256 rows of 256 pixels of R, G, B bytes, has the SHA-256",
        f"`{hashlib.sha256(keyframe.tobytes()).hexdigest()}`.",
        f"Its pixels at (x, y) = (0, 0) and (128, 128) are {keyframe[0, 0].tolist()} and",
        f"{keyframe[128, 128].tolist()}.",
        "",
        "After the payload of TINY, the state of the range decoder is",
        f"{final_state(tiny_from_frames(keyframe[None]), fields[-8][0])}.",
        "The decoded tiny frames, in units of 1/16 grey level:",
        "",
    ]
    for frame in range(FRAMES):
        lines += ["```samples", f"frame {frame} Y", *table(tiny.luma[frame])]
        lines += [f"frame {frame} Cb", *table(tiny.chroma[frame, 0])]
        lines += [f"frame {frame} Cr", *table(tiny.chroma[frame, 1]), "```", ""]
    return "\n".join(lines)


def main() -> None:
    """Put the appendix and the tables' hash in their places in the specification."""
    text = SPEC.read_text(encoding="utf-8")
    begin, end = text.index(HEADING) + len(HEADING), text.index("## Appendix B")
    text = text[:begin] + appendix() + text[end:]
    text = re.sub(r"(tables id \d+, SHA-256\s+)[0-9a-f]{64}", rf"\g<1>{tables_sha256()}", text)
    SPEC.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
