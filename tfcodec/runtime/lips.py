"""`tfcodec.model.lips` in numpy, for single frames: the mouth's numbers from speech."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..model.inputs import LIPS_COLUMNS, MEL_PER_FRAME, REACH
from ..model.mouth import LIPS_FILE, LIPS_SHA256, MOUTH_NUMBERS, key_features
from ..model.registry import FOLDER
from ..motion.geometry import UNIT
from .landmarks import Floats, State, linear, silu

DILATIONS = (1, 2, 4, 8, 16, 2, 1)
_MISSING = 4 * sum(DILATIONS) - 2 + (2 + REACH) * MEL_PER_FRAME - LIPS_COLUMNS
_OUTPUTS = MOUTH_NUMBERS + 1


def of_frames(mel: NDArray[np.float32]) -> Floats:
    """What frames say, [N, 5], of log-mel [N, 148, 80] (`Lips.of_frames`)."""
    state = _state()
    mel = np.concatenate((mel[:, :_MISSING], mel), 1)
    count, columns = mel.shape[:2]
    index = np.arange(0, columns - 3, 2)[:, None] + np.arange(4)
    # Four columns, band by band, as `Tensor.unfold` has them.
    x = linear(state, "start", mel[:, index].swapaxes(2, 3).reshape(count, len(index), -1))
    for number, step in enumerate(DILATIONS):
        at = f"blocks.{number}"
        y = _norm(state, f"{at}.norm", x)
        steps = y.shape[1] - 2 * step
        taps = np.concatenate((y[:, :steps], y[:, step : step + steps], y[:, 2 * step :]), -1)
        y = silu(linear(state, f"{at}.taps.mix", taps))
        x = x[:, 2 * step :] + linear(state, f"{at}.point", y)
    x = _norm(state, "norm", x)
    # Two frames of two steps, and one step before and after each.
    y = np.stack([x[:, at : at + 4].swapaxes(1, 2).reshape(count, -1) for at in (0, 2)], 1)
    return linear(state, "out", silu(linear(state, "hidden", y)))[..., :_OUTPUTS].mean(1)


def relative(said: Floats, reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mouth's numbers [N, 4] relative to the keyframe's landmarks [70, 2] in pixels (`Lips.relative`)."""
    state = _state()
    key = key_features(state["face"], reference) @ state["key"].astype(np.float64)
    return (said[:, :MOUTH_NUMBERS].astype(np.float64) - key) * UNIT


def _norm(state: State, name: str, x: Floats) -> Floats:
    away = x - x.mean(-1, keepdims=True)
    away = away / np.sqrt(np.square(away).mean(-1, keepdims=True) + np.float32(1e-5))
    return np.asarray(away * state[f"{name}.weight"] + state[f"{name}.bias"], np.float32)


@lru_cache(maxsize=1)
def _state() -> State:
    from safetensors.numpy import load

    path = FOLDER / LIPS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} does not hold weights of lips from speech: {error}") from None
    if (found := hashlib.sha256(content).hexdigest()) != LIPS_SHA256:
        raise WeightsError(f"{path} is damaged: SHA-256 {found}, expected {LIPS_SHA256}")
    return {name: value.astype(np.float32) for name, value in load(content).items()}
