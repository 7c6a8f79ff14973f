"""The streaming encoder: frames and speech in, packets out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import rates
from ..arguments import packet as checked_packet
from ..arguments import whole
from ..errors import TfcodecError
from ..resample import Resampler, is_rate
from ..samples import check_samples
from ..speech.choice import Choice
from . import typical
from .call.encoder import CallEncoder
from .file.budget import expect_within
from .file.encoder import FileEncoder
from .file.refine import Refiner
from .frames import check_frames
from .options import EncodeOptions, Redundancy
from .parts.speech import Silence
from .results import Packet

if TYPE_CHECKING:
    from ..model.tracker import FaceTracker

Frame = NDArray[np.uint8]
Latency = typical.Latency


class Encoder:
    """Turns frames and speech into packets, as they come.

    ``latency="call"``: packets leave as soon as their frames are there; each fits into a datagram and can be lost.
    ``latency="file"``: looks up to 5 seconds ahead, costs fewer bits; the packets put together are a `.tfc` file.

    Args:
        quality: 0 (fewest bits) to 10 (best picture and sound); None: 5, or what goes with ``kbps``.
        latency: see above.
        audio: whether there will be speech; None: decided by the first `push`.
        sample_rate: of the speech that is pushed, in Hz, a whole number from 1000 to 768000. Other speech than that at
            16000 is resampled; in calls that makes it 1 ms later, 2 ms at 8000.
        expected_frames: length of the clip, if known: a short one gets a smaller keyframe.
        bundle: in calls, frames (1 to 4) that share a packet. Every frame more adds 40 ms of delay and saves a packet's
            headers: about 10 bytes of tfcodec's own and 60 to 90 of the transport's.
        redundancy: in calls, how many earlier packets' frames each packet repeats; "auto": follows the losses that the
            receiver reports.
        refresh: in calls without feedback, the most frames between restarts from the keyframe, each of which costs
            about 30 bytes. With feedback the sender knows what the receiver has, and needs none.
        refine: in files, let the network choose the tiny frames that it draws best from, in place of box means (see
            `tfcodec.codec.file.refine`). The work comes in bursts, one for 128 frames. A `Refiner` brings a network of
            its own.
        motion: say how the face moves (see `tfcodec.motion`), in about 10 bits a frame. With neither ``refine`` nor
            ``motion`` the encoder needs no network. A `FaceTracker` is asked in place of the network's own.
        speech: codec of the speech: ``"opus"``, ``"codec2"`` or ``"lyra"``, at the rate that goes with the quality, or
            at one in bit/s: ``"lyra:2400"``. ``"auto"`` is Opus, which needs nothing installed; with ``"none"`` speech
            that is pushed is left out.
        inter_keyframes: code later keyframes as differences from the one before where that is cheaper. Readers from
            before that refuse such streams.
        silence: ``"gate"`` leaves out speech packets in which nobody speaks, and the receiver makes noise like that of
            the pause; ``"send"`` sends them all.
        kbps: in place of ``quality``, a budget for everything, speech and packets' own headers included, in kbit/s:
            quality and, of ``"auto"``, speech codec are those that typically keep to it. Calls then watch what they
            send and go on with coarser or finer pictures, every 5 s; only the first keyframe (1 to 2 KB) comes on top,
            and what the transport adds. For files use `tfcodec.encode`, which tries, where you can.
        origin: in calls, the number of the first packet, 0 to 65535; None: a random one, by which a receiver tells a
            call that begins anew from the one before. With a given one the packets are the same every time.
        device: where the networks compute, as for `tfcodec.encode`.

    Raises:
        TfcodecError: an argument out of range.
        SpeechCodecMissing: the speech codec is not installed.
        WeightsError: with ``refine`` or ``motion``, if the network's weights are not there.
    """

    def __init__(
        self,
        quality: int | None = None,
        latency: Latency = "call",
        *,
        audio: bool | None = None,
        sample_rate: int = rates.SAMPLE_RATE,
        expected_frames: int | None = None,
        bundle: int = 2,
        redundancy: Redundancy = "auto",
        refresh: int = 25,
        refine: bool | Refiner = True,
        motion: bool | FaceTracker = True,
        speech: str = "auto",
        inter_keyframes: bool = True,
        silence: Silence = "gate",
        kbps: float | None = None,
        origin: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._settings: dict[str, Any] = {
            "quality": quality, "latency": latency, "audio": audio, "sample_rate": sample_rate,
            "expected_frames": expected_frames, "bundle": bundle, "redundancy": redundancy, "refresh": refresh,
            "refine": refine, "motion": motion, "speech": speech, "inter_keyframes": inter_keyframes,
            "silence": silence, "kbps": kbps, "origin": origin, "device": device,
        }  # fmt: skip
        if latency not in ("call", "file"):
            raise TfcodecError(f'latency must be "call" or "file", not {latency!r}')
        if not is_rate(sample_rate):
            raise TfcodecError(f"sample_rate must be a whole number from 1000 to 768000 Hz, not {sample_rate!r}")
        if audio is not None and not isinstance(audio, bool):
            raise TfcodecError(f"audio must be True, False or None, not {audio!r}")
        if expected_frames is not None:
            expected_frames = whole("expected_frames", expected_frames, 1)
        voice: str | Choice = speech
        control = None
        if kbps is not None:
            if quality is not None:
                raise TfcodecError("quality and kbps are two ways to say the same: give one of them")
            quality, choice = expect_within(kbps, latency, speech, audio is not False and speech != "none")
            voice = "none" if choice is None else choice
            control = typical.RateControl(kbps, quality, typical.speech_kbps(choice, latency))
        options = EncodeOptions(
            5 if quality is None else quality, refine, motion, voice, inter_keyframes, silence, device, bundle,
            redundancy, refresh, origin,
        )  # fmt: skip
        self.quality = options.quality
        self.latency: Latency = latency
        self.sample_rate = int(sample_rate)
        # In calls a frame's speech must not wait for the next frame's.
        same = self.sample_rate == rates.SAMPLE_RATE
        self._resampler = None if same else Resampler(prompt=latency == "call")
        self._road: CallEncoder | FileEncoder = (
            CallEncoder(options, audio, control)
            if latency == "call"
            else FileEncoder(options, audio, expected_frames)
        )

    @property
    def frames(self) -> int:
        """Frames coded so far."""
        return self._road.frames

    @property
    def drift(self) -> tuple[int, int]:
        """In calls, what kept pictures and sound together although the clocks of camera and sound card differ: samples
        taken away by resampling, and frames left out."""
        road = self._road
        return (road.drift.samples, road.drift.frames) if isinstance(road, CallEncoder) else (0, 0)

    def request_keyframe(self) -> None:
        """Send a keyframe with the next frame."""
        self._road.request_keyframe()

    def push(self, frame: Frame | None, audio: ArrayLike | None = None) -> list[Packet]:
        """Encode frames and the speech that goes with them.

        In which pieces they come makes no difference to the packets. With speech, a frame's packet waits until the
        speech of its 40 ms is there, for a second at most; what is missing then counts as silence.

        Args:
            frame: [256, 256, 3] uint8 RGB, frames being 1/25 s apart; or several, [n, 256, 256, 3]; or None.
            audio: mono speech [n] at ``sample_rate``, any length, float in -1..1 (what is beyond is clipped) or int16;
                time 0 is the beginning of frame 0.

        Returns:
            Packets to send, in order; often none.

        Raises:
            MediaError: wrong shape or type, a sample that is not a finite number, or speech after a beginning without.
                Nothing of that push is taken then.
            TfcodecError: the encoder was flushed.
        """
        if self._resampler is not None and audio is not None and not self._road.silent:
            check_frames(frame)  # before any speech is taken
            audio = self._resampler.push(check_samples(audio), self.sample_rate)
        return self._road.push(frame, audio)

    def push_feedback(self, packet: bytes) -> list[Packet]:
        """Take what the receiver's `Decoder.feedback` said, in a call.

        Returns:
            Packets to send at once: parts of a keyframe that were lost. Bytes that are not feedback are ignored.

        Raises:
            TfcodecError: it is no bytes.
        """
        data = checked_packet(packet)
        return self._road.push_feedback(data) if isinstance(self._road, CallEncoder) else []

    def flush(self) -> list[Packet]:
        """The last packets. The encoder takes nothing after that; a second call returns nothing."""
        out: list[Packet] = []
        if self._resampler is not None and self._road.frames:
            rest, self._resampler = self._resampler.flush(), None
            out = self._road.push(None, rest) if len(rest) else []
        return out + self._road.flush()

    def reset(self) -> None:
        """Begin a new stream or call with the same settings."""
        self.__init__(**self._settings)  # type: ignore[misc]
