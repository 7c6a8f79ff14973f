"""The keypoint codec: AV1 keyframes, quantised keypoints, and a network that animates the one by the other.

A file is, in big-endian numbers:

    4   "TFKP"
    1   version, 1
    1   keypoints
    1   1: with Jacobians, 0: without
    2   quantiser steps from the middle of the picture to its edge
    4   frames
    2   keyframes, then for each: 4 first frame drawn with it, 2 bytes of it, its AV1 still as in tfcodec's own streams
    4   bytes of the track, then the track, as `keypoint_bits` codes it
    4   CRC-32 of everything before

There is no speech in it: pictures only. Keyframes are those that tfcodec itself would send at the same quality, so that
the two differ in what moves them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BitstreamError, ChecksumError, LimitExceeded, TfcodecError, TruncatedError
from ..keyframe import decode_keyframe
from ..model.blocks import to_pixels
from .keypoint_bits import decode_track, encode_track
from .keypoint_model import KeypointAnimator, Keypoints

Frames = NDArray[np.uint8]

MAGIC = b"TFKP\1"
STEPS = 64
"""Quantiser steps from the middle of the picture to its edge: what FOMM-based codecs use."""
MAX_FRAMES = 1 << 20
BATCH = 8
_HEAD = struct.Struct(">5sBBHIH")
_KEY = struct.Struct(">IH")


@dataclass(frozen=True)
class KeypointStream:
    """A parsed file; ``track`` still coded."""

    count: int
    jacobian: bool
    steps: int
    frames: int
    keyframes: list[tuple[int, bytes]]
    track: bytes
    total: int

    @property
    def bytes(self) -> dict[str, int]:
        """``container``, ``keyframe``, ``keypoints`` and ``total``; the three sum to the total, exactly."""
        keys = sum(len(data) for _, data in self.keyframes)
        parts = {"keyframe": keys, "keypoints": len(self.track), "total": self.total}
        return {"container": self.total - keys - len(self.track), **parts}


def _tensor(frames: Frames) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def find_keypoints(animator: KeypointAnimator, frames: Frames) -> NDArray[np.float32]:
    """Keypoints (and Jacobians) of frames [T, 256, 256, 3] uint8 as numbers [T, N]."""
    with torch.inference_mode():
        parts = [animator.detector(_tensor(frames[i : i + BATCH])).flat() for i in range(0, len(frames), BATCH)]
        return np.asarray(torch.cat(parts).numpy())


def encode(
    frames: Frames, animator: KeypointAnimator, *, quality: int = 5, steps: int = STEPS, fps: float = 25
) -> bytes:
    """Code frames [T, 256, 256, 3] uint8. Raises TfcodecError for what is no such video."""
    from ..api import encode as encode_tfcodec
    from ..bitstream import KeyframeChunk, read_stream

    if frames.ndim != 4 or frames.shape[1:] != (256, 256, 3) or frames.dtype != np.uint8 or not len(frames):
        raise TfcodecError(f"frames must be [T, 256, 256, 3] uint8, not {list(frames.shape)} {frames.dtype}")
    if not 0 < steps < 1 << 12:
        raise TfcodecError(f"quantiser steps must be 1 to 4095, not {steps}")
    whole = read_stream(encode_tfcodec(frames, fps=fps, quality=quality, inter_keyframes=False))
    keys = [(c.frame_index, c.data) for c in whole.chunks if isinstance(c, KeyframeChunk)]
    track = np.rint(find_keypoints(animator, frames) * steps).astype(np.int64)
    config = animator.config
    out = [_HEAD.pack(MAGIC, config.count, config.jacobian, steps, len(frames), len(keys))]
    for first, data in keys:
        out += [_KEY.pack(first, len(data)), data]
    payload = encode_track(track)
    out += [struct.pack(">I", len(payload)), payload]
    body = b"".join(out)
    return body + struct.pack(">I", zlib.crc32(body))


def read(data: bytes) -> KeypointStream:
    """Take a file apart. Raises BitstreamError (Truncated, Checksum, LimitExceeded), saying what is wrong."""
    if len(data) < _HEAD.size + 8:
        raise TruncatedError(f"a keypoint file of {len(data)} bytes ends in its head")
    magic, count, jacobian, steps, frames, keyframes = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise BitstreamError("not a keypoint file of version 1")
    if zlib.crc32(data[:-4]) != struct.unpack(">I", data[-4:])[0]:
        raise ChecksumError("the keypoint file's CRC-32 does not match its bytes")
    if not (0 < frames <= MAX_FRAMES and count and steps and keyframes and jacobian in (0, 1)):
        raise LimitExceeded(f"{frames} frames, {count} keypoints, {keyframes} keyframes, {steps} steps")
    at, end, keys = _HEAD.size, len(data) - 4, []

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        if at > end:
            raise TruncatedError(f"the keypoint file ends before byte {at}")
        return data[at - size : at]

    for _ in range(keyframes):
        first, size = _KEY.unpack(take(_KEY.size))
        keys.append((first, take(size)))
    track = take(struct.unpack(">I", take(4))[0])
    if at != end:
        raise BitstreamError(f"{end - at} bytes too many after the track")
    starts = [first for first, _ in keys]
    if starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= frames:
        raise BitstreamError(f"keyframes at {starts} of {frames} frames")
    return KeypointStream(count, bool(jacobian), steps, frames, keys, track, len(data))


def decode(data: bytes, animator: KeypointAnimator, *, only: NDArray[np.int64] | None = None) -> Frames:
    """The pictures [T, 256, 256, 3] uint8, or those with the ascending indices ``only``.

    Raises BitstreamError, or TfcodecError when the network has other keypoints than the file.
    """
    stream = read(data)
    config = animator.config
    if (stream.count, stream.jacobian) != (config.count, config.jacobian):
        raise TfcodecError(
            f"the file has {stream.count} keypoints (Jacobians: {stream.jacobian}), "
            f"the network {config.count} (Jacobians: {config.jacobian})"
        )
    track = decode_track(stream.track, stream.frames, config.numbers)
    numbers = torch.from_numpy(track.astype(np.float32) / np.float32(stream.steps))
    wanted = np.arange(stream.frames) if only is None else only
    starts = [first for first, _ in stream.keyframes] + [stream.frames]
    out = []
    with torch.inference_mode():
        for (begin, coded), end in zip(stream.keyframes, starts[1:], strict=True):
            here = wanted[(wanted >= begin) & (wanted < end)]
            if not len(here):
                continue
            picture = _tensor(decode_keyframe(coded)[None])
            key, of_key = animator.encode_keyframe(picture), animator.detector(picture)
            for i in range(0, len(here), BATCH):
                some = here[i : i + BATCH]
                index = torch.zeros(len(some), dtype=torch.long)
                now = Keypoints.from_flat(numbers[torch.from_numpy(some)], config)
                frame = animator(key.select(index), of_key.select(index), now).frame
                out.append(to_pixels(frame).numpy())
    return np.ascontiguousarray(np.concatenate(out)) if out else np.zeros((0, 256, 256, 3), np.uint8)
