"""The motion layer in files and calls: what the sender's tracker sees is what the receiver's picture does."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import there

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.bitstream import MotionChunk, MotionTablesChunk
from tfcodec.codec.call.conceal import Scene
from tfcodec.codec.file.decoder import read_exact
from tfcodec.codec.file.encoder import FileEncoder, finish_file
from tfcodec.codec.options import EncodeOptions
from tfcodec.errors import UnsupportedVersion
from tfcodec.model.tracker import FaceTracker, mouth_opening
from tfcodec.model.tracking import track
from tfcodec.motion import LOST, MOTION_ID, NUMBERS, SENT, UNIT, distance, motion_hash, synthesise

Face = tuple[np.ndarray, np.ndarray]
Frames = np.ndarray


PARTS_OF_VIDEO = ("container", "keyframe", "tiny", "motion")


def listening(coder: Any) -> list[np.ndarray]:
    """What an encoder's layer of motion will say that the receiver gets, payload by payload."""
    layer, taken = coder.stream.layers["motion"], []
    encode_into = layer.encode_into

    def watched(*args: Any) -> None:
        encode_into(*args)
        taken.append(layer.said)

    layer.encode_into = watched
    return taken


@pytest.fixture(scope="module")
def two_scenes(moving_face: Face) -> tuple[Frames, bytes, np.ndarray]:
    """Two scenes with a face, of 14 and 12 frames, as a file; and the numbers that the encoder built on."""
    frames = np.concatenate([moving_face[0][:14], moving_face[0][30:42, :, ::-1]])
    coder = FileEncoder(EncodeOptions(refine=False), audio=False)
    taken, chunks = listening(coder), []
    for t, frame in enumerate(frames):
        if t == 14:
            coder.request_keyframe()
        chunks += coder.push_chunks(frame)
    return frames, finish_file(coder, chunks), np.concatenate(taken)


@pytest.fixture(scope="module")
def talking() -> tuple[Frames, np.ndarray]:
    """A portrait with strings that opens its mouth twice, blinks once and sways; and how far its mouth is open."""
    pytest.importorskip("skimage", reason="needs the portrait: pip install 'tfcodec[demo]'")
    from make_demo_clip import Puppet

    puppet, time = Puppet(256), np.arange(26)
    opening = np.clip(np.sin(time / 13 * 2 * np.pi), 0, 1)
    frames = [
        puppet.pose(opening=float(o) - 0.3, blink=float(t in (16, 17)), sway=(3 * np.sin(t / 6), 0.0))
        for t, o in zip(time, opening, strict=True)
    ]
    return np.stack(frames), opening


def chunks_of(data: bytes) -> list[Any]:
    return list(bs.read_stream(data).chunks)


def joined(chunks: list[Any]) -> bytes:
    return b"".join([bs.write_signature(), *(chunk.to_bytes() for chunk in chunks)])


# Files


def test_a_file_holds_the_encoders_numbers(two_scenes: tuple[Frames, bytes, np.ndarray]) -> None:
    frames, data, said = two_scenes
    parts = read_exact(data)
    got = parts.layers["motion"]
    assert got.shape == (len(frames), NUMBERS + 1)
    assert np.array_equal(got, said)
    assert (got[:, NUMBERS] == SENT).all()
    assert [first for first, _ in parts.keyframes] == [0, 14]
    kinds = [type(chunk).__name__ for chunk in chunks_of(data)]
    scene = ["KeyframeChunk", "MotionChunk", "TinyChunk"]
    assert kinds == ["StreamHeader", "MotionTablesChunk", *scene, *scene]
    assert chunks_of(data)[1] == MotionTablesChunk(MOTION_ID, motion_hash())


def test_bytes_are_counted(two_scenes: tuple[Frames, bytes, np.ndarray]) -> None:
    _, data, _ = two_scenes
    info = tfcodec.probe(data)
    assert info.bytes["motion"] == sum(len(c.payload) for c in chunks_of(data) if isinstance(c, MotionChunk)) > 0
    assert sum(info.bytes[part] for part in PARTS_OF_VIDEO) == info.bytes["total"] == len(data)


