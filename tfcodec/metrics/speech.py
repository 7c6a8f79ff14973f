"""How decoded speech sounds beside its source, by the packages of the extra ``bench-speech``.

PESQ wide-band, STOI and ViSQOL compare; DNSMOS (P.808) and Distill-MOS listen to the decoded sound alone; PER is the
edit distance between the phonemes that the recogniser `hama` hears in the decoded sound and in the source, as a share
of the latter. All take sounds of equal length, [n] float32 in -1..1 at 16 kHz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType

import numpy as np

from ..rates import SAMPLE_RATE
from ..samples import Samples
from .files import MissingPackage, need

Judge = Callable[[Samples, Samples], float]
_SILENCE = SAMPLE_RATE // 2
"""Put around both sounds: PESQ takes off 0.1 for 5 ms that are missing at the end."""
_DNSMOS_WINDOW = 144160
"""Samples that DNSMOS hears at once, 9.01 s."""


@cache
def judge(metric: str) -> Judge:
    """A metric of `METRICS` by name: a function of source and decoded sound, which may raise what its package raises.

    Raises:
        MissingPackage: its package is not installed, or does not load.
    """
    try:
        measure = METRICS[metric]()
    except MissingPackage:
        raise
    except Exception as error:  # of a package or of what it needs in turn: whatever keeps it from loading
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise MissingPackage(f"{metric} does not load ({reason})") from error
    return lambda source, decoded: float(measure(_padded(source), _padded(decoded)))


def _padded(sound: Samples) -> Samples:
    return np.pad(np.clip(sound, -1, 1), _SILENCE)


def _package(name: str, what: str) -> ModuleType:
    return need(name, what, "'tfcodec[bench-speech]'")


def _pesq() -> Judge:
    pesq = _package("pesq", "PESQ").pesq
    return lambda source, decoded: pesq(SAMPLE_RATE, source, decoded, "wb")


def _stoi() -> Judge:
    stoi = _package("pystoi", "STOI").stoi
    return lambda source, decoded: stoi(source, decoded, SAMPLE_RATE)


def _visqol() -> Judge:
    # Left to itself, the package takes another mapping, with scores 1 to 2 higher, where ai-edge-litert is missing.
    _package("ai_edge_litert", "ViSQOL")
    api = _package("visqol", "ViSQOL").VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return lambda source, decoded: api.measure_from_arrays(
        source.astype(np.float64), decoded.astype(np.float64), SAMPLE_RATE
    ).moslqo


def _dnsmos() -> Judge:
    _package("speechmos", "DNSMOS")
    dnsmos = _package("speechmos.dnsmos", "DNSMOS")

    def measured(_: Samples, decoded: Samples) -> float:
        # The package's own windows are a second apart, too, but its floats make it leave out those from the eighth on
        # (findings/speechmos-dnsmos-stops-listening.sh). Of what is shorter than a window it makes one by repetition.
        windows = max(1, len(decoded) // SAMPLE_RATE - _DNSMOS_WINDOW // SAMPLE_RATE)
        starts = range(0, windows * SAMPLE_RATE, SAMPLE_RATE)
        scores = [dnsmos.run(decoded[s : s + _DNSMOS_WINDOW], SAMPLE_RATE)["p808_mos"] for s in starts]
        return float(np.mean(scores))

    return measured


def _distillmos() -> Judge:
    import torch

    # Only its command reads sound with torchaudio, which has stopped at torch 2.11 and does not load beside later ones.
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    model = _package("distillmos", "Distill-MOS").ConvTransformerSQAModel().eval()

    @torch.no_grad()
    def listen(source: Samples, decoded: Samples) -> float:
        return float(model(torch.from_numpy(decoded)[None]))

    return listen


def _per() -> Judge:
    def compare(source: Samples, decoded: Samples) -> float:
        wanted, got = _heard(source.tobytes()), _heard(decoded.tobytes())
        return edits(wanted, got) / max(1, len(wanted))

    _recogniser()
    return compare


@cache
def _recogniser() -> Callable[[Samples, int], Sequence[str]]:
    model = _package("hama", "PER").ASRModel()
    return lambda sound, rate: model.transcribe_waveform(sound, rate).phonemes


@cache
def _heard(data: bytes) -> tuple[str, ...]:
    return tuple(_recogniser()(np.frombuffer(data, np.float32), SAMPLE_RATE))


def phonemes(sound: Samples) -> int:
    """How many phonemes the recogniser hears, as PER takes them for the source. Raises MissingPackage."""
    judge("per")
    return len(_heard(_padded(sound).tobytes()))


def edits(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


METRICS: dict[str, Callable[[], Judge]] = {
    "pesq": _pesq, "stoi": _stoi, "visqol": _visqol, "dnsmos": _dnsmos, "distillmos": _distillmos, "per": _per,
}  # fmt: skip
"""Loads each; `judge` is what to call."""
