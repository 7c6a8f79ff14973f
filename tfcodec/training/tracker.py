"""Train the face tracker: ``python -m tfcodec.training.tracker PACK OUT.safetensors [options]``.

All its looks at once, on pictures and decoded keyframes of a pack. Where a pack is in memory already, call
`train_tracker` and `run_tracker`. Nothing but torch, numpy, OpenCV and safetensors is needed; the same on CPU and GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import TfcodecError
from ..model.landmarks import COUNT
from ..model.tracker import FaceTracker, eye_distances, eye_opening, mouth_opening, read_tracker, save_tracker
from .card import machine
from .compact import SIZE
from .data import Pack, rgb
from .steps import set_up
from .teacher import Teacher, add_options
from .tracker_examples import Faces, FaceSource

PAIRS = (
    (61, 67), (62, 66), (63, 65), (51, 57), (60, 64), (48, 54),  # inner lips, outer lips, widths of the mouth
    (37, 41), (38, 40), (43, 47), (44, 46), (68, 36), (68, 39), (69, 42), (69, 45),  # lids; where the irises look
)  # fmt: skip
"""Landmarks whose difference is what is asked for: how far mouth and eyes are open."""
_PAIR_WEIGHT = (3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0)
EYES_MOVE = 0.01
"""Standard deviation of the labels' eye opening, in eye distances, from which on a clip's eyes move."""


class Tracks(NamedTuple):
    """Landmarks in pixels and scores of a pack's frames, [N, 70, 2] and [N], and of its decoded keyframes, [K, ...]."""

    frames: NDArray[np.float32]
    scores: NDArray[np.float32]
    keys: NDArray[np.float32]
    key_scores: NDArray[np.float32]


def _weights(device: torch.device) -> tuple[Tensor, Tensor]:
    each = torch.ones(COUNT, 1, device=device)
    each[:17] = 0.7  # the jaw's line has no marks on it: its labels slide along
    each[36:48] = each[68:] = 2.0
    each[48:60], each[60:68] = 1.5, 3.0
    return each / each.mean(), torch.tensor(_PAIR_WEIGHT, device=device)[:, None] / sum(_PAIR_WEIGHT)


class TrackerLoss:
    """Errors in eye distances of all three looks, and of the face's score."""

    def __init__(self, device: torch.device) -> None:
        self.each, self.pair = _weights(device)
        first, second = zip(*PAIRS, strict=True)
        self.first, self.second = torch.tensor(first, device=device), torch.tensor(second, device=device)

    def __call__(self, tracker: FaceTracker, faces: Faces) -> Tensor:
        looks = tracker.look(faces.picture, faces.marks)
        shown = (faces.present > 0).float()
        weight = (shown / shown.sum().clamp(min=1))[:, None, None]
        size = eye_distances(faces.marks).clamp(min=0.05)[:, None, None]
        wanted = (faces.marks[:, self.first] - faces.marks[:, self.second]) / size
        total = torch.zeros((), device=size.device)
        for marks, share in ((looks.coarse, 0.3), (looks.face, 0.7), (looks.marks, 1.0)):
            error = ((marks - faces.marks) / size).abs()
            # Small errors count for more than in proportion: a hair's breadth is what a lid moves.
            curved = 0.05 * torch.log1p(error / 0.05) + 0.2 * error
            total = total + share * (curved * self.each * weight).sum() / (2 * COUNT)
            gap = ((marks[:, self.first] - marks[:, self.second]) / size - wanted).abs()
            total = total + share * (gap * self.pair * weight).sum()
        known = (faces.present >= 0).float()
        score = F.binary_cross_entropy_with_logits(looks.logit, faces.present.clamp(min=0), reduction="none")
        return 10 * total + 0.1 * (score * known).sum() / known.sum().clamp(min=1)


def train_tracker(
    pack: Pack, val: Pack | None, minutes: float, *, tracker: FaceTracker | None = None, batch: int = 0,
    rate: float = 1.5e-3, seed: int = 0, report: float = 120, far: float = 0.5,
) -> FaceTracker:  # fmt: skip
    """Train for so many minutes on the pack's device, from ``tracker`` on if there is one; gives the moving average.

    ``batch``: 0 for 384 on a GPU and 32 on a CPU. ``report``: seconds between lines with the figures on ``val``.
    ``far``: as `FaceSource`; less for a short training.
    """
    device = pack.device
    count = batch or (32 if device.type == "cpu" else 384)
    torch.manual_seed(seed)
    if tracker is None:
        tracker = FaceTracker()
        face = pack.marks[(pack.marks[..., 0] >= 0).all(1)]
        tracker.to(device).begin_with(face * (2 / SIZE) - 1)
    tracker = tracker.requires_grad_(True).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    source, loss = FaceSource(pack, seed, far), TrackerLoss(device)
    teacher = Teacher(tracker, rate, minutes, report)

    def step() -> Tensor:
        with torch.no_grad():
            faces = source.faces(count)
        with torch.autocast(device.type, torch.bfloat16):
            return loss(tracker, faces)

    measure: Callable[[nn.Module], dict[str, float]] = (lambda _: {}) if val is None else (lambda n: judge(n, val, 10))
    steps = teacher.run("tracker", step, measure)
    print(f"tracker: {steps} steps of {count}")
    average: FaceTracker = teacher.average  # type: ignore[assignment]
    return average


