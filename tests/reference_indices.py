"""Section 9.3 of the specification once more, in plain Python and from its text alone: packets to Lyra's indices."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "tfcodec" / "speech" / "indices.bin"
LAYOUT: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("gates", (256, 288)), ("gates_bias", (288,)), ("again", (288, 96)), ("again_bias", (288,)), ("last", (256, 96)),
    ("up", (96, 96)), ("start", (16, 96)), ("own", (256, 96)), ("out", (16, 16, 96)), ("bias", (16, 16)),
    ("fixed", (30, 16)), ("logistic", (2048,)), ("falling", (2048,)),
)  # fmt: skip
UNSIGNED = ("fixed", "logistic", "falling")


@cache
def tables() -> dict[str, Any]:
    data = FILE.read_bytes()
    assert data[:8] == b"TFLYRAT1"
    at, out = 8, {}

    def shaped(name: str, shape: tuple[int, ...]) -> Any:
        nonlocal at
        if not shape:
            at += 2
            return int.from_bytes(data[at - 2 : at], "big", signed=name not in UNSIGNED)
        return [shaped(name, shape[1:]) for _ in range(shape[0])]

    for name, shape in LAYOUT:
        out[name] = shaped(name, shape)
    assert at == len(data)
    return out


class Bits:
    """The range decoder of section 10."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.low, self.range = data, 8, 0, 2**64 - 1
        self.point = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def decode(self, one: int) -> int:
        scale = self.range >> 24
        q = ((self.point - self.low) % 2**64) // scale
        assert q < 2**24
        bit = int(q >= 2**24 - one)
        if bit:
            self.low, self.range = (self.low + scale * (2**24 - one)) % 2**64, scale * one
        else:
            self.range = scale * (2**24 - one)
        if self.range < 2**32:
            word = int.from_bytes(self.data[self.at : self.at + 4].ljust(4, b"\0"), "big")
            self.at += 4
            self.low, self.range = (self.low << 32) % 2**64, self.range << 32
            self.point = (self.point << 32) % 2**64 + word
        return bit

    def number(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + self.decode(2**23)
        return value


def decode(packet: bytes, quantisers: int, frames: int) -> list[list[int]]:
    """The indices of a packet, frame by frame."""
    t, bits = tables(), Bits(packet)
    plain = 0
    if not bits.decode(2**24 - 2**12):
        frames, plain = 256 - bits.number(8), bits.number(1)
    if plain:
        return [[bits.number(4) for _ in range(quantisers)] for _ in range(frames)]

    def logistic(x: int) -> int:
        return int(t["logistic"][min(max(x + 32768, 0), 65535) >> 5])

    def times(matrix: list[list[int]], vector: list[int]) -> list[int]:
        return [sum(a * b for a, b in zip(row, vector, strict=True)) >> 12 for row in matrix]

    out: list[list[int]] = []
    h = [0] * 96
    for _ in range(frames):
        rows = [16 * k + i for k, i in enumerate(out[-1][:16])] if out else []
        a = [bias + sum(t["gates"][r][n] for r in rows) for n, bias in enumerate(t["gates_bias"])]
        b = [x + bias for x, bias in zip(times(t["again"], h), t["again_bias"], strict=True)]
        for n in range(96):
            b[192 + n] = logistic(a[96 + n] + b[96 + n]) * b[192 + n] >> 12
        new = []
        for n in range(96):
            c = 2 * logistic(2 * (a[192 + n] + b[192 + n])) - 4096
            new.append(h[n] + (logistic(a[n] + b[n]) * (c - h[n]) >> 12))
        h = new
        s = [x + sum(t["last"][r][n] for r in rows) for n, x in enumerate(times(t["up"], h))]
        frame: list[int] = []
        for k in range(quantisers):
            if k < 16:
                y = [max(x + d, 0) for x, d in zip(s, t["start"][k], strict=True)]
                v = [x + bias for x, bias in zip(times(t["out"][k], y), t["bias"][k], strict=True)]
                w = [t["falling"][min(max(v) - x >> 5, 2047)] for x in v]
            else:
                w = t["fixed"][k - 16]
            lo, n = 0, 8
            while n:
                lower, upper = sum(w[lo : lo + n]), sum(w[lo + n : lo + 2 * n])
                lo += n * bits.decode(min(max(2**24 * upper // (lower + upper), 1), 2**24 - 1))
                n //= 2
            frame.append(lo)
            if k < 16:
                s = [x + d for x, d in zip(s, t["own"][16 * k + lo], strict=True)]
        out.append(frame)
    return out
