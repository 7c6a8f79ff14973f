"""Decoding as a stream: the same frames as all at once, from any place, in memory that does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conftest import there

import tfcodec
from tfcodec.bitstream import (
    Chunk,
    EndChunk,
    KeyframeChunk,
    LayerChunk,
    MotionTablesChunk,
    SpeechChunk,
    TinyChunk,
    read_stream,
    write_signature,
)
from tfcodec.cli import main
from tfcodec.codec.file import reader as reader_module
from tfcodec.codec.parts.layer import Sending
from tfcodec.codec.parts.stream import StreamEncoder, stream_header
from tfcodec.media import open_source

Face = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def stream(moving_face: Face) -> bytes:
    """27 frames with speech: 12, a scene cut, and 15."""
    frames, audio = moving_face
    pictures = np.concatenate([frames[:12], np.ascontiguousarray(255 - frames[:15])])
    sound = audio[: 27 * 640 + 300]
    return tfcodec.encode(pictures, fps=25, audio=sound, sample_rate=16000, refine=False)


@pytest.fixture(scope="module")
def clip(stream: bytes) -> tfcodec.DrawnClip:
    return tfcodec.decode(stream)


def repeated(stream: bytes, times: int) -> bytes:
    """A long file: the chunks of a stream again and again, numbered on."""
    parsed, out = read_stream(stream), [write_signature()]
    header, audio = parsed.header, parsed.header.audio
    assert audio is not None
    # Whole packets only, so that sound and pictures stay together.
    packets = [packet for chunk in parsed.speech for packet in chunk.packets]
    packets = packets[: parsed.frame_count * 40 // 120]
    samples = times * len(packets) * audio.packet_samples - audio.pre_skip
    out.append(replace(header, frame_count=0, audio=replace(audio, total_samples=0)).to_bytes())
    keys = len(parsed.keyframes)
    for turn in range(times):
        first = turn * parsed.frame_count
        for chunk in parsed.chunks:
            if isinstance(chunk, KeyframeChunk):
                tag = (chunk.keyframe_tag + turn * keys) % 4
                out.append(KeyframeChunk(first + chunk.frame_index, chunk.data, tag).to_bytes())
            elif isinstance(chunk, MotionTablesChunk):
                out += [chunk.to_bytes()] if turn == 0 else []
            elif isinstance(chunk, LayerChunk):
                tag = (chunk.keyframe_tag + turn * keys) % 4
                moved = type(chunk)(first + chunk.first_frame, chunk.frame_count, chunk.payload, tag)
                out.append(moved.to_bytes())
        out.append(SpeechChunk(turn * len(packets), tuple(packets)).to_bytes())
    out.append(EndChunk(times * parsed.frame_count, samples).to_bytes())
    return b"".join(out)


def test_frame_by_frame_is_all_at_once(stream: bytes, clip: tfcodec.DrawnClip) -> None:
    with tfcodec.open(stream) as reader:
        assert len(reader) == reader.info.frames == 27
        frames = list(reader)
    assert [f.number for f in frames] == list(range(27))
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(27)])
    assert [f.keyframe for f in frames] == [0] * 12 + [1] * 15
    assert not any(f.concealed for f in frames)
    assert clip.frames is not None
    assert clip.audio is not None
    assert np.array_equal(np.stack([there(f.pixels) for f in frames]), clip.frames)
    assert np.array_equal(np.stack([f.tiny for f in frames]), clip.tiny)
    assert np.array_equal(np.concatenate([there(f.audio) for f in frames]), clip.audio[: 27 * 640])
    assert "number" not in repr(frames[0])
    assert "0.00 s" in repr(frames[0])


def test_decode_is_what_it_was(stream: bytes, clip: tfcodec.DrawnClip) -> None:
    from tfcodec.codec.file.decoder import read_exact, render_exact

    parts = read_exact(stream)
    assert np.array_equal(np.concatenate(list(render_exact(parts))), clip.frames)
    assert np.array_equal(there(parts.audio), there(clip.audio))
    assert np.array_equal(parts.tiny, clip.tiny)
    assert [(first, picture.tobytes()) for first, picture in parts.keyframes] == [
        (first, picture.tobytes()) for first, picture in clip.keyframes
    ]


def test_seek_and_slices(stream: bytes, clip: tfcodec.DrawnClip) -> None:
    assert clip.frames is not None
    reader = tfcodec.open(stream)
    for number in (0, 10, 11, 12, 13, 26, -1, 5):
        frame = reader[number]
        assert frame.number == number % 27
        assert frame.keyframe == (frame.number >= 12)
        assert np.array_equal(frame.tiny, clip.tiny[number])
        # Batches of another size may round differently in the network.
        assert np.abs(there(frame.pixels).astype(int) - clip.frames[number]).max() <= 3
    assert [f.number for f in reader[3:24:7]] == [3, 10, 17]
    assert list(reader[12:12]) == []
    reader.seek(0.4)
    assert reader.position == 10
    assert [f.number for f in islice(reader, 4)] == [10, 11, 12, 13]
    assert reader.position == 14
    assert [f.number for f in reader] == list(range(14, 27))
    assert list(reader) == []
    reader.seek(0)
    assert next(iter(reader)).number == 0
    reader.seek(1000)
    assert list(reader) == []
    for bad in (27, -28):
        with pytest.raises(IndexError):
            reader[bad]
    with pytest.raises(tfcodec.TfcodecError, match="negative step"):
        reader[::-1]
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(tfcodec.TfcodecError, match="seconds"):
            reader.seek(seconds)


def test_a_frame_s_own_time_leads_to_it(stream: bytes) -> None:
    reader = tfcodec.open(stream, pixels=False)
    for frame in reader[:]:
        reader.seek(frame.time)
        assert reader.position == frame.number
        reader.seek(frame.time + 0.039)
        assert reader.position == frame.number


def test_sound_beside_the_pictures(stream: bytes, clip: tfcodec.DrawnClip) -> None:
    assert clip.audio is not None
    reader = tfcodec.open(stream, pixels=False)
    assert np.array_equal(reader.sound(), clip.audio[: 27 * 640])
    assert np.array_equal(reader.sound(0.5, 1.0), clip.audio[8000:16000])
    assert np.array_equal(reader.sound(0.88, 1.28), np.pad(clip.audio[14_080 : 27 * 640], (0, 3200)))
    with pytest.raises(tfcodec.TfcodecError, match="time"):
        reader.sound(2, 1)
    long = tfcodec.open(repeated(stream, 40), pixels=False)
    whole = long.sound()
    again = tfcodec.open(repeated(stream, 40), pixels=False).sound(20, 22)
    assert np.abs(again - whole[320_000:352_000]).max() < 0.02  # after a jump
    assert np.abs(whole[320_000:352_000]).max() > 0.05


def test_without_pixels_there_is_no_network(stream: bytes) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import tfcodec; r = tfcodec.open(sys.stdin.buffer, pixels=False); "
        "print(sum(f.pixels is None and f.tiny.shape == (8, 8, 3) for f in r))"
    )
    run = subprocess.run([sys.executable, "-c", code], input=stream, capture_output=True, check=True)
    assert run.stdout.strip() == b"27"


def test_places_far_in_are_come_back_to(monkeypatch: pytest.MonkeyPatch, moving_face: Face) -> None:
    """Under one keyframe decoding goes on from where it has been, and gives the same."""
    monkeypatch.setattr(reader_module, "MARK_EVERY", 12)
    frames, _ = moving_face
    encoder = StreamEncoder(Sending(5, "file"))
    chunks: list[Chunk] = [stream_header(None, 55), *encoder.announcements, encoder.keyframe(frames[7], 0)]
    for first in range(0, 55, 15):
        chunks += encoder.chunks(frames[first : min(first + 15, 55)], first)
    data = write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)
    reader = tfcodec.open(data, pixels=False)
    assert reader.info.keyframes == 1
    once = np.stack([f.tiny for f in reader])
    assert [place.frame for place in reader._places] == [0, 15, 30, 45]
    for number in (54, 44, 47, 17, 15, 14):
        assert np.array_equal(reader[number].tiny, once[number])


def test_damage_is_concealed_and_named(stream: bytes) -> None:
    chunk = read_stream(stream).tiny[-1]
    at = stream.index(chunk.payload)
    bad = stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :]
    with pytest.raises(tfcodec.BitstreamError):
        list(tfcodec.open(bad, pixels=False))
    reader = tfcodec.open(bad, pixels=False, errors="conceal")
    frames = list(reader)
    assert len(frames) == 27
    assert [f.number for f in frames if f.concealed] == list(range(chunk.first_frame, chunk.end_frame))
    assert reader.damaged
    clip = tfcodec.decode(bad, errors="conceal", pixels=False)
    assert clip.damaged == reader.damaged
    assert np.array_equal(clip.tiny, np.stack([f.tiny for f in frames]))
    for number in (3, 18, 26):
        assert np.array_equal(reader[number].tiny, clip.tiny[number])


def test_a_damaged_keyframe_is_not_a_place_to_begin(stream: bytes) -> None:
    chunks = list(read_stream(stream).chunks)
    for which in (0, 1):
        broken = list(chunks)
        at, keyframe = [(i, c) for i, c in enumerate(chunks) if isinstance(c, KeyframeChunk)][which]
        broken[at] = KeyframeChunk(keyframe.frame_index, b"no picture", keyframe.keyframe_tag)
        data = write_signature() + b"".join(c.to_bytes() for c in broken)
        reader = tfcodec.open(data, errors="conceal")
        clip = tfcodec.decode(data, errors="conceal")
        assert clip.frames is not None
        assert len(clip.frames) == 27
        assert [first for first, _ in clip.keyframes] == [(12, 0)[which]]
        # Decoded from the beginning, frame 12 is drawn beside what stands in for the frames before it.
        for number in (0, 11, 18) if which == 0 else (0, 11, 12, 18):
            frame = reader[number]
            assert np.array_equal(frame.tiny, clip.tiny[number])
            assert frame.keyframe == 1 - which
            assert np.abs(there(frame.pixels).astype(int) - clip.frames[number]).max() <= 3
        with pytest.raises(tfcodec.BitstreamError, match="keyframe at frame"):
            list(tfcodec.open(data, pixels=False))


def test_limits(stream: bytes) -> None:
    with pytest.raises(tfcodec.LimitExceeded, match=r"27 frames.*max_frames=27.*tfcodec\.open"):
        tfcodec.decode(stream, max_frames=26)
    assert len(tfcodec.decode(stream, max_frames=27, pixels=False).tiny) == 27
    with pytest.raises(tfcodec.TfcodecError, match="at least 1"):
        tfcodec.decode(stream, max_frames=0)


def test_a_small_file_cannot_ask_for_everything(stream: bytes) -> None:
    """A million frames in 72 KB: refused at once where they would be held, and read one by one otherwise."""
    parsed = read_stream(stream)
    keyframe, count = parsed.keyframes[0], 8437
    chunks: list[Chunk] = [replace(parsed.header, frame_count=128 * count, audio=None), keyframe]
    data = write_signature() + b"".join(c.to_bytes() for c in chunks)
    data += b"".join(TinyChunk(128 * i, 128, b"").to_bytes() for i in range(count))
    assert len(data) < 80_000
    with pytest.raises(tfcodec.LimitExceeded, match=r"1079936 frames.* 197\.7 GiB"):
        tfcodec.decode(data)
    reader = tfcodec.open(data, pixels=False)
    assert len(reader) == 1_079_936
    assert [f.number for f in islice(reader, 300)] == list(range(300))


def test_memory_does_not_grow_with_the_length(stream: bytes, tmp_path: Path) -> None:
    """Without drawing, which keeps nothing either (`test_drawing_keeps_nothing`) and would take minutes."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("peak memory is read from /proc")
    code = (
        "import sys, tfcodec\n"
        "n = sum(len(f.audio) for f in tfcodec.open(sys.argv[1], pixels=False))\n"
        "peak = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]\n"
        "print(n, peak)"
    )
    peaks = []
    for turns, frames in ((10, 270), (200, 5_400)):
        path = tmp_path / "long.tfc"
        path.write_bytes(repeated(stream, turns))
        run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        samples, peak = map(int, run.stdout.split())
        assert samples == frames * 640
        peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 6  # 100 MB an hour; keeping the sound alone would take 13


def test_drawing_keeps_nothing(stream: bytes) -> None:
    waiting: list[int] = []
    reader = tfcodec.open(repeated(stream, 6))
    draw = reader._pictures

    def watched(*args: object) -> Callable[[], np.ndarray]:
        waiting.append(len(args[1].held))  # type: ignore[attr-defined]
        return draw(*args)  # type: ignore[arg-type]

    reader._pictures = watched  # type: ignore[method-assign, assignment]
    numbers = [f.number for f in reader[50:120:7]]
    assert numbers == list(range(50, 120, 7))
    assert max(waiting) < 120


def test_the_command_decodes_as_the_library(stream: bytes, clip: tfcodec.DrawnClip, tmp_path: Path) -> None:
    (tmp_path / "a.tfc").write_bytes(stream)
    out = tmp_path / "a.mkv"
    assert main(["decode", str(tmp_path / "a.tfc"), str(out), "--lossless", "--quiet"]) == 0
    with open_source(out, crop="none") as source:
        assert np.array_equal(np.stack(list(source.frames_iter())), clip.frames)
    import av

    with av.open(str(out)) as container:
        sound = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])
    assert np.array_equal(sound, there(clip.audio))
