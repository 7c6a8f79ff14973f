"""Lips from speech: log-mel -> the mouth's numbers of the motion layer, for frames whose own are not there.

A causal convolution over log-mel, looking 80 ms past the end of the frame and 1.4 s back. It was taught by the hidden
states of a large speech encoder first and by the landmarks of talking faces then (`tfcodec.training.lips`).

What it says is the state of the mouth relative to the speaker's mean while speaking, in inter-ocular units;
`Lips.relative` turns it into what the motion layer holds: numbers relative to the keyframe.
"""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import WeightsError
from ..files import write_atomically
from ..motion.geometry import UNIT
from .blocks import to_load
from .inputs import LIPS_COLUMNS, MEL_BANDS, MEL_PER_FRAME, REACH
from .mouth import LIPS_FILE as LIPS_FILE
from .mouth import LIPS_SHA256 as LIPS_SHA256
from .mouth import MOUTH_NUMBERS as MOUTH_NUMBERS
from .mouth import MOUTH_PART as MOUTH_PART
from .mouth import key_features
from .registry import FOLDER

OUTPUTS = MOUTH_NUMBERS + 1
"""The mouth's numbers and the opening."""
STEADY, SHARP = 0, 1
"""Two answers: for a source whose sound may be a few frames early or late, and for one whose lag is known."""
WIDTH = 112
DILATIONS = (1, 2, 4, 8, 16, 2, 1)
FUTURE = REACH * MEL_PER_FRAME
"""Columns after a frame's own: 80 ms, which is what the decoder holds anyway for its window of tiny frames."""
PAST = 4 * sum(DILATIONS) - 2
"""Columns before a frame's own that matter."""
MISSING = PAST + 2 * MEL_PER_FRAME + FUTURE - LIPS_COLUMNS
"""Columns at the beginning of what two frames listen to that they are not given: the first ones stand there twice."""
SILENCE = -1.0
MAX_LAG = 5
"""Frames that a source's sound is looked for early or late."""
FloatArray = NDArray[np.float64]


class Taps(nn.Module):
    """Causal convolution of three taps over steps: [B, T, C] -> [B, T - 2 * dilation, C]."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.mix = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        d, steps = self.dilation, x.shape[1] - 2 * self.dilation
        y: Tensor = self.mix(torch.cat((x[:, :steps], x[:, d : d + steps], x[:, 2 * d :]), -1))
        return y


class Block(nn.Module):
    """Residual block at 50 Hz, `2 * dilation` steps shorter than what it is given."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        # Normalised step by step: what a frame becomes must not depend on how much of the stream is at hand.
        self.norm = nn.LayerNorm(width)
        self.taps = Taps(width, dilation)
        self.point = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x[:, 2 * self.taps.dilation :] + self.point(F.silu(self.taps(self.norm(x))))
        return y


