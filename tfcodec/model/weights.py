"""Loading and saving the network's weights (safetensors, float16 on disk, float32 in memory)."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from ..errors import WeightsError
from ..files import write_atomically
from . import threads as threads  # which sees to it that a process may be forked
from .blocks import to_load
from .config import NetworkConfig
from .registry import ModelEntry, weights_files
from .upsampler import Upsampler


def save_weights(model: Upsampler, path: str | Path, base: Path | None = None) -> None:
    """Write the weights as float16 with the network's options, under a temporary name first.

    ``base``: another network's file; what is the same there is left out, and is read from there.
    """
    state, about = _halves(model), {"config": model.config.to_json()}
    if base is not None:
        known = _halves(read_weights(base))
        state = {n: t for n, t in state.items() if n not in known or not torch.equal(t, known[n])}
        about["base"] = base.name
    write_atomically(path, safetensors.torch.save(state, about))


def _halves(model: Upsampler) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in model.state_dict().items()}


def read_weights(path: str | Path, bases: Sequence[str | Path] = ()) -> Upsampler:
    """The network with weights from a file; those that are not there from the first of ``bases``, files of others,
    that has them. Without ``bases`` it is the file beside it that the file names, if it does, and so on.

    Raises WeightsError if the files do not fit or the network's options are unknown.
    """
    state: dict[str, torch.Tensor] = {}
    model: Upsampler | None = None
    files = [Path(path), *map(Path, bases)]
    try:
        for at in files:  # which grows
            with safetensors.safe_open(at, framework="pt") as file:
                names, about = file.keys(), file.metadata() or {}
                if model is None:
                    config = NetworkConfig.from_json(about.get("config"))
                    model = to_load(partial(Upsampler, config))
                else:
                    wanted = model.state_dict().keys() - state.keys()
                    names = [name for name in names if name in wanted]
                state |= {name: file.get_tensor(name) for name in names}
            if not bases and "base" in about and (below := at.parent / Path(about["base"]).name) not in files:
                files.append(below)
        assert model is not None
        model.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold weights of this network: {error}") from None
    return model.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


_loading = threading.Lock()


def load_model(entry: ModelEntry, device: str = "cpu") -> Upsampler:
    """A registered network, ready to run on ``device``; kept in memory for the next call, and the same for all threads.

    The device is one of torch's (see `device.find_device`).
    """
    with _loading:
        return _load(entry) if device == "cpu" else _load_on(entry, device)


@lru_cache(maxsize=2)
def _load_on(entry: ModelEntry, device: str) -> Upsampler:
    return copy.deepcopy(_load(entry)).to(device)


@lru_cache(maxsize=2)
def _load(entry: ModelEntry) -> Upsampler:
    path, *bases = weights_files(entry)
    return read_weights(path, bases)
