"""What `make demo` runs: encode a talking face, decode it, and show what became of it.

    python examples/demo.py                     # on a synthetic clip, made first: NASA's portrait, animated, generated
                                                voice
    python examples/demo.py --input me.mp4      # on a video of one's own

Prints where the bytes went and how near the picture is, and writes to demo/: the stream, the decoded video, a side-by-
side video (source | decoded | keyframe alone) with the decoded sound, and a contact sheet.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tfcodec
from tfcodec.media import VideoWriter, open_source, write_video

Picture = NDArray[np.uint8]


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio of two pictures, dB."""
    error = float(np.mean((a.astype(np.float32) - b) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def frozen_frames(clip: tfcodec.Clip) -> list[Picture]:
    """For every frame, the keyframe that was there last: what a receiver without the network would show."""
    shown = []
    place = -1
    for index in range(len(clip.tiny)):
        while place + 1 < len(clip.keyframes) and clip.keyframes[place + 1][0] <= index:
            place += 1
        shown.append(clip.keyframes[max(place, 0)][1])
    return shown


def save_png(path: Path, picture: Picture) -> None:
    """Write [H, W, 3] uint8 RGB as PNG."""
    import av

    with av.open(str(path), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(stream.encode(None))


def main() -> int:
    parser = argparse.ArgumentParser(description="Encode and decode a talking-face video, and show the result.")
    parser.add_argument("--input", type=Path, help="a video of a face; without it a synthetic clip is made")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--quality", type=int, default=5, help="0 to 10 (default: 5)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the synthetic clip (default: 8)")
    options = parser.parse_args()
    try:
        run(options.input, options.output, options.quality, options.seconds)
    except tfcodec.TfcodecError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def run(source: Path | None, folder: Path, quality: int, seconds: float) -> None:
    """Do it all; raises TfcodecError for a video that cannot be read or has no face."""
    folder.mkdir(parents=True, exist_ok=True)
    if source is None:
        from make_demo_clip import make_demo_clip

        source = folder / "source.mp4"
        print("Making a synthetic talking face (an animated portrait; nobody said this) ...", flush=True)
        make_demo_clip(source, seconds)

    start = time.perf_counter()
    info = tfcodec.encode(source, folder / "demo.tfc", quality=quality)
    encoding = time.perf_counter() - start
    start = time.perf_counter()
    clip = tfcodec.decode(folder / "demo.tfc")
    decoding = time.perf_counter() - start
    if clip.frames is None:
        raise tfcodec.WeightsError("the decoder gave no pictures")

    print(f"\n{source}: {info.frames} frames at {info.fps:g} fps, {info.duration_seconds:.2f} s")
    print(f"encoded in {encoding:.1f} s, decoded in {decoding:.1f} s (the first use loads libraries and the network)\n")
    print(f"  {'bytes':>8}  share  part")
    for part, count in info.bytes.items():
        print(f"  {count:8d} {100 * count / info.bytes['total']:5.1f}%  {part}")
    print(f"\n  video {info.video_kbps:.2f} kbit/s ({info.video_bpp:.6f} bits per pixel), ", end="")
    print(f"speech {info.audio_kbps:.2f} kbit/s")

    decoded, frozen = clip.frames, frozen_frames(clip)
    write_video(folder / "decoded.mp4", decoded, clip.fps, clip.audio, clip.sample_rate)
    wanted = set(np.linspace(0, len(decoded) - 1, 8).round().astype(int).tolist())
    columns: list[Picture] = []
    ours: list[float] = []
    still: list[float] = []
    side = VideoWriter(folder / "side_by_side.mp4", clip.fps, (768, 256), clip.audio, clip.sample_rate)
    with open_source(source) as original, side:
        for index, picture in enumerate(original.frames_iter()):
            ours.append(psnr(picture, decoded[index]))
            still.append(psnr(picture, frozen[index]))
            row = [picture, decoded[index], frozen[index]]
            side.write(np.hstack(row))
            if index in wanted:
                columns.append(np.vstack(row))
    save_png(folder / "contact_sheet.png", np.hstack(columns))

    print(f"  PSNR against the source: decoded {np.mean(ours):.2f} dB, keyframe alone {np.mean(still):.2f} dB\n")
    print(f"  {folder / 'side_by_side.mp4'}    source | decoded | keyframe alone, with the decoded sound")
    print(f"  {folder / 'contact_sheet.png'}   rows: source, decoded, keyframe alone")
    print(f"  {folder / 'decoded.mp4'}, {folder / 'demo.tfc'}")


if __name__ == "__main__":
    sys.exit(main())
