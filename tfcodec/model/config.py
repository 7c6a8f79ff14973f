"""What a network is made of, beside its weights: saved with them, so that a variant is never read as another one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from ..errors import WeightsError


@dataclass(frozen=True)
class NetworkConfig:
    """Constructor options of the upsampling network. The default is the network that ships; the rest are ablations."""

    audio: bool = True
    """Speech conditions stage 1."""
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

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> NetworkConfig:
        """The options in a weights file's metadata; None, and options that are not named, are of files from
        before there were such: they had all parts but the landmarks.

        Raises WeightsError when they are damaged or of a network that this version does not know.
        """
        if text is None:
            return cls(landmarks=False)
        try:
            options = json.loads(text)
        except ValueError:
            raise WeightsError(f"the network's options are damaged: {text[:100]!r}") from None
        known = {field.name for field in fields(cls)}
        if not isinstance(options, dict) or not options.keys() <= known:
            raise WeightsError(f"these weights are of a network that this version does not know: {text[:200]}")
        if not all(isinstance(value, bool) for value in options.values()):
            raise WeightsError(f"the network's options must be true or false: {text[:200]}")
        return cls(**{"landmarks": False, **options})


DEFAULT = NetworkConfig()
