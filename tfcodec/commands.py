"""Options that several commands have, and what the library calls them."""

from __future__ import annotations

import argparse
from typing import Any


def add_encoding(p: Any) -> None:
    """Add the options of encoding to a parser or a group."""
    p.add_argument("-q", "--quality", type=int, help="0 (fewest bits) to 10 (default 5)")
    p.add_argument(
        "--crop", choices=("auto", "none"), default="auto",
        help="auto: find the face and keep a steady square around it (default); none: the centre square",
    )  # fmt: skip
    p.add_argument(
        "--no-refine", action="store_true",
        help="up to twice as fast, a little worse: tiny frames are box means, not what the network draws best from",
    )  # fmt: skip
    p.add_argument(
        "--kbps", type=float, metavar="N",
        help="a budget for the whole stream, speech included: quality and speech codec are found to fit",
    )  # fmt: skip
    p.add_argument(
        "--speech", default="auto", metavar="CODEC",
        help="auto (Opus, unless --kbps needs another; default), opus, codec2, lyra, each also with a bit rate "
        "(lyra:2400), or none: leave the sound out",
    )  # fmt: skip
    p.add_argument(
        "--silence", choices=("gate", "send"), default="gate",
        help="speech while nobody speaks: gate: send none (default); send: send all",
    )  # fmt: skip
    p.add_argument(
        "--no-motion", action="store_true",
        help="no face tracker, no motion layer: about 10 bits a frame less, and mouth and eyes hardly move",
    )  # fmt: skip
    p.add_argument("--strict", action="store_true", help="make errors of warnings about the input")


def encoding(args: argparse.Namespace) -> dict[str, Any]:
    """What `tfcodec.encode` and `tfcodec.encode_batch` call them."""
    return {
        "quality": args.quality, "crop": args.crop, "refine": not args.no_refine, "kbps": args.kbps,
        "speech": args.speech, "silence": args.silence, "motion": not args.no_motion, "strict": args.strict,
    }  # fmt: skip


def add_decoding(p: Any) -> None:
    """Add the options of decoding into a file to a parser or a group."""
    p.add_argument("--lossless", action="store_true", help="FFV1 and PCM in .mkv: exactly what was decoded")
    p.add_argument("--conceal", action="store_true", help="carry on past what is damaged, and list it")
    p.add_argument("--coarse", action="store_true", help="stage 1's 64x64 video instead of the 256x256 one")
    p.add_argument(
        "--fast", action="store_true",
        help="draw in bfloat16 where the processor has it: faster, pixels move by a grey level or two",
    )  # fmt: skip
    p.add_argument("--network", metavar="NAME", help="light: draw with the light network, faster and not quite as well")
    p.add_argument("--batch", type=int, metavar="N", help="frames to draw together (default 8, on a graphics card 64)")
    p.add_argument(
        "--runtime", choices=("torch", "ncnn"), default="torch",
        help="what draws: torch (default) or ncnn, which starts sooner and needs less memory (extra fast)",
    )  # fmt: skip


def decoding(args: argparse.Namespace) -> dict[str, Any]:
    """What `tfcodec.decode_to` and `tfcodec.decode_batch` call them."""
    return {
        "lossless": args.lossless, "errors": "conceal" if args.conceal else "raise", "coarse": args.coarse,
        "fast": args.fast, "network": args.network, "batch": args.batch, "runtime": args.runtime,
    }  # fmt: skip


def add_device(p: Any) -> None:
    """Add the option that says where networks compute."""
    p.add_argument(
        "--device", default="cpu", metavar="WHERE",
        help="where networks compute: cpu (default), cuda, cuda:1, mps, or auto: cuda where there is such a card",
    )  # fmt: skip
