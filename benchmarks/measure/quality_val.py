"""Quality of the decoded pictures on `val`, what each prior brings, and whether one network is better than another.

    python -m benchmarks.measure.quality_val [--weights FILE] [--compare OLD] [--also NAME=FILE ...] [--stand-in NAME]
                                     [--brief] [--call] [--quality 5] [--every 4] [--openings-every 1] [--clips N]
                                     [--jobs 2] [-o JSON]

Every clip is encoded, and its stream is drawn by the network as it ships, from a stream whose tiny frames are box means
(and not those that the encoder found the network to draw best from), without the speech (the network hears what
it hears of a silent clip), with the current tiny frame alone in place of the window, and by stage 1 alone (its 64x64
picture, enlarged). Beside them the frozen keyframe (the same keyframe bytes, repeated) and the decoded tiny frames,
enlarged. Pictures are judged at every fourth frame, changes in time and openings of mouth and eyes over all frames.
All clips and the shipped weights write `quality_val.json`, unless `-o` names another file.

Mouth and eyes over time: correlation of their openings with the source's, blinks. Beside them the meter's own ceiling:
the same figures of the source's pictures as JPEG, and of the landmarks of another method that come with the clips.

`--brief`: only as the network ships, and the frozen keyframe; the same figures of these two in half the time.
`--call`: streams as calls code them; with all clips and the shipped weights it writes `quality_val_call.json`.

`--also NAME=FILE`: further networks, such as ablations, on the streams with box means, judged by single pictures;
`no-keyframe` (super-resolution without priors) and `no-audio` have rows of their own in the table.

`--stand-in light`: the registered network of that name draws, too, and the very same streams as the first one, and is
judged in the same ways as that is with `--brief`; with all clips and the shipped weights it writes `light_val.json`.

`--compare OLD`: encodes and draws with the weights OLD as well and says whether the new ones are better; the exit
status is 3 if they are not. New weights replace shipped ones only when they are better by this.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import RESULTS, clip_list, clips, environment, read_clip
from benchmarks.measure.quality_arms import (
    BICUBIC,
    COARSE,
    DECODED,
    FAR,
    FROZEN,
    JPEG,
    LABELS,
    PLAIN,
    SILENT,
    SINGLE,
    SOURCE,
    STILL,
    ClipResult,
    Judges,
    Network,
    Plan,
    measure,
)
from tfcodec.files import write_json
from tfcodec.metrics.frechet import frechet_distance
from tfcodec.metrics.openings import BlinkCount
from tfcodec.metrics.selftest import selftest
from tfcodec.model.registry import default_model, stand_in, weights_file

OLD = "compared"
NO_KEYFRAME, NO_AUDIO = "no-keyframe", "no-audio"
HIGHER = {"psnr", "ms_ssim", "identity_cosine", "mouth_opening_correlation", "eye_opening_correlation", "faces_found"}
LONG_SECONDS = 5.0

# Verdict of --compare. The score of a clip is the geometric mean of the ratios new/old of these errors; new weights
# must be better by two standard errors of the mean over clips, and in no single measure worse by more than this.
SCORE = ("lpips", "rmse", "mouth_distance", "mouth_lpips", "eye_lpips")
TOLERANCE = {
    "lpips": 0.02, "rmse": 0.02, "mouth_distance": 0.02, "mouth_shape_distance": 0.03, "mouth_lpips": 0.02,
    "eye_lpips": 0.02, "frame_difference_error": 0.03, "frechet": 0.05,
}  # fmt: skip
# What these may lose.
LOSS = {"identity_cosine": 0.01, "mouth_opening_correlation": 0.02, "eye_opening_correlation": 0.03}
FLICKER = 1.2
GFLOP = 5.0
_networks: dict[str, Network]
_judges: Judges
"""Each process's own."""


def _start(weights: dict[str, Path], others: list[str], stand_in: str | None) -> None:
    import torch

    # Two processes of one thread each finish sooner than one of two.
    torch.set_num_threads(1)
    global _networks, _judges
    _networks = {name: Network.load(path, name not in others, name == stand_in) for name, path in weights.items()}
    _judges = Judges.load()


def _run(path: Path, plan: Plan) -> ClipResult:
    return measure(path, plan, _networks, _judges)


