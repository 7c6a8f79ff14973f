"""Where the face's landmarks are in the frames to draw: as sent, or as the tiny frames say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..motion.geometry import ABSENT, NUMBERS, POINTS, SENT, analyse, synthesise
from .lips import MOUTH_PART, load_lips
from .mouth import moved
from .places import HALF
from .stage1 import KeyframeFeatures
from .upsampler import Upsampler


class Standing(NamedTuple):
    """A keyframe's landmarks [70, 2] in pixels, and whether there is a face, where numpy finds them."""

    marks: NDArray[np.float32]
    face: bool


def standing(key: KeyframeFeatures) -> Standing | None:
    """Of a keyframe's features [1, ...]; None of a network that takes no landmarks. Waits for a graphics card."""
    if key.marks is None or key.face is None:
        return None
    return Standing(((key.marks[0] + 1) * HALF).cpu().numpy(), bool(key.face[0] > 0))


@torch.no_grad()
def frame_marks(
    model: Upsampler, key: KeyframeFeatures, windows: Tensor, motion: NDArray[np.int32] | None,
    sound: NDArray[np.float32] | None = None, stands: Standing | None = None,
) -> Tensor:  # fmt: skip
    """Landmarks [N, 70, 2] in -1..1 of frames drawn from one keyframe.

    Args:
        key: the keyframe's features [1, ...].
        windows: tiny frames [N, 5, 3, 8, 8].
        motion: numbers of the motion layer and whether they were sent, [N, 17]; None: the stream has no such layer.
        sound: log-mel of the speech around the frames, [N, 148, 80] (see `lips.Lips.of_frames`); None without speech.
            It moves the lips where the motion of the mouth was not sent: beside what the tiny frames say if they were
            all that came, in place of what was held if it was lost.
        stands: `standing` of the keyframe, if it is known already.

    Returns:
        Zeros for a network that takes no landmarks.
    """
    count, device = len(windows), windows.device
    stands = standing(key) if stands is None else stands
    if not model.config.motion or stands is None:
        return torch.zeros(count, POINTS, 2, dtype=torch.float32, device=device)
    # Without a face in the keyframe there is nothing that the numbers could move.
    reference, face = stands
    state = np.full(count, ABSENT) if motion is None or not face else motion[:, NUMBERS]
    marks = torch.empty(count, POINTS, 2, dtype=torch.float32, device=device)
    if (missing := np.flatnonzero(state == ABSENT)).size:
        some = to_device(missing, device)
        marks[some] = model.guess(key.select(torch.zeros(len(some), dtype=torch.long, device=device)), windows[some])
    if motion is not None and (sent := np.flatnonzero(state != ABSENT)).size:
        placed = to_device(_placed(reference, motion[sent, :NUMBERS]), device)
        if len(sent) == count:
            return placed
        marks[to_device(sent, device)] = placed
    if sound is not None and face and (heard := np.flatnonzero(state != SENT)).size:
        lips, some = load_lips(), to_device(heard, device)
        numbers = analyse(reference, ((marks[some] + 1) * HALF).cpu().numpy())
        said = lips.of_frames(torch.from_numpy(sound[heard]))
        alone, guessed = lips.relative(said, reference), state[heard] == ABSENT
        numbers[:, MOUTH_PART.numbers] = moved(reference, numbers, said.numpy(), alone, guessed)
        marks[some] = to_device(_placed(reference, numbers), device)
    return marks


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor there, without waiting for what the device has still to do."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _placed(reference: NDArray[np.float32], numbers: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(synthesise(reference, numbers) / HALF - 1, np.float32)
