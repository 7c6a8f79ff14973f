"""Lyra v2: wide-band speech at 200 bit/s for each of up to 46 residual quantisers, through `ai-edge-litert`.

Its three model files (google/lyra at commit 47698da, Apache-2.0) are the user's own: `TFCODEC_LYRA` names their folder.
A frame of 20 ms is the indices, 0 to 15, that the residual quantisers take one after the other; they are nested: those
of a coding with n quantisers are exactly the first n of one with more. Packets: :mod:`tfcodec.speech.indices`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfcodec.errors import MediaError, SpeechCodecMissing
from tfcodec.rates import SAMPLE_RATE
from tfcodec.samples import Samples
from tfcodec.speech.indices import QUANTISERS, VALUES, IndexDecoder, IndexEncoder
from tfcodec.speech.packets import FADE, FrameEncoder

FOLDER = "TFCODEC_LYRA"
"""The environment variable that names the folder of the model files."""
FILES = {
    "soundstream_encoder.tflite": "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
    "quantizer.tflite": "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c",
    "lyragan.tflite": "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
}
"""SHA-256 of each."""
FRAME_MS = 20
FRAME = SAMPLE_RATE * FRAME_MS // 1000
ECONOMY = 1.0
"""How much the encoder looks at what an index costs: settled by benchmarks/search/lyra_economy.py."""
BIT_RATE = 200
"""Bit/s of one quantiser before its indices are coded with contexts."""
SILENCE = (
    10, 1, 8, 9, 3, 3, 13, 14, 4, 3, 11, 13, 0, 0, 13, 13, 8, 12, 12, 11, 3, 1, 7, 7, 6, 5, 14, 6, 4, 8, 10, 0, 1, 10,
    1, 14, 5, 7, 4, 8, 13, 4, 5, 9, 7, 7,
)  # fmt: skip
"""What the encoder makes of digital silence, once it has lasted; features that are all zero hum at -30 dBFS."""

Indices = npt.NDArray[np.uint8]


def missing() -> str:
    """What has to be installed, in one line; empty if nothing has."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "speech is coded with Lyra: pip install 'tfcodec[lyra]', and see tfcodec doctor --lyra FOLDER"
    folder = os.environ.get(FOLDER, "")
    if not folder:
        return f"speech is coded with Lyra: {FOLDER} must name the folder of its model files ({', '.join(FILES)})"
    return check_folder(folder)


@cache
def check_folder(folder: str) -> str:
    """What is wrong with a folder of model files, in one line; empty if they are Lyra's."""
    for name, digest in FILES.items():
        try:
            content = Path(folder, name).read_bytes()
        except OSError as error:
            return f"Lyra's {name} cannot be read from {folder}: {error.strerror or error}"
        if hashlib.sha256(content).hexdigest() != digest:
            return f"{name} in {folder} is not Lyra's (google/lyra at commit 47698da, SHA-256 {digest[:8]}...)"
    return ""


def price_of(quantisers: int) -> float:
    """Squared distance of features that a bit is worth: about what the last quantiser gets for one, in the mean over
    speech (clips of `train`)."""
    return 9.4 * (8 / quantisers) ** 0.75


@cache
def codebooks() -> Samples:
    """What each index of each quantiser adds to the features, [46, 16, 64]. Raises SpeechCodecMissing."""
    dequantise = _interpreter("quantizer.tflite").get_signature_runner("decode")
    known, books = np.full((QUANTISERS, 1, 1), -1, np.int32), []
    low: Samples | float = 0.0
    for at in range(QUANTISERS):
        sums = []
        for value in range(VALUES):
            known[at] = value
            sums.append(np.asarray(dequantise(encoding_indices=known)["output_0"], np.float32).reshape(-1))
        books.append(np.stack(sums) - low)
        known[at], low = 0, sums[0]
    return np.stack(books)


