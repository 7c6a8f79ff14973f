"""The report's players as a folder beside it: the streams themselves, for a web server.

A browser decodes tfcodec's stream by the module of `tfcodec.web`; H.264 and AV1 are played from the files whose bytes
were counted. The source, and H.265, which many browsers do not play, are coded once more.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..errors import MediaError
from ..web import page
from .arms import Arm, Frames
from .codecs import codec_of
from .players import CRF, SIDE, choose, describe_arm, shown_rows
from .sources import CropMode, digest, load

Row = dict[str, Any]
FOLDER = "report"
"""Its name, beside report.html."""
RIVALS = ("x264", "x265", "svtav1")
_PLAYED = ("x264", "svtav1")
"""Whose files browsers play."""
_ASSETS = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Picture:
    """One of a clip's players: its file in the clip's folder, and what stands below it."""

    file: str
    title: str
    line: str


@dataclass(frozen=True)
class Beside:
    """A clip's players, from left to right."""

    clip: str
    pictures: list[Picture]


def write(
    out: Path, clips: dict[str, Path], rows: list[Row], crop: CropMode, sources: page.Sources,
    say: Callable[[str], None] = lambda line: None,
) -> list[Beside]:  # fmt: skip
    """Write OUT/report: the module, the network, and the files of some clips.

    Args:
        out: folder of the run, with its streams.
        clips: the videos by name.
        rows: what results.json holds.
        crop: as of the run.
        sources: where the network is.
        say: takes a line for each clip.

    Raises:
        MediaError: something cannot be read or written.
    """
    folder, chosen = out / FOLDER, choose(rows)
    try:
        if (folder / "clips").is_dir():
            for old in (folder / "clips").iterdir():
                if old.name not in chosen:
                    shutil.rmtree(old)
        if not chosen:
            return []
        page.copy_parts(folder, sources)
        shutil.copytree(_ASSETS, folder, dirs_exist_ok=True)
        made = []
        for name in chosen:
            say(f"player: {name}")
            made.append(_write_clip(folder / "clips" / name, out / "streams" / name, clips[name], rows, crop))
        return made
    except OSError as error:
        raise MediaError(f"cannot write the players into {folder}: {error.strerror or error}") from None


def _write_clip(folder: Path, streams: Path, clip: Path, rows: list[Row], crop: CropMode) -> Beside:
    shown = shown_rows(rows, clip.name, RIVALS)
    folder.mkdir(parents=True, exist_ok=True)
    # What is coded once more is kept as long as its source is the same.
    source = f"source-{digest(clip)}-{crop}.mp4"
    pictures = [Picture(source, "source", f"{shown[0]['seconds']:.1f} s")]
    if not (folder / source).is_file():
        _recode(folder / source, load(clip, crop).frames)
    for row in shown:
        arm = Arm(row["codec"], row["delay"], row["size"], row["point"])
        file = arm.name + arm.suffix
        stream = streams / file
        if arm.codec == "tfcodec" or arm.codec in _PLAYED:
            shutil.copyfile(stream, folder / file)
        else:
            file = f"{arm.name}-{digest(stream)}.mp4"
            if not (folder / file).is_file():
                _recode(folder / file, codec_of(arm).decode(arm, stream, np.arange(row["frames"])))
        pictures.append(Picture(file, *describe_arm(row)))
    for old in folder.iterdir():
        if old.name not in {picture.file for picture in pictures}:
            old.unlink()
    return Beside(clip.name, pictures)


def _recode(target: Path, frames: Frames) -> None:
    """For display, without sound: what is heard is the stream's."""
    from ..media import VideoWriter

    with VideoWriter(target, 25, SIDE, crf=CRF) as writer:
        for frame in frames:
            writer.write(frame)


def section(made: list[Beside], clips: int) -> str:
    """What report.html has of them, as HTML. ``clips``: how many there are in all."""
    if not made:
        return "<p>No players.</p>"
    note = (
        f"{len(made)} of {clips} clips. The browser decodes tfcodec's stream, picture and sound, by itself, and plays "
        "the files of H.264 and AV1 whose bytes are counted above, enlarging those of smaller pictures in its own way. "
        "H.265, which many browsers do not play, and the source are coded once more for display (H.264, high quality)."
    )
    served = (
        "tfcodec's pictures, and playing together, need a web server, since browsers load no modules from files: "
        "<code>python -m http.server --bind 127.0.0.1</code> in this report's folder, then "
        '<a href="http://127.0.0.1:8000/report.html">http://127.0.0.1:8000/report.html</a>.'
    )
    return (
        f'<link rel="stylesheet" href="{FOLDER}/report.css"><p class="note">{note}</p>'
        f'<p id="served"><b>{served}</b></p>{"".join(map(_clip, made))}'
        f'<script type="module" src="{FOLDER}/report.js"></script>'
    )


def _clip(beside: Beside) -> str:
    return (
        f'<section class="beside" aria-label="{escape(beside.clip)}"><div class="pictures">'
        + "".join(_picture(beside.clip, picture) for picture in beside.pictures)
        + '</div><p><button type="button" disabled>Play</button> '
        f'<output></output> <span class="note">{escape(beside.clip)}</span> <span role="status"></span></p></section>'
    )


def _picture(clip: str, picture: Picture) -> str:
    address = quote(f"{FOLDER}/clips/{clip}/{picture.file}")
    label = escape(f"{picture.title}, {clip}")
    shown = (
        f'<canvas width="{SIDE}" height="{SIDE}" role="img" aria-label="{label}" data-stream="{address}"></canvas>'
        if picture.file.endswith(".tfc")
        else f'<video controls muted playsinline preload="metadata" aria-label="{label}" src="{address}"></video>'
    )
    return f"<div>{shown}<b>{escape(picture.title)}</b><br>{escape(picture.line)}</div>"


def how_to_look(out: Path) -> list[str]:
    """Lines for the terminal."""
    return [
        f"its players need a web server: python -m http.server --bind 127.0.0.1 -d {out}, then "
        "http://127.0.0.1:8000/report.html",
        page.HEADERS_NOTE,
    ]
