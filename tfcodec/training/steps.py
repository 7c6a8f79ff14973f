"""Parts of a training step that know nothing of the run: optimiser, clipping, several processes."""

from __future__ import annotations

import argparse
import math
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..model.upsampler import KeyframeFeatures, Output, Upsampler
from .data import Batch


def is_hint(name: str) -> bool:
    """Whether a parameter is of what listens to the landmark prior, the frame before or a second reference, of the
    keyframe's restorer or of the close-ups.

    It starts at zero, so that a network that was trained without them takes them up from where it was.
    """
    new = ("hint", "recall", "second", "restorer", "closeups")
    return any(part == "trust" or part.startswith(new) for part in name.split("."))


def adamw(module: nn.Module, rate: float, *, decay: float = 1e-4, hints: float = 1) -> torch.optim.AdamW:
    """The optimiser; parameters of `is_hint` learn ``hints`` times as fast (group["factor"])."""
    groups: list[dict[str, object]] = []
    for chosen, factor in ((False, 1.0), (True, hints)):
        parameters = [p for n, p in module.named_parameters() if is_hint(n) == chosen and p.requires_grad]
        if parameters:
            groups.append({"params": parameters, "factor": factor})
    return torch.optim.AdamW(groups, rate, betas=(0.9, 0.99), weight_decay=decay, fused=True)


def clipped_step(optimiser: torch.optim.AdamW, module: nn.Module, limit: float) -> Tensor:
    """A step with the gradient's norm at most ``limit``; none when it is not finite. Returns the norm."""
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
    # As a gradient scaler does it: the fused step itself looks at the flag, on the device.
    optimiser.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    optimiser.grad_scale = None  # type: ignore[attr-defined]
    optimiser.step()
    return norm.detach()


def follow(average: nn.Module, module: nn.Module, step: int, most: float = 0.998) -> None:
    """Move the moving average of a module's weights: it forgets, at first as much as a mean of all steps would."""
    decay = min(most, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


def cosine(progress: float) -> float:
    """By how much of the rate to learn when so much of a run is over, 0..1: half a cosine down to a twentieth."""
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def average_gradients(module: nn.Module, processes: int) -> None:
    if processes == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= processes
    parts = torch.split(flat, [g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def join_processes() -> tuple[int, int]:
    """(rank, number of processes) under torchrun, (0, 1) without."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), processes


def references(model: Upsampler, batch: Batch) -> tuple[KeyframeFeatures, Tensor | None]:
    """Features of each target's keyframe, and each target's landmarks as a receiver has them: sent, or guessed."""
    if not model.config.motion:
        return model.encode_keyframe(batch.key).select(batch.owner), None
    key = model.encode_keyframe(batch.key, batch.key_seen, batch.face).select(batch.owner)
    assert batch.now is not None
    assert batch.told is not None
    with torch.no_grad():
        return key, torch.where(batch.told, batch.now, model.guess(key, batch.tiny))


def run_network(model: Upsampler, batch: Batch, before: Tensor | None = None) -> Output:
    """What a network draws of a batch.

    ``before``: the `Output.memory` of the frames before, of a recurrent network; in pairs, the second of each is told
    of the first, which is drawn for that, without its gradient.
    """
    key, marks = references(model, batch)
    second = None
    if model.config.second_reference and batch.second is not None:
        second = model.encode_keyframe(batch.second).select(batch.owner)
    if model.config.recurrence and batch.pairs and before is None:
        with torch.no_grad():
            of_first = None if marks is None else marks[::2]
            first = model(key.select(slice(None, None, 2)), batch.tiny[::2], batch.mel[::2], marks=of_first)
            memory = first.memory()
        before = torch.stack((torch.zeros_like(memory), memory), 1).flatten(0, 1)
    return model(key, batch.tiny, batch.mel, before, second, marks)


def choose_device(name: str | None) -> torch.device:
    """The device of that name; without one a GPU where there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def set_up(args: argparse.Namespace) -> torch.device:
    """Set torch's threads and seed by a training's options; gives its device."""
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return choose_device(args.device)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture of a batch, in dB."""
    return -10 * (a - b).square().mean((1, 2, 3)).clamp(min=1e-10).log10()