def run_all(
    paths: list[Path], weights: dict[str, Path], others: list[str], stand_in: str | None, plan: Plan, jobs: int
) -> list[ClipResult]:
    longest_first = sorted(paths, key=lambda p: -p.stat().st_size)
    done: dict[str, ClipResult] = {}
    with ProcessPoolExecutor(jobs, initializer=_start, initargs=(weights, others, stand_in)) as pool:
        waiting = [pool.submit(_run, path, plan) for path in longest_first]
        for future in tqdm(as_completed(waiting), total=len(waiting), unit="clip"):
            result = future.result()
            done[result.row["clip"]] = result
    return [done[path.name] for path in paths]


def self_test(paths: list[Path]) -> dict[str, Any]:
    """The metrics' own test, on nine moments of the clip with the largest file; unrelated is another person.

    Correlations of openings may be left out, if mouth or eyes keep still in them: tests of the metrics have them.
    """
    path = max(paths, key=lambda p: p.stat().st_size)
    source = read_clip(path)[::12][:9]
    other = next(p for p in clips() if p.name.split("_")[0] != path.name.split("_")[0])
    report = selftest(source, read_clip(other)[0])
    if missing := {name: why for name, why in report.skipped.items() if not name.endswith("_correlation")}:
        sys.exit("\n".join(f"{name}: {why}" for name, why in missing.items()))
    return {name: {a: round(v, 5) for a, v in scores.items()} for name, scores in report.figures.items()}


def mean_of(rows: list[dict[str, Any]], arm: str, metric: str) -> float:
    """Mean over clips of a metric's mean over frames; NaN where no clip has it."""
    values = [row["arms"][arm][metric] for row in rows if metric in row["arms"].get(arm, {})]
    return float(np.mean(values)) if values else float("nan")


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    arms = dict.fromkeys(name for row in rows for name in row["arms"])
    names = {arm: dict.fromkeys(m for row in rows for m in row["arms"].get(arm, {})) for arm in arms}
    return {arm: {m: round(mean_of(rows, arm, m), 5) for m in names[arm]} for arm in arms}


def frechet(results: list[ClipResult]) -> dict[str, float]:
    """Distance of each arm's judged frames from the source's, all clips together."""
    pooled = {arm: np.concatenate([r.features[arm] for r in results]) for arm in results[0].features}
    return {arm: round(frechet_distance(x, pooled[SOURCE]), 5) for arm, x in pooled.items() if arm != SOURCE}


