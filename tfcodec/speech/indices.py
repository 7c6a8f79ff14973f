"""Lyra's indices as bytes: 4-bit indices, range-coded with what a small recurrent network of integers expects.

A frame is 1 to 46 indices. Those of the first 16 quantisers depend on each other and on the frames before: the network
has a state that goes from frame to frame within a packet, and takes each index of a frame into account for the next.
The others are coded with fixed frequencies. No float decides anything: encoder and decoder agree on every machine. A
packet depends on no other.

The specification has the arithmetic (section 9.3), and the file's layout is :data:`LAYOUT`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfcodec.errors import BitstreamError, MediaError, TruncatedError, UnsupportedVersion, WeightsError
from tfcodec.tinyframe.rangecoder import TOTAL, RangeDecoder, RangeEncoder

IntArray = npt.NDArray[np.int64]
Indices = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

QUANTISERS = 46
VALUES = 16
FOLLOWED = 16
"""Quantisers whose indices the network expects; those behind have fixed frequencies."""
STATE, HIDDEN = 96, 96
MAX_FRAMES = 250
KEPT = 16
"""Beginnings of a frame's indices that the encoder follows at a time."""
FRACTION = 12  # bits of all weights and sums
UNIT = 1 << FRACTION
CURVE = 2048  # entries of the tables of the curves, one for 1/128
REACH = 8 << FRACTION  # sums beyond +-8 are on the flat ends of the logistic curve
ODD = 1 << 12
"""Weight, of 2^24, of a packet that is not coded as most are."""
TABLES_ID = 1
TABLES_SHA256 = "5b145528f9a8329037cf6f1cbe19bf7fb38040805a2152ea7cb9517c60cebf5f"
MAGIC = b"TFLYRAT1"
LAYOUT = (
    ("gates", ">i2", (FOLLOWED * VALUES, 3 * STATE)),
    ("gates_bias", ">i2", (3 * STATE,)),
    ("again", ">i2", (3 * STATE, STATE)),
    ("again_bias", ">i2", (3 * STATE,)),
    ("last", ">i2", (FOLLOWED * VALUES, HIDDEN)),
    ("up", ">i2", (HIDDEN, STATE)),
    ("start", ">i2", (FOLLOWED, HIDDEN)),
    ("own", ">i2", (FOLLOWED * VALUES, HIDDEN)),
    ("out", ">i2", (FOLLOWED, VALUES, HIDDEN)),
    ("bias", ">i2", (FOLLOWED, VALUES)),
    ("fixed", ">u2", (QUANTISERS - FOLLOWED, VALUES)),
    ("logistic", ">u2", (CURVE,)),
    ("falling", ">u2", (CURVE,)),
)
"""Name, type and shape of the file's arrays, in their order; weights in 1/4096.

`logistic`: 4096 times the logistic function at (i - 1024 + 0.5) / 128. `falling`: 65535 e^(-i / 128), at least 1.
"""


@dataclass(frozen=True, eq=False)
class Tables:
    """The file's arrays, as int64; see :data:`LAYOUT`."""

    gates: IntArray
    gates_bias: IntArray
    again: IntArray
    again_bias: IntArray
    last: IntArray
    up: IntArray
    start: IntArray
    own: IntArray
    out: IntArray
    bias: IntArray
    fixed: IntArray
    logistic: IntArray
    falling: IntArray


