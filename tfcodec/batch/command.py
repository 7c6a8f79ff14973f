"""The command `tfcodec batch`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..errors import TfcodecError

if TYPE_CHECKING:
    from .options import Options
    from .run import Engine, Report

_ENCODING = ("quality", "kbps", "crop", "no_face", "no_refine", "speech", "silence", "no_motion", "strict")
_DECODING = {
    "lossless": "FFV1 and PCM in .mkv: exactly what was decoded",
    "conceal": "carry on past what is damaged",
    "coarse": "stage 1's 64x64 video",
    "fast": "draw in bfloat16 where the processor has it",
}


def add_batch(commands: Any) -> argparse.ArgumentParser:
    """Add `batch` to argparse's subcommands."""
    p: argparse.ArgumentParser = commands.add_parser(
        "batch", help="many videos -> .tfc files, or back, with a manifest",
        description="Does what is left to do: a second run goes on where the first was interrupted, or does nothing. "
        "A file that cannot be done never stops the others.",
        epilog="Exit status: 0 every file is done or skipped, 1 some have failed.",
    )  # fmt: skip
    p.add_argument(
        "input", help="folder (with its subfolders), list of paths (.txt) or table with a column path (.csv, .parquet)"
    )
    p.add_argument("output", help="folder for the outputs and manifest.jsonl")
    p.add_argument("-j", "--jobs", type=int, default=1, help="processes of one thread each (default 1)")
    p.add_argument("--dask", metavar="ADDRESS", help="on the workers of this Dask scheduler, tcp://host:8786, instead")
    p.add_argument("--retry", action="store_true", help="try again what failed because of the file itself")
    p.add_argument("-f", "--force", action="store_true", help="make everything anew; overwrite other files")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    p.add_argument(
        "--device", default="cpu", metavar="WHERE", help="where networks compute, as for the command encode"
    )
    e = p.add_argument_group("encoding, as for the command encode")
    e.add_argument("-q", "--quality", type=int, help="0 (fewest bits) to 10 (default 5)")
    e.add_argument("--kbps", type=float, metavar="N", help="a budget for each whole stream, in place of the quality")
    e.add_argument("--crop", choices=("auto", "none"), help="find the face (default), or take the centre square")
    e.add_argument(
        "--no-face", choices=("crop", "skip", "fail"),
        help="what becomes of a file without a face: the centre square; no stream; a failure (default)",
    )  # fmt: skip
    e.add_argument("--no-refine", action="store_true", help="up to twice as fast, a little worse")
    e.add_argument("--speech", metavar="CODEC", help="auto (default), opus, codec2, lyra, or none")
    e.add_argument("--silence", choices=("gate", "send"), help="speech while nobody speaks: none (default), or all")
    e.add_argument("--no-motion", action="store_true", help="no face tracker, no motion layer")
    e.add_argument("--strict", action="store_true", help="make errors of warnings about the input")
    d = p.add_argument_group("decoding, as for the command decode")
    d.add_argument("--decode", action="store_true", help=".tfc files -> videos")
    for name, what in _DECODING.items():
        d.add_argument(f"--{name}", action="store_true", help=what)
    return p


def batch(args: argparse.Namespace, bar: Any) -> int:
    """Run `tfcodec batch`; ``bar``: a tqdm bar. Raises TfcodecError."""
    from .run import run

    def progress(done: float, whole: float, report: Report) -> None:
        bar.total = whole
        bar.set_postfix_str(
            f"{report.finished}/{report.total} files" + f", {report.failed} failed" * bool(report.failed), refresh=False
        )
        bar.update(done - bar.n)

    options = _options(args)
    report = run(
        args.input, args.output, options, jobs=args.jobs, retry=args.retry, force=args.force, progress=progress,
        engine=None if args.dask is None else _dask(args.dask),
    )  # fmt: skip
    bar.clear()
    if not args.quiet:
        print("\n".join(report.lines()), file=sys.stderr)
    return 1 if report.failed else 0


def _dask(address: str) -> Engine:
    from .cluster import Dask

    return Dask(address)


def _options(args: argparse.Namespace) -> Options:
    from .options import Decoding, Encoding

    wrong = [name for name in (_ENCODING if args.decode else _DECODING) if getattr(args, name) not in (None, False)]
    if wrong:
        option = f"--{wrong[0].replace('_', '-')}"
        raise TfcodecError(f"{option} is for encoding" if args.decode else f"{option} is for --decode")
    if args.decode:
        return Decoding(args.lossless, args.conceal, args.coarse, args.fast, args.device)
    given = {name: getattr(args, name) for name in ("quality", "kbps", "crop", "no_face", "speech", "silence")}
    return Encoding(
        **{name: value for name, value in given.items() if value is not None}, refine=not args.no_refine,
        motion=not args.no_motion, strict=args.strict, device=args.device,
    )  # fmt: skip
