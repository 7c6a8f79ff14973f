"""One look at a whole file before its pictures are read: how long it is, how large, and all of its sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from tfcodec.errors import MediaError
from tfcodec.media import frames, sound, streams, timing
from tfcodec.media.notes import Notes, seconds
from tfcodec.media.upright import Orientation, Uprighter
from tfcodec.media.whole import is_cut_short

if TYPE_CHECKING:
    import av

Picture = NDArray[np.uint8]

BACK_SECONDS = Fraction(1, 2)
"""Time stamps that go back by more than this, in the order of decoding, begin anew."""
LOOK_SECONDS = 1
"""Keyframes at least this far apart are decoded to see whether the picture changes its size."""


@dataclass(frozen=True)
class FilePictures:
    """The pictures of a file.

    Attributes:
        end: seconds from the first frame's beginning to the last one's end.
        last: to the last one's beginning.
        width, height: of the upright picture, square pixels; the largest, where it changes its size.
    """

    file: BinaryIO
    name: str
    end: Fraction
    last: Fraction
    clock: frames.Clock
    width: int
    height: int
    notes: Notes

    def timed(self, scale: Fraction) -> Iterator[tuple[Fraction, Picture]]:
        """Pictures with their times; those that no frame of the 25 a second will show are left out."""
        seen = Fraction(0)
        with frames.opened(self.file, self.name) as container:
            stream = streams.video_stream(container, self.notes)
            upright = Uprighter(stream, self.width, self.height, scale, self.notes)
            lazy = frames.deinterlaced(frames.timed_frames(container, stream, self.clock, self.notes))
            for time, frame in only_shown(lazy):
                seen = time
                if frame is not None:
                    yield time, upright(frame)
        if self.last - seen > 1:
            raise MediaError(
                f"{self.name}: damaged, its pictures end at {float(seen):.1f} s of {float(self.end):.1f} s"
            )


def only_shown(timed: Iterator[tuple[Fraction, Any]]) -> Iterator[tuple[Fraction, Any]]:
    """Leave out frames that none of the 25 a second will show (of 60, more than half), before they are converted."""
    held: tuple[Fraction, Any] | None = None
    for time, frame in timed:
        if held is not None and timing.frames_before(time) > timing.frames_before(held[0]):
            yield held
        held = (time, frame)
    if held is not None:
        yield held


class Seams:
    """Where time stamps begin anew, as in recordings of transport streams that were put together (``cat a.ts b.ts``):
    what follows goes on where the part before has ended.

    Tracks come to a seam one after the other, since packets of one still wait while those of another are there. The
    first one to come says how much later the part is, for all, so that sound and pictures stay together.
    """

    def __init__(self) -> None:
        self._parts = [Fraction(0)]  # by how much each is moved
        self._part: dict[int, int] = {}  # of each track
        self._last: dict[int, tuple[Fraction, Fraction]] = {}  # of each track: as it says, and how long it lasts

    def move(self, packet: Any, step: Fraction) -> int:
        """Make a packet's times later, as much as its part demands; by how many of its units. ``step``: how long it
        lasts, if it does not say."""
        track, stamp = packet.stream.index, packet.dts if packet.dts is not None else packet.pts
        part = self._part.get(track, 0)
        if stamp is not None:
            time = stamp * Fraction(packet.time_base)
            last, lasts = self._last.get(track, (time, step))
            if time < last - BACK_SECONDS:
                part = self._part[track] = part + 1
                if part == len(self._parts):
                    self._parts.append(self._parts[-1] + last + lasts - time)
            self._last[track] = time, packet.duration * Fraction(packet.time_base) if packet.duration else step
        units = round(self._parts[part] / Fraction(packet.time_base)) if part else 0
        frames.move(packet, units)
        return units


@dataclass
class _Stamps:
    """What the video's packets say about time, in the stream's unit."""

    shown: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    packets: int = 0
    greatest: int | None = None
    greatest_ends: int = 0
    rising: bool = True  # in the order of the packets

    def add(self, packet: Any, step: int) -> None:
        self.packets += 1
        if packet.dts is not None:
            self.decoded.append(packet.dts)
        if packet.pts is None or packet.is_discard:
            return
        self.rising &= self.greatest is None or packet.pts > self.greatest
        self.shown.append(packet.pts)
        if self.greatest is None or packet.pts > self.greatest:
            self.greatest, self.greatest_ends = packet.pts, packet.pts + (packet.duration or step)


def scan(file: BinaryIO, notes: Notes, *, want_audio: bool) -> tuple[FilePictures, sound.Samples | None]:
    """One pass over the packets: when the video begins and ends, its size, and all of the sound."""
    from av.format import Flags

    name = notes.name
    with frames.opened(file, name) as container:
        stream = streams.video_stream(container, notes)
        speech = streams.audio_stream(container, notes) if want_audio else None
        step = frames.frame_step(stream)
        base = Fraction(stream.time_base or Fraction(1, 1000))
        units = max(1, round(step / base))
        track, look, stamps = _Sound(notes), _Sizes(stream), _Stamps()
        seen_until = Fraction(0)
        # Only in formats that can be put together as they are.
        seams = Seams() if container.format.flags & cast(int, Flags.ts_discont.value) else None
        moves: list[tuple[int, int]] = []
        number = 0
        for packet in container.demux([s for s in (stream, speech) if s is not None]):
            if seams is not None:
                later = seams.move(packet, step)
                if packet.stream is stream and later != (moves[-1][1] if moves else 0):
                    moves.append((number, later))
            number += packet.stream is stream
            if packet.pts is not None and packet.time_base:
                seen_until = max(seen_until, (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base))
            if packet.stream is speech:
                track.take(packet)
                continue
            look.take(packet)
            if packet.size:
                stamps.add(packet, units)
        if look.first is None:
            raise MediaError(f"{name}: has no picture that can be decoded")
        _check_complete(container, stream, stamps.packets, seen_until, name)
        clock, start, last, length = _timing(container, stream, stamps, look.first, base, step)
        clock = replace(clock, moves=tuple(moves))
        if length > timing.MAX_SECONDS:
            raise MediaError(f"{name}: lasts {float(length):.0f} s, longer than the limit of {timing.MAX_SECONDS} s")
        kind = container.format.name
        samples = track.aligned(start, Fraction(timing.frame_count(length), timing.FRAME_RATE))
    if stamps.packets == 1:
        notes.add(f"has a single picture, which is shown for {float(length):.2f} s")
    if is_cut_short(file, kind):
        notes.add(f"is cut short: the file goes on where this one ends, after {seconds(length)}")
    return FilePictures(file, name, length, last, clock, look.width, look.height, notes), samples


def _timing(
    container: Any, stream: av.VideoStream, stamps: _Stamps, first: av.VideoFrame, base: Fraction, step: Fraction
) -> tuple[frames.Clock, Fraction, Fraction, Fraction]:
    """The clock; on the container's clock the first picture's time; from it the last one's time and the end."""
    ordered: list[int] | None = None
    if container.format.name == "avi" and len(stamps.decoded) == stamps.packets:
        ordered = stamps.decoded  # what FFmpeg makes of them are no times at which frames are shown
    elif len(stamps.shown) < stamps.packets:
        if len(stamps.decoded) == stamps.packets:
            ordered = stamps.decoded
    elif stamps.rising and stream.codec_context.has_b_frames:
        # Frames change places, or could, but their times do not: then they are the times of decoding.
        ordered = stamps.shown
    if ordered:
        ordered = sorted(ordered)
        timing.check_gaps([(stamp - ordered[0]) * base for stamp in ordered])
        last = (ordered[-1] - ordered[0]) * base
        return frames.Clock(base, step, tuple(ordered)), ordered[0] * base, last, last + step
    clock = frames.Clock(base, step)
    if first.pts is None or not stamps.shown:  # no timestamps: the frames follow one another
        return clock, Fraction(0), Fraction(0), stamps.packets * step
    shown = sorted(stamp for stamp in stamps.shown if stamp >= first.pts) or [first.pts]
    timing.check_gaps([(stamp - first.pts) * base for stamp in shown])
    # With B-frames a packet's duration is the time until the next one is decoded, which a pause makes long: only the
    # last picture's counts, and no further than the track goes.
    end = max(stamps.greatest_ends, shown[-1] + 1)
    if stream.duration and stream.start_time is not None and shown[-1] < stream.start_time + stream.duration < end:
        end = stream.start_time + stream.duration
    return clock, first.pts * base, (shown[-1] - first.pts) * base, (end - first.pts) * base


