"""Decoding and encoding on a graphics card: pictures against the processor's, speed, utilisation and memory by batch.

    python -m benchmarks.measure.device_speed [--device cuda] [--batches 16 64 256] [--frames 750] [--clip FILE]
                                              [--fast] [--out OUT.json]

Checks first: the clip's first frames, drawn there and by the processor, must be 48 dB and more from each other (the
worst frame), and everything that is exact must be equal; the exit status is 1 if not. Then times, the first run of each
not counted: the network alone, with keyframe, tiny frames and motion at hand, and `tfcodec.decode` from the stream, for
each batch; `tfcodec.encode` with search from pictures in memory. Utilisation and memory are what the card says while
it draws; a share of its peak is counted from the network's multiplications (two operations each). With `--device cpu`
the same paths run on the processor. Without `--clip`: a face that is not there, moving patterns, for which no data is
needed. Without `--out` the result goes to `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tfcodec
from benchmarks.common import environment, write
from tfcodec.codec.file.decoder import read_exact
from tfcodec.files import write_json
from tfcodec.media import open_source
from tfcodec.metrics.pixels import psnr
from tfcodec.model.device import find_device
from tfcodec.model.registry import default_model
from tfcodec.model.renderer import Renderer, silent_windows, tiny_windows

LEAST_DB = 48
CHECKED = 48
"""Frames that are compared with the processor's."""
PEAKS = {"H100": 989, "H200": 989, "A100": 312, "L4": 121}
"""Tera-operations a second in bfloat16, without sparsity, as the maker says; float32 by TF32: half of that."""


def pictures(path: Path | None, count: int) -> np.ndarray:
    """Frames [count, 256, 256, 3] uint8 of a file, repeated if it is shorter, or of patterns that move."""
    if path is not None:
        with open_source(path, crop="none") as source:
            found = np.stack(list(itertools.islice(source.frames_iter(), count)))
        there_and_back = np.concatenate([found, found[::-1]])
        return there_and_back[np.arange(count) % len(there_and_back)]
    y, x = np.mgrid[:256, :256].astype(np.float32)
    out = np.empty((count, 256, 256, 3), np.uint8)
    for t in range(count):
        sway = 6 * np.sin(t / 9)
        for c, scale in enumerate((30, 47, 71)):
            out[t, ..., c] = 128 + 90 * np.sin((x + sway + 2 * y) / scale) * np.cos((y - sway) / (scale + 9))
    return out


class Card:
    """What is known of the device."""

    def __init__(self, device: str) -> None:
        import torch

        self._torch, self.device = torch, device
        self.is_card = device.startswith("cuda")
        self.name = torch.cuda.get_device_name(device) if self.is_card else device

    def peak(self, fast: bool) -> float | None:
        """Operations a second at most."""
        found = next((tera for part, tera in PEAKS.items() if part in self.name), None)
        return None if found is None else found * 1e12 * (1 if fast else 0.5)

    def begin(self) -> None:
        if self.is_card:
            self._torch.cuda.synchronize(self.device)
            self._torch.cuda.reset_peak_memory_stats(self.device)

    def end(self) -> None:
        if self.is_card:
            self._torch.cuda.synchronize(self.device)

    def memory(self) -> int | None:
        return int(self._torch.cuda.max_memory_allocated(self.device)) if self.is_card else None

    def utilisation(self) -> int | None:
        """Per cent of the last sixth of a second in which it computed; None where nobody says (needs nvidia-ml-py)."""
        try:
            return int(self._torch.cuda.utilization(self.device)) if self.is_card else None
        except (ImportError, RuntimeError):
            return None


def operations(entry: Any) -> float:
    """Of the network, for a frame."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    renderer = Renderer(entry)
    renderer.set_keyframe(np.full((256, 256, 3), 128, np.uint8))
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        renderer.render(np.full((1, 5, 8, 8, 3), 128, np.uint8), silent_windows(1), motion=np.zeros((1, 17), np.int32))
    return float(counter.get_total_flops())


def timed(card: Card, run: Callable[[], Any]) -> float:
    """Seconds, after a run that is not counted."""
    run()
    card.begin()
    began = time.perf_counter()
    run()
    card.end()
    return time.perf_counter() - began


def drawing(card: Card, data: bytes, batch: int, fast: bool) -> Callable[[], int | None]:
    """Draws all frames with the first keyframe, a batch ahead as `Reader` does; gives the utilisation half-way."""
    parts, renderer = read_exact(data), Renderer(default_model(), fast=fast, device=card.device)
    renderer.set_keyframe(parts.keyframes[0][1])
    motion = parts.layers["motion"]

    def run() -> int | None:
        waiting, seen = None, None
        for at in range(0, len(parts.tiny), batch):
            frames = np.arange(at, min(at + batch, len(parts.tiny)))
            begun = renderer.begin(tiny_windows(parts.tiny, frames), silent_windows(len(frames)), motion=motion[frames])
            if waiting is not None:
                waiting()
            waiting = begun
            if at <= len(parts.tiny) // 2 < at + batch:
                seen = card.utilisation()
        if waiting is not None:
            waiting()
        return seen

    return run


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="auto")
    p.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    p.add_argument("--frames", type=int, default=750)
    p.add_argument("--clip", type=Path)
    p.add_argument("--fast", action="store_true", help="bfloat16")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    device = find_device(args.device)
    card, frames = Card(device), pictures(args.clip, args.frames)
    data = tfcodec.encode(frames, fps=25, crop="none", device=device)
    few = tfcodec.encode(frames[:CHECKED], fps=25, crop="none", refine=False)
    here = tfcodec.decode(few)
    there = tfcodec.decode(few, device=device, fast=args.fast)
    worst = float(psnr(there.frames, here.frames).min())
    exact = np.array_equal(there.tiny, here.tiny)
    arithmetic, peak = operations(default_model()), card.peak(args.fast)
    rows = []
    for batch in args.batches:
        run = drawing(card, data, batch, args.fast)
        alone = timed(card, run)
        memory, used = card.memory(), run()
        whole = timed(card, lambda batch=batch: tfcodec.decode(data, device=device, fast=args.fast, batch=batch))  # type: ignore[misc]
        rows.append({
            "batch": batch, "network_frames_per_second": round(len(frames) / alone, 1),
            "decode_frames_per_second": round(len(frames) / whole, 1), "memory_bytes": memory,
            "utilisation_percent": used,
            "share_of_peak": None if peak is None else round(arithmetic * len(frames) / alone / peak, 4),
        })  # fmt: skip
        print(rows[-1])
    encoding = timed(card, lambda: tfcodec.encode(frames, fps=25, crop="none", device=device))
    result = {
        "environment": environment(), "load_before": round(os.getloadavg()[0], 2), "device": card.name,
        "fast": args.fast, "frames": len(frames), "clip": None if args.clip is None else args.clip.name,
        "worst_db_to_processor": round(min(worst, 99.0), 2), "exact_parts_equal": exact,
        "operations_per_frame": arithmetic, "rows": rows,
        "encode_frames_per_second": round(len(frames) / encoding, 1), "encode_memory_bytes": card.memory(),
    }  # fmt: skip
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}, indent=1))
    if args.out is None:
        write("device_speed", result)
    else:
        write_json(args.out, result)
    sys.exit(0 if exact and worst >= LEAST_DB else 1)


if __name__ == "__main__":
    main()
