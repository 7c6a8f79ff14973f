"""The compact pack: a training pack small enough to be carried to a GPU machine, in numbered parts.

    index.json      version; the parts with sizes and SHA-256; for each split its clips and keyframes
    part-00.tar     ordinary tar files, each of at most so many MiB
    part-01.tar     ...

Members of the parts: ``SPLIT/CLIP.mp4`` (H.264, no sound), ``SPLIT/keys-000.mp4`` (decoded keyframes, 256 to a file, as
near-lossless H.264: a machine with OpenCV alone cannot decode AV1), ``SPLIT/mel-000.npz`` and ``SPLIT/marks-000.npz``
(integers, differences along time, deflated).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from ..files import sha256, write_atomically

SIZE = 256
ROWS = SIZE * 3 // 2
"""Rows of a picture as I420: luma above, the two chroma planes below."""
KEYS_PER_FILE = 256
CHUNK = 8192
"""Frames of log-mel or landmarks per member."""
VERSION = 1

Bytes = NDArray[np.uint8]


def mel_to_bytes(mel: NDArray[Any]) -> Bytes:
    """Log-mel in -1 (silence) ... 1 as 0 ... 255: steps of 0.0078, error at most 0.004."""
    return np.asarray(np.rint((np.clip(mel.astype(np.float32), -1, 1) + 1) * 127.5), np.uint8)


def pack_integers(values: NDArray[Any]) -> bytes:
    """An array of integers as .npz: differences along the first axis (wrapping around), high and low bytes apart."""
    steps = np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))
    planes = np.moveaxis(steps.reshape(len(steps), -1).view(np.uint8).reshape(len(steps), -1, values.itemsize), 0, -1)
    out = io.BytesIO()
    np.savez_compressed(
        out, planes=np.ascontiguousarray(np.moveaxis(planes, 1, 0)), shape=np.array(values.shape),
        kind=np.array(values.dtype.str),
    )  # fmt: skip
    return out.getvalue()


def unpack_integers(data: bytes) -> NDArray[Any]:
    with np.load(io.BytesIO(data)) as file:
        planes, shape, kind = file["planes"], tuple(file["shape"]), np.dtype(str(file["kind"]))
    # [bytes of an integer, values of a row, rows] -> rows of integers
    steps = np.ascontiguousarray(planes.transpose(2, 1, 0)).view(kind).reshape(shape)
    return np.cumsum(steps, axis=0, dtype=kind)


class PartWriter:
    """Writes members into part files of at most ``limit`` bytes each."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.parts: list[dict[str, Any]] = []
        self._tar: tarfile.TarFile | None = None
        for old in folder.glob("part-*.tar*"):
            old.unlink()

    def _path(self) -> Path:
        return self.folder / f"part-{len(self.parts):02d}.tar"

    def add(self, name: str, data: bytes) -> None:
        # A member takes a header of 512 bytes and is padded to 512; the end takes up to 10240.
        needed = 1024 + len(data)
        if needed + 10240 > self.limit:
            raise MediaError(f"{name} has {len(data)} bytes: more than a part of {self.limit} bytes holds")
        if self._tar is not None and self._tar.offset + needed + 10240 > self.limit:
            self._close()
        if self._tar is None:
            self._tar = tarfile.open(self._path().with_suffix(".tar.partial"), "w")  # noqa: SIM115 - open for many
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def _close(self) -> None:
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        path = self._path()
        os.replace(path.with_suffix(".tar.partial"), path)
        self.parts.append({"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)})

    def finish(self, splits: dict[str, Any]) -> None:
        self._close()
        index = {"version": VERSION, "parts": self.parts, "splits": splits}
        write_atomically(self.folder / "index.json", json.dumps(index).encode())


def decode_video(data: bytes, name: str = "video") -> Bytes:
    """All pictures of a video file of 256x256 as I420 [T, 384, 256] uint8, by OpenCV alone.

    Raises MediaError when OpenCV cannot read it or the size is another.
    """
    pictures = []
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(data)
        file.flush()
        # One thread each: many clips are decoded at a time.
        capture = cv2.VideoCapture(file.name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        while True:
            found, picture = capture.read()
            if not found:
                break
            if picture.shape != (SIZE, SIZE, 3):
                raise MediaError(f"{name}: pictures of {picture.shape[1]}x{picture.shape[0]}, not {SIZE}x{SIZE}")
            pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420))
        capture.release()
    if not pictures:
        raise MediaError(f"{name}: OpenCV finds no pictures in it")
    return np.stack(pictures)


@dataclass
class CompactSplit:
    """What a compact pack says about one split, and its members; pictures still coded."""

    clips: list[tuple[str, int, int]]
    sums: list[int]
    keys: list[tuple[int, int, float]]
    members: dict[str, tuple[Path, int, int]]  # name -> part, offset, size

    def read(self, name: str) -> bytes:
        try:
            part, offset, size = self.members[name]
        except KeyError:
            raise MediaError(f"the pack's parts do not hold {name}") from None
        with part.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def integers(self, kind: str) -> NDArray[Any]:
        return np.concatenate([unpack_integers(self.read(n)) for n in sorted(self.members) if n.startswith(kind + "-")])

    def decode(self, put: Callable[[int, Bytes], None], threads: int, *, keys: bool = False) -> int:
        """Decode all clips (or keyframes), handing ``put`` the first picture's number and the pictures, in any order.

        ``put`` is called from several threads. Returns how many clips decode to other pixels than where the pack was
        made (another FFmpeg may round otherwise). Raises MediaError when one decodes to another number of pictures.
        """
        if keys:
            names = [(n, i * KEYS_PER_FILE) for i, n in enumerate(sorted(m for m in self.members if m[:5] == "keys-"))]
            jobs = [(n, start, min(KEYS_PER_FILE, len(self.keys) - start), -1) for n, start in names]
        else:
            jobs = [(*clip, expected) for clip, expected in zip(self.clips, self.sums, strict=True)]

        def work(job: tuple[str, int, int, int]) -> bool:
            name, start, count, expected = job
            pictures = decode_video(self.read(name), name)
            if len(pictures) != count:
                raise MediaError(f"{name}: OpenCV decodes {len(pictures)} pictures, the pack says {count}")
            put(start, pictures)
            return expected not in (-1, zlib.crc32(pictures.tobytes()))

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, jobs))


