"""The command `tfcodec simulate`: its options, and a file sent through a call over a bad network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..media import VideoWriter
    from ..media.source import SourceClip
    from .call import CallReport


def add_simulate(commands: Any) -> argparse.ArgumentParser:
    """Add the command to argparse's subcommands."""
    p: argparse.ArgumentParser = commands.add_parser(
        "simulate", help="a call over a bad network -> video of what arrives",
        description="Sends a video through the call codec and a simulated network, in simulated time, and writes what "
        "the receiver shows. The same losses act on the way back, where the receiver's feedback travels.",
    )  # fmt: skip
    p.add_argument("input", help="any video that FFmpeg reads, or -")
    p.add_argument("-o", "--output", help=".mp4 or .mkv file of what the receiver shows; without it nothing is drawn")
    p.add_argument("-q", "--quality", type=int, default=5, help="0 (fewest bits) to 10 (default 5)")
    p.add_argument("--crop", choices=("auto", "none"), default="auto", help="as for encode")
    p.add_argument("--strict", action="store_true", help="as for encode")
    p.add_argument("--report", action="store_true", help="print where the bytes go and how the call went, as JSON")
    network = p.add_argument_group("network")
    network.add_argument("--loss", type=float, default=0.0, help="share of packets lost, 0 to 1 (default 0)")
    network.add_argument("--burst", type=float, default=1.0, help="packets lost in a row, mean (default 1)")
    network.add_argument("--delay", type=float, default=50.0, help="ms each way (default 50)")
    network.add_argument("--jitter", type=float, default=0.0, help="mean of a random further delay in ms (default 0)")
    network.add_argument("--reorder", type=float, default=0.0, help="share of packets held back by 60 ms (default 0)")
    network.add_argument("--duplicate", type=float, default=0.0, help="share of packets that arrive twice (default 0)")
    network.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default 0)")
    network.add_argument("--no-feedback", action="store_true", help="the receiver cannot answer")
    network.add_argument(
        "--transport", choices=("datachannel", "rtp", "udp"), default="datachannel",
        help="whose headers are counted (default: datachannel)",
    )  # fmt: skip
    ends = p.add_argument_group("sender and receiver")
    ends.add_argument("--bundle", type=int, default=2, help="frames in a packet, 1 to 4 (default 2)")
    ends.add_argument("--redundancy", default="auto", help="earlier packets repeated, 0 to 6, or auto (default)")
    ends.add_argument("--refresh", type=int, default=25, help="frames between restarts without feedback (default 25)")
    ends.add_argument("--lookahead", type=int, choices=(0, 1, 2), default=0, help="frames to wait for (default 0)")
    return p


def simulate_file(
    args: argparse.Namespace, progress: Callable[[int, int], None], warn: Callable[[str], None] | None = None
) -> CallReport:
    """Run the call that the options describe; ``warn`` is called with warnings about the input. Raises TfcodecError."""
    from ..errors import MediaError
    from ..media import VideoWriter, open_source
    from ..rates import FPS, SAMPLE_RATE

    if args.input == "-" and sys.stdin is None:
        raise MediaError("standard input is closed")
    source: Any = sys.stdin.buffer if args.input == "-" else args.input
    with open_source(source, crop=args.crop, strict=args.strict, warn=warn) as clip:
        if args.output is None:
            report = _run(clip, args, progress, None)
        else:
            sound = None if clip.audio is None else ()
            with VideoWriter(args.output, FPS, 256, sound, SAMPLE_RATE) as writer:
                report = _run(clip, args, progress, writer)
    if not report.frames:
        raise MediaError("the source has no frames")
    return report


def _run(
    clip: SourceClip, args: argparse.Namespace, progress: Callable[[int, int], None], writer: VideoWriter | None
) -> CallReport:
    from ..codec.call.decoder import Decoder
    from ..codec.call.overhead import DATA_CHANNEL, RTP, UDP
    from ..codec.encoder import Encoder
    from .call import CallReport, Network, simulate
    from .link import Link

    ms = {"delay": args.delay / 1000, "jitter": args.jitter / 1000}
    shares = {"reorder": args.reorder, "duplicate": args.duplicate}
    there, back = (Link(args.loss, args.burst, **ms, **shares, seed=2 * args.seed + way) for way in (0, 1))
    encoder = Encoder(
        args.quality, "call", audio=clip.audio is not None, bundle=args.bundle, refresh=args.refresh,
        redundancy=int(args.redundancy) if str(args.redundancy).isdigit() else args.redundancy,
        origin=0,
    )  # fmt: skip
    transport = {"datachannel": DATA_CHANNEL, "rtp": RTP, "udp": UDP}[args.transport]
    report = CallReport()
    shown = simulate(
        clip.frames_iter(), clip.audio, Network(there, back, not args.no_feedback, transport), encoder=encoder,
        decoder=Decoder(lookahead=args.lookahead), report=report, draw=lambda tick: writer is not None,
    )  # fmt: skip
    for picture, sound in shown:
        if writer is not None:
            if clip.audio is not None:
                writer.write_sound(sound)
            writer.write(picture)
        progress(report.frames, clip.frame_count)
    return report
