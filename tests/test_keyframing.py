"""What is computed once a keyframe, and once a call: the same as without, and no more often than needed."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec.codec.call import decoder as call_decoder
from tfcodec.codec.call.conceal import Scene
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.metrics.pixels import psnr
from tfcodec.model import keyframing, tracking
from tfcodec.model.registry import ModelEntry, default_model, stand_ins
from tfcodec.model.renderer import MEL_SILENCE, Drawer, Renderer, has_bfloat16, tiny_windows
from tfcodec.motion import SENT
from tfcodec.tinyframe import tiny_from_frames, tiny_to_rgb

Face = tuple[np.ndarray, np.ndarray]
NETWORKS = [default_model(), *stand_ins(default_model()).values()]


@pytest.fixture(scope="module")
def keyframe(moving_face: Face) -> np.ndarray:
    return decode_keyframe(encode_keyframe(moving_face[0][0], 5, fast=True))


@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not multiply in bfloat16")
@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: entry.title)
def test_packed_keyframes_draw_the_same(
    moving_face: Face, keyframe: np.ndarray, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, _ = moving_face
    tiny = tiny_windows(tiny_to_rgb(tiny_from_frames(frames[:20:4])), np.arange(5))
    mel = np.full((5, 20, 80), MEL_SILENCE, np.float32)
    pictures = []
    for fast in (True, False):
        monkeypatch.setattr(keyframing, "can_pack", lambda fast=fast: fast)
        renderer = Renderer(entry, fast=True)
        renderer.set_keyframe(keyframe.copy())
        pictures.append(renderer.render(tiny, mel))
    packed, plain = pictures
    assert not np.array_equal(packed, plain)
    assert psnr(packed, plain).min() > 58


def test_two_renderers_compute_a_keyframe_once(keyframe: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[np.ndarray] = []
    compute = keyframing.Keyframes._compute

    def counted(keyframes: keyframing.Keyframes, picture: np.ndarray, *how: Any) -> keyframing.Known:
        computed.append(picture)
        return compute(keyframes, picture, *how)

    monkeypatch.setattr(keyframing.Keyframes, "_compute", counted)
    keyframes = keyframing.Keyframes(threads=2)
    one, other = (Renderer(default_model(), fast=True, keyframes=keyframes) for _ in range(2))
    second = keyframe.copy()
    for picture in (keyframe, second, keyframe):
        one.set_keyframe(picture)
        other.set_keyframe(picture)
    assert len(computed) == 2
    keyframes.close()
    one.set_keyframe(keyframe.copy())  # a thread may be late
    assert len(computed) == 3


def test_a_recorded_tracker_finds_the_same(moving_face: Face) -> None:
    frames = moving_face[0][:3]
    tracker = tracking.default_tracker()
    recorded = tracking.recorded(tracker, 1, 2)
    assert tracking.recorded(tracker) is recorded
    marks, scores = tracking.find(frames, tracker)
    for count in (1, 2, 3):
        found, sure = tracking.find(frames[:count], tracker, recorded)
        assert np.abs(found - marks[:count]).max() < 0.01  # pixels
        assert np.abs(sure - scores[:count]).max() < 1e-4


def test_loading_a_network_loads_no_compiler() -> None:
    code = (
        "import sys, tfcodec.model.registry as r, tfcodec.model.weights as w; w.load_model(r.default_model());"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def packets_of(frames: np.ndarray) -> list[list[tfcodec.Packet]]:
    encoder = tfcodec.Encoder(latency="call", audio=False, motion=False, origin=0)
    return [encoder.push(frame) for frame in frames]


def test_a_picture_in_which_nothing_moves_is_drawn_once(moving_face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Scene] = []
    draw = Scene.draw

    def counted(scene: Scene, renderer: Drawer) -> np.ndarray:
        drawn.append(scene)
        return draw(scene, renderer)

    monkeypatch.setattr(Scene, "draw", counted)
    monkeypatch.setattr(call_decoder, "RECORD_FROM", 1 << 30)
    decoder = tfcodec.Decoder()
    for group in packets_of(np.repeat(moving_face[0][:1], 24, 0)):
        for packet in group:
            decoder.push(packet)
        decoder.pull()
    assert decoder.stats.shown > 20
    assert 0 < len(drawn) < decoder.stats.shown
    still, other = (Scene(decoder.call.receiver, frame) for frame in (22, 23))
    assert still.same(other)
    assert not still.same(None)
    for name, value in (("windows", still.windows + 1), ("motion", np.full((1, 17), SENT)), ("sound", still.mel)):
        changed = Scene(decoder.call.receiver, 23)
        setattr(changed, name, value)
        assert not still.same(changed)
        assert not changed.same(still)


def test_a_worker_knows_a_keyframe_before_its_frames_come(moving_face: Face) -> None:
    (keyframe,), *_ = packets_of(moving_face[0][:2])[:1]
    with tfcodec.Decoder(worker=True) as decoder:
        decoder.push(keyframe)
        worker = decoder._worker
        assert worker is not None
        until = time.monotonic() + 120
        while time.monotonic() < until:
            known = decoder.call.receiver.keyframe
            shared = worker._keyframes
            if known is not None and shared is not None and any(k.picture is known.picture for k in shared._known):
                break
            time.sleep(0.02)
        else:
            pytest.fail("the keyframe was not looked at")
        assert decoder.shown is None
