"""Where networks compute: on the processor or on a graphics card. Loading this module needs no torch."""

from __future__ import annotations

import re

from ..arguments import whole
from ..errors import TfcodecError

FRAMES_AT_ONCE = 64
"""Frames that are drawn together on a graphics card, unless the caller says otherwise."""


def check_batch(batch: object) -> int | None:
    """How many frames are to be drawn together, 1 to 4096; None: what suits the device. Raises TfcodecError."""
    return None if batch is None else whole("batch", batch, 1, 4096)


def check_device(name: str) -> str:
    """The name, if it is one: "auto", "cpu", "cuda", "cuda:1" or "mps". Raises TfcodecError."""
    if not isinstance(name, str) or re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name) is None:
        raise TfcodecError(f'device must be "auto", "cpu", "cuda", "cuda:NUMBER" or "mps", not {name!r}')
    return name


def find_device(name: str) -> str:
    """The device that ``name`` means here, as torch calls it; "auto": CUDA where there is such a card, else "cpu".

    Raises:
        TfcodecError: there is no such device.
    """
    if check_device(name) == "cpu":
        return name
    import torch

    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if cards else "cpu"
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise TfcodecError(f'device="mps": torch {torch.__version__} finds no Metal here; "cpu" works everywhere')
    elif not cards:
        raise TfcodecError(f'device="{name}": torch {torch.__version__} finds no CUDA here; "cpu" works everywhere')
    elif int(name.partition(":")[2] or 0) >= cards:
        raise TfcodecError(f'device="{name}": there are only {cards} CUDA devices here, numbered from 0')
    return name
