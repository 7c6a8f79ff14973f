"""Lips from speech without the network: its file, and what a keyframe's landmarks say of its mouth. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..motion.geometry import PARTS, UNIT, analyse

LIPS_FILE = "lips-1-2ab95532.safetensors"
LIPS_SHA256 = "2ab95532e8cc8a735e0570ce06464f0d093ae0ab8c99742ca25a786468e4cac0"
MOUTH_NUMBERS = 4
HEARD = 0.7
"""Share of what the speech says that counts beside what the tiny frames say (benchmarks/measure/lips_withheld.py)."""
GAIN = 2.0
"""How many times as far as the speech says the mouth moves (likewise)."""
MOUTH_PART = next(part for part in PARTS if part.name == "mouth")


def moved(
    mouth: NDArray[np.float64], said: ArrayLike, alone: NDArray[np.float64], guessed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The mouth's numbers [N, 4] in 1/1024 where their own were not sent.

    Where ``mouth`` [N, 4] is the tiny frames' guess, by it and by the speech, which says [N, 5]. The two know different
    things, so what the one moves from the speaker's mean is added to what the other moves. Where it was held, by the
    speech ``alone`` (`Lips.relative`). What the speech says is the likeliest mouth by what is known: it moves half as
    far as a mouth does, too little to be seen in a picture. So it counts `GAIN` times, about the speaker's mean.
    """
    heard = UNIT * np.asarray(said, np.float64)[:, :MOUTH_NUMBERS]
    return np.where(guessed[:, None], mouth + GAIN * HEARD * heard, alone + (GAIN - 1) * heard)


def key_features(face: NDArray[np.float32], reference: ArrayLike) -> NDArray[np.float64]:
    """[6] of landmarks [70, 2]: the mouth's numbers relative to a mean face, its opening, and 1."""
    marks = np.asarray(reference, np.float64)
    numbers = analyse(face * 64, marks[None])[0, MOUTH_PART.numbers] / UNIT
    gap = np.linalg.norm(marks[[61, 62, 63]] - marks[[67, 66, 65]], axis=-1).mean()
    return np.array([*numbers, gap / max(float(np.linalg.norm(marks[36] - marks[45])), 1.0), 1.0])
