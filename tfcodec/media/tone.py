"""High dynamic range and wide gamut to the range and colours of BT.709.

The steps, with their sources:

1. signal to light: PQ by SMPTE ST 2084 (cd/m2); HLG by ITU-R BT.2100, with a display of 1000 cd/m2 and its system gamma
   of 1.2; anything else by a gamma of 2.4 (ITU-R BT.1886), in which 1 is white;
2. brightness: 203 cd/m2, the reference white of ITU-R BT.2408, becomes the white of the result. For that the range up
   to 1000 cd/m2 is rolled off by the curve of ITU-R BT.2390 (EETF, section 5.4.1), taken of the largest of the three
   components, so that hues stay. Below about 95 cd/m2, where faces are, nothing is changed;
3. gamut: a 3x3 matrix to BT.709 primaries, in linear light; what lies outside is clipped;
4. light to signal: a gamma of 1/2.4.

FFmpeg has filters for it (zscale, tonemap), but PyAV's wheels lack zscale, and swscale's own conversion clips
everything above reference white.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

PQ, HLG = 16, 18
"""Transfer characteristics, ITU-T H.273."""
BT2020, P3 = 9, 12
"""Colour primaries, ITU-T H.273."""
WHITE = 203.0
PEAK = 1000.0
GAMMA = 2.4
_SIZE = 1 << 14  # entries of the tables from light to signal

_TO_709 = {
    BT2020: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    P3: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
"""ITU-R BT.2087 for BT.2020; for P3 with D65 from the primaries of SMPTE EG 432-1."""
_BT2020_LUMA = (0.2627, 0.6780, 0.0593)

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_to_light(signal: Doubles) -> Doubles:
    """ST 2084: 0..1 to cd/m2."""
    power = np.maximum(signal, 0) ** (1 / _M2)
    light: Doubles = 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def light_to_pq(light: Doubles) -> Doubles:
    """ST 2084: cd/m2 to 0..1."""
    power = (np.maximum(light, 0) / 10_000) ** _M1
    signal: Doubles = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def hlg_to_scene(signal: Doubles) -> Doubles:
    """BT.2100: 0..1 to scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene: Doubles = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene


def roll_off(light: Doubles) -> Doubles:
    """BT.2390's curve: 0 to `PEAK` cd/m2 to 0 to `WHITE`; what is beyond the peak is taken for it."""
    peak = float(light_to_pq(np.array(PEAK)))
    top = float(light_to_pq(np.array(WHITE))) / peak
    knee = 1.5 * top - 0.5
    x = np.minimum(light_to_pq(light) / peak, 1)
    t = np.maximum(x - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    return pq_to_light(np.where(x < knee, x, spline) * peak)


def is_needed(transfer: int, primaries: int) -> bool:
    """Whether pictures with these tags are anything but ordinary."""
    return transfer in (PQ, HLG) or primaries in _TO_709


def to_bt709(picture: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """[H, W, 3] R'G'B', 65535 being full, to [H, W, 3] uint8 R'G'B' of BT.709."""
    light = _signal_table(transfer)[picture]
    if transfer == HLG:
        luma = light @ np.array(_BT2020_LUMA, np.float32)
        light *= (np.float32(PEAK / WHITE) * np.maximum(luma, np.float32(1e-6)) ** np.float32(0.2))[..., None]
    if transfer in (PQ, HLG):
        largest = light.max(axis=-1)
        light *= _scale_table()[_root_index(largest, PEAK / WHITE)][..., None]
    matrix = _TO_709[primaries if primaries in _TO_709 else BT2020]
    light = light @ np.array(matrix, np.float32).T
    return _gamma_table()[_root_index(light, 1.0)]


def _root_index(light: Floats, full: float) -> NDArray[np.intp]:
    # Square roots, so that dark levels have entries enough.
    return (np.sqrt(np.clip(light / np.float32(full), 0, 1)) * (_SIZE - 1) + np.float32(0.5)).astype(np.intp)


@cache
def _signal_table(transfer: int) -> Floats:
    """From 16 bits of signal to light: in units of white, for HLG scene light."""
    signal = np.arange(65536) / 65535
    if transfer == PQ:
        return (pq_to_light(signal) / WHITE).astype(np.float32)
    return (hlg_to_scene(signal) if transfer == HLG else signal**GAMMA).astype(np.float32)


@cache
def _scale_table() -> Floats:
    """What light is multiplied with to be rolled off, by the root of its largest component."""
    light = (np.arange(_SIZE) / (_SIZE - 1)) ** 2 * PEAK
    light[0] = light[1]
    scale = roll_off(light) / light
    return scale.astype(np.float32)


@cache
def _gamma_table() -> NDArray[np.uint8]:
    light = (np.arange(_SIZE) / (_SIZE - 1)) ** 2
    return (light ** (1 / GAMMA) * 255).round().astype(np.uint8)
