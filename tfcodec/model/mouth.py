"""Lips from speech without the network: its file, and what a keyframe's landmarks say of its mouth. Needs no torch."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..motion.geometry import HEAD, MIN_DISTANCE, PARTS, POINTS, UNIT, analyse, load_bases

LIPS_FILE = "lips-1-2ab95532.safetensors"
LIPS_SHA256 = "2ab95532e8cc8a735e0570ce06464f0d093ae0ab8c99742ca25a786468e4cac0"
MOUTH_NUMBERS = 4
HEARD = 0.7
"""Share of what the speech says that counts beside what the tiny frames say (benchmarks/measure/lips_withheld.py)."""
GAIN = 2.0
"""How many times as far as the speech says the mouth moves (likewise)."""
MOUTH_PART = next(part for part in PARTS if part.name == "mouth")


UPPER_LIP, LOWER_LIP = [61, 62, 63], [67, 66, 65]
"""Landmarks of the inner lips, those that lie above one another in turn."""


def moved(
    reference: ArrayLike, numbers: NDArray[np.float64], said: ArrayLike, alone: NDArray[np.float64],
    guessed: NDArray[np.bool_],
) -> NDArray[np.float64]:  # fmt: skip
    """The mouth's numbers [N, 4] in 1/1024 where their own were not sent.

    Where those of ``numbers`` [N, 16], which move the keyframe's landmarks ``reference`` [70, 2] in pixels, are the
    tiny frames' guess, by it and by the speech, which says [N, 5]. The two know different
    things, so what the one moves from the speaker's mean is added to what the other moves. Where it was held, by the
    speech ``alone`` (`Lips.relative`). What the speech says is the likeliest mouth by what is known: it moves half as
    far as a mouth does, too little to be seen in a picture. So it counts `GAIN` times, about the speaker's mean.
    Lips that would pass through one another are shut: they are moved apart until they touch.
    """
    heard = UNIT * np.asarray(said, np.float64)[:, :MOUTH_NUMBERS]
    mouth = numbers[:, MOUTH_PART.numbers]
    there = np.where(guessed[:, None], mouth + GAIN * HEARD * heard, alone + (GAIN - 1) * heard)
    opens = opening_of_numbers()
    own = slice(MOUTH_PART.first - HEAD, MOUTH_PART.first - HEAD + MOUTH_NUMBERS)
    others = numbers[:, HEAD:] @ opens - mouth @ opens[own]
    short = np.maximum(-(UNIT * lips_apart(reference) + others + there @ opens[own]), 0)
    return np.asarray(there + short[:, None] * opens[own] / np.square(opens[own]).sum())


@cache
def opening_of_numbers() -> NDArray[np.float64]:
    """How far a unit of each of the 12 numbers after the head's moves the lower lip from the upper one, [12]."""
    points = load_bases().inverse.reshape(-1, POINTS, 2)
    return np.asarray((points[:, LOWER_LIP, 1] - points[:, UPPER_LIP, 1]).mean(1))


def lips_apart(reference: ArrayLike) -> float:
    """How far the lower lip of landmarks [70, 2] is below the upper one, square to the eyes' line, in inter-ocular
    units; below 0 where they have passed through one another.
    """
    marks = np.asarray(reference, np.float64)
    x, y = marks[42:48].mean(0) - marks[36:42].mean(0)
    across, down = (marks[LOWER_LIP] - marks[UPPER_LIP]).mean(0)
    length = max(float(np.hypot(x, y)), 1e-6)
    return float((x * down - y * across) / (length * max(length, MIN_DISTANCE)))


def key_features(face: NDArray[np.float32], reference: ArrayLike) -> NDArray[np.float64]:
    """[6] of landmarks [70, 2]: the mouth's numbers relative to a mean face, its opening, and 1."""
    marks = np.asarray(reference, np.float64)
    numbers = analyse(face * 64, marks[None])[0, MOUTH_PART.numbers] / UNIT
    gap = np.linalg.norm(marks[[61, 62, 63]] - marks[[67, 66, 65]], axis=-1).mean()
    return np.array([*numbers, gap / max(float(np.linalg.norm(marks[36] - marks[45])), 1.0), 1.0])
