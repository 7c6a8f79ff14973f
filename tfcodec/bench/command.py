"""The command `tfcodec bench`: its options, and a run with a bar of progress."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_bench(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    p = commands.add_parser("bench", help="rate and quality against H.264, H.265 and AV1, on your own videos")
    p.add_argument("folder", help="folder of videos")
    p.add_argument("-o", "--output", required=True, help="folder for results and report; resumed")
    p.add_argument(
        "--codecs",
        help="comma-separated: tfcodec, frozen, bicubic8, x264, x265, svtav1; of speech: opus, lyra, codec2, amr "
        "(default: all)",
    )
    p.add_argument(
        "--metrics",
        help="comma-separated: lpips, psnr, ms_ssim, frame_difference, mouth, mouth_shape, identity; of speech: pesq, "
        "stoi, visqol, dnsmos (default: all)",
    )
    p.add_argument("--quick", action="store_true", help="four clips and a few settings")
    p.add_argument("--every", type=int, default=10, help="judge every n-th frame (default 10)")
    p.add_argument("-j", "--jobs", type=int, default=1, help="processes (default 1)")
    p.add_argument("--crop", choices=("auto", "none"), default="auto", help="as of encode")
    p.add_argument(
        "--players", choices=("file", "folder", "none"), default="file",
        help="side by side: file: videos within the report (default); folder: the streams themselves, which the "
        "browser decodes, in a folder beside it for a web server; none",
    )  # fmt: skip
    p.add_argument(
        "--no-players", dest="players", action="store_const", const="none", help="the same as --players none"
    )
    p.add_argument(
        "--earlier", metavar="RESULTS", help="results.json of an earlier run over the same clips, for all other codecs"
    )
    p.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def bench(args: argparse.Namespace, bar: Any) -> int:
    """Run the benchmark that ``args`` asks for; ``bar`` is tqdm's. Returns the exit status."""
    from .folder import how_to_look
    from .run import Options, describe, run

    def names(text: str | None) -> list[str] | None:
        return None if text is None else [part.strip() for part in text.split(",") if part.strip()]

    def progress(done: int, total: int, what: str) -> None:
        bar.total = total
        bar.set_postfix_str(what, refresh=False)
        bar.update(done - bar.n)

    def say(line: str) -> None:
        if not args.quiet:
            bar.clear()
            print(f"tfcodec: {line}", file=sys.stderr)

    options = Options(
        names(args.codecs), names(args.metrics), args.quick, args.every, args.jobs, args.crop, args.players,
        None if args.earlier is None else Path(args.earlier),
    )  # fmt: skip
    result = run(Path(args.folder), Path(args.output), options, progress=progress, say=say)
    bar.close()
    if not args.quiet:
        look = how_to_look(Path(args.output)) if args.players == "folder" else []
        for line in [*describe(result), f"report: {Path(args.output) / 'report.html'}", *look]:
            print(line, file=sys.stderr)
    return 1 if result["failures"] else 0
