"""The receiving peer: takes the call over WebRTC, decodes it, and serves a page that shows it with live figures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from jpeg import JpegEncoder
from numpy.typing import NDArray

from tfcodec.contrib.aiortc import CallReceiver
from tfcodec.simulator import Link

PAGE = Path(__file__).resolve().parent / "page.html"
PERIOD = 0.04
SPAN = 2.0
"""Seconds over which rates are taken."""
DECODED, SOURCE, SPEECH = b"\x00", b"\x01", b"\x02"


class Watcher:
    """A page. Of pictures it gets the latest; what it is too slow for is left out."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._latest: dict[bytes, bytes] = {}
        self._sound: deque[bytes] = deque(maxlen=5)
        self._text: str | None = None
        self._event = asyncio.Event()

    def show(self, kind: bytes, data: bytes) -> None:
        if kind == SPEECH:
            self._sound.append(data)
        else:
            self._latest[kind] = data
        self._event.set()

    def say(self, text: str) -> None:
        self._text = text
        self._event.set()

    async def run(self) -> None:
        while not self._socket.closed:
            await self._event.wait()
            self._event.clear()
            pictures, self._latest, text, self._text = self._latest, {}, self._text, None
            for kind, data in pictures.items():
                await self._socket.send_bytes(kind + data)
            while self._sound:
                await self._socket.send_bytes(SPEECH + self._sound.popleft())
            if text is not None:
                await self._socket.send_str(text)


class Call:
    """The state of the server: one sender, one receiver, any number of pages."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self.sender: web.WebSocketResponse | None = None
        self.receiver: CallReceiver | None = None
        self.pc: RTCPeerConnection | None = None
        self.began = time.monotonic()
        self.wish = {"loss": 0.0, "burst": 1.0}
        self._jpeg = JpegEncoder()
        self._pictures: asyncio.Queue[NDArray[np.uint8]] = asyncio.Queue(1)
        self._delays: deque[float] = deque(maxlen=50)
        self._ticks: deque[tuple[float, bool]] = deque(maxlen=50)
        self._sent: deque[dict[str, Any]] = deque(maxlen=8)
        self._back: deque[tuple[float, int]] = deque(maxlen=8)

    async def page(self, request: web.Request) -> web.FileResponse:
        del request
        return web.FileResponse(PAGE)

    async def take_call(self, request: web.Request) -> web.WebSocketResponse:
        """The sender's websocket: offer and answer, then figures and previews."""
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        self.sender = socket
        async for message in socket:
            if message.type == WSMsgType.BINARY:
                for watcher in self.watchers:
                    watcher.show(SOURCE, message.data)
            elif message.type == WSMsgType.TEXT:
                said: dict[str, Any] = json.loads(message.data)
                if "offer" in said:
                    await socket.send_json({"answer": await self._answer(said["offer"])})
                if "began" in said:
                    self.began = said["began"]
                if "bytes" in said:
                    self._sent.append(said)
        return socket

    async def _answer(self, offer: str) -> str:
        await self.close()
        self.pc = RTCPeerConnection(RTCConfiguration([]))
        self.receiver = CallReceiver()
        self.receiver.on_tick = self._tick
        self.pc.on("datachannel", self.receiver.attach)
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        gc.freeze()  # looking through all that was loaded, for garbage, would stop the event loop
        return str(self.pc.localDescription.sdp)

    async def watch(self, request: web.Request) -> web.WebSocketResponse:
        """A page's websocket."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        watcher = Watcher(socket)
        self.watchers.add(watcher)
        task = asyncio.create_task(watcher.run())
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await self._obey(json.loads(message.data))
        finally:
            self.watchers.discard(watcher)
            task.cancel()
        return socket

    async def _obey(self, wish: dict[str, Any]) -> None:
        if "loss" in wish:
            self.wish = {"loss": float(wish["loss"]), "burst": float(wish.get("burst", 1))}
            if self.receiver is not None:
                self.receiver.link = Link(self.wish["loss"], self.wish["burst"]) if self.wish["loss"] > 0 else None
        if self.sender is not None and not self.sender.closed:
            await self.sender.send_json({**wish, **({"burst": self.wish["burst"]} if "loss" in wish else {})})

    def _tick(self, picture: NDArray[np.uint8], sound: NDArray[np.float32], fresh: bool) -> None:
        now = time.monotonic()
        self._ticks.append((now, fresh))
        if self.receiver is None or not self.watchers:
            return
        shown = self.receiver.decoder.position
        if fresh and shown is not None:
            self._delays.append(now - (self.began + shown * PERIOD))
        if not self._pictures.full():
            self._pictures.put_nowait(picture)
        samples = (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
        for watcher in self.watchers:
            watcher.show(SPEECH, samples)

    async def draw(self) -> None:
        """Hand decoded pictures to the pages; JPEG is made in a thread."""
        loop = asyncio.get_running_loop()
        while True:
            picture = await self._pictures.get()
            data = await loop.run_in_executor(None, self._jpeg.encode, picture)
            for watcher in self.watchers:
                watcher.show(DECODED, data)

    async def report(self) -> None:
        """Figures, four times a second."""
        while True:
            await asyncio.sleep(0.25)
            if self.receiver is not None:
                text = json.dumps(self.figures())
                for watcher in self.watchers:
                    watcher.say(text)

    def figures(self) -> dict[str, Any]:
        """What the page shows: rates in kbit/s, times in ms."""
        if self.receiver is None:
            return {}
        rates: dict[str, float] = {}
        if len(self._sent) > 1:
            old, new = self._sent[0], self._sent[-1]
            seconds = new["at"] - old["at"]
            parts = {k: v - old["bytes"].get(k, 0) for k, v in new["bytes"].items()}
            wire = parts.pop("wire")
            rates = {part: 8 * count / 1000 / seconds for part, count in parts.items()}
            rates["transport"] = 8 * (wire - sum(parts.values())) / 1000 / seconds
            rates["total"] = 8 * wire / 1000 / seconds
        now = time.monotonic()
        self._back.append((now, self.receiver.bytes["feedback_wire"]))
        if self._back[-1][0] > self._back[0][0]:
            rates["feedback"] = 8 * (self._back[-1][1] - self._back[0][1]) / 1000 / (now - self._back[0][0])
        recent = [(at, fresh) for at, fresh in self._ticks if at > now - SPAN]
        stats = self.receiver.decoder.stats
        return {
            "kbps": rates,
            "frames_per_second": sum(fresh for _, fresh in recent) / SPAN,
            "delay_ms": 1000 * float(np.mean(self._delays)) if self._delays else None,
            "lost_share": stats.lost_share, "lost": stats.lost, "received": stats.received,
            "held": stats.held, "skipped": stats.skipped, "shown": stats.shown,
            "waiting_for_keyframe": stats.waiting_for_keyframe, **self.wish,
            "frame": self.receiver.decoder.position,
        }  # fmt: skip

    async def close(self) -> None:
        if self.receiver is not None:
            self.receiver.close()
        if self.pc is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.pc.close(), 2)  # the other end may have gone already


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    call = Call()
    app = web.Application()
    app.add_routes([
        web.get("/", call.page), web.get("/sender", call.take_call), web.get("/watch", call.watch),
    ])  # fmt: skip
    runner = web.AppRunner(app, handle_signals=True, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port).start()
    try:
        await asyncio.gather(call.draw(), call.report())
    except web.GracefulExit:
        pass
    finally:
        await call.close()
        await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, web.GracefulExit):
        asyncio.run(main())
    sys.exit(0)
