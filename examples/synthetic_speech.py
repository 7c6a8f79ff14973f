"""Speech made of formulas: a small source-filter (formant) synthesiser, for the demonstration clip.

A train of glottal pulses and noise goes through resonators at the formant frequencies, which move from phoneme to
phoneme, as in Klatt's synthesiser of 1980. Formants of the vowels: women's averages of Hillenbrand et al. (1995). The
same table says how far each phoneme opens and rounds the mouth, so that sound and picture belong together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLE_RATE = 16_000
STEP = 0.001  # seconds between points of the parameter tracks

# "Hello. I am a synthetic face. Nobody ever said this: it is made of numbers."
TEXT = (
    "_ _ HH EH L OW _ _ AA IY AE M AH S IH N TH EH T IH K F EY IY S _ _ _ "
    "N OW B AA D IY EH V ER S EH D DH IH S _ _ IH T IH Z M EY IY D AH V N AH M B ER Z _ _"
)


@dataclass(frozen=True)
class Phoneme:
    """Targets of one sound: formants and noise band in Hz, amplitudes 0...1, mouth opening and rounding 0...1."""

    formants: tuple[float, float, float]
    voice: float
    noise: float = 0.0
    band: float = 4000.0
    seconds: float = 0.08
    opening: float = 0.25
    rounding: float = 0.0
    burst: bool = False  # a closure first, then a burst of the noise


def _vowel(f1: float, f2: float, f3: float, opening: float, rounding: float = 0.0, seconds: float = 0.13) -> Phoneme:
    return Phoneme((f1, f2, f3), 1.0, 0.02, 3000, seconds, opening, rounding)


PHONEMES = {
    "_": Phoneme((500, 1500, 2500), 0.0, seconds=0.15, opening=0.0),
    "IY": _vowel(437, 2761, 3372, 0.35, seconds=0.10),
    "IH": _vowel(483, 2365, 3053, 0.4, seconds=0.09),
    "EH": _vowel(731, 2058, 2979, 0.65),
    "EY": _vowel(536, 2530, 3047, 0.55, seconds=0.11),
    "AE": _vowel(669, 2349, 2972, 0.8, seconds=0.15),
    "AA": _vowel(936, 1551, 2815, 1.0, seconds=0.15),
    "AH": _vowel(753, 1426, 2933, 0.6, seconds=0.09),
    "OW": _vowel(555, 1035, 2828, 0.6, 0.9, seconds=0.19),
    "ER": _vowel(523, 1588, 1929, 0.4, 0.5, seconds=0.13),
    "L": Phoneme((380, 1100, 2900), 0.6, seconds=0.07, opening=0.4),
    "M": Phoneme((280, 1000, 2200), 0.35, seconds=0.08, opening=-0.6),
    "N": Phoneme((280, 1600, 2600), 0.35, seconds=0.07, opening=0.2),
    "Z": Phoneme((300, 1700, 2600), 0.3, 0.25, 6000, 0.09, 0.12),
    "V": Phoneme((300, 1200, 2300), 0.4, 0.08, 5000, 0.07, -0.15),
    "DH": Phoneme((300, 1400, 2600), 0.4, 0.06, 5000, 0.06, 0.2),
    "S": Phoneme((350, 1700, 2700), 0.0, 0.5, 6300, 0.11, 0.12),
    "F": Phoneme((350, 1200, 2300), 0.0, 0.18, 5000, 0.10, -0.15),
    "TH": Phoneme((350, 1400, 2600), 0.0, 0.14, 5500, 0.09, 0.2),
    "HH": Phoneme((700, 1900, 2900), 0.0, 0.2, 2000, 0.07, 0.4),
    "T": Phoneme((350, 1800, 2700), 0.0, 0.5, 5000, 0.08, 0.15, burst=True),
    "K": Phoneme((350, 1900, 2500), 0.0, 0.45, 2500, 0.09, 0.3, burst=True),
    "B": Phoneme((250, 900, 2200), 0.12, 0.25, 1500, 0.08, -0.8, burst=True),
    "D": Phoneme((280, 1700, 2600), 0.15, 0.3, 4000, 0.07, 0.18, burst=True),
}


@dataclass(frozen=True)
class Utterance:
    """Sound, float32 [n] at 16 kHz, and the mouth at every millisecond: opening -1...1 (below 0: lips pressed),
    rounding 0...1."""

    samples: NDArray[np.float32]
    opening: Floats
    rounding: Floats


def speak(seconds: float, seed: int = 7) -> Utterance:
    """Say TEXT, over and over where `seconds` is longer than it; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    count = round(seconds / STEP)
    names: list[str] = []
    lengths: list[int] = []
    while sum(lengths) < count:
        for name in TEXT.split():
            names.append(name)
            lengths.append(round(PHONEMES[name].seconds * rng.uniform(0.95, 1.2) / STEP))
    sounds = [PHONEMES[name] for name in names]

    def track(values: list[float], smooth: float) -> Floats:
        return _smoothed(np.repeat(np.array(values), lengths)[:count], smooth)

    formants = [track([s.formants[i] for s in sounds], 0.05) for i in range(3)]
    voice = track([s.voice for s in sounds], 0.03)
    band = track([s.band for s in sounds], 0.02)
    noise = np.concatenate([_noise(s, length) for s, length in zip(sounds, lengths, strict=True)])[:count]
    # lips are ahead of the sound by about a twentieth of a second
    opening = np.roll(track([s.opening for s in sounds], 0.09), -40)
    rounding = np.roll(track([s.rounding for s in sounds], 0.12), -40)
    pauses = track([float(name == "_") for name in names], 0.3)
    pitch = _pitch(count, pauses, rng)
    samples = _synthesise(formants, voice, _smoothed(noise, 0.006), band, pitch, rng)
    return Utterance(samples, opening, rounding)


