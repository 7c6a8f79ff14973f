"""Memory of the pages, in headless Chromium: a clip that plays in a loop, and a call, side by side.

    python -m benchmarks.measure.player_memory [SECONDS]

The clip is the first of `val` that has 100 frames and sound; SECONDS is 300. Every 15 s garbage is collected and the
proportional set size of the tab's process taken (so Linux it is). The first 60 s count as warming up; what is said of
growth is the slope of a straight line through the rest, and the last sample less the first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tfcodec
from benchmarks.common import ROOT, clip_list, environment, write
from benchmarks.measure.player_speed import source
from tfcodec.web import page
from tfcodec.web.server import Server

FRAMES = 100
EVERY = 15.0
WARM_UP = 60.0
DRAWN = {"player": "window.tfc?.player?.drawn", "call": "window.figures?.drawn"}


def main() -> None:
    from playwright.sync_api import sync_playwright

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    path, frames, audio = source(FRAMES)
    data = tfcodec.encode(frames, fps=25, audio=audio, sample_rate=16000, refine=False)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        made, stream = Path(folder) / "page", Path(folder) / "clip.tfc"
        stream.write_bytes(data)
        page.write(made, page.Sources(str(stream)))
        with Server(str(made)) as server, example(path) as address:
            tabs = {}
            for name, where in (("player", server.address), ("call", address)):
                before = renderers()
                browser = driver.chromium.launch(
                    executable_path=os.environ.get("TFCODEC_CHROMIUM", "/usr/bin/chromium"),
                    args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
                )
                tab = browser.new_page()
                tab.set_default_timeout(300_000)
                tab.goto(where)
                if name == "player":
                    tab.wait_for_function("window.tfc?.ready")
                    tab.evaluate("tfc.player.loop = true; tfc.player.play()")
                else:
                    tab.click("#sound")
                tab.wait_for_function(f"{DRAWN[name]} > 10")
                # Of a browser's renderers the largest is the tab's: others are spare.
                tabs[name] = tab, max(renderers() - before, key=memory), tab.context.new_cdp_session(tab)
            samples = watch(tabs, seconds)
            drawn = {name: tabs[name][0].evaluate(count) for name, count in DRAWN.items()}
            for tab, _, _ in tabs.values():
                tab.close()
    result = {
        "environment": environment(), "clips": clip_list([path]), "seconds": seconds, "load": os.getloadavg()[0],
        "pages": {name: said(samples[name]) | {"pictures_drawn": drawn[name]} for name in samples},
    }  # fmt: skip
    write("player_memory", result)


@contextlib.contextmanager
def example(clip: Path) -> Iterator[str]:
    """The example of a call, running; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "examples/call/call.py"), "--input", str(clip), "--port", str(port)]
    peers = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if peers.poll() is not None:
                sys.exit("the example of a call has ended")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        peers.send_signal(signal.SIGTERM)
        peers.wait(30)


def renderers() -> set[int]:
    """Chromium's processes that have a page."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"--type=renderer" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found


def memory(process: int) -> int:
    """Proportional set size in bytes; 0 if the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def watch(tabs: dict[str, Any], seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Of each tab, seconds and MiB."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in tabs}
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for name, (_, process, session) in tabs.items():
            session.send("HeapProfiler.collectGarbage")
            samples[name].append((round(now, 1), round(memory(process) / 2**20, 1)))
        time.sleep(EVERY)
    return samples


def said(samples: list[tuple[float, float]]) -> dict[str, Any]:
    warm = [(at, mib) for at, mib in samples if at >= WARM_UP] or samples
    at, mib = np.array(warm).T
    slope = float(np.polyfit(at, mib, 1)[0]) if len(warm) > 1 else 0.0
    return {
        "mib": {str(when): size for when, size in samples}, "mib_last_less_first": round(float(mib[-1] - mib[0]), 1),
        "mib_per_minute": round(60 * slope, 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
