"""What the documents say must hold: figures, links, names, commands, and the code in them."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "tfcodec/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)


@pytest.mark.parametrize(
    ("document", "script"),
    [("README.md", "update_readme"), ("docs/calls.md", "call_table"), ("docs/speech.md", "speech_table")],
)
def test_figures_are_those_of_the_committed_results(document: str, script: str) -> None:
    updated = importlib.import_module(f"benchmarks.publish.{script}").updated
    text = (ROOT / document).read_text()
    assert updated(text) == text


def test_readme_has_rows_for_what_was_measured() -> None:
    rows = importlib.import_module("benchmarks.publish.update_readme")
    still = {"eye_lpips": 0.2}
    ours = {"mouth_opening_correlation": 0.26, "eye_opening_correlation": 0.1, "eye_lpips": 0.13}
    mean = {"decoded": ours, "frozen_keyframe": still}
    assert dict(rows.openings({"mean": {**mean, "decoded": {"mouth_opening_correlation": 0.26}}})) == {
        "correlation of the mouth's opening, within clips": "0.26"
    }
    ceiling = {"mouth_opening_correlation": 0.97, "eye_opening_correlation": 0.95}
    blinks = {"source": 40, "shown": 4, "decoded": 10, "false": 7, "shown_share": 0.1, "false_share": 0.7}
    found = rows.openings({"mean": {**mean, "source_as_jpeg": ceiling}, "blinks": {"decoded": blinks}})
    assert [value for _, value in found] == ["0.26 / 0.97", "0.10 / 0.95", "10 % / 70 %", "0.1300 / 0.2000"]
    assert rows.motion({"psnr": 25.0}) == []
    assert rows.motion({"call_motion_bits_per_frame": 14.04}) == [("motion layer, call mode", "14.0 bits/frame")]
    curves = {"svtav1-file-256": [{"point": 63}], "svtav1-call-64": [{"point": 70}], "x265-file-256": [{"point": 51}]}
    assert rows.coarsest(curves) == "x265 51, SVT-AV1 70"


def test_readme_shows_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_files_stay_readable() -> None:
    for path in (ROOT / "tfcodec").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 420, path


SCRIPTS = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("benchmarks/*/*.py"))


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    """What is wrong with benchmarks that cannot be imported; of one process, since each would begin with torch."""
    code = (
        "import importlib, json, sys, traceback\n"
        "wrong = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError: pass\n"
        "    except BaseException: wrong[name] = traceback.format_exc()\n"
        "print(json.dumps(wrong))"
    )
    command = [sys.executable, "-c", code, *SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_benchmarks_can_be_started(script: str, wrong: dict[str, str]) -> None:
    assert script not in wrong, wrong[script]


@cache
def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    found = re.findall(rf"^([ ]*)```{language}\n(.*?)^\1```", (ROOT / document).read_text(), re.M | re.S)
    return [inspect.cleandoc(body) for _, body in found]


PYTHON = [(document, i) for document in DOCUMENTS for i in range(len(blocks(document, "python")))]
SHELL = [block.replace("\\\n", " ") for document in DOCUMENTS for block in blocks(document, "sh")]
COMMANDS = sorted({line for block in SHELL for line in block.splitlines()})


def without_code(document: str) -> str:
    return re.sub(r"^[ ]*```.*?^[ ]*```", "", (ROOT / document).read_text(), flags=re.M | re.S)


@cache
def anchors(path: Path) -> set[str]:
    """What links may point to in a document, as GitHub names its headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document: str) -> None:
    named = re.findall(r"`((?:tfcodec|benchmarks|tests|docs|examples)/[\w./-]*\w)/?`", without_code(document))
    assert [name for name in named if "NUMBER" not in name and not (ROOT / name).exists()] == []


def test_links_and_files_are_found_at_all() -> None:
    assert "a-new-part-of-the-stream" in anchors(ROOT / "docs" / "architecture.md")
    assert re.search(r"\]\(docs/calls.md\)", without_code("README.md"))
    assert len(PYTHON) >= 3
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize(("document", "which"), PYTHON)
def test_python_in_documents_compiles_and_names_what_exists(document: str, which: int) -> None:
    tree = ast.parse(blocks(document, "python")[which])
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("tfcodec."):
            assert found(ast.unparse(node)) is not None
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tfcodec."):
            known = inspect.signature(found(ast.unparse(node.func))).parameters
            assert {word.arg for word in node.keywords} <= known.keys(), ast.unparse(node)


def found(dotted: str) -> Any:
    """What a name below tfcodec stands for; AttributeError if nothing."""
    value: Any = tfcodec
    for part in dotted.split(".")[1:]:
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("tfcodec ")])
def test_commands_are_understood(line: str) -> None:
    build_parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_make_knows_its_targets(line: str) -> None:
    target = shlex.split(line, comments=True)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_scripts_and_modules_in_documents_exist() -> None:
    programs = [*ROOT.glob("benchmarks/*/*.py"), *ROOT.glob("examples/**/*.py")]
    text = "".join(path.read_text() for path in [*map(ROOT.joinpath, DOCUMENTS), *programs])
    modules = set(re.findall(r"python -m ((?:tfcodec|benchmarks)[\w.]*\w)", text))
    scripts = set(re.findall(r"python ((?:examples|tests)/[\w/]+\.py)", text))
    assert len(modules) > 20
    assert len(scripts) > 1
    missing = [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()]
    assert missing + [name for name in scripts if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_the_library_as_the_readme_shows_it(
    moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfcodec.media import write_video

    frames, sound = moving_face
    write_video(tmp_path / "talk.mp4", frames[:10], 25, sound[:6400], 16000)
    monkeypatch.chdir(tmp_path)
    tfcodec.encode("talk.mp4", "talk.tfc", refine=False)
    code = next(block for block in blocks("README.md", "python") if "tfcodec.probe" in block)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["clip"].frames.shape == (10, 256, 256, 3)
    assert names["frame"].number == 9
    parts = re.findall(r"\w+", code[code.rindex("#") :].partition(":")[0])  # "container, keyframe, ...: they sum to"
    assert parts == [name for name in names["info"].bytes if name != "total"]
    assert sum(names["info"].bytes[part] for part in parts) == len(names["data"])


@pytest.mark.slow
def test_the_example_of_rate_and_quality(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    from rate_distortion import rates

    rows = rates(moving_face[0][:6], (0, 10), refine=False)
    assert [row[0] for row in rows] == [0, 10]
    for metric in (1, 2, 3):
        assert rows[0][metric] < rows[1][metric]


@pytest.mark.slow
def test_a_call_as_the_readme_shows_it(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    frames, sound = moving_face
    on_the_way: list[bytes] = []
    shown: list[tuple[np.ndarray, np.ndarray]] = []

    def received() -> list[bytes]:
        arrived, on_the_way[:] = list(on_the_way), []
        return arrived

    names: dict[str, Any] = {
        "tfcodec": tfcodec, "camera": [(frames[i], sound[640 * i : 640 * (i + 1)]) for i in range(6)],
        "send": on_the_way.append, "received": received, "show": lambda *both: shown.append(both),
        "answer": lambda said: on_the_way.extend(names["enc"].push_feedback(said)),
    }  # fmt: skip
    code = next(block for block in blocks("README.md", "python") if "tfcodec.Encoder" in block)
    exec(compile(code, "README.md", "exec"), names)
    names["dec"].close()
    assert len(shown) == 6
    assert all(picture.shape == (256, 256, 3) and heard.shape == (640,) for picture, heard in shown)