@torch.no_grad()
def run(tracker: nn.Module, i420: Tensor, device: torch.device, batch: int = 0) -> tuple[Tensor, Tensor]:
    """Landmarks [N, 70, 2] in pixels and scores [N] of I420 pictures [N, 384, 256], on the host."""
    batch = batch or (16 if device.type == "cpu" else 512)
    marks, scores = [], []
    for some in torch.split(i420, batch):
        found, score = tracker(rgb(some.to(device)).div_(255))
        marks.append((found + 1) * (SIZE / 2))
        scores.append(score)
    return torch.cat(marks).cpu(), torch.cat(scores).cpu()


def run_tracker(tracker: FaceTracker, pack: Pack) -> Tracks:
    """What the tracker finds in all frames and decoded keyframes of a pack, frame by frame (not smoothed)."""
    tracker = tracker.eval().to(pack.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = [run(tracker, pictures, pack.device) for pictures in (pack.frames, pack.key_pictures)]
    (frames, scores), (keys, key_scores) = ([x.numpy() for x in part] for part in parts)
    return Tracks(frames, scores, keys, key_scores)


def agreement(found: Tensor, marks: Tensor, clips: list[tuple[int, int]]) -> dict[str, float]:
    """Landmarks [N, 70, 2] found against the labels, in clips (first, end).

    error, mouth_error, eye_error: mean distance in eye distances. mouth_r, eye_r: correlation of the openings within
    clips, mean over clips; eyes: of those whose eyes move (`EYES_MOVE`).
    """
    face = (marks[..., 0] >= 0).all(1)
    size = eye_distances(marks).clamp(min=1e-6)
    distance = ((found - marks).norm(dim=-1) / size[:, None])[face]
    eyes = [*range(36, 48), 68, 69]
    out = {"error": distance.mean(), "mouth_error": distance[:, 48:68].mean(), "eye_error": distance[:, eyes].mean()}
    figures = {name: float(value) for name, value in out.items()}
    rows: dict[str, list[float]] = {"mouth": [], "eye": []}
    for first, end in clips:
        some = slice(first, end)
        for name, measure in (("mouth", mouth_opening), ("eye", eye_opening)):
            both = torch.stack((measure(found[some][face[some]]), measure(marks[some][face[some]])))
            if both.shape[1] > 2 and float(both[1].std()) > (EYES_MOVE if name == "eye" else 1e-6):
                rows[name].append(float(torch.corrcoef(both)[0, 1].nan_to_num()))
    for name, values in rows.items():
        figures[f"{name}_r"] = float(np.mean(values)) if values else 0.0
    return figures


def judge(tracker: nn.Module, pack: Pack, every: int = 1) -> dict[str, float]:
    """`agreement` on every so manieth frame of a pack, the error on its decoded keyframes, the share of faces found."""
    device = pack.device
    which: list[int] = []
    clips: list[tuple[int, int]] = []
    for _, start, count in pack.clips:
        clips.append((len(which), len(which) + len(range(0, count, every))))
        which += range(start, start + count, every)
    chosen = torch.tensor(which)
    marks = pack.marks.cpu()
    if every == 1:
        found, scores = run(tracker, pack.frames, device)
    else:
        found, scores = run(tracker, pack.frames[chosen.to(pack.frames.device)], device)
    figures = agreement(found, marks[chosen], clips)
    keys, _ = run(tracker, pack.key_pictures, device)
    of = torch.tensor([pack.clips[clip][1] + frame for clip, frame, _ in pack.keys])
    wanted = marks[of]
    face = (wanted[..., 0] >= 0).all(1)
    error = (keys - wanted).norm(dim=-1) / eye_distances(wanted).clamp(min=1e-6)[:, None]
    return figures | {"keyframe_error": float(error[face].mean()), "found": float((scores > 0.5).float().mean())}


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.tracker", description=__doc__)
    p.add_argument("pack", type=Path)
    p.add_argument("output", type=Path, help="weights of the tracker, safetensors")
    p.add_argument("--minutes", type=float, default=25)
    p.add_argument("--batch", type=int, default=0, help="default: 32 on a CPU, 384 on a GPU")
    p.add_argument("--report", type=float, default=240, help="seconds between lines with figures")
    p.add_argument("--far", type=float, default=0.5, help="share of pictures changed more than a cropper errs")
    add_options(p)
    p.set_defaults(lr=1.5e-3)
    args = p.parse_args(argv)
    device = set_up(args)
    pack, val = Pack(args.pack, "train", device), Pack(args.pack, "val", device)
    start = read_tracker(args.weights) if args.weights else None
    tracker = train_tracker(
        pack, val, args.minutes, tracker=start, batch=args.batch, rate=args.lr, seed=args.seed, report=args.report,
        far=args.far,
    )  # fmt: skip
    figures = judge(tracker, val, 2)
    about = {"figures": figures, "options": {k: str(v) for k, v in vars(args).items()}, **machine(device)}
    save_tracker(tracker, args.output, {"about": json.dumps(about, sort_keys=True)})
    print(json.dumps(figures))


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
