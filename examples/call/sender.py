"""The sending peer: a video file, in a loop, or a camera, encoded and sent over WebRTC to the page that is open.

A websocket to the page's server stands for signalling and control: it carries the offer and the answer, the page's
wishes (loss, keyframe), and, for comparison on the page only, small JPEGs of the source. None of this is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from jpeg import JpegEncoder
from numpy.typing import NDArray

import tfcodec
from tfcodec.contrib.aiortc import CallSender, open_channels
from tfcodec.media import open_source
from tfcodec.simulator import Link

PERIOD = 0.04
LONGEST = 1000
"""Frames (40 s) of a file that are kept in memory and repeated."""

Frame = NDArray[np.uint8]
Sound = NDArray[np.float32] | None


class File:
    """A video file, its face found and followed, in a loop."""

    def __init__(self, path: str) -> None:
        with open_source(path) as clip:
            self._frames = np.stack([frame for _, frame in zip(range(LONGEST), clip.frames_iter(), strict=False)])
            self.audio = clip.audio

    def __iter__(self) -> Iterator[tuple[Frame, Sound]]:
        while True:
            for i, frame in enumerate(self._frames):
                sound = None
                if self.audio is not None:
                    piece = self.audio[640 * i : 640 * (i + 1)]
                    sound = np.pad(piece, (0, 640 - len(piece)))
                yield frame, sound


class Camera:
    """A camera: the centre square of its newest picture. Without sound."""

    audio = None

    def __init__(self, name: str) -> None:
        driver = {"linux": "v4l2", "darwin": "avfoundation"}.get(sys.platform, "dshow")
        self._container = av.open(name, format=driver)
        self._newest: deque[Frame] = deque(maxlen=1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for frame in self._container.decode(video=0):
            picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            side = min(picture.shape[:2])
            top, left = ((n - side) // 2 for n in picture.shape[:2])
            square = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[top : top + side, left : left + side]))
            small = square.reformat(256, 256, format="rgb24").to_ndarray()
            self._newest.append(np.asarray(small, np.uint8))

    def __iter__(self) -> Iterator[tuple[Frame, Sound]]:
        while not self._newest:
            time.sleep(0.01)
        while True:
            yield self._newest[-1], None


class Call:
    """The call to the page that is there now."""

    def __init__(self, sound: bool, options: argparse.Namespace) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration([]))  # no servers: the peers see each other
        self.channels = open_channels(self.pc)
        self.sender = CallSender(*self.channels, audio=sound, quality=options.quality, bundle=options.bundle)
        self.began: float | None = None

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    @property
    def open(self) -> bool:
        return all(channel.readyState == "open" for channel in self.channels)

    async def close(self) -> None:
        self.sender.close()
        await asyncio.sleep(0.2)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.pc.close(), 2)  # the page may have gone already


class Peer:
    """Calls the page that the server names, and does what it asks for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, sound: bool, options: argparse.Namespace) -> None:
        self.call: Call | None = None
        self._socket, self._sound, self._options = socket, sound, options

    async def obey(self) -> None:
        async for message in self._socket:
            said: dict[str, Any] = json.loads(message.data)
            if "call" in said:
                await self._begin(bool(said["call"]))
            elif self.call is None:
                continue
            elif "answer" in said:
                await self.call.pc.setRemoteDescription(RTCSessionDescription(said["answer"], "answer"))
            elif said.get("keyframe"):
                self.call.sender.request_keyframe()
            elif "loss" in said:
                loss, burst = float(said["loss"]), float(said.get("burst", 1))
                self.call.sender.link = Link(loss, burst, seed=int(1000 * time.time())) if loss > 0 else None

    async def _begin(self, wanted: bool) -> None:
        before, self.call = self.call, None
        if before is not None:
            await before.close()
        if wanted:
            call = Call(self._sound, self._options)
            await self._socket.send_json({"offer": await call.offer()})
            self.call = call
            gc.freeze()  # looking through all that was loaded, for garbage, would stop the event loop


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", type=Path)
    parser.add_argument("--camera")
    parser.add_argument("--server", required=True, help="address of the page's server")
    parser.add_argument("--quality", type=int, default=5)
    parser.add_argument("--bundle", type=int, default=2)
    options = parser.parse_args()
    try:
        source = Camera(options.camera) if options.camera else File(str(options.input))
    except (tfcodec.TfcodecError, av.FFmpegError) as error:
        print(f"sender: {error}", file=sys.stderr)
        return 1
    async with aiohttp.ClientSession() as session:
        socket = await connect(session, options.server)
        peer = Peer(socket, source.audio is not None, options)
        control = asyncio.create_task(peer.obey())
        try:
            await send(source, peer, socket, control)
        finally:
            control.cancel()
            if peer.call is not None:
                await peer.call.close()
    return 0


async def connect(session: aiohttp.ClientSession, server: str) -> aiohttp.ClientWebSocketResponse:
    for _ in range(1200):  # the first time it exports the network
        try:
            return await session.ws_connect(f"{server}/sender")
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
    raise SystemExit(f"sender: no server at {server}")


async def send(
    source: File | Camera, peer: Peer, socket: aiohttp.ClientWebSocketResponse, control: asyncio.Task[None]
) -> None:
    loop = asyncio.get_running_loop()
    preview = JpegEncoder()
    began = time.monotonic()
    for number, (frame, sound) in enumerate(source):
        await asyncio.sleep(max(0.0, began + number * PERIOD - time.monotonic()))
        if control.done():
            return  # the server has gone
        call = peer.call
        if call is None or not call.open:
            continue
        if call.began is None:
            call.began = time.time()
            await socket.send_json({"began": call.began})
        call.sender.push(frame, sound)
        await socket.send_bytes(await loop.run_in_executor(None, preview.encode, frame))
        if number % 12 == 0:
            await socket.send_json({
                "bytes": call.sender.bytes, "packets": call.sender.packets_sent, "at": time.monotonic(),
            })  # fmt: skip


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main()))
