"""Serves the page, and carries offer and answer between it and the sender. The call itself goes another way."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tfcodec.errors import TfcodecError
from tfcodec.web import page
from tfcodec.web.server import HEADERS, TYPES

HERE = Path(__file__).resolve().parent
PAGE = ("index.html", "page.js")


class Signalling:
    """One sender, and the page that it calls: the one that was opened last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sender: web.WebSocketResponse | None = None
        self.page: web.WebSocketResponse | None = None

    async def file(self, request: web.Request) -> web.FileResponse:
        """What the page is made of."""
        path = (self.folder / (request.match_info["name"] or PAGE[0])).resolve()
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise web.HTTPNotFound(headers=HEADERS)
        kind = TYPES.get(path.suffix, "application/octet-stream")
        return web.FileResponse(path, headers={**HEADERS, "Content-Type": kind})

    async def take_sender(self, request: web.Request) -> web.WebSocketResponse:
        """The sender's websocket: offers, and for the page alone pictures of the source and figures."""
        self.sender = socket = await _accept(request)
        if self.page is not None:
            await socket.send_json({"call": True})
        async for message in socket:
            if self.page is None or self.page.closed:
                continue
            if message.type == WSMsgType.BINARY:
                await self.page.send_bytes(message.data)
            elif message.type == WSMsgType.TEXT:
                await self.page.send_str(message.data)
        return socket

    async def take_page(self, request: web.Request) -> web.WebSocketResponse:
        """A page's websocket: answers and wishes. It is called at once, and the page before it no longer."""
        socket = await _accept(request)
        if self.page is not None and not self.page.closed:
            await self.page.send_json({"elsewhere": True})
        self.page = socket
        await self._tell({"call": True})
        async for message in socket:
            if message.type == WSMsgType.TEXT and socket is self.page:
                await self._tell(json.loads(message.data))
        if socket is self.page:
            self.page = None
            await self._tell({"call": False})
        return socket

    async def _tell(self, said: dict[str, Any]) -> None:
        if self.sender is not None and not self.sender.closed:
            await self.sender.send_json(said)


async def _accept(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=1 << 20)
    await socket.prepare(request)
    return socket


def write_page(folder: Path, sources: page.Sources) -> None:
    """Put together what the page is made of. Raises TfcodecError if something is not there."""
    about = page.copy_parts(folder, sources)
    for name in PAGE:
        (folder / name).write_bytes((HERE / name).read_bytes())
    (folder / "page.json").write_text(json.dumps(about))


async def main(folder: Path, port: int) -> None:
    signalling = Signalling(folder.resolve())
    app = web.Application()
    app.add_routes([
        web.get("/sender", signalling.take_sender), web.get("/watch", signalling.take_page),
        web.get("/{name:.*}", signalling.file),
    ])  # fmt: skip
    runner = web.AppRunner(app, handle_signals=True, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends the call", flush=True)
    try:
        await asyncio.Event().wait()
    except web.GracefulExit:
        pass
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--model", help="folder that `tfcodec export onnx` wrote")
    parser.add_argument("--network", help="light: the network's stand-in that draws faster")
    parser.add_argument("--runtime", help="onnxruntime-web's files, or the address that the page loads them from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tfcodec-call-") as made:
        try:
            write_page(Path(made), page.Sources(None, options.model, options.runtime, options.network))
        except TfcodecError as error:
            sys.exit(f"page: {error}")
        with contextlib.suppress(KeyboardInterrupt, web.GracefulExit):
            asyncio.run(main(Path(made), options.port))
    sys.exit(0)
