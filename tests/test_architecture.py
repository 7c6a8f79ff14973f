"""Who imports whom: the layers of docs/architecture.md, and no circles."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tfcodec.bitstream import LAYERS
from tfcodec.codec.parts import Sending, layer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfcodec"

GROUND = ("arguments", "commands", "errors", "rates", "samples", "files", "machine", "mixdown", "resample", "signals")
CODERS = ("tinyframe", "motion", "displacement", "keyframe", "speech")
ROAD = (
    *GROUND, "bitstream", *CODERS, "model", "runtime", "codec.parts", "codec.policy", "codec.options", "codec.results",
    "codec.frames", "codec.typical",
)  # fmt: skip
MAY_USE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(GROUND, GROUND),
    "bitstream": GROUND,
    **dict.fromkeys(CODERS, GROUND),
    "motion": (*GROUND, "tinyframe"),
    "displacement": (*GROUND, "tinyframe"),
    "speech": (*GROUND, "tinyframe"),
    "model": (*GROUND, "motion.geometry"),
    "runtime": (
        *GROUND, "motion.geometry", "model.config", "model.displacement", "model.inputs", "model.mouth", "model.places",
        "model.registry", "model.renderer", "model.keyframing",
    ),
    "media": GROUND,
    "codec.policy": GROUND,
    "codec.results": GROUND,
    "codec.frames": GROUND,
    "codec.typical": (*GROUND, "speech", "codec.results"),
    "codec.parts": (*GROUND, "bitstream", *CODERS, "model.registry", "model.tracker", "model.tracking", "codec.policy"),
    "codec.options": (*GROUND, "bitstream", "speech", "codec.parts", "codec.policy", "model.device", "model.tracker"),
    "codec.file": ROAD,
    "codec.call": ROAD,
    "codec.encoder": (*GROUND, "codec", "model.tracker", "speech.choice"),
    "simulator": (*GROUND, "codec", "media"),
    "contrib": (*GROUND, "codec", "simulator"),
}
"""What a room may import beside itself; rooms that are not here are at the top and may import anything."""
USERS: dict[str, tuple[str, ...]] = {
    "cli": ("__main__",), "doctor": ("cli",), "bench": ("cli",), "baselines": ("training",), "training": (),
    "contrib": (), "metrics": ("bench", "training"), "simulator": ("cli", "contrib"), "web": ("cli", "bench"),
    "batch": ("cli", ""),
}  # fmt: skip
"""The only rooms that use one at the top."""
HEAVY = {"torch", "av", "scipy"}
LIGHT = (
    *(room for room in GROUND if room != "resample"), "bitstream", "tinyframe", "motion", "displacement", "runtime",
)  # fmt: skip
"""Never import any of the heavy libraries, not even in a function."""


@cache
def modules() -> dict[str, Path]:
    """Every module by its name below tfcodec, '' for the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def _type_checking(tree: ast.Module) -> set[ast.AST]:
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in ast.walk(block)}


@cache
def imports(name: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """What a module imports: of tfcodec when it is loaded, of tfcodec at all, and other libraries at all."""
    path, known = modules()[name], modules()
    tree = ast.parse(path.read_text())
    later = _type_checking(tree) | {
        inner for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for inner in ast.walk(n)
    }
    package = [part for part in name.split(".") if part]
    package = package if path.name == "__init__.py" else package[:-1]
    at_once, ever, others = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = "tfcodec." if node.level else ""
            stem = start + ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{stem.rstrip('.')}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if not _inside(target, "tfcodec"):
                others.add(target.split(".")[0])
                continue
            inner = target.removeprefix("tfcodec").lstrip(".")
            while inner and inner not in known:
                inner = inner.rpartition(".")[0]
            if inner != name:
                ever.add(inner)
                if node not in later:
                    at_once.add(inner)
    return frozenset(at_once), frozenset(ever), frozenset(others)


def test_the_reader_of_imports_finds_them() -> None:
    assert "bitstream.parts" in imports("bitstream.parse")[0]
    assert "codec.policy" in imports("codec.parts.stream")[0]
    assert "model.weights" in imports("codec.file.encoder")[1] - imports("codec.file.encoder")[0]
    assert "torch" in imports("model.stage1")[2]
    assert len(modules()) > 100


@pytest.mark.parametrize("room", sorted(MAY_USE))
def test_rooms_use_only_what_they_may(room: str) -> None:
    inside = [name for name in modules() if _inside(name, room)]
    assert inside, f"there is no {room}"
    for name in inside:
        for target in imports(name)[1]:
            allowed = _inside(target, room) or any(_inside(target, other) for other in MAY_USE[room])
            allowed |= target == "codec"  # named to get at one of its modules
            assert allowed, f"tfcodec.{name} imports tfcodec.{target}"


@pytest.mark.parametrize("top", sorted(USERS))
def test_nothing_uses_the_rooms_at_the_top(top: str) -> None:
    for name in modules():
        if not any(_inside(name, user) for user in (top, *USERS[top])):
            assert not [t for t in imports(name)[1] if _inside(t, top)], name


def test_no_circles() -> None:
    """Not when modules are loaded, and not in the sense that two modules need each other at all."""
    for which in (0, 1):
        graph = {name: set(imports(name)[which]) - {""} for name in modules() if name}
        # A package's own modules are loaded by it, and it by them: that alone is no circle.
        graph = {
            name: {t for t in targets if not _inside(name, t) and t in graph} for name, targets in graph.items()
        }  # fmt: skip
        while free := [name for name, targets in graph.items() if not targets & graph.keys()]:
            for name in free:
                del graph[name]
        assert not graph, {name: sorted(targets & graph.keys()) for name, targets in graph.items()}


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_stay_light(room: str) -> None:
    for name in modules():
        if _inside(name, room):
            assert not imports(name)[2] & HEAVY, name


def test_the_network_knows_no_bytes() -> None:
    for name in modules():
        if _inside(name, "model"):
            assert not any(_inside(t, "bitstream") or _inside(t, "tinyframe") for t in imports(name)[1]), name


@pytest.mark.parametrize("name", [part.key for part in LAYERS])
def test_every_row_of_a_layer_has_its_module(name: str) -> None:
    made = layer(name)
    announced = None
    part = next(part for part in LAYERS if part.key == name)
    if part.announced_by is not None:
        announced = made.announcement()
        assert isinstance(announced, part.announced_by)
    decoder = made.decoder(announced)
    assert decoder.lose(3).shape[0] == 3
    for mode in ("file", "call"):
        encoder = made.encoder(Sending(5, mode, motion=False))
        assert encoder is None or callable(encoder.encode)


def test_the_layers_that_need_no_network_import_none() -> None:
    """Encoding without motion needs no torch: whatever reaches for it does so when it is asked to."""
    for name in modules():
        if _inside(name, "codec.parts") or _inside(name, "codec.encoder"):
            assert not any(_inside(t, "model") and t != "model.registry" for t in imports(name)[0]), name


def test_the_document_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+?)/?`", text))
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    assert rooms - named - {"codec"} == set()
