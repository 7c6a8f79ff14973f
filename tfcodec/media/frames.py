"""Decoded frames out of a video file, with their times: damage held off, fields woven into pictures."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from tfcodec.errors import MediaError, TfcodecError
from tfcodec.media.notes import Notes, seconds

if TYPE_CHECKING:
    import av
    import av.container

MAX_SIDE = 8192  # pixels; a frame of this size is 200 MB of RGB
HOLD_SECONDS = 10
"""After damage the picture before it stands until the next keyframe, but no longer than this."""
MAX_DAMAGE = Fraction(1, 2)
"""Share of the time in which the picture may stand for damage; beyond it the video counts as unreadable."""
_REORDER = 16
"""Frames by which decoding order and order of display differ at most (H.264, H.265)."""


def check_size(width: int, height: int) -> None:
    """Raise MediaError unless 1 <= width, height <= MAX_SIDE."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise MediaError(f"picture size {width}x{height} is outside 1x1 to {MAX_SIDE}x{MAX_SIDE}")


def scaled(width: int, height: int, scale: Fraction) -> tuple[int, int]:
    """A size times `scale`, at least 1x1."""
    return max(1, round(width * scale)), max(1, round(height * scale))


@contextmanager
def opened(file: BinaryIO, name: str) -> Iterator[av.container.InputContainer]:
    """A PyAV container on an open file, from its beginning, closed afterwards.

    Whatever goes wrong in PyAV or FFmpeg becomes a MediaError. PyAV reads through the Python file object, so that names
    with special meaning to FFmpeg ("-", "concat:...", URLs) have none here, and a playlist inside the file cannot make
    it open other files or the network.
    """
    import av

    try:
        file.seek(0)
        with av.open(file, "r", options={"protocol_whitelist": "none"}, metadata_errors="replace") as container:
            yield container
    except TfcodecError:
        raise
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise MediaError(f"{name}: not a video that can be read, or damaged ({_reason(error)})") from error
    except Exception as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def move(packet: Any, units: int) -> None:
    """Make a packet's times later."""
    if units and packet.pts is not None:
        packet.pts += units
    if units and packet.dts is not None:
        packet.dts += units


def frame_step(stream: av.VideoStream) -> Fraction:
    """How long one frame is shown where the file does not say: from the stream's average rate, else 1/25 s."""
    rate = stream.average_rate or stream.guessed_rate
    if rate is None or not 0 < rate <= 1000:
        return Fraction(1, 25)
    return 1 / Fraction(rate)


