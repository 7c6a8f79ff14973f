"""The whole codec through its public functions."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import psnr, there
from hypothesis import given, settings
from hypothesis import strategies as st

import tfcodec
from tfcodec.codec import policy
from tfcodec.codec.encoder import Encoder
from tfcodec.codec.file.decoder import read_exact
from tfcodec.tinyframe import tiny_from_frames, tiny_to_rgb

Face = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def stream(moving_face: Face) -> bytes:
    frames, audio = moving_face[0][:35], moving_face[1][: 35 * 640]
    return tfcodec.encode(frames, fps=25, audio=audio, sample_rate=16000)


@pytest.fixture(scope="module")
def clip(stream: bytes) -> tfcodec.Clip:
    return tfcodec.decode(stream)


def test_shapes_and_types(clip: tfcodec.Clip, moving_face: Face) -> None:
    frames, audio = moving_face[0][:35], moving_face[1][: 35 * 640]
    assert clip.frames is not None
    assert clip.audio is not None
    assert clip.frames.shape == frames.shape
    assert clip.frames.dtype == np.uint8
    assert clip.audio.shape == audio.shape
    assert clip.audio.dtype == np.float32
    assert clip.sample_rate == 16000
    assert clip.fps == 25.0
    assert clip.tiny.shape == (35, 8, 8, 3)
    assert [first for first, _ in clip.keyframes] == [0]
    assert clip.keyframes[0][1].shape == (256, 256, 3)
    assert clip.duration_seconds == pytest.approx(1.4)
    assert "35, 256, 256, 3" in repr(clip)


def test_the_decoded_video_is_close_to_the_source(clip: tfcodec.Clip, moving_face: Face) -> None:
    frames = moving_face[0][:35]
    assert clip.frames is not None
    # Tiny frames bind the local colours, whatever the network does with a drawn face. They are coarse at quality 5,
    # since the motion says where things are.
    exact = tiny_to_rgb(tiny_from_frames(frames))
    assert psnr(clip.tiny, exact) > 33
    assert psnr(clip.frames, frames) > 22
    assert psnr(clip.keyframes[0][1], frames) < psnr(clip.frames, frames) + 6


def test_info_accounts_for_every_byte(stream: bytes) -> None:
    info = tfcodec.probe(stream)
    assert info.frames == 35
    assert set(info.bytes) == {"container", "keyframe", "tiny", "motion", "displacement", "audio", "total"}
    assert sum(info.bytes.values()) == 2 * len(stream)
    assert info.bytes["total"] == len(stream)
    video = sum(info.bytes[part] for part in ("container", "keyframe", "tiny", "motion", "displacement"))
    assert info.video_bpp == pytest.approx(video * 8 / (35 * 256 * 256))
    assert info.video_kbps == pytest.approx(video * 8 / 1.4 / 1000)
    assert info.audio_kbps == pytest.approx(info.bytes["audio"] * 8 / 1.4 / 1000)


def test_sources_of_every_kind(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tfc"
    path.write_bytes(stream)
    expected = tfcodec.probe(stream)
    for source in (path, str(path), stream, bytearray(stream), io.BytesIO(stream)):
        assert tfcodec.probe(source) == expected


def test_writing_to_a_path_gives_the_same_bytes(moving_face: Face, short_stream: bytes, tmp_path: Path) -> None:
    frames, audio = moving_face
    out = tmp_path / "out.tfc"
    info = tfcodec.encode(frames[:6], out, fps=25, audio=audio[: 6 * 640], sample_rate=16000, quality=0)
    assert out.read_bytes() == short_stream
    assert info == tfcodec.probe(out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_failed_encode_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(tfcodec.MediaError):
        tfcodec.encode(np.zeros((0, 256, 256, 3), np.uint8), tmp_path / "x.tfc", fps=25)
    assert list(tmp_path.iterdir()) == []


def test_exact_parts_do_not_depend_on_threads_or_run(stream: bytes, clip: tfcodec.Clip) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            again = tfcodec.decode(stream, pixels=False)
            assert again.frames is None
            assert np.array_equal(again.tiny, clip.tiny)
            assert np.array_equal(there(again.audio), there(clip.audio))
            assert np.array_equal(again.keyframes[0][1], clip.keyframes[0][1])
    finally:
        torch.set_num_threads(before)


def test_without_sound(moving_face: Face) -> None:
    frames, _ = moving_face
    data = tfcodec.encode(frames[:10], fps=25, refine=False)
    info = tfcodec.probe(data)
    assert not info.has_audio
    assert info.bytes["audio"] == 0
    clip = tfcodec.decode(data)
    assert clip.audio is None
    assert clip.frames is not None
    assert len(clip.frames) == 10


def test_silence(moving_face: Face) -> None:
    frames, _ = moving_face
    data = tfcodec.encode(frames[:10], fps=25, audio=np.zeros(6400, np.float32), sample_rate=16000, refine=False)
    clip = tfcodec.decode(data, pixels=False)
    assert clip.audio is not None
    assert len(clip.audio) == 6400
    assert np.abs(clip.audio).max() < 0.01


@pytest.mark.parametrize("quality", [0, 5, 10])
def test_clicks_stay_where_they_are(quality: int, moving_face: Face) -> None:
    frames, _ = moving_face
    times = np.array([3000, 11111, 20000, 33333])  # samples
    audio = np.zeros(60 * 640, np.float32)
    for at in times:
        audio[at : at + 40] = 0.8 * np.hanning(40)
    data = tfcodec.encode(
        frames, fps=25, audio=audio, sample_rate=16000, quality=quality, refine=False, motion=False
    )
    clip = tfcodec.decode(data, pixels=False)
    assert clip.audio is not None
    for at in times:
        around = np.abs(clip.audio[at - 1200 : at + 1200])
        assert abs(int(around.argmax()) - 1200 - 20) <= 320  # 20 ms


def test_one_frame() -> None:
    picture = np.full((1, 256, 256, 3), 90, np.uint8)
    clip = tfcodec.decode(tfcodec.encode(picture, fps=25))
    assert clip.frames is not None
    assert clip.frames.shape == (1, 256, 256, 3)
    assert psnr(clip.frames, picture) > 30


def test_quality_is_a_ladder_in_bytes_and_in_error(moving_face: Face) -> None:
    frames = moving_face[0][:18]
    exact = tiny_from_frames(frames)
    sizes, keyframe_errors, tiny_errors = [], [], []
    for quality in (0, 3, 5, 7, 10):
        data = tfcodec.encode(frames, fps=25, quality=quality, refine=False)
        parts = read_exact(data)
        sizes.append(len(data))
        keyframe_errors.append(min(np.square(parts.keyframes[0][1].astype(float) - f).mean() for f in frames))
        tiny_errors.append(np.square(parts.tiny.astype(float) - tiny_to_rgb(exact)).mean())
    assert sizes == sorted(sizes)
    assert keyframe_errors == sorted(keyframe_errors, reverse=True)
    assert tiny_errors == sorted(tiny_errors, reverse=True)
    assert sizes[-1] > 2 * sizes[0]


def test_a_scene_cut_gets_a_keyframe(moving_face: Face) -> None:
    frames, _ = moving_face
    other = np.ascontiguousarray(255 - frames[:20, ::-1])
    parts = read_exact(tfcodec.encode(np.concatenate([frames[:20], other]), fps=25, refine=False))
    assert [first for first, _ in parts.keyframes] == [0, 20]


def test_a_calm_clip_gets_one_keyframe(moving_face: Face) -> None:
    frames, _ = moving_face
    long = np.concatenate([frames, frames[::-1], frames])  # 180 frames, more than one window
    info = tfcodec.probe(tfcodec.encode(long, fps=25, refine=False, motion=False))
    assert info.frames == 180
    assert info.keyframes == 1


def test_the_keyframe_has_open_eyes(moving_face: Face) -> None:
    frames, _ = moving_face
    asleep = [frame.copy() for frame in frames[:24]]
    for t, frame in enumerate(asleep):
        middle = 128 + 14 * np.sin(t / 9)  # of the face, which sways
        frame[102:118, int(middle) - 36 : int(middle) + 36] = (205, 160, 135)
    marks = [policy.signature(frame) for frame in asleep]
    medoid = policy.choose_keyframe(marks)
    asleep[medoid - 1] = frames[medoid - 1]
    marks[medoid - 1] = policy.signature(frames[medoid - 1])
    assert policy.choose_keyframe(marks, asleep) == medoid - 1


def test_a_keyframe_for_drift_is_paid_for_as_long_as_the_last_one_served() -> None:
    pose = np.linspace(0, 200, 32, dtype=np.float32) * np.ones((32, 1), np.float32)
    calls, sent = policy.CallPolicy(), dict[int, int]()
    for frame in range(400):
        mark = pose * np.float32(0.5 + 0.5 * np.cos(frame / 40))  # to and fro, slowly
        if calls.wants(frame, mark):
            assert not calls.cut
            sent[frame] = calls.serves(frame)
            calls.sent(frame, mark)
    typical = policy.TYPICAL_FRAMES
    first, *later = sent.items()
    assert first == (0, typical)
    assert len(later) >= 2
    assert all(serves == at - before for (at, serves), before in zip(later, sent, strict=False))
    cost = [policy.keyframe_quality(5, serves) for _, serves in later]
    assert max(cost) < policy.keyframe_quality(5, typical)
    # After a cut nothing is known of how long the scene lasts; and no keyframe is paid for beyond the usual.
    other = pose.T + 50
    assert calls.wants(400, other)
    assert calls.cut
    assert calls.serves(400) == typical
    calls.sent(400, other)
    assert not calls.wants(401, other)
    assert calls.serves(400 + 4 * typical) == typical


def test_progress_is_reported(moving_face: Face) -> None:
    frames, _ = moving_face
    seen: list[tuple[int, int]] = []
    data = tfcodec.encode(frames[:12], fps=25, refine=False, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    seen.clear()
    tfcodec.decode(data, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)


def test_duration_is_kept_from_other_frame_rates(moving_face: Face) -> None:
    frames, _ = moving_face
    for count, fps in ((60, 30), (20, 10)):
        data = tfcodec.encode(frames[:count], fps=fps, refine=False, motion=False)
        assert tfcodec.probe(data).duration_seconds == pytest.approx(2.0, abs=0.04)


@pytest.mark.parametrize("quality", [-1, 11, 2.5, "5", True])
def test_bad_quality(quality: object, moving_face: Face) -> None:
    with pytest.raises(tfcodec.TfcodecError, match="quality"):
        tfcodec.encode(moving_face[0][:2], fps=25, quality=quality)  # type: ignore[call-overload]


def test_import_is_light() -> None:
    code = "import sys, tfcodec; print([m for m in ('torch', 'av', 'librosa', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_bitstream_and_probe_need_no_torch(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tfc"
    path.write_bytes(stream)
    code = (
        "import sys; sys.modules['torch'] = None; import tfcodec.bitstream, tfcodec.tinyframe, tfcodec; "
        f"print(tfcodec.probe({str(path)!r}).frames)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "35"


@pytest.fixture(scope="module")
def short_stream(moving_face: Face) -> bytes:
    frames, audio = moving_face
    return tfcodec.encode(frames[:6], fps=25, audio=audio[: 6 * 640], sample_rate=16000, quality=0)


def test_truncation_at_every_byte(short_stream: bytes) -> None:
    for length in range(len(short_stream)):
        with pytest.raises(tfcodec.BitstreamError):
            tfcodec.decode(short_stream[:length], pixels=False)


def test_every_single_bit_flip_is_noticed(short_stream: bytes) -> None:
    for byte in range(len(short_stream)):
        damaged = bytearray(short_stream)
        damaged[byte] ^= 1 << byte % 8
        with pytest.raises(tfcodec.BitstreamError):
            read_exact(bytes(damaged))


def test_concealing_any_damage_gives_a_clip_or_an_error(short_stream: bytes) -> None:
    for byte in range(0, len(short_stream), 7):
        for damaged in (short_stream[:byte], short_stream[:byte] + b"\xff" + short_stream[byte + 1 :]):
            try:
                parts = read_exact(damaged, "conceal")
            except tfcodec.BitstreamError:
                continue
            assert parts.tiny.shape[1:] == (8, 8, 3)
            assert parts.keyframes


def test_a_lost_tiny_packet_is_held(moving_face: Face) -> None:
    frames, _ = moving_face
    cut = np.concatenate([frames[:10], np.ascontiguousarray(255 - frames[:10])])  # two keyframes, two payloads
    data = bytearray(tfcodec.encode(cut, fps=25, refine=False))
    parts = read_exact(bytes(data))
    from tfcodec.bitstream import TinyChunk, read_stream

    first = next(c for c in read_stream(bytes(data)).chunks if isinstance(c, TinyChunk))
    at = bytes(data).index(first.payload)
    data[at] ^= 0x55
    with pytest.raises(tfcodec.ChecksumError):
        tfcodec.decode(bytes(data))
    clip = tfcodec.decode(bytes(data), errors="conceal")
    assert clip.damaged
    assert clip.frames is not None
    assert len(clip.frames) == 20
    assert np.array_equal(clip.tiny[10:], parts.tiny[10:])  # what follows the next keyframe is whole
    assert (clip.tiny[:10] == clip.tiny[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(tfcodec.TfcodecError):
        tfcodec.decode(data)


@pytest.mark.parametrize("source", [123, None, "no/such/file.tfc", "."])
def test_bad_sources(source: object) -> None:
    with pytest.raises(tfcodec.TfcodecError):
        tfcodec.decode(source)  # type: ignore[call-overload]


def test_unknown_network(stream: bytes, moving_face: Face, clip: tfcodec.Clip) -> None:
    from dataclasses import replace

    from tfcodec.bitstream import StreamHeader, read_stream, write_signature

    chunks = read_stream(stream).chunks
    assert isinstance(chunks[0], StreamHeader)
    for header in (replace(chunks[0], model_id=77), replace(chunks[0], model_hash=b"\0\1\2\3")):
        data = b"".join([write_signature(), header.to_bytes(), *(c.to_bytes() for c in chunks[1:])])
        with pytest.raises(tfcodec.WeightsError, match="pixels=False"):
            tfcodec.decode(data)
        exact = tfcodec.decode(data, pixels=False)
        assert np.array_equal(exact.tiny, clip.tiny)
        assert np.array_equal(there(exact.audio), there(clip.audio))
        assert tfcodec.probe(data).model_id == header.model_id


@pytest.mark.parametrize("latency", ["call", "file"])
def test_speech_of_every_type_gives_the_same_packets(latency: Literal["call", "file"], moving_face: Face) -> None:
    frames, audio = moving_face
    whole = np.round(audio[: 640 * 6] * 32767).astype(np.int16)
    out = []
    for sound in (whole, whole.astype(">i2"), whole / np.float32(32768), whole / 32768.0, (whole / 32768).tolist()):
        encoder = Encoder(latency=latency, refine=False, motion=False, origin=0)
        out.append(encoder.push(frames[:6], sound) + encoder.flush())
    assert all(packets == out[0] for packets in out)
    assert len(b"".join(out[0])) > 300


@pytest.mark.parametrize("latency", ["call", "file"])
@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros((2, 640), np.float32), r"\[2, 640\]"),
        (np.float32(0.5), "mono"),
        (np.zeros(640, np.int32), "int32"),
        (np.zeros(640, np.uint8), "uint8"),
        (np.zeros(640, np.complex64), "complex64"),
        (np.zeros(640, bool), "bool"),
        ("speech", "sound must be float"),
        ([[0.0], [0.0, 1.0]], "array of numbers"),
        (np.array([0.0, 0.5, np.nan, np.inf]), "sample 2"),
        (np.array([0.0, 1e300]), "sample 1"),
    ],
)
def test_encoder_refuses_wrong_speech_and_goes_on(
    latency: Literal["call", "file"], sound: Any, message: str, moving_face: Face
) -> None:
    frames, audio = moving_face
    first, second = ((frames[i : i + 2], audio[640 * i : 640 * (i + 2)]) for i in (0, 2))
    encoder = Encoder(latency=latency, refine=False, motion=False, origin=0)
    expected = encoder.push(*first) + encoder.push(*second) + encoder.flush()
    encoder.reset()
    got = encoder.push(*first)
    for frame in (None, frames[2], frames[:0]):
        with pytest.raises(tfcodec.MediaError, match=message):
            encoder.push(frame, sound)
    assert got + encoder.push(*second) + encoder.flush() == expected


@pytest.mark.parametrize("latency", ["call", "file"])
def test_a_flushed_encoder_takes_nothing(latency: Literal["call", "file"], moving_face: Face) -> None:
    frames, audio = moving_face
    encoder = Encoder(latency=latency, refine=False, motion=False, origin=0)
    encoder.push(frames[:0], audio[:320])  # no frames: speech alone
    assert encoder.push(frames[0], audio[320:640]) + encoder.flush()
    for frame in (None, frames[0]):
        with pytest.raises(tfcodec.TfcodecError, match="flushed"):
            encoder.push(frame, audio[:640])


def test_encoder_refuses_wrong_frames() -> None:
    encoder = Encoder()
    for bad in (np.zeros((255, 256, 3), np.uint8), np.zeros((256, 256, 3), np.float32), [[1]]):
        with pytest.raises(tfcodec.MediaError):
            encoder.push(bad)  # type: ignore[arg-type]
