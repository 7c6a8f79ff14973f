"""Keyframes as a part of a stream: those that stand alone, and those that refer to the one before."""

from __future__ import annotations

from collections.abc import Iterable

from ...bitstream import InterKeyframeChunk, KeyframeChunk
from ...errors import BitstreamError
from ...keyframe import decode_inter_keyframe, decode_keyframe
from .layer import Frames

Chain = tuple[bytes, ...]
"""``data`` of a keyframe that stands alone and of those after it that were made one from another; empty: unknown."""


class ReferenceLostError(BitstreamError):
    """A keyframe refers to one that is not there."""


class KeyframeDecoder:
    """Decodes keyframes in stream order.

    Attributes:
        chain: what the next one may refer to.
    """

    def __init__(self, chain: Chain = ()) -> None:
        self.chain = chain

    def decode(self, chunk: KeyframeChunk) -> Frames:
        """The picture [256, 256, 3] uint8.

        Raises:
            ReferenceLostError: the keyframe that it refers to is not the last that was decoded.
            BitstreamError: it is damaged; the next may still refer to the last that was decoded.
        """
        if isinstance(chunk, InterKeyframeChunk):
            if not self.chain or not chunk.refers_to(self.chain[-1]):
                raise ReferenceLostError("the keyframe that it refers to is missing")
            picture, before = decode_inter_keyframe(chunk.data, self.chain), self.chain
        else:
            picture, before = decode_keyframe(chunk.data), ()
        self.chain = (*before, chunk.data)
        return picture


def decode_keyframes(chunks: Iterable[KeyframeChunk]) -> list[Frames]:
    """Pictures of all keyframes of a stream, in order. Raises BitstreamError."""
    decoder = KeyframeDecoder()
    return [decoder.decode(chunk) for chunk in chunks]


def chains(chunks: Iterable[KeyframeChunk]) -> list[Chain]:
    """For each keyframe of a stream, what it may refer to; nothing is decoded."""
    found: list[Chain] = []
    chain: Chain = ()
    for chunk in chunks:
        inter = isinstance(chunk, InterKeyframeChunk)
        found.append(chain if inter else ())
        chain = (*chain, chunk.data) if inter else (chunk.data,)
    return found
