"""Decoding as a stream: frames one after another, whatever the length of the file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from types import TracebackType
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ...arguments import seconds as checked_seconds
from ...arguments import whole
from ...bitstream import DEFAULT_LIMITS, KeyframeChunk, Limits, read_stream
from ...errors import BitstreamError, TfcodecError
from ...model.device import FRAMES_AT_ONCE, check_batch, check_device, find_device
from ...model.inputs import LIPS_FUTURE, LIPS_REACH, REACH
from ...model.logmel import MARGIN, log_mel
from ...model.registry import ModelEntry, check_network, find_model
from ...model.renderer import BATCH, PREPARE_FROM, Drawer, mel_windows, silent_windows, sound_windows, tiny_windows
from ...motion import SENT
from ...rates import SAMPLE_RATE
from ...runtime import Runtime, check_runtime, device_for, open_renderer
from ..parts.keyframes import KeyframeDecoder, chains
from ..results import DecodedFrame, StreamInfo
from .info import Errors, describe
from .sound import FileSpeech
from .tracks import Track
from .waiting import Batch, Waiting
from .walk import Keyframe, Place, Walk

MARK_EVERY = 1024
"""Frames between two states of the decoder that are kept under one keyframe, for later jumps."""


class Reader:
    """A decoded file, frame by frame; what `tfcodec.open` gives.

        with tfcodec.open("talk.tfc") as reader:
            for frame in reader:               # from the beginning, or from where `seek` went
                show(frame.pixels, frame.audio)
            still = reader[100].pixels         # any frame; counted from the end if negative
            for frame in reader[50:100:2]:     # decoded as they are asked for
                ...

    The file is held in memory, decoded frames are not, so that memory hardly grows with the length. Frames are drawn in
    batches of 8, on a graphics card of 64, and there one batch while the one before is handed out. A reader belongs to
    one thread.

    Args:
        data: the file's bytes.
        errors, pixels, fast, coarse, network, device, batch, runtime: as for `tfcodec.open`.
        limits: what the file may ask for; a larger one is refused.

    Attributes:
        info: what the stream holds.
        speech: the decoder of the speech (`sound` gives samples); None without any, or if its codec is not there.
        speech_missing: the codec that is not, and how to get it, in one line; else empty.
        network: title of the network that draws (see `registry.ModelEntry`); empty without pixels.
        sample_rate: of the speech, in Hz: 16000.

    Raises:
        BitstreamError: the stream is malformed or damaged; also raised later, by what reads frames.
        LimitExceeded: it asks for more than ``limits`` allow.
        WeightsError: the stream names a network that is not installed, or ``network`` may not stand in for it.
    """

    sample_rate = SAMPLE_RATE

    def __init__(
        self, data: bytes, *, errors: Errors = "raise", pixels: bool = True, fast: bool = False, coarse: bool = False,
        network: str | None = None, device: str = "cpu", batch: int | None = None, limits: Limits = DEFAULT_LIMITS,
        runtime: Runtime = "torch",
    ) -> None:  # fmt: skip
        self._stream = read_stream(data, errors=errors, limits=limits)
        self.info: StreamInfo = describe(self._stream, len(data))
        self._strict = errors == "raise"
        self._fast, self._coarse, self._runtime = fast, coarse, check_runtime(runtime)
        batch = check_batch(batch)
        check_device(device)
        check_network(network)
        self._device = find_device(device_for(device, runtime)) if pixels else "cpu"
        self._ahead = self._device != "cpu"
        self._batch = batch or (FRAMES_AT_ONCE if self._ahead else BATCH)
        header = self._stream.header
        self._entry = find_model(header.model_id, header.model_hash, network) if pixels else None
        self.network = "" if self._entry is None else self._entry.title
        self._renderer: Drawer | None = None
        speech = None if header.audio is None else FileSpeech(self._stream, strict=self._strict)
        self.speech_missing = "" if speech is None else speech.missing
        self.speech = None if self.speech_missing else speech
        self._rate = Fraction(*header.rate)
        self._position = 0
        self._noted: dict[str, None] = {}
        # Where decoding can begin, in order: at every keyframe, and at states kept on the way (`MARK_EVERY`).
        self._places: list[Place] = [Place()]
        keyframes = [(i, c) for i, c in enumerate(self._stream.chunks) if isinstance(c, KeyframeChunk)]
        before = chains(chunk for _, chunk in keyframes)
        self._places += [
            Place(i, chunk.frame_index, keyframes=n, chain=before[n])
            for n, (i, chunk) in enumerate(keyframes)
            if chunk.frame_index
        ]

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the network. The reader still works: it loads the network again when it needs it."""
        self._renderer = None

    def __len__(self) -> int:
        return self.info.frames

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.info.fps

    @property
    def damaged(self) -> tuple[str, ...]:
        """What could not be read in the frames and speech asked for so far, one sentence each; empty unless
        ``errors="conceal"``."""
        speech = [] if self.speech is None else self.speech.damaged
        return (*self.info.damaged, *self._noted, *speech)

    @property
    def position(self) -> int:
        """Number of the frame that iteration gives next; ``len(reader)`` at the end."""
        return self._position

    def seek(self, seconds: float) -> None:
        """Let iteration go on with the frame that is shown at a time.

        Args:
            seconds: the time; beyond the end iteration gives nothing.

        Raises:
            TfcodecError: the time is negative or not finite.
        """
        # A frame's own time is rounded, up or down, and has to lead to that frame.
        place = Fraction(checked_seconds("seconds", seconds)) * self._rate + Fraction(1, 1_000_000)
        self._position = min(int(place), len(self))

    def __iter__(self) -> Iterator[DecodedFrame]:
        """Frames from `position` on, which follows. Raises BitstreamError where the stream is damaged."""
        for frame in self._frames(range(self._position, len(self))):
            self._position = frame.number + 1
            yield frame

    @overload
    def __getitem__(self, which: int) -> DecodedFrame: ...
    @overload
    def __getitem__(self, which: slice) -> Iterator[DecodedFrame]: ...
    def __getitem__(self, which: int | slice) -> DecodedFrame | Iterator[DecodedFrame]:
        """A frame by its number, or an iterator over the frames of a slice; `position` stays.

        Raises:
            IndexError: there is no such frame.
            TfcodecError: the slice goes backwards, or it is neither a slice nor a whole number.
            BitstreamError: the stream is damaged there.
        """
        if isinstance(which, slice):
            try:
                wanted = range(*which.indices(len(self)))
            except (TypeError, ValueError) as error:
                raise TfcodecError(f"{which}: {error}") from None
            if wanted.step < 0:
                raise TfcodecError("frames are decoded forwards: a slice with a negative step cannot be read")
            return self._frames(wanted)
        which = whole("a frame's number", which)
        number = which + len(self) if which < 0 else which
        if not 0 <= number < len(self):
            raise IndexError(f"frame {which} of {len(self)}")
        return next(self._frames((number,)))

    def keyframes(self) -> list[tuple[int, NDArray[np.uint8]]]:
        """All keyframes: (number of the first frame drawn from it, picture [256, 256, 3] uint8 RGB).

        Raises:
            BitstreamError: one is damaged; with ``errors="conceal"`` it is left out instead.
        """
        found, decoder = [], KeyframeDecoder()
        for chunk in self._stream.keyframes:
            try:
                found.append((chunk.frame_index, decoder.decode(chunk)))
            except BitstreamError:
                if self._strict:
                    raise
        return found

    def sound(self, start: float = 0.0, stop: float | None = None) -> NDArray[np.float32]:
        """Speech between two times.

        Args:
            start, stop: in seconds; ``stop`` None: the end of the video.

        Returns:
            [n] float32 mono in -1..1 at 16 kHz; silence where there is no speech. Read in order it is what
            `tfcodec.decode` gives. After a jump the speech decoder starts anew: for a moment the samples differ, by
            less than can be heard. Codec2's samples differ at every decoding.

        Raises:
            TfcodecError: the times are negative, not finite or out of order.
        """
        start = checked_seconds("start", start)
        end = self.info.duration_seconds if stop is None else checked_seconds("stop", stop)
        if end > (longest := DEFAULT_LIMITS.max_duration_seconds):
            raise TfcodecError(f"no stream lasts for {end:g} s: the longest may have {longest} s")
        if start > end:
            raise TfcodecError(f"sound from one time to a later one, in seconds, not from {start!r} to {end!r}")
        first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
        return np.zeros(last - first, np.float32) if self.speech is None else self.speech.samples(first, last)

    def frames(self, wanted: Iterable[int]) -> Iterator[DecodedFrame]:
        """Some frames, one after another; `position` stays.

        Args:
            wanted: their numbers, ascending, each from 0 to ``len(reader) - 1``. Frames between them are decoded where
                later ones build on them, but not drawn.

        Raises:
            TfcodecError: there is no such frame, or they are not ascending.
            BitstreamError: the stream is damaged there.
        """
        try:
            numbers = [whole("a frame's number", number, 0, len(self) - 1) for number in wanted]
        except TypeError:
            raise TfcodecError(f"frames are asked for by their numbers, not by {wanted!r}") from None
        if any(later < number for number, later in pairwise(numbers)):
            raise TfcodecError("frames are decoded forwards: their numbers must ascend")
        return self._frames(numbers)

    def _frames(self, wanted: Sequence[int]) -> Iterator[DecodedFrame]:
        before: Iterator[DecodedFrame] = iter(())
        drawing = self._batches(wanted)
        while True:
            try:
                batch = next(drawing, None)
            except BitstreamError:
                yield from before
                raise
            if batch is None:
                break
            yield from before
            before = self._frames_of(batch)
            if not self._ahead:
                yield from before
        yield from before

    def _frames_of(self, batch: Batch) -> Iterator[DecodedFrame]:
        pictures = None if batch.pictures is None else batch.pictures()
        for i, number in enumerate(batch.numbers):
            sound = self._sound_of(number) if batch.sound is None else batch.sound[i]
            yield DecodedFrame(
                number, float(number / self._rate), None if pictures is None else pictures[i], sound, batch.tiny[i],
                batch.keyframe, bool(batch.held[i]),
            )  # fmt: skip

    def _batches(self, wanted: Sequence[int]) -> Iterator[Batch]:
        if not len(wanted):
            return
        track = Track(self._stream.header, self._stream.chunks, strict=self._strict)
        walk = Walk(self._stream, track, self._place_before(int(wanted[0])))
        waiting, given = Waiting(), 0
        prepare = len(wanted) >= PREPARE_FROM
        try:
            for block in walk:
                if waiting.keyframe not in (None, block.keyframe):
                    yield from self._draw(waiting, prepare, waiting.wanted)
                    waiting = Waiting()
                waiting.add(block)
                while given < len(wanted) and wanted[given] < block.end:
                    waiting.wanted.append(int(wanted[given]))
                    given += 1
                yield from self._draw(waiting, prepare, waiting.ripe(self._batch, last=given == len(wanted)))
                if given == len(wanted) and not waiting.wanted:
                    return
                self._remember(walk.place)
            yield from self._draw(waiting, prepare, waiting.wanted)
        finally:
            self._noted.update(dict.fromkeys(track.damaged))

    def _draw(self, waiting: Waiting, prepare: bool, numbers: list[int]) -> Iterator[Batch]:
        """Draw frames that wait, by their numbers, then drop what no later frame needs."""
        for at in range(0, len(numbers), self._batch):
            batch = numbers[at : at + self._batch]
            keyframe = waiting.keyframe
            if keyframe is None:
                raise BitstreamError("the stream has no keyframe that can be decoded")
            places = np.array(batch) - waiting.first
            pictures = None if self._entry is None else self._pictures(self._entry, waiting, keyframe, batch, places)
            if pictures is not None and prepare and self._renderer is not None:
                self._renderer.prepare(self._coarse)  # after the first batch, so that it does not delay the first frame
            # Speech is read in order: before that of the next batch, if that comes first.
            sound = [self._sound_of(number) for number in batch] if self._ahead else None
            yield Batch(
                batch, pictures, sound, waiting.layers["tiny"][places], keyframe.number, waiting.held[places]
            )  # fmt: skip
        waiting.let_go(len(numbers))

    def _pictures(
        self, entry: ModelEntry, waiting: Waiting, keyframe: Keyframe, batch: list[int], places: NDArray[np.int64]
    ) -> Callable[[], NDArray[np.uint8]]:
        if self._renderer is None:
            self._renderer = open_renderer(entry, fast=self._fast, device=self._device, runtime=self._runtime)
        if self._renderer.keyframe is not keyframe.picture:
            self._renderer.set_keyframe(keyframe.picture)
        windows = tiny_windows(waiting.layers["tiny"], places)
        # Networks that are told the motion do not listen; log-mel windows would cost more than all else but drawing.
        mel = silent_windows(len(batch))
        if self._renderer.hears and self.speech is not None:
            mel = np.concatenate([self._mel(number) for number in batch])
        others = {name: values[places] for name, values in waiting.layers.items() if name != "tiny"}
        sound = None
        if self.speech is not None and ("motion" not in others or (others["motion"][:, -1] != SENT).any()):
            sound = np.concatenate([self._mel(number, lips=True) for number in batch])
        return self._renderer.begin(windows, mel, self._coarse, **others, sound=sound)

    def _mel(self, number: int, lips: bool = False) -> NDArray[np.float32]:
        """The log-mel window of a frame, [1, 20, 80]; or the lips' longer one, [1, 148, 80]."""
        if self.speech is None:
            return silent_windows(1)
        past, future = (LIPS_REACH, LIPS_FUTURE) if lips else (REACH, REACH)
        first, end = max(0, number - past), min(len(self), number + future + 1)
        start = self._sample(first) - MARGIN
        known = self.speech.samples(start, self._sample(end) + MARGIN)
        mel = log_mel(known, end - first, self.fps, start=-start, first=first)
        cut = sound_windows if lips else mel_windows
        return cut(mel, np.array([number - first]))

    def _sound_of(self, number: int) -> NDArray[np.float32] | None:
        if self.speech is None:
            return None
        return self.speech.samples(self._sample(number), self._sample(number + 1))

    def _sample(self, frame: int) -> int:
        """The sample at which a frame begins."""
        return int(frame * SAMPLE_RATE / self._rate)

    def _place_before(self, frame: int) -> Place:
        """The last place to begin at, for a frame: its window of tiny frames must lie behind it, too."""
        for i in reversed(range(bisect_right(self._places, frame, key=lambda place: place.frame))):
            place = self._places[i]
            if place.state is not None and place.frame > frame - REACH:
                continue
            if i == 0 or place.state is not None or self._strict or self._is_whole(place):
                return place
        return self._places[0]

    def _is_whole(self, place: Place) -> bool:
        chunk = self._stream.chunks[place.chunk]
        try:
            return isinstance(chunk, KeyframeChunk) and KeyframeDecoder(place.chain).decode(chunk) is not None
        except BitstreamError:
            return False

    def _remember(self, place: Place | None) -> None:
        if place is None:
            return
        at = bisect_right(self._places, place.frame, key=lambda known: known.frame)
        if place.frame - self._places[at - 1].frame >= MARK_EVERY:
            self._places.insert(at, place)
