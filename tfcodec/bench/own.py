"""tfcodec's own arms: the codec itself, and the two trivial ones that it must beat with the same parts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from ..rates import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from .arms import Arm, Coded, Frames, Sound

_PACKAGE = Path(__file__).resolve().parents[1]
# Folders that can change a stream's bytes, or its pictures. Bytes are compared as well, so this only saves time.
_SOURCES = ("*.py", "bitstream/*", "tinyframe/*", "motion/*", "model/*.py", "codec/*.py", "codec/parts/*.py")
_STATES = {"file": (*_SOURCES, "codec/file/*.py"), "call": (*_SOURCES, "codec/call/*.py")}


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
    """The codec as in files: `tfcodec.encode`."""

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        from ..api import encode

        rate = None if sound is None else SAMPLE_RATE
        path.write_bytes(encode(frames, fps=FPS, audio=sound, sample_rate=rate, quality=arm.point))

    def account(self, arm: Arm, path: Path) -> Coded:
        from ..api import probe

        info = probe(path)
        parts = {name: count for name, count in info.bytes.items() if name not in ("audio", "total")}
        payload = info.video_bytes - parts["container"]
        return Coded(payload, info.video_bytes, info.bytes["audio"], parts, info.keyframes)

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        from ..codec.file.decoder import read_exact, render_exact

        return np.concatenate(list(render_exact(read_exact(path.read_bytes()), only=wanted)))

    def encoder_state(self, arm: Arm) -> str:
        return _state(_STATES[arm.delay])

    def decoder_state(self, arm: Arm) -> str:
        return _state(_STATES[arm.delay])


class TfcodecCall(Tfcodec):
    """The codec as in calls: every packet of `Encoder` behind its 16-bit length, read again by `Decoder`.

    Nothing is lost, and the receiver's feedback reaches the sender at once. Headers and checksums of packets count as
    container, lengths too; what UDP and IP add does not, as for the other codecs.
    """

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        from ..codec.call.decoder import Decoder
        from ..codec.encoder import Encoder

        encoder, receiver, packets = Encoder(arm.point, "call", audio=sound is not None, origin=0), Decoder(), []
        for i, frame in enumerate(frames):
            at = slice(i * SAMPLES_PER_FRAME, (i + 1) * SAMPLES_PER_FRAME)
            new = encoder.push(frame, None if sound is None else sound[at])
            for packet in new:
                receiver.push(packet)
            receiver.pull(draw=False)
            if (feedback := receiver.feedback()) is not None:
                new = [*new, *encoder.push_feedback(feedback)]
            packets += new
        packets += encoder.flush()
        path.write_bytes(b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets))

    def account(self, arm: Arm, path: Path) -> Coded:
        from ..bitstream import KeyframePacket, MediaPacket, parse_packet

        layers = keyframe = speech = keyframes = 0
        for packet in map(parse_packet, _read_records(path)):
            if isinstance(packet, KeyframePacket):
                keyframe += len(packet.data)
                keyframes += packet.offset == 0
            elif isinstance(packet, MediaPacket):
                layers += sum(len(unit.payload) for unit in packet.units)
                speech += sum(map(len, packet.speech))
        total = path.stat().st_size - speech
        # Motion and tiny frames share a range coder.
        parts = {"container": total - keyframe - layers, "keyframe": keyframe, "layers": layers}
        return Coded(keyframe + layers, total, speech, parts, keyframes)

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        from ..codec.call.decoder import Decoder

        receiver, chosen, pictures = Decoder(), set(wanted.tolist()), {}
        for packet in _read_records(path):
            receiver.push(packet)
            while (frame := receiver.next_frame or 0) <= receiver.call.receiver.newest:
                picture = receiver.pull(draw=frame in chosen)
                if frame in chosen:
                    pictures[frame] = picture
        if set(pictures) != chosen:
            raise BitstreamError(f"{path}: shows {len(pictures)} of the {len(wanted)} frames that are wanted")
        return np.stack([pictures[frame] for frame in wanted.tolist()])


def _read_records(path: Path, at: int = 0) -> list[bytes]:
    """The pieces stored from a byte on, each after its size in two bytes."""
    data, records = path.read_bytes(), []
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        records.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(data):
        raise BitstreamError(f"{path}: ends early")
    return records


class Frozen(Tfcodec):
    """The keyframes of the stream that tfcodec writes at the same quality, each shown until the next: a file of
    HEADER and KEYFRAME chunks alone. What the tiny frames and the network are worth is the distance to this."""

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        from ..bitstream import KeyframeChunk, StreamHeader, read_stream, write_signature

        whole = read_stream(_encode_stream(arm, frames))
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
        from ..codec.parts.keyframes import decode_keyframes
        from ..metrics.frames import frozen_keyframes

        keys = [c for c in read_stream(path.read_bytes(), errors="conceal").chunks if isinstance(c, KeyframeChunk)]
        if not keys:
            raise BitstreamError(f"{path}: no keyframe")
        pictures = decode_keyframes(keys)
        return frozen_keyframes([(c.frame_index, picture) for c, picture in zip(keys, pictures, strict=True)], wanted)


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


def _encode_stream(arm: Arm, frames: Frames) -> bytes:
    """The stream that tfcodec writes at the arm's quality, without sound."""
    from ..codec.file.encoder import encode_clip
    from ..codec.options import EncodeOptions

    return encode_clip(iter(frames), None, EncodeOptions(arm.point, refine=False, motion=False), len(frames))


_GROUP = 128


def _grey() -> Frames:
    return np.full((1, 256, 256, 3), 128, np.uint8)


def _read_tiny(path: Path) -> tuple[int, list[bytes]]:
    return int.from_bytes(path.read_bytes()[:2], "big"), _read_records(path, 2)
