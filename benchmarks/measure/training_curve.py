"""What a run of training was and what it brought: writes `benchmarks/results/NAME.json`.

    python -m benchmarks.measure.training_curve RUN NAME

RUN: folder of `tfcodec.training.train` or `tfcodec.training.quarter`, with card.json, train.csv and val.csv. Kept are
the card's facts (no folders), every line of val.csv, every `--every` line of train.csv, and what the run said beside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import portable, write
from tfcodec.files import sha256
from tfcodec.training.report import read_rows

KEPT = ("network", "losses", "data", "steps", "device_hours", "samples_a_second", "scores")


def thinned(columns: dict[str, list[float]], every: int) -> list[dict[str, float]]:
    """Lines of a CSV: every so manieth, and the last; four places behind the point are enough."""
    count = len(next(iter(columns.values()), []))
    lines = sorted({*range(0, count, every), count - 1}) if count else []
    return [{name: round(values[i], 4) for name, values in columns.items()} for i in lines]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path)
    p.add_argument("name")
    p.add_argument("--every", type=int, default=4, help="lines of train.csv")
    args = p.parse_args()
    card: dict[str, Any] = json.loads((args.run / "card.json").read_text())
    result = {"calls": portable(card["calls"]), **{name: card[name] for name in KEPT if name in card}}
    for name in ("val", "train"):
        result[name] = thinned(read_rows(args.run / f"{name}.csv"), 1 if name == "val" else args.every)
    log = args.run / "log.txt"
    said = card.get("said") or (log.read_text().splitlines() if log.is_file() else [])
    result["said"] = [line.strip() for line in said if " step " not in line]
    weights = args.run / "network.safetensors"
    if weights.is_file():
        result["weights"] = {"bytes": weights.stat().st_size, "sha256": sha256(weights)}
    write(args.name, result)


if __name__ == "__main__":
    main()