def _smoothed(values: Floats, seconds: float) -> Floats:
    window = np.hanning(round(seconds / STEP) + 2)[1:-1]
    half = len(window) // 2
    padded = np.pad(values, (half, len(window) - 1 - half), mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _noise(sound: Phoneme, length: int) -> Floats:
    if not sound.burst:
        return np.full(length, sound.noise)
    shape = np.zeros(length)
    at = round(length * 0.65)
    shape[at:] = sound.noise * np.exp(-np.arange(length - at) / 12)
    return shape


def _pitch(count: int, pauses: Floats, rng: np.random.Generator) -> Floats:
    """Hz: falls along a phrase, begins again after a pause, and moves a little all the time."""
    phrase = np.cumsum(np.maximum(np.diff(pauses > 0.5, prepend=False).astype(float), 0))
    start = np.maximum.accumulate(np.where(np.diff(phrase, prepend=0) > 0, np.arange(count), 0))
    time = (np.arange(count) - start) * STEP
    accents = _smoothed(rng.standard_normal(count), 0.35)
    accents *= 14 / max(1e-9, float(accents.std()))
    return 218 - 26 * np.minimum(time / 2.5, 1) + accents + 2 * np.sin(2 * np.pi * 5.2 * np.arange(count) * STEP)


def _synthesise(
    formants: list[Floats], voice: Floats, noise: Floats, band: Floats, pitch: Floats, rng: np.random.Generator
) -> NDArray[np.float32]:
    from scipy.signal import lfilter

    hop = 2 * SAMPLE_RATE // 1000
    total = len(voice) * SAMPLE_RATE // 1000
    at = np.arange(total) * 1000 / SAMPLE_RATE
    points = np.arange(len(voice))
    hz = np.interp(at, points, pitch) * (1 + 0.006 * _smoothed(rng.standard_normal(total), 0.05))
    source = _glottal(np.cumsum(hz / SAMPLE_RATE), rng) * np.interp(at, points, voice)
    white = rng.standard_normal(total)
    breath = white * np.interp(at, points, voice) * 0.01
    hiss = white * np.interp(at, points, noise)
    spoken, hissed = np.zeros(total), np.zeros(total)
    states = [np.zeros(2) for _ in range(5)]
    hiss_state = np.zeros(2)
    for start in range(0, total, hop):
        piece = slice(start, min(total, start + hop))
        point = min(len(voice) - 1, start * 1000 // SAMPLE_RATE)
        centres = [track[point] for track in formants] + [4100.0, 5200.0]
        sound = source[piece] + breath[piece]
        for i, (centre, width) in enumerate(zip(centres, (70, 100, 150, 220, 300), strict=True)):
            b, a = _resonator(float(centre), width)
            sound, states[i] = lfilter(b, a, sound, zi=states[i])
        spoken[piece] = sound
        _, a = _resonator(float(band[point]), 1200)
        hissed[piece], hiss_state = lfilter([0.5, 0, -0.5], a, hiss[piece], zi=hiss_state)  # nothing at 0 Hz
    spoken = lfilter([1, -0.7], [1], spoken)  # as the lips radiate it: brighter
    # In the first tenths of a second nothing is said yet.
    out = spoken / (np.abs(spoken).max() or 1) + 0.05 * hissed / (hissed.std() or 1)
    return (out * 0.6 / (np.abs(out).max() or 1)).astype(np.float32)


def _glottal(cycles: Floats, rng: np.random.Generator) -> Floats:
    """Derivative of Rosenberg's pulse: opens for 40 % of a cycle, closes for 16 %; each pulse of slightly other
    height."""
    phase = cycles % 1
    opening = np.sin(np.pi * phase / 0.4)
    closing = -np.sin(np.pi / 2 * (phase - 0.4) / 0.16) * 2.2
    pulse = np.where(phase < 0.4, opening, np.where(phase < 0.56, closing, 0.0))
    heights = 1 + 0.04 * rng.standard_normal(int(cycles[-1]) + 2)
    return np.asarray(pulse * heights[cycles.astype(int)] * 0.1)


def _resonator(centre: float, width: float) -> tuple[Floats, Floats]:
    """Two-pole filter of gain 1 at 0 Hz (Klatt 1980), as (b, a)."""
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    middle = 2 * radius * np.cos(2 * np.pi * min(centre, 7600.0) / SAMPLE_RATE)
    return np.array([1 - middle + radius * radius, 0.0, 0.0]), np.array([1.0, -middle, radius * radius])
