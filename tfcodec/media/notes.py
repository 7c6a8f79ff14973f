"""What is said about an input that could be read, but not as well as its maker meant it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from tfcodec.errors import MediaError


class Notes:
    """Collects warnings, each of them once.

    Args:
        name: of the input, for errors.
        strict: a warning is an error.
        warn: called with each warning when it is first given.
    """

    def __init__(self, name: str = "", *, strict: bool = False, warn: Callable[[str], None] | None = None) -> None:
        self.name = name
        self.warnings: list[str] = []
        self._strict, self._warn = strict, warn

    def add(self, text: str) -> None:
        """Note a warning, a sentence without a full stop. Raises MediaError if warnings are errors."""
        if self._strict:
            raise MediaError(f"{self.name}: {text} (a warning, which strict makes an error)")
        if text not in self.warnings:
            self.warnings.append(text)
            if self._warn is not None:
                self._warn(text)


def seconds(time: Fraction) -> str:
    """A time as warnings give it: 1.2 s."""
    return f"{float(time):.1f} s"
