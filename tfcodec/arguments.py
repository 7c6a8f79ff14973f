"""Arguments of public functions: one of the wrong type is refused as plainly as one that is out of range."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any

from .errors import MediaError, TfcodecError


def whole(
    name: str, value: object, least: int | None = None, most: int | None = None, unit: str = "",
    error: type[TfcodecError] = TfcodecError,
) -> int:  # fmt: skip
    """The value, if it is a whole number from ``least`` to ``most``, as far as these are given; else raises ``error``.

    ``unit`` is what it is a number of, for the message.
    """
    number: int | None = None
    if not isinstance(value, bool):
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        range_ = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
        raise error(f"{name} must be a whole number{range_}{unit and ' '}{unit}, not {value!r}")
    return number


def seconds(name: str, value: Any) -> float:
    """The value, if it is a time: a number of 0 or more that is finite. Raises TfcodecError."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise TfcodecError(f"{name} must be a time in seconds, 0 or more, not {value!r}")
    return number


def path(name: str, value: object) -> Path:
    """The value, if it is a path. Raises MediaError."""
    text = value if isinstance(value, str) else value.__fspath__() if isinstance(value, os.PathLike) else None
    if not isinstance(text, str):
        raise MediaError(f"{name} must be a path, not {type(value).__name__}")
    if not text or "\0" in text:
        raise MediaError(f"{name} must be a path, not {text!r}")
    return Path(text)


def packet(value: object) -> bytes:
    """A packet's bytes. Raises TfcodecError for what is no bytes."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TfcodecError(f"a packet is bytes, not {type(value).__name__}")
    return bytes(value)
