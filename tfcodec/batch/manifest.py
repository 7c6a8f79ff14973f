"""The manifest of a batch: a row for each file, as JSON lines, and as parquet where pyarrow is installed.

While a batch runs, rows are added at the end, so that whatever happens keeps what is done; a row replaces an earlier
one of the same name. When it ends, the file is written anew with one row for each name, in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import MediaError
from ..files import write_atomically

Row = dict[str, Any]
LINES, TABLE = "manifest.jsonl", "manifest.parquet"


class Manifest:
    """The manifest in a folder. `rows`: by name, as far as they can be read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LINES
        self.rows: dict[str, Row] = {}
        try:
            text = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise MediaError(f"cannot read {self.path}: {error.strerror or error}") from None
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line, where the machine went down
            if _is_row(row):
                self.rows[row["name"]] = row
        self._changed = text.count(b"\n") != len(self.rows)
        self._torn = bool(text) and not text.endswith(b"\n")

    def add(self, *rows: Row) -> None:
        """Add rows at the end of the file. Raises MediaError when it cannot be written."""
        data = b"".join(map(_line, rows))
        try:
            with self.path.open("ab") as file:
                file.write(b"\n" + data if self._torn else data)
        except OSError as error:
            raise MediaError(f"cannot write {self.path}: {error.strerror or error}") from None
        self._torn, self._changed = False, True
        self.rows.update((row["name"], row) for row in rows)

    def close(self) -> None:
        """Write one row for each name, in order, if anything is new. Raises MediaError when it cannot be written."""
        if not self._changed:
            return
        rows = [self.rows[name] for name in sorted(self.rows)]
        write_atomically(self.path, b"".join(map(_line, rows)))
        _write_table(self.path.with_name(TABLE), rows)


def _is_row(value: Any) -> bool:
    """Whether it is a row of a manifest: what the file says decides what is written where."""
    if not isinstance(value, dict) or any(not isinstance(value.get(key), str) for key in ("name", "out", "status")):
        return False
    place = PurePosixPath(value["out"])
    if place.is_absolute() or ".." in place.parts or "\0" in value["out"]:
        return False
    kinds = {**_COLUMNS, "options": dict, "bytes": dict}
    return all(
        value.get(name) is None or isinstance(value[name], (float, int) if kind is float else kind)
        for name, kind in kinds.items()
    )


def _line(row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # the name of a file need not be UTF-8
        return json.dumps(row).encode() + b"\n"


def _write_table(path: Path, rows: Iterable[Row]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    flat = [_flat(row) for row in rows]
    schema = pyarrow.schema([(name, _arrow(pyarrow, kind)) for name, kind in _COLUMNS.items()])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(flat, schema=schema), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


PARTS = ("container", "keyframe", "motion", "tiny", "displacement", "audio", "total")
_COLUMNS = {
    **dict.fromkeys(("name", "source", "out", "mode", "status", "error", "version", "network", "finished"), str),
    **dict.fromkeys(("source_bytes", "source_mtime_ns", "out_bytes", "frames", "attempts", "peak_memory_bytes"), int),
    **dict.fromkeys((f"bytes_{part}" for part in PARTS), int),
    **dict.fromkeys(("duration_seconds", "kbps", "wall_seconds", "cpu_seconds"), float),
    "source_sha256": str, "options": str, "warnings": list, "face": bool, "again": bool,
}  # fmt: skip
"""Columns of the table. Options are JSON: they differ between encoding and decoding."""


def _flat(row: Mapping[str, Any]) -> Row:
    parts = row.get("bytes") or {}
    flat = {name: row.get(name) for name in _COLUMNS} | {f"bytes_{part}": parts.get(part) for part in PARTS}
    flat["options"] = json.dumps(row.get("options"))
    return {name: _text(value) for name, value in flat.items()}


def _text(value: Any) -> Any:
    """Strings of a table are UTF-8; what is not of a file's name is written as ``\\udcff``."""
    if isinstance(value, list):
        return [_text(part) for part in value]
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _arrow(pyarrow: Any, kind: type) -> Any:
    if kind is list:
        return pyarrow.list_(pyarrow.string())
    return {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}[kind]
