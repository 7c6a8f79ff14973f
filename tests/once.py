"""What many tests compute of the same pictures, computed once: coded keyframes, landmarks, drawn frames.

Everything that a result depends on is part of what it is kept under, so that nothing is taken for something else. That
computing it again gives the same is shown by the tests of those parts, which compute everything anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from tfcodec.model.renderer import Renderer
    from tfcodec.model.tracker import FaceTracker
    from tfcodec.model.tracking import Looking

TRACKED = (
    "bench", "cli", "codec", "device", "displaced", "inter_streams", "light", "live", "motion_layer", "odd_calls",
    "outputs", "player", "reader", "refine", "silence", "speech_codecs", "typical", "web_call", "web_module",
)  # fmt: skip
"""Files of tests in which a tracker looks at each picture once."""
DRAWN = ("bench", "cli", "codec", "device", "motion_layer", "reader", "refine")
"""Files of tests in which the same frames are drawn once."""

_coded: dict[tuple[bytes, int, str], list[bytes]] = {}
_looks: WeakKeyDictionary[FaceTracker, dict[bytes, tuple[Any, Any]]] = WeakKeyDictionary()


def _digest(*given: Any) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    for value in given:
        if isinstance(value, np.ndarray):
            whole.update(f"{value.shape} {value.dtype}".encode() + value.tobytes())
        else:
            whole.update(repr(value).encode())
    return whole.digest()


def coding(encode: Callable[..., list[bytes]]) -> Callable[..., list[bytes]]:
    """`keyframe.av1.encode`, which keeps what it gives."""

    def kept(pictures: Iterable[Any], preset: int, options: str) -> list[bytes]:
        pictures = list(pictures)
        digest = hashlib.sha256(b"".join(plane.tobytes() for planes in pictures for plane in planes)).digest()
        key = digest + bytes([len(pictures)]), preset, options
        if key not in _coded:
            _coded[key] = encode(pictures, preset, options)
        return list(_coded[key])

    return kept


def tracking(find: Callable[..., Any]) -> Callable[..., Any]:
    """`model.tracking.find`, which keeps what each tracker sees in each picture."""

    def kept(frames: np.ndarray, tracker: FaceTracker | None = None, work: Looking | None = None) -> Any:
        if tracker is None or frames.shape[1:] != (256, 256, 3) or not len(frames):
            return find(frames, tracker, work)
        known = _looks.setdefault(tracker, {})
        names = [_digest(frame) for frame in frames]
        new = [i for i, name in enumerate(names) if name not in known]
        if new:
            known.update(zip((names[i] for i in new), zip(*find(frames[new], tracker, work), strict=True), strict=True))
        marks, scores = zip(*(known[name] for name in names), strict=True)
        return np.stack(marks), np.array(scores)

    return kept


def drawing(begin: Callable[..., Any]) -> Callable[..., Any]:
    """`Renderer.begin`, which keeps the pictures that each network has drawn, as long as this function itself is."""
    pictures: WeakKeyDictionary[Any, dict[bytes, np.ndarray]] = WeakKeyDictionary()

    def kept(
        self: Renderer, tiny: Any, mel: Any, coarse: bool = False, motion: Any = None, sound: Any = None,
        displacement: Any = None,
    ) -> Callable[[], np.ndarray]:  # fmt: skip
        if self.keyframe is None or self._device.type != "cpu":
            return begin(self, tiny, mel, coarse, motion, sound, displacement)
        recording = self._drawing(coarse)
        how = type(recording), type(getattr(recording, "_draw", None)), self.fast, self._device, coarse
        name = _digest(*how, self.keyframe, tiny, mel, motion, sound, displacement)
        known = pictures.setdefault(self._model, {})
        if name not in known:
            known[name] = begin(self, tiny, mel, coarse, motion, sound, displacement)()
        return known[name].copy

    return kept
