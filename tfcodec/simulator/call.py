"""A call through a simulated network, both ends in one process and in simulated time: the same at every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codec.call.decoder import Decoder
from ..codec.call.overhead import DATA_CHANNEL, Transport
from ..codec.call.state import CallStats
from ..codec.encoder import Encoder
from ..rates import FPS, SAMPLES_PER_FRAME
from .link import Link

TICK = 1 / FPS


@dataclass
class CallReport:
    """What a simulated call cost and how it went.

    Attributes:
        frames: frames sent.
        packets, bytes: sent from the sender to the receiver; ``parts`` says what the bytes are.
        keyframe_packets: those with parts of keyframes, repeated ones included.
        feedback_packets, feedback_bytes: sent the other way.
        lost_packets, lost_feedback: lost by the link.
        transport: what was counted as the layers below.
        wire_bytes, feedback_wire_bytes: with those layers' headers.
        shown: for every tick, the number of the source frame on the screen; -1 before the first.
        due: for every tick, the number of the frame that the playout clock stands at: it goes on while nothing comes.
        fresh: for every tick, whether a new frame was shown, rather than the one before.
        stats: the receiver's own view.
    """

    frames: int = 0
    packets: int = 0
    bytes: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    keyframe_packets: int = 0
    feedback_packets: int = 0
    feedback_bytes: int = 0
    lost_packets: int = 0
    lost_feedback: int = 0
    transport: str = ""
    wire_bytes: int = 0
    feedback_wire_bytes: int = 0
    shown: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    stats: CallStats | None = None

    @property
    def seconds(self) -> float:
        """Length of the call."""
        return self.frames * TICK

    def kbps(self, count: int) -> float:
        """Bytes as kbit/s over the call."""
        return count * 8 / 1000 / max(self.seconds, TICK)

    @property
    def video_kbps(self) -> float:
        """Motion and tiny frames with their repetitions, and all of the packets' headers; no keyframes, no speech."""
        return self.kbps(sum(self.parts.get(part, 0) for part in ("motion", "tiny", "redundancy", "header")))

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.frames} frames: video {self.video_kbps:.2f} kbit/s without keyframes, "
            f"{self.kbps(self.wire_bytes):.1f} kbit/s in all over {self.transport}; {self.lost_packets} of "
            f"{self.packets} packets lost, a new frame at {sum(self.fresh)} of {len(self.fresh)} ticks"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, rates in kbit/s."""
        stats = self.stats
        return {
            "frames": self.frames, "seconds": self.seconds, "packets": self.packets, "bytes": self.bytes,
            "kbps": {part: self.kbps(count) for part, count in self.parts.items()},
            "video_kbps_without_keyframes": self.video_kbps,
            "transport": self.transport, "wire_kbps": self.kbps(self.wire_bytes),
            "feedback_packets": self.feedback_packets, "feedback_kbps": self.kbps(self.feedback_bytes),
            "feedback_wire_kbps": self.kbps(self.feedback_wire_bytes),
            "lost_packets": self.lost_packets, "lost_feedback": self.lost_feedback,
            "keyframe_packets": self.keyframe_packets, "ticks": len(self.fresh), "fresh_ticks": sum(self.fresh),
            "held_ticks": stats.held if stats else 0, "skipped_frames": stats.skipped if stats else 0,
        }  # fmt: skip


@dataclass(frozen=True)
class Network:
    """What lies between the two ends of a call.

    Attributes:
        there, back: the way from the sender to the receiver, and the way back.
        feedback: whether the receiver's feedback is sent.
        transport: whose headers are counted.
    """

    there: Link
    back: Link
    feedback: bool = True
    transport: Transport = DATA_CHANNEL


def simulate(
    frames: Iterable[NDArray[np.uint8]],
    audio: NDArray[np.float32] | None,
    network: Network,
    *,
    encoder: Encoder | None = None,
    decoder: Decoder | None = None,
    report: CallReport | None = None,
    before_tick: Callable[[int], None] | None = None,
    draw: Callable[[int], bool] = lambda tick: True,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Send frames through a call and yield what the receiver shows.

    Args:
        frames: [256, 256, 3] uint8 each, 1/25 s apart.
        audio: [N] float32 at 16 kHz, or None.
        network: what it is sent through.
        encoder, decoder: the two ends; by default those with default settings.
        report: is filled in as the call goes on.
        before_tick: called before every tick with its number, to change the links, say.
        draw: whether the picture of a tick is drawn by the network; otherwise an earlier one is given.

    Yields:
        For every tick of 40 ms, as many as there are frames: (picture [256, 256, 3] uint8, speech [640] float32).

    Raises:
        MediaError: a frame has a wrong shape.
    """
    encoder = encoder or Encoder(latency="call", audio=audio is not None, origin=0)
    decoder = decoder or Decoder()
    report = report if report is not None else CallReport()
    link, back, transport = network.there, network.back, network.transport
    report.transport = transport.name

    def send(packets: list[Any], now: float) -> None:
        for packet in packets:
            report.packets += 1
            report.bytes += len(packet)
            report.wire_bytes += transport.wire_bytes(len(packet))
            report.keyframe_packets += packet.keyframe
            for part, count in packet.parts.items():
                report.parts[part] = report.parts.get(part, 0) + count
            link.send(packet, now)

    for tick, frame in enumerate(frames):
        if before_tick is not None:
            before_tick(tick)
        now = tick * TICK
        sound = None if audio is None else audio[tick * SAMPLES_PER_FRAME : (tick + 1) * SAMPLES_PER_FRAME]
        # Feedback that came within the last tick was answered when it came: keyframe parts do not wait for a frame.
        while (arrival := back.next_arrival) is not None and arrival <= now:
            for packet in back.receive(arrival):
                send(encoder.push_feedback(packet), arrival)
        send(encoder.push(frame, sound), now)
        report.frames += 1
        for packet in link.receive(now):
            decoder.push(packet)
        before = decoder.position
        picture = decoder.pull(draw=draw(tick))
        if network.feedback and (said := decoder.feedback()) is not None:
            report.feedback_packets += 1
            report.feedback_bytes += len(said)
            report.feedback_wire_bytes += transport.wire_bytes(len(said))
            back.send(said, now)
        position, waited = decoder.position, decoder.call.playout.waited
        report.fresh.append(position is not None and position != before)
        report.shown.append(-1 if position is None else position)
        report.due.append(-1 if position is None else position + waited)
        report.lost_packets, report.lost_feedback, report.stats = link.lost, back.lost, decoder.stats
        yield picture, decoder.pull_audio()
