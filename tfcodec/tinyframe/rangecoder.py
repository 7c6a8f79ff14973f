"""Range coder for binary decisions with 24-bit weights.

The stream is what `constriction.stream.queue.RangeEncoder` writes for two-symbol `Categorical` models with integer
weights (a test compares them), coded here directly because the models change from decision to decision. Words are
big-endian; the tail is cut to the shortest byte string that still decodes when zeros follow it.
"""

from __future__ import annotations

import math

from tfcodec.errors import BitstreamError

PRECISION = 24
TOTAL = 1 << PRECISION
MASK64 = (1 << 64) - 1
MASK32 = (1 << 32) - 1
HALF = TOTAL // 2


class RangeEncoder:
    """Collects decisions; `one` is the weight of a 1 out of 2^24, strictly between 0 and 2^24."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._low = 0  # may carry one bit above 64: settled when a word leaves
        self._range = MASK64

    @property
    def bits(self) -> float:
        """Information of the decisions so far."""
        return 32.0 * len(self._words) + 64.0 - math.log2(self._range)

    def encode(self, bit: int, one: int) -> None:
        scale = self._range >> PRECISION
        zero = TOTAL - one
        if bit:
            self._low += scale * zero
            self._range = scale * one
        else:
            self._range = scale * zero
        if self._range <= MASK32:
            self._shift()

    def encode_bits(self, value: int, count: int) -> None:
        """`count` equally likely bits of `value`, highest first."""
        for position in range(count - 1, -1, -1):
            self.encode(value >> position & 1, HALF)

    def _shift(self) -> None:
        words = self._words
        words.append(self._low >> 32)
        position = len(words) - 1
        while words[position] > MASK32:  # the first word can never overflow: low + range <= 2^64 overall
            words[position] &= MASK32
            position -= 1
            words[position] += 1
        self._low = (self._low & MASK32) << 32
        self._range <<= 32

    def finish(self) -> bytes:
        """The shortest byte string whose zero-padded value lies inside the final interval."""
        low = 0
        for word in self._words:
            low = low << 32 | word
        low = (low << 64) + self._low
        high = low + self._range  # exclusive
        bits = 32 * len(self._words) + 64
        # bytes that can be dropped: start at the size of the interval and step back
        drop = max(0, (high - low).bit_length() // 8 + 1)
        while True:
            shift = min(8 * drop, bits)
            value = -(-low >> shift) << shift
            if value < high:
                return value.to_bytes(bits // 8, "big")[: (bits - shift) // 8].rstrip(b"\0")
            drop -= 1


class RangeDecoder:
    """Reads the decisions back; bytes past the end are zero."""

    def __init__(self, payload: bytes, name: str = "tiny-frame") -> None:
        self.name = name  # of the layer, for messages
        if payload.endswith(b"\0"):
            raise BitstreamError(f"{name} payload ends in a zero byte")
        self._bytes = len(payload)
        padded = payload + bytes(-len(payload) % 4)
        self._words = [int.from_bytes(padded[i : i + 4], "big") for i in range(0, len(padded), 4)]
        self._next = 2
        self._offset = self._word(0) << 32 | self._word(1)  # code value minus the interval's lower end
        self._range = MASK64

    def _word(self, index: int) -> int:
        return self._words[index] if index < len(self._words) else 0

    def decode(self, one: int) -> int:
        scale = self._range >> PRECISION
        split = scale * (TOTAL - one)
        if self._offset < split:
            bit = 0
            self._range = split
        else:
            self._offset -= split
            self._range = scale * one
            if self._offset >= self._range:
                raise BitstreamError(f"{self.name} payload holds no valid symbol")
            bit = 1
        if self._range <= MASK32:
            self._offset = self._offset << 32 | self._word(self._next)
            self._range <<= 32
            self._next += 1
        return bit

    def decode_bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.decode(HALF)
        return value

    def finish(self) -> None:
        """Check that the payload is no longer than what was read."""
        if self._bytes > 4 * self._next:
            raise BitstreamError(f"{self.name} payload has {self._bytes} bytes, {4 * self._next} at most were needed")
