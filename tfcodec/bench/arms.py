"""The arms of the benchmark: codecs at one setting each, and what a coded clip consists of.

Two delay classes are never compared with one another: "file" (random access: the encoder looks ahead) and "call" (low
delay: every frame is coded when it comes). Settings follow the common practice for fair comparisons at very low
rates: slow presets, one intra frame for everybody, scene-cut detection off, one thread, default psycho-visual tuning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError

Delay = Literal["file", "call"]
Frames = NDArray[np.uint8]
Sound = NDArray[np.float32]

CLASSICAL = ("x264", "x265", "svtav1")
CODECS = ("tfcodec", "frozen", "bicubic8", *CLASSICAL)
DELAY_NAMES: dict[str, str] = {"file": "random access", "call": "low delay"}
TITLES = {
    "tfcodec": "tfcodec", "frozen": "frozen keyframe", "bicubic8": "8x8, bicubic", "x264": "x264 (H.264)",
    "x265": "x265 (H.265)", "svtav1": "SVT-AV1 (AV1)",
}  # fmt: skip

# CRF by size of the coded picture. The coarsest is the coarsest there is (SVT-AV1 has 70, of which FFmpeg's option lets
# through 63); the finest lies beyond tfcodec's ladder.
_CRF: dict[str, dict[int, tuple[int, ...]]] = {
    "x264": {256: (51, 46, 40), 128: (51, 43), 64: (51,)},
    "x265": {256: (51, 43, 38), 128: (51, 43), 64: (51,)},
    "svtav1": {256: (70, 63, 54, 48), 128: (70, 63, 55), 64: (70, 63)},
}
QUALITIES: dict[str, tuple[int, ...]] = {"file": (0, 2, 4, 5, 6, 8, 10), "call": (2, 5, 8)}
_TRIVIAL: dict[str, tuple[int, ...]] = {"frozen": (0, 2, 5, 8, 10), "bicubic8": (0, 5, 10)}
DEFAULT_QUALITY = 5


@dataclass(frozen=True)
class Arm:
    """One codec at one setting. ``point`` is tfcodec's quality, or the CRF; ``size`` the side of the coded picture."""

    codec: str
    delay: Delay
    size: int
    point: int

    @property
    def name(self) -> str:
        """Unique, fit for a file name."""
        return f"{self.curve}-{'crf' if self.codec in CLASSICAL else 'q'}{self.point:02d}"

    @property
    def curve(self) -> str:
        """Name of the rate-distortion curve that this arm is a point of."""
        return f"{self.codec}-{self.delay}-{self.size}"

    @property
    def suffix(self) -> str:
        """Suffix of its files' names."""
        return ".mp4" if self.codec in CLASSICAL else ".tny" if self.codec == "bicubic8" else ".tfc"


@dataclass(frozen=True)
class Coded:
    """Bytes of one coded clip, all counted in the file that was written.

    Attributes:
        payload: coded pictures, with parameter sets, without any container.
        file: the whole file, without the speech where it holds some.
        speech: speech in the file; 0 where the arm codes none.
        parts: where ``file`` goes; sums to it exactly.
        keyframes: pictures that are coded by themselves.
    """

    payload: int
    file: int
    speech: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    keyframes: int = 1


class Codec(Protocol):
    """How an arm is coded. Both functions work on files alone, so nothing of the encoder can leak into the picture."""

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        """Write pictures [T, 256, 256, 3] uint8, and 16 kHz speech where the format has a place for it."""

    def account(self, arm: Arm, path: Path) -> Coded:
        """Count the bytes of the file."""

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        """The pictures with the wanted indices (ascending), [len(wanted), 256, 256, 3] uint8, out of the file."""

    def encoder_state(self, arm: Arm) -> str:
        """Whatever decides the file's bytes besides the clip; other text: encode again."""

    def decoder_state(self, arm: Arm) -> str:
        """Whatever decides the pictures besides the file; other text: measure again."""


def select(codecs: list[str] | None, quick: bool) -> list[Arm]:
    """The arms of the named codecs (None: all); with ``quick`` two or three points of the main curves.

    Raises TfcodecError for an unknown name.
    """
    unknown = sorted(set(codecs or ()) - set(CODECS))
    if unknown:
        raise TfcodecError(f"no codec called {', '.join(unknown)}; there are {', '.join(CODECS)}")
    arms: list[Arm] = []
    delays: tuple[Delay, ...] = ("file", "call")
    for codec in CODECS:
        if codecs and codec not in codecs:
            continue
        for delay in delays:
            if codec in CLASSICAL:
                for size, points in _CRF[codec].items():
                    if not quick or size == 256:
                        arms += [Arm(codec, delay, size, crf) for crf in (points[:2] if quick else points)]
            elif codec == "tfcodec":
                points = (2, 5, 8) if quick and delay == "file" else (5,) if quick else QUALITIES[delay]
                arms += [Arm(codec, delay, 256, q) for q in points]
            elif delay == "file":
                points = (2, 5) if quick else _TRIVIAL[codec]
                arms += [Arm(codec, delay, 256 if codec == "frozen" else 8, q) for q in points]
    return arms
