"""A run's state on disk: safetensors files of at most 15 MiB and a manifest, so that it can be carried in pieces.

The manifest is written last, under a temporary name first: a state is there whole, or the one before still is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import TfcodecError
from ..files import sha256, write_atomically, write_json

LIMIT = 15 * 2**20


def save_state(
    folder: Path, tensors: dict[str, Tensor], about: dict[str, Any], *, small: bool = False, average: Path | None = None
) -> None:  # fmt: skip
    """Write tensors and ``about`` (JSON; with "step") into a folder.

    ``small`` keeps the optimiser's moments, and how far the weights are from their moving average, as bfloat16: three
    fifths of the size, but the run then does not go on bit for bit.
    ``average``: weights file beside the folder that has the moving average already. The state is then small, and holds
    neither that nor weights that have no moments: those that are not trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    small = small or average is not None
    if average is not None:
        tensors |= {f"ema.{n}": t.float() for n, t in safetensors.torch.load_file(average).items()}
        about = {**about, "average": {"file": average.name, "sha256": sha256(average)}}
    if small:
        tensors = {name: _shrunk(name, tensor, tensors) for name, tensor in tensors.items()}
    if average is not None:
        trained = {n.removeprefix("exp_avg.") for n in tensors if n.startswith("exp_avg.")}
        tensors = {
            n: t for n, t in tensors.items()
            if not n.startswith("ema.") and (not n.startswith("model.") or n.removeprefix("model.") in trained)
        }  # fmt: skip
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        needed = tensor.numel() * tensor.element_size() + len(name) + 200  # and its line in the header
        if shards[-1] and size + needed > LIMIT:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += needed
    files = []
    for i, shard in enumerate(shards):
        path = folder / f"state-{about['step']:08d}-{i:02d}.safetensors"
        write_atomically(path, safetensors.torch.save(shard))
        files.append({"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)})
    manifest = {**about, "small": small, "files": files}
    write_json(folder / "manifest.json", manifest)
    for path in folder.glob("state-*"):
        if path.name not in {f["file"] for f in files}:
            path.unlink()


def has_state(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and what was said about them. Raises TfcodecError when a file is missing or damaged."""
    try:
        about: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        tensors: dict[str, Tensor] = {}
        for file in about["files"]:
            path = folder / file["file"]
            if not path.is_file() or sha256(path) != file["sha256"]:
                raise TfcodecError(f"{path} is missing or damaged ({len(about['files'])} files in all)")
            tensors |= safetensors.torch.load_file(path)
        if average := about.get("average"):
            path = folder.parent / average["file"]
            if not path.is_file() or sha256(path) != average["sha256"]:
                raise TfcodecError(f"{path} is missing or not the one that {folder} belongs to")
            tensors |= {f"ema.{n}": t.float() for n, t in safetensors.torch.load_file(path).items()}
    except (OSError, ValueError, KeyError) as error:
        raise TfcodecError(f"{folder}: no training state that can be read ({error})") from None
    if about["small"]:
        tensors = {name: _restored(name, tensor, tensors) for name, tensor in tensors.items()}
        for name, tensor in list(tensors.items()):
            if name.startswith("ema."):
                tensors.setdefault("model." + name.removeprefix("ema."), tensor)
    return tensors, about


def _shrunk(name: str, tensor: Tensor, every: dict[str, Tensor]) -> Tensor:
    average = every.get("ema." + name.removeprefix("model.")) if name.startswith("model.") else None
    if average is not None:
        return (tensor - average).bfloat16()
    return tensor.bfloat16() if name.startswith(("exp_avg.", "exp_avg_sq.")) else tensor


def _restored(name: str, tensor: Tensor, every: dict[str, Tensor]) -> Tensor:
    average = every.get("ema." + name.removeprefix("model.")) if name.startswith("model.") else None
    return tensor.float() if average is None else tensor.float() + average


def optimiser_tensors(
    optimiser: torch.optim.Optimizer, parameters: list[tuple[str, torch.nn.Parameter]], prefix: str = ""
) -> dict[str, Tensor]:
    """AdamW's state by parameter name."""
    out = {}
    for name, parameter in parameters:
        for kind, value in optimiser.state.get(parameter, {}).items():
            out[f"{prefix}{kind}.{name}"] = value
    return out


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: list[tuple[str, torch.nn.Parameter]], tensors: dict[str, Tensor],
    prefix: str = "",
) -> None:  # fmt: skip
    for name, parameter in parameters:
        step = tensors.get(f"{prefix}step.{name}")
        if step is None:
            continue
        # In the parameter's own memory order, as the fused step wants it.
        moments = {
            kind: torch.empty_like(parameter).copy_(tensors[f"{prefix}{kind}.{name}"]).detach()
            for kind in ("exp_avg", "exp_avg_sq")
        }
        optimiser.state[parameter] = {"step": step.to(parameter.device), **moments}
