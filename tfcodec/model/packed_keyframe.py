"""What is computed once a keyframe, in bfloat16: weights laid out once as oneDNN wants them, activations fused.

A single small picture spends as much time on bringing weights into the order that a convolution wants, on casts and on
activations as on the convolutions. Here the weights wait in that order, and activations and sums are part of the
convolution before them. Sums are kept in float32 within a convolution, and in bfloat16 from one to the next.
"""

from __future__ import annotations

import copy
import threading
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .blocks import ResBlock
from .laid_out import Block, Convolution, scripts
from .upsampler import Upsampler

Network = TypeVar("Network", bound=nn.Module)

_lock = threading.Lock()
_kept: WeakKeyDictionary[Upsampler, tuple[nn.Module | None, nn.Module]] = WeakKeyDictionary()


def can_pack() -> bool:
    """Whether this torch has the operations; that the processor multiplies in bfloat16 is for the caller to know."""
    return torch._C._has_mkldnn and scripts() is not None


def keyframe_parts(model: Upsampler) -> tuple[nn.Module | None, nn.Module]:
    """The network's restorer and keyframe encoder, packed; made once, in 20 ms, and shared by all threads."""
    with _lock:
        if model not in _kept:
            restorer = None if model.restorer is None else packed(model.restorer)
            _kept[model] = restorer, packed(model.keyframe)
        return _kept[model]


def packed(network: Network) -> Network:
    """A copy whose convolutions are packed, for inference on a processor; what it gives is rounded to bfloat16."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        out: Network = _packed(copy.deepcopy(network))
        return out


def _packed(module: Any) -> Any:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            assert child.padding == ((child.kernel_size[0] - 1) // 2,) * 2
            setattr(module, name, Convolution(child.weight, child.bias, None, torch.bfloat16, child.stride[0]))
        elif isinstance(child, ResBlock) and child.film is None:
            setattr(module, name, Block(child, None, torch.bfloat16))
        else:
            _packed(child)
    return module
