"""What is computed once a keyframe, for all that draw from it: once for all threads, and fast where wanted."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import graph
from .marks import Standing, standing, to_device
from .packed_keyframe import can_pack, keyframe_parts
from .stage1 import KeyframeFeatures
from .tracker import FOUND
from .upsampler import Upsampler

KEPT = 2
"""Keyframes whose features are kept: while one takes over from another, threads draw from both."""


class Known(NamedTuple):
    """A keyframe's picture [256, 256, 3] uint8, and what a network knows of it."""

    picture: NDArray[np.uint8]
    model: Upsampler
    key: KeyframeFeatures
    stands: Standing | None


class Keyframes:
    """Features of the newest keyframes, which several `Renderer` may share: each is computed once.

    Args:
        threads: 2: the face's landmarks are found while the rest is computed.
        kept: keyframes that are remembered; 0: each is computed when it is asked for.
    """

    def __init__(self, threads: int = 1, kept: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._known: deque[Known] = deque(maxlen=kept)
        self._pool = ThreadPoolExecutor(1, "tfcodec-keyframe", torch.set_num_threads, (1,)) if threads > 1 else None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, picture: NDArray[np.uint8], model: Upsampler, fast: bool, device: torch.device) -> Known:
        """What is known of that very array, for a network that draws with or without ``fast``."""
        with self._lock:
            found = next((one for one in self._known if one.picture is picture and one.model is model), None)
            if found is None:
                found = self._compute(picture, model, fast, device)
                self._known.append(found)
            return found

    def _compute(self, picture: NDArray[np.uint8], model: Upsampler, fast: bool, device: torch.device) -> Known:
        # whatever the caller has set: the dtype and the device are named everywhere, and its autocast ends here
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            tensor = to_device(picture, device).permute(2, 0, 1)[None].float() / 255
            tensor = tensor.contiguous(memory_format=torch.channels_last)
            if fast and device.type == "cpu" and can_pack():
                key = self._fast(model, tensor)
            else:
                key = model.encode_keyframe(tensor)
            return Known(picture, model, graph.reduced(key, fast), standing(key))

    def _fast(self, model: Upsampler, picture: Tensor) -> KeyframeFeatures:
        """`Upsampler.encode_keyframe` in bfloat16, except for the landmarks: all that moves is placed by them."""
        restorer, encoder = keyframe_parts(model)
        tracker = model.tracker

        def look() -> tuple[Tensor, Tensor] | None:
            with torch.inference_mode(), torch.autocast("cpu", enabled=False):  # each thread has modes of its own
                return None if tracker is None else tracker(picture)

        looked = None
        if self._pool is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                looked = self._pool.submit(look)
        restored = picture if restorer is None else restorer(picture)
        features: KeyframeFeatures = encoder(restored)
        found = look() if looked is None else looked.result()
        if found is None:
            return model.complete(features, picture, None, None)
        return model.complete(features, picture, found[0], (found[1] > FOUND).float())
