"""A page that plays a stream, as a folder that any web server can serve."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import MediaError
from ..files import write_atomically
from .flatten import flatten

HERE = Path(__file__).parent
RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
"""Where `make web` puts onnxruntime-web."""
RUNTIME_FILES = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
"""What a browser with a graphics card loads, and the graphs; without them it computes with the module's own engine."""
MODEL_FILES = (
    "card.json",
    *(f"{name}.{kind}" for name in ("keyframe", "frame", "guess", "lips") for kind in ("program", "onnx")),
)
EXPORT = 7
"""Counts up when the export changes, so that an earlier one in a user's cache is not taken for it."""
TABLES = {
    name: HERE.parent / f"{source}.bin"
    for name, source in (
        ("tiny", "tinyframe/tables"), ("motion", "motion/tables"), ("displacement", "displacement/tables"),
        ("bases", "motion/bases"),
    )
}  # fmt: skip
"""The integer tables of the package, by the names under which the module fetches them."""
HEADERS_NOTE = (
    "With the response headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: "
    "require-corp` browsers let it use several threads."
)


@dataclass(frozen=True)
class Sources:
    """What a page is made of.

    Attributes:
        stream: the .tfc file; None: a page that streams are dropped on.
        model: folder that `tfcodec export onnx` wrote; None: the newest network, exported once and kept.
        runtime: folder of onnxruntime-web's files, or the address to load them from, for graphics cards; None: what
            `make web` set up, if it did.
        network: ``"light"`` for its stand-in; with ``model`` without effect.
    """

    stream: str | None = None
    model: str | None = None
    runtime: str | None = None
    network: str | None = None


def write(folder: str | Path, sources: Sources, *, force: bool = False) -> None:
    """Write the page, the module, the network and the stream.

    Raises:
        MediaError: the folder is not empty (``force`` allows that), or something that the page needs is not there.
        WeightsError: the network has to be exported, and its weights are not there.
    """
    folder = Path(folder)
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise MediaError(f"{folder} is not empty; -f writes into it")
    stream = None
    if sources.stream is not None:
        from ..api import probe, read_source

        stream = read_source(sources.stream)
        probe(stream)  # a page for a file that is no stream would only show an error
    try:
        about = copy_parts(folder, sources)
        shutil.copytree(HERE / "page", folder, dirs_exist_ok=True)
        if stream is not None:
            about["clip"] = f"{Path(str(sources.stream)).stem}.tfc"
            write_atomically(folder / about["clip"], stream)
        write_atomically(folder / "page.json", (json.dumps(about, indent=1) + "\n").encode())
    except OSError as error:
        raise MediaError(f"cannot write the page into {folder}: {error.strerror or error}") from None


def copy_parts(folder: Path, sources: Sources) -> dict[str, str]:
    """The module, the network and onnxruntime-web, as any page needs them.

    Returns:
        Where in the folder, or elsewhere, network and onnxruntime-web are.

    Raises:
        MediaError: something is not there.
        WeightsError: as of `write`.
    """
    remote = sources.runtime if urlsplit(sources.runtime or "").scheme in ("http", "https") else None
    runtime = RUNTIME if sources.runtime is None else Path(sources.runtime)
    if remote is None and sources.runtime is not None:
        _check(runtime, RUNTIME_FILES, "onnxruntime-web, which `make web` sets up")
    model = Path(sources.model) if sources.model is not None else kept_model(sources.network)
    _check(model, MODEL_FILES, "the network as ONNX: `tfcodec export onnx DIR` writes it")
    copy_module(folder / "tfc")
    _copy(model, folder / "model", MODEL_FILES)
    if remote is None and all((runtime / name).is_file() for name in RUNTIME_FILES):
        _copy(runtime, folder / "runtime", RUNTIME_FILES)
    return {"model": "model/", "runtime": remote or "runtime/"}


def copy_module(folder: Path) -> None:
    """The module, its worker in one file, with the integer tables that it fetches."""
    shutil.copytree(HERE / "module", folder, dirs_exist_ok=True)
    (folder / "worker.js").write_text(flatten(HERE / "module", "worker"), encoding="utf-8")
    for name, source in TABLES.items():
        shutil.copyfile(source, folder / f"{name}.bin")


def kept_model(network: str | None = None) -> Path:
    """The newest network, or its stand-in of a name, as ONNX, in the user's cache; exported when it is asked for the
    first time."""
    from ..model.registry import default_model, stand_in

    entry = stand_in(default_model(), network)
    cache = _cache()
    folder = cache / "tfcodec" / f"onnx{EXPORT}-{entry.model_id}-{entry.hash_prefix.hex()}"
    if not all((folder / name).is_file() for name in MODEL_FILES):
        from ..model.portable import export_onnx

        export_onnx(entry, folder)
    return folder


def _cache() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        raise MediaError(
            "there is no home to keep the network in: XDG_CACHE_HOME may name a folder, or --model what "
            "`tfcodec export onnx` wrote"
        ) from None


def _check(folder: Path, names: tuple[str, ...], what: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise MediaError(f"{folder / name} is not there. It belongs to {what}")


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, target / name)
