"""Encoding of tiny frames: payloads that meet a target error with as few bits as the search finds."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tfcodec.errors import TfcodecError
from tfcodec.tinyframe.decoder import FRESH, STEP_CHANGE
from tfcodec.tinyframe.model import MAX_FRAMES, History, Model, clip_score
from tfcodec.tinyframe.planes import IntArray, TinyPlanes
from tfcodec.tinyframe.rangecoder import RangeEncoder
from tfcodec.tinyframe.rows import write_row
from tfcodec.tinyframe.search import FloatArray, Group, Search
from tfcodec.tinyframe.tables import SIZES, load_tables

LUMA_TARGET = tuple(3.4 * 2 ** ((5 - q) / 2) for q in range(11))  # mean squared error, 0..255 scale
CHROMA_TARGET = tuple(2.4 * 2 ** ((5 - q) / 2.5) for q in range(11))
FILE_STEP, CALL_STEP = 28, 22  # at quality 5; two table entries make the error about 1.4 times as large
RHO_RANGE = (0.25, 4.0)
REFRESH = 25  # frames between payloads that can be read after a loss, in calls


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

    def __init__(
        self, quality: int = 5, mode: Literal["file", "call"] = "file", *, refresh: int = REFRESH
    ) -> None:
        if quality not in range(11):
            raise TfcodecError(f"quality must be 0..10, not {quality!r}")
        if mode not in ("file", "call"):
            raise TfcodecError(f"mode must be 'file' or 'call', not {mode!r}")
        if refresh < 1:
            raise TfcodecError(f"refresh must be at least 1 frame, not {refresh}")
        self._call, self._refresh = mode == "call", refresh
        self._model = Model(load_tables())
        self._search = Search(self._model)
        self._luma, self._chroma = LUMA_TARGET[quality], CHROMA_TARGET[quality]
        self._wanted_step = (CALL_STEP if self._call else FILE_STEP) + 2 * (5 - quality)
        self._rate = 0.08 if self._call else 0.14  # price of a bit in squared quantiser steps
        self._rho = 0.5  # weight of chroma errors
        self._errors = np.zeros(3)  # frames, luma, chroma so far
        self._state: IntArray | None = None
        self._history: History | None = None
        self._step = -1
        self._first = True
        self._since_fresh = 0
        self._reconstruction = TinyPlanes.concatenate([])

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

    def encode(self, planes: TinyPlanes) -> bytes:
        """One payload for 1..128 frames, predicted from everything since :meth:`reset`.

        An empty payload is valid: nothing changed.
        """
        if self._state is None:
            raise TfcodecError("TinyEncoder.reset must come before encode")
        if not 1 <= len(planes) <= MAX_FRAMES:
            raise TfcodecError(f"a tiny-frame payload holds 1..{MAX_FRAMES} frames, not {len(planes)}")
        fresh = self._history is None or not self._call or self._since_fresh >= self._refresh
        history = History() if fresh or self._history is None else self._history
        step = self._wanted_step
        groups = self._groups_call(planes, history, step) if self._call else self._groups_file(planes, history, step)
        payload = self._write(groups, history, step, fresh)
        self._since_fresh = (0 if fresh else self._since_fresh) + len(planes)
        self._first = False
        states = np.concatenate([g.state for g in groups])
        self._state = states[-1]
        self._reconstruction = TinyPlanes.from_samples(self._model.synthesise(states))
        luma, chroma = self._reconstruction.mse(planes)
        self._errors += np.array([1, luma, chroma]) * len(planes)
        return payload

    def _weight(self) -> FloatArray:
        return self._search.luma_share + self._rho * self._search.chroma_share

    def _groups_call(self, planes: TinyPlanes, history: History, step: int) -> list[Group]:
        if self._state is None:
            raise TfcodecError("TinyEncoder.reset must come before encode")
        count = self._errors[0]
        if count >= 4:
            # steer the running error to the target over the coming second or so
            luma, chroma = self._errors[1:] / count
            gain = min(1.0, 0.02 * count**0.5)
            self._rate *= float(np.clip((self._luma / max(luma, 1e-6)) ** gain, 0.8, 1.25))
            self._rate = float(np.clip(self._rate, 0.01, 0.5))
            self._rho *= float(np.clip((chroma / self._chroma) ** gain, 0.8, 1.25))
            self._rho = float(np.clip(self._rho, *RHO_RANGE))
        weight, base = self._weight(), self._state
        groups: list[Group] = []
        for wanted in self._model.analyse(planes.samples()):
            group = self._search.group(0, wanted[None], base, step, history, weight, self._rate)
            history = history.copy()
            history.add(0, group.rows)
            base = group.state[0]
            groups.append(group)
        return groups

    def _groups_file(self, planes: TinyPlanes, history: History, step: int) -> list[Group]:
        """Repeat the search with prices that bring this payload's errors, with those before, to the target."""
        samples = planes.samples()
        wanted = self._model.analyse(samples)
        count, luma_sum, chroma_sum = self._errors
        total = count + len(planes)
        # errors saved or overspent before are settled here, within reason
        luma_goal = float(np.clip((self._luma * total - luma_sum) / len(planes), self._luma / 2, self._luma * 1.5))
        chroma_goal = float(
            np.clip((self._chroma * total - chroma_sum) / len(planes), self._chroma / 2, self._chroma * 1.5)
        )
        best: list[Group] = []
        best_key = (True, float("inf"))
        rate, rho = self._rate, self._rho
        for _ in range(4):
            weight = self._search.luma_share + rho * self._search.chroma_share
            groups = self._divide(wanted, history, step, weight, rate)
            states = np.concatenate([g.state for g in groups])
            luma, chroma = TinyPlanes.from_samples(self._model.synthesise(states)).mse(planes)
            bits = sum(g.bits for g in groups)
            over = max(luma / luma_goal, chroma / chroma_goal)
            key = (over > 1.0, over if over > 1.0 else bits)
            if key < best_key:
                best, best_key = groups, key
                self._rate, self._rho = rate, rho
            if 0.97 < luma / luma_goal <= 1.0 and (0.93 < chroma / chroma_goal <= 1.0 or rho <= RHO_RANGE[0]):
                break
            rate = float(np.clip(rate * np.clip(0.99 * luma_goal / max(luma, 1e-6), 0.3, 3) ** 1.5, 0.02, 0.6))
            rho = float(np.clip(rho * np.clip(chroma / (0.97 * chroma_goal), 0.3, 3) ** 1.2, *RHO_RANGE))
        return best

    def _divide(
        self, wanted: IntArray, history: History, step: int, weight: FloatArray, rate: float
    ) -> list[Group]:
        if self._state is None:
            raise TfcodecError("TinyEncoder.reset must come before encode")
        groups: list[Group] = []
        base, done, largest = self._state, 0, len(SIZES) - 1
        while done < len(wanted):
            n = SIZES[-1]
            while n > len(wanted) - done:
                n //= 2
            part = wanted[done : done + n]
            new, history = self._search.tree(
                part, base, step, history, weight, rate, len(wanted) - done, largest
            )
            groups += new
            base = new[-1].state[-1]
            done += n
        return groups

    def _write(self, groups: list[Group], history: History, step: int, fresh: bool) -> bytes:
        coder = RangeEncoder()
        if not self._first:
            coder.encode(fresh, FRESH)
        if fresh:
            coder.encode_bits(step, 6)
        elif step != self._step:
            coder.encode(1, STEP_CHANGE)
            coder.encode_bits(step, 6)
        else:
            coder.encode(0, STEP_CHANGE)
        self._step = step
        left = sum(len(g.rows) for g in groups)
        history = history.copy()
        for group in groups:
            for size in range(len(SIZES) - 1, 0, -1):
                if SIZES[size] <= left:
                    score = int(self._model.tables.group_split[history.last_size, size])
                    coder.encode(size == group.size, self._model.one[clip_score(score)])
                    if size == group.size:
                        break
            for n, row in enumerate(group.rows):
                context = self._model.row_context(group.size, n, step, group.rows, history)
                write_row(coder, self._model, context, row)
            history.add(group.size, group.rows)
            left -= len(group.rows)
        self._history = history
        return coder.finish()
