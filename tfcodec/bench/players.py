"""Side-by-side videos for the report: source, tfcodec, x265 and AV1 at the nearest rate, in one picture, so in step."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .arms import CLASSICAL, DEFAULT_QUALITY, TITLES, Arm
from .codecs import codec_of
from .sources import CropMode, load

Row = dict[str, Any]
SECONDS = 6
MOST_CLIPS = 10
BUDGET = 13_000_000
"""Bytes of all videos together; as text in the report they take a third more."""
CRF = 22
SIDE = 256


@dataclass(frozen=True)
class Player:
    """One clip's video: an MP4 file, and (title, line below it) of each of its columns from left to right."""

    clip: str
    video: Path
    columns: list[tuple[str, str]]

    @property
    def data_uri(self) -> str:
        return "data:video/mp4;base64," + base64.b64encode(self.video.read_bytes()).decode()


def nearest(rows: list[Row], codec: str, kbps: float) -> Row | None:
    """The arm of a codec, at any picture size, whose rate is nearest in ratio."""
    of = [r for r in rows if r["codec"] == codec and r["delay"] == "file"]
    return min(of, key=lambda r: abs(float(np.log(r["kbps"] / kbps))), default=None)


def choose(rows: list[Row]) -> list[str]:
    """Clips that have a tfcodec row at default quality, at most MOST_CLIPS, evenly out of the list."""
    clips = sorted({r["clip"] for r in rows if _is_default(r)})
    count = min(len(clips), MOST_CLIPS)
    return [clips[int((i + 0.5) * len(clips) / count)] for i in range(count)]


def _is_default(row: Row) -> bool:
    return row["codec"] == "tfcodec" and row["delay"] == "file" and row["point"] == DEFAULT_QUALITY


def shown_rows(rows: list[Row], clip: str, rivals: Iterable[str]) -> list[Row]:
    """What is shown of a clip: tfcodec at default quality, and of each rival what is nearest to its rate."""
    of = [r for r in rows if r["clip"] == clip]
    ours = next(r for r in of if _is_default(r))
    return [ours, *(r for r in (nearest(of, c, ours["kbps"]) for c in rivals) if r is not None)]


def make_player(path: Path, rows: list[Row], out: Path, crop: CropMode) -> Player:
    """Write (or find again) the video of a clip into OUT/players, out of the written streams."""
    from ..media import VideoWriter

    shown = shown_rows(rows, path.name, ("x265", "svtav1"))
    columns = [("source", f"{shown[0]['seconds']:.1f} s")] + [describe_arm(r) for r in shown]
    key = hashlib.sha256(repr([(r["arm"], r["sha256"]) for r in shown] + [SECONDS, CRF]).encode()).hexdigest()[:12]
    target = out / "players" / f"{path.name}.{key}.mp4"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = load(path, crop)
        wanted = np.arange(min(len(source.frames), SECONDS * 25))
        decoded = [source.frames[wanted]]
        for row in shown:
            arm = Arm(row["codec"], row["delay"], row["size"], row["point"])
            decoded.append(codec_of(arm).decode(arm, out / "streams" / path.name / (arm.name + arm.suffix), wanted))
        sound = None if source.sound is None else source.sound[: len(wanted) * 640]
        rate = None if sound is None else 16000
        with VideoWriter(target, 25, (SIDE * len(decoded), SIDE), sound, rate, crf=CRF) as writer:
            for pictures in zip(*decoded, strict=True):
                writer.write(np.concatenate(pictures, axis=1))
    return Player(path.name, target, columns)


def describe_arm(row: Row) -> tuple[str, str]:
    """A row's codec and setting, and its rate and quality, for the head of a picture."""
    return _title(row), _figures(row)


def _title(row: Row) -> str:
    if row["codec"] not in CLASSICAL:
        return f"{TITLES[row['codec']]}, quality {row['point']}"
    size = "" if row["size"] == SIDE else f" at {row['size']}x{row['size']}"
    return f"{TITLES[row['codec']]}{size}, CRF {row['point']}"


def _figures(row: Row) -> str:
    lpips, psnr = row["metrics"].get("lpips"), row["metrics"].get("psnr")
    text = f"{row['kbps']:.2f} kbit/s"
    text += f", LPIPS {lpips:.3f}" if lpips is not None else ""
    return text + (f", {psnr:.1f} dB" if psnr is not None else "")


def within_budget(players: list[Player]) -> tuple[list[Player], int]:
    """Those that fit into the report together, and how many were left out."""
    kept, total = [], 0
    for player in players:
        size = player.video.stat().st_size
        if total + size <= BUDGET:
            kept.append(player)
            total += size
    return kept, len(players) - len(kept)
