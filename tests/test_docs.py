"""README and results must agree, and no one's picture may be in the repository by accident."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("document", "script"), [("README.md", "update_readme"), ("docs/calls.md", "call_table")])
def test_figures_are_those_of_the_committed_results(document: str, script: str) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        updated = importlib.import_module(script).updated
    finally:
        sys.path.pop(0)
    text = (ROOT / document).read_text()
    assert updated(text) == text


def test_readme_shows_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_files_stay_readable() -> None:
    for path in (ROOT / "tfcodec").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 420, path


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_benchmarks_can_be_started(script: str) -> None:
    command = [sys.executable, "-c", f"import {script}"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert done.returncode == 0 or "No module named" in done.stderr, done.stderr
