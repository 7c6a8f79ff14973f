"""Quality metrics. Backbones of learned metrics are supplied by the user: tfcodec ships no third-party weights.

`pixels` PSNR, MS-SSIM, error of frame differences, flicker; `lpips` learned perceptual distance; `faces` landmarks,
mouth, eyes and identity; `openings` of mouth and eyes over time, blinks; `frechet` distance of populations; `selftest`
whether all of them work here. Frames are [T, 256, 256, 3] uint8 RGB. Packages beyond tfcodec's own are in the extra
``bench``.
"""
