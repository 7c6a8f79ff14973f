"""Finding the face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def track(pictures: Iterator[Any], count: int, progress: Callable[[int, int], None] | None) -> Any:
    raise NotImplementedError
