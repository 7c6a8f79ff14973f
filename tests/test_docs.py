"""README and results must agree, and no one's picture may be in the repository by accident."""

from __future__ import annotations

import importlib
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
