"""The codec on `val`: bytes by part, error of the tiny frames, decoded video against the frozen keyframe.

    python -m benchmarks.measure.codec_val [--quality 5] [--every 4] [--sheets FOLDER]

Every figure comes from the file that was written and read again. The frozen keyframe is the decoded keyframe of the
same stream, repeated: the same bytes without tiny frames. LPIPS is taken on every fourth frame, PSNR on all.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import tfcodec
from benchmarks.common import call_as_file, clip_list, clips, environment, read_clip, write
from tfcodec.metrics.frames import frozen_keyframes
from tfcodec.metrics.lpips import LPIPS, lpips_of_arms
from tfcodec.metrics.pixels import psnr
from tfcodec.tinyframe import Move, MovedKeyframe, TinyDecoder, TinyPlanes, restored, tiny_from_frames

LONG_SECONDS = 5.0
REFRESH = 25  # frames between payloads of calls whose contexts start anew


def tiny_error(data: bytes, frames: NDArray[np.uint8]) -> tuple[float, float]:
    """Luma and chroma MSE (0..255) of the stream's tiny planes against the exact box means of the source."""
    from tfcodec.bitstream import KeyframeChunk, MotionChunk, MovedTinyChunk, TinyChunk, read_stream
    from tfcodec.codec.parts.keyframes import KeyframeDecoder
    from tfcodec.codec.parts.motion import MotionLayerDecoder

    decoder, motion, keyframes = TinyDecoder(), MotionLayerDecoder(), KeyframeDecoder()
    planes: list[TinyPlanes] = []
    for chunk in read_stream(data).chunks:
        if isinstance(chunk, KeyframeChunk):
            picture = keyframes.decode(chunk)
            moving = MovedKeyframe(picture)
            decoder.reset(moving.still)
            motion.reset(picture)
        elif isinstance(chunk, MotionChunk):
            said = motion.decode(chunk.payload, chunk.frame_count)
        elif isinstance(chunk, TinyChunk):
            coded = decoder.decode(chunk.payload, chunk.frame_count)
            if isinstance(chunk, MovedTinyChunk):  # the encoder writes one chunk of motion for each of tiny frames
                move = Move(chunk.shape, chunk.x, chunk.y, chunk.distance)
                coded = restored(coded, moving.planes(move, said), moving.still)
            planes.append(coded)
    return TinyPlanes.concatenate(planes).mse(tiny_from_frames(frames))


def sheet(path: Path, source: NDArray[np.uint8], decoded: NDArray[np.uint8], still: NDArray[np.uint8]) -> None:
    """Contact sheet: source, decoded and frozen keyframe, six moments of the clip."""
    at = np.linspace(0, len(source) - 1, 6).round().astype(int)
    Image.fromarray(np.concatenate([np.concatenate(list(x[at]), 1) for x in (source, decoded, still)], 0)).save(path)


