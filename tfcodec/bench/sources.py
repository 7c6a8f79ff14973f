"""The clips that are measured: read once, 256x256 at 25 frames a second, with their sound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import MediaError
from ..files import sha256
from .arms import Frames, Sound

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".y4m"))
MAX_SECONDS = 60
"""Longer clips are cut: keyframes are paid for once, so that clips of very different lengths cannot be averaged."""

CropMode = Literal["auto", "none"]


@dataclass(frozen=True)
class Source:
    """A clip in memory."""

    frames: Frames
    sound: Sound | None

    @property
    def seconds(self) -> float:
        return len(self.frames) / 25


def find_clips(folder: Path) -> list[Path]:
    """The videos of a folder, sorted by name. Raises MediaError when there are none."""
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder")
    clips = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith("."))
    if not clips:
        raise MediaError(f"{folder}: no videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return clips


def digest(path: Path) -> str:
    """First 16 hexadecimal digits of a file's SHA-256."""
    return sha256(path)[:16]


@lru_cache(maxsize=2)
def load(path: Path, crop: CropMode) -> Source:
    """Read a clip; the last two stay in memory. Raises MediaError, NoFaceError."""
    from ..media import open_source

    with open_source(path, crop=crop) as clip:
        frames = np.stack(list(islice(clip.frames_iter(), MAX_SECONDS * 25)))
        sound = None if clip.audio is None else clip.audio[: len(frames) * 640]
    frames.setflags(write=False)
    return Source(frames, sound)
