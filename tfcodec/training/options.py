"""Command-line options of training, and the variants that ablations compare."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from ..model.config import DEFAULT, SHAPES, NetworkConfig

PARTS = tuple(field.name for field in fields(NetworkConfig) if getattr(DEFAULT, field.name) is True)
ADDITIONS = tuple(field.name for field in fields(NetworkConfig) if getattr(DEFAULT, field.name) is False)
NEEDS = {
    "landmarks": ("keyframe",), "restoration": ("keyframe",), "motion": ("landmarks",), "closeups": ("motion",),
}  # fmt: skip
"""What a part cannot do without: it is left out together with that."""
PRIOR_PARTS = ("window",)
"""Those that the landmark prior has too."""

_SUPER_RESOLUTION = ["--without", "keyframe", "--loss", "warped=0", "landmarks=0", "mouth=0"]

VARIANTS: dict[str, list[str]] = {
    "full": [],
    "no-keyframe-l1": [*_SUPER_RESOLUTION, "perceptual=0"],
    "no-keyframe": _SUPER_RESOLUTION,
    "coarse-only": ["--without", "stage2"],
    "single-frame": ["--without", "window"],
    "no-landmarks": ["--without", "landmarks"],
    "no-motion": ["--without", "motion"],
    "no-closeups": ["--without", "closeups"],
    "no-restoration": ["--without", "restoration"],
    "audio": ["--with", "audio"],
    "no-consistency": ["--without", "consistency"],
    "no-projection": ["--without", "projection"],
    "no-copy-first": ["--without", "copy_first"],
    "no-lpips": ["--loss", "perceptual=0"],
    "no-region": ["--loss", "region=0"],
    "adversarial": ["--loss", "adversarial=0.3"],
    "temporal": ["--loss", "temporal=2"],
    "recurrence": ["--loss", "temporal=2", "--with", "recurrence", "--hint-rate", "5"],
    "second-reference": ["--with", "second_reference", "--hint-rate", "5"],
    "wide": ["--shape", "wide"],
    "deep": ["--shape", "deep"],
    "large": ["--shape", "large"],
    "light": ["--shape", "light"],
}
"""Name of a variant -> what it changes. Two super-resolutions from the tiny frames alone: L1 and perceptual."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="tfcodec.training.train", description="Train the upsampling network.", allow_abbrev=False
    )
    p.add_argument("pack", type=Path, help="prepared pack")
    p.add_argument("run", type=Path, help="folder of this run: state, card, logs, curve, sample sheets")
    p.add_argument("--weights", type=Path, help="weights that a new run begins with, such as the shipped ones")
    p.add_argument("--fitting", action="store_true", help="of --weights of another shape take what fits")
    p.add_argument("--prior", type=Path, help="weights of the landmark prior, from tfcodec.training.landmarks")
    p.add_argument("--restorer", type=Path, help="weights of the restorer, from tfcodec.training.restoration")

    g = p.add_argument_group("how long")
    g.add_argument("--minutes", type=float, default=30, help="end this call after so many minutes, loading included")
    g.add_argument("--steps", type=int, help="end when the run has so many steps")
    g.add_argument("--schedule-minutes", type=float, help="planned training time of the run over all calls; ends it")
    g.add_argument("--schedule-steps", type=int, help="planned steps of the run over all calls; ends it")
    g.add_argument("--anneal", action="store_true", help="cosine learning rate over the schedule, or over this call")

    g = p.add_argument_group("steps")
    g.add_argument("--keys", type=int, default=4, help="keyframes a step (of each process)")
    g.add_argument("--targets", type=int, default=4, help="targets of each keyframe; even with a temporal loss")
    g.add_argument("--accumulate", type=int, default=1, help="batches a step")
    g.add_argument("--lr", type=float, default=4e-4)
    g.add_argument("--warm-up", type=int, default=50, help="steps until the learning rate is reached")
    g.add_argument("--clip", type=float, default=2.0, help="largest norm of the gradient")
    g.add_argument("--ema", type=float, default=0.998, help="decay of the moving average of the weights, a step")
    g.add_argument("--seed", type=int, default=0)
    g.add_argument("--augment", choices=("light", "full"), help="full: also crop and gamma (default on a GPU)")
    g.add_argument("--freeze-prior", action="store_true", help="leave the landmark prior as it is")
    g.add_argument(
        "--hint-rate", type=float, default=1,
        help="learning rate of what listens to the prior, the frame before or a second reference, of the restorer and "
        "of the close-ups, times --lr",
    )  # fmt: skip
    g.add_argument("--no-speed", action="store_true", help="no windows at double speed")

    g = p.add_argument_group("what")
    g.add_argument("--coarse-only", action="store_true", help="for now train stage 1 alone, at 64x64")
    g.add_argument("--variant", choices=list(VARIANTS), default="full", help="an ablation: see options.VARIANTS")
    g.add_argument(
        "--without", nargs="+", action="extend", default=[], choices=(*PARTS, "copy_first"), help="parts to leave out"
    )
    g.add_argument(
        "--with", nargs="+", action="extend", default=[], choices=ADDITIONS, dest="additions", help="parts to add"
    )
    g.add_argument("--shape", choices=tuple(SHAPES), default=DEFAULT.shape, help="how wide and deep the network is")
    g.add_argument("--loss", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="weights of the losses")

    g = p.add_argument_group("machine")
    g.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    g.add_argument("--threads", type=int, default=0, help="threads of torch on a CPU")
    g.add_argument("--loaders", type=int, help="threads that decode the pack (default: one a core)")
    g.add_argument(
        "--compile", nargs="?", const="network", choices=("network", "all"),
        help="torch.compile: the network and the losses that need no other network, or all",
    )  # fmt: skip
    g.add_argument("--warn-sync", action="store_true", help="say where a step waits for the GPU")
    g.add_argument("--fp32", action="store_true", help="no bfloat16")
    g.add_argument("--small-state", action="store_true", help="state of 48 instead of 77 MiB; no longer bit for bit")

    g = p.add_argument_group("reports")
    g.add_argument("--eval-every", type=int, default=250, help="steps between evaluations on val; also saves the state")
    g.add_argument("--sheet-every", type=int, default=1000, help="steps between sample sheets")
    g.add_argument("--log-every", type=int, default=10)
    g.add_argument("--quiet", action="store_true")
    return p


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    args = parser().parse_args(argv)
    if args.variant != "full":
        # The variant's own options first, so that given ones still count.
        base = parser().parse_args([str(args.pack), str(args.run), *VARIANTS[args.variant]])
        args = parser().parse_args(argv, base)
    return args


def network_config(without: list[str], additions: Sequence[str] = (), shape: str = DEFAULT.shape) -> NetworkConfig:
    left_out = {name for name in without if name in PARTS}
    for part, needed in NEEDS.items():  # in an order in which what is needed comes first
        if left_out.intersection(needed):
            left_out.add(part)
    return replace(DEFAULT, shape=shape, **dict.fromkeys(left_out, False), **dict.fromkeys(additions, True))