def measure(path: Path, quality: int, every: int, judge: LPIPS, sheets: Path | None) -> dict[str, Any]:
    frames = read_clip(path)
    data = tfcodec.encode(path, quality=quality)
    info, clip = tfcodec.probe(data), tfcodec.decode(data)
    if clip.frames is None:
        raise RuntimeError("decode gave no frames")
    still = frozen_keyframes(clip.keyframes, len(frames))
    call = call_as_file(frames, quality, REFRESH)
    call_info = tfcodec.probe(call)
    # What the coder itself loses is seen where it codes box means.
    plain = tfcodec.encode(path, quality=quality, refine=False)
    luma, chroma = tiny_error(plain, frames)
    call_luma, call_chroma = tiny_error(call, frames)
    first = np.broadcast_to(clip.keyframes[0][1], frames.shape)
    motion = {f"{mode}motion_bits_per_frame": 8 * of.bytes["motion"] / of.frames
              for mode, of in (("", info), ("call_", call_info)) if "motion" in of.bytes}  # fmt: skip
    lpips, frozen_lpips = lpips_of_arms(judge, [clip.frames[::every], still[::every]], frames[::every])
    if sheets is not None:
        sheet(sheets / f"{path.stem}.png", frames, clip.frames, still)
    return {
        "clip": path.name, "seconds": info.duration_seconds, "frames": info.frames, "bytes": info.bytes,
        "keyframes": info.keyframes, "video_kbps": info.video_kbps, "audio_kbps": info.audio_kbps,
        "container_share": info.bytes["container"] / info.video_bytes,
        "tiny_bits_per_frame": 8 * info.bytes["tiny"] / info.frames,
        "box_means_bits_per_frame": 8 * tfcodec.probe(plain).bytes["tiny"] / info.frames,
        "tiny_luma_mse": luma, "tiny_chroma_mse": chroma,
        "call_tiny_bits_per_frame": 8 * call_info.bytes["tiny"] / info.frames,
        "call_tiny_luma_mse": call_luma, "call_tiny_chroma_mse": call_chroma, "call_keyframes": call_info.keyframes,
        **motion,
        "keyframe_bytes": info.bytes["keyframe"] / info.keyframes, "keyframe_psnr": float(psnr(frames, first).max()),
        "psnr": float(psnr(frames, clip.frames).mean()), "frozen_psnr": float(psnr(frames, still).mean()),
        "lpips": float(lpips.mean()), "frozen_lpips": float(frozen_lpips.mean()),
    }  # fmt: skip


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(key: str, of: list[dict[str, Any]] = rows) -> float:
        return round(float(np.mean([row[key] for row in of])), 5)

    def pooled(of: list[dict[str, Any]]) -> float:
        bits = sum(8 * (row["bytes"]["total"] - row["bytes"]["audio"]) for row in of)
        return round(bits / 1000 / sum(row["seconds"] for row in of), 5)

    long = [row for row in rows if row["seconds"] >= LONG_SECONDS]
    names = [key for key, value in rows[0].items() if isinstance(value, float)]
    return {
        "mean": {key: mean(key) for key in names},
        "mean_of_clips_of_5_s_and_more": {key: mean(key, long) for key in names} if long else {},
        "video_kbps_over_all_seconds": pooled(rows),
        "video_kbps_over_all_seconds_of_clips_of_5_s_and_more": pooled(long) if long else None,
        "clips": len(rows), "clips_of_5_s_and_more": len(long),
        "share_of_clips_with_lower_lpips_than_frozen": sum(r["lpips"] < r["frozen_lpips"] for r in rows) / len(rows),
        "share_of_clips_with_higher_psnr_than_frozen": sum(r["psnr"] > r["frozen_psnr"] for r in rows) / len(rows),
        "worst_tiny_luma_mse": max(r["tiny_luma_mse"] for r in rows),
        "worst_tiny_chroma_mse": max(r["tiny_chroma_mse"] for r in rows),
        "worst_call_tiny_luma_mse": max(r["call_tiny_luma_mse"] for r in rows),
        "worst_call_tiny_chroma_mse": max(r["call_tiny_chroma_mse"] for r in rows),
    }  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quality", type=int, default=5)
    p.add_argument("--every", type=int, default=4, help="LPIPS on every n-th frame")
    p.add_argument("--sheets", type=Path, help="folder for contact sheets; they show the clips' people")
    p.add_argument("--limit", type=int, help="only so many clips; nothing is written")
    args = p.parse_args()
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
    judge = LPIPS("alex")
    paths = clips()[: args.limit]
    rows = [measure(path, args.quality, args.every, judge, args.sheets) for path in tqdm(paths, unit="clip")]
    summary = summarise(rows)
    for key, value in summary.items():
        print(key, value)
    if args.limit is None:
        result = {"environment": environment(), "quality": args.quality, "lpips_every": args.every,
                  "clip_list": clip_list(paths), "summary": summary, "rows": rows}  # fmt: skip
        write("codec_val" if args.quality == 5 else f"codec_val_q{args.quality}", result)


if __name__ == "__main__":
    main()
