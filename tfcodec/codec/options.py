"""How a clip or a call is encoded: what users set, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..arguments import whole
from ..bitstream import MAX_UNIT_FRAMES, MAX_UNITS
from ..bitstream.sequence import WRAP
from ..errors import TfcodecError
from ..model.device import check_device, find_device
from ..speech.choice import Choice, choose
from .parts.layer import Refining
from .parts.speech import Silence, check_silence

if TYPE_CHECKING:
    from ..model.tracker import FaceTracker

Redundancy = int | Literal["auto"]


@dataclass(frozen=True)
class EncodeOptions:
    """What both encoders are made for; `tfcodec.Encoder` says what each option means. The last four are for calls.

    Raises:
        TfcodecError: an option is out of range.
        MediaError: no such speech codec or bit rate.
        SpeechCodecMissing: the speech codec is not installed.
    """

    quality: int = 5
    refine: bool | Refining = True
    motion: bool | FaceTracker = True
    speech: str | Choice = "auto"
    inter_keyframes: bool = True
    silence: Silence = "gate"
    device: str = "cpu"
    bundle: int = 2
    redundancy: Redundancy = "auto"
    refresh: int = 25
    origin: int | None = None

    def __post_init__(self) -> None:
        check_silence(self.silence)
        if check_device(self.device) != "auto":
            find_device(self.device)
        if not isinstance(self.refine, bool) and not hasattr(self.refine, "refine"):
            raise TfcodecError(f"refine must be True, False or a Refiner, not {self.refine!r}")
        if not isinstance(self.motion, bool) and not hasattr(self.motion, "parameters"):
            raise TfcodecError(f"motion must be True, False or a FaceTracker, not {self.motion!r}")
        for name, least, most, other in (
            ("quality", 0, 10, ()), ("bundle", 1, MAX_UNIT_FRAMES, ()), ("redundancy", 0, MAX_UNITS - 1, ("auto",)),
            ("refresh", 1, None, ()), ("origin", 0, WRAP - 1, (None,)),
        ):  # fmt: skip
            if (value := getattr(self, name)) not in other:
                object.__setattr__(self, name, whole(name, value, least, most))
        self.voice()

    def where(self) -> str:
        """The device of the networks that encoding asks, as torch calls it; "cpu" if it asks none."""
        return find_device(self.device) if self.refine or self.motion else "cpu"

    def voice(self) -> Choice | None:
        """The codec of the speech and its bit rate; None: speech is left out."""
        return self.speech if isinstance(self.speech, Choice) else choose(self.speech, self.quality)
