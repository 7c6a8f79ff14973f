"""Train lips from speech: ``python -m tfcodec.training.lips DATA FOLDER OUT.safetensors [options]``.

1. FOLDER is prepared if it is not, with ``--teacher WHISPER.onnx`` (`lips_data`): log-mel of coded speech, the mouths
   of the clips, the teacher's states.
2. Readout: ridge regressions from the teacher's states to the mouth, one as the clips are, one with each clip's sound
   moved to where it fits best: in many sources it is a frame or two early or late. What they say of all speech, with
   and without pictures, is taught to the network along with the states.
3. Distillation: the network learns states and readouts from log-mel, with other gains, noise and missing bands.
4. Tuning: the mouths of the clips, within clips, beside distillation.

``--hold-out`` keeps every eighth person of the train clips out of 2 and 4 and measures on them: that is how the
settings were chosen. The `val` clips are for the last figures alone (`benchmarks/measure/lips_val.py`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import TfcodecError
from ..model.inputs import MEL_BANDS, MEL_PER_FRAME
from ..model.lips import FUTURE, MAX_LAG, OUTPUTS, PAST, SHARP, STEADY, Lips, read_lips, save_lips
from .lips_data import STATES, Floats, Item, fit_key, read_items, read_landmarks, write_mouths, write_sound
from .teacher import Teacher

OFFSETS = (-3, -1, 0, 1, 2, 4)
"""Frames whose states the readout sees."""
LONG, SHORT = 100, 32
"""Frames of a piece of a clip in a batch; of a clip of a second."""
COUNTS = torch.tensor([1.0, 1.0, 0.5, 0.2, 1.0])
"""What each output counts: of the last components speech says next to nothing."""
_DECIBEL = 1 / 45  # of log-mel
_AUDIBLE = (0, 1, 4)  # outputs that speech says something about


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m tfcodec.training.lips", description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help="folder with train, val, speech, manifest.tsv and landmarks")
    p.add_argument("folder", type=Path, help="what is prepared from it; made if missing")
    p.add_argument("out", type=Path)
    p.add_argument("--teacher", type=Path, help="ONNX file of the Whisper encoder, to prepare the folder")
    p.add_argument("--minutes", type=float, nargs=2, default=(10, 8), help="distillation, tuning")
    p.add_argument("--weights", type=Path, help="of such a network, to begin with")
    p.add_argument("--rate", type=float, default=1.0, help="factor of the learning rates")
    p.add_argument("--hold-out", action="store_true")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    return p.parse_args(argv)


@dataclass
class Speech:
    """A prepared folder in memory. Outputs are in units of their standard deviation within the train clips."""

    folder: Path
    items: list[Item] = field(init=False)

    def __post_init__(self) -> None:
        self.items = read_items(self.folder)
        self.mel: NDArray[np.uint8] = np.load(self.folder / "mel.npy", mmap_mode="r")
        self.states: NDArray[np.float16] = np.load(self.folder / "states.npy", mmap_mode="r")
        self.mouth: Floats = np.load(self.folder / "mouth.npy")
        clips = [item for item in self.items if item.kind != "speech"]
        for item in clips:
            self.mouth[self.span(item)] -= _mean(self.mouth[self.span(item)])
        train = np.concatenate([self.mouth[self.span(item)] for item in clips if item.kind == "train"])
        self.scale: Floats = np.nanstd(train, 0)
        self.mouth /= self.scale
        self.lags = dict.fromkeys((item.name for item in clips), 0)
        self.trust = dict.fromkeys((item.name for item in clips), 1.0)
        self.readout: Floats = np.zeros((self.mel.shape[1] // MEL_PER_FRAME, 2, OUTPUTS), np.float32)

    @staticmethod
    def span(item: Item) -> slice:
        return slice(item.first, item.first + item.frames)

    def clips(self, kind: str = "train") -> list[Item]:
        return [i for i in self.items if i.kind == kind and np.isfinite(self.mouth[self.span(i)]).any()]

    def labels(self, item: Item, lag: int = 0) -> Floats:
        """[frames, 5]; frame `t` holds the mouth that belongs to the sound of `t` if that is `lag` frames late."""
        mouth = self.mouth[self.span(item)]
        out = np.full_like(mouth, np.nan)
        inside = slice(max(0, lag), len(mouth) + min(0, lag))
        out[inside] = mouth[max(0, -lag) : len(mouth) - max(0, lag)]
        return out

    def columns(self, item: Item, first: int, frames: int, version: int) -> NDArray[np.uint8]:
        """Log-mel bytes [PAST + 4 frames + FUTURE, 80] about frames of an item; silence outside it."""
        out = np.zeros((PAST + MEL_PER_FRAME * frames + FUTURE, MEL_BANDS), np.uint8)
        begin = MEL_PER_FRAME * first - PAST
        low, high = max(0, begin), min(MEL_PER_FRAME * item.frames, begin + len(out))
        at = MEL_PER_FRAME * item.first
        out[low - begin : high - begin] = self.mel[version, at + low : at + high]
        return out


def _mean(values: Floats) -> Any:
    seen = values[np.isfinite(values[:, 0])]
    return seen.mean(0) if len(seen) else 0.0


# Readout


def context(speech: Speech, item: Item) -> Floats:
    """The teacher's states about each frame of an item, [frames, 6 * 192]."""
    states = speech.states[2 * item.first : 2 * (item.first + item.frames)].astype(np.float32)
    mean = states.reshape(item.frames, 2, STATES).mean(1)
    near = np.clip(np.arange(item.frames)[:, None] + OFFSETS, 0, item.frames - 1)
    return mean[near].reshape(item.frames, -1)


