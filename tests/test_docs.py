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


def test_readme_has_rows_for_what_was_measured() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        rows = importlib.import_module("update_readme")
    finally:
        sys.path.pop(0)
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


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_benchmarks_can_be_started(script: str) -> None:
    command = [sys.executable, "-c", f"import {script}"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert done.returncode == 0 or "No module named" in done.stderr, done.stderr
