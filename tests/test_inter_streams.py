"""Keyframes that refer to the one before, in files and calls: random access, damage, loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_keyframe import drawn_face

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.cli import main
from tfcodec.codec import policy
from tfcodec.codec.call.receiver import Receiver
from tfcodec.codec.file.decoder import read_exact
from tfcodec.codec.parts import Sending, StreamEncoder
from tfcodec.codec.parts.stream import stream_header

SHIFTS = (0, 2, 5)
EACH = 4


def frames() -> np.ndarray:
    """[12, 256, 256, 3]: a drawn face that stands at three places, one after the other."""
    face = drawn_face()
    return np.concatenate([np.repeat(np.roll(face, shift, 1)[None], EACH, 0) for shift in SHIFTS])


@pytest.fixture(scope="module")
def stream() -> bytes:
    """Three keyframes, the later ones as differences; no motion, so that no network is needed."""
    coder, pictures = StreamEncoder(Sending(3, "call", None, motion=False)), frames()
    chunks: list[bs.Chunk] = []
    for n in range(len(SHIFTS)):
        chunks.append(coder.keyframe(pictures[EACH * n], EACH * n, refer=n > 0))
        chunks += coder.chunks(pictures[EACH * n : EACH * (n + 1)], EACH * n)
    header = stream_header(None, len(pictures))
    return bs.write_signature() + b"".join(chunk.to_bytes() for chunk in (header, *chunks))


def test_info_says_which(stream: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tfcodec.probe(stream).inter_keyframes == (1, 2)
    path = tmp_path / "a.tfc"
    path.write_bytes(stream)
    assert main(["info", str(path)]) == 0
    assert "differences from the one before: 1, 2" in capsys.readouterr().out
    keys = bs.read_stream(stream).keyframes
    assert len(keys[1].data) < 0.7 * len(keys[0].data)


def test_any_frame_alone_is_that_of_the_whole(stream: bytes) -> None:
    with tfcodec.open(stream, pixels=False) as reader:
        whole = [frame.tiny for frame in reader]
        pictures = reader.keyframes()
    exact = read_exact(stream)
    assert [first for first, _ in pictures] == [0, 4, 8]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(pictures, exact.keyframes, strict=True))
    for number in (11, 6, 8, 0):
        with tfcodec.open(stream, pixels=False) as reader:
            assert np.array_equal(reader[number].tiny, whole[number])


def test_damage_ends_with_the_chain_and_is_never_a_wrong_picture(stream: bytes) -> None:
    parsed = bs.read_stream(stream)
    broken = bs.write_signature()
    for chunk in parsed.chunks:
        data = bytearray(chunk.to_bytes())
        if isinstance(chunk, bs.InterKeyframeChunk) and chunk.keyframe_tag == 1:
            data[20] ^= 1
        broken += bytes(data)
    with pytest.raises(tfcodec.BitstreamError):
        read_exact(broken)
    exact = read_exact(broken, errors="conceal")
    assert len(exact.tiny) == 12
    assert [first for first, _ in exact.keyframes] == [0]
    assert any("refers to" in note for note in exact.damaged)
    with tfcodec.open(broken, errors="conceal", pixels=False) as reader:
        assert np.array_equal(reader[10].tiny, exact.tiny[10])
        assert [first for first, _ in reader.keyframes()] == [0]


@pytest.fixture
def drifting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call asks for a keyframe at every fourth frame, as if the picture had gone astray."""
    monkeypatch.setattr(policy.CallPolicy, "wants", lambda self, frame, mark: frame % EACH == 0)


def chunk_of(packets: list[tfcodec.Packet]) -> type:
    data = b"".join(p.data for p in map(bs.parse_packet, packets) if isinstance(p, bs.KeyframePacket))
    return type(next(c for c in bs.iter_chunks(data) if isinstance(c, bs.KeyframeChunk)))


def turn(encoder: tfcodec.Encoder, receiver: Receiver, frame: np.ndarray, tick: int, kinds: list[type]) -> bytes:
    """Send a frame, note the kind of its keyframe if there is one, and give what the receiver says."""
    sent = encoder.push(frame)
    if any(p.keyframe for p in sent):
        kinds.append(chunk_of(sent))
    for packet in sent:
        receiver.push(packet)
    said = receiver.feedback(tick)
    assert said is not None
    return said


@pytest.mark.usefixtures("drifting")
def test_a_call_refers_to_what_the_receiver_has() -> None:
    encoder = tfcodec.Encoder(3, "call", audio=False, bundle=1, motion=False)
    receiver, tick = Receiver(), 0
    kinds: list[type] = []
    for frame in frames():
        tick += 30
        said = turn(encoder, receiver, frame, tick, kinds)
        assert not encoder.push_feedback(said)
    assert kinds == [bs.KeyframeChunk, bs.InterKeyframeChunk, bs.InterKeyframeChunk]
    assert sorted(receiver.frames) == list(range(12))
    assert not receiver.wanted


@pytest.mark.usefixtures("drifting")
def test_without_feedback_every_keyframe_stands_alone() -> None:
    encoder = tfcodec.Encoder(3, "call", audio=False, bundle=1, motion=False)
    kinds = [chunk_of(sent) for sent in map(encoder.push, frames()) if any(p.keyframe for p in sent)]
    assert kinds == [bs.KeyframeChunk] * 3


@pytest.mark.usefixtures("drifting")
def test_a_lost_reference_never_wedges_a_call() -> None:
    """The receiver loses what it has said that it has, so that the second keyframe is of no use to it."""
    encoder = tfcodec.Encoder(3, "call", audio=False, bundle=1, motion=False)
    receiver, tick = Receiver(), 0
    kinds: list[type] = []
    pictures = frames()
    for number, frame in enumerate([*pictures[:8], *pictures[4:7]]):
        if number == 4:
            receiver._keyframes.clear()
        tick += 30
        said = turn(encoder, receiver, frame, tick, kinds)
        if number == 4:
            parsed = bs.parse_packet(said)
            assert isinstance(parsed, bs.FeedbackPacket)
            assert parsed.orphaned
            assert parsed.wanted
        if number != 4:  # and what it says is lost once
            encoder.push_feedback(said)
    assert kinds[:3] == [bs.KeyframeChunk, bs.InterKeyframeChunk, bs.KeyframeChunk]
    assert not receiver.wanted
    assert set(range(6, 11)) <= set(receiver.frames)


@pytest.mark.usefixtures("drifting")
def test_a_requested_keyframe_stands_alone() -> None:
    encoder, receiver = tfcodec.Encoder(3, "call", audio=False, bundle=1, motion=False), Receiver()
    for frame in frames()[:4]:
        for packet in encoder.push(frame):
            receiver.push(packet)
    said = receiver.feedback(30)
    assert said is not None
    encoder.push_feedback(said)
    encoder.request_keyframe()
    assert chunk_of(encoder.push(frames()[4])) is bs.KeyframeChunk
