"""The command `tfcodec batch`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..commands import add_decoding, add_device, add_encoding, decoding, encoding
from ..errors import TfcodecError

if TYPE_CHECKING:
    from .options import Options
    from .run import Engine, Report


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
    add_device(p)
    e = p.add_argument_group("encoding, as for the command encode")
    add_encoding(e)
    e.add_argument(
        "--no-face", choices=("crop", "skip", "fail"), default="fail",
        help="what becomes of a file without a face: the centre square; no stream; a failure (default)",
    )  # fmt: skip
    d = p.add_argument_group("decoding, as for the command decode")
    d.add_argument("--decode", action="store_true", help=".tfc files -> videos")
    add_decoding(d)
    # What is given for the other direction would be without effect.
    p.set_defaults(of_encoding=_defaults(e), of_decoding=_defaults(d))
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


def _defaults(group: Any) -> dict[str, Any]:
    return {action.dest: action.default for action in group._group_actions if action.dest != "decode"}


def _options(args: argparse.Namespace) -> Options:
    from .options import Decoding, Encoding

    others = args.of_encoding if args.decode else args.of_decoding
    for name, default in others.items():
        if getattr(args, name) != default:
            option = f"--{name.replace('_', '-')}"
            raise TfcodecError(f"{option} is for encoding" if args.decode else f"{option} is for --decode")
    if args.decode:
        given = decoding(args)
        conceal = given.pop("errors") == "conceal"
        return Decoding(**given, conceal=conceal, device=args.device)
    return Encoding(**encoding(args), no_face=args.no_face, device=args.device)
