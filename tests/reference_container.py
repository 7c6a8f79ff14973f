"""A second reader of the container, written from `bitstream_spec.md` alone and sharing no code with the package.

It is slow, strict and short, and only says what a file holds or that it must be refused (with the number of a
broken rule).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

KNOWN = (0xC1, 0xC2, 0xC3, 0x84, 0x85, 0xC6, 0x07, 0x08, 0x09, 0x8A, 0x8B, 0xCC, 0x0D, 0x0E, 0x8F)


class RefusedError(Exception):
    """The file is not valid."""


def require(condition: bool, rule: int) -> None:
    if not condition:
        raise RefusedError(rule)


def crc(data: bytes, *, long: bool) -> int:
    """Section 4, bit by bit."""
    register, width = (0xFFFFFFFF, 32) if long else (0xFFFF, 16)
    for byte in data:
        if long:
            register ^= byte
            for _ in range(8):
                register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
        else:
            register ^= byte << 8
            for _ in range(8):
                register = (register << 1 ^ (0x1021 if register >> 15 else 0)) & 0xFFFF
    return register ^ 0xFFFFFFFF if width == 32 else register


class Fields:
    """Section 2: what is left of a payload."""

    def __init__(self, data: bytes, rule_at_end: int) -> None:
        self.data = data
        self.rule_at_end = rule_at_end

    def take(self, count: int) -> bytes:
        require(count <= len(self.data), self.rule_at_end)
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def u8(self) -> int:
        return self.take(1)[0]

    def v(self) -> int:
        digits = [self.u8()]
        while digits[-1] & 0x80:
            require(len(digits) < 5, 4)
            digits.append(self.u8())
        require(digits[0] != 0x80, 3)
        value = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(reversed(digits)))
        require(value < 2**32, 4)
        return value

    def sv(self) -> int:
        value = self.v()
        return -(value + 1) // 2 if value % 2 else value // 2

    def end(self) -> None:
        require(not self.data, 11)


def limit(number: int) -> int:
    return {1: 256, 6: 256, 10: 256, 13: 256, 2: 1_048_576 + 16, 3: 1_048_576 + 16}.get(number, 65_536)


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Section 4: (type, payload) of each chunk."""
    while data:
        start = Fields(data, 7)
        kind = start.u8()
        require(kind % 64 != 0, 2)
        length = start.v()
        require(length > 0, 5)
        require(length <= (limit(kind % 64) if kind in (0xC1, 0xC2, 0xC3, 0xC6, 0x8A, 0x0D) else 65_536), 6)
        payload = start.take(length)
        covered = data[: len(data) - len(start.data)]
        checksum = start.take(4 if kind & 0x40 else 2)
        require(crc(covered, long=bool(kind & 0x40)) == int.from_bytes(checksum, "big"), 8)
        data = start.data
        yield kind, payload


def read_header(f: Fields) -> dict[str, Any]:
    """Section 6.1."""
    version, minimum = divmod(f.u8(), 16)
    require(1 <= minimum <= version, 13)
    require(minimum == 1, 14)
    flags = f.u8()
    require(flags & 0b11111000 == 0, 15)
    require(not flags & 1, 16)
    rate = (25, 1)
    if flags & 2:
        rate = (f.v(), f.v())
        require(min(rate) > 0 and math.gcd(*rate) == 1 and rate != (25, 1), 17)
        require(rate[1] <= rate[0] <= 120 * rate[1], 21)
    frames = f.v()
    require(frames <= 1_080_000 and frames * rate[1] <= 43_200 * rate[0], 21)
    model, digest, tables = f.v(), f.take(4), f.v()
    require(model > 0 or digest == bytes(4), 18)
    audio = None
    if flags & 4:
        codec, duration = f.u8(), f.u8()
        require(codec in (1, 2, 3), 19)
        mode = f.u8() if codec > 1 else 0
        if codec == 3:
            f.v()
            f.take(4)
        # samples of a frame of the codec, at 48 kHz
        frame = {1: 120, 2: {32: 960, 24: 960, 16: 1920, 14: 1920, 13: 1920, 12: 1920}.get(mode, 0), 3: 960}[codec]
        require(frame > 0 and (codec != 3 or 1 <= mode <= 46), 19)
        require(duration in (8, 16, 24, 32, 40, 48) or (codec > 1 and 1 <= duration <= 250), 20)
        require(codec == 1 or frame * duration <= 240_000, 20)
        skip, total = f.v(), f.v()
        require((total == 0) == (frames == 0), 20)
        require(skip + total <= 43_200 * 48_000, 21)
        audio = (frame * duration, skip, total)
    if version == 1:
        f.end()
    return {"frames": frames, "rate": rate, "model": (model, digest), "tables": tables, "audio": audio}


