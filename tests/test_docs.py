"""README and results must agree, and no one's picture may be in the repository by accident."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_readme_figures_are_those_of_the_committed_results() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from update_readme import updated
    finally:
        sys.path.pop(0)
    readme = (ROOT / "README.md").read_text()
    assert updated(readme) == readme


def test_readme_shows_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_files_stay_readable() -> None:
    for path in (ROOT / "tfcodec").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 420, path


def test_figures_of_calls_are_those_of_the_committed_results() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from call_table import updated
    finally:
        sys.path.pop(0)
    document = (ROOT / "docs/calls.md").read_text()
    assert updated(document) == document
