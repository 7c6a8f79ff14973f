"""Where the bytes of a file go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tfcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from tfcodec.bitstream.parts import ACCOUNTS, BY_CLASS, Chunk
from tfcodec.bitstream.stream import ParsedStream, read_stream


def account_chunk(chunk: Chunk) -> dict[str, int]:
    """Bytes of one chunk by purpose, and their ``total``; see `account_bytes`."""
    return _account([chunk], len(chunk.to_bytes()))


def account_bytes(
    data: bytes, *, errors: Literal["raise", "conceal"] = "raise", limits: Limits = DEFAULT_LIMITS
) -> dict[str, int]:
    """Bytes of a file by purpose; the parts add up to ``total``, which is ``len(data)``.

    ``keyframe`` is the pictures' data, ``motion``, ``tiny`` and ``displacement`` the payloads of these layers,
    ``audio`` all of the SPEECH chunks and the audio fields of HEADER and END, and ``container`` everything else:
    signature, framing, checksums, indices, metadata and, with ``errors="conceal"``, damaged bytes. Raises what
    `read_stream` raises.
    """
    return account_stream(read_stream(data, errors=errors, limits=limits), len(data))


def account_stream(stream: ParsedStream, total: int) -> dict[str, int]:
    """`account_bytes` of a file of ``total`` bytes that has been read already."""
    return _account(stream.chunks, total)


def _account(chunks: Iterable[Chunk], total: int) -> dict[str, int]:
    media = dict.fromkeys(ACCOUNTS, 0)
    for chunk in chunks:
        part = BY_CLASS.get(type(chunk))
        if part is not None and part.account in media:
            media[part.account] += part.count(chunk)
    return {"container": total - sum(media.values()), **media, "total": total}
