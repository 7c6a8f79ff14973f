"""tfcodec calls over WebRTC, with aiortc: packets on data channels, decoded media as tracks. Needs the extra `webrtc`.

    # sender, before the offer is made
    sender = CallSender(*open_channels(pc), audio=True)
    ...
    sender.push(frame, sound)                  # 25 times a second; returns at once

    # receiver
    receiver = CallReceiver()
    pc.on("datachannel", receiver.attach)
    other.addTrack(receiver.video)             # decoded pictures and speech are ordinary tracks
    other.addTrack(receiver.audio)

Encoding, and decoding with the network that draws, run in threads of their own; the event loop only hands bytes over.
Where a machine or a connection is too slow, older frames are given up for the newest: nothing queues up.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codec.call.decoder import Decoder
from ..codec.call.overhead import DATA_CHANNEL
from ..codec.encoder import Encoder
from ..codec.results import Packet
from ..errors import TfcodecError
from ..rates import SAMPLE_RATE
from ..simulator import Link
from .sound import TrackSound

try:
    import av
    from aiortc import InvalidStateError, MediaStreamTrack, RTCDataChannel, RTCPeerConnection
    from aiortc.mediastreams import MediaStreamError
except ImportError as _error:
    raise ImportError(f"tfcodec.contrib.aiortc needs aiortc ({_error}): pip install 'tfcodec[webrtc]'") from None

PACKETS, KEYFRAMES = "tfcodec", "tfcodec.keyframes"
"""Labels of the two channels."""
PROTOCOL = "tfcodec.call.1"
"""Protocol of both channels."""
PERIOD = 0.04
"""Seconds from tick to tick: 25 a second."""
MAX_BUFFERED = 4096
"""Bytes that may wait in the packet channel. A packet that finds more is dropped: SCTP would deliver it too late."""
MAX_WAITING = 3
"""Frames that may wait for the encoder; of older ones only the speech is coded, with a newer frame's picture."""
SPARE = 0.006
"""Seconds before its tick at which a frame should be ready; the receiver's clock keeps to that."""

Frame = NDArray[np.uint8]


def open_channels(pc: RTCPeerConnection) -> tuple[RTCDataChannel, RTCDataChannel]:
    """Open the sender's two channels, before the offer is made.

    Returns:
        An unreliable channel for packets, and a reliable one for keyframes: the first two arguments of `CallSender`.
    """
    packets = pc.createDataChannel(PACKETS, ordered=False, maxRetransmits=0, protocol=PROTOCOL)
    return packets, pc.createDataChannel(KEYFRAMES, protocol=PROTOCOL)


