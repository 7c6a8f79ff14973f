"""Layers of numbers: a row of integers for each frame, all 0 at a keyframe, coded as tiny frames are.

The layers of motion and of displacement are such. Each has tables of its own, of the layout of the tiny frames'; their
`inverse` is diagonal and holds each number's nominal quantiser step. Coefficients are numbers in units of 1/128 of that
step: so one common step for all coefficients gives every number a step of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tfcodec.errors import BitstreamError, TfcodecError, UnsupportedVersion
from tfcodec.tinyframe.entropy import MAX_FRAMES, CoderState, History, Model
from tfcodec.tinyframe.payload import REFRESH, check_settings, read_groups, read_head, write_groups, write_head
from tfcodec.tinyframe.planes import IntArray
from tfcodec.tinyframe.rangecoder import RangeDecoder, RangeEncoder
from tfcodec.tinyframe.search import Group, Search
from tfcodec.tinyframe.tables import SIZES, Layout, Tables, layout

BoolArray = npt.NDArray[np.bool_]
State = TypeVar("State", bound=CoderState)
Result = TypeVar("Result")
NUMBER_LIMIT = 32_767
STEPS_PER_QUALITY = 3  # eighths of an octave


def numbers_layout(numbers: int) -> Layout:
    """The layout of the tables of a layer of so many numbers a frame."""
    return tuple((name, ">i4" if name == "forward" else kind, shape) for name, kind, shape in layout(numbers))


def numbers_of(model: Model, states: IntArray) -> IntArray:
    """Coefficients [T, N] as numbers."""
    return np.clip(model.synthesise(states), -NUMBER_LIMIT, NUMBER_LIMIT)


def check_named(layer: str, named: tuple[int, bytes], here: tuple[int, bytes], rule: int) -> None:
    """Raise unless a stream names the tables, by number and hash, that this package has.

    Raises:
        UnsupportedVersion: it names others.
    """
    if named != here:
        raise UnsupportedVersion(
            f"the stream needs {layer} tables {named[0]} ({named[1].hex()}); "
            f"this reader has {here[0]} ({here[1].hex()}) [R{rule}]"
        )


class _Carrying(Generic[State]):
    """Either end of a layer: the state that goes from payload to payload. A new one is in that after :meth:`reset`."""

    def __init__(self, tables: Tables, start: State, name: str) -> None:
        self._model = Model(tables)
        self._start = self._state = start
        self._name = name

    def reset(self) -> None:
        """Start a keyframe group: predict from the keyframe, where all numbers are 0."""
        self._state = self._start

    @property
    def state(self) -> State:
        """What the next payload is predicted from."""
        return self._state

    def restore(self, state: State) -> None:
        """Go on from an earlier state, as the other end has to."""
        self._state = state

    def _held(self, frames: int) -> IntArray:
        """The last frame's numbers, [frames, N]."""
        return np.repeat(numbers_of(self._model, self._state.coefficients[None]), frames, axis=0)


class NumbersDecoder(_Carrying[State], ABC, Generic[State, Result]):
    """Payloads back to numbers; exact on every machine."""

    def decode(self, payload: bytes, frames: int) -> Result:
        """What one payload of 1..128 frames says.

        After :meth:`conceal` a payload that builds on lost contexts cannot be read; its frames are then concealed too,
        until one comes that starts anew.

        Raises:
            BitstreamError: the payload is malformed or `frames` out of range; the decoder's state is as before.
        """
        coder = RangeDecoder(payload, self._name)
        before = self._state
        result = self.decode_from(coder, frames)
        if self._state.history is not None:  # a payload that could not be read was not read to its end
            try:
                coder.finish()
            except BitstreamError:
                self._state = before
                raise
        return result

    @abstractmethod
    def decode_from(self, coder: RangeDecoder, frames: int) -> Result:
        """As :meth:`decode`, out of a range coder that may hold other layers before and after."""

    @abstractmethod
    def conceal(self, frames: int) -> Result:
        """Stand-in for `frames` lost frames: the last one, held."""

    def _head(self, coder: RangeDecoder, frames: int) -> tuple[History | None, int, bool]:
        """How a payload begins, as `read_head` gives it. Raises BitstreamError unless it may have so many frames."""
        if not 1 <= frames <= MAX_FRAMES:
            raise BitstreamError(f"a {self._name} payload holds 1..{MAX_FRAMES} frames, not {frames}")
        s = self._state
        return read_head(coder, self._model.samples, s.first, s.history, s.step)

    def _groups(self, coder: RangeDecoder, frames: int, step: int, history: History) -> IntArray:
        """Coefficients [1 + frames, N] of the frame before the payload and of its own; ``history`` is carried on."""
        base = self._state.coefficients
        return np.concatenate([base[None], *read_groups(coder, self._model, step, frames, base, history)])


