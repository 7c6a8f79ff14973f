"""What a run begins with: a new network, or one with weights of others.

A light network that begins with others' weights leaves as they are what it has in common with the full one.
"""

from __future__ import annotations

import argparse
import sys

from torch import nn

from ..errors import TfcodecError
from ..model.config import SHAPES
from ..model.upsampler import Upsampler
from ..model.weights import read_weights
from .landmarks import read_prior
from .options import network_config
from .restoration import read_restorer
from .steps import is_hint


def start_network(args: argparse.Namespace) -> Upsampler:
    """A new network, with the weights of ``--weights``, ``--prior`` and ``--restorer`` where there are such."""
    network = Upsampler(network_config(args.without, args.additions, args.shape))
    if "copy_first" in args.without:
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.detach().any():
                module.reset_parameters()
    if args.weights:
        take_weights(network, args)
    if args.weights and SHAPES[args.shape].light:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not is_shared(name))
    if args.prior and network.stage1.prior is not None:
        read_prior(args.prior, network.stage1.prior)
    if args.restorer and network.restorer is not None:
        read_restorer(args.restorer, network.restorer)
    return network


def is_shared(name: str) -> bool:
    """Whether a tensor of a light network is that of the network that it stands in for, and stays as it is.

    The tracker has to be: what is sent of a face's motion is relative to what it finds.
    """
    shared = ("keyframe.stem", "keyframe.block", "keyframe.down", "restorer.", "tracker.", "stage1.prior.")
    return name.startswith(shared)


def take_weights(network: Upsampler, args: argparse.Namespace) -> None:
    """Put the weights of ``--weights`` into a network.

    An ablation may begin with the weights of the whole network: what it does without is left out. Weights from before
    there was a landmark prior, a tracker, a restorer, close-ups, a frame before or a second reference leave that, and
    what listens to it, as new. Raises TfcodecError when anything else is missing, and when the shapes are different
    and not ``--fitting``.
    """
    start = read_weights(args.weights)
    state = start.state_dict()
    if start.config.shape != args.shape:
        if not args.fitting:
            raise TfcodecError(f"--weights {args.weights}: a network of shape {start.config.shape}, not {args.shape}")
        wanted = network.state_dict()
        state = {n: t for n, t in state.items() if n in wanted and t.shape == wanted[n].shape}
        print(f"{len(state)} of {len(wanted)} tensors taken from {args.weights.name}", file=sys.stderr)
    found = network.load_state_dict(state, strict=False)
    new = [n for n in found.missing_keys if not is_hint(n) and ".prior." not in n and not n.startswith("tracker.")]
    if "audio" in args.additions:
        new = [n for n in new if ".speech." not in n and ".film." not in n]
    if new and start.config.shape == args.shape:
        raise TfcodecError(f"--weights {args.weights}: has no weights for {', '.join(new[:5])} ...")