class LyraEncoder(FrameEncoder[Samples]):
    """Lyra encoder for a stream of sound.

    Which indices it finds is not the same on every machine; what they stand for is.

    Args:
        quantisers: 1 to 46.
        packet_ms: duration of a packet, a multiple of 20.
        economy: how much to look at the bits that an index costs, 1 being as much as the last quantiser is worth;
            0: not at all, as Lyra itself.

    Raises:
        SpeechCodecMissing: `ai-edge-litert` or a model file is missing.
        MediaError: no such number or duration.
    """

    def __init__(self, quantisers: int, packet_ms: int, economy: float = ECONOMY) -> None:
        if quantisers not in range(1, QUANTISERS + 1):
            raise MediaError(f"Lyra has 1 to {QUANTISERS} quantisers, not {quantisers!r}")
        if packet_ms % FRAME_MS or not 0 < packet_ms <= 250 * FRAME_MS:
            raise MediaError(f"Lyra's packets last 1 to 250 frames of {FRAME_MS} ms, not {packet_ms!r} ms")
        super().__init__(FRAME, packet_ms // FRAME_MS, 0)
        self._features = _Network("soundstream_encoder.tflite")
        self._price, self._codebooks = economy * price_of(quantisers), codebooks()
        self._indices = IndexEncoder(quantisers, self._frames)

    def _frame(self, samples: Samples) -> Samples:
        return self._features(samples.reshape(1, FRAME)).reshape(-1)

    def _packet(self, frames: list[Samples]) -> bytes:
        return self._indices.encode(self._indices.find(np.stack(frames), self._codebooks, self._price))


class LyraDecoder:
    """Lyra decoder for a stream of packets. Its output does not lag behind the encoder's input.

    Args:
        quantisers, frames: of the packets.

    Raises:
        SpeechCodecMissing: `ai-edge-litert` or a model file is missing.
    """

    def __init__(self, quantisers: int, frames: int) -> None:
        self._frames = frames
        self._indices = IndexDecoder(quantisers, frames)
        # Nothing resets the state inside a network but a new interpreter.
        self._draw = _Network("lyragan.tflite")
        self._dequantise = _interpreter("quantizer.tflite").get_signature_runner("decode")
        self._silence = self._features_of(np.array(SILENCE[:quantisers], np.uint8))
        self._last = self._silence
        self._lost = 0

    def decode(self, packet: bytes | None) -> Samples:
        """Decode one packet to [n] float32 at 16 kHz; None stands for a lost packet: the last sound, fading.

        Raises:
            BitstreamError: the packet is malformed. The decoder stays usable.
        """
        if packet is None:
            return np.concatenate([self._conceal() for _ in range(self._frames)])
        out = []
        for indices in self._indices.decode(bytes(packet)):
            self._last, self._lost = self._features_of(indices), 0
            out.append(self._sound(self._last))
        missing = self._frames - len(out)
        return np.pad(np.concatenate(out), (0, missing * FRAME))

    def _conceal(self) -> Samples:
        share = FADE[self._lost] if self._lost < len(FADE) else 0.0
        self._lost += 1
        return self._sound(share * self._last + (1 - share) * self._silence)

    def _features_of(self, indices: Indices) -> Samples:
        padded = np.full((QUANTISERS, 1, 1), -1, np.int32)
        padded[: len(indices), 0, 0] = indices
        return np.asarray(self._dequantise(encoding_indices=padded)["output_0"], np.float32)

    def _sound(self, features: Samples) -> Samples:
        return np.clip(self._draw(features.astype(np.float32)).reshape(-1), -1, 1)


class _Network:
    """One of the networks that have a state; frame by frame."""

    def __init__(self, name: str) -> None:
        self._interpreter = _interpreter(name)
        self._interpreter.allocate_tensors()
        self._in = self._interpreter.get_input_details()[0]["index"]
        self._out = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, values: Samples) -> Samples:
        self._interpreter.set_tensor(self._in, np.ascontiguousarray(values))
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._out))


def _interpreter(name: str) -> Any:
    line = missing()
    if line:
        raise SpeechCodecMissing(line)
    from ai_edge_litert.interpreter import Interpreter

    # The first one writes to stderr, "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.": only its C++ side
    # can be told not to, and no variable of the environment.
    return Interpreter(str(Path(os.environ[FOLDER], name)), num_threads=1)
