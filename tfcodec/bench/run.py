"""`run`: the whole benchmark of a folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..arguments import whole
from ..errors import MediaError, TfcodecError
from ..files import make_folder, write_atomically
from ..web.page import Sources, kept_model
from . import speech
from .analysis import add_totals
from .arms import CODECS, DELAY_NAMES, Arm, Frames, select
from .earlier import add_earlier
from .earlier import read as read_earlier
from .measure import METRICS, available
from .runner import Progress, Row, environment, make_jobs, missing, read_row, run_jobs
from .sources import CropMode, Source, digest, find_clips, load

DEFAULT_EVERY = 10
QUICK_CLIPS = 4
SELF_TEST_CLIPS = 8
TITLES_OF_METRICS = {name: metric.title for name, metric in {**METRICS, **speech.METRICS}.items()}
Players = Literal["file", "folder", "none"]
STILL = 0.25
"""Grey levels between frames far apart, on average, below which a clip does not move."""


def require_extra() -> None:
    """Raise TfcodecError unless the packages of the extra ``bench`` are there."""
    for package in ("bjontegaard", "matplotlib"):
        try:
            __import__(package)
        except ImportError:
            raise TfcodecError(f"the benchmark needs the package {package}: pip install 'tfcodec[bench]'") from None


@dataclass(frozen=True)
class Options:
    """What to measure, and how.

    Attributes:
        codecs: names from CODECS and from `speech.CODECS` to bring up to date; None: all.
        metrics: names from METRICS and from `speech.METRICS`; None: all whose networks and packages are there.
        quick: the first clips and a few arms only.
        every: judge every n-th frame.
        jobs: processes.
        crop: as of `encode`.
        players: the side-by-side players: ``"file"``, videos within the report; ``"folder"``, the streams themselves,
            in a folder beside it, for a web server; ``"none"``.
        earlier: results.json of an earlier run over the same clips, of which rows of all settings are taken that OUT
            has none of; there are no players then.

    Raises:
        TfcodecError: ``every`` or ``jobs`` is less than 1, a name is unknown, or players in a folder are asked for
            beside ``earlier``, of which there are no streams.
    """

    codecs: list[str] | None = None
    metrics: list[str] | None = None
    quick: bool = False
    every: int = DEFAULT_EVERY
    jobs: int = 1
    crop: CropMode = "auto"
    players: Players = "file"
    earlier: Path | None = None

    def __post_init__(self) -> None:
        for name in ("every", "jobs"):
            whole(name, getattr(self, name), 1)
        if self.players == "folder" and self.earlier is not None:
            raise TfcodecError("players in a folder play all codecs' files; an earlier run's results have none")
        _check_names("kind of players", [str(self.players)], get_args(Players))
        _check_names("codec", self.codecs, (*CODECS, *speech.CODECS))
        _check_names("metric", self.metrics, (*METRICS, *speech.METRICS))

    def of(self, names: list[str] | None, known: Iterable[str]) -> list[str]:
        """Those of ``codecs`` or ``metrics`` that are among ``known``."""
        return [name for name in known if names is None or name in names]


def _check_names(kind: str, names: list[str] | None, known: tuple[str, ...]) -> None:
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise TfcodecError(f"no {kind} called {', '.join(unknown)}; there are {', '.join(known)}")


def run(
    folder: Path,
    out: Path,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Benchmark the videos of a folder; writes OUT/results.json, OUT/summary.csv and OUT/report.html,
    and OUT/report if players in a folder are asked for.

    Rows that OUT has already, of codecs that are not named now too, are part of the result; what is missing or was made
    with another network, other settings or from another clip is made again.

    Args:
        folder: videos of any size; longer ones than a minute are cut.
        out: folder for everything that is written.
        options: what to measure, and how.
        progress: called with (rows done, rows in all, what was done last).
        say: takes lines about what is left out, and why.

    Returns:
        What results.json holds.

    Raises:
        TfcodecError: no videos, unknown names, an extra that is not installed, metrics that fail their self-test, or
            not one row that could be made.
    """
    require_extra()
    options = options or Options()
    clips, arms = find_clips(folder), _arms(options)
    # Before anything is measured.
    earlier = None if options.earlier is None else read_earlier(options.earlier, vars(options))
    # Exported now if it has to be, so that what is missing is said before the run.
    network = kept_model() if options.players == "folder" else None
    if options.quick:
        clips = clips[:QUICK_CLIPS]
    chosen, left_out = available(options.of(options.metrics, METRICS))
    judges, deaf = speech.available(options.of(options.metrics, speech.METRICS))
    for metric, why in {**left_out, **deaf}.items():
        say(f"left out: {TITLES_OF_METRICS[metric]}: {why}")
    if arms and not chosen:
        raise TfcodecError("no metric can be computed: " + "; ".join(left_out.values()))
    clips, unread = _readable(clips)
    make_folder(out)
    tested = _self_test(clips, options.crop) if arms else "not needed"
    spoken = options.of(options.codecs, speech.CODECS)
    unspoken = {name: why for name in spoken if (why := speech.missing(name))}
    for name, why in unspoken.items():
        say(f"left out: {name}: {why}")
    voices = speech.select([name for name in spoken if name not in unspoken], options.quick)
    todo = make_jobs(clips, arms, out, chosen, options.every, options.crop)
    known = speech.make_jobs(clips, speech.select(speech.CODECS, options.quick), out, judges)
    failures = unread + run_jobs([*todo, *(job for job in known if job.codec in voices)], options.jobs, progress)
    for failure in failures:
        say(f"failed: {failure}")
    result = collect(clips, out, chosen, options)
    result |= {"failures": failures, "metrics_left_out": left_out, "self_test": tested}
    result |= {"speech_metrics": list(judges), "speech_left_out": {**deaf, **unspoken}}
    result["speech_rows"] = speech.collect(known)
    if not result["rows"]:
        nothing = "nothing to measure: name a codec of pictures too, such as tfcodec"
        raise TfcodecError(f"nothing could be measured: {failures[0]}" if failures else nothing)
    if options.earlier is not None and earlier is not None:
        add_earlier(earlier, options.earlier, result)
        add_totals(result["rows"])
    finish(result, clips, out, options, say, network)
    return result