def open_compact(folder: Path, split: str) -> CompactSplit:
    """The split of a compact pack. Raises MediaError, saying what, when parts are missing or damaged."""
    try:
        index = json.loads((folder / "index.json").read_text())
        if index["version"] != VERSION:
            raise MediaError(f"{folder}: a pack of version {index['version']}, this is version {VERSION}")
        about = index["splits"][split]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{folder}: no training pack with a split {split!r} ({error})") from None
    members: dict[str, tuple[Path, int, int]] = {}
    for part in index["parts"]:
        path = folder / part["file"]
        if not path.is_file():
            raise MediaError(f"{folder}: {part['file']} is missing ({len(index['parts'])} parts in all)")
        if path.stat().st_size != part["bytes"] or sha256(path) != part["sha256"]:
            raise MediaError(f"{path}: damaged, its size or SHA-256 is not what index.json says")
        for name, offset, size in _members(path):
            if name.startswith(split + "/"):
                members[name.removeprefix(split + "/")] = (path, offset, size)
    return CompactSplit(
        [(str(a), int(b), int(c)) for a, b, c, _ in about["clips"]], [int(x[3]) for x in about["clips"]],
        [(int(a), int(b), float(c)) for a, b, c in about["keys"]], members,
    )  # fmt: skip


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    with tarfile.open(path) as tar:
        for info in tar:
            yield info.name, info.offset_data, info.size
