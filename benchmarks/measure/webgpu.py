"""Pictures drawn on WebGPU, in headless Chromium, against torch's. On an adapter in software: no speeds, and minutes.

    make web
    python -m benchmarks.measure.webgpu [FRAMES]

The clip is the first of `val` that is long enough, its first FRAMES (5) frames, all of which are compared.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import tfcodec
from benchmarks.common import clip_list, environment, write
from benchmarks.measure.player_speed import agreement, source
from tfcodec.web import page
from tfcodec.web.server import Server

SWITCHES = ("--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
OPEN = """async (backend) => {
  const { Tfc } = await import("./tfc/tfc.js");
  window.tfc = { clip: await Tfc.open("clip.tfc", { backend }) };
  return (await tfc.clip.load()).backend;
}"""
ADAPTER = """async () => {
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? `${adapter.info.vendor} ${adapter.info.architecture}` : null;
}"""


def main() -> None:
    from playwright.sync_api import sync_playwright

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    path, frames, audio = source(count)
    data = tfcodec.encode(frames, fps=25, audio=audio, sample_rate=16000, refine=False)
    pictures = [frame.pixels for frame in tfcodec.open(data)]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        made, stream = Path(folder) / "page", Path(folder) / "clip.tfc"
        stream.write_bytes(data)
        page.write(made, page.Sources(str(stream)))
        (made / "bare.html").write_text("<!doctype html><title>bare</title>")
        chromium = os.environ.get("TFCODEC_CHROMIUM", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=list(SWITCHES))
        with Server(str(made)) as server:
            tab = browser.new_page()
            tab.set_default_timeout(0)
            tab.goto(f"{server.address}bare.html")
            adapter = tab.evaluate(ADAPTER)
            if adapter is None:
                sys.exit("this Chromium has no adapter for WebGPU")
            result: dict[str, Any] = {
                "environment": environment(), "browser": browser.version, "adapter": adapter,
                "clips": clip_list([path]), "frames": count, "psnr_db": {},
            }  # fmt: skip
            for backend in ("wasm", "webgpu"):
                assert tab.evaluate(OPEN, backend) == backend
                result["psnr_db"][backend] = agreement(tab, list(range(count)), pictures)
        browser.close()
    write("webgpu", result)


if __name__ == "__main__":
    main()
