"""A call to a browser on this machine: what `make call` runs.

    python examples/call/call.py                     # the synthetic clip, made first
    python examples/call/call.py --input me.mp4      # a video of one's own
    python examples/call/call.py --camera /dev/video0

The page is the other peer: it answers `sender.py` over a WebRTC connection of its own, and decodes and draws by itself.
`server.py` serves it, and carries offer and answer between the two.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description="A tfcodec call over WebRTC on this machine, in a browser.")
    parser.add_argument("--input", type=Path, help="a video of a face; without it a synthetic clip is made")
    parser.add_argument("--camera", help="a camera instead: /dev/video0 (Linux), 0 (macOS), video=NAME (Windows)")
    parser.add_argument("--port", type=int, default=8765, help="of the page (default: 8765; 0: any)")
    parser.add_argument("--seconds", type=float, help="end after so long; without it: Ctrl-C")
    parser.add_argument("--model", help="what `tfcodec export onnx` wrote (default: exported once, and kept)")
    parser.add_argument("--network", help="light: the network's stand-in that draws faster")
    parser.add_argument("--runtime", help="onnxruntime-web's files or address (default: what `make web` set up)")
    options = parser.parse_args()
    port = options.port or free_port()
    if options.camera is None and options.input is None:
        options.input = synthetic_clip()
    source = ["--camera", options.camera] if options.camera is not None else [str(options.input)]
    parts = {"--model": options.model, "--network": options.network, "--runtime": options.runtime}
    given = [word for name, value in parts.items() if value is not None for word in (name, value)]
    server = subprocess.Popen([sys.executable, str(HERE / "server.py"), "--port", str(port), *given])
    sender = subprocess.Popen(
        [sys.executable, str(HERE / "sender.py"), *source, "--server", f"http://127.0.0.1:{port}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # the encoder needs no second one; the browser does
    )
    peers = (server, sender)
    until = time.monotonic() + options.seconds if options.seconds is not None else float("inf")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        while time.monotonic() < until and all(peer.poll() is None for peer in peers):
            time.sleep(0.1)
    for second in (signal.SIGINT, signal.SIGTERM):
        signal.signal(second, signal.SIG_IGN)  # whoever asks twice still gets an orderly end
    failed = any(peer.poll() not in (None, 0) for peer in peers)
    for peer in peers:
        if peer.poll() is None:
            peer.terminate()
    for peer in peers:
        try:
            peer.wait(10)
        except subprocess.TimeoutExpired:
            peer.kill()
    return int(failed)


def synthetic_clip() -> Path:
    """The demonstration clip, made if it is not there."""
    clip = Path("demo/source.mp4")
    clip.parent.mkdir(exist_ok=True)
    if not clip.is_file():
        subprocess.run([sys.executable, str(HERE.parent / "make_demo_clip.py"), str(clip)], check=True)
    return clip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