def _arms(options: Options) -> list[Arm]:
    pictures = options.of(options.codecs, CODECS)
    return select(pictures, options.quick) if pictures else []


def _readable(clips: list[Path]) -> tuple[list[Path], list[str]]:
    """Clips whose bytes can be read, and a sentence for each of the others. Raises MediaError if none can be."""
    found, failures = [], []
    for clip in clips:
        try:
            digest(clip)
        except OSError as error:
            failures.append(f"{clip.name}: cannot be read ({error.strerror or error})")
        else:
            found.append(clip)
    if not found:
        raise MediaError(f"no video can be read: {failures[0]}")
    return found, failures


def _self_test(clips: list[Path], crop: CropMode) -> str:
    """Test the metrics on the liveliest of the first clips: nine frames, so far apart that frozen is clearly wrong."""
    from .measure import self_test

    def spread(source: Source) -> Frames:
        return source.frames[np.linspace(0, len(source.frames) - 1, 9).astype(int)]

    looks, errors = [], []
    for clip in clips[:SELF_TEST_CLIPS]:
        try:
            looks.append(spread(load(clip, crop)))
        except TfcodecError as error:  # its rows will say so
            errors.append(error)
    if not looks:
        raise errors[0]
    moves = [float(np.abs(np.diff(x.astype(np.int16), axis=0)).mean()) for x in looks]
    liveliest = looks[int(np.argmax(moves))]
    if max(moves) < STILL:
        return "left out, since no clip moves"
    # Something else, and clearly: clips can be alike, or the same.
    apart = [float(np.abs(x[4].astype(np.int16) - liveliest[4]).mean()) for x in looks]
    farthest = int(np.argmax(apart))
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    return self_test(liveliest, looks[farthest][4] if apart[farthest] > 4 * max(moves) else noise)


