"""Which keyframe quality, tiny-frame quality and refresh give the best picture for the bits? Answered on `train`.

    python benchmarks/ladder_search.py

Codes 10 clips of `train` by every combination in reach of the diagonal, draws eight frames of each from the written
stream, and keeps those combinations that no other beats in bits and LPIPS. The ladder in `tfcodec/codec/policy.py` was
set by hand from the result (LPIPS, and PSNR not to be lost). Also tried: fresh keyframes at fixed intervals, and half
the tiny-frame rate, where every second tiny frame is the mean of its neighbours before it is coded (the temporal
transform then has nothing to send for it, which is as near as a stream comes to leaving it out).
Tiny frames are box means here; what refined ones bring is `refine_search`'s question.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import clip_list, data_folder, environment, write
from numpy.typing import NDArray
from tqdm import tqdm

from tfcodec.bench.analysis import on_hull
from tfcodec.codec import policy
from tfcodec.codec.file.decoder import probe_bytes, read_exact, render_exact
from tfcodec.codec.file.encoder import FileEncoder, finish_file
from tfcodec.codec.parts import stream as encoding
from tfcodec.codec.parts.tiny import TinyLayerEncoder
from tfcodec.keyframe import encode_keyframe
from tfcodec.media import open_source
from tfcodec.metrics.lpips import LPIPS
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model
from tfcodec.tinyframe import TinyEncoder, TinyPlanes

CLIPS, LOOKS = 10, 8
LEAST_SECONDS, MOST_FRAMES = 4.5, 150
KEYS = (0, 2.5, 4, 5, 6, 7, 8.5, 10)
TINY = (0, 2, 5, 7, 10)
REACH = 3.5
REFRESH = ((5, 5, 75), (8.5, 7, 75), (8.5, 7, 50), (10, 10, 75))


class HalfRate(TinyEncoder):
    """Codes every second tiny frame as the mean of its neighbours."""

    def encode(self, planes: TinyPlanes) -> bytes:
        samples = planes.samples().copy()
        for i in range(1, len(samples) - 1, 2):
            samples[i] = (samples[i - 1] + samples[i + 1] + 1) // 2
        return super().encode(TinyPlanes.from_samples(samples))


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
    frames: NDArray[np.uint8], sound: NDArray[np.float32] | None, key: float, tiny: int, refresh: int, half: bool
) -> bytes:
    """A clip as a stream, with keyframe and tiny quality as given; ``refresh``: frames between keyframes, or 0."""
    coder = FileEncoder(5, audio=sound is not None, expected_frames=len(frames), refine=False)
    coder.stream.layers["tiny"] = TinyLayerEncoder((HalfRate if half else TinyEncoder)(tiny, mode="file"))
    chunks = []
    for i, frame in enumerate(frames):
        if refresh and i and i % refresh == 0:
            coder.request_keyframe()
        policy.keyframe_quality = lambda quality, frames: key  # what the real policy would choose stands aside
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
    encoding.encode_keyframe = lambda picture, quality, *, fast=False: _keyframe(picture.tobytes(), quality, fast)
    judge = LPIPS("alex")
    tries = [(k, t, 0, False) for t in TINY for k in KEYS if abs(k - t) <= REACH or (t > 4 and k == 10)]
    tries += [(k, t, r, False) for k, t, r in REFRESH] + [(k, t, 0, True) for k, t in ((4, 2), (8.5, 7))]
    paths = choose_clips()[: args.limit]
    table: dict[tuple[float, int, int, bool], list[dict[str, float]]] = {t: [] for t in tries}
    with tqdm(total=len(paths) * len(tries), mininterval=10) as bar:
        for path in paths:
            with open_source(path, crop="none") as clip:
                frames = np.stack(list(clip.frames_iter())[:MOST_FRAMES])
                sound = None if clip.audio is None else clip.audio[: 640 * len(frames)]
            at = ((np.arange(LOOKS) + 0.5) * len(frames) / LOOKS).astype(np.int64)
            _keyframe.cache_clear()
            for key, tiny, refresh, half in tries:
                data = stream(frames, sound, key, tiny, refresh, half)
                info = probe_bytes(data)
                drawn = np.concatenate(list(render_exact(read_exact(data), only=at)))
                table[key, tiny, refresh, half].append({
                    "kbps": info.video_kbps, "key_bytes": info.bytes["keyframe"], "tiny_bytes": info.bytes["tiny"],
                    "keyframes": info.keyframes, "lpips": float(lpips(judge, drawn, frames[at]).mean()),
                    "psnr": float(psnr(drawn, frames[at]).mean()),
                })  # fmt: skip
                bar.update()
    rows: list[dict[str, Any]] = []
    for (key, tiny, refresh, half), found in table.items():
        means = {name: round(float(np.mean([f[name] for f in found])), 5) for name in found[0]}
        rows.append({"keyframe_quality": key, "tiny_quality": tiny, "refresh": refresh, "half_rate": half, **means})
    hull = on_hull([(row["kbps"], row["lpips"]) for row in rows])
    for row, best in zip(rows, hull, strict=True):
        row["hull"] = best
    rows.sort(key=lambda row: row["kbps"])
    for row in rows:
        print({k: row[k] for k in ("kbps", "lpips", "psnr", "keyframe_quality", "tiny_quality", "refresh", "hull")})
    if args.limit == CLIPS:
        model = default_model()
        write("ladder_search", {
            "environment": environment(), "network": f"{model.model_id} {model.sha256[:16]}",
            "clip_list": clip_list(paths), "looks_per_clip": LOOKS, "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
