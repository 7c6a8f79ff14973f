"""Committed results and figures of `tfcodec bench`, and the README's picture of the synthetic clip.

    tfcodec bench DATA/val -o OUT --crop none --jobs 2
    python -m benchmarks.publish.figures OUT            # results and figures -> benchmarks/results/val/, docs/
    python -m benchmarks.publish.figures --demo WORK    # docs/side_by_side.png, from the demo clip by the same arms

Only plots and figures are taken over: the clips show people, the report with their pictures stays where it is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT
from tfcodec.bench import plots
from tfcodec.bench.arms import Arm
from tfcodec.bench.codecs import codec_of
from tfcodec.bench.players import describe_arm, nearest
from tfcodec.bench.run import Options, run
from tfcodec.bench.sources import load

VAL, DOCS = RESULTS / "val", ROOT / "docs"
MOMENTS = (0.12, 0.37, 0.62, 0.87)


def take_over(out: Path) -> None:
    """Copy results of a run, and draw its figures."""
    result: dict[str, Any] = json.loads((out / "results.json").read_text())
    VAL.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", "summary.csv"):
        shutil.copyfile(out / name, VAL / name)
    which = "long" if "long" in result["analysis"] else "all"
    part = result["analysis"][which]
    title = f"{part['clips']} clips" + (" of 5 s and more" if which == "long" else "")
    for name, figure in plots.figures(result["analysis"], which, title).items():
        (VAL / f"{name}.png").write_bytes(plots.png(figure))
        print(f"wrote {VAL.relative_to(ROOT) / name}.png")
        if name == "whole_stream":
            (DOCS / f"{name}.png").write_bytes(plots.png(figure))
            print(f"wrote docs/{name}.png")
    main_plot = plots.main_figure(part["curves"], title)
    (DOCS / "rate_distortion.png").write_bytes(plots.png(main_plot))
    print("wrote docs/rate_distortion.png")


def demo_picture(work: Path) -> None:
    """Source, tfcodec, its frozen keyframe, and the nearest of x265 and AV1, at four moments of the synthetic clip."""
    folder, out = work / "clip", work / "out"
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / "demo.mp4"
    if not clip.exists():
        script = ROOT / "examples" / "make_demo_clip.py"
        subprocess.run([sys.executable, str(script), str(clip), "--size", "256"], check=True)
    result = run(folder, out, Options(["tfcodec", "frozen", "x265", "svtav1"], crop="none", players="none"), say=print)
    rows = result["rows"]
    ours = next(r for r in rows if r["arm"] == "tfcodec-file-256-q05")
    still = next(r for r in rows if r["arm"] == "frozen-file-256-q05")
    shown = [ours, still, *(nearest(rows, codec, ours["kbps"]) for codec in ("x265", "svtav1"))]
    source = load(clip, "none")
    at = np.array([int(m * len(source.frames)) for m in MOMENTS])
    columns = [("source", "", source.frames[at])]
    for row in shown:
        if row is None:
            raise SystemExit("an arm is missing")
        arm = Arm(row["codec"], row["delay"], row["size"], row["point"])
        decoded = codec_of(arm).decode(arm, out / "streams" / clip.name / (arm.name + arm.suffix), at)
        columns.append((*describe_arm(row), decoded))
    (DOCS / "side_by_side.png").write_bytes(plots.png(plots.contact_sheet(columns), 85))
    print("wrote docs/side_by_side.png")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path, nargs="?", help="output folder of tfcodec bench")
    p.add_argument(
        "--demo", type=Path, metavar="WORK", help="make the synthetic clip's picture, working in this folder"
    )
    args = p.parse_args()
    if args.out is None and args.demo is None:
        p.error("give OUT, --demo WORK, or both")
    if args.out is not None:
        take_over(args.out)
    if args.demo is not None:
        demo_picture(args.demo)


if __name__ == "__main__":
    main()
