"""Which files a batch is made of: a folder, a list or a table, each with the name of what is made of it."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import MediaError, TfcodecError
from .manifest import Row
from .options import COLUMNS, Encoding, Options, with_columns

VIDEOS = frozenset(
    (
        ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
        ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    )
)  # fmt: skip
"""What is taken for a video in a folder. A list or a table may name any file."""
STREAMS = frozenset((".tfc",))


@dataclass(frozen=True)
class Task:
    """A file of a batch.

    Attributes:
        name: by which the manifest knows it: its path below the folder, or below that of the list, with ``/``; if it
            lies elsewhere, the whole path.
        source: its path.
        out: what is made of it, below the output folder, with ``/``.
        options: how.
        fault: why nothing can be made of it, if that is known already.
    """

    name: str
    source: Path
    out: str
    options: Options
    fault: str = ""


@dataclass(frozen=True)
class _Entry:
    """A line of a list or a table, or a file of a folder."""

    name: str
    source: Path
    out: str | None
    cells: Mapping[str, Any]


def plan(source: Path, out: Path, options: Options, known: Mapping[str, Row]) -> list[Task]:
    """The tasks of a batch, in order of their names.

    Names of outputs are given once: what the manifest says holds, so that a file that is added changes no other's.

    Args:
        source: a folder, which is searched with its subfolders; ``.txt``: a path in each line; ``.csv`` or
            ``.parquet``: a column ``path``, and as far as wanted ``out`` and the options in `COLUMNS`. Paths in it
            are relative to its own folder.
        out: the output folder.
        options: for every file, where a table does not say otherwise.
        known: the manifest's rows by name.

    Raises:
        MediaError: the folder, list or table is not there, cannot be read, or names nothing.
        TfcodecError: it is a parquet table, and pyarrow is not installed.
    """
    wanted = VIDEOS if isinstance(options, Encoding) else STREAMS
    entries: dict[str, _Entry] = {}
    twice: set[str] = set()
    for entry in _entries(source, out, wanted):
        first = entries.setdefault(entry.name, entry)
        if any(first.cells.get(name) != entry.cells.get(name) for name in ("out", *COLUMNS)):
            twice.add(entry.name)
    if not entries:
        what = f"{source}: no files ({', '.join(sorted(wanted))})" if source.is_dir() else f"{source}: names no files"
        raise MediaError(what)
    suffix = ".tfc" if isinstance(options, Encoding) else ".mkv" if options.lossless else ".mp4"
    kept = {name: str(known[name]["out"]) for name in entries if name in known}
    taken = set(kept.values())
    tasks = []
    for name, entry in sorted(entries.items()):
        fault, its = "", options
        try:
            its = with_columns(options, entry.cells)
        except TfcodecError as error:
            fault = str(error)
        if name in twice:
            fault = "is there twice, with different cells: a second stream of a file needs a batch of its own"
        if "\0" in name:
            fault = "has a character in its name that no file can have"
        if entry.out is not None:
            place, wrong = _below(entry.out, suffix)
            if place in taken - {kept.get(name)}:
                wrong = f"two files are to be written to {place}"
            fault = wrong or fault
        elif name in kept and PurePosixPath(kept[name]).suffix == suffix:
            place = kept[name]
        else:
            place = _free(name, suffix, taken)
        taken.add(place)
        tasks.append(Task(name, entry.source, place, its, fault))
    return tasks


def _entries(source: Path, out: Path, wanted: frozenset[str]) -> Iterator[_Entry]:
    if source.is_dir():
        yield from _of_folder(source, out, wanted)
        return
    base = source.absolute().parent
    for cells in _lines(source):
        said = cells.get("path")
        if not isinstance(said, str) or not said.strip():
            continue
        path = base / said.strip()
        place = cells.get("out")
        named = place.strip() if isinstance(place, str) else ""
        yield _Entry(_name(path, base), path, named or None, cells)


def _of_folder(folder: Path, out: Path, wanted: frozenset[str]) -> Iterator[_Entry]:
    own = out.resolve()
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        inside = [name for name in folders if not name.startswith(".") and Path(place, name).resolve() != own]
        folders[:] = sorted(inside)
        for name in sorted(files):
            path = Path(place, name)
            if path.suffix.lower() in wanted and not name.startswith("."):
                yield _Entry(path.relative_to(folder).as_posix(), path.absolute(), None, {})


def _unreadable(error: OSError) -> None:
    # Left out, its files would be missing without a word.
    raise MediaError(f"cannot read {error.filename}: {error.strerror or error}") from None


def _lines(source: Path) -> list[dict[str, Any]]:
    suffix = source.suffix.lower()
    try:
        if suffix == ".txt":
            return [{"path": line} for line in re.split("\r\n|\n|\r", _text(source.read_bytes()))]
        if suffix == ".csv":
            with io.StringIO(_text(source.read_bytes()), newline="") as file:
                rows = _csv(source, csv.DictReader(file, skipinitialspace=True))
        elif suffix == ".parquet":
            rows = _parquet(source)
        else:
            raise MediaError(f"{source}: a batch is a folder, a list (.txt) or a table (.csv, .parquet)")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"{source}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if rows and "path" not in rows[0]:
        raise MediaError(f"{source}: has no column path, but {', '.join(map(str, rows[0]))}")
    return rows


def _text(data: bytes) -> str:
    """Text in UTF-8, or, as Windows' shells write it, in UTF-16. Names of files need be neither. Raises
    UnicodeDecodeError."""
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if data.startswith(mark):
            return data.decode("utf-16")
    return os.fsdecode(data.removeprefix(codecs.BOM_UTF8))


def _csv(source: Path, reader: csv.DictReader[str]) -> list[dict[str, Any]]:
    rows = []
    for row in reader:
        if None in row:
            raise MediaError(
                f"{source}: line {reader.line_num} has more cells than there are columns: what has a comma in it needs "
                "quotes"
            )
        rows.append({name.strip(): cell for name, cell in row.items()})
    return rows


def _parquet(source: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TfcodecError(f"{source}: parquet needs pyarrow: pip install 'tfcodec[scale]'") from None
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(source).to_pylist()
    except pyarrow.ArrowException as error:
        raise MediaError(f"{source}: cannot be read ({error})") from None
    return rows


def _name(path: Path, base: Path) -> str:
    plain = Path(os.path.normpath(path))
    return plain.relative_to(base).as_posix() if plain.is_relative_to(base) else plain.as_posix()


def _below(said: str, suffix: str) -> tuple[str, str]:
    """A table's name for an output, and what is wrong with it."""
    place = PurePosixPath(os.path.normpath(said).replace(os.sep, "/"))
    if "\0" in said or place.is_absolute() or ".." in place.parts or Path(said).is_absolute():
        return place.as_posix(), f"column out: {said} is not below the output folder"
    if place.suffix != suffix:
        return place.as_posix(), f"column out: {said} must end in {suffix}"
    return place.as_posix(), ""


def _free(name: str, suffix: str, taken: set[str]) -> str:
    """An output's name: `a/b.mp4` gives `a/b.tfc`, or, if that is taken (by `a/b.mov`), `a/b.mp4.tfc`."""
    path = PurePosixPath(name)
    path = path.relative_to(path.anchor) if path.is_absolute() else path
    places = [path.with_suffix(suffix), *(path.with_name(f"{path.name}{n}{suffix}") for n in ("", *_numbers()))]
    return next(place for one in places if (place := one.as_posix()) not in taken)


def _numbers() -> Iterator[str]:
    return (f".{number}" for number in range(2, 1000))
