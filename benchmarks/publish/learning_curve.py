"""What more training brings, measure by measure: collects the curves of runs and one run of `quality_val`.

    python -m benchmarks.publish.learning_curve QUALITY --run NAME=FOLDER ... [--restorer FILE] [--skip NAME ...]

QUALITY: from `measure.quality_val --weights NEWEST --also EARLIER=FILE ... -o QUALITY`, the earlier states in
their order: all are drawn from the very same streams, with box means, and the newest comes last. FOLDER: a run of
`tfcodec.training.train`, whose card and evaluations are kept; FILE: weights of a restorer, whose figures are kept.
`--skip`: further networks of QUALITY that are no states of the training. Writes `learning_curve.json` and a table,
and the last run's curve as a picture.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import safetensors

from benchmarks.common import RESULTS, portable, write
from benchmarks.measure.quality_arms import BICUBIC, COARSE, DECODED, FROZEN, PLAIN, SILENT, SINGLE
from benchmarks.measure.quality_val import NO_KEYFRAME, OLD
from tfcodec.files import write_atomically
from tfcodec.training.report import read_rows

MEASURES = ("psnr", "lpips", "mouth_distance", "mouth_shape_distance", "mouth_lpips", "identity_cosine")
NO_STATES = {DECODED, COARSE, SINGLE, SILENT, BICUBIC, OLD}


def states(quality: dict[str, Any], skip: list[str]) -> dict[str, dict[str, float]]:
    """Every state's measures; of the frozen keyframe, too."""
    distances = quality["frechet"]["distance"]
    names = [name for name in quality["mean"] if name not in NO_STATES | {PLAIN, FROZEN, *skip}]
    out = {}
    for name in (FROZEN, *names, PLAIN):
        scores = quality["mean"][name]
        out[name] = {measure: scores[measure] for measure in MEASURES} | {"frechet": distances[name]}
        if NO_KEYFRAME in distances:
            out[name]["frechet_of_no_keyframe_to_it"] = round(distances[NO_KEYFRAME] / distances[name], 3)
    return out


def table(found: dict[str, dict[str, float]], newest: str) -> str:
    columns = list(next(iter(found.values())))
    lines = ["| state | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, scores in found.items():
        title = newest if name == PLAIN else name
        lines.append(f"| {title} | " + " | ".join(f"{scores[c]:.4f}" for c in columns) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("quality", type=Path)
    p.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER", help="repeatable, the newest last")
    p.add_argument("--restorer", type=Path)
    p.add_argument("--skip", nargs="+", default=[], metavar="NAME")
    args = p.parse_args()
    quality = json.loads(args.quality.read_text())
    runs = {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in args.run)}
    restorer = None
    if args.restorer:
        with safetensors.safe_open(args.restorer, framework="numpy") as file:
            restorer = portable(json.loads(file.metadata()["restorer"]))
    found = states(quality, [*args.skip, NO_KEYFRAME])
    kept = ("environment", "networks", "quality", "judged_every", "clip_list", "table", "verdict")
    write("learning_curve", {
        **{name: quality[name] for name in kept}, "frechet": quality["frechet"]["backbone"], "states": found,
        "restorer": restorer,
        "runs": {name: {"card": portable(json.loads((folder / "card.json").read_text())),
                        "val": read_rows(folder / "val.csv")} for name, folder in runs.items()},
    })  # fmt: skip
    text = table(found, list(runs)[-1] if runs else "newest")
    write_atomically(RESULTS / "learning_curve.md", text.encode())
    for folder in list(runs.values())[-1:]:
        shutil.copy(folder / "curve.png", RESULTS / "learning_curve.png")
    print(text)


if __name__ == "__main__":
    main()