def blinks(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Blinks of all clips together, by arm: counts, the share that is shown, the share that is false."""
    out: dict[str, dict[str, float | None]] = {}
    for arm in dict.fromkeys(name for row in rows for name in row.get("blinks", {})):
        total = sum((BlinkCount(**row["blinks"][arm]) for row in rows if arm in row["blinks"]), BlinkCount())
        out[arm] = {**asdict(total), "shown_share": round(total.recall, 4) if total.source else None,
                    "false_share": round(total.false_share, 4) if total.decoded else None}  # fmt: skip
    return out


def share(rows: list[dict[str, Any]], metric: str, arm: str, than: str) -> float:
    """Share of the clips where ``arm`` is better than ``than``."""
    sign = 1 if metric in HIGHER else -1
    both = [(row["arms"][arm].get(metric), row["arms"][than].get(metric)) for row in rows if than in row["arms"]]
    better = [sign * (a - b) > 0 for a, b in both if a is not None and b is not None]
    return round(sum(better) / len(better), 4) if better else float("nan")


def table(
    rows: list[dict[str, Any]], distances: dict[str, float], gflop: float, backbone: str, others: list[str]
) -> list[dict[str, Any]]:
    """What is asked of the decoder, as figures: each with its bound, what to strive for, and whether it is met.

    Left out is what was not measured.
    """

    def ratio(metric: str, to: str, of: str = DECODED) -> float:
        both = [row for row in rows if all(metric in row["arms"].get(arm, {}) for arm in (of, to))]
        return mean_of(both, of, metric) / mean_of(both, to, metric)

    def farther(arm: str, than: str = DECODED) -> float:
        return distances.get(arm, float("nan")) / distances[than]

    def own(metric: str) -> float:
        return mean_of(rows, DECODED, metric)

    bits = {name: float(np.mean([row[name] for row in rows])) for name in ("video_kbps", "video_kbps_box_means")}
    mouths = (("mouth-landmark distance", "mouth_distance"), ("mouth-region LPIPS", "mouth_lpips"))
    lower = share(rows, "lpips", DECODED, FROZEN)
    gain = own("psnr") - mean_of(rows, FROZEN, "psnr")
    out: list[tuple[str, float, str, float | None, float | None]] = [
        ("LPIPS(alex), decoded / frozen keyframe", ratio("lpips", FROZEN), "<=", 0.75, 0.5),
        ("LPIPS(alex) lower than the frozen keyframe's, share of clips", lower, ">=", 0.95, 1.0),
        ("PSNR, decoded - frozen keyframe, dB", gain, ">=", 3.0, 5.0),
        ("mouth-landmark distance, decoded / frozen keyframe", ratio("mouth_distance", FROZEN), "<=", 0.6, 0.3),
        ("mouth-shape distance, decoded / frozen keyframe", ratio("mouth_shape_distance", FROZEN), "<=", None, None),
        ("identity cosine, decoded to source", own("identity_cosine"), ">=", 0.85, 0.92),
        ("GFLOP per frame", gflop, "<=", GFLOP, GFLOP),
        ("flicker, decoded / source (second differences)", own("flicker_ratio"), "<=", FLICKER, 1.05),
        ("flicker where the source is still", own("flicker_ratio_still"), "<=", FLICKER, 1.05),
        ("flicker of 32x32 means", own("flicker_ratio_box32"), "<=", FLICKER, 1.05),
        ("LPIPS(alex), decoded / from box means", ratio("lpips", PLAIN), "<=", None, None),
        ("PSNR, decoded - from box means, dB", own("psnr") - mean_of(rows, PLAIN, "psnr"), ">=", None, None),
        ("video bits, decoded / with box means", bits["video_kbps"] / bits["video_kbps_box_means"], "<=", None, None),
        (f"{backbone}, enlarged tiny frames / decoded", farther(BICUBIC), ">=", None, None),
        (f"{backbone}, without stage 2 / decoded", farther(COARSE), ">=", None, None),
        ("LPIPS(alex), decoded / without stage 2", ratio("lpips", COARSE), "<=", None, None),
        ("LPIPS(alex), decoded / single tiny frame", ratio("lpips", SINGLE), "<=", None, None),
    ]
    blinked = blinks(rows).get(DECODED, {})
    followed = {name: own(f"{name}_opening_correlation") for name in ("mouth", "eye")}
    out += [
        ("mouth-landmark distance, inter-ocular units", own("mouth_distance"), "<=", 0.027, 0.02),
        ("mouth-region LPIPS(alex)", own("mouth_lpips"), "<=", 0.115, 0.09),
        ("eye-region LPIPS(alex)", own("eye_lpips"), "<=", None, 0.09),
        ("... lower than the frozen keyframe's, share of clips", share(rows, "eye_lpips", DECODED, FROZEN), ">=", 1, 1),
        ("mouth opening, correlation within clips", followed["mouth"], ">=", 0.85, 0.92),
        ("eye opening, correlation within clips whose eyes move", followed["eye"], ">=", 0.8, 0.9),
        ("blinks of the source that are shown, share", _number(blinked.get("shown_share")), ">=", 0.85, 0.97),
        ("blinks that the source does not have, share", _number(blinked.get("false_share")), "<=", 0.1, None),
    ]
    for arm in (STILL, FAR):
        if any(arm in row["arms"] for row in rows):
            out += [(f"{name}, with / {arm.replace('_', ' ')}", ratio(metric, arm), "<=", None, None)
                    for name, metric in (*mouths, ("LPIPS of the eyes", "eye_lpips"))]  # fmt: skip
    if any(SILENT in row["arms"] for row in rows):
        out += [(f"{name}, with speech / without", ratio(metric, SILENT), "<=", 0.95, 0.85) for name, metric in mouths]
    for other in others:  # network against network, on the very same streams: those with box means
        distance = farther(other, PLAIN) if PLAIN in distances else float("nan")
        few, many = (8, 20) if other == NO_KEYFRAME else (None, None)
        out.append((f"{backbone}, {other} / box means", distance, ">=", few, many))
        out.append((f"LPIPS(alex), box means / {other}", ratio("lpips", other, PLAIN), "<=", None, None))
        least, aim = (0.95, 0.85) if other == NO_AUDIO else (None, None)
        of = [(name, ratio(metric, other, PLAIN)) for name, metric in mouths]
        out += [(f"{name}, box means / {other}", value, "<=", least, aim) for name, value in of]
    return [
        {"measure": name, "value": round(value, 4), "at_least": None if bound is None else f"{sign} {bound:g}",
         "strive": None if aim is None else f"{sign} {aim:g}",
         "met": None if bound is None else bool(value <= bound if sign == "<=" else value >= bound)}
        for name, value, sign, bound, aim in out
        if np.isfinite(value)
    ]  # fmt: skip


def against_full(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """A stand-in against the network whose streams it draws."""
    ratios = ("lpips", "mouth_lpips", "eye_lpips", "mouth_distance", "frame_difference_error")
    changes = ("psnr", "identity_cosine", "mouth_opening_correlation", "eye_opening_correlation")
    return {
        **{f"{m}_ratio": round(mean_of(rows, name, m) / mean_of(rows, DECODED, m), 5) for m in ratios},
        **{f"{m}_change": round(mean_of(rows, name, m) - mean_of(rows, DECODED, m), 5) for m in changes},
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def errors(row: dict[str, Any], arm: str) -> dict[str, float]:
    """An arm's errors on one clip, all positive and better when smaller."""
    scores = row["arms"][arm]
    out = {k: scores[k] for k in TOLERANCE if k in scores}
    return out | {"rmse": 255 * 10 ** (-scores["psnr"] / 20)}


def verdict(rows: list[dict[str, Any]], distances: dict[str, float], gflop: float) -> dict[str, Any]:
    """Is `decoded` better than `compared`? With the figures that decide, and the reasons against."""
    logs, ratios = [], {}
    for row in rows:
        new, old = errors(row, DECODED), errors(row, OLD)
        logs.append(np.mean([np.log(new[k] / old[k]) for k in SCORE if k in new and k in old]))
    for name in TOLERANCE:
        both = [(errors(r, DECODED), errors(r, OLD)) for r in rows]
        pairs = [(n[name], o[name]) for n, o in both if name in n and name in o]
        if pairs:
            ratios[name] = float(np.mean([n for n, _ in pairs]) / np.mean([o for _, o in pairs]))
    ratios["frechet"] = distances[DECODED] / distances[OLD]
    score = float(np.mean(logs))
    deviation = float(np.std(logs, ddof=1) / np.sqrt(len(logs))) if len(logs) > 1 else float("inf")
    against = []
    if not score + 2 * deviation < 0:
        against.append(
            f"score {np.exp(score):.4f}, {np.exp(score + 2 * deviation):.4f} with two standard errors: not below 1"
        )
    against += [f"{k} is {r:.4f} of what it was" for k, r in ratios.items() if r > 1 + TOLERANCE[k]]
    for kind, loss in LOSS.items():
        now, before = mean_of(rows, DECODED, kind), mean_of(rows, OLD, kind)
        if now < before - loss:
            against.append(f"{kind} {now:.4f} after {before:.4f}")
    for kind in ("flicker_ratio", "flicker_ratio_still", "flicker_ratio_box32"):
        now, before = mean_of(rows, DECODED, kind), mean_of(rows, OLD, kind)
        if now > max(FLICKER, before):
            against.append(f"{kind} {now:.3f} after {before:.3f}")
    if gflop > GFLOP:
        against.append(f"{gflop:.2f} GFLOP per frame")
    return {
        "better": not against, "against": against, "score": round(float(np.exp(score)), 5),
        "score_with_two_standard_errors": round(float(np.exp(score + 2 * deviation)), 5) if len(logs) > 1 else None,
        "clips_better": round(float(np.mean(np.array(logs) < 0)), 4),
        "ratios_new_to_old": {k: round(v, 5) for k, v in ratios.items()},
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", type=Path, help="safetensors file of the network to measure; default: the one shipped")
    p.add_argument("--compare", type=Path, metavar="OLD", help="weights that the measured ones are to be better than")
    p.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="a further network; repeatable")
    p.add_argument("--stand-in", metavar="NAME", help="a registered network that draws the first one's streams")
    p.add_argument("--quality", type=int, default=5)
    p.add_argument("--every", type=int, default=4, help="judge every n-th frame")
    p.add_argument("--openings-every", type=int, default=1, choices=(1, 2), metavar="{1,2}",
                   help="mouth and eyes over time at every n-th frame; a blink lasts 3 to 10")  # fmt: skip
    p.add_argument("--brief", action="store_true", help="only as the network ships, and the frozen keyframe")
    p.add_argument("--call", action="store_true", help="streams as calls code them")
    p.add_argument("--clips", type=int, help="only so many clips, spread over the set")
    p.add_argument("--streams", type=Path, metavar="DIR", help="keep streams there; what is there is not encoded again")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    p.add_argument("-o", "--output", type=Path, help="JSON file for the result")
    args = p.parse_args(argv)
    begin = time.monotonic()
    paths = clips()
    if args.clips is not None:
        paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, args.clips).round().astype(int))]
    weights = {DECODED: args.weights or weights_file(default_model())}
    if args.compare:
        weights[OLD] = args.compare
    others = [name for name, _, _ in (pair.partition("=") for pair in args.also)]
    taken = {DECODED, OLD, STILL, FAR, SILENT, SINGLE, COARSE, PLAIN, FROZEN, BICUBIC, SOURCE, JPEG, LABELS, ""}
    if reserved := taken & set(others):
        p.error(f"--also: another name than {', '.join(map(repr, reserved))}")
    weights |= {name: Path(file) for name, _, file in (pair.partition("=") for pair in args.also)}
    if args.stand_in:
        weights[args.stand_in] = weights_file(stand_in(default_model(), args.stand_in))
    networks = {name: Network.load(path).describe() for name, path in weights.items()}
    backbone = Judges.load().backbone.name
    tested = self_test(clips())
    plan = Plan(args.quality, args.every, args.openings_every, args.call, not args.brief, args.streams)
    if args.streams:
        args.streams.mkdir(parents=True, exist_ok=True)
    results = run_all(paths, weights, others, args.stand_in, plan, args.jobs)
    rows, distances = [r.row for r in results], frechet(results)
    gflop = networks[DECODED]["gflop_per_frame"]
    long = [row for row in rows if row["frames"] >= 25 * LONG_SECONDS]
    result = {
        "environment": environment(), "minutes": round((time.monotonic() - begin) / 60, 1), "jobs": args.jobs,
        "networks": networks, "quality": args.quality, "latency": "call" if args.call else "file",
        "judged_every": args.every, "openings_every": args.openings_every, "clip_list": clip_list(paths),
        "stand_in": against_full(rows, args.stand_in) if args.stand_in else None,
        "table": table(rows, distances, gflop, backbone, others),
        "verdict": verdict(rows, distances, gflop) if args.compare else None,
        "blinks": blinks(rows), "clips_whose_eyes_move": sum(row["eyes_move"] for row in rows),
        "mean": means(rows), "mean_of_clips_of_5_s_and_more": means(long),
        "frechet": {"backbone": backbone, "frames": sum(row["judged_frames"] for row in rows), "distance": distances},
        "share_of_clips_better_than_frozen_keyframe": {
            m: share(rows, m, DECODED, FROZEN) for m in ("lpips", "psnr", "ms_ssim", "mouth_distance",
            "mouth_shape_distance", "mouth_lpips", "eye_lpips", "frame_difference_error")},
        "self_test": tested, "rows": rows,
    }  # fmt: skip
    for line in result["table"]:
        met = {None: "", True: "met", False: "NOT met"}[line["met"]]
        print(f"{line['measure']:64} {line['value']:9.4f}  {line['at_least'] or '':9} {met}")
    if result["stand_in"]:
        print(args.stand_in, "against the full one:", json.dumps(result["stand_in"]))
    for arm, scores in result["mean"].items():
        print(f"{arm:16}", " ".join(f"{k} {v:.4f}" for k, v in scores.items()))
    for arm, counts in result["blinks"].items():
        print(f"{arm:16}", "blinks", " ".join(f"{k} {v}" for k, v in counts.items()))
    output = args.output
    whole = args.weights is None and args.clips is None and args.quality == 5
    if output is None and whole and args.stand_in:
        output = RESULTS / f"{args.stand_in}_val.json"
    elif output is None and whole and (args.call or not args.brief):
        output = RESULTS / ("quality_val_call.json" if args.call else "quality_val.json")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, result)
        print(f"wrote {output}")
    if result["verdict"]:
        print(json.dumps(result["verdict"], indent=1))
        sys.exit(0 if result["verdict"]["better"] else 3)


if __name__ == "__main__":
    main()
