"""Whether a file is as long as it says, by a look at its outermost structure."""

from __future__ import annotations

import os
from typing import BinaryIO


def is_cut_short(file: BinaryIO, container: str) -> bool:
    """Whether the file ends within a box (MP4, MOV), the segment (Matroska, WebM) or the list (AVI, WAV) that it is in.

    ``container`` is FFmpeg's name of the format. Others do not say how long they are.
    """
    size = file.seek(0, os.SEEK_END)
    if "mov" in container:
        return _boxes(file, size)
    if "matroska" in container:
        return _segment(file, size)
    if container in ("avi", "wav"):
        file.seek(0)
        head = file.read(8)
        return len(head) == 8 and head[:4] == b"RIFF" and size + 1 < 8 + int.from_bytes(head[4:], "little") < 1 << 32
    return False


def _boxes(file: BinaryIO, size: int) -> bool:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return True
        length, begin = int.from_bytes(head[:4], "big"), 8
        if length == 0:  # to the end of the file
            return False
        if length == 1:
            length, begin = int.from_bytes(head[8:16], "big"), 16
        if length < begin:
            return False  # not a box; the demuxer knows better
        at += length
    return at > size


def _segment(file: BinaryIO, size: int) -> bool:
    at = 0
    for _ in range(8):
        file.seek(at)
        head = file.read(16)
        if len(head) < 5:
            return False
        identity = 9 - head[0].bit_length()
        first = head[identity] if identity < len(head) else 0
        width = 9 - first.bit_length()
        if not first or identity > 4 or identity + width > len(head):
            return False
        length = int.from_bytes(head[identity : identity + width], "big") & ((1 << (7 * width)) - 1)
        if length == (1 << (7 * width)) - 1:  # of unknown length, as a recorder writes it
            return False
        at += identity + width + length
        if head[:4] == b"\x18\x53\x80\x67":
            return at > size
    return False
