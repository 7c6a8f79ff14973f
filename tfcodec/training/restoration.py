"""Train the keyframe's restorer: ``python -m tfcodec.training.restoration PACK OUT.safetensors [options]``.

It needs nothing of the rest of the network: decoded keyframes of the pack go in, the frames that they were made of are
asked for. Its weights go to ``train --restorer``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TfcodecError
from ..files import write_atomically
from ..metrics.lpips import LPIPS
from ..model.restoration import KeyframeRestorer
from .batch import mirror
from .card import machine
from .compact import SIZE
from .data import Pack, rgb
from .losses import gradient_error, piece_error, region_weight
from .plans import PIECE
from .steps import psnr, set_up
from .teacher import Teacher, add_options

EXTRA = 3.0
"""Extra weight of mouth and eyes."""


def examples(pack: Pack, keys: Tensor, flip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decoded keyframes, the frames that they were made of (in 0..1), and how much their pixels count."""
    frames = torch.tensor([pack.clips[c][1] + f for c, f, _ in (pack.keys[k] for k in keys.tolist())])
    weight = region_weight(pack.marks[frames], 64, EXTRA)
    weight = F.interpolate(mirror(weight, flip), size=SIZE, mode="bilinear", align_corners=False)
    return rgb(pack.key_pictures[keys], flip) / 255, rgb(pack.frames[frames], flip) / 255, weight


def restoration_loss(
    restored: Tensor, source: Tensor, weight: Tensor, corner: Tensor, lpips: LPIPS
) -> Tensor:  # fmt: skip
    error = restored - source
    loss = 6 * (error.abs() * weight).mean() + 20 * error.square().mean()
    return loss + 4 * gradient_error(restored, source, weight) + 7 * piece_error(restored, source, corner, lpips)


def restoring_step(
    pack: Pack, restorer: nn.Module, lpips: LPIPS, batch: int, seed: int = 0
) -> Callable[[], Tensor]:  # fmt: skip
    """What gives the loss of ``batch`` keyframes drawn at random, each time it is called."""
    rng, device = np.random.default_rng(seed), pack.device

    def restoring() -> Tensor:
        keys = torch.from_numpy(rng.integers(len(pack.keys), size=batch))
        decoded, source, weight = examples(pack, keys, torch.from_numpy(rng.random(batch) < 0.5).to(device))
        # The sum of two: more often about the middle, where the face is.
        corner = torch.from_numpy(8 * rng.integers((SIZE - PIECE) // 16 + 1, size=(2, 2)).sum(1)).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            restored = restorer(decoded.contiguous(memory_format=torch.channels_last)).float()
            return restoration_loss(restored, source, weight, corner, lpips)

    return restoring


@torch.no_grad()
def measure(restorer: nn.Module, pack: Pack, judge: LPIPS) -> dict[str, float]:
    """PSNR and LPIPS(alex) of the split's keyframes, restored."""
    sums: dict[str, float] = {}
    for keys in torch.split(torch.arange(len(pack.keys)), 8):
        decoded, source, _ = examples(pack, keys, torch.zeros(len(keys), dtype=torch.bool, device=pack.device))
        restored = restorer(decoded).clamp(0, 1)
        for name, value in (("psnr", psnr(restored, source)), ("lpips", judge(restored, source))):
            sums[name] = sums.get(name, 0.0) + float(value.sum()) / len(pack.keys)
    return sums


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.restoration", description=__doc__)
    p.add_argument("pack", type=Path)
    p.add_argument("output", type=Path, help="weights of the restorer, safetensors")
    p.add_argument("--minutes", type=float, default=15)
    p.add_argument("--batch", type=int, default=8, help="keyframes a step")
    add_options(p)
    args = p.parse_args(argv)
    device = set_up(args)
    pack, val = (Pack(args.pack, split, device) for split in ("train", "val"))
    restorer: KeyframeRestorer = KeyframeRestorer().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if args.weights:
        read_restorer(args.weights, restorer)
    lpips, judge = LPIPS("squeeze").to(device, memory_format=torch.channels_last), LPIPS("alex").to(device)  # type: ignore[call-overload]

    restoring = restoring_step(pack, restorer, lpips, args.batch, args.seed)
    teacher = Teacher(restorer, args.lr, args.minutes)
    since = time.monotonic()
    steps = teacher.run("restorer", restoring, lambda network: measure(network, val, judge))
    figures = {"steps": steps, "minutes": round((time.monotonic() - since) / 60, 1)}
    figures |= measure(teacher.average, val, judge)
    figures |= {f"{name}_key": value for name, value in measure(nn.Identity(), val, judge).items()}
    about = {"options": {k: str(v) for k, v in vars(args).items()}, **machine(device), "figures": figures}
    weights = {n: t.cpu().contiguous() for n, t in teacher.average.state_dict().items()}
    write_atomically(args.output, safetensors.torch.save(weights, {"restorer": json.dumps(about, sort_keys=True)}))
    print(json.dumps(figures))


def read_restorer(path: Path, restorer: nn.Module) -> None:
    """Put the weights of a file into a `KeyframeRestorer`. Raises TfcodecError when they do not fit."""
    try:
        restorer.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise TfcodecError(f"--restorer {path} does not hold weights of a restorer: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
