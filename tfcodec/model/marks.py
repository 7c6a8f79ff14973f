"""Where the face's landmarks are in the frames to draw: as sent, or as the tiny frames say."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..motion.geometry import NUMBERS, POINTS, synthesise
from .stage1 import KeyframeFeatures
from .upsampler import Upsampler

HALF = 128
"""Pixels between the middle of a picture and its edge."""


def frame_marks(
    model: Upsampler, key: KeyframeFeatures, windows: Tensor, motion: NDArray[np.int32] | None
) -> Tensor:  # fmt: skip
    """Landmarks [N, 70, 2] in -1..1 of frames drawn from one keyframe.

    Args:
        key: the keyframe's features [1, ...].
        windows: tiny frames [N, 5, 3, 8, 8].
        motion: numbers of the motion layer and whether they were sent, [N, 17]; None: the stream has no such layer.

    Returns:
        Zeros for a network that takes no landmarks.
    """
    count = len(windows)
    if not model.config.motion or key.marks is None or key.face is None:
        return torch.zeros(count, POINTS, 2)
    # Without a face in the keyframe there is nothing that the numbers could move.
    sent = np.zeros(count, bool) if motion is None or key.face[0] == 0 else motion[:, NUMBERS] > 0
    if not sent.any():
        return model.guess(key.select(torch.zeros(count, dtype=torch.long)), windows)
    assert motion is not None
    reference = (key.marks[0].numpy() + 1) * HALF
    marks = torch.empty(count, POINTS, 2)
    marks[torch.from_numpy(sent)] = torch.from_numpy(synthesise(reference, motion[sent, :NUMBERS]) / HALF - 1)
    if not sent.all():
        missing = torch.from_numpy(np.flatnonzero(~sent))
        marks[missing] = model.guess(key.select(torch.zeros(len(missing), dtype=torch.long)), windows[missing])
    return marks