class Course(NamedTuple):
    """How a layer is coded in one of the modes, "file" and "call"."""

    step: int
    """Index of the quantiser step at quality 5; 24 is the nominal one."""
    rate: float
    """Price of a bit, in squared quantiser steps."""


class NumbersEncoder(_Carrying[State], ABC, Generic[State, Result]):
    """Numbers to payloads: at a fixed step for each quality, with the levels that are worth their bits.

    Args:
        tables: the layer's.
        start: state at a keyframe.
        weights: what a squared error, in quantiser steps, of each number weighs in the choice of levels, [N].
        name: the layer's.
        quality: 0..10; each step makes the quantiser 1.3 times finer.
        mode: "file" looks ahead over the frames of a payload and uses temporal transforms; "call" codes every frame
            by itself from the frames before it.
        course: step and price of bits in this mode.
        refresh: in calls, frames between payloads that do not rely on earlier payloads' contexts (each costs
            about 11 bits more).

    Raises:
        TfcodecError: parameters out of range.
    """

    def __init__(
        self, tables: Tables, start: State, weights: npt.ArrayLike, name: str, quality: int,
        mode: Literal["file", "call"], course: Course, refresh: int = REFRESH,
    ) -> None:  # fmt: skip
        check_settings(quality, mode, refresh)
        super().__init__(tables, start, name)
        self._call, self._refresh = mode == "call", refresh
        self._search = Search(self._model)
        self._weights, self._course = np.array(weights, np.float64), course
        self.set_quality(quality)
        self._since_fresh = 0

    def set_quality(self, quality: int) -> None:
        """Code the next payloads at this quality, whatever those before were coded at. Raises TfcodecError."""
        check_settings(quality, "call" if self._call else "file", self._refresh)
        self._step = self._course.step + STEPS_PER_QUALITY * (5 - quality)

    @property
    @abstractmethod
    def reconstruction(self) -> Result:
        """What the decoder gets from the last payload."""

    def _code(
        self, coder: RangeEncoder, values: IntArray, frames: int, beside: Callable[[bool], None] = lambda fresh: None
    ) -> tuple[IntArray, History]:
        """Code the numbers [n, N] of those of a payload's frames that have any.

        ``beside`` codes what else a payload says, between its head and its groups; it is told whether contexts start
        anew. Returns coefficients [1 + n, N] of the frame before and of these, and the history after them.
        """
        before = self._state
        fresh = before.history is None or not self._call or self._since_fresh >= self._refresh
        history = History(self._model.samples) if fresh or before.history is None else before.history
        wanted = self._model.analyse(values)
        largest = 0 if self._call else len(SIZES) - 1  # in calls each frame by itself, in files the best lengths
        groups = self._search.divide(
            wanted, before.coefficients, self._step, history, self._weights, self._course.rate, largest
        )
        write_head(coder, self._step, fresh, before.first, before.step)
        beside(fresh)
        history = self._write(coder, groups, history)
        self._since_fresh = (0 if fresh else self._since_fresh) + frames
        return np.concatenate([before.coefficients[None], *(g.state for g in groups)]), history

    def _write(self, coder: RangeEncoder, groups: list[Group], history: History) -> History:
        """The groups; gives the history after them."""
        return write_groups(coder, self._model, self._step, groups, history)

    def _checked(self, numbers: npt.ArrayLike) -> npt.NDArray[np.float64]:
        values, samples = np.asarray(numbers, np.float64), self._model.samples
        if values.ndim != 2 or values.shape[1] != samples:
            raise TfcodecError(f"{self._name} numbers must have shape [n, {samples}], not {list(values.shape)}")
        if not 1 <= len(values) <= MAX_FRAMES:
            raise TfcodecError(f"a {self._name} payload holds 1..{MAX_FRAMES} frames, not {len(values)}")
        return values


def rounded(values: npt.NDArray[np.float64]) -> IntArray:
    """Numbers as they are coded."""
    return np.rint(np.clip(values, -NUMBER_LIMIT, NUMBER_LIMIT)).astype(np.int64)