@dataclass(frozen=True)
class Clock:
    """When decoded frames are shown, in seconds after the first.

    Attributes:
        base: unit of time stamps in seconds.
        step: duration of a frame in seconds, where nothing else says it.
        stamps: None where frames bring their own times. Otherwise the times of all frames in rising order: there are
            containers (AVI, most WMV) that give each packet the time at which it is decoded, not shown. The n-th frame
            that comes out of the decoder is then shown at the n-th of these.
        moves: (number of a packet, units): from that packet on times are later by so much; see `scan.Seams`.
    """

    base: Fraction
    step: Fraction
    stamps: tuple[int, ...] | None = None
    moves: tuple[tuple[int, int], ...] = ()

    def times(self, numbered: Iterable[tuple[int, av.VideoFrame]]) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Give frames their times; with each comes its number among those that the decoder should have given."""
        first: Fraction | None = None
        ahead = 0  # by how many frames the decoder has left out more than was noticed
        for index, frame in numbered:
            stamp = frame.pts if frame.pts is not None else frame.dts
            if self.stamps is not None:
                index += ahead
                if stamp is not None and index < len(self.stamps):
                    own = bisect_left(self.stamps, stamp)
                    if abs(own - index) > 2 * _REORDER:
                        ahead, index = ahead + own - index, own
                time = self._ordered(index)
            elif stamp is not None:  # a frame may bring its own time base
                time = stamp * Fraction(frame.time_base or self.base)
            else:
                time = (first or 0) + index * self.step
            if first is None:
                first = time
            yield time - first, frame

    def _ordered(self, index: int) -> Fraction:
        stamps = self.stamps or ()
        if index < len(stamps):
            return stamps[index] * self.base
        return (stamps[-1] * self.base if stamps else Fraction(0)) + (index - max(0, len(stamps) - 1)) * self.step


def timed_frames(
    container: av.container.InputContainer, stream: av.VideoStream, clock: Clock, notes: Notes
) -> Iterator[tuple[Fraction, av.VideoFrame | None]]:
    """Decoded frames with their times in seconds since the first of them; None in the place of a damaged one.

    After damage frames are left out until the next keyframe, since they are drawn on top of it. Raises MediaError if
    there is more damage than picture.
    """
    damage = _Damage(notes)
    for time, frame in clock.times(_numbered(container, stream, damage, dict(clock.moves))):
        yield time, frame if damage.is_whole(time, frame) else None
    damage.end()


def _numbered(
    container: av.container.InputContainer, stream: av.VideoStream, damage: _Damage, moves: dict[int, int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    import av

    index = later = 0
    for number, packet in enumerate(container.demux(stream)):
        move(packet, later := moves.get(number, later))
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            # A recording that was cut out of a running stream begins with packets that refer to pictures it lacks.
            if index:
                damage.begin()
                index += 1
            continue
        for frame in frames:
            yield index, frame
            index += 1


class _Damage:
    """Which frames can be shown."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._broken = False
        self._since: Fraction | None = None
        self._last = self._held = Fraction(0)
        self._any = False

    def begin(self) -> None:
        """A packet could not be decoded."""
        self._broken = True

    def is_whole(self, time: Fraction, frame: av.VideoFrame) -> bool:
        if frame.is_corrupt:
            self._broken = True
        elif self._broken and (frame.key_frame or (self._since is not None and time - self._since > HOLD_SECONDS)):
            self._close(time)
        self._last = time
        if self._broken and self._since is None:
            self._since = time
        if self._broken and self._any:
            return False
        self._any = True
        return True

    def end(self) -> None:
        if self._broken and self._since is not None:
            self._close(self._last)
        if self._held > 1 and self._held > MAX_DAMAGE * self._last:
            raise MediaError(
                f"{self._notes.name}: damaged, {seconds(self._held)} of its {seconds(self._last)} cannot be shown"
            )

    def _close(self, time: Fraction) -> None:
        since = time if self._since is None else self._since
        self._held += time - since
        self._broken, self._since = False, None
        self._notes.add(
            f"its pictures are damaged from {seconds(since)} to {seconds(time)}: the one before stands meanwhile"
        )


def deinterlaced(timed: Iterable[tuple[Fraction, Any]]) -> Iterator[tuple[Fraction, Any]]:
    """Frames whose two fields were taken one after the other, made into pictures without combs; others as they are."""
    fields: _Fields | None = None
    for time, frame in timed:
        if fields is not None and (frame is None or fields.form != _form(frame)):
            yield from fields.rest()
            fields = None
        if frame is None or (fields is None and not frame.interlaced_frame):
            yield time, frame
            continue
        if fields is None:
            fields = _Fields(frame)
        yield from fields.push(time, frame)
    if fields is not None:
        yield from fields.rest()


def _form(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


class _Fields:
    """FFmpeg's bwdif, which looks at the frames before and after; progressive ones go through it unchanged."""

    def __init__(self, frame: av.VideoFrame) -> None:
        from av.filter import Graph

        self.form = _form(frame)
        self._base = Fraction(1, 1000)
        self._graph = Graph()
        nodes = [
            self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=self._base
            ),
            self._graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            self._graph.add("buffersink"),
        ]  # fmt: skip
        for one, following in pairwise(nodes):
            one.link_to(following)
        self._graph.configure()
        self._times: list[Fraction] = []
        self._given = 0

    def push(self, time: Fraction, frame: av.VideoFrame | None) -> Iterator[tuple[Fraction, Any]]:
        import av

        if frame is not None:
            frame.time_base, frame.pts = self._base, len(self._times)
            self._times.append(time)
        with suppress(av.error.EOFError):
            self._graph.vpush(frame)
        while self._given < len(self._times):
            try:
                out = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield self._times[self._given], out
            self._given += 1

    def rest(self) -> Iterator[tuple[Fraction, Any]]:
        yield from self.push(Fraction(0), None)