def content() -> bytes:
    """The file that comes with the package.

    Raises:
        WeightsError: it is missing, or is not the one this version was made with.
    """
    try:
        data = Path(__file__).with_name("indices.bin").read_bytes()
    except OSError as error:
        raise WeightsError(f"the tables of Lyra's indices cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != TABLES_SHA256:
        raise WeightsError("the tables of Lyra's indices are not the ones of this version")
    return data


@cache
def load_tables() -> Tables:
    """The tables that come with the package. Raises WeightsError; see :func:`content`."""
    return parse_tables(content())


def parse_tables(data: bytes) -> Tables:
    """A file's arrays. Raises WeightsError if it has another layout."""
    size = len(MAGIC) + sum(2 * int(np.prod(shape)) for _, _, shape in LAYOUT)
    if not data.startswith(MAGIC) or len(data) != size:
        raise WeightsError("not a file of tables of Lyra's indices")
    offset, arrays = len(MAGIC), {}
    for name, kind, shape in LAYOUT:
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(data, kind, count, offset).reshape(shape).astype(np.int64)
        offset += 2 * count
    return Tables(**arrays)


def write_tables(tables: Tables) -> bytes:
    """The inverse of :func:`parse_tables`."""
    assert [field.name for field in fields(Tables)] == [name for name, _, _ in LAYOUT]
    return MAGIC + b"".join(getattr(tables, name).astype(kind).tobytes() for name, kind, _ in LAYOUT)


def tables_hash() -> bytes:
    """What a stream names the tables by: the first 4 bytes of their SHA-256."""
    return bytes.fromhex(TABLES_SHA256[:8])


def check_tables(tables_id: int, named: bytes) -> None:
    """Raise UnsupportedVersion unless a stream's indices are coded with the tables of this package."""
    if (tables_id, named) != (TABLES_ID, tables_hash()):
        raise UnsupportedVersion(
            f"the speech needs Lyra tables {tables_id} ({named.hex()}); "
            f"this reader has {TABLES_ID} ({tables_hash().hex()}) [R70]"
        )


class Expectation:
    """What the network expects of a packet: ask :meth:`weights` for each index, then tell it by :meth:`take`."""

    def __init__(self, tables: Tables, quantisers: int) -> None:
        self._t = tables
        self._quantisers = quantisers
        self._state = np.zeros(STATE, np.int64)
        self._seen: list[int] = []  # of this frame
        self._sums = np.zeros(HIDDEN, np.int64)
        self._begin(None)

    def weights(self) -> list[int]:
        """16 positive weights of the next index's values."""
        at = len(self._seen)
        if at >= FOLLOWED:
            return self._t.fixed[at - FOLLOWED].tolist()
        hidden = np.maximum(self._sums + self._t.start[at], 0)
        scores = (self._t.out[at] @ hidden >> FRACTION) + self._t.bias[at]
        down = np.minimum(scores.max() - scores >> FRACTION - 7, CURVE - 1)
        return self._t.falling[down].tolist()

    @property
    def sums(self) -> IntArray:
        """What a frame's indices are expected by, before the first of them is known."""
        return self._sums

    def take(self, value: int) -> None:
        """Go on to the next index, this one being ``value``."""
        at = len(self._seen)
        self._seen.append(value)
        if at < FOLLOWED:
            self._sums = self._sums + self._t.own[VALUES * at + value]
        if at + 1 == self._quantisers:
            rows = [VALUES * k + v for k, v in enumerate(self._seen[:FOLLOWED])]
            self._seen = []
            self._begin(rows)

    def _begin(self, rows: list[int] | None) -> None:
        t = self._t
        said = np.zeros(3 * STATE, np.int64) if rows is None else t.gates[rows].sum(axis=0)
        said = said + t.gates_bias
        again = (t.again @ self._state >> FRACTION) + t.again_bias
        gate = self._logistic(said[: 2 * STATE] + again[: 2 * STATE])
        fresh, kept = gate[:STATE], gate[STATE:]
        change = said[2 * STATE :] + (kept * again[2 * STATE :] >> FRACTION)
        wanted = 2 * self._logistic(2 * change) - UNIT  # the hyperbolic tangent
        self._state = self._state + (fresh * (wanted - self._state) >> FRACTION)
        self._sums = t.up @ self._state >> FRACTION
        if rows is not None:
            self._sums = self._sums + t.last[rows].sum(axis=0)

    def _logistic(self, sums: IntArray) -> IntArray:
        return self._t.logistic[np.clip(sums + REACH, 0, 2 * REACH - 1) >> FRACTION - 8 + 1]


class IndexEncoder:
    """Indices of frames to packets.

    Args:
        quantisers: indices of a frame, 1 to 46.
        frames: of a packet, 1 to 250; one may hold fewer.
        tables: None: those that come with the package.
    """

    def __init__(self, quantisers: int, frames: int, tables: Tables | None = None) -> None:
        self.quantisers, self.frames = quantisers, frames
        self._tables = tables or load_tables()
        self._out = self._tables.out.astype(np.float32) / UNIT

    def encode(self, indices: npt.ArrayLike) -> bytes:
        """A packet of frames [n, quantisers], n from 1 to the packet's number.

        Raises:
            MediaError: another shape, or an index that is not 0 to 15.
        """
        values = np.asarray(indices)
        if values.ndim != 2 or values.shape[1] != self.quantisers or not 1 <= len(values) <= self.frames:
            raise MediaError(f"indices must be [1 to {self.frames}, {self.quantisers}], not {list(values.shape)}")
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= VALUES:
            raise MediaError("indices must be whole numbers from 0 to 15")
        followed = self._encode(values, plain=False)
        # What the network is far off with, such as music, must not grow beyond what the indices take as they are.
        if 2 * len(followed) <= values.size:
            return followed
        return min(self._encode(values, plain=True), followed, key=len)

    def find(self, features: npt.ArrayLike, codebooks: npt.ArrayLike, price: float) -> Indices:
        """The indices of a packet's frames, those of a frame together: for how near they come to the features, and for
        what they cost.

        Args:
            features: [n, width], what the indices stand for.
            codebooks: [quantisers or more, 16, width], what each index of each quantiser adds.
            price: squared distance that a bit is worth; 0: always the nearest, as Lyra does.

        Returns:
            [n, quantisers] uint8. Decoders need not agree on how they were found.
        """
        expectation = Expectation(self._tables, self.quantisers)
        books, wanted = np.asarray(codebooks, np.float32), np.asarray(features, np.float32)
        found = np.zeros((len(wanted), self.quantisers), np.uint8)
        for frame, row in zip(wanted, found, strict=True):
            row[:] = self._best(frame, books, price, expectation)
            for value in row.tolist():
                expectation.take(value)
        return found

    def _best(self, wanted: Floats, books: Floats, price: float, expectation: Expectation) -> Indices:
        """A frame's indices: after each quantiser the `KEPT` beginnings that cost least go on."""
        paths, sums = np.zeros((1, 0), np.uint8), expectation.sums[None]
        left, bits = wanted[None], np.zeros(1, np.float32)
        for at in range(self.quantisers):
            far = np.square(left).sum(1, keepdims=True) - 2 * left @ books[at].T + np.square(books[at]).sum(1)
            spent = bits[:, None] + self._bits(sums, at)
            best = np.argsort((far + price * spent).ravel(), kind="stable")[: KEPT if price else 1]
            before, value = np.divmod(best, VALUES)
            left, bits = left[before] - books[at, value], spent.ravel()[best]
            paths = np.column_stack([paths[before], value.astype(np.uint8)])
            sums = sums[before] + (self._tables.own[VALUES * at + value] if at < FOLLOWED else 0)
        return np.asarray(paths[0])

    def _bits(self, sums: IntArray, at: int) -> Floats:
        """Bits of each value of index ``at``, [n, 16], after ``sums`` [n, HIDDEN]: about, which does for choosing."""
        if at >= FOLLOWED:
            weights = self._tables.fixed[None, at - FOLLOWED].astype(np.float32)
        else:
            hidden = np.maximum(sums + self._tables.start[at], 0).astype(np.float32)
            scores = (hidden @ self._out[at].T + self._tables.bias[at]) / np.float32(UNIT)
            weights = np.exp(np.maximum(scores - scores.max(1, keepdims=True), -CURVE / 128))
        return np.asarray(np.log2(weights.sum(1, keepdims=True)) - np.log2(weights), np.float32)

    def _encode(self, values: npt.NDArray[np.generic], *, plain: bool) -> bytes:
        coder = RangeEncoder()
        # A packet of no bytes would be a missing one: what comes first is never all zeros.
        usual = not plain and len(values) == self.frames
        coder.encode(int(usual), TOTAL - ODD)
        if not usual:
            coder.encode_bits(256 - len(values), 8)
            coder.encode_bits(int(plain), 1)
        expectation = Expectation(self._tables, self.quantisers)
        for value in values.ravel().tolist():
            if plain:
                coder.encode_bits(value, 4)
                continue
            weights = expectation.weights()
            for bit, one in decisions(weights, value):
                coder.encode(bit, one)
            expectation.take(value)
        return coder.finish()


class IndexDecoder:
    """Packets to indices of frames.

    Args:
        quantisers, frames, tables: as the encoder's.
    """

    def __init__(self, quantisers: int, frames: int, tables: Tables | None = None) -> None:
        self.quantisers, self.frames = quantisers, frames
        self._tables = tables or load_tables()

    def decode(self, packet: bytes) -> Indices:
        """A packet's frames [n, quantisers] uint8.

        Raises:
            BitstreamError: the packet is empty (TruncatedError), or no encoder makes it.
        """
        if not packet:
            raise TruncatedError("speech: empty packet")
        coder = RangeDecoder(packet, "speech")
        plain, count = 0, self.frames
        if not coder.decode(TOTAL - ODD):
            count, plain = 256 - coder.decode_bits(8), coder.decode_bits(1)
            if count > self.frames or (count == self.frames and not plain):
                raise BitstreamError(f"speech: packet of {count} frames among packets of {self.frames} [R71]")
        expectation = Expectation(self._tables, self.quantisers)
        out = []
        for _ in range(count * self.quantisers):
            if plain:
                out.append(coder.decode_bits(4))
                continue
            out.append(_decode(coder, expectation.weights()))
            expectation.take(out[-1])
        coder.finish()
        return np.array(out, np.uint8).reshape(count, self.quantisers)


def decisions(weights: list[int], value: int) -> list[tuple[int, int]]:
    """The four decisions that lead to a value, highest bit first, each with the weight of a 1 out of 2^24."""
    out, low, size = [], 0, VALUES
    while size > 1:
        size //= 2
        one = _one(weights, low, size)
        bit = int(value >= low + size)
        out.append((bit, one))
        low += size * bit
    return out


def _decode(coder: RangeDecoder, weights: list[int]) -> int:
    low, size = 0, VALUES
    while size > 1:
        size //= 2
        low += size * coder.decode(_one(weights, low, size))
    return low


def _one(weights: list[int], low: int, size: int) -> int:
    lower, upper = sum(weights[low : low + size]), sum(weights[low + size : low + 2 * size])
    return min(max(TOTAL * upper // (lower + upper), 1), TOTAL - 1)