class Lips(nn.Module):
    """Speech encoder and head."""

    face: Tensor
    key: Tensor

    def __init__(self, width: int = WIDTH, dropout: float = 0.0) -> None:
        super().__init__()
        self.start = nn.Linear(4 * MEL_BANDS, width)
        self.blocks = nn.Sequential(*(Block(width, dilation) for dilation in DILATIONS))
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear(4 * width, width)
        self.out = nn.Linear(width, 2 * OUTPUTS)
        # A mean face in inter-ocular units, and a linear map from how a keyframe's mouth differs from that face's (and
        # how far it is open, and 1) to its state relative to the speaker's mean.
        self.register_buffer("face", torch.zeros(70, 2))
        self.register_buffer("key", torch.zeros(OUTPUTS + 1, MOUTH_NUMBERS))

    def encode(self, mel: Tensor) -> Tensor:
        """Speech at 50 Hz: mel [B, PAST + 4 * frames + FUTURE, 80] -> [B, 2 * frames + 2, width]."""
        columns = mel.unfold(1, 4, 2)  # four columns, every second time
        x: Tensor = self.norm(self.blocks(self.start(columns.flatten(2))))
        return x

    def decide(self, speech: Tensor) -> Tensor:
        """[B, 2 * frames + 2, width] -> [B, frames, 2, 5]."""
        y = F.silu(self.hidden(self.drop(speech.unfold(1, 4, 2).flatten(2))))
        out: Tensor = self.out(self.drop(y)).unflatten(-1, (2, OUTPUTS))
        return out

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel [B, PAST + 4 * frames + FUTURE, 80] -> [B, frames, 2, 5]: steady and sharp, the mouth's numbers and
        the opening, in inter-ocular units relative to the speaker's mean.
        """
        return self.decide(self.encode(mel))

    @torch.no_grad()
    def of_frames(self, mel: Tensor) -> Tensor:
        """What frames say, [N, 5], of the log-mel of `LIPS_REACH` frames before each to `LIPS_FUTURE` after,
        [N, 148, 80].

        It is the mean of what the frame and the one after it say: that trembles less, and follows better.
        """
        said: Tensor = self(torch.cat((mel[:, :MISSING], mel), 1))[:, :, STEADY]
        return said.mean(1)

    @torch.no_grad()
    def of_stream(self, mel: Tensor, first: int, frames: int, lag: int | None = None) -> Tensor:
        """What frames ``first`` ... of a stream say, [frames, 5], given its log-mel from its beginning, [4 * n, 80].

        What lies outside ``mel`` counts as silence. ``lag`` says by how many frames the sound comes late (early if
        negative); None if that is not known. Frame ``t`` looks at sound up to 80 ms after its end, with a lag at that
        of frame ``t + lag``.
        """
        shape = PAST + MEL_PER_FRAME * frames + FUTURE, MEL_BANDS
        columns = torch.full(shape, SILENCE, dtype=torch.float32, device=mel.device)
        begin = MEL_PER_FRAME * (first + (lag or 0)) - PAST
        low, high = max(0, begin), min(len(mel), begin + len(columns))
        if low < high:
            columns[low - begin : high - begin] = mel[low:high]
        said: Tensor = self(columns[None])[0, :, STEADY if lag is None else SHARP]
        return said

    def find_lag(self, mel: Tensor, mouth: ArrayLike, max_lag: int = MAX_LAG) -> int:
        """By how many frames a stream's sound comes late, judged by how its mouth moved.

        ``mel`` [4 T, 80] from the stream's beginning; ``mouth`` [T, 4] the mouth's numbers in any unit, relative to
        anything, NaN where there are none. Of streams of a few seconds and more. 0 where the mouth never moves.
        """
        moved = np.asarray(mouth, np.float64)[:, :2]
        seen = np.flatnonzero(np.isfinite(moved).all(1))
        if len(seen) < 2:
            return 0
        frames = len(moved)
        said = self.of_stream(mel, -max_lag, frames + 2 * max_lag, lag=0)[:, :2].double().numpy()
        moved = moved[seen] - moved[seen].mean(0)
        fits = []
        for lag in range(-max_lag, max_lag + 1):
            heard = said[seen + max_lag + lag]
            heard = heard - heard.mean(0)
            size = np.sqrt((heard**2).sum(0) * (moved**2).sum(0))
            fits.append(float(((heard * moved).sum(0) / np.maximum(size, 1e-12)).mean()) - 0.02 * abs(lag))
        return int(np.argmax(fits)) - max_lag

    def key_state(self, reference: ArrayLike) -> FloatArray:
        """How a keyframe's mouth stands, [4] relative to the speaker's mean in inter-ocular units, by its landmarks
        [70, 2] alone.
        """
        return key_features(self.face.numpy(), reference) @ self.key.double().numpy()

    def relative(self, said: Tensor, reference: ArrayLike) -> FloatArray:
        """What the motion layer would hold: the mouth's numbers [T, 4] in 1/1024, relative to the keyframe.

        ``said`` [T, 5] comes from `of_stream`, ``reference`` [70, 2] is the keyframe's landmarks in pixels. They are
        the likeliest numbers, so they move less than a mouth does: by a half.
        """
        return (said[:, :MOUTH_NUMBERS].double().numpy() - self.key_state(reference)) * UNIT


def save_lips(lips: Lips, scale: Tensor, path: str | Path) -> None:
    """Write the weights as float16. ``scale`` [5] is the unit of what ``lips`` says so far, in inter-ocular units."""
    state = {name: tensor.detach().clone() for name, tensor in lips.state_dict().items()}
    state["out.weight"] *= scale.repeat(2)[:, None]
    state["out.bias"] *= scale.repeat(2)
    write_atomically(path, safetensors.torch.save({k: v.to(torch.float16).contiguous() for k, v in state.items()}))


def read_lips(path: str | Path, sha256: str | None = None) -> Lips:
    """The network with weights from a file. Raises WeightsError if there is none, or it does not fit its hash."""
    try:
        content = Path(path).read_bytes()
        if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise WeightsError(f"{path} is damaged: SHA-256 {found}, expected {sha256}")
        lips = to_load(Lips)
        lips.load_state_dict({k: v.float() for k, v in safetensors.torch.load(content).items()}, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold weights of lips from speech: {error}") from None
    return lips.requires_grad_(False).eval()


_loading = threading.Lock()


def load_lips() -> Lips:
    """The network that comes with the package, ready to run; kept in memory, and the same for all threads."""
    with _loading:
        return _load()


@lru_cache(maxsize=1)
def _load() -> Lips:
    return read_lips(FOLDER / LIPS_FILE, LIPS_SHA256)
