"""A second reader of chains of keyframes, in strings of bits, written from section 8.4 of bitstream_spec.md.

It makes what an AV1 decoder is to be given, and shares no code with the package.
"""

from __future__ import annotations

CONSTANT = bytes.fromhex("181DFFFFD32020203080")


class Refused(ValueError):
    """The data break a rule."""


def bits_of(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


def whole(bits: str) -> bytes:
    assert len(bits) % 8 == 0, "a header that does not change by whole bytes"
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def unit(header: int, payload: bytes) -> bytes:
    length, digits = len(payload), []
    while length >= 128:
        digits.append(128 + length % 128)
        length //= 128
    return bytes([header, *digits, length]) + payload


def keyframe(data: bytes) -> tuple[bytes, bytes]:
    """Section 8.1: sequence header and frame."""
    if data[0] == 0x0A:
        end = 2 + data[1]
        return data[2:end], data[end + 1 :]
    return CONSTANT, data[1:]


def chain_sequence(still: bytes, tools: int) -> bytes:
    s = bits_of(still)
    width = 1 + int(s[10:14], 2)
    height = 1 + int(s[14:18], 2)
    at = 18 + width + height
    same, rest = s[at : at + 3], s[at + 3 : at + 38]
    bits = "000" + "0" + "0" + "0" + "0" + "00000" + "000000000000" + "00000"
    bits += "0111" + "1000" + "11111111" + "011111111" + "0" + same
    bits += f"{tools:08b}"[:4] + "1" + f"{tools:08b}"[4] + "0" + "1" + "1" + "001" + rest + "1"
    return whole(bits.ljust(112, "0"))


def shown_frame(frame: bytes) -> bytes:
    f = bits_of(frame)
    screen = f[1] == "1"
    first = 3 if screen else 2
    second = first + (33 if f[first] == "1" else 1) + screen
    return whole("0" + "00" + "1" + f[:first] + "0" + "00" + f[first:second] + "1" + f[second:])


def switch_prefix(n: int) -> bytes:
    now, before = f"{n % 4:02b}", f"{(n - 1) % 4:02b}"
    return whole("0" + "11" + "1" + "0" + "0" + now + 8 * before + "0" + 7 * "000" + "11111111" + "011111111" + "0")


def packets(chain: list[bytes]) -> list[bytes]:
    """What the AV1 decoder is given for a chain of `data`. Raises Refused."""
    if len(chain) > 8:
        raise Refused("R67")
    still, frame = keyframe(chain[0])
    if len(chain) == 1:
        return [b"\x12\x00" + unit(0x0A, still) + unit(0x32, frame)]
    for data in chain[1:]:
        if len(data) < 2 or data[0] & 7 or data[0] != chain[1][0]:
            raise Refused("R68")
    first = unit(0x0A, chain_sequence(still, chain[1][0])) + unit(0x32, shown_frame(frame))
    later = [unit(0x32, switch_prefix(n) + data[1:]) for n, data in enumerate(chain) if n]
    return [b"\x12\x00" + part for part in (first, *later)]
