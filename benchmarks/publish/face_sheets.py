"""Mouths and eyes cut large: source above decoded above frozen keyframe, at the moments that tell most.

    python -m benchmarks.publish.face_sheets OUT CLIP [CLIP ...] [--quality 5] [--weights FILE] [--call]
    python -m benchmarks.publish.face_sheets OUT STREAM.tfc [--source CLIP]

Writes OUT/NAME_mouth.png and OUT/NAME_eyes.png. A clip is encoded first; a stream is decoded as it is, beside the clip
that it was made from, if that is given. The moments are chosen by the source's openings (without one, by the decoded
video's): the mouth from widest to narrowest; the eyes wide, narrow, and before, in and after the deepest blinks. Every
row is cut along the landmarks of the source, so what lies elsewhere is in the wrong place.

The sheets show the clips' people: keep them out of the repository unless the clip is synthetic.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import tfcodec
from benchmarks.common import read_clip
from benchmarks.measure.quality_arms import Network, encode_call, encode_with
from tfcodec.codec.file.decoder import read_exact
from tfcodec.metrics import faces
from tfcodec.metrics.frames import frozen_keyframes
from tfcodec.metrics.openings import FPS, find_blinks

Frames = NDArray[np.uint8]
Curve = NDArray[np.float64]

# Of mouths, by rank of their opening; 1 is the widest.
RANKS = (1.0, 0.9, 0.75, 0.6, 0.45, 0.3, 0.15, 0.0)
APART = 0.2  # seconds between two moments
BLINKS, AROUND = 3, 0.12  # deepest ones, seconds before and after
SCALE = 224  # pixels for the distance of the eyes' outer corners
LABEL, MARGIN = 14, 64
WIDTH = 1820  # pixels of pictures side by side; what is more goes below


@dataclass(frozen=True)
class Moment:
    """A frame, and why it is shown."""

    frame: int
    why: str


def mouth_moments(opening: Curve) -> list[Moment]:
    """From the widest to the narrowest mouth, no two within `APART`; frames without a face are left out."""
    seen = np.flatnonzero(np.isfinite(opening))
    ranked = seen[np.argsort(opening[seen], kind="stable")]
    found: list[Moment] = []
    for rank in RANKS if len(ranked) else ():
        wanted = rank * (len(ranked) - 1)
        free = [i for i in range(len(ranked)) if all(abs(ranked[i] - m.frame) >= APART * FPS for m in found)]
        if not free:
            break
        at = int(ranked[min(free, key=lambda i: abs(i - wanted))])
        found.append(Moment(at, f"mouth {opening[at]:.2f}"))
    return found


def eye_moments(opening: Curve) -> list[Moment]:
    """Widest and narrowest eyes, then the deepest blinks in order of time, each with what lies before and after."""
    seen = np.flatnonzero(np.isfinite(opening))
    if not len(seen):
        return []
    wide, narrow = (int(seen[pick(opening[seen])]) for pick in (np.argmax, np.argmin))
    found = [Moment(wide, f"widest {opening[wide]:.3f}"), Moment(narrow, f"narrowest {opening[narrow]:.3f}")]
    deepest = sorted(find_blinks(opening), key=lambda b: -b.depth)[:BLINKS]
    around = round(AROUND * FPS)
    for blink in sorted(deepest, key=lambda b: b.at):
        for step, name in ((-around, "before"), (0, f"blink {blink.depth:.2f}"), (around, "after")):
            at = blink.at + step
            if 0 <= at < len(opening) and np.isfinite(opening[at]):
                found.append(Moment(at, name))
    return found


def sheet(
    rows: dict[str, Frames], landmarks: faces.Landmarks, moments: list[Moment], cut: Callable[..., Frames]
) -> Image.Image:
    """Pictures of the moments side by side, a row for each video [T, H, W, 3] uint8 of ``rows``.

    Args:
        rows: title to video.
        landmarks: [T, 68, 2], along which all are cut by ``cut`` (`mouth_crops` or `eye_crops`).
        moments: columns.
        cut: as above.
    """
    at = np.array([m.frame for m in moments])
    crops = [cut(np.ascontiguousarray(frames[at]), landmarks[at], SCALE) for frames in rows.values()]
    height, width = (n + 2 for n in crops[0].shape[1:3])
    across = max(1, min(len(at), WIDTH // width))
    block = LABEL + height * len(crops)
    out = Image.new("RGB", (MARGIN + width * across, block * -(-len(at) // across)), "white")
    draw = ImageDraw.Draw(out)
    for j, moment in enumerate(moments):
        line, column = divmod(j, across)
        left, top = MARGIN + width * column, block * line
        draw.text((left, top + 1), f"{moment.frame / FPS:.2f} s  {moment.why}", fill="black")
        for i, (title, row) in enumerate(zip(rows, crops, strict=True)):
            if column == 0:
                draw.text((2, top + LABEL + height * i + height // 2 - 6), title, fill="black")
            out.paste(Image.fromarray(row[j]), (left, top + LABEL + height * i))
    return out


def videos(path: Path, source: Path | None, network: Network | None, quality: int, call: bool) -> dict[str, Frames]:
    """Source (if there is one), decoded and frozen keyframe, [T, 256, 256, 3] uint8 each."""
    if path.suffix == ".tfc":
        data = path.read_bytes()
    else:
        source = path
        if call:
            data = encode_call(path, quality)
        elif network is not None:
            data = encode_with(network, path, quality)
        else:
            data = tfcodec.encode(path, quality=quality)
    if network is not None:
        parts = read_exact(data)
        decoded, keyframes = network.draw(parts, np.arange(len(parts.tiny)))[0], parts.keyframes
    else:
        clip = tfcodec.decode(data)
        assert clip.frames is not None
        decoded, keyframes = clip.frames, clip.keyframes
    rows = {"decoded": decoded, "frozen": frozen_keyframes(keyframes, len(decoded))}
    if source is None:
        return rows
    own = read_clip(source)
    if len(own) != len(decoded):
        raise SystemExit(f"{source} has {len(own)} frames, the stream {len(decoded)}: it was made from another clip")
    return {"source": own, **rows}


def write_sheets(rows: dict[str, Frames], name: str, out: Path, meter: faces.FaceMeter) -> list[Path]:
    """Both sheets of a clip; the first of ``rows`` is the one that moments and cuts are taken from."""
    landmarks = meter.landmarks(next(iter(rows.values())))
    if not np.isfinite(landmarks).all((1, 2)).any():
        raise SystemExit(f"{name}: no face was found in any frame")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for what, moments, cut in (
        ("mouth", mouth_moments(faces.mouth_opening(landmarks)), faces.mouth_crops),
        ("eyes", eye_moments(faces.eye_opening(landmarks)), faces.eye_crops),
    ):
        written.append(out / f"{name}_{what}.png")
        sheet(rows, landmarks, moments, cut).save(written[-1])
    return written


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path, help="folder for the sheets")
    p.add_argument("inputs", type=Path, nargs="+", metavar="CLIP|STREAM", help="clips of 256x256, or .tfc files")
    p.add_argument("--source", type=Path, help="the clip that a stream was made from")
    p.add_argument("--quality", type=int, default=5)
    p.add_argument("--weights", type=Path, help="draw with these weights, which need not be shipped ones")
    p.add_argument("--call", action="store_true", help="encode clips as calls code them")
    args = p.parse_args(argv)
    if args.source is not None and len(args.inputs) > 1:
        p.error("--source goes with one stream")
    network = Network.load(args.weights) if args.weights else None
    meter = faces.FaceMeter()
    for path in args.inputs:
        rows = videos(path, args.source, network, args.quality, args.call)
        for written in write_sheets(rows, path.stem, args.out, meter):
            print(f"wrote {written}")


if __name__ == "__main__":
    main()
