"""Encoding of tiny frames: payloads that meet a target error with as few bits as the search finds."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np

from tfcodec.errors import TfcodecError
from tfcodec.tinyframe.entropy import MAX_FRAMES, CoderState, History, Model
from tfcodec.tinyframe.payload import REFRESH, check_settings, write_groups, write_head
from tfcodec.tinyframe.planes import IntArray, TinyPlanes
from tfcodec.tinyframe.rangecoder import RangeEncoder
from tfcodec.tinyframe.search import FloatArray, Group, Search
from tfcodec.tinyframe.tables import SIZES, STEPS, load_tables

LUMA_TARGET = tuple(3.45 * 2 ** ((5 - q) / 2) for q in range(11))  # mean squared error, 0..255 scale
CHROMA_TARGET = tuple(2.45 * 2 ** ((5 - q) / 2.5) for q in range(11))
FILE_STEP, CALL_STEP = 28, 20  # at quality 5; three entries of the step table make the error about 1.4 times larger
FILE_RATE, CALL_RATE = 0.14, 0.09  # price of a bit, in squared quantiser steps
CALL_PRICES = (1.0, 0.6, 0.8, 1.25, 1.6)  # tried for every frame of a call
BYTE_LUCK = 0.4  # bits by which a payload may exceed its bytes and mostly still fit
RHO_RANGE = (0.2, 6.0)


class TinyEncoder:
    """Tiny frames to payloads.

    Args:
        quality: 0..10; each step changes the mean squared error by about 1.4 and the bits by about 1.3.
        mode: "file" looks ahead over the frames of a payload and uses temporal transforms; "call" codes every frame
            by itself from the frames before it.
        refresh: in calls, frames between payloads that do not rely on earlier payloads' contexts (each costs
            about two bytes more).

    Raises:
        TfcodecError: parameters out of range.
    """

    def __init__(self, quality: int = 5, mode: Literal["file", "call"] = "file", *, refresh: int = REFRESH) -> None:
        check_settings(quality, mode, refresh)
        self._call, self._refresh = mode == "call", refresh
        self._model = Model(load_tables())
        self._search = Search(self._model)
        self._step = self._sent_step = -1
        self._nominal_step = 0
        self.set_quality(quality)
        self._rate = CALL_RATE if self._call else FILE_RATE
        self._rho = 0.5  # weight of chroma errors
        self._state: IntArray | None = None
        self._history: History | None = None
        self._first = True
        self._since_fresh = 0
        self._reconstruction = TinyPlanes.concatenate([])

    def set_quality(self, quality: int) -> None:
        """Code the next payloads at this quality, whatever those before were coded at. Raises TfcodecError."""
        check_settings(quality, "call" if self._call else "file", self._refresh)
        margin = 0.95 if self._call else 1.0  # a call cannot go back and correct
        self._luma, self._chroma = LUMA_TARGET[quality] * margin, CHROMA_TARGET[quality] * margin
        nominal = (CALL_STEP if self._call else FILE_STEP) + 3 * (5 - quality)
        if self._step >= 0:
            self._step = int(np.clip(self._step + nominal - self._nominal_step, 0, STEPS - 1))
        self._nominal_step = nominal
        self._errors = np.zeros(3)  # frames, sum of luma errors, sum of chroma errors
        self._recent = np.zeros(2)
        self._stepped_at = 0.0

    @property
    def reconstruction(self) -> TinyPlanes:
        """What the decoder gets from the last payload."""
        return self._reconstruction

    def reset(self, reference: TinyPlanes) -> None:
        """Start a keyframe group: predict from `reference`, the one tiny frame of the decoded keyframe."""
        if len(reference) != 1:
            raise TfcodecError(f"the reference is one tiny frame, not {len(reference)}")
        self._state = self._model.analyse(reference.samples())[0]
        self._history, self._first = None, True

    @property
    def step(self) -> float:
        """About the quantiser's next step, in 1/16 grey level."""
        return float(self._model.steps[self._step if self._step >= 0 else self._nominal_step])

    @property
    def state(self) -> CoderState:
        """What the next payload would be predicted from. Raises TfcodecError before the first :meth:`reset`."""
        return CoderState(self._base(), self._history, self._sent_step, self._first)

    def restore(self, state: CoderState) -> None:
        """Predict the next payload from an earlier state, which the decoder has to restore too."""
        self._state, self._history = state.coefficients, state.history
        self._sent_step, self._first = state.step, state.first

    def fork(self) -> TinyEncoder:
        """Another encoder that stands where this one does, to try a payload with."""
        other = copy.copy(self)
        other._errors = self._errors.copy()
        return other

    def encode(self, planes: TinyPlanes) -> bytes:
        """One payload for 1..128 frames, predicted from everything since :meth:`reset`.

        An empty payload is valid: nothing changed.
        """
        coder = RangeEncoder()
        self.encode_into(coder, planes)
        return coder.finish()

    def encode_into(self, coder: RangeEncoder, planes: TinyPlanes) -> None:
        """As :meth:`encode`, into a range coder that may hold another layer before."""
        if self._state is None:
            raise TfcodecError("TinyEncoder.reset must come before encode")
        if not 1 <= len(planes) <= MAX_FRAMES:
            raise TfcodecError(f"a tiny-frame payload holds 1..{MAX_FRAMES} frames, not {len(planes)}")
        fresh = self._history is None or not self._call or self._since_fresh >= self._refresh
        history = History() if fresh or self._history is None else self._history
        groups = (
            self._groups_call(planes, history, fresh, coder.bits) if self._call else self._groups_file(planes, history)
        )
        write_head(coder, self._step, fresh, self._first, self._sent_step)
        self._history, self._sent_step = write_groups(coder, self._model, self._step, groups, history), self._step
        self._since_fresh = (0 if fresh else self._since_fresh) + len(planes)
        self._first = False
        states = np.concatenate([g.state for g in groups])
        self._state = states[-1]
        self._reconstruction = TinyPlanes.from_samples(self._model.synthesise(states))

    def _groups_call(self, planes: TinyPlanes, history: History, fresh: bool, before: float) -> list[Group]:
        """Each frame at the price of its whole bytes, the price steered by the errors so far.

        `before` is what the payload holds already, in bits.
        """
        frames, base, groups = self._model.analyse(planes.samples()), self._base(), []
        samples = planes.samples()
        for index, wanted in enumerate(frames):
            self._steer(index == 0, fresh)
            weight = self._search.weight(self._rho)
            single = len(frames) == 1
            best, best_cost, seen = None, float("inf"), set()
            for factor in CALL_PRICES if single else (1.0,):
                group = self._search.group(0, wanted[None], base, self._step, history, weight, self._rate * factor)
                key = group.rows.tobytes()
                if key in seen:
                    continue
                seen.add(key)
                bits = group.bits
                if single:  # a half-full byte costs as much as a full one
                    header = 6.05 if self._first else 11.0 if fresh else 0.07 if self._step == self._sent_step else 12.0
                    total = bits + header + before
                    bits = 8.0 * np.ceil((total - BYTE_LUCK) / 8) if total > 0.5 else 0.0
                cost = group.error + self._rate * bits
                if best is None or cost < best_cost:
                    best, best_cost = group, cost
            if best is None:
                raise TfcodecError("no way to code a tiny frame")  # CALL_PRICES is never empty
            groups.append(best)
            base = best.state[-1]
            history = history.copy()
            history.add(0, best.rows)
            decoded = TinyPlanes.from_samples(self._model.synthesise(best.state))
            luma, chroma = decoded.mse(TinyPlanes.from_samples(samples[index : index + 1]))
            self._note(1, luma, chroma)
        return groups

    def _note(self, frames: int, luma: float, chroma: float) -> None:
        self._errors += np.array([frames, luma * frames, chroma * frames])
        pace = 0.5 ** (frames / 6)
        now = np.array([luma, chroma])
        self._recent = now if self._errors[0] == frames else self._recent * pace + now * (1 - pace)

    def _goals(self, frames: float, slack: float) -> tuple[float, float]:
        """Errors (luma, chroma) for the coming `frames` that bring the mean since the start to its target."""
        count, luma, chroma = self._errors
        goals = []
        for target, spent in ((self._luma, luma), (self._chroma, chroma)):
            goal = (target * (count + frames) - spent) / frames
            goals.append(float(np.clip(goal, target / 2, target * slack)))
        return goals[0], goals[1]

    def _steer(self, first: bool, fresh: bool) -> None:
        """Set price, chroma weight and, at a payload's first frame, perhaps the step for the next frame of a call."""
        count = self._errors[0]
        if count >= 3:
            luma, chroma = self._goals(10 + count / 3, 1.5)
            gain = 0.12 + 0.1 * 0.9**count  # in a hurry at the start: the clip may be short
            self._rate *= float(np.clip(luma / max(self._recent[0], 1e-6), 0.4, 2.5)) ** gain
            self._rho *= float(np.clip(self._recent[1] / chroma, 0.4, 2.5)) ** (2 * gain)
            self._rho = float(np.clip(self._rho, *RHO_RANGE))
            self._rate = float(np.clip(self._rate, CALL_RATE / 12, CALL_RATE * 8))
        if not first:
            return
        if self._step < 0:
            self._step = self._nominal_step - 3  # the first second cannot be made good later in a short clip
        # price and step can stand in for each other; go back to the best price for the error wanted
        shift = round(2.3 * float(np.log2(self._rate / CALL_RATE)))
        if self._rho > 2:  # chroma cannot reach its target with this step at any weight
            shift -= round(4 * float(np.log2(self._rho / 2)))
        # a coarser step can wait until it costs nothing
        if fresh or (shift <= -2 and count >= self._stepped_at + 6):
            step = int(np.clip(self._step + shift, 0, min(self._nominal_step + 12, STEPS - 1)))
            self._rate *= 2.0 ** ((self._step - step) / 2.3)
            self._rho = min(self._rho, 2.0)
            self._step = step
            self._stepped_at = count

    def _groups_file(self, planes: TinyPlanes, history: History) -> list[Group]:
        """Search for the step and the prices that bring the errors just to their targets."""
        wanted = self._model.analyse(planes.samples())
        luma_goal, chroma_goal = self._goals(len(planes), 1.3)
        best, best_key, best_at = None, (True, float("inf")), (0, 0.0, 0.0)
        step = self._step if self._step >= 0 else self._nominal_step
        rate, rho = FILE_RATE, self._rho
        sizes: list[int] | None = None
        for turn in range(8):
            weight = self._search.weight(rho)
            groups = self._divide(wanted, history, step, weight, rate, sizes)
            decoded = TinyPlanes.from_samples(self._model.synthesise(np.concatenate([g.state for g in groups])))
            luma, chroma = decoded.mse(planes)
            over = max(luma / luma_goal, chroma / chroma_goal)
            key = (over > 1.0, over if over > 1.0 else sum(g.bits for g in groups))
            if key < best_key:
                best, best_key, best_at = groups, key, (step, rate, rho)
            on_chroma = 0.95 < chroma / chroma_goal <= 1.0 or (chroma < chroma_goal and rho <= RHO_RANGE[0])
            if 0.98 < luma / luma_goal <= 1.0 and on_chroma:
                break
            shift = 5.8 * float(np.log2(np.clip(luma_goal / max(luma, 1e-6), 0.1, 10)))
            if chroma > chroma_goal and rho > 2:  # this step is too coarse for chroma, whatever its weight
                shift = min(shift, -5.8 * float(np.log2(chroma / chroma_goal)) - 1)
            rho = float(np.clip(rho * np.clip(chroma / (0.98 * chroma_goal), 0.3, 3) ** 1.3, *RHO_RANGE))
            if turn < 3 and abs(shift) > 1 and 0 <= step + round(shift) < STEPS:
                step += round(shift)
            else:
                # once the step is right only prices move, and the division into groups can stay
                sizes = [g.size for g in groups]
                rate *= float(np.clip(0.992 * luma_goal / max(luma, 1e-6), 0.5, 2)) ** 2.2
                rate = float(np.clip(rate, FILE_RATE / 12, FILE_RATE * 6))
        if best is None:
            raise TfcodecError("no way to code the tiny frames")  # the loop runs at least once
        self._step, _, self._rho = best_at
        decoded = TinyPlanes.from_samples(self._model.synthesise(np.concatenate([g.state for g in best])))
        self._note(len(planes), *decoded.mse(planes))
        return best

    def _divide(
        self,
        wanted: IntArray,
        history: History,
        step: int,
        weight: FloatArray,
        rate: float,
        sizes: list[int] | None,
    ) -> list[Group]:
        """Groups for all of `wanted`: of the given sizes, or of the best ones."""
        if sizes is None:
            return self._search.divide(wanted, self._base(), step, history, weight, rate)
        groups: list[Group] = []
        base, done = self._base(), 0
        for size in sizes:
            part = wanted[done : done + SIZES[size]]
            left = len(wanted) - done
            group = self._search.group(size, part, base, step, history, weight, rate)
            group.bits += self._search.size_bits(size, left, history)
            groups.append(group)
            history = history.copy()
            history.add(size, group.rows)
            base = group.state[-1]
            done += SIZES[size]
        return groups

    def _base(self) -> IntArray:
        if self._state is None:
            raise TfcodecError("TinyEncoder.reset must come before encode")
        return self._state