class _Sizes:
    """Decodes the first picture, and a keyframe a second to see how large pictures get."""

    def __init__(self, stream: av.VideoStream) -> None:
        self.first: av.VideoFrame | None = None
        self.width = self.height = 0
        self._stream = stream
        self._looked: Fraction | None = None

    def take(self, packet: Any) -> None:
        import av

        if self.first is not None and packet.size:
            stamp = packet.dts if packet.dts is not None else packet.pts
            time = Fraction(0) if stamp is None else stamp * Fraction(packet.time_base)
            if not packet.is_keyframe or (self._looked is not None and time - self._looked < LOOK_SECONDS):
                return
            self._looked = time
        with suppress(av.error.FFmpegError):  # before the first picture that can be decoded, and damage later on
            for frame in packet.decode():
                self._see(cast("av.VideoFrame", frame))

    def _see(self, frame: av.VideoFrame) -> None:
        if self.first is None:
            self.first = frame
        orientation = Orientation.of(frame, self._stream)
        if orientation.width * orientation.height > self.width * self.height:
            self.width, self.height = orientation.width, orientation.height


class _Sound:
    """The sound track, and what could not be decoded of it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._track = sound.SoundTrack()
        self._lost: list[Fraction] = []

    def take(self, packet: Any) -> None:
        import av

        try:
            decoded = packet.decode()
        except av.error.FFmpegError:  # silence in the place of what cannot be decoded
            if packet.size:
                self._lost.append((packet.pts or 0) * Fraction(packet.time_base))
            return
        for frame in decoded:
            self._track.add(frame)

    def aligned(self, start: Fraction, duration: Fraction) -> sound.Samples | None:
        if self._lost:
            first = max(Fraction(0), self._lost[0] - start)
            self._notes.add(
                f"its sound is damaged: {len(self._lost)} packets are silent, the first at {seconds(first)}"
            )
        return self._track.aligned(start, duration)


def _check_complete(container: Any, stream: Any, packets: int, seen_until: Fraction, name: str) -> None:
    """Raise MediaError when the file announces more than it holds."""
    if "mov" in container.format.name and stream.frames and packets < stream.frames:
        raise MediaError(f"{name}: ends early: {packets} of its {stream.frames} frames are there")
    if container.duration and "matroska" in container.format.name:
        announced = Fraction(container.duration, 1_000_000)
        if seen_until < announced - max(Fraction(1), announced / 20):
            raise MediaError(f"{name}: ends early: {float(seen_until):.1f} s of {float(announced):.1f} s are there")