class _Wire:
    """Sends over a channel, through a simulated network if there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: Link | None) -> None:
        self.loop, self.link = loop, link
        self.channel: RTCDataChannel | None = None
        self.dropped = 0

    def send(self, packet: bytes) -> None:
        if self.link is None:
            self._deliver(packet)
            return
        now = self.loop.time()
        self.link.send(packet, now)
        self._pump()

    def _pump(self) -> None:
        if self.link is None:
            return
        for packet in self.link.receive(self.loop.time()):
            self._deliver(packet)
        if (arrival := self.link.next_arrival) is not None:
            self.loop.call_at(arrival, self._pump)

    def _deliver(self, packet: bytes) -> None:
        channel = self.channel
        if channel is None or channel.readyState != "open":
            return
        if channel.maxRetransmits == 0 and channel.bufferedAmount > MAX_BUFFERED:
            self.dropped += 1
            return
        try:
            channel.send(bytes(packet))
        except (InvalidStateError, ConnectionError):  # the other end left meanwhile
            self.dropped += 1


class CallSender:
    """The sending end of a call. It is made, and its methods are called, in a running event loop.

    Args:
        packets, keyframes: the channels of `open_channels`.
        link: a simulated network for packets, to try losses with; it may be changed while the call runs. Keyframes then
            go through it too, on the packet channel, and the reliable channel is not used.
        encoder: what `tfcodec.Encoder` takes for calls: ``audio``, ``sample_rate``, ``quality``, ``bundle``,
            ``redundancy``, ``refresh``, ``motion``.

    Attributes:
        bytes: sent so far, by part (see `tfcodec.Packet.parts`); ``wire``: all of it, with the transport's headers.
        packets_sent: number of packets.
        frames: number of frames taken.
        pictures_given_up: frames that were coded with a later frame's picture, because the encoder was behind.
        error: what the encoder's thread last ran into, until `push` raises it; else None.

    Raises:
        TfcodecError: an argument of the encoder is out of range.
        WeightsError: the network's weights are not there.
    """

    def __init__(
        self, packets: RTCDataChannel, keyframes: RTCDataChannel, *, link: Link | None = None, **encoder: Any
    ) -> None:
        self.bytes: dict[str, int] = {"wire": 0}
        self.packets_sent = 0
        self.frames = 0
        self.pictures_given_up = 0
        self._loop = asyncio.get_running_loop()
        self._encoder = Encoder(latency="call", **encoder)
        self._sound = TrackSound(int(encoder.get("sample_rate", SAMPLE_RATE)))
        self._wire, self._reliable = _Wire(self._loop, link), _Wire(self._loop, None)
        self._wire.channel, self._reliable.channel = packets, keyframes
        self._jobs: deque[tuple[str, Any, Any]] = deque()
        self._lock = threading.Lock()  # the thread takes jobs while others are changed
        self._urgent: deque[tuple[str, Any, Any]] = deque()  # not to wait for the frames before it
        self._wake = threading.Event()
        self._closed = False
        self.error: TfcodecError | None = None
        packets.on("message", self._take_feedback)
        self._thread = threading.Thread(target=self._run, name="tfcodec-encoder", daemon=True)
        self._thread.start()

    @property
    def link(self) -> Link | None:
        """The simulated network for packets; None without one."""
        return self._wire.link

    @link.setter
    def link(self, link: Link | None) -> None:
        self._wire.link = link

    def push(self, frame: Frame, audio: ArrayLike | Sequence[av.AudioFrame] | None = None) -> None:
        """Take a frame and its speech, 25 times a second. Returns at once: a thread encodes.

        Args:
            frame: [256, 256, 3] uint8 RGB. It is not copied, and must not be written to.
            audio: the speech of its 40 ms, [640] float in -1..1 or int16, mono at 16 kHz (or at ``sample_rate``); or
                what a track gave since the frame before, a list of `av.AudioFrame`, each of any rate and with up to 8
                channels, whose mean is taken; None without speech.

        Raises:
            TfcodecError: what the encoder said of an earlier frame or its speech; `MediaError` if they are wrong. Or
                the sender was closed.
        """
        if self._closed:  # nobody would take it: frames would pile up
            raise TfcodecError("the sender was closed; make a new one")
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        with self._lock:
            waiting = [i for i, job in enumerate(self._jobs) if job[0] == "frame"]
            for i in waiting[: -MAX_WAITING or None]:
                # It stays in the queue without its picture: its speech is sent, and later frames keep their time.
                if self._jobs[i][1] is not None:
                    self.pictures_given_up += 1
                self._jobs[i] = ("frame", None, self._jobs[i][2])
        self.frames += 1
        self._put("frame", frame, audio)

    def request_keyframe(self) -> None:
        """Send a keyframe with the next frame, whether the receiver asked for one or not."""
        self._put("keyframe", None, None, urgent=True)

    def close(self) -> None:
        """Send what is left and the end of the call; the encoder's thread then ends."""
        self._put("end", None, None)
        self._closed = True
        self._wake.set()

    def _put(self, what: str, first: Any, second: Any, *, urgent: bool = False) -> None:
        (self._urgent if urgent else self._jobs).append((what, first, second))
        self._wake.set()

    def _take_feedback(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            self._put("feedback", message, None, urgent=True)

    def _run(self) -> None:
        picture: Frame | None = None
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._urgent or self._jobs:
                with self._lock:
                    what, first, second = (self._urgent or self._jobs).popleft()
                out: list[Packet] = []
                try:
                    if what == "frame":
                        newer = (job[1] for job in list(self._jobs) if job[0] == "frame" and job[1] is not None)
                        picture = next(newer, picture) if first is None else first
                        out = self._encoder.push(picture, self._sound.mono(second))
                    elif what == "feedback":
                        out = self._encoder.push_feedback(first)
                    elif what == "keyframe":
                        self._encoder.request_keyframe()
                    else:
                        out = self._encoder.flush()
                except TfcodecError as error:
                    self.error = error
                except Exception as error:  # the thread has to outlive whatever it is: the call goes on
                    self.error = TfcodecError(f"a frame cannot be encoded ({type(error).__name__}: {error})")
                if out:
                    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                        self._loop.call_soon_threadsafe(self._send, out)
            if self._closed:
                return

    def _send(self, packets: list[Packet]) -> None:
        for packet in packets:
            self.packets_sent += 1
            self.bytes["wire"] += DATA_CHANNEL.wire_bytes(len(packet))
            for part, count in packet.parts.items():
                self.bytes[part] = self.bytes.get(part, 0) + count
            reliable = packet.keyframe and self._wire.link is None
            (self._reliable if reliable else self._wire).send(packet)


class CallReceiver:
    """The receiving end of a call: it ticks 25 times a second, in step with the sender. It is made in a running event
    loop.

    Args:
        link: a simulated network for feedback; it may be changed while the call runs.
        decoder: what `tfcodec.Decoder` takes: ``lookahead``, ``fast``.

    Attributes:
        decoder: the decoder; its ``stats`` tell how the call goes.
        video, audio: what is decoded, as tracks that another connection can send.
        on_tick: if set, called at every tick with picture [256, 256, 3] uint8 RGB, speech [640] float32 at 16 kHz, and
            whether the picture is a new one. What it raises goes to the loop's exception handler; the call goes on.
        bytes: ``received``, ``feedback`` (sent), and ``feedback_wire`` (with the transport's headers).
        error: why the stream cannot be decoded, if so (of a version or network that is not here, say); else None.

    Raises:
        TfcodecError: an argument of the decoder is out of range.
    """

    def __init__(self, *, link: Link | None = None, **decoder: Any) -> None:
        self._loop = asyncio.get_running_loop()  # before there are threads
        self.decoder = Decoder(worker=True, **decoder)
        self.on_tick: Callable[[Frame, NDArray[np.float32], bool], None] | None = None
        self.bytes = {"received": 0, "feedback": 0, "feedback_wire": 0}
        self.error: TfcodecError | None = None
        self.video, self.audio = DecodedVideoTrack(), DecodedAudioTrack()
        self._wire = _Wire(self._loop, link)
        self._early: deque[float] = deque(maxlen=25)
        self._clock = self._loop.create_task(self._tick())

    @property
    def link(self) -> Link | None:
        """The simulated network for feedback; None without one."""
        return self._wire.link

    @link.setter
    def link(self, link: Link | None) -> None:
        self._wire.link = link

    def attach(self, channel: RTCDataChannel) -> None:
        """Take a channel, as the connection's "datachannel" event gives it; any but the sender's two is ignored."""
        if channel.label not in (PACKETS, KEYFRAMES) or channel.protocol != PROTOCOL:
            return
        if channel.label == PACKETS:
            self._wire.channel = channel
        channel.on("message", self._take)

    def close(self) -> None:
        """End the clock, the tracks and the decoder's thread."""
        self._clock.cancel()
        self.video.stop()
        self.audio.stop()
        self.decoder.close()

    def _take(self, message: bytes | str) -> None:
        if not isinstance(message, bytes):
            return
        self.bytes["received"] += len(message)
        try:
            self.decoder.push(message)
        except TfcodecError as error:
            self.error = error

    async def _tick(self) -> None:
        due = self._loop.time()
        while True:
            due += PERIOD - self._correction()
            now = self._loop.time()
            if due < now - PERIOD:
                due = now  # more than a tick late: go on from now, rather than catch up in a rush
            await asyncio.sleep(due - now)
            try:
                self._show()
            except Exception as error:  # of `on_tick`, say: it must not stop the clock
                about = {"message": "an error at a tick of a tfcodec call", "exception": error, "task": self._clock}
                self._loop.call_exception_handler(about)

    def _show(self) -> None:
        picture, sound = self.decoder.pull(), self.decoder.pull_audio()
        shown = self.decoder.shown
        if shown is not None and shown.state == "fresh":
            self._early.append(self.decoder.early)
        if (said := self.decoder.feedback()) is not None:
            self.bytes["feedback"] += len(said)
            self.bytes["feedback_wire"] += DATA_CHANNEL.wire_bytes(len(said))
            self._wire.send(said)
        self.video.show(picture)
        self.audio.show(sound)
        if self.on_tick is not None:
            self.on_tick(picture, sound, shown is not None and shown.state != "held")

    def _correction(self) -> float:
        """Seconds by which the next tick should come sooner, so that frames are ready `SPARE` seconds before theirs."""
        if len(self._early) < self._early.maxlen // 2:  # type: ignore[operator]
            return 0.0
        return float(np.clip(0.1 * (min(self._early) - SPARE), -0.004, 0.002))


class _LatestTrack(MediaStreamTrack):
    """A track whose reader gets the newest item, each once; a slow reader misses some."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: Any = None
        self._number = -1
        self._event = asyncio.Event()

    def show(self, item: Any) -> None:
        self._number += 1
        self._latest = item
        self._event.set()

    async def _next(self) -> tuple[Any, int]:
        if self.readyState != "live":
            raise MediaStreamError
        await self._event.wait()
        self._event.clear()
        if self.readyState != "live":
            raise MediaStreamError
        return self._latest, self._number

    def stop(self) -> None:
        super().stop()
        self._event.set()


class DecodedVideoTrack(_LatestTrack):
    """Decoded pictures: 256x256 RGB at 25 frames/s; a slow reader misses some."""

    kind = "video"

    async def recv(self) -> av.VideoFrame:
        """The next picture. Raises MediaStreamError when the track has ended."""
        picture, number = await self._next()
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = 3600 * number, Fraction(1, 90_000)
        return frame


class DecodedAudioTrack(_LatestTrack):
    """Decoded speech: 16 kHz mono int16 in frames of 40 ms; a slow reader misses some."""

    kind = "audio"

    async def recv(self) -> av.AudioFrame:
        """The next 40 ms. Raises MediaStreamError when the track has ended."""
        sound, number = await self._next()
        samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, len(samples) * number, Fraction(1, SAMPLE_RATE)
        return frame
