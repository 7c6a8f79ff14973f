"""Writing files whole or not at all; their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

from . import arguments
from .errors import MediaError

_LONGEST = 255 - len("..12345678.tmp")
"""Bytes of a target's name that have room in that of its temporary file."""


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under a temporary name beside its place and rename it: it is there whole or not at all.

    A link is followed; into what is no regular file (a device, a named pipe) the bytes are written.

    Raises MediaError when it cannot be written.
    """
    target = destination(path)
    try:
        if is_special(target):
            with target.open("wb", buffering=0) as file:
                _write_all(file, data)
            return
        handle, name = tempfile.mkstemp(prefix=temporary_prefix(target), dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            # mkstemp makes the file private; an output has the permissions that any new file would have.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MediaError(f"cannot write {target}: {error.strerror or error}") from None


def temporary_prefix(target: Path) -> str:
    """How the name of a file begins that is to become the target; 8 letters and perhaps ``.tmp`` follow.

    A name may have 255 bytes: of one that leaves no room, the beginning is taken, and a checksum.
    """
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST:
        return f".{target.name}."
    return f".{name[: _LONGEST - 9].decode(errors='ignore')}-{zlib.crc32(name):08x}."


def sha256(path: Path) -> str:
    """Of a file's bytes, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def destination(path: str | os.PathLike[str]) -> Path:
    """The place that an output of this name goes to: links are followed.

    Raises MediaError if it is no path, or if the links go in a circle.
    """
    target = arguments.path("out", path)
    try:
        return target.resolve() if target.is_symlink() else target
    except (OSError, RuntimeError) as error:
        raise MediaError(f"cannot write {target}: {error}") from None


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise MediaError where a file of this name could not be written: before the work that would be lost."""
    target = destination(path)
    folder = target.absolute().parent
    if is_special(target):
        return
    if target.is_dir():
        problem = errno.EISDIR
    elif not folder.is_dir():
        problem = errno.ENOTDIR if folder.exists() else errno.ENOENT
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem = errno.EACCES
    else:
        return
    raise MediaError(f"cannot write {target}: {os.strerror(problem)}")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, with those above it, if it is not there. Raises MediaError."""
    folder = arguments.path("out", path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot make {folder}: {error.strerror or error}") from None
    return folder


def refuse_same(source: object, out: object) -> None:
    """Raise MediaError where an output would take the place of what it is made of."""
    paths = [x for x in (source, out) if isinstance(x, str | os.PathLike)]
    try:
        same = len(paths) == 2 and os.path.samefile(*paths) and not is_special(Path(paths[0]))
    except (OSError, ValueError):  # one of them is not there, or no path
        return
    if same:
        raise MediaError(f"{out} is what it would be made of: give the output another name")


def is_special(path: Path) -> bool:
    """Whether there is something at a path that is to be written into, not replaced: a device, a pipe, a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def put_in_place(made: Path, target: Path) -> None:
    """Rename a finished file to where it belongs, or copy it into a device or a pipe. Raises OSError."""
    if is_special(target):
        with made.open("rb") as source, target.open("wb", buffering=0) as file:
            shutil.copyfileobj(source, file)
        made.unlink()
    else:
        os.replace(made, target)


def write_to(file: Any, data: bytes) -> None:
    """Write to a binary file object. Raises MediaError when that fails."""
    try:
        _write_all(file, data)
        if hasattr(file, "flush"):
            file.flush()
    except BrokenPipeError:
        raise
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"cannot write to {getattr(file, 'name', 'the file object')}: {reason}") from None


def _write_all(file: IO[bytes] | Any, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        written = file.write(view)  # of an unbuffered file possibly less than was given
        if written == 0:
            raise OSError("it takes no bytes")
        view = view[len(view) if written is None else written :]


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as indented JSON, whole or not at all. Raises MediaError when it cannot be written."""
    write_atomically(path, json.dumps(value, indent=1).encode() + b"\n")
