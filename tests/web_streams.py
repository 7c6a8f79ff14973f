"""Streams that the module in JavaScript is tried on, in Node and in a browser, made chunk by chunk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from test_spec import DATA as EXAMPLE

from tfcodec import bitstream as bs
from tfcodec.bitstream.framing import build_chunk
from tfcodec.displacement import DISPLACEMENT_ID, DisplacementEncoder, displacement_hash
from tfcodec.motion import MOTION_ID, MotionEncoder, motion_hash
from tfcodec.speech import encode_speech
from tfcodec.tinyframe.moved import SHAPES

CHAIN = [
    bytes.fromhex(row["data"])
    for row in json.loads((Path(__file__).parent / "vectors/keyframe_chain.json").read_text(encoding="utf-8"))
]
SPEECH_FRAMES = 60


def file_of(*chunks: bs.Chunk) -> bytes:
    return bs.write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)


def other_speech() -> bytes:
    """The example with speech of a codec that does not exist."""
    out = bytearray(EXAMPLE)
    out[15] = 0xC1
    header = build_chunk(0xC1, bytes(out[6:21]))
    return bytes(out[:4]) + header + bytes(out[4 + len(header) :])


def speech_without_a_decoder() -> dict[str, bytes]:
    """Streams whose speech is of a codec that no browser has, by its name."""
    voices = {
        "Codec2": bs.AudioConfig(1920, 1146, 9600, codec=2, mode=12),
        "Lyra": bs.AudioConfig(1920, 0, 9600, codec=3, mode=16, tables_id=1, tables_hash=bytes(4)),
    }
    return {name: _talk(audio, (b"sixsix",) * audio.packets_for(9600), 5) for name, audio in voices.items()}


def chained() -> bytes:
    """A file of three keyframes, of which two refer to the one before."""
    later = [bs.InterKeyframeChunk.after(CHAIN[i - 1], 4 * i, CHAIN[i], i) for i in (1, 2)]
    keys = [bs.KeyframeChunk(0, CHAIN[0]), *later]
    chunks: list[bs.Chunk] = [bs.StreamHeader(frame_count=12)]
    for i, key in enumerate(keys):
        chunks += [key, bs.TinyChunk(4 * i, 4, b"", i)]
    return file_of(*chunks)


def displaced(data: bytes) -> bytes:
    """A file with a displacement layer beside what it has: the picture sways and swells by some pixels.

    The last two frames of each chunk are left out, if there are more.
    """
    chunks: list[bs.Chunk] = []
    coder: DisplacementEncoder | None = None
    for chunk in bs.read_stream(data).chunks:
        if isinstance(chunk, bs.KeyframeChunk):
            if coder is None:
                chunks.append(bs.DisplacementTablesChunk(DISPLACEMENT_ID, displacement_hash()))
            coder = DisplacementEncoder()
        if isinstance(chunk, bs.TinyChunk) and coder is not None:
            left = 2 if chunk.frame_count > 2 else 0
            frames = np.arange(chunk.first_frame, chunk.end_frame - left)
            payload = coder.encode(64 * np.sin(frames[:, None] / 4 + np.arange(12)))
            coder.leave_out(left)
            chunks.append(bs.DisplacementChunk(chunk.first_frame, len(frames), payload, chunk.keyframe_tag))
        chunks.append(chunk)
    return file_of(*chunks)


def moved(data: bytes) -> bytes:
    """A file whose tiny frames are a difference from those of the keyframe, moved as its motion says.

    Without motion it gets some: the picture turns and goes beyond its edges, and every fifth frame has no face.
    """
    chunks: list[bs.Chunk] = []
    stream, coder = bs.read_stream(data).chunks, MotionEncoder(0, "file")
    still = not any(isinstance(chunk, bs.MotionTablesChunk) for chunk in stream)
    for count, chunk in enumerate(stream):
        if isinstance(chunk, bs.KeyframeChunk) and still:
            if not any(isinstance(other, bs.KeyframeChunk) for other in chunks):
                chunks.append(bs.MotionTablesChunk(MOTION_ID, motion_hash()))
            coder = MotionEncoder(0, "file")
        if isinstance(chunk, bs.TinyChunk):
            place = (chunk.first_frame, chunk.frame_count)
            if still:
                frames = np.arange(chunk.first_frame, chunk.end_frame)
                numbers = np.zeros((len(frames), 16))
                numbers[:, :4] = 40 * (frames[:, None] + 1) * np.sin(np.arange(4) + count)
                chunks.append(bs.MotionChunk(*place, coder.encode(numbers, frames % 5 != 3), chunk.keyframe_tag))
            head = (37 * count % SHAPES, 120, 100, 60)
            chunk = bs.MovedTinyChunk(*place, chunk.payload, chunk.keyframe_tag, *head)
        chunks.append(chunk)
    return file_of(*chunks)


def pausing() -> tuple[bytes, list[bool]]:
    """A tone over soft noise, in packets of 120 ms, and which of them the file has: it begins and ends with a pause."""
    rng, at = np.random.default_rng(7), np.arange(640 * SPEECH_FRAMES) / 16000
    talking = ((at > 0.2) & (at < 0.7)) | ((at > 1.7) & (at < 2.0))
    sound = 0.25 * talking * np.sin(2 * np.pi * 170 * at) + rng.normal(0, 0.004, at.size)
    packets = encode_speech(sound.astype(np.float32), packet_ms=120).packets
    sent = [not (k < 1 or 8 <= k < 13 or k >= len(packets) - 2) for k in range(len(packets))]
    audio = bs.AudioConfig(5760, 312, 1920 * SPEECH_FRAMES)
    there = tuple(packet if here else b"" for packet, here in zip(packets, sent, strict=True))
    return _talk(audio, there, SPEECH_FRAMES), sent


def _talk(audio: bs.AudioConfig, packets: tuple[bytes, ...], frames: int) -> bytes:
    header = bs.StreamHeader(frame_count=frames, audio=audio)
    return file_of(header, bs.KeyframeChunk(0, CHAIN[0]), bs.TinyChunk(0, frames, b""), bs.SpeechChunk(0, packets))
