"""The command `tfcodec`.

Exit status: 0 done, 1 the input or the environment is at fault, 2 wrong usage, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import __version__
from .batch.command import add_batch
from .bench.command import add_bench
from .commands import add_decoding, add_device, add_encoding, decoding, encoding
from .errors import BitstreamError, MediaError, TfcodecError
from .simulator.command import add_simulate
from .web.command import add_export, add_play

if TYPE_CHECKING:
    from .codec.results import StreamInfo

Progress = Callable[[int, int], None]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfcodec",
        description="Talking-face video at about 2 kbit/s.",
        epilog="Exit status: 0 done, 1 input or environment at fault, 2 wrong usage, 130 interrupted, "
        "143 terminated. "
        "'-' stands for standard input or output.",
    )
    parser.add_argument("--version", action="version", version=f"tfcodec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    p = commands.add_parser("encode", help="video -> .tfc")
    p.add_argument("input", help="any video that FFmpeg reads, or -")
    p.add_argument("output", help=".tfc file, or -")
    add_encoding(p)
    add_device(p)
    _common(p)

    p = commands.add_parser("decode", help=".tfc -> video")
    p.add_argument("input", help=".tfc file, or -")
    p.add_argument("output", help=".mp4 or .mkv file, or - (Matroska)")
    add_decoding(p)
    add_device(p)
    _common(p)

    p = commands.add_parser("info", help="what a stream holds, and where its bytes go")
    p.add_argument("input", help=".tfc file, or -")
    p.add_argument("--json", action="store_true", help="machine-readable")

    p = commands.add_parser("verify", help="check a stream to the last bit that is exact")
    p.add_argument("input", help=".tfc file, or -")

    add_bench(commands)
    add_batch(commands)
    _common(add_simulate(commands))

    add_play(commands)
    add_export(commands)

    p = commands.add_parser("doctor", help="check this installation")
    p.add_argument("--lyra", metavar="FOLDER", help="check Lyra's model files there (else in the folder TFCODEC_LYRA)")
    p.add_argument("--json", action="store_true", help="machine-readable")
    return parser


def _common(p: argparse.ArgumentParser) -> None:
    p.add_argument("-f", "--force", action="store_true", help="overwrite the output if it exists; links are followed")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    args = build_parser().parse_args(argv)
    run = {
        "encode": _encode, "decode": _decode, "info": _info, "verify": _verify, "bench": _bench, "simulate": _simulate,
        "doctor": _doctor, "play": _play, "export": _export,
        "batch": _batch,
    }[args.command]  # fmt: skip
    with _terminable():
        try:
            status = run(args)
            if sys.stdout is not None:
                sys.stdout.flush()  # now, while an error can still be told
            return status
        except BitstreamError as error:
            name = getattr(args, "input", None)  # what the bytes that the error counts are of
            _say(f"{'standard input: ' if name == '-' else f'{name}: ' if name else ''}{error}")
            return 1
        except TfcodecError as error:
            _say(str(error))
            return 1
        except BrokenPipeError:
            _silence_output()  # the reader of our output has gone
            return 1
        except OSError as error:
            _say(f"{error.filename or 'standard output'}: {error.strerror or error}")
            _silence_output()
            return 1
        except ImportError as error:  # an installation that is not whole: it is no extra, whose errors are our own
            if (error.name or "").startswith("tfcodec"):
                raise
            _say(f"{error.name or 'a package'} cannot be loaded ({error}); `tfcodec doctor` says what is there")
            return 1
        except KeyboardInterrupt:
            _say("interrupted")
            return 130
        except _Terminated:
            _say("terminated")
            return 143


class _Terminated(BaseException):
    """The process was asked to end: what was begun is taken away on the way out."""


@contextmanager
def _terminable() -> Iterator[None]:
    import signal
    import threading

    def terminate(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        raise _Terminated

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(f"tfcodec: {' '.join(text.split())}", file=sys.stderr)


def _printable(text: str) -> str:
    """As standard output takes it: what has no place in its encoding is written as ``\\xe9``."""
    code = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(code, "backslashreplace").decode(code)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def _silence_output() -> None:
    # Python would complain once more when it flushes standard output at the end.
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise MediaError("standard input is closed")
    return sys.stdin.buffer


def _standard_output() -> BinaryIO:
    if sys.stdout is None:
        raise MediaError("standard output is closed")
    return sys.stdout.buffer


def _encode(args: argparse.Namespace) -> int:
    from .api import encode, probe
    from .files import write_atomically, write_to

    _refuse_overwrite(args)
    source: str | BinaryIO = _standard_input() if args.input == "-" else args.input
    with _bar("encode", args.quiet) as progress:
        data = encode(source, progress=progress, warn=_warn, device=args.device, **encoding(args))
    if args.output == "-":
        write_to(_standard_output(), data)
    else:
        write_atomically(args.output, data)
    if not args.quiet:
        print(_summary(probe(data)), file=sys.stderr)
    return 0


def _decode(args: argparse.Namespace) -> int:
    from .api import decode_to

    _refuse_overwrite(args)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mkv" if args.output == "-" else Path(args.output)
        with _bar("decode", args.quiet) as progress:
            reader = decode_to(
                _read(args.input), target, device=args.device, progress=progress, **decoding(args)
            )  # fmt: skip
        for line in reader.damaged:
            print(f"tfcodec: concealed: {line}", file=sys.stderr)
        if reader.speech_missing:
            print(f"tfcodec: without sound: {reader.speech_missing}", file=sys.stderr)
        if args.output == "-":
            with target.open("rb") as file:
                shutil.copyfileobj(file, _standard_output())
            _standard_output().flush()
    return 0


def _info(args: argparse.Namespace) -> int:
    from .api import probe

    info = probe(_read(args.input))
    if args.json:
        fields = {
            "frames": info.frames, "fps": info.fps, "duration_seconds": info.duration_seconds,
            "model_id": info.model_id, "model_hash": info.model_hash, "keyframes": info.keyframes,
            "inter_keyframes": list(info.inter_keyframes), "has_audio": info.has_audio, "bytes": info.bytes,
            "video_bpp": info.video_bpp, "kbps": info.kbps, "video_kbps": info.video_kbps,
            "audio_kbps": info.audio_kbps, "speech": info.speech,
        }  # fmt: skip
        print(json.dumps(fields, indent=1))
    else:
        print(_summary(info))
        for name, count in info.bytes.items():
            print(f"  {name:12} {count:8} bytes  {100 * count / info.bytes['total']:5.1f} %")
        if info.inter_keyframes:
            which = ", ".join(str(number) for number in info.inter_keyframes)
            print(f"  keyframes coded as differences from the one before: {which} of 0 to {info.keyframes - 1}")
        print(f"  network {info.model_id} ({info.model_hash}), {info.video_bpp:.6f} bits/pixel")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .api import open as open_stream
    from .model.registry import find_model, weights_file
    from .rates import SAMPLE_RATE

    reader = open_stream(_read(args.input), pixels=False)
    for _ in reader:
        pass
    if reader.speech is not None:
        reader.speech.rest(round(SAMPLE_RATE * reader.info.duration_seconds))  # it may be longer than the video
    info = reader.info
    weights_file(find_model(info.model_id, bytes.fromhex(info.model_hash)))
    speech = "no speech" if reader.speech is None else f"{reader.speech.length / reader.sample_rate:.2f} s of speech"
    if reader.speech_missing:
        speech = f"speech not checked ({reader.speech_missing})"
    print(f"ok: {info.frames} frames, {info.keyframes} keyframes, {speech}, network installed")
    return 0


def _bench(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .bench.command import bench

    with tqdm(desc="bench", unit="row", disable=args.quiet or not _is_terminal(), leave=False) as bar:
        return bench(args, bar)


def _batch(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .batch.command import batch

    with tqdm(
        desc="batch", unit="B", unit_scale=True, smoothing=0.05, disable=args.quiet or not _is_terminal(), leave=False
    ) as bar:
        return batch(args, bar)


def _simulate(args: argparse.Namespace) -> int:
    from .simulator.command import simulate_file

    if args.output == "-":
        raise MediaError("simulate needs a file to write to")
    if args.output is not None:
        _refuse_overwrite(args)
    with _bar("simulate", args.quiet) as progress:
        report = simulate_file(args, progress, _warn)
    if args.report:
        print(json.dumps(report.as_dict(), indent=1))
    if not args.quiet:
        print(report.summary(), file=sys.stderr)
    return 0


def _play(args: argparse.Namespace) -> int:
    from .web.command import play

    return play(args)


def _export(args: argparse.Namespace) -> int:
    from .web.command import export

    return export(args)


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import examine

    report = examine(args.lyra)
    if args.json:
        print(json.dumps([vars(line) for line in report], indent=1))
    else:
        for line in report:
            print(_printable(f"{'ok  ' if line.ok else 'FAIL' if line.needed else 'none'}  {line.what}: {line.found}"))
    return 0 if all(line.ok or not line.needed for line in report) else 1


def _summary(info: StreamInfo) -> str:
    sound = f", speech {info.audio_kbps:.2f} ({info.speech})" if info.has_audio else ", no sound"
    return (
        f"{info.kbps:.2f} kbit/s in all: video {info.video_kbps:.2f}{sound}; "
        f"{info.frames} frame{'s' * (info.frames != 1)}, {info.duration_seconds:.2f} s, {info.bytes['total']} bytes"
    )


def _read(name: str) -> bytes:
    from .api import read_source

    return read_source(_standard_input() if name == "-" else name)


def _refuse_overwrite(args: argparse.Namespace) -> None:
    from .files import check_place, refuse_same

    if "-" not in (args.input, args.output):
        refuse_same(args.input, args.output)
    if args.output != "-":
        check_place(args.output)
        if os.path.lexists(args.output) and not args.force:
            raise MediaError(f"{args.output} exists; -f overwrites it")
    if args.output == "-" and _standard_output().isatty():
        raise MediaError("not writing binary data to a terminal")


@contextmanager
def _bar(label: str, quiet: bool) -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(desc=label, unit="frame", disable=quiet or not _is_terminal(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


if __name__ == "__main__":
    sys.exit(main())
