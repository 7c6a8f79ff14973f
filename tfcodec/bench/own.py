"""tfcodec's own arms: the codec itself, and the two trivial ones that it must beat with the same parts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError, MediaError
from .arms import Arm, Coded, Frames, Sound
from .classical import FPS

SAMPLES_PER_FRAME = 640
CALL_LOOKAHEAD = 1
_PACKAGE = Path(__file__).resolve().parents[1]
# Sources that can change a stream's bytes, or its pictures. Bytes are compared as well, so this only saves time.
_ENCODING = ("keyframe.py", "speech.py", "bitstream/*.py", "tinyframe/*", "codec/encoder.py", "codec/policy.py")
_DECODING = (
    "keyframe.py",
    "speech.py",
    "bitstream/*.py",
    "tinyframe/*",
    "codec/render.py",
    "codec/tracks.py",
    "model/*.py",
)


@cache
def _state(patterns: tuple[str, ...]) -> str:
    from ..model.registry import default_model

    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(_PACKAGE.glob(pattern)):
            if path.is_file():
                digest.update(path.read_bytes())
    model = default_model()
    return f"network {model.model_id} {model.sha256[:16]}, sources {digest.hexdigest()[:16]}"


class Tfcodec:
    """The codec. Class "file": `tfcodec.encode`. Class "call": `Encoder(latency="call")`, one payload for each frame,
    its chunks one after the other in a file, drawn with one frame of lookahead as a call's receiver does."""

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        path.write_bytes(encode_stream(arm, frames, sound))

    def account(self, arm: Arm, path: Path) -> Coded:
        from ..api import probe

        info = probe(path)
        parts = {name: info.bytes[name] for name in ("container", "keyframe", "tiny")}
        return Coded(parts["keyframe"] + parts["tiny"], info.video_bytes, info.bytes["audio"], parts, info.keyframes)

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        from ..codec.decoder import read_exact, render_exact
        from ..model.inputs import REACH

        lookahead = CALL_LOOKAHEAD if arm.delay == "call" else REACH
        return np.concatenate(list(render_exact(read_exact(path.read_bytes()), only=wanted, lookahead=lookahead)))

    def encoder_state(self, arm: Arm) -> str:
        return _state(_ENCODING)

    def decoder_state(self, arm: Arm) -> str:
        return _state(_DECODING)


def encode_stream(arm: Arm, frames: Frames, sound: Sound | None) -> bytes:
    """A clip as a stream of tfcodec, in the arm's delay class."""
    from ..api import encode
    from ..bitstream import write_signature
    from ..codec.encoder import Encoder

    if arm.delay == "file":
        return encode(frames, fps=FPS, audio=sound, sample_rate=None if sound is None else 16000, quality=arm.point)
    encoder = Encoder(arm.point, "call", audio=sound is not None)
    chunks = []
    for i, frame in enumerate(frames):
        part = None if sound is None else sound[i * SAMPLES_PER_FRAME : (i + 1) * SAMPLES_PER_FRAME]
        chunks += encoder.push_chunks(frame, part)
    chunks += encoder.flush_chunks()
    return b"".join([write_signature(), encoder.header(final=True).to_bytes(), *(c.to_bytes() for c in chunks)])


class Frozen(Tfcodec):
    """The keyframes of the stream that tfcodec writes at the same quality, each shown until the next: a file of
    HEADER and KEYFRAME chunks alone. What the tiny frames and the network are worth is the distance to this."""

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        from ..bitstream import KeyframeChunk, StreamHeader, read_stream, write_signature

        whole = read_stream(encode_stream(arm, frames, None))
        kept = [c.to_bytes() for c in whole.chunks if isinstance(c, KeyframeChunk | StreamHeader)]
        path.write_bytes(b"".join([write_signature(), *kept]))

    def account(self, arm: Arm, path: Path) -> Coded:
        from ..bitstream import KeyframeChunk, read_stream

        data = path.read_bytes()
        keys = [len(c.data) for c in read_stream(data, errors="conceal").chunks if isinstance(c, KeyframeChunk)]
        parts = {"container": len(data) - sum(keys), "keyframe": sum(keys)}
        return Coded(sum(keys), len(data), 0, parts, len(keys))

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        from ..bitstream import KeyframeChunk, read_stream
        from ..keyframe import decode_keyframe

        keys = [c for c in read_stream(path.read_bytes(), errors="conceal").chunks if isinstance(c, KeyframeChunk)]
        if not keys:
            raise BitstreamError(f"{path}: no keyframe")
        pictures = np.stack([decode_keyframe(c.data) for c in keys])
        return pictures[np.searchsorted([c.frame_index for c in keys[1:]], wanted, side="right")]


class TinyBicubic:
    """The tiny frames alone, enlarged by bicubic interpolation: what 8x8 pixels hold without keyframe and network.

    The file is one 16-bit length and one payload for each 128 frames; the first is predicted from mid-grey.
    """

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        from ..tinyframe import TinyEncoder, tiny_from_frames

        coder = TinyEncoder(arm.point, mode="file")
        coder.reset(tiny_from_frames(_grey()))
        out = [len(frames).to_bytes(2, "big")]
        for at in range(0, len(frames), _GROUP):
            payload = coder.encode(tiny_from_frames(frames[at : at + _GROUP]))
            out += [len(payload).to_bytes(2, "big"), payload]
        path.write_bytes(b"".join(out))

    def account(self, arm: Arm, path: Path) -> Coded:
        _, payloads = _read_tiny(path)
        total, coded = path.stat().st_size, sum(map(len, payloads))
        return Coded(coded, total, 0, {"container": total - coded, "tiny": coded}, 0)

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        import torch
        import torch.nn.functional as F

        from ..tinyframe import TinyDecoder, tiny_from_frames, tiny_to_rgb

        count, payloads = _read_tiny(path)
        decoder = TinyDecoder()
        decoder.reset(tiny_from_frames(_grey()))
        parts = [
            tiny_to_rgb(decoder.decode(payload, min(_GROUP, count - i * _GROUP))) for i, payload in enumerate(payloads)
        ]
        small = torch.from_numpy(np.concatenate(parts)[wanted]).permute(0, 3, 1, 2).float()
        large = F.interpolate(small, size=(256, 256), mode="bicubic", align_corners=False)
        return large.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()

    def encoder_state(self, arm: Arm) -> str:
        return _state(("tinyframe/*",))

    def decoder_state(self, arm: Arm) -> str:
        return _state(("tinyframe/*",))


_GROUP = 128


def _grey() -> Frames:
    return np.full((1, 256, 256, 3), 128, np.uint8)


def _read_tiny(path: Path) -> tuple[int, list[bytes]]:
    data = path.read_bytes()
    at, payloads = 2, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        payloads.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(data):
        raise MediaError(f"{path}: ends early")
    return int.from_bytes(data[:2], "big"), payloads