def read_speech(f: Fields) -> tuple[int, list[bytes]]:
    """Section 6.5."""
    first, (count, shared) = f.v(), divmod(f.v(), 2)
    require(1 <= count <= len(f.data) + 1, 30)
    if shared:
        require(len(f.data) > 0 and len(f.data) % count == 0, 30)
        lengths = [len(f.data) // count] * count
    else:
        lengths = [f.v() for _ in range(count - 1)]
        require(sum(lengths) <= len(f.data), 30)
        lengths.append(len(f.data) - sum(lengths))
        require(lengths[0] == 0 or len(set(lengths)) > 1, 30)
    require(max(lengths) <= 4_000, 6)
    return first, [f.take(length) for length in lengths]


def read_move(f: Fields) -> tuple[int, int, int, int]:
    """Section 6.15: shape, x, y, distance."""
    f.rule_at_end = 78
    shape, x, y, distance = f.u8(), f.u8(), f.u8(), f.u8()
    require(shape <= 127 and distance >= 1, 78)
    return shape, x, y, distance


def check_meta(f: Fields) -> None:
    """Section 6.7."""
    while f.data:
        tag, item = f.u8(), Fields(f.take(f.v()), 10)
        if tag == 1:
            _, width, height, _, _, side = item.v(), item.v(), item.v(), item.sv(), item.sv(), item.v()
            item.end()
            require(width * height * side > 0, 37)
        elif tag == 2:
            try:
                item.take(item.v()).decode()
                item.data.decode()
            except UnicodeDecodeError:
                raise RefusedError(37) from None


def read(data: bytes) -> list[tuple[Any, ...]]:
    """Sections 5 to 7: the chunks of a file. Raises RefusedError."""
    require(data[:4] == bytes.fromhex("C6540D0A"), 1)
    result: list[tuple[Any, ...]] = []
    header: dict[str, Any] = {}
    last, chain = b"", 0  # `data` of the keyframe before, and how many there are in its chain
    tables, moved = b"", 0  # payload of MOTION_TABLES, frames whose motion is known
    shifts, shifted = b"", 0  # the same of DISPLACEMENT_TABLES
    first_header, frame, packet, key, tag, fresh, done, ancillary = b"", 0, 0, -1, 3, False, False, 0
    for kind, payload in split(data[4:]):
        require(not done, 36)
        number = kind % 64 if kind in KNOWN else 0
        require(number > 0 or kind < 0x80, 9)
        f = Fields(payload, 10)
        if number == 1:
            found = read_header(f)
            require(not header or payload == first_header, 22)
            header, first_header = found, payload
            result.append(("header", *header.values()))
        require(bool(header), 12)
        require(number not in (3, 9), 31)
        if number in (2, 12):
            place, turn = divmod(f.v(), 4)
            reference = f.take(2) if number == 12 else b""
            require(bool(f.data), 10)
            require(place == frame and place != key, 24)
            require(turn == (tag + 1) % 4, 25)
            require(place < (header["frames"] or 1_080_000), 32)
            require(moved <= frame, 65)
            require(shifted <= frame, 76)
            if number == 12:
                require(key >= 0 and int.from_bytes(reference, "big") == crc(last, long=False), 66)
                require(chain < 8, 67)
            key, tag, fresh, last = place, turn, True, f.data
            chain = chain + 1 if number == 12 else 1
            result.append(("keyframe", place, turn, f.data, *([reference] if number == 12 else [])))
        elif number in (4, 15):
            require(number == 4 or bool(tables), 77)
            require(key >= 0, 23)
            place, turn = divmod(f.v(), 4)
            count = f.v() + 1
            require(count <= 128, 27)
            require(place == frame, 26)
            require(turn == tag, 25)
            how = read_move(f) if number == 15 else ()
            frame += count
            require(frame <= (header["frames"] or 1_080_000), 32)
            require(not tables or frame <= moved, 65)
            require(frame * header["rate"][1] <= 43_200 * header["rate"][0], 21)
            fresh = False
            result.append(("tiny" if number == 4 else "tiny moved", place, count, turn, f.data, *how))
        elif number == 5:
            first, packets = read_speech(f)
            require(header["audio"] is not None, 28)
            require(first == packet, 29)
            packet += len(packets)
            size, skip, total = header["audio"]
            require(packet <= -(-(skip + (total or 43_200 * 48_000)) // size), 32)
            result.append(("speech", first, *packets))
        elif number == 6:
            count, samples = f.v(), f.v() if f.data else None
            f.end()
            require((samples is None) == (header["audio"] is None), 34)
            require(header["frames"] == 0 and count == frame, 34)
            require(frame > 0 and not fresh, 35)
            require(moved <= frame, 65)
            require(shifted <= frame, 76)
            if samples is not None:
                size, skip, _ = header["audio"]
                require(packet == -(-(skip + samples) // size), 34)
            done = True
            result.append(("end", count, samples))
        elif number == 10:
            found_tables = (f.v(), f.take(4))
            f.end()
            require(not tables or payload == tables, 61)
            require(bool(tables) or key < 0, 61)
            tables = payload
            result.append(("motion tables", *found_tables))
        elif number == 13:
            found_tables = (f.v(), f.take(4))
            f.end()
            require(not shifts or payload == shifts, 72)
            require(bool(shifts) or key < 0, 72)
            shifts = payload
            result.append(("displacement tables", *found_tables))
        elif number in (11, 14):
            require(bool(tables if number == 11 else shifts), 63 if number == 11 else 74)
            require(key >= 0, 23)
            place, turn = divmod(f.v(), 4)
            count = f.v() + 1
            require(count <= 128, 27)
            require(place == frame and place >= (moved if number == 11 else shifted), 64 if number == 11 else 75)
            require(turn == tag, 25)
            reached = frame + count
            require(reached <= (header["frames"] or 1_080_000), 32)
            require(reached * header["rate"][1] <= 43_200 * header["rate"][0], 21)
            moved, shifted = (reached, shifted) if number == 11 else (moved, reached)
            result.append(("motion" if number == 11 else "displacement", place, count, turn, f.data))
        elif number != 1:
            ancillary += 1
            require(ancillary <= 1_000, 38)
            if number == 7:
                check_meta(f)
        if header["frames"]:
            size, skip, total = header["audio"] or (1, 0, 0)
            done = frame == header["frames"] and packet == -(-(skip + total) // size)
    require(done, 33)
    return result
