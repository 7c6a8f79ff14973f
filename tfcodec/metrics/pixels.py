"""Metrics of pixels and of their change in time. Frames are [T, H, W, 3] uint8 RGB; a metric of pictures returns [T].

All raise TfcodecError when the two videos do not have one shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError
from .files import need
from .frames import Frames, check_frames, check_pair

Scores = NDArray[np.float64]

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
# Variance of x[t-1] - 2 x[t] + x[t+1] when each x carries nothing but the rounding error of 8 bits (1/12).
_ROUNDING = (1 + 4 + 1) / 12
BATCH = 16


def psnr(a: Frames, b: Frames) -> Scores:
    """Peak signal-to-noise ratio of each frame over all three channels, [T] in dB; 108.1 dB for identical frames.

    The mean squared error is not taken below 1e-6, so that the figure stays finite.
    """
    check_pair(a, b)
    error = np.array([np.square(x.astype(np.float32) - y).mean(dtype=np.float64) for x, y in zip(a, b, strict=True)])
    return np.asarray(10 * np.log10(255**2 / np.maximum(error, 1e-6)), np.float64)


def ms_ssim(a: Frames, b: Frames) -> Scores:
    """Multi-scale structural similarity (Wang et al., Asilomar 2003) of each frame, [T] in 0..1.

    Mean of the RGB channels; five scales, Gaussian window of 11 pixels, computed by pytorch-msssim; sides of more than
    160 pixels. Raises MissingPackage.
    """
    check_pair(a, b)
    library = need("pytorch_msssim", "MS-SSIM")
    import torch

    if min(a.shape[1:3]) <= 160:
        raise TfcodecError(f"MS-SSIM needs more than 160 pixels a side, not {list(a.shape[1:3])}")

    def tensor(x: Frames) -> torch.Tensor:
        return torch.tensor(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float()

    with torch.inference_mode():
        parts = [
            library.ms_ssim(tensor(a[i : i + BATCH]), tensor(b[i : i + BATCH]), data_range=255, size_average=False)
            for i in range(0, len(a), BATCH)
        ]
        return np.asarray(torch.cat(parts).double().numpy())


def frame_difference_error(decoded: Frames, source: Frames) -> Scores:
    """Error of the frame differences, [T-1] in 0..255: mean of |(d[t+1] - d[t]) - (s[t+1] - s[t])|.

    It counts flicker, motion that is missing and motion that is wrong alike; 0 for identical videos.
    """
    check_pair(decoded, source, 2)
    out = np.empty(len(decoded) - 1)
    before = decoded[0].astype(np.int16) - source[0]
    for t in range(1, len(decoded)):
        error = decoded[t].astype(np.int16) - source[t]
        out[t - 1] = np.abs(error - before).mean()
        before = error
    return out


def second_difference_energy(frames: Frames, box: int = 1) -> NDArray[np.float32]:
    """Mean over time of the squared second difference x[t-1] - 2 x[t] + x[t+1] of luma, [H/box, W/box].

    Steady motion of anything smooth leaves little of it, what jumps to and fro from frame to frame (noise, pumping,
    trembling) six times its variance. ``box``: luma is first averaged over squares of so many pixels.
    """
    check_frames(frames, "video", 3)
    h, w = frames.shape[1:3]
    if h % box or w % box:
        raise TfcodecError(f"squares of {box} pixels do not fill {h}x{w}")

    def luma(x: Frames) -> NDArray[np.float32]:
        y = np.asarray(x @ _LUMA, np.float32)
        return y if box == 1 else np.asarray(y.reshape(h // box, box, w // box, box).mean((1, 3)), np.float32)

    total = np.zeros((h // box, w // box), np.float32)
    a, b = luma(frames[0]), luma(frames[1])
    for frame in frames[2:]:
        c = luma(frame)
        total += np.square(a - 2 * b + c)
        a, b = b, c
    return np.asarray(total / (len(frames) - 2), np.float32)


def flicker_ratio(decoded: Frames, source: Frames, *, box: int = 1, still: bool = False) -> float:
    """Flicker of the decoded video over the source's own: ratio of the RMS second temporal differences of luma.

    1 for identical videos; more where the decoded video adds temporal noise; less where it is blurred or stands still,
    so it says nothing about quality by itself. Both energies include the rounding error of 8-bit pictures, so that a
    source that stands perfectly still has a finite ratio.

    Args:
        decoded, source: [T, H, W, 3] uint8, three frames or more.
        box: average luma over squares of so many pixels first. 1 counts every pixel's noise; 32 counts what the eye
            sees as pumping of whole areas, which the tiny frames' quantisation would cause.
        still: only the half of the picture where the source itself changes least, where motion can neither hide
            flicker nor, by its own absence, lower the figure.
    """
    check_pair(decoded, source, 3)
    ours, own = second_difference_energy(decoded, box), second_difference_energy(source, box)
    if still:
        calm = own <= np.median(own)
        ours, own = ours[calm], own[calm]
    floor = _ROUNDING / box**2
    return float(np.sqrt((ours.mean(dtype=np.float64) + floor) / (own.mean(dtype=np.float64) + floor)))
