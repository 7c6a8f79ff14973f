"""What tiny frames cost with and without prediction from the moved keyframe, on `val`.

    python -m benchmarks.measure.moved_rate [--quality 5] [--split val]

Both streams of a clip hold box means, coded to the same error, without the search for better ones and without
displacement; keyframe and motion are the same bytes.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import clip_list, clips, environment, read_clip, write
from benchmarks.measure.codec_val import LONG_SECONDS, tiny_error
from tfcodec.bitstream import MovedTinyChunk, read_stream
from tfcodec.codec.file.decoder import probe_bytes
from tfcodec.codec.file.encoder import FileEncoder, finish_file
from tfcodec.codec.options import EncodeOptions
from tfcodec.codec.parts.tiny import TinyLayerEncoder


def stream(frames: NDArray[np.uint8], quality: int, *, moves: bool) -> bytes:
    coder = FileEncoder(EncodeOptions(quality=quality, refine=False), audio=False, expected_frames=len(frames))
    tiny = coder.stream.layers["tiny"]
    if not isinstance(tiny, TinyLayerEncoder):
        raise TypeError(f"the layer of tiny frames is a {type(tiny).__name__}")
    tiny.may_move = moves
    chunks = [chunk for frame in frames for chunk in coder.push_chunks(frame)]
    return finish_file(coder, chunks)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quality", type=int, default=5)
    p.add_argument("--split", default="val")
    p.add_argument("--limit", type=int, help="only so many clips; nothing is written")
    args = p.parse_args()
    paths, rows = clips(args.split)[: args.limit], []
    for path in tqdm(paths, mininterval=10):
        frames = read_clip(path)
        row: dict[str, Any] = {"clip": path.name, "seconds": len(frames) / 25}
        for name, moves in (("still", False), ("moved", True)):
            data = stream(frames, args.quality, moves=moves)
            info, errors = probe_bytes(data), tiny_error(data, frames)
            chunks = [isinstance(chunk, MovedTinyChunk) for chunk in read_stream(data).tiny]
            row[name] = {
                "tiny_bytes": info.bytes["tiny"], "video_bytes": info.video_bytes, "luma_mse": round(errors[0], 3),
                "chroma_mse": round(errors[1], 3), "moved_chunks": sum(chunks), "chunks": len(chunks),
            }  # fmt: skip
        rows.append(row)
    summary = {}
    for label, some in (("all", rows), ("of_5_s_and_more", [r for r in rows if r["seconds"] >= LONG_SECONDS])):
        sums = {name: {key: sum(row[name][key] for row in some) for key in ("tiny_bytes", "video_bytes")}
                for name in ("still", "moved")}  # fmt: skip
        summary[label] = {
            "clips": len(some), **sums,
            "tiny_ratio": round(sums["moved"]["tiny_bytes"] / max(sums["still"]["tiny_bytes"], 1), 4),
            "video_ratio": round(sums["moved"]["video_bytes"] / max(sums["still"]["video_bytes"], 1), 4),
        }  # fmt: skip
        print(label, summary[label])
    if args.limit is None:
        result = {"environment": environment(), "quality": args.quality, "split": args.split}
        write("moved_rate", {**result, "clip_list": clip_list(paths), "summary": summary, "rows": rows})


if __name__ == "__main__":
    main()
