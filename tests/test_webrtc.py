"""Calls over WebRTC: two peers in one process. The example, whose other peer is a page, is in test_player.py."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import tfcodec
from tfcodec.simulator import Link

ROOT = Path(__file__).resolve().parents[1]
Face = tuple[np.ndarray, np.ndarray]

aiortc = pytest.importorskip("aiortc", reason="needs the extra webrtc")
bridge = pytest.importorskip("tfcodec.contrib.aiortc")


def test_without_aiortc_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['aiortc'] = None\nimport tfcodec.contrib\nimport tfcodec.contrib.aiortc"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 1
    assert "pip install 'tfcodec[webrtc]'" in result.stderr.splitlines()[-1]


async def connect(receiver: Any, **options: Any) -> tuple[Any, Any, Any]:
    """A sender joined to the receiver on loopback; (sender, its connection, the receiver's connection)."""
    config = aiortc.RTCConfiguration([])
    a, b = aiortc.RTCPeerConnection(config), aiortc.RTCPeerConnection(config)
    channels = bridge.open_channels(a)
    b.on("datachannel", receiver.attach)
    await a.setLocalDescription(await a.createOffer())
    await b.setRemoteDescription(a.localDescription)
    await b.setLocalDescription(await b.createAnswer())
    await a.setRemoteDescription(b.localDescription)
    sender = bridge.CallSender(*channels, **options)
    for _ in range(500):
        if all(channel.readyState == "open" for channel in channels):
            return sender, a, b
        await asyncio.sleep(0.01)
    raise AssertionError("the channels did not open")


def in_a_call(face: Face, body: Callable[[Any, Any], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Send frames in real time while `body` runs."""

    async def run() -> None:
        receiver = bridge.CallReceiver()
        sender, a, b = await connect(receiver, audio=True, **options)
        task = asyncio.create_task(body(sender, receiver))
        began = time.monotonic()
        for t in itertools.count():
            if task.done():
                break
            i = abs(t % 118 - 59)
            sender.push(face[0][i], face[1][640 * i : 640 * (i + 1)])
            await asyncio.sleep(max(0, began + 0.04 * (t + 1) - time.monotonic()))
        await task
        sender.close()
        receiver.close()
        await a.close()
        await b.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 100) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return condition()


@pytest.mark.alone
def test_a_call_over_data_channels(moving_face: Face) -> None:
    seen: dict[str, Any] = {"late": 0.0}

    async def body(sender: Any, receiver: Any) -> None:
        async def watch_the_loop() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.005)
                seen["late"] = max(seen["late"], time.perf_counter() - began - 0.005)

        assert await until(lambda: receiver.decoder.stats.shown > 5)
        watch = asyncio.create_task(watch_the_loop())
        seen["pictures"] = [await receiver.video.recv() for _ in range(25)]
        seen["sound"] = [await receiver.audio.recv() for _ in range(10)]
        sender.request_keyframe()
        watch.cancel()
        seen["stats"], seen["bytes"], seen["wire"] = receiver.decoder.stats, dict(sender.bytes), receiver.bytes

    in_a_call(moving_face, body)
    pictures = [frame.to_ndarray(format="rgb24") for frame in seen["pictures"]]
    assert pictures[0].shape == (256, 256, 3)
    assert any(not np.array_equal(pictures[0], picture) for picture in pictures)
    times = [frame.pts for frame in seen["pictures"]]
    assert all(b > a and (b - a) % 3600 == 0 for a, b in itertools.pairwise(times))
    assert {(frame.sample_rate, frame.samples) for frame in seen["sound"]} == {(16000, 640)}
    assert seen["stats"].lost == 0
    assert seen["stats"].damaged == 0
    parts = {k: v for k, v in seen["bytes"].items() if k != "wire"}
    assert all(parts[part] > 0 for part in ("tiny", "header", "keyframe", "speech"))
    assert seen["bytes"]["wire"] > sum(parts.values())
    assert seen["wire"]["feedback"] > 0
    # The bound that counts is measured on a quiet machine (benchmarks/measure/call_live.py).
    # Here it must not be drawing time.
    assert seen["late"] < 0.25


@pytest.mark.alone
def test_a_burst_of_loss_is_recovered_from(moving_face: Face) -> None:
    seen: dict[str, Any] = {}

    async def body(sender: Any, receiver: Any) -> None:
        assert await until(lambda: receiver.decoder.stats.shown > 5)
        sender.link = Link(1.0)
        await asyncio.sleep(0.5)
        sender.link = Link(0.0, delay=0.02)  # keyframes stay on the packet channel
        seen["held"] = receiver.decoder.stats.held
        position = receiver.decoder.position
        assert await until(lambda: receiver.decoder.position > position + 12)
        sender.request_keyframe()
        keyframes = sender.bytes["keyframe"]
        assert await until(lambda: sender.bytes["keyframe"] > keyframes)
        assert await until(lambda: not receiver.decoder.wants_keyframe)
        seen["lost"] = receiver.decoder.stats.lost

    in_a_call(moving_face, body)
    assert seen["held"] >= 5
    assert seen["lost"] >= 3


def test_a_track_can_be_sent_on(moving_face: Face) -> None:
    """Decoded tracks are ordinary: a third peer gets them as video."""
    got: list[Any] = []

    async def body(sender: Any, receiver: Any) -> None:
        assert await until(lambda: receiver.decoder.stats.shown > 2)
        config = aiortc.RTCConfiguration([])
        a, b = aiortc.RTCPeerConnection(config), aiortc.RTCPeerConnection(config)
        a.addTrack(receiver.video)
        tracks: list[Any] = []
        b.on("track", tracks.append)
        await a.setLocalDescription(await a.createOffer())
        await b.setRemoteDescription(a.localDescription)
        await b.setLocalDescription(await b.createAnswer())
        await a.setRemoteDescription(b.localDescription)
        got.extend([await asyncio.wait_for(tracks[0].recv(), 20) for _ in range(5)])
        await a.close()
        await b.close()

    in_a_call(moving_face, body)
    assert [(frame.width, frame.height) for frame in got] == [(256, 256)] * 5


def test_the_encoder_behind_gives_up_pictures_not_time(moving_face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, audio = moving_face
    taken: list[tuple[Any, Any]] = []

    class Slow:
        def __init__(self, **options: Any) -> None:
            pass

        def push(self, frame: Any, audio: Any) -> list[Any]:
            time.sleep(0.03)
            taken.append((frame, audio))
            return []

        def flush(self) -> list[Any]:
            return []

    monkeypatch.setattr(bridge, "Encoder", Slow)

    async def run() -> None:
        pc = aiortc.RTCPeerConnection(aiortc.RTCConfiguration([]))
        sender = bridge.CallSender(*bridge.open_channels(pc))
        for t in range(20):
            sender.push(frames[t], audio[640 * t : 640 * (t + 1)])
        assert sender.pictures_given_up > 10
        sender.close()
        for _ in range(200):
            if len(taken) == 20:
                break
            await asyncio.sleep(0.02)
        await pc.close()

    asyncio.run(run())
    assert len(taken) == 20  # every frame keeps its place, and all of the speech
    assert np.array_equal(np.concatenate([sound for _, sound in taken]), audio[: 20 * 640])
    assert np.array_equal(taken[-1][0], frames[19])
    assert all(picture is not None for picture, _ in taken)


def test_a_hidden_tab_a_text_message_and_a_channel_that_closes(moving_face: Face) -> None:
    """A timer that stands for 5 s and then fires for all of them, while the event loop has no turn at all."""

    async def run() -> None:
        receiver = bridge.CallReceiver()
        sender, a, b = await connect(receiver, audio=False, motion=False)
        try:
            for frame in moving_face[0][:10]:
                sender.push(frame)
                await asyncio.sleep(0.04)
            for t in range(125):
                sender.push(moving_face[0][t % 60])
            assert sender.pictures_given_up > 100
            assert len(sender._jobs) <= 126 + 10
            receiver._wire.channel.send("hello")
            sender._wire.channel.send("hello")
            until = time.monotonic() + 60
            while (receiver.decoder.position or 0) < 120 and time.monotonic() < until:
                sender.push(moving_face[0][0])
                await asyncio.sleep(0.04)
            assert (receiver.decoder.position or 0) >= 120
            assert receiver.error is None
            sender._wire.channel.close()
            for frame in moving_face[0][:10]:
                sender.push(frame)
                await asyncio.sleep(0.02)
            assert sender.error is None
        finally:
            sender.close()
            receiver.close()
            await a.close()
            await b.close()

    asyncio.run(run())


@pytest.mark.alone
def test_a_sender_that_restarts_and_a_receiver_that_joins_late(moving_face: Face) -> None:
    """On the same channels. Before ends were told apart, this took 4 to 12 s; how many ticks it may take is in
    test_odd_calls.py, here drawing and a busy machine come on top."""

    async def run() -> None:
        receiver = bridge.CallReceiver()
        attached: list[Any] = []
        attach = receiver.attach

        def note(channel: Any) -> None:
            attached.append(channel)
            attach(channel)

        receiver.attach = note
        first, a, b = await connect(receiver, audio=True, motion=False)
        ends: list[Any] = [receiver]

        async def push(sender: Any, done: Callable[[], bool], at_most: float) -> float:
            began = time.monotonic()
            for t in itertools.count():
                frame, rate = moving_face[0][abs(t % 118 - 59)], 48_000 if t % 20 < 10 else 44_100
                sound = av.AudioFrame.from_ndarray(np.full((1, rate // 25), 1000, np.int16), "s16", "mono")
                sound.sample_rate = rate
                sender.push(frame, [sound])
                await asyncio.sleep(max(0, began + 0.04 * (t + 1) - time.monotonic()))
                if done() or time.monotonic() > began + at_most:
                    break
            return time.monotonic() - began

        def shows(receiver: Any, below: int) -> bool:
            shown = receiver.decoder.shown
            return shown is not None and shown.state == "fresh" and shown.number < below

        again = None
        try:
            assert await push(first, lambda: (receiver.decoder.position or 0) > 75, 60) < 60
            first._closed = True  # it dies: no end is sent
            first._wake.set()
            again = bridge.CallSender(*(first._wire.channel, first._reliable.channel), audio=True, motion=False)
            assert await push(again, lambda: shows(receiver, 75), 3) < 3
            assert receiver.decoder.call.senders == 2
            ends.append(late := bridge.CallReceiver())
            for channel in attached:
                late.attach(channel)
            assert await push(again, lambda: shows(late, 1000), 3) < 3
            assert receiver.error is None
            assert late.error is None
            assert again.error is None
        finally:
            for end in (first, again, *ends):
                if end is not None:
                    end.close()
            await a.close()
            await b.close()

    asyncio.run(run())


def test_errors_of_the_encoder_come_out_of_push() -> None:
    async def run() -> None:
        pc = aiortc.RTCPeerConnection(aiortc.RTCConfiguration([]))
        sender = bridge.CallSender(*bridge.open_channels(pc), audio=False)
        sender.push(np.zeros((9, 9, 3), np.uint8))
        assert await until(lambda: sender.error is not None)
        with pytest.raises(tfcodec.MediaError, match=r"\[9, 9, 3\]"):
            sender.push(np.zeros((256, 256, 3), np.uint8))
        sender.close()
        await pc.close()

    asyncio.run(run())


class _Awkward(np.ndarray):
    """An array in which whoever looks at it runs into an error."""

    def __array_finalize__(self, made: object) -> None:
        pass

    def __getitem__(self, which: Any) -> Any:
        raise IndexError("not here")


def test_any_error_of_the_encoder_s_thread_comes_out_of_push() -> None:
    async def run() -> None:
        pc = aiortc.RTCPeerConnection(aiortc.RTCConfiguration([]))
        sender = bridge.CallSender(*bridge.open_channels(pc), audio=False, motion=False)
        good = np.zeros((256, 256, 3), np.uint8)
        sender.push(good.view(_Awkward))
        assert await until(lambda: sender.error is not None)
        with pytest.raises(tfcodec.TfcodecError, match="IndexError: not here"):
            sender.push(good)
        sender.push(good)
        assert await until(lambda: sender._encoder.frames == 1)  # its thread is still there
        sender.close()
        with pytest.raises(tfcodec.TfcodecError, match="was closed"):
            sender.push(good)
        assert await until(lambda: not sender._thread.is_alive())
        assert not sender._jobs
        await pc.close()

    asyncio.run(run())


def test_an_error_of_on_tick_does_not_stop_the_clock() -> None:
    async def run() -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: said.append(about))
        ticks: list[int] = []

        def on_tick(picture: np.ndarray, sound: np.ndarray, new: bool) -> None:
            ticks.append(len(ticks))
            raise ZeroDivisionError

        receiver = bridge.CallReceiver()
        receiver.on_tick = on_tick
        assert await until(lambda: len(ticks) >= 3)
        receiver.close()
        receiver.close()
        assert len(said) >= 3
        assert isinstance(said[0]["exception"], ZeroDivisionError)

    asyncio.run(run())
