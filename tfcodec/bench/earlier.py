"""Rows of an earlier run: rivals that did not change need not be coded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import TfcodecError
from .runner import Row


def read(path: Path) -> dict[str, Any]:
    """What a results.json holds. Raises TfcodecError if it is none."""
    try:
        earlier = json.loads(path.read_text())
    except OSError as error:
        raise TfcodecError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        earlier = None
    if not isinstance(earlier, dict) or not isinstance(earlier.get("rows"), list):
        raise TfcodecError(f"{path} is no results.json of tfcodec bench")
    return earlier


def add_earlier(earlier: dict[str, Any], source: Path, result: dict[str, Any]) -> None:
    """Add to ``result``, what this run has measured as results.json holds it, rows of the same clips for all settings
    and speech codecs that it has not, and under ``earlier`` what is to be said of their run.

    Where ``result`` has measured speech, others' rows without all of its metrics are left out.

    Args:
        earlier: what `read` gave of ``source``.

    Raises:
        TfcodecError: it is no such file, judges other frames or by other metrics, or has none of the clips.
    """
    try:
        rows: list[Row] = earlier["rows"]
        hashes = {clip["clip"]: clip["sha256"] for clip in earlier["clips"]}
        about = {"environment": earlier["environment"], "network": earlier["network"]}
        settings = {name: earlier[name] for name in ("every", "crop", "quick")}
    except (KeyError, TypeError):
        raise TfcodecError(f"{source} is no results.json of tfcodec bench") from None
    for name, value in settings.items():
        if value != result[name]:
            raise TfcodecError(f"{source} was made with {name}={value}, this run with {name}={result[name]}")
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