def test_numbers_say_how_the_face_moved(moving_face: Face) -> None:
    """The drawn face sways by 14 pixels: the receiver's landmarks do too."""
    frames = moving_face[0][:48]
    parts = read_exact(tfcodec.encode(frames, fps=25, refine=False))
    ((_, keyframe),) = parts.keyframes
    reference = track(keyframe[None], ahead=0)[0][0]
    marks = synthesise(reference, parts.layers["motion"][:, :NUMBERS])
    sway = 128 + 14 * np.sin(np.arange(48) / 9)
    assert np.corrcoef(marks.mean(1)[:, 0], sway)[0, 1] > 0.97
    assert np.abs(marks.mean(1)[:, 0] - marks.mean(1)[:, 0].mean() - (sway - sway.mean())).max() < 4
    assert np.ptp(parts.layers["motion"][:, 2]) * distance(reference) / UNIT == pytest.approx(np.ptp(sway), abs=4)


def test_the_picture_opens_its_mouth_when_the_source_does(talking: tuple[Frames, np.ndarray]) -> None:
    """As a tracker sees the pictures drawn: with motion the mouth follows the source, without it hardly moves."""
    frames, opening = talking
    found = {}
    for motion in (True, False):
        shown = tfcodec.decode(tfcodec.encode(frames, fps=25, refine=False, motion=motion)).frames
        assert shown is not None
        marks, there = track(shown, ahead=0)
        assert there.all()
        found[motion] = mouth_opening(torch.from_numpy(marks)).numpy()
    assert np.corrcoef(found[True], opening)[0, 1] > 0.9
    assert np.ptp(found[True]) > 2 * np.ptp(found[False])


