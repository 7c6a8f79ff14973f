"""What a run shows of itself: CSV files, a curve, sample sheets, arithmetic against the device's peak."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..files import write_atomically

# Dense bfloat16, FLOP/s, from the makers' data sheets.
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Add a line to a CSV; its first line names the columns. What has no column there is left out."""
    names = list(row)
    if path.is_file():
        with path.open(newline="") as file:
            names = next(csv.reader(file), names)
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        if new:
            writer.writeheader()
        writer.writerow(row)


def read_rows(path: Path) -> dict[str, list[float]]:
    """Columns of a CSV as numbers (empty: nan)."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(r[name] or "nan") for r in rows] for name in rows[0]} if rows else {}


def draw_curve(run: Path) -> None:
    """RUN/curve.png from RUN/train.csv and RUN/val.csv: total loss, PSNR and LPIPS over the steps."""
    train, val = read_rows(run / "train.csv"), read_rows(run / "val.csv")
    panels = [
        _panel("training loss", train.get("step", []), {"total": train.get("total", [])}),
        _panel("val PSNR, dB", val.get("step", []), {n: val.get(n, []) for n in ("psnr", "psnr_key")}),
        _panel("val LPIPS(alex)", val.get("step", []), {n: val.get(n, []) for n in ("lpips", "lpips_key")}),
    ]
    _write(run / "curve.png", np.concatenate(panels, 1))


COLOURS = ((200, 90, 20), (120, 120, 120))


def _panel(title: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> NDArray[np.uint8]:
    width, height, left, top, bottom = 460, 320, 62, 34, 30
    picture = np.full((height, width, 3), 255, np.uint8)

    def text(string: str, x: int, y: int, colour: tuple[int, int, int] = (0, 0, 0), scale: float = 0.4) -> None:
        cv2.putText(picture, string, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)

    text(title, left, 16, scale=0.45)
    x = np.asarray(steps, np.float64)
    every = np.concatenate([np.asarray(v, np.float64) for v in lines.values()]) if lines else np.zeros(0)
    every = every[np.isfinite(every)]
    if not len(x) or not len(every):
        text("nothing yet", left, height // 2)
        return picture
    # Percentiles: the first steps of a training loss would flatten the rest.
    low, high = float(every.min()), float(np.percentile(every, 99))
    span, reach = max(high - low, 1e-9), max(float(x.max()), 1.0)
    for i in range(5):
        y = top + (height - top - bottom) * i // 4
        cv2.line(picture, (left, y), (width - 10, y), (225, 225, 225), 1)
        text(f"{high - span * i / 4:.4g}", 4, y + 4)
    text("0", left, height - 10)
    text(f"{reach:.0f} steps", width - 90, height - 10)
    for number, (name, values) in enumerate(lines.items()):
        v = np.asarray(values, np.float64)
        kept = np.isfinite(v)
        if not kept.any():
            continue
        px = left + x[kept] / reach * (width - 10 - left)
        py = top + (1 - (np.clip(v[kept], low, high) - low) / span) * (height - top - bottom)
        points = np.stack((px, py), -1).astype(np.int32)
        cv2.polylines(picture, [points[:, None]], False, COLOURS[number], 1, cv2.LINE_AA)
        text(name, left + 90 * number, 30, COLOURS[number])
    return picture


def sheet(path: Path, columns: Sequence[Tensor]) -> None:
    """A picture with one row a sample and one column for each of ``columns`` [n, 3, h, w] in 0..1, enlarged to 256."""
    shown = [torch.nn.functional.interpolate(c.detach().float().cpu(), size=256) for c in columns]
    rows = torch.cat(shown, 3).clamp(0, 1).permute(0, 2, 3, 1).flatten(0, 1)
    _write(path, np.asarray((rows.numpy()[..., ::-1] * 255).round(), np.uint8))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    write_atomically(path, cv2.imencode(path.suffix, picture)[1].tobytes())


def count_flops(work: Callable[[], object]) -> float:
    """FLOP (two a multiply-add) of convolutions and matrix products in ``work``, backward included if it does that."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def peak_flops(device: torch.device) -> tuple[float, str]:
    """(FLOP/s in bfloat16, where the figure is from): a data sheet's, or for other devices a large product, timed."""
    name = torch.cuda.get_device_name(device)
    for known, peak in PEAKS.items():
        if known in name:
            return peak, "data sheet, dense"
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize(device)
    return 10 * 2 * 8192**3 / (time.perf_counter() - begin), "8192x8192 product, measured"
