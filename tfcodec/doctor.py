"""What this installation can do: run every part once, and say what is missing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from . import __version__
from .errors import TfcodecError

EXTRAS = {
    "pages in the browser": ("onnx", ("onnx", "onnxruntime")),
    "decoding without torch": ("fast", ("ncnn",)),
    "calls over WebRTC": ("webrtc", ("aiortc", "aiohttp")),
    "batch with parquet": ("scale", ("pyarrow",)),
    "batch on a cluster": ("dask", ("distributed",)),
    "benchmark": ("bench", ("bjontegaard", "matplotlib")),
}
"""What needs an extra that nothing above tries out: the extra, and packages that it brings."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``needed``: tfcodec cannot do its work without it."""

    what: str
    ok: bool
    found: str
    needed: bool = True


def examine(lyra: str | None = None) -> list[Finding]:
    """Try out Python, libraries, codecs, tables, network and face finder; say which extras are there.

    Args:
        lyra: a folder with Lyra's model files; None: the one that the environment names.
    """
    report = [Finding("tfcodec", True, f"{__version__} on Python {platform.python_version()}, {os.cpu_count()} cores")]
    checks: list[tuple[str, Callable[[], str], bool]] = [
        ("libraries", _libraries, True),
        ("AV1 keyframes", _keyframe, True),
        ("Opus speech", _speech, True),
        ("Codec2 speech", _codec2, False),
        ("Lyra speech", lambda: _lyra(lyra), False),
        ("entropy tables", _tables, True),
        ("network", _network, True),
        ("face finder", _face, False),
        *((what, partial(_extra, extra, packages), False) for what, (extra, packages) in EXTRAS.items()),
    ]
    return report + [_try(*check) for check in checks]


def _try(what: str, check: Callable[[], str], needed: bool) -> Finding:
    try:
        return Finding(what, True, check(), needed)
    except TfcodecError as error:
        return Finding(what, False, str(error), needed)
    except Exception as error:  # whatever is broken is what this report is for
        return Finding(what, False, f"{type(error).__name__}: {' '.join(str(error).split())}", needed)


def _libraries() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "av", "scipy", "safetensors"))


def _keyframe() -> str:
    from .keyframe import decode_keyframe, encode_keyframe

    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(128)), -1)
    data = encode_keyframe(picture)
    error = np.square(decode_keyframe(data).astype(float) - picture).mean()
    return f"{len(data)} bytes for a ramp, PSNR {10 * np.log10(255**2 / error):.1f} dB"


def _speech() -> str:
    from .speech import SAMPLE_RATE, decode_speech, encode_speech

    tone = (0.5 * np.sin(np.arange(SAMPLE_RATE) * 2 * np.pi * 220 / SAMPLE_RATE)).astype(np.float32)
    track = encode_speech(tone)
    match = np.corrcoef(tone, decode_speech(track))[0, 1]
    return f"{sum(map(len, track.packets))} bytes for a second of tone, correlation {match:.2f}"


def _codec2() -> str:
    return _choice("codec2:1200")


def _lyra(folder: str | None) -> str:
    from .speech.lyra import FOLDER

    before = os.environ.get(FOLDER)
    try:
        if folder is not None:
            os.environ[FOLDER] = folder
        line = _choice("lyra:3200")
        return line if before == folder or folder is None else f"{line}; set {FOLDER}={folder} to use it"
    finally:
        if folder is not None:
            os.environ.pop(FOLDER)
            os.environ.update({} if before is None else {FOLDER: before})


def _choice(speech: str) -> str:
    from .speech.choice import choose

    choice = choose(speech, 5)
    assert choice is not None
    encoder, decoder = choice.encoder(40), choice.decoder(40)
    tone = (0.5 * np.sin(np.arange(16000) * 2 * np.pi * 220 / 16000)).astype(np.float32)
    packets = encoder.push(tone) + encoder.flush()
    loudness = np.sqrt(np.square(np.concatenate([decoder.decode(p) for p in packets])).mean())
    return f"{sum(map(len, packets))} bytes for a second of tone, which comes out at {20 * np.log10(loudness):.0f} dBFS"


def _tables() -> str:
    from .tinyframe import TABLES_ID, tables_sha256

    return f"number {TABLES_ID}, SHA-256 {tables_sha256()[:8]}..."


def _network() -> str:
    import torch

    from .model.inputs import MEL_BANDS, MEL_COLUMNS, WINDOW
    from .model.registry import default_model
    from .model.renderer import BATCH, Renderer

    entry = default_model()
    renderer = Renderer(entry)
    renderer.set_keyframe(np.zeros((256, 256, 3), np.uint8))
    windows = np.zeros((BATCH, WINDOW, 8, 8, 3), np.uint8)
    mel = np.zeros((BATCH, MEL_COLUMNS, MEL_BANDS), np.float32)
    renderer.prepare()
    renderer.render(windows, mel)
    start = time.perf_counter()
    renderer.render(windows, mel)
    rate = BATCH / (time.perf_counter() - start)
    return f"{entry.file}, {rate:.0f} frames/s with {torch.get_num_threads()} threads"


def _face() -> str:
    from .media.mtcnn import Detector

    Detector()
    return "MTCNN, weights found"


def _extra(extra: str, packages: tuple[str, ...]) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return ", ".join(f"{name} {version(name)}" for name in packages)
    except PackageNotFoundError as error:
        raise TfcodecError(f"needs {error.name}: pip install 'tfcodec[{extra}]'") from None
