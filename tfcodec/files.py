"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from .errors import MediaError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under a temporary name beside its place and rename it: it is there whole or not at all.

    Raises MediaError when it cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
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


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as indented JSON, whole or not at all. Raises MediaError when it cannot be written."""
    write_atomically(path, json.dumps(value, indent=1).encode() + b"\n")
