"""Where the face's landmarks are in the frames to draw: as sent, or as the tiny frames say."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..motion.geometry import ABSENT, NUMBERS, POINTS, SENT, analyse, synthesise
from .lips import MOUTH_PART, load_lips
from .stage1 import KeyframeFeatures
from .upsampler import Upsampler

HALF = 128
"""Pixels between the middle of a picture and its edge."""


@torch.no_grad()
def frame_marks(
    model: Upsampler, key: KeyframeFeatures, windows: Tensor, motion: NDArray[np.int32] | None,
    sound: NDArray[np.float32] | None = None,
) -> Tensor:  # fmt: skip
    """Landmarks [N, 70, 2] in -1..1 of frames drawn from one keyframe.

    Args:
        key: the keyframe's features [1, ...].
        windows: tiny frames [N, 5, 3, 8, 8].
        motion: numbers of the motion layer and whether they were sent, [N, 17]; None: the stream has no such layer.
        sound: log-mel of the speech around the frames, [N, 148, 80] (see `lips.Lips.of_frames`); None without speech.
            It moves the lips where the motion of the mouth was not sent.

    Returns:
        Zeros for a network that takes no landmarks.
    """
    count = len(windows)
    if not model.config.motion or key.marks is None or key.face is None:
        return torch.zeros(count, POINTS, 2, dtype=torch.float32, device="cpu")
    # Without a face in the keyframe there is nothing that the numbers could move.
    face = bool(key.face[0] > 0)
    state = np.full(count, ABSENT) if motion is None or not face else motion[:, NUMBERS]
    marks = torch.empty(count, POINTS, 2, dtype=torch.float32, device="cpu")
    reference = ((key.marks[0] + 1) * HALF).numpy()
    if (missing := np.flatnonzero(state == ABSENT)).size:
        some = torch.from_numpy(missing)
        marks[some] = model.guess(key.select(torch.zeros(len(some), dtype=torch.long, device="cpu")), windows[some])
    if motion is not None and (sent := np.flatnonzero(state != ABSENT)).size:
        marks[torch.from_numpy(sent)] = _placed(reference, motion[sent, :NUMBERS])
    if sound is not None and face and (heard := np.flatnonzero(state != SENT)).size:
        lips, some = load_lips(), torch.from_numpy(heard)
        numbers = analyse(reference, ((marks[some] + 1) * HALF).numpy())
        numbers[:, MOUTH_PART.numbers] = lips.relative(lips.of_frames(torch.from_numpy(sound[heard])), reference)
        marks[some] = _placed(reference, numbers)
    return marks


def _placed(reference: NDArray[np.float32], numbers: NDArray[Any]) -> Tensor:
    return torch.from_numpy(synthesise(reference, numbers) / HALF - 1)