def sums(speech: Speech, clips: list[Item], aligned: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a ridge regression within clips needs of them: [1152, 1152] and [1152, 5]."""
    size = len(OFFSETS) * STATES
    square, product = np.zeros((size, size)), np.zeros((size, OUTPUTS))
    xs: list[Floats] = []
    ys: list[Floats] = []
    for item in clips:
        y = speech.labels(item, speech.lags[item.name] if aligned else 0)
        seen = np.isfinite(y[:, 0])
        if seen.any():
            weight = np.float32(np.sqrt(speech.trust[item.name] if aligned else 1))
            x = context(speech, item)[seen]
            xs.append(weight * (x - x.mean(0)))
            ys.append(weight * (y[seen] - y[seen].mean(0)))
    for first in range(0, len(xs), 64):  # bounded memory, large products
        x, y = np.concatenate(xs[first : first + 64]), np.concatenate(ys[first : first + 64])
        square += x.T @ x
        product += x.T @ y
    return square, product


def solve(square: NDArray[np.float64], product: NDArray[np.float64], ridge: float = 3.0) -> Floats:
    """The regression's matrix [1152, 5]."""
    strength = ridge * np.trace(square) / len(square)
    return np.linalg.solve(square + strength * np.eye(len(square)), product).astype(np.float32)


def find_lags(speech: Speech, clips: list[Item], said: Callable[[Item], Floats]) -> None:
    """Set how many frames late each clip's sound is, and whether it belongs to the face; short clips of a person have
    one lag in common.
    """
    groups: dict[str, list[Item]] = {}
    for item in clips:
        groups.setdefault(item.name if item.frames >= 2 * SHORT else item.person, []).append(item)
    for group in groups.values():
        fits = np.mean([_fits(said(item), speech, item) for item in group], 0)
        best = int(np.argmax(fits - 0.02 * np.abs(np.arange(-MAX_LAG, MAX_LAG + 1))))
        for item in group:
            speech.lags[item.name] = best - MAX_LAG
            speech.trust[item.name] = 1.0 if fits[best] > 0.1 else 0.1


def _fits(said: Floats, speech: Speech, item: Item) -> Floats:
    lags = range(-MAX_LAG, MAX_LAG + 1)
    return np.array([correlation(said, speech.labels(item, lag))[list(_AUDIBLE)].mean() for lag in lags], np.float32)


def correlation(a: Floats, b: Floats) -> Floats:
    """Of each column of [T, n], over the frames that have both; 0 where one does not change."""
    seen = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    if seen.sum() < 8:
        return np.zeros(a.shape[1], np.float32)
    a, b = a[seen] - a[seen].mean(0), b[seen] - b[seen].mean(0)
    return (a * b).sum(0) / np.sqrt(np.maximum((a * a).sum(0) * (b * b).sum(0), 1e-9))


def write_readout(speech: Speech, clips: list[Item], held: list[Item]) -> None:
    """Find the lags of all clips and set what the readouts say of all speech. ``held`` clips are not learned from.

    A clip's lag is found by a readout that has not seen its person.
    """
    persons = sorted({item.person for item in clips})
    parts = [[i for i in clips if persons.index(i.person) % 4 == part] for part in range(4)]
    each = [sums(speech, part, aligned=False) for part in parts]
    squares, products = np.sum([e[0] for e in each], 0), np.sum([e[1] for e in each], 0)
    for part, (square, product) in zip(parts, each, strict=True):
        matrix = solve(squares - square, products - product)
        find_lags(speech, part, lambda item, m=matrix: context(speech, item) @ m)  # type: ignore[misc]
    steady = solve(squares, products)
    find_lags(speech, held, lambda item: context(speech, item) @ steady)
    both = np.stack([steady, solve(*sums(speech, clips, aligned=True))], 1).reshape(-1, 2 * OUTPUTS)
    for item in speech.items:
        speech.readout[speech.span(item)] = (context(speech, item) @ both).reshape(-1, 2, OUTPUTS)


# The network


class Student(nn.Module):
    """The network and, for training only, what it says of the teacher's states."""

    def __init__(self) -> None:
        super().__init__()
        self.lips = Lips(dropout=0.2)
        self.states = nn.Linear(self.lips.out.in_features, STATES)


def augment(mel: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Bytes [B, T, 80] -> log-mel [B, T, 80]: other gains, noise, some bands missing."""
    batch = len(mel)

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (batch, 1, 1)).astype(np.float32))

    x = torch.from_numpy(mel).float() / 127.5 - 1
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)) * (4 * _DECIBEL) + draw(-1.4, -0.5)
    noise += torch.linspace(-1, 1, MEL_BANDS) * draw(-0.4, 0.2)
    steep = 4.5 * float(np.log(10))  # powers add, and one unit is 45 dB
    x = torch.where(draw(0, 1) < 0.5, torch.logaddexp(x * steep, noise * steep) / steep, x)
    x = x + draw(-12, 12) * _DECIBEL
    first, count = rng.integers(0, MEL_BANDS, batch), rng.integers(0, 12, batch)
    band = np.arange(MEL_BANDS)
    lost = (band >= first[:, None]) & (band < (first + count)[:, None]) & (rng.random((batch, 1)) < 0.5)
    return torch.where(torch.from_numpy(lost)[:, None], torch.tensor(-1.0), x).clamp(-1, 1)


class Lessons:
    """Draws batches."""

    def __init__(self, speech: Speech, clips: list[Item], seed: int) -> None:
        self.speech, self.rng = speech, np.random.default_rng(seed)
        self.heard = [i for i in speech.items if i.kind != "val" and i.frames >= LONG // 2]
        self.short = [i for i in clips if i.frames <= 2 * SHORT]
        self.long = [i for i in clips if i.frames > 2 * SHORT]

    def _draw(self, items: list[Item], count: int) -> list[Item]:
        length = np.array([i.frames for i in items], float)
        return [items[k] for k in self.rng.choice(len(items), count, p=length / length.sum())]

    def _pieces(self, items: list[Item], frames: int) -> tuple[Tensor, list[int]]:
        firsts = [int(self.rng.integers(0, max(1, i.frames - frames + 1))) for i in items]
        versions = len(self.speech.mel)
        parts = [
            self.speech.columns(i, first, frames, int(self.rng.integers(versions)))
            for i, first in zip(items, firsts, strict=True)
        ]
        return augment(np.stack(parts), self.rng), firsts

    def distil(self, student: Student, count: int = 10) -> Tensor:
        items = self._draw(self.heard, count)
        mel, firsts = self._pieces(items, LONG)
        states = np.zeros((count, 2 * LONG, STATES), np.float32)
        said = np.full((count, LONG, 2, OUTPUTS), np.nan, np.float32)
        for k, (item, first) in enumerate(zip(items, firsts, strict=True)):
            frames = min(LONG, item.frames - first)
            at = item.first + first
            states[k, : 2 * frames] = self.speech.states[2 * at : 2 * (at + frames)]
            said[k, :frames] = self.speech.readout[at : at + frames]
        there = torch.from_numpy(np.isfinite(said[..., 0, 0])).float()
        speech = student.lips.encode(mel)
        order = 1 / (1 + torch.arange(STATES) / 48)
        miss = (student.states(speech[:, 2:]) - torch.from_numpy(states)).square() @ order / order.sum()
        first_loss = (miss * there.repeat_interleave(2, 1)).sum() / (2 * there.sum())
        wrong = (student.lips.decide(speech) - torch.from_numpy(np.nan_to_num(said))).square() @ COUNTS
        second_loss = (wrong.mean(-1) * there).sum() / there.sum()
        return first_loss + 2 * second_loss

    def mouths(self, student: Student) -> Tensor:
        total = torch.zeros(())
        for items, frames in ((self._draw(self.short, 10), SHORT), (self._draw(self.long, 4), LONG)):
            mel, firsts = self._pieces(items, frames)
            wanted = np.full((len(items), frames, 2, OUTPUTS), np.nan, np.float32)
            for k, (item, first) in enumerate(zip(items, firsts, strict=True)):
                for mode, lag in ((STEADY, 0), (SHARP, self.speech.lags[item.name])):
                    part = self.speech.labels(item, lag)[first : first + frames]
                    wanted[k, : len(part), mode] = part
            trust = torch.tensor([self.speech.trust[i.name] for i in items])
            total = total + within(student.lips(mel), torch.from_numpy(wanted), trust)
        return total / 2


def within(said: Tensor, wanted: Tensor, trust: Tensor) -> Tensor:
    """Squared error of [B, T, 2, 5] within each clip: its mean is what the speech does not say."""
    there = torch.isfinite(wanted).float()
    miss = (said - wanted.nan_to_num()) * there
    miss = miss - there * miss.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
    return (trust[:, None, None, None] * miss.square() * COUNTS).sum() / (there.sum() * COUNTS.mean()) * OUTPUTS


@torch.no_grad()
def predict(speech: Speech, lips: Lips, item: Item, version: int = 0) -> Floats:
    """[frames, 2, 5]."""
    mel = torch.from_numpy(speech.columns(item, 0, item.frames, version)).float() / 127.5 - 1
    return lips(mel[None])[0].numpy()


def measure(speech: Speech, lips: Lips, clips: list[Item]) -> dict[str, float]:
    """Correlations within clips: of the first two numbers and the opening; sharp at the clip's lag."""
    lips.eval()
    rows = []
    for item in clips:
        said = predict(speech, lips, item)
        steady = correlation(said[:, STEADY], speech.labels(item))
        sharp = correlation(said[:, SHARP], speech.labels(item, speech.lags[item.name]))
        rows.append([*steady[list(_AUDIBLE)], sharp[-1]])
    first, second, opening, aligned = np.mean(rows, 0)
    return {"first": float(first), "second": float(second), "opening": float(opening), "opening_sharp": float(aligned)}


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    try:
        begin = time.monotonic()
        args.folder.mkdir(parents=True, exist_ok=True)
        if not (args.folder / "items.json").is_file():
            if args.teacher is None:
                raise TfcodecError(f"{args.folder} is not prepared: --teacher is needed")
            write_sound(args.data, args.folder, args.teacher, args.seed)
        if not (args.folder / "mouth.npy").is_file():
            write_mouths(args.data, args.folder)
        speech = Speech(args.folder)
        clips = speech.clips()
        persons = sorted({item.person for item in clips})
        held = [i for i in clips if args.hold_out and persons.index(i.person) % 8 == 1]
        shown = [i for i in clips if i not in held]
        write_readout(speech, shown, held)
        print(f"readout after {(time.monotonic() - begin) / 60:.1f} min", flush=True)
        lessons, student = Lessons(speech, shown, args.seed), Student()
        if args.weights is not None:
            student.lips.load_state_dict(read_lips(args.weights).state_dict())
            with torch.no_grad():
                scale = torch.from_numpy(speech.scale).repeat(2)
                student.lips.out.weight.div_(scale[:, None])
                student.lips.out.bias.div_(scale)
        # Without persons held out there is nothing to measure on but what is learned: enough to see that it runs.
        judged = held or [i for i in shown if i.frames > 2 * SHORT][:40]
        for name, rate, minutes, loss in (
            ("distil", 3e-3, args.minutes[0], lambda: lessons.distil(student, 6)),
            ("tune", 1.5e-3, args.minutes[1], lambda: lessons.mouths(student) + lessons.distil(student, 3)),
        ):
            teacher = Teacher(student, args.rate * rate, minutes)
            steps = teacher.run(name, loss, lambda s: measure(speech, s.lips, judged))  # type: ignore[arg-type]
            student.load_state_dict(teacher.average.state_dict())
            print(name, steps, "steps", measure(speech, student.lips, judged), flush=True)
            student.train()
        # Random numbers of its own: those of the lessons depend on how many there was time for.
        rng = np.random.default_rng(args.seed)
        face, key = fit_key(read_landmarks(args.data), shown, np.load(args.folder / "mouth.npy"), rng)
        student.lips.face.copy_(torch.from_numpy(face))
        student.lips.key.copy_(torch.from_numpy(key))
        save_lips(student.lips, torch.from_numpy(speech.scale), args.out)
        print(f"{args.out}, {(time.monotonic() - begin) / 60:.1f} min in all")
    except TfcodecError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
