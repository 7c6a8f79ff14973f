"""What the public functions return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

PIXELS = 256 * 256


class Packet(bytes):
    """What an encoder gives: the bytes to send, or to write, and what they are.

    Attributes:
        keyframe: it carries a keyframe, or a part of one; where there is a reliable channel, it may go there.
        parts: bytes of ``header`` (framing and checksum), ``motion``, ``tiny``, ``redundancy``, ``keyframe`` and
            ``speech``, those that there are; they sum to the length. Empty for pieces of files: see `tfcodec.probe`.
        time: when the newest frame in it is shown, in seconds from the stream's beginning. Of a keyframe: the first
            frame that is drawn from it; of speech alone: the beginning of its last block; of the stream's end: its
            length.
    """

    keyframe: bool
    parts: dict[str, int]
    time: float

    def __new__(
        cls, data: bytes, keyframe: bool = False, parts: dict[str, int] | None = None, time: float = 0.0
    ) -> Packet:
        packet = super().__new__(cls, data)
        packet.keyframe = keyframe
        packet.parts = parts or {}
        packet.time = time
        return packet


class Shown(NamedTuple):
    """What a call's receiver shows at a tick.

    Attributes:
        number: of the frame, from 0.
        time: of the frame in the stream, in seconds.
        state: ``"fresh"``: the frame has come, and is shown for the first time; ``"concealed"``: it is new as well, but
            made up, because the frame is late or lost; ``"held"``: the picture is the one of the tick before.
    """

    number: int
    time: float
    state: Literal["fresh", "concealed", "held"]


@dataclass(frozen=True, repr=False)
class Clip:
    """A decoded clip.

    Attributes:
        frames: [T, 256, 256, 3] uint8 RGB; None when pixels were not asked for.
        fps: frames per second.
        audio: [N] float32 mono in -1..1, or None without sound, or if its codec is not installed; sample 0 belongs to
            the beginning of frame 0.
        sample_rate: of ``audio``, in Hz.
        tiny: [T, 8, 8, 3] uint8, the decoded tiny frames.
        keyframes: list of (index of the first frame drawn with it, [256, 256, 3] uint8).
        damaged: what could not be read, one sentence each; only with ``errors="conceal"``.
        speech_missing: the speech codec that is not installed, and how to get it, in one line; else empty.
        network: which network drew ``frames``: its number in the registry with the start of its hash, and before it the
            name of one that stood in, as in ``"light 3 (0123abcd)"``. Empty without pixels.
    """

    frames: NDArray[np.uint8] | None
    fps: float
    audio: NDArray[np.float32] | None
    sample_rate: int
    tiny: NDArray[np.uint8]
    keyframes: list[tuple[int, NDArray[np.uint8]]]
    damaged: tuple[str, ...] = ()
    speech_missing: str = ""
    network: str = ""

    @property
    def duration_seconds(self) -> float:
        """Length of the video in seconds."""
        return len(self.tiny) / self.fps

    def __repr__(self) -> str:
        sound = "no audio" if self.audio is None else f"audio [{len(self.audio)}] at {self.sample_rate} Hz"
        pixels = "no pixels" if self.frames is None else f"frames {list(self.frames.shape)}"
        length = f"{self.duration_seconds:.2f} s at {self.fps:g} fps"
        return f"Clip({pixels}, {length}, {len(self.keyframes)} keyframes, {sound})"


@dataclass(frozen=True, repr=False)
class DrawnClip(Clip):
    """A `Clip` with pixels: what `tfcodec.decode` returns unless it is told to leave them out."""

    frames: NDArray[np.uint8]


@dataclass(frozen=True, repr=False, eq=False)
class DecodedFrame:
    """A decoded frame.

    Attributes:
        number: of the frame, from 0.
        time: at which it is shown, in seconds.
        pixels: [256, 256, 3] uint8 RGB; [64, 64, 3] with ``coarse``; None when pixels were not asked for.
        audio: the speech while it is shown, [n] float32 mono in -1..1 at 16 kHz (640 at 25 fps); None without sound.
        tiny: [8, 8, 3] uint8, the decoded tiny frame.
        keyframe: number of the keyframe that it is drawn from.
        concealed: its tiny frame was lost or damaged, and is made up; only with ``errors="conceal"``.
    """

    number: int
    time: float
    pixels: NDArray[np.uint8] | None
    audio: NDArray[np.float32] | None
    tiny: NDArray[np.uint8]
    keyframe: int
    concealed: bool

    def __repr__(self) -> str:
        how = "concealed" if self.concealed else "decoded"
        return f"DecodedFrame({self.number} at {self.time:.2f} s, keyframe {self.keyframe}, {how})"


@dataclass(frozen=True)
class StreamInfo:
    """What a stream holds, without decoding it.

    Attributes:
        frames: number of frames.
        fps: frames per second.
        model_id: registry number of the network, 0 for none.
        model_hash: first 8 hexadecimal digits of the SHA-256 of its weights.
        keyframes: number of keyframes.
        inter_keyframes: which of them, counted from 0, are coded as differences from the one before.
        has_audio: whether there is speech.
        bytes: ``container``, ``keyframe``, ``motion``, ``tiny``, ``displacement``, ``audio``, which sum to the
            ``total``, exactly.
        damaged: what could not be read, one sentence each; only with ``errors="conceal"``.
        speech: the speech codec: ``"Opus"``, ``"Codec2 1200"``, ``"Lyra 3600"``; empty without speech.
        warnings: what of the source could be read, but not as it was meant, one sentence each; only from
            `tfcodec.encode`.
    """

    frames: int
    fps: float
    model_id: int
    model_hash: str
    keyframes: int
    has_audio: bool
    bytes: dict[str, int]
    damaged: tuple[str, ...] = ()
    speech: str = ""
    warnings: tuple[str, ...] = ()
    inter_keyframes: tuple[int, ...] = ()

    @property
    def duration_seconds(self) -> float:
        """Length of the video in seconds."""
        return self.frames / self.fps

    @property
    def kbps(self) -> float:
        """Kilobits (1000 bits) per second of the whole stream, speech and all."""
        return self.bytes["total"] * 8 / 1000 / self.duration_seconds

    @property
    def video_bytes(self) -> int:
        """Everything but the speech."""
        return self.bytes["total"] - self.bytes["audio"]

    @property
    def video_bpp(self) -> float:
        """Bits per pixel of the video: container, keyframes, motion, tiny frames and displacement over all pixels."""
        return self.video_bytes * 8 / (self.frames * PIXELS)

    @property
    def video_kbps(self) -> float:
        """Kilobits (1000 bits) per second of the video."""
        return self.video_bytes * 8 / 1000 / self.duration_seconds

    @property
    def audio_kbps(self) -> float:
        """Kilobits (1000 bits) per second of the speech."""
        return self.bytes["audio"] * 8 / 1000 / self.duration_seconds
