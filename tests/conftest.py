"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def find_data() -> Path | None:
    """The folder of talking-face clips, or None: TFCODEC_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("TFCODEC_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if (folder / "manifest.tsv").is_file() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The clips' folder; the test is skipped where there is none."""
    folder = find_data()
    if folder is None:
        pytest.skip("needs talking-face clips: set TFCODEC_DATA to a folder with manifest.tsv, train/ and val/")
    return folder
