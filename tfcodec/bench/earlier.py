"""Rows of an earlier run: rivals that did not change need not be coded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import TfcodecError
from .runner import Row

SETTINGS = ("every", "crop", "quick")
"""What two runs have to have in common."""


def read(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a results.json holds. Raises TfcodecError if it is none, or was made with other ``settings``."""
    try:
        earlier = json.loads(path.read_text())
    except OSError as error:
        raise TfcodecError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        earlier = None
    try:
        if not isinstance(earlier["rows"], list):
            raise TypeError
        _about(earlier)
        found = {name: earlier[name] for name in SETTINGS}
    except (KeyError, TypeError):
        raise TfcodecError(f"{path} is no results.json of tfcodec bench") from None
    for name, value in found.items():
        if value != settings[name]:
            raise TfcodecError(f"{path} was made with {name}={value}, this run with {name}={settings[name]}")
    return dict(earlier)


def _about(earlier: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The hashes of its clips, and what is to be said of the run."""
    hashes = {clip["clip"]: clip["sha256"] for clip in earlier["clips"]}
    return hashes, {"environment": earlier["environment"], "network": earlier["network"]}


def add_earlier(earlier: dict[str, Any], source: Path, result: dict[str, Any]) -> None:
    """Add to ``result``, what this run has measured as results.json holds it, rows of the same clips for all settings
    and speech codecs that it has not, and under ``earlier`` what is to be said of their run.

    Where ``result`` has measured speech, others' rows without all of its metrics are left out.

    Args:
        earlier: what `read` gave of ``source``.

    Raises:
        TfcodecError: it judges by other metrics, or has none of the clips.
    """
    rows: list[Row] = earlier["rows"]
    hashes, about = _about(earlier)
    ours = {row["arm"] for row in result["rows"]}
    same = {clip["clip"] for clip in result["clips"] if hashes.get(clip["clip"]) == clip["sha256"]}
    wanted = [row for row in rows if row["clip"] in same and row["arm"] not in ours]
    if not wanted:
        raise TfcodecError(f"{source} has no other rows for these clips")
    lacking = sorted({name for row in wanted for name in result["metrics"] if name not in row["metrics"]})
    if lacking:
        raise TfcodecError(f"{source} has no {', '.join(lacking)}: name the others with metrics")
    result["rows"] += _judged(wanted, result["metrics"])
    result["earlier"] = about | {"codecs": sorted({row["codec"] for row in wanted})}
    spoken = {row["codec"] for row in result["speech_rows"]}
    told = [row for row in earlier.get("speech_rows", []) if row["clip"] in same and row["codec"] not in spoken]
    if not spoken and told:
        result |= {name: earlier[name] for name in ("speech_metrics", "speech_left_out")}
    names = result["speech_metrics"]
    result["speech_rows"] += _judged([row for row in told if all(name in row["metrics"] for name in names)], names)


def _judged(rows: list[Row], metrics: list[str]) -> list[Row]:
    """The rows by these metrics alone."""
    return [row | {"metrics": {name: row["metrics"][name] for name in metrics}} for row in rows]
