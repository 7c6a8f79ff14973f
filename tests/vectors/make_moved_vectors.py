"""Writes `moved/`: ``python tests/vectors/make_moved_vectors.py``.

Whole files of which every part can be decoded: keyframes of `keyframe_chain.json`, motion, and tiny frames coded from
the moved keyframe and from the one that stands still. `samples.json` says what a decoder gives: the SHA-256 of all
samples (16-bit big-endian, 96 a frame) by the second decoder. The files are to stay as they are: they are made again
only if the format changes, since other versions of the encoders give other bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfcodec import bitstream as bs
from tfcodec.keyframe import decode_inter_keyframe, decode_keyframe
from tfcodec.motion import MOTION_ID, NUMBERS, MotionEncoder, motion_hash
from tfcodec.tinyframe import Move, MovedKeyframe, TinyEncoder, TinyPlanes, restored, tiny_from_frames, without

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import reference_container  # noqa: E402
import reference_decoder  # noqa: E402
import reference_numbers  # noqa: E402
from reference_moved import ReferenceMoved, ReferenceStream  # noqa: E402

PACKAGE = HERE.parents[1] / "tfcodec"
CHAIN = [bytes.fromhex(row["data"]) for row in json.loads((HERE / "keyframe_chain.json").read_text(encoding="utf-8"))]
Picture = NDArray[np.uint8]
Pieces = Sequence[tuple[int, Move | None]]
"""Chunks of tiny frames: how many each has, and how the keyframe is moved for them."""


def pictures(count: int) -> list[Picture]:
    """The first keyframes of the chain."""
    return [decode_keyframe(CHAIN[0]), *(decode_inter_keyframe(CHAIN[i], CHAIN[:i]) for i in range(1, count))]


def numbers(frames: int, seed: int, size: int) -> NDArray[np.float64]:
    """A head that sways and nods: [frames, 16], whole numbers."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-size, size + 1, (frames, NUMBERS)) // np.array([8, 8, 1, 1] + [4] * 12)
    return np.asarray(np.clip(np.cumsum(steps, axis=0), -32767, 32767), np.float64)


class Writer:
    """A stream without speech, chunk by chunk."""

    def __init__(self) -> None:
        self.chunks: list[bs.Chunk] = [bs.MotionTablesChunk(MOTION_ID, motion_hash())]
        self.frames, self.tag = 0, -1
        self._tiny, self._motion = TinyEncoder(8), MotionEncoder()

    def group(self, data: bytes, picture: Picture, motion: NDArray[np.float64], there: Sequence[bool], pieces: Pieces,
              *, runs: Sequence[int]) -> None:  # fmt: skip
        """A keyframe and its frames; ``runs``: how many frames each MOTION chunk has, which ends with a piece."""
        self.tag += 1
        chunk = bs.KeyframeChunk(0, data) if self.tag == 0 else bs.InterKeyframeChunk.after(
            CHAIN[self.tag - 1], self.frames, data, self.tag
        )  # fmt: skip
        self.chunks.append(chunk)
        still = tiny_from_frames(picture[None])
        self._tiny.reset(still)
        self._motion.reset()
        moved, rng = MovedKeyframe(picture), np.random.default_rng(self.tag)
        wander = np.cumsum(rng.integers(-60, 61, (len(motion), 96)), axis=0)
        at, left, said = 0, list(runs), np.zeros((0, NUMBERS + 1), np.int32)
        for count, move in pieces:
            if at == len(said):
                run = left.pop(0)
                payload = self._motion.encode(motion[at : at + run], np.array(there[at : at + run]))
                self.chunks.append(bs.MotionChunk(self.frames, run, payload, self.tag))
                values, present = self._motion.reconstruction
                said = np.concatenate((said, np.concatenate((values, present[:, None]), 1).astype(np.int32)))
            how = move or Move(48, 128, 130, 52)
            goes = moved.planes(how, said[at : at + count])
            wanted = TinyPlanes.from_samples(goes.samples() + wander[at : at + count])
            if move is None:
                self.chunks.append(bs.TinyChunk(self.frames, count, self._tiny.encode(wanted), self.tag))
            else:
                payload = self._tiny.encode(without(wanted, goes, still))
                where = (move.shape, move.x, move.y, move.distance)
                self.chunks.append(bs.MovedTinyChunk(self.frames, count, payload, self.tag, *where))
                error = np.abs(restored(self._tiny.reconstruction, goes, still).samples() - wanted.samples())
                print(count, move, len(payload), "bytes, at most", int(error.max()), "off")
            at, self.frames = at + count, self.frames + count

    @property
    def data(self) -> bytes:
        chunks = [bs.StreamHeader(self.frames), *self.chunks]
        return bs.write_signature() + b"".join(chunk.to_bytes() for chunk in chunks)


def in_turn() -> bytes:
    """One keyframe; TINY and TINY_MOVED in turn, over two MOTION chunks; no face in some frames."""
    out, there = Writer(), [t not in (6, 7, 15) for t in range(20)]
    near, far = Move(53, 128, 132, 52), Move(112, 120, 140, 60)
    pieces = [(3, near), (3, None), (6, near), (2, None), (4, far), (2, far)]
    out.group(CHAIN[0], pictures(1)[0], numbers(20, 1, 60), there, pieces, runs=[14, 6])
    return out.data


def two_keyframes() -> bytes:
    """A keyframe and one that refers to it, moved from their first frame on."""
    out, both = Writer(), pictures(2)
    for i, shape in enumerate((48, 86)):
        move = Move(shape, 128 + 6 * i, 130 - 9 * i, 52)
        out.group(CHAIN[i], both[i], numbers(9, 2 + i, 60), [True] * 9, [(5, move), (4, move)], runs=[9])
    return out.data


def wild() -> bytes:
    """Motion without bounds, and faces at the ends of their ranges: whatever is limited has to be."""
    out = Writer()
    places = [(0, 0, 0, 255), (127, 255, 255, 255), (15, 255, 0, 1), (96, 0, 255, 200), (64, 128, 128, 255)]
    pieces = [(2, Move(*place)) for place in places]
    out.group(CHAIN[0], pictures(1)[0], numbers(10, 5, 30000), [True] * 10, pieces, runs=[4, 6])
    return out.data


def samples(data: bytes, keyframes: list[Picture]) -> list[list[int]]:
    """All samples of a file, by the second decoder."""
    reference = ReferenceStream(
        reference_decoder.read_tables(PACKAGE / "tinyframe/tables.bin"),
        reference_numbers.read_motion_tables(PACKAGE / "motion/tables.bin"),
        [ReferenceMoved(picture.tolist()) for picture in keyframes],
    )
    for chunk in reference_container.read(data):
        reference.read(chunk)
    return reference.frames


def main() -> None:
    (HERE / "moved").mkdir(exist_ok=True)
    rows: dict[str, Any] = {}
    for make, count in ((in_turn, 1), (two_keyframes, 2), (wild, 1)):
        data, name = make(), make.__name__
        (HERE / f"moved/{name}.tfc").write_bytes(data)
        decoded = samples(data, pictures(count))
        digest = hashlib.sha256(np.array(decoded, ">i2").tobytes()).hexdigest()
        rows[name] = {"what": make.__doc__, "frames": len(decoded), "samples_sha256": digest}
        print(name, len(data))
    (HERE / "moved/samples.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
