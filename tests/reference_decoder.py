"""A second decoder of the tiny-frame layer, in plain Python, written from bitstream_spec.md and not from the package.

It shares nothing with tfcodec but the table file, and exists to be compared with it: slow, and as close to the
wording of the specification as code can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SAMPLES = 96
SIZES = (1, 2, 4, 8, 16, 32)
SHAPES: tuple[tuple[str, int, tuple[int, ...]], ...] = (
    ("forward", 2, (96, 96)),
    ("inverse", 2, (96, 96)),
    ("temporal", 2, (1365,)),
    ("steps", 2, (64,)),
    ("weight_of_one", 4, (640,)),
    ("group_split", 2, (7, 6)),
    ("filled_row", 2, (63,)),
    ("filled_recent", 2, (4, 8)),
    ("filled_density", 2, (4, 8)),
    ("filled_step", 2, (4, 16)),
    ("zero_row", 2, (63, 96)),
    ("zero_recent", 2, (4, 8, 96)),
    ("zero_density", 2, (4, 8, 96)),
    ("zero_step", 2, (4, 16, 96)),
    ("zero_previous", 1, (4, 96, 96)),
    ("zero_trace", 1, (4, 96, 96)),
    ("zero_current", 1, (4, 96, 96)),
    ("sign_previous", 1, (4, 96, 96)),
    ("sign_current", 1, (4, 96, 96)),
    ("large", 2, (2, 4, 96)),
    ("large_score", 2, (2, 4, 20)),
    ("larger", 2, (12,)),
)


class Malformed(Exception):
    """The payload breaks a rule."""


def _nest(values: list[int], shape: tuple[int, ...]) -> list:  # type: ignore[type-arg]
    if len(shape) == 1:
        return values
    part = len(values) // shape[0]
    return [_nest(values[i * part : (i + 1) * part], shape[1:]) for i in range(shape[0])]


def read_tables(path: Path) -> dict[str, list]:  # type: ignore[type-arg]
    return read_arrays(path, b"TFTABLE1", SHAPES)


def read_arrays(path: Path, magic: bytes, shapes: Sequence[tuple[str, int, tuple[int, ...]]]) -> dict[str, list]:  # type: ignore[type-arg]
    content = path.read_bytes()
    assert content[:8] == magic
    tables, at = {}, 8
    for name, width, shape in shapes:
        count = 1
        for side in shape:
            count *= side
        values = [
            int.from_bytes(content[at + i * width : at + (i + 1) * width], "big", signed=True) for i in range(count)
        ]
        tables[name] = _nest(values, shape)
        at += count * width
    assert at == len(content)
    return tables


class Coder:
    """The range decoder."""

    def __init__(self, payload: bytes) -> None:
        if payload and payload[-1] == 0:
            raise Malformed("last byte is zero")
        self.payload = payload
        self.words = 0
        self.lower = 0
        self.range = 2**64 - 1
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        piece = self.payload[4 * self.words : 4 * self.words + 4]
        self.words += 1
        return int.from_bytes(piece + bytes(4 - len(piece)), "big")

    def bit(self, one: int) -> int:
        left, total = 2**24 - one, 2**24
        scale = self.range >> 24
        q = ((self.point - self.lower) % 2**64) // scale
        if q >= total:
            raise Malformed("no symbol")
        if q >= left:
            answer = 1
            self.lower = (self.lower + scale * left) % 2**64
            self.range = scale * one
        else:
            answer = 0
            self.range = scale * left
        if self.range < 2**32:
            self.lower = self.lower << 32 & (2**64 - 1)
            self.range <<= 32
            self.point = (self.point << 32 & (2**64 - 1)) + self.word()
        return answer

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + self.bit(2**23)
        return value


def sign_of(x: int) -> int:
    return (x > 0) - (x < 0)


def cap(level: int) -> int:
    return sign_of(level) * min(abs(level) + 1, 4) if level else 0


def bin_of(value: int, edges: tuple[int, ...]) -> int:
    return sum(value >= e for e in edges)


def log_of(trace: int) -> int:
    e = min(trace, 256)
    if e == 0:
        return 0
    bits = e.bit_length()
    after = e >> (bits - 2) & 1 if bits > 1 else 0
    return 2 * bits + after


class ReferenceDecoder:
    samples = SAMPLES

    def __init__(self, tables: dict[str, list]) -> None:  # type: ignore[type-arg]
        self.t = tables
        self.known = False

    def odds(self, score: int) -> int:
        return int(self.t["weight_of_one"][min(max(score + 320, 0), 639)])

    def reset(self, samples: list[int]) -> None:
        self.state = [(sum(f * x for f, x in zip(row, samples, strict=True)) + 8192) >> 14 for row in self.t["forward"]]
        self.began = False
        self.known = False

    def start_history(self) -> None:
        self.first = [0] * self.samples
        self.trend = [0] * self.samples
        self.trace = [4] * self.samples
        self.density = 48
        self.last_size = 6

    def decode(self, payload: bytes, frames: int) -> list[list[int]]:
        """[frames][96] samples."""
        coder = Coder(payload)
        if not self.began or coder.bit(2**24 // 32):
            self.start_history()
            self.step = coder.bits(6)
        elif not self.known:
            raise Malformed("contexts are lost")
        elif coder.bit(2**24 // 64):
            self.step = coder.bits(6)
        self.began = self.known = True
        out: list[list[int]] = []
        while len(out) < frames:
            size = 0
            for s in range(5, 0, -1):
                if SIZES[s] <= frames - len(out) and coder.bit(self.odds(self.t["group_split"][self.last_size][s])):
                    size = s
                    break
            out += self.group(coder, size)
        if len(payload) > 4 * coder.words:
            raise Malformed("bytes left over")
        return out

    def group(self, coder: Coder, size: int) -> list[list[int]]:
        t, n_frames = self.t, SIZES[size]
        rows: list[list[int]] = []
        previous, trend, trace = self.first, self.trend, self.trace
        for n in range(n_frames):
            kind = (0 if size == 0 else 1) if n == 0 else 2 if n == 1 else 3
            row = self.row(coder, kind, n_frames - 1 + n, previous, trend, trace)
            rows.append(row)
            previous = [cap(q) for q in row]
            trend = [8 * c for c in previous]
            trace = [e + ((64 * abs(c) - e) >> 1) for e, c in zip(trace, previous, strict=True)]
        # reconstruction
        offset = sum(s * s for s in SIZES[:size])
        step = t["steps"][self.step]
        frames = []
        for f in range(n_frames):
            state = []
            for k in range(self.samples):
                change = sum(t["temporal"][offset + n * n_frames + f] * rows[n][k] * step for n in range(n_frames))
                state.append(min(max(self.state[k] + ((change + 8192) >> 14), -131072), 131072))
            frames.append(state)
        self.state = frames[-1]
        # history
        self.first = [cap(q) for q in rows[0]]
        self.trend = [(g >> 1) + 8 * c for g, c in zip(self.trend, self.first, strict=True)]
        speed = (2, 4, 6, 10, 14, 16)[size]
        for k in range(self.samples):
            mean = 64 * sum(abs(cap(row[k])) for row in rows) // n_frames
            self.trace = [*self.trace[:k], self.trace[k] + ((mean - self.trace[k]) * speed >> 4), *self.trace[k + 1 :]]
        now = 16 * sum(q != 0 for row in rows for q in row) // n_frames
        self.density += ((now - self.density) * min(n_frames, 4)) // 4
        self.last_size = size
        return [self.output(state) for state in frames]

    def output(self, state: list[int]) -> list[int]:
        return [
            min(max((sum(w * c for w, c in zip(row, state, strict=True)) + 8192) >> 14, 0), 4080)
            for row in self.t["inverse"]
        ]

    def row(
        self, coder: Coder, kind: int, index: int, previous: list[int], trend: list[int], trace: list[int]
    ) -> list[int]:
        t = self.t
        recent = bin_of(sum(c != 0 for c in previous), (1, 2, 3, 5, 7, 10, 15))
        density = bin_of(self.density, (4, 16, 32, 56, 88, 136, 220))
        step = self.step // 4
        filled = t["filled_row"][index] + t["filled_recent"][kind][recent]
        filled += t["filled_density"][kind][density] + t["filled_step"][kind][step]
        row = [0] * self.samples
        if not coder.bit(self.odds(filled)):
            return row
        score, sign = [], []
        logs = [log_of(e) for e in trace]
        for k in range(self.samples):
            s = t["zero_row"][index][k] + t["zero_recent"][kind][recent][k]
            s += t["zero_density"][kind][density][k] + t["zero_step"][kind][step][k]
            s += sum(logs[j] * t["zero_trace"][kind][j][k] for j in range(self.samples))
            s += sum(abs(previous[j]) * t["zero_previous"][kind][j][k] for j in range(self.samples) if previous[j])
            score.append(s)
            sign.append(sum(trend[j] * t["sign_previous"][kind][j][k] for j in range(self.samples) if trend[j]) >> 3)
        for k in range(self.samples):
            if not coder.bit(self.odds(score[k])):
                continue
            negative = coder.bit(self.odds(-sign[k]))
            size = self.magnitude(coder, kind, k, score[k])
            row[k] = -size if negative else size
            for j in range(k + 1, self.samples):
                score[j] += abs(cap(row[k])) * t["zero_current"][kind][k][j]
                sign[j] += cap(row[k]) * t["sign_current"][kind][k][j]
        if not any(row):
            raise Malformed("empty row coded as filled")
        return row

    def magnitude(self, coder: Coder, kind: int, k: int, score: int) -> int:
        at = min(max(score + 320, 0), 639) // 32
        for i in range(2):
            if not coder.bit(self.odds(self.t["large"][i][kind][k] + self.t["large_score"][i][kind][at])):
                return i + 1
        for i in range(12):
            if not coder.bit(self.odds(self.t["larger"][i])):
                return i + 3
        zeros = 0
        while not coder.bit(2**23):
            zeros += 1
            if zeros == 15:
                raise Malformed("level out of range")
        return min(2**zeros + coder.bits(zeros) + 14, 32768)