def test_without_motion_there_is_none(moving_face: Face, tmp_path: Path) -> None:
    frames = moving_face[0][:6]
    data = tfcodec.encode(frames, fps=25, refine=False, motion=False)
    assert not any(isinstance(chunk, MotionChunk | MotionTablesChunk) for chunk in chunks_of(data))
    assert tfcodec.probe(data).bytes["motion"] == 0
    assert "motion" not in read_exact(data).layers
    with_it = tfcodec.encode(frames, fps=25, refine=False)
    assert np.array_equal(read_exact(with_it).tiny, read_exact(data).tiny)  # what else there is stays the same
    np.save(tmp_path / "frames.npy", frames)
    code = (
        "import sys\nsys.modules['torch'] = None\nimport numpy as np, tfcodec\n"
        f"frames = np.load({str(tmp_path / 'frames.npy')!r})\n"
        "for latency in ('file', 'call'):\n"
        "    coder = tfcodec.Encoder(latency=latency, audio=False, refine=False, motion=False)\n"
        "    print(len(coder.push(frames) + coder.flush()) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_without_a_face_no_numbers_are_sent() -> None:
    y, x = np.mgrid[:256, :256].astype(np.float32)
    shades = [np.stack([110 + 40 * np.sin((x + 3 * t) / 31), 120 + 30 * np.cos(y / 23), x / 2], -1) for t in range(10)]
    frames = np.stack(shades).astype(np.uint8)
    data = tfcodec.encode(frames, fps=25, refine=False)
    parts = read_exact(data)
    assert not parts.layers["motion"].any()
    assert tfcodec.probe(data).bytes["motion"] <= 4
    assert tfcodec.decode(data).frames is not None
    call = tfcodec.Encoder(latency="call", audio=False)
    decoder = tfcodec.Decoder()
    for packet in call.push(frames) + call.flush():
        decoder.push(packet)
    assert sorted(decoder.call.receiver.frames) == list(range(10))
    assert not any(frame.layers["motion"].any() for frame in decoder.call.receiver.frames.values())


def test_a_face_that_comes_and_goes(moving_face: Face) -> None:
    frames = moving_face[0][:12].copy()
    frames[5:8] = 128
    coder = FileEncoder(EncodeOptions(refine=False), audio=False)
    taken = listening(coder)
    chunks = [chunk for frame in frames for chunk in coder.push_chunks(frame)]
    got = read_exact(finish_file(coder, chunks)).layers["motion"]
    assert np.array_equal(got, np.concatenate(taken))
    assert not got[5:8, NUMBERS].any()
    assert got[:5, NUMBERS].all()


def test_a_tracker_of_ones_own_is_asked(moving_face: Face) -> None:
    blind = FaceTracker().eval().requires_grad_(False)
    last = blind.present[2]
    assert isinstance(last, torch.nn.Linear)
    last.bias.fill_(-50.0)
    for latency in ("file", "call"):
        coder = tfcodec.Encoder(latency=latency, audio=False, refine=False, motion=blind)
        taken = listening(coder._road)
        assert coder.push(moving_face[0][:4]) + coder.flush()
        assert not np.concatenate(taken)[:, NUMBERS].any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("latency", ["file", "call"])
def test_a_tracker_that_finds_the_face_nowhere_is_refused(latency: Any, moving_face: Face) -> None:
    astray = FaceTracker().eval().requires_grad_(False)
    astray.coarse.shape.bias.fill_(float("nan"))
    last = astray.present[2]
    assert isinstance(last, torch.nn.Linear)
    last.weight.zero_()
    last.bias.fill_(50.0)
    coder = tfcodec.Encoder(latency=latency, audio=False, refine=False, motion=astray)
    with pytest.raises(tfcodec.TfcodecError, match="not finite"):
        assert coder.push(moving_face[0][:4]) + coder.flush()


def test_lost_motion_is_held_and_costs_nothing_else(two_scenes: tuple[Frames, bytes, np.ndarray]) -> None:
    frames, data, said = two_scenes
    whole = read_exact(data)
    chunks = chunks_of(data)
    first, second = (i for i, chunk in enumerate(chunks) if isinstance(chunk, MotionChunk))
    for lost, gone in ((first, slice(0, 14)), (second, slice(14, 26))):
        with pytest.raises(tfcodec.BitstreamError):
            read_exact(joined(chunks[:lost] + chunks[lost + 1 :]))
        damaged = bytearray(data)
        at = data.index(chunks[lost].to_bytes())
        damaged[at + 6] ^= 0x10
        parts = read_exact(bytes(damaged), "conceal")
        assert parts.damaged
        assert np.array_equal(parts.tiny, whole.tiny)
        got = parts.layers["motion"]
        kept = np.ones(len(frames), bool)
        kept[gone] = False
        assert np.array_equal(got[kept], said[kept])
        assert not got[gone, :NUMBERS].any()  # where the keyframe shows the face
        assert (got[gone, NUMBERS] == LOST).all()  # so that the speech moves the lips
    shown = tfcodec.decode(bytes(damaged), errors="conceal").frames
    assert shown is not None
    assert len(shown) == len(frames)


def test_other_tables_are_refused(two_scenes: tuple[Frames, bytes, np.ndarray]) -> None:
    _, data, _ = two_scenes
    chunks = chunks_of(data)
    at = next(i for i, chunk in enumerate(chunks) if isinstance(chunk, MotionTablesChunk))
    for other in (replace(chunks[at], motion_id=2), replace(chunks[at], motion_hash=b"\0\1\2\3")):
        stream = joined([*chunks[:at], other, *chunks[at + 1 :]])
        assert tfcodec.probe(stream).frames == 26  # what is in it can be said
        for read in (read_exact, tfcodec.decode, lambda s: list(tfcodec.open(s, pixels=False))):
            with pytest.raises(UnsupportedVersion, match="motion"):
                read(stream)


# Calls


@pytest.fixture(scope="module")
def call(moving_face: Face) -> tuple[list[bytes], np.ndarray]:
    """Packets of a call of 20 frames without speech, 2 frames in each; and the numbers that the sender built on."""
    coder = tfcodec.Encoder(latency="call", audio=False, redundancy=0, refresh=1000)
    taken = listening(coder._road)
    packets: list[bytes] = list(coder.push(moving_face[0][:20]) + coder.flush())
    return packets, np.concatenate(taken)


def heard(packets: list[bytes]) -> tfcodec.Decoder:
    decoder = tfcodec.Decoder()
    for packet in packets:
        decoder.push(packet)
    return decoder


def test_a_call_carries_the_senders_numbers(call: tuple[list[bytes], np.ndarray]) -> None:
    packets, said = call
    frames = heard(packets).call.receiver.frames
    got = np.stack([frames[t].layers["motion"] for t in range(20)])
    assert np.array_equal(got, said)
    assert got[:, NUMBERS].all()
    assert np.ptp(got[:, 2]) > 0
    counted = [packet.parts.get("motion", 0) for packet in packets]  # type: ignore[attr-defined]
    assert 0 < sum(counted) < 100
    units = [p for p in map(bs.parse_packet, packets) if isinstance(p, bs.MediaPacket)]
    assert sum(len(u.payload) for p in units for u in p.units) == sum(
        packet.parts.get("motion", 0) + packet.parts.get("tiny", 0) for packet in packets  # type: ignore[attr-defined]
    )


def test_a_lost_packet_holds_or_fills_in_motion(call: tuple[list[bytes], np.ndarray]) -> None:
    packets, said = call
    receiver = heard(packets).call.receiver
    frames = receiver.frames
    # At the end there is one side only: the head stands, and the mouth is left to the speech.
    last = frames.pop(19), frames.pop(18)
    assert len(last) == 2
    receiver.newest = 17
    held = Scene(receiver, 18).motion
    assert held is not None
    assert np.array_equal(held[0, :NUMBERS], said[17, :NUMBERS])
    assert held[0, NUMBERS] == LOST
    # Within, what lies between.
    for t in (8, 9):
        del frames[t]
    for t, share in ((8, 1 / 3), (9, 2 / 3)):
        between = Scene(receiver, t).motion
        assert between is not None
        wanted = said[7] * (1 - share) + said[10] * share
        assert np.abs(between[0] - wanted).max() <= 0.5 + 1e-9
        assert between[0, NUMBERS] == SENT
    whole = Scene(receiver, 7).motion
    assert np.array_equal(there(whole), said[7:8])


def test_a_loss_on_the_way_costs_what_builds_on_it(moving_face: Face) -> None:
    coder = tfcodec.Encoder(latency="call", audio=False, bundle=1, redundancy=0, refresh=6)
    taken = listening(coder._road)
    decoder, number = tfcodec.Decoder(), 0
    for t in range(18):
        for packet in coder.push(moving_face[0][t]):
            if t != 8:
                decoder.push(packet)
            number += 1
        decoder.pull(draw=False)
    said, frames = np.concatenate(taken), decoder.call.receiver.frames
    assert set(range(18)) - frames.keys() == {8, 9, 10, 11}  # until the restart
    for t in (7, 12, 17):
        assert np.array_equal(frames[t].layers["motion"], said[t])


def test_other_tables_are_refused_in_a_call(call: tuple[list[bytes], np.ndarray]) -> None:
    packets, _ = call
    key = [p for p in map(bs.parse_packet, packets) if isinstance(p, bs.KeyframePacket)]
    whole = b"".join(p.data for p in key)
    ours = MotionTablesChunk(MOTION_ID, motion_hash()).to_bytes()
    assert whole.count(ours) == 1
    whole = whole.replace(ours, MotionTablesChunk(MOTION_ID, b"\0\1\2\3").to_bytes())
    decoder = tfcodec.Decoder()

    def push() -> None:
        for number, (offset, length) in enumerate(bs.fragment(len(whole), [(0, len(whole))])):
            data = whole[offset : offset + length]
            packet = bs.KeyframePacket(number, 0, key[0].keyframe_tag, len(whole), offset, data)
            decoder.push(packet.to_bytes())

    with pytest.raises(UnsupportedVersion, match="motion"):
        push()


def test_a_call_without_motion(moving_face: Face) -> None:
    coder = tfcodec.Encoder(latency="call", audio=False, motion=False)
    packets = coder.push(moving_face[0][:6]) + coder.flush()
    assert all("motion" not in packet.parts for packet in packets)
    decoder = heard(list(packets))
    assert all(frame.layers.keys() == {"tiny"} for frame in decoder.call.receiver.frames.values())
    assert Scene(decoder.call.receiver, 3).motion is None
    assert (decoder.pull() != 128).any()
