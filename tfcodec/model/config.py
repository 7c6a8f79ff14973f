"""What a network is made of, beside its weights: saved with them, so that a variant is never read as another one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from ..errors import WeightsError


class Shape(NamedTuple):
    """How wide and how deep a network is."""

    widths: dict[int, int]
    """Side of a feature map in pixels -> its channels."""
    blocks8: int
    """Residual blocks of stage 1 at 8 pixels."""
    blocks16: int
    """... before the first flow, at 16 pixels."""
    blocks: int
    """... of either stage at each of 32, 64 and 128 pixels."""
    light: bool = False
    """Built as in `light`."""
    closeups: tuple[int, int, int] = (32, 56, 96)
    """Channels of the close-ups at a half, a quarter and an eighth of their resolution."""
    closeup_blocks: int = 3
    """Their residual blocks at an eighth."""


SHAPES = {
    "standard": Shape({128: 24, 64: 40, 32: 80, 16: 112, 8: 144}, 4, 2, 1),
    "wide": Shape({128: 25, 64: 40, 32: 84, 16: 128, 8: 160}, 1, 1, 1),
    "deep": Shape({128: 20, 64: 32, 32: 68, 16: 100, 8: 128}, 6, 3, 2),
    "large": Shape({128: 32, 64: 48, 32: 80, 16: 112, 8: 144}, 4, 2, 1),
    "light": Shape({128: 16, 64: 32, 32: 48, 16: 64, 8: 96}, 2, 1, 1, True, (16, 32, 64), 2),
}
"""All of the same cost, but for the large one, which has a third more, at 64 and 128 pixels, and the light one, which
has a quarter."""


@dataclass(frozen=True)
class NetworkConfig:
    """Constructor options of the upsampling network. The default is the network that ships; the rest are ablations."""

    audio: bool = False
    """Speech conditions stage 1. Where a frame's motion is given it has nothing to add: it speaks through that."""
    keyframe: bool = True
    """False: super-resolution of the tiny frames alone. Their bicubic enlargement takes the keyframe's place."""
    window: bool = True
    """False: the network sees the current tiny frame in all places of the window."""
    consistency: bool = True
    """The difference between the moved keyframe's box means and the tiny frame is fed back at every level."""
    projection: bool = True
    """What the picture's box means still lack of the tiny frame is added at the end."""
    stage2: bool = True
    """False: the picture is the enlarged coarse frame."""
    landmarks: bool = True
    """The keyframe's landmarks, and where the tiny frames say they went, guide both stages."""
    motion: bool = True
    """The frame's own landmarks may be given, in place of what the tiny frames say; a tracker finds the keyframe's."""
    closeups: bool = True
    """Mouth and eyes are drawn again in squares along the landmarks."""
    recurrence: bool = False
    """The flow and the features of the frame before are inputs of stage 1."""
    second_reference: bool = False
    """Frames are drawn from two keyframes of the clip, each moved by stage 1, and blended in stage 2."""
    restoration: bool = True
    """The decoded keyframe is restored before anything is drawn from it."""
    shape: str = "standard"
    """Name of one of `SHAPES`."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> NetworkConfig:
        """The options in a weights file's metadata; None, and options that are not named, are of files from
        before there were such.

        Raises WeightsError when they are damaged or of a network that this version does not know.
        """
        if text is None:
            return cls(**BEFORE)
        try:
            options = json.loads(text)
        except ValueError:
            raise WeightsError(f"the network's options are damaged: {text[:100]!r}") from None
        known = {field.name for field in fields(cls)}
        if not isinstance(options, dict) or not options.keys() <= known:
            raise WeightsError(f"these weights are of a network that this version does not know: {text[:200]}")
        shape = options.get("shape", "standard")
        if not isinstance(shape, str) or shape not in SHAPES:
            raise WeightsError(f"these weights are of a network whose shape this version does not know: {text[:200]}")
        if not all(isinstance(value, bool) for name, value in options.items() if name != "shape"):
            raise WeightsError(f"the network's options must be true or false: {text[:200]}")
        return cls(**{**BEFORE, **options})


DEFAULT = NetworkConfig()
BEFORE: dict[str, Any] = {"audio": True, "landmarks": False, "motion": False, "closeups": False, "restoration": False}
"""What the options of network 1 were, where they are not the default's."""
