"""The commands `tfcodec play` and `tfcodec export`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any


def add_export(commands: Any) -> argparse.ArgumentParser:
    """Add `export` to argparse's subcommands."""
    p: argparse.ArgumentParser = commands.add_parser(
        "export", help="the network for programs without torch",
        description="Writes the network as ONNX files, with a card that says what goes in and comes out, and checks "
        "that onnxruntime draws what torch draws.",
    )  # fmt: skip
    p.add_argument("format", choices=("onnx",), help="onnx")
    p.add_argument("folder", help="where to write; the folder is made")
    p.add_argument(
        "--network", metavar="N|NAME", help="its number in the registry, or light: the light one (default: the newest)"
    )
    p.add_argument("--quiet", action="store_true", help="no summary")
    return p


def add_play(commands: Any) -> argparse.ArgumentParser:
    """Add `play` to argparse's subcommands."""
    p: argparse.ArgumentParser = commands.add_parser(
        "play", help="play a stream in the browser, or write a page that does",
        description="The page decodes the stream by itself: nothing is drawn on the server.",
    )  # fmt: skip
    p.add_argument("input", nargs="?", help=".tfc file; without one, streams can be dropped on the page")
    p.add_argument("--page", metavar="OUT", help="write the page, with all that it needs, into this folder instead")
    p.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any that is free)")
    p.add_argument("--no-browser", action="store_true", help="only print the address")
    p.add_argument("--model", metavar="DIR", help="what `tfcodec export onnx` wrote (default: exported once, and kept)")
    p.add_argument("--network", metavar="NAME", help="light: the light network, for machines that are not fast enough")
    p.add_argument(
        "--runtime", metavar="DIR|URL",
        help="onnxruntime-web's files, or the address that the page loads them from (default: what `make web` set up)",
    )  # fmt: skip
    p.add_argument("-f", "--force", action="store_true", help="write into a folder that is not empty")
    p.add_argument("--quiet", action="store_true", help="say nothing but the address")
    return p


def export(args: argparse.Namespace) -> int:
    """Run `tfcodec export`. Raises TfcodecError."""
    from ..errors import WeightsError
    from ..model.portable import export_onnx
    from ..model.registry import default_model, models, stand_in

    entries = {str(entry.model_id): entry for entry in models()}
    if args.network is None or not args.network.isdigit():
        entry = stand_in(default_model(), args.network)
    elif args.network in entries:
        entry = entries[args.network]
    else:
        raise WeightsError(f"there is no network {args.network}: there are {', '.join(entries)}")
    card = export_onnx(entry, args.folder)
    if not args.quiet:
        for part in card["graphs"].values():
            print(f"{Path(args.folder) / part['file']}: {part['bytes']} bytes", file=sys.stderr)
        print(f"network {entry.title}, {card['self_test']['psnr_db']} dB against torch", file=sys.stderr)
    return 0


def play(args: argparse.Namespace) -> int:
    """Run `tfcodec play`. Raises TfcodecError."""
    import tempfile
    import webbrowser

    from . import page
    from .server import Server

    sources = page.Sources(args.input, args.model, args.runtime, args.network)
    if args.page is not None:
        page.write(args.page, sources, force=args.force)
        if not args.quiet:
            print(f"{args.page}: a page for any web server.\n{page.HEADERS_NOTE}", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory(prefix="tfcodec-play-") as folder:
        page.write(folder, sources, force=True)
        with Server(folder, args.port) as server:
            print(server.address, flush=True)
            if not args.no_browser:
                webbrowser.open(server.address)
            with contextlib.suppress(KeyboardInterrupt):  # how one leaves it
                server.wait()
    return 0