def collect(clips: list[Path], out: Path, metrics: tuple[str, ...], options: Options) -> dict[str, Any]:
    """What results.json holds, but for the analysis, from the rows that are up to date."""
    from ..model.registry import default_model
    from .analysis import tidy

    rows: list[Row] = []
    for job in make_jobs(clips, select(None, options.quick), out, metrics, options.every, options.crop):
        row = read_row(job.row)
        if row is not None and missing(job, row) == (False, []):
            rows.append(tidy(row | {"metrics": {m: row["metrics"][m] for m in metrics}}))
    add_totals(rows)
    model = default_model()
    seen = {r["clip"]: r for r in rows}
    return {
        "environment": environment(), "network": model.title,
        "every": options.every, "crop": options.crop, "quick": options.quick, "metrics": list(metrics),
        "clips": [
            {"clip": c.name, "sha256": digest(c), "seconds": seen[c.name]["seconds"], "frames": seen[c.name]["frames"]}
            for c in clips if c.name in seen
        ],
        "rows": rows,
    }  # fmt: skip


def finish(
    result: dict[str, Any], clips: list[Path], out: Path, options: Options, say: Callable[[str], None],
    network: Path | None = None,
) -> None:  # fmt: skip
    """Analyse, and write results.json, summary.csv and report.html, with players in a folder if ``network`` is there:
    what `tfcodec export onnx` wrote.
    """
    from . import folder, report
    from .analysis import analyse
    from .players import Player, choose, make_player, within_budget

    rows = result["rows"]
    result["analysis"] = analyse(rows, result["speech_rows"])
    write_atomically(out / "results.json", as_json(result).encode())
    write_atomically(out / "summary.csv", summary(result).encode())
    paths = {p.name: p for p in clips}
    made: list[Player] = []
    if options.players == "file" and options.earlier is None:
        for name in choose(rows):
            say(f"player: {name}")
            made.append(make_player(paths[name], rows, out, options.crop))
    players = report.players_inside(*within_budget(made), len(result["clips"]))
    if network is not None:
        sources = Sources(model=str(network))
        players = folder.section(folder.write(out, paths, rows, options.crop, sources, say), len(result["clips"]))
    arms = [a for c in CODECS for a in select([c], result["quick"]) if any(r["arm"] == a.name for r in rows)]
    write_atomically(out / "report.html", report.build(result, arms, players).encode())
    load.cache_clear()


def as_json(result: dict[str, Any]) -> str:
    """Write results.json with one line a row: it stays small, and a diff can be read."""
    lists = ("speech_rows", "rows")
    text = json.dumps({k: v for k, v in result.items() if k not in lists}, indent=1)[:-2]
    for name in lists:
        rows = ",\n".join(json.dumps(row) for row in result[name])
        text += f',\n "{name}": [\n{rows}\n ]'
    return text + "\n}\n"


def summary(result: dict[str, Any]) -> str:
    """One line an arm: means over all clips and over those of 5 s and more, as CSV."""
    text = io.StringIO()
    metrics = result["metrics"]
    fields = ["kbps", "bpp", "bytes_per_frame", "payload_bytes", "file_bytes", "file_kbps", "speech_kbps", "total_kbps",
              "keyframes"]  # fmt: skip
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clips", "number_of_clips", "arm", "codec", "delay_class", "size", "point", *fields, *metrics])
    for name, part in result["analysis"].items():
        for curve in part["curves"].values():
            for p in curve:
                values = [p["metrics"].get(m, "") for m in metrics]
                head = [name, part["clips"], p["arm"], p["codec"], p["delay"], p["size"], p["point"]]
                writer.writerow([*head, *(p[f] for f in fields), *values])
    return text.getvalue()


def describe(result: dict[str, Any]) -> list[str]:
    """A few lines for the terminal."""
    part = result["analysis"].get("long") or result["analysis"]["all"]
    lines = []
    for entry in part["equal_lpips"]:
        r = entry["ratio"]
        lines.append(
            f"{entry['rival']} ({DELAY_NAMES[entry['delay']]}) needs {r['median']:.1f} times tfcodec's bits "
            f"at equal LPIPS (median of {entry['clips']} clips, {r['min']:.1f} to {r['max']:.1f}); "
            f"{entry['whole']['ratio']:.1f} times with speech"
        )
    return lines
