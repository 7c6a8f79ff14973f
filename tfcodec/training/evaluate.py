"""Measure a network on fixed pairs of a pack: ``python -m tfcodec.training.evaluate PACK RUN_OR_WEIGHTS [-o JSON]``.

A quick figure for comparing runs: every keyframe of the split with a few later frames of its clip, quantiser step 8.
The codec's own figures come from benchmarks/, through the bitstream.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..errors import TfcodecError
from ..files import write_json
from ..metrics.lpips import LPIPS
from ..model.config import NetworkConfig
from ..model.landmarks import MOUTH
from ..model.upsampler import Upsampler
from ..model.weights import read_weights
from .batch import make_batch
from .card import machine
from .compact import SIZE
from .data import Pack
from .losses import EYES, flow_errors
from .plans import fixed_plans
from .state import load_state
from .steps import choose_device, run_network

MOUTH_SIDE = 96
"""Side of the square about the mouth that mouth-region LPIPS looks at, pixels."""


def run_weights(path: Path) -> Upsampler:
    """The moving average of a run, or the network in a weights file."""
    if path.is_file():
        return read_weights(path)
    tensors, about = load_state(path / "state")
    model = Upsampler(NetworkConfig.from_json(about["config"]))
    model.load_state_dict({n.removeprefix("ema."): t for n, t in tensors.items() if n.startswith("ema.")})
    return model.requires_grad_(False).eval()


def mouths(pictures: Tensor, marks: Tensor) -> Tensor:
    """Squares [B, 3, 96, 96] about the middle of the mouth's landmarks, moved inside the picture if need be."""
    half = MOUTH_SIDE / 2
    middle = marks[:, MOUTH].mean(1).round().clamp(half, SIZE - half)
    offsets = torch.arange(MOUTH_SIDE, device=pictures.device) - MOUTH_SIDE // 2
    x, y = (middle[:, axis, None].long() + offsets for axis in (0, 1))
    batch = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return pictures.permute(0, 2, 3, 1)[batch, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def landmark_error(
    flow: Tensor, marks: Tensor, key_marks: Tensor, which: slice | tuple[int, ...], shape: bool = False
) -> Tensor:
    """Mean distance [B] from where the flow says landmarks come from to where they do, in inter-ocular distances.

    ``shape``: apart from the error that all of them have in common.
    """
    error = (SIZE / 2) * flow_errors(flow.float(), marks, key_marks)[:, which]
    if shape:
        error = error - error.mean(1, keepdim=True)
    eyes = (marks[:, 36:42].mean(1) - marks[:, 42:48].mean(1)).norm(dim=-1).clamp(min=1)
    return error.norm(dim=-1).mean(1) / eyes


@torch.no_grad()
def measure(model: Upsampler, pack: Pack, targets: int = 4) -> dict[str, float]:
    """Means over all pairs: of the network and (``_key``) of the frozen keyframe.

    psnr (dB), lpips and lpips_mouth (AlexNet), and the flow's landmark error of mouth, its shape, and eyes in
    inter-ocular distances (targets without a face are left out of the last five; without a keyframe there is no such
    flow); change: mean error of the difference to the frame before, in grey levels. A recurrent network begins
    three frames before.
    """
    device = pack.device
    judge = LPIPS("alex").to(device)
    values: dict[str, list[Tensor]] = {}
    lead = 3 if model.config.recurrence else 1
    for plans in zip(*(fixed_plans(pack, targets, back=back) for back in range(lead, -1, -1)), strict=True):
        memory = None
        frames: list[Tensor] = []
        sources: list[Tensor] = []
        for plan in plans:
            batch = make_batch(pack, plan)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                out = run_network(model, batch, memory)
            memory = out.memory() if model.config.recurrence else None
            frames, sources = [*frames[-1:], out.frame.float().clamp(0, 1)], [*sources[-1:], batch.target]
        change = sources[1] - sources[0]
        still = batch.key[batch.owner]
        target, mouth = judge.embed(batch.target), judge.embed(mouths(batch.target, batch.marks))
        face = (batch.marks[:, :, 0] > 0).all(1) & (batch.key_marks[:, :, 0] > 0).all(1)
        for name, frame, flow in (
            ("", frames[1], out.flow), ("_key", still, torch.zeros_like(out.flow)),
        ):  # fmt: skip
            one = {
                "psnr": -10 * (frame - batch.target).square().mean((1, 2, 3)).clamp(min=1e-10).log10(),
                "lpips": judge.compare(judge.embed(frame), target),
                "lpips_mouth": judge.compare(judge.embed(mouths(frame, batch.marks)), mouth)[face],
                "change": 255 * ((0 if name else frames[1] - frames[0]) - change).abs().mean((1, 2, 3)),
            }
            if model.config.keyframe or name:
                one["flow_mouth"] = landmark_error(flow, batch.marks, batch.key_marks, MOUTH)[face]
                one["flow_mouth_shape"] = landmark_error(flow, batch.marks, batch.key_marks, MOUTH, True)[face]
                one["flow_eyes"] = landmark_error(flow, batch.marks, batch.key_marks, EYES)[face]
            for what, value in one.items():
                values.setdefault(what + name, []).append(value.float().cpu())
    return {name: float(torch.cat(parts).mean()) for name, parts in values.items()}


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.evaluate", description=__doc__)
    p.add_argument("pack", type=Path)
    p.add_argument("what", type=Path, help="folder of a run, or a weights file")
    p.add_argument("--split", default="val")
    p.add_argument("--targets", type=int, default=4, help="frames of each keyframe's clip")
    p.add_argument("--device")
    p.add_argument("-o", "--output", type=Path, help="JSON")
    args = p.parse_args(argv)
    device = choose_device(args.device)
    pack = Pack(args.pack, args.split, device)
    model = run_weights(args.what).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scores = measure(model, pack, args.targets)
    for name, value in scores.items():
        print(f"{name:16} {value:.4f}")
    if args.output:
        result = {"scores": scores, "split": args.split, **machine(device)}
        write_json(args.output, result)


if __name__ == "__main__":
    try:
        main()
    except TfcodecError as error:
        sys.exit(f"error: {error}")
