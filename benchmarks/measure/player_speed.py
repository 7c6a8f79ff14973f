"""The page that plays streams, in headless Chromium: pictures against Python's, frames per second by threads, opening.

    python -m benchmarks.measure.player_speed [FRAMES]

Run it on an idle machine. The clip is the first of `val` that is long enough, its first FRAMES (250) frames, drawn
by the full network and by the light one. Pictures are compared in every tenth frame. Frames per second: the first 25
one after the other, after the first. First picture: from a new tab, its files in the browser's cache, to the first
frame on the canvas; median of seven. Bytes: what a first visit loads without the clip, as they are and by gzip.
"""

from __future__ import annotations

import base64
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import clip_list, clips, environment, write
from tfcodec.media import open_source
from tfcodec.web import page
from tfcodec.web.server import Server

THREADS = (1, 2)
NETWORKS = ("full", "light")
READY = "window.tfc?.player?.shown === 0 || window.tfc?.error"
DRAW = """async (numbers) => {
  const out = [];
  for (const number of numbers) out.push((await tfc.clip.picture(number)).data);
  return out.map((data) => {
    let text = "";
    for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
    return btoa(text);
  });
}"""
TIME = """async (count) => {
  await tfc.clip.picture(0);
  const before = performance.now();
  for (let number = 1; number < count; number++) await tfc.clip.picture(number);
  return (count - 1) / ((performance.now() - before) / 1000);
}"""
TIMED = 25
EVERY = 10
OPENINGS = 7


def main() -> None:
    from playwright.sync_api import sync_playwright

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 250
    path, frames, audio = source(count)
    data = tfcodec.encode(frames, fps=25, audio=audio, sample_rate=16000, refine=False)
    with sync_playwright() as driver:
        chromium = os.environ.get("TFCODEC_CHROMIUM", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        result = {
            "environment": environment(), "browser": browser.version, "clips": clip_list([path]), "frames": count,
            "load": os.getloadavg()[0], "networks": {name: measured(browser, data, name) for name in NETWORKS},
        }  # fmt: skip
        browser.close()
    write("player_speed", result)


def measured(browser: Any, data: bytes, network: str) -> dict[str, Any]:
    """Figures of the page with one network."""
    reader = tfcodec.open(data, network=network)
    numbers = list(range(0, len(reader), EVERY))
    pictures = [frame.pixels for frame in reader[::EVERY]]
    speech = np.asarray(tfcodec.decode(data, pixels=False).audio)
    result: dict[str, Any] = {"frames_per_second": {}, "first_picture_seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        made, stream = Path(folder) / "page", Path(folder) / "clip.tfc"
        stream.write_bytes(data)
        page.write(made, page.Sources(str(stream), network=network))
        result["bytes"] = loaded(made)
        with Server(str(made)) as server:
            for threads in THREADS:
                name = made / "page.json"
                text = name.read_text()
                name.write_text(text.replace("{", f'{{\n "threads": {threads},', 1))
                context = browser.new_context()
                tab = opened(context, server.address)  # fills the cache
                if threads == THREADS[-1]:
                    result["psnr_db"] = agreement(tab, numbers, pictures)
                    sound = np.array(tab.evaluate("Array.from(tfc.clip.speech ?? [])"), np.float32)
                    result["sound_max_difference"] = float(np.abs(sound - speech).max())
                result["frames_per_second"][threads] = round(tab.evaluate(TIME, min(len(reader), TIMED)), 2)
                tab.close()
                seconds = []
                for _ in range(OPENINGS):
                    before = time.perf_counter()
                    tab = opened(context, server.address)
                    seconds.append(time.perf_counter() - before)
                    tab.close()
                result["first_picture_seconds"][threads] = round(median(seconds), 2)
                context.close()
                name.write_text(text)
    return result


def source(count: int) -> tuple[Path, NDArray[np.uint8], NDArray[np.float32]]:
    for path in clips():
        with open_source(path, crop="none") as clip:
            frames = [frame for _, frame in zip(range(count), clip.frames_iter(), strict=False)]
            if len(frames) == count and clip.audio is not None:
                return path, np.stack(frames), clip.audio[: 640 * count]
    sys.exit(f"no clip of val has {count} frames and sound")


def opened(context: Any, address: str) -> Any:
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_function(READY, timeout=600_000)
    if tab.evaluate("tfc.error"):
        sys.exit(str(tab.evaluate("tfc.error")))
    return tab


def agreement(tab: Any, numbers: list[int], pictures: list[Any]) -> dict[str, float]:
    found = []
    for text, other in zip(tab.evaluate(DRAW, numbers), pictures, strict=True):
        drawn = np.frombuffer(base64.b64decode(text), np.uint8).reshape(256, 256, 4)[..., :3]
        error = max(1e-9, float(np.square(drawn.astype(np.float64) - other).mean()))
        found.append(min(99.0, 10 * np.log10(255**2 / error)))
    return {"least": round(min(found), 1), "mean": round(float(np.mean(found)), 1)}


def loaded(folder: Path) -> dict[str, int]:
    # Only with a graphics card; only with a stream that needs it; only without relaxed SIMD.
    other = (*page.RUNTIME_FILES, "lips.program", "engine.wasm")
    kinds = (".tfc", ".ts", ".onnx")
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in kinds and p.name not in other]
    return {
        "files": sum(p.stat().st_size for p in files),
        "compressed": sum(len(gzip.compress(p.read_bytes(), 6)) for p in files),
    }


if __name__ == "__main__":
    main()
