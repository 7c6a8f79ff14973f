"""Which keyframe, tiny-frame and motion quality give the best picture for the bits? Answered on `train`.

    python -m benchmarks.search.ladder_search

Codes 5 clips of `train` by combinations about the ladder's, draws five frames of each from the written stream, and
keeps those combinations that no other beats in bits and LPIPS. The ladder in `tfcodec/codec/policy.py` was set by hand
from the result (LPIPS, and PSNR not to be lost). Tried with earlier networks, and of no use: fresh keyframes at fixed
intervals, and half the tiny-frame rate. Tiny frames are box means here; what refined ones bring is `refine_search`'s
question.
"""

from __future__ import annotations

import argparse
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import clip_list, data_folder, environment, write
from tfcodec.bench.analysis import on_hull
from tfcodec.codec import policy
from tfcodec.codec.file.decoder import probe_bytes, read_exact, render_exact
from tfcodec.codec.file.encoder import FileEncoder, finish_file
from tfcodec.codec.options import EncodeOptions
from tfcodec.codec.parts import stream as encoding
from tfcodec.codec.parts.layer import NEVER
from tfcodec.codec.parts.motion import MotionLayerEncoder
from tfcodec.codec.parts.tiny import TinyLayerEncoder
from tfcodec.keyframe import encode_keyframe
from tfcodec.media import open_source
from tfcodec.metrics.lpips import LPIPS
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model
from tfcodec.model.tracking import default_tracker
from tfcodec.motion import MotionEncoder
from tfcodec.tinyframe import TinyEncoder

CLIPS, LOOKS = 5, 5
LEAST_SECONDS, MOST_FRAMES = 4.5, 128
TRIES = (
    *((key, tiny, 5) for key in (3.98, 5.0) for tiny in (0, 1, 2, 3, 5)), (3.98, 1, 3), (3.98, 3, 3),
    (1.4, 0, 2), (1.4, 2, 2), (6.5, 2, 5), (6.5, 5, 7), (9.0, 4, 7), (9.0, 7, 8),
)  # fmt: skip
"""Keyframe, tiny-frame and motion quality."""


class Tracked(MotionLayerEncoder):
    """Follows the face of each clip once."""

    def __init__(self, quality: int, seen: dict[bytes, Any]) -> None:
        super().__init__(MotionEncoder(quality, "file", refresh=NEVER), default_tracker(), "file", "cpu")
        self._seen = seen

    def _track(self, frames: NDArray[np.uint8]) -> Any:
        name = hashlib.sha256(frames.tobytes()).digest()
        if name not in self._seen:
            self._seen[name] = super()._track(frames)
        return self._seen[name]


def choose_clips() -> list[Path]:
    """Clips of `train`, evenly out of the list of those that are long enough, each of another person."""
    lines = (data_folder() / "manifest.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=False)) for line in lines[1:]]
    people: dict[str, str] = {}
    for row in rows:
        if row["split"] == "train" and float(row["seconds"]) >= LEAST_SECONDS:
            people.setdefault(row["person"], row["clip"])
    long = sorted(people.values())
    picked = [long[int((i + 0.5) * len(long) / CLIPS)] for i in range(CLIPS)]
    return [data_folder() / "train" / name for name in picked]


def stream(
    frames: NDArray[np.uint8], sound: NDArray[np.float32] | None, qualities: tuple[float, int, int],
    seen: dict[bytes, Any],
) -> bytes:  # fmt: skip
    """A clip as a stream, with keyframe, tiny and motion quality as given."""
    key, tiny, motion = qualities
    coder = FileEncoder(EncodeOptions(refine=False), audio=sound is not None, expected_frames=len(frames))
    coder.stream.layers["tiny"] = TinyLayerEncoder(TinyEncoder(tiny, mode="file"))
    coder.stream.layers["motion"] = Tracked(motion, seen)
    chunks = []
    policy.keyframe_quality = lambda quality, frames: key  # what the real policy would choose stands aside
    for i, frame in enumerate(frames):
        chunks += coder.push_chunks(frame, None if sound is None else sound[i * 640 : (i + 1) * 640])
    return finish_file(coder, chunks)


def lpips(judge: LPIPS, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    def tensor(x: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 255

    with torch.inference_mode():
        return np.asarray(judge(tensor(a), tensor(b)).double().numpy())


@lru_cache(maxsize=64)
def _keyframe(picture: bytes, quality: float, fast: bool) -> bytes:
    return encode_keyframe(np.frombuffer(picture, np.uint8).reshape(256, 256, 3), quality, fast=fast)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--limit", type=int, default=CLIPS, help="only so many clips; then nothing is written")
    args = p.parse_args()
    torch.set_num_threads(1)
    # Clips are coded again and again with the same keyframes.
    vars(encoding)["encode_keyframe"] = lambda picture, quality, *, fast=False: _keyframe(
        picture.tobytes(), quality, fast
    )
    judge = LPIPS("alex")
    paths = choose_clips()[: args.limit]
    table: dict[tuple[float, int, int], list[dict[str, float]]] = {t: [] for t in TRIES}
    with tqdm(total=len(paths) * len(TRIES), mininterval=10) as bar:
        for path in paths:
            with open_source(path, crop="none") as clip:
                frames = np.stack(list(clip.frames_iter())[:MOST_FRAMES])
                sound = None if clip.audio is None else clip.audio[: 640 * len(frames)]
            at = ((np.arange(LOOKS) + 0.5) * len(frames) / LOOKS).astype(np.int64)
            _keyframe.cache_clear()
            seen: dict[bytes, Any] = {}
            for qualities in TRIES:
                data = stream(frames, sound, qualities, seen)
                info = probe_bytes(data)
                drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
                table[qualities].append({
                    "kbps": info.video_kbps, "key_bytes": info.bytes["keyframe"], "tiny_bytes": info.bytes["tiny"],
                    "motion_bytes": info.bytes["motion"],
                    "keyframes": info.keyframes, "lpips": float(lpips(judge, drawn, frames[at]).mean()),
                    "psnr": float(psnr(drawn, frames[at]).mean()),
                })  # fmt: skip
                bar.update()
    rows: list[dict[str, Any]] = []
    for (key, tiny, motion), found in table.items():
        means = {name: round(float(np.mean([f[name] for f in found])), 5) for name in found[0]}
        rows.append({"keyframe_quality": key, "tiny_quality": tiny, "motion_quality": motion, **means})
    hull = on_hull([(row["kbps"], row["lpips"]) for row in rows])
    for row, best in zip(rows, hull, strict=True):
        row["hull"] = best
    rows.sort(key=lambda row: row["kbps"])
    shown = ("kbps", "lpips", "psnr", "keyframe_quality", "tiny_quality", "motion_quality", "hull")
    for row in rows:
        print({k: row[k] for k in shown})
    if args.limit == CLIPS:
        model = default_model()
        write("ladder_search", {
            "environment": environment(), "network": f"{model.model_id} {model.sha256[:16]}",
            "clip_list": clip_list(paths), "looks_per_clip": LOOKS, "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
