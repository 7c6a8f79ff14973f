"""What the receiving end knows of a call: shared by the decoder, which shows it, and the threads that draw it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ...bitstream import CallPacket, FeedbackPacket, KeyframePacket, StreamHeader, parse_packet
from ...errors import BitstreamError
from ...model.registry import ModelEntry, find_model
from .origin import Origin
from .pace import Pace
from .playout import Playout
from .receiver import Receiver

EXTRAPOLATE = 25
"""Ticks (1 s) without a new frame for which the picture is still drawn, with the sound; after that it stands."""


@dataclass(frozen=True)
class CallStats:
    """How a call goes, at the receiver.

    Attributes:
        received, lost, duplicates, reordered, damaged: packets.
        lost_share: lost of all that were sent, 0..1.
        shown, held, skipped: frames shown, ticks at which the frame before was shown again, frames left out.
        delay_frames: frames between the newest that a packet has named and the one shown.
        waiting_for_keyframe: the keyframe that frames refer to is missing.
        drift: by which share the sender's clock is faster than that of `Decoder.pull`, below 0 if it is slower; good to
            0.001. None in the first minute.
    """

    received: int
    lost: int
    duplicates: int
    reordered: int
    damaged: int
    lost_share: float
    shown: int
    held: int
    skipped: int
    delay_frames: int
    waiting_for_keyframe: bool
    drift: float | None


class CallState:
    """One call, as far as it has come.

    Attributes:
        receiver: keyframes, layers and speech that have come. With a worker it belongs to the worker's thread.
        playout: the playout clock, guarded by ``lock``.
        lock: held for microseconds.
        entry: the network that draws, once HEADER has come: the one that the call names, or its stand-in ``network``.
        pace: the sender's clock against this one's.
        senders: how many there have been, one after the other: it counts up when the other end begins anew.
    """

    def __init__(self, lookahead: int, network: str | None = None) -> None:
        self.receiver = Receiver()
        self.playout = Playout(lookahead)
        self.pace = Pace()
        self.lock = threading.Lock()
        self.entry: ModelEntry | None = None
        self.network = network
        self.senders = 1
        self._origin: Origin[CallPacket] = Origin()

    def take(self, packet: bytes) -> StreamHeader | None:
        """Take one packet; gives HEADER when it has come for the first time, or again since a new sender has begun.

        Raises:
            UnsupportedVersion: the call needs a newer version of tfcodec.
            WeightsError: the call names a network that is not installed.
            BitstreamError: the first packet is a piece of a file.
        """
        try:
            parsed = parse_packet(bytes(packet))
        except BitstreamError:
            return self.receiver.push(packet)  # which counts it
        if isinstance(parsed, FeedbackPacket):
            return None
        timestamp = None if isinstance(parsed, KeyframePacket) else parsed.timestamp
        begun, packets = self._origin.take(parsed.sequence, timestamp, parsed)
        if begun:  # the picture stands until the new sender's first one is there
            self.receiver, self.pace, self.senders = Receiver(), Pace(), self.senders + 1
            with self.lock:
                self.playout = Playout(self.playout.lookahead)
        headers = [self._take(each) for each in packets]
        return next((header for header in headers if header is not None), None)

    def _take(self, packet: CallPacket) -> StreamHeader | None:
        header = self.receiver.take(packet)
        if header is not None:
            self.entry = find_model(header.model_id, header.model_hash, self.network)
        return header

    def tick(self) -> None:
        """A tick of the receiver's clock has passed."""
        receiver = self.receiver
        self.pace.tick(None if receiver.end is not None else receiver.seen)

    def choose(self, after: int | None = None) -> int | None:
        """The frame to draw next, if there is one. With a worker the caller holds the lock."""
        receiver = self.receiver
        return self.playout.choose(receiver.newest, receiver.frames.__contains__, receiver.end, after)

    def standing(self) -> int | None:
        """While the picture stands, a frame to draw though it has not come; None without speech or after a second."""
        position, waited = self.playout.position, self.playout.waited
        ended = self.receiver.end is not None and position is not None and position >= self.receiver.end - 1
        if position is None or self.receiver.speech is None or not 0 < waited <= EXTRAPOLATE or ended:
            return None
        return position + waited

    def stats(self, shown: int) -> CallStats:
        """How the call goes; ``shown``: frames shown so far."""
        receiver, arrivals, position = self.receiver, self.receiver.arrivals, self.playout.position
        delay = 0 if position is None or receiver.seen is None else receiver.seen - position
        return CallStats(
            arrivals.received, arrivals.lost, arrivals.duplicates, arrivals.reordered, receiver.damaged,
            arrivals.lost / max(1, arrivals.expected), shown, self.playout.held, self.playout.skipped,
            max(0, delay), receiver.wanted, self.pace.drift,
        )  # fmt: skip
