"""What the rows say: mean curves, convex hulls, BD-rate, and the bits that others need for tfcodec's LPIPS.

Rate of pictures: all of tfcodec's file without the speech, but of a classical codec only the payload: its MP4 boxes
would cost another 1.5 to 2.5 kbit/s in clips of some seconds, and a call would not send them. Totals have the speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .arms import CLASSICAL, DEFAULT_QUALITY, TITLES
from .measure import METRICS
from .speech import means

Row = dict[str, Any]
PIXELS = 256 * 256
_IDENTITY = ("clip", "arm", "curve", "codec", "delay", "size", "point", "frames", "seconds", "sha256")
LONG_SECONDS = 5.0
LEAST_OVERLAP = 0.2
BD_METRICS = ("lpips", "psnr", "ms_ssim")


def rate_bytes(row: Row) -> int:
    """Bytes that count as the row's rate."""
    coded = row["bytes"]
    return int(coded["payload"] if row["codec"] in CLASSICAL else coded["file"])


def kbps(row: Row) -> float:
    """Rate of a row in 1000 bits a second."""
    return rate_bytes(row) * 8 / 1000 / float(row["seconds"])


def tidy(row: Row) -> Row:
    """A row as it stands in results.json: with its rates, without what only the runner needs."""
    coded, seconds, frames = row["bytes"], row["seconds"], row["frames"]
    rate = rate_bytes(row)
    return {
        **{k: row[k] for k in _IDENTITY},
        "payload_bytes": coded["payload"], "file_bytes": coded["file"], "speech_bytes": coded["speech"],
        "parts": coded["parts"], "keyframes": coded["keyframes"],
        "kbps": round(kbps(row), 4), "bpp": round(rate * 8 / frames / PIXELS, 7),
        "bytes_per_frame": round(rate / frames, 3),
        "file_kbps": round(coded["file"] * 8 / 1000 / seconds, 4),
        "speech_kbps": round(coded["speech"] * 8 / 1000 / seconds, 4),
        "metrics": row["metrics"],
    }  # fmt: skip


def add_totals(rows: list[Row]) -> None:
    """Give every row ``total_kbps``, the rate with speech: in tfcodec's rows their own, in the others, which hold none,
    that of tfcodec at the default quality in the same delay class."""
    spoken = {
        (r["clip"], r["delay"]): r["speech_kbps"]
        for r in rows if r["codec"] == "tfcodec" and r["point"] == DEFAULT_QUALITY
    }  # fmt: skip
    for row in rows:
        speech = row["speech_kbps"] if row["codec"] == "tfcodec" else spoken.get((row["clip"], row["delay"]), 0.0)
        row["total_kbps"] = round(row["kbps"] + speech, 4)


_MEANS = (
    "kbps", "bpp", "bytes_per_frame", "file_kbps", "speech_kbps", "total_kbps", "payload_bytes", "file_bytes",
    "keyframes", "seconds",
)  # fmt: skip


def mean_curves(rows: list[Row]) -> dict[str, list[Row]]:
    """Mean over clips of every arm, by curve, in order of rate. Only arms that all the clips have."""
    clips = {row["clip"] for row in rows}
    by_arm: dict[str, list[Row]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], []).append(row)
    curves: dict[str, list[Row]] = {}
    for of in by_arm.values():
        if len(of) < len(clips):
            continue
        first = of[0]
        point: Row = {k: first[k] for k in ("arm", "codec", "delay", "size", "point")}
        point |= {k: round(float(np.mean([r[k] for r in of])), 6) for k in _MEANS}
        point["parts"] = {p: round(float(np.mean([r["parts"].get(p, 0) for r in of])), 2) for p in first["parts"]}
        point["metrics"] = {}
        for metric in METRICS:
            values = [r["metrics"][metric] for r in of if r["metrics"].get(metric) is not None]
            if values:
                point["metrics"][metric] = round(float(np.mean(values)), 5)
        curves.setdefault(first["curve"], []).append(point)
    for curve in curves.values():
        curve.sort(key=lambda p: p["kbps"])
    return curves


def on_hull(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of these (rate, distortion) lie on the lower convex hull, distortion falling as the rate rises."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    hull: list[int] = []
    for i in order:
        if hull and points[i][1] >= points[hull[-1]][1]:
            continue
        while len(hull) > 1:
            (x0, y0), (x1, y1), (x2, y2) = points[hull[-2]], points[hull[-1]], points[i]
            if (y1 - y0) * (x2 - x0) < (y2 - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append(i)
    chosen = set(hull)
    return [i in chosen for i in range(len(points))]


def _goodness(metric: str, points: Iterable[Row]) -> list[float]:
    # As BD-rate wants it: rising with quality.
    return [METRICS[metric].better * float(p["metrics"][metric]) + (METRICS[metric].better < 0) for p in points]


def overlap(anchor: list[float], test: list[float]) -> float:
    """Share of the test curve's quality range that the anchor's covers."""
    low, high = max(min(anchor), min(test)), min(max(anchor), max(test))
    width = max(test) - min(test)
    return max(0.0, high - low) / width if width > 0 else 0.0


def bd_rates(curves: dict[str, list[Row]]) -> list[Row]:
    """BD-rate (Bjontegaard, PCHIP) of tfcodec against every other curve of its delay class, where they overlap.

    In percent of the anchor's bits: -90 means a tenth. ``overlap``: share of tfcodec's range; no figure below 20 %.
    """
    from bjontegaard import bd_rate

    out = []
    for name, curve in sorted(curves.items()):
        for metric in BD_METRICS:
            for delay in ("file", "call"):
                ours = curves.get(f"tfcodec-{delay}-256", [])
                if name.startswith("tfcodec") or curve[0]["delay"] != delay or min(len(ours), len(curve)) < 2:
                    continue
                if any(metric not in p["metrics"] for p in [*ours, *curve]):
                    continue
                a, b = _rising(metric, curve), _rising(metric, ours)
                qa, qb = _goodness(metric, a), _goodness(metric, b)
                share = overlap(qa, qb) if min(len(a), len(b)) > 1 else 0.0
                value = None
                if share >= LEAST_OVERLAP:
                    ra, rb = [p["kbps"] for p in a], [p["kbps"] for p in b]
                    value = round(
                        float(bd_rate(ra, qa, rb, qb, method="pchip", require_matching_points=False, min_overlap=0)), 2
                    )
                out.append(
                    {"anchor": name, "delay": delay, "metric": metric, "overlap": round(share, 3), "bd_rate": value}
                )
    return out


def _rising(metric: str, curve: list[Row]) -> list[Row]:
    """Points of a curve, in order of rate, each better than all before it: PCHIP needs rising values."""
    kept: list[Row] = []
    for point in curve:
        if not kept or _goodness(metric, [point])[0] > _goodness(metric, kept[-1:])[0]:
            kept.append(point)
    return kept


def bits_for(metric: str, target: float, curve: list[Row]) -> tuple[float, str, dict[str, float]] | None:
    """Rate at which a curve has the metric's target value, by interpolation of log rate; None for an empty curve.

    Returns (kbps, bound, other metrics there). bound "=": between two points. "<": already the coarsest setting is
    better; no lower rate is known, and the figures are that setting's. ">": even the finest is worse.
    """
    kept = _rising(metric, [p for p in curve if p["metrics"].get(metric) is not None])
    if not kept:
        return None
    sign = METRICS[metric].better
    quality = [sign * p["metrics"][metric] for p in kept]
    if sign * target <= quality[0]:
        bound = "=" if sign * target == quality[0] else "<"
        return kept[0]["kbps"], bound, dict(kept[0]["metrics"])
    if sign * target > quality[-1]:
        return kept[-1]["kbps"], ">", dict(kept[-1]["metrics"])
    i = int(np.searchsorted(quality, sign * target))
    share = (sign * target - quality[i - 1]) / (quality[i] - quality[i - 1])
    a, b = kept[i - 1], kept[i]
    rate = float(np.exp((1 - share) * np.log(a["kbps"]) + share * np.log(b["kbps"])))
    between = {
        m: (1 - share) * a["metrics"][m] + share * b["metrics"][m]
        for m in METRICS
        if a["metrics"].get(m) is not None and b["metrics"].get(m) is not None
    }
    return rate, "=", between


def best_bits_for(metric: str, target: float, curves: list[list[Row]]) -> tuple[float, str, dict[str, float]] | None:
    """`bits_for` by the cheapest of a codec's curves (picture sizes) that reach the target; else by the best one."""
    found = [f for f in (bits_for(metric, target, c) for c in curves) if f is not None]
    reached = [f for f in found if f[1] != ">"]
    if reached:
        return min(reached, key=lambda f: f[0])
    return min(found, key=lambda f: METRICS[metric].better * -f[2][metric]) if found else None


def equal_quality(rows: list[Row], metric: str = "lpips", quality: int = DEFAULT_QUALITY) -> list[Row]:
    """For every rival and delay class: bits for tfcodec's value of the metric, as multiples of tfcodec's bits.

    Every figure is per clip first. Beside it the other metrics, of both, at that point; and ``whole``, the same with
    tfcodec's speech added to both.
    """
    out = []
    for delay in ("file", "call"):
        for rival in ("frozen", *CLASSICAL):
            entries = []
            for clip in sorted({r["clip"] for r in rows}):
                of = [r for r in rows if r["clip"] == clip]
                ours = [r for r in of if r["codec"] == "tfcodec" and r["delay"] == delay and r["point"] == quality]
                theirs = [r for r in of if r["codec"] == rival and r["delay"] == delay]
                if not ours or ours[0]["metrics"].get(metric) is None or not theirs:
                    continue
                curves = [
                    sorted((r for r in theirs if r["size"] == s), key=lambda r: r["kbps"])
                    for s in sorted({r["size"] for r in theirs})
                ]
                found = best_bits_for(metric, ours[0]["metrics"][metric], curves)
                if found is None:
                    continue
                entries.append({
                    "clip": clip, "tfcodec_kbps": ours[0]["kbps"], "kbps": round(found[0], 3), "bound": found[1],
                    "ratio": round(found[0] / ours[0]["kbps"], 3), "metrics": found[2],
                    "tfcodec_metrics": ours[0]["metrics"], "speech_kbps": ours[0]["speech_kbps"],
                })  # fmt: skip
            if entries:
                out.append({"metric": metric, "delay": delay, "rival": rival, "quality": quality, **_spread(entries)})
    return out


def _spread(entries: list[Row]) -> Row:
    ratios = np.array([e["ratio"] for e in entries])

    def mean(of: str, metric: str) -> float | None:
        values = [e[of][metric] for e in entries if e[of].get(metric) is not None]
        return round(float(np.mean(values)), 5) if values else None

    quantiles = np.quantile(ratios, (0.1, 0.25, 0.5, 0.75, 0.9))
    speech, theirs, ours = (np.array([e[k] for e in entries]) for k in ("speech_kbps", "kbps", "tfcodec_kbps"))
    return {
        "clips": len(entries),
        "at_most": sum(e["bound"] == "<" for e in entries), "at_least": sum(e["bound"] == ">" for e in entries),
        "ratio": {
            "geometric_mean": round(float(np.exp(np.log(ratios).mean())), 3),
            "of_mean_rates": round(sum(e["kbps"] for e in entries) / sum(e["tfcodec_kbps"] for e in entries), 3),
            "min": round(float(ratios.min()), 3), "max": round(float(ratios.max()), 3),
            **{n: round(float(q), 3) for n, q in zip(("p10", "p25", "median", "p75", "p90"), quantiles, strict=True)},
        },
        "kbps": round(float(np.mean([e["kbps"] for e in entries])), 3),
        "tfcodec_kbps": round(float(np.mean([e["tfcodec_kbps"] for e in entries])), 3),
        "whole": {
            "ratio": round(float(np.median((theirs + speech) / (ours + speech))), 3),
            "kbps": round(float((theirs + speech).mean()), 3), "tfcodec_kbps": round(float((ours + speech).mean()), 3),
        },
        "metrics": {m: mean("metrics", m) for m in METRICS},
        "tfcodec_metrics": {m: mean("tfcodec_metrics", m) for m in METRICS},
        "per_clip": [{k: e[k] for k in ("clip", "tfcodec_kbps", "kbps", "bound", "ratio")} for e in entries],
    }  # fmt: skip


def reach(curves: dict[str, list[Row]]) -> list[Row]:
    """Where classical codecs overtake: the rate at which each reaches the best value of tfcodec's whole ladder."""
    out = []
    for delay in ("file", "call"):
        ours = curves.get(f"tfcodec-{delay}-256")
        for rival in CLASSICAL:
            theirs = [c for c in curves.values() if c[0]["codec"] == rival and c[0]["delay"] == delay]
            for metric in METRICS:
                if not ours or not theirs or any(metric not in p["metrics"] for p in ours):
                    continue
                pick: Callable[..., Row] = max if METRICS[metric].better > 0 else min
                best = pick(ours, key=lambda p: p["metrics"][metric])
                found = best_bits_for(metric, best["metrics"][metric], theirs)
                if found is not None:
                    out.append({
                        "delay": delay, "rival": rival, "metric": metric, "tfcodec_best": best["metrics"][metric],
                        "tfcodec_kbps": round(best["kbps"], 3), "kbps": round(found[0], 3), "bound": found[1],
                    })  # fmt: skip
    return out


STREAMS: tuple[tuple[int, str], ...] = (
    (5, "opus:9000"), (5, "amr:4750"), (5, "lyra:3600"), (5, "codec2:1200"), (0, "opus:6000"), (0, "lyra:1800"),
    (0, "codec2:1200"),
)  # fmt: skip
"""Qualities of pictures and codecs of speech that go together in a whole stream."""


def whole_streams(part: Row, speech: dict[str, Row]) -> list[Row]:
    """Whole streams of files, pictures and speech: tfcodec's, and its rivals' at equal LPIPS, each with two codecs.

    Args:
        part: the analysis of some clips.
        speech: mean rows of speech codecs, from `speech.means`.

    Returns:
        Rows of ``title`` (codec of the pictures and its setting), ``speech`` (a key of ``speech``), ``video_kbps`` and
        ``speech_kbps``; only those of which both rates are known.
    """
    pictures = [
        (f"tfcodec, quality {quality}", p["kbps"], codec)
        for quality, codec in STREAMS
        for p in part["curves"].get("tfcodec-file-256", []) if p["point"] == quality
    ]  # fmt: skip
    pictures += [
        (f"{TITLES[e['rival']]} at equal LPIPS", e["kbps"], codec)
        for e in part["equal_lpips"] if e["delay"] == "file" and e["rival"] in CLASSICAL
        for codec in ("opus:9000", "lyra:3600")
    ]  # fmt: skip
    return [
        {"title": title, "speech": codec, "video_kbps": video, "speech_kbps": speech[codec]["kbps"]}
        for title, video, codec in pictures if codec in speech
    ]  # fmt: skip


WHOLE_CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("tfcodec", ("opus:9000", "lyra:3600", "codec2:1200")),
    *((rival, ("opus:9000", "amr:4750")) for rival in CLASSICAL),
)  # fmt: skip
"""Codecs of pictures, and the codecs of speech that each is shown with."""


def whole_curves(part: Row, speech: dict[str, Row]) -> list[Row]:
    """LPIPS against the rate of pictures and speech together; of a codec's picture sizes, what is best at each rate.

    Args:
        part: the analysis of some clips.
        speech: mean rows of speech codecs, from `speech.means`.

    Returns:
        Rows of ``codec``, ``delay``, ``speech`` (a key of ``speech``) and ``points``, in order of rate: ``point`` (the
        codec's setting), ``kbps`` of the whole stream and ``lpips``.
    """
    out = []
    for codec, voices in WHOLE_CURVES:
        for delay, rate in (("file", "kbps"), ("call", "call_kbps")):
            curves = [c for c in part["curves"].values() if (c[0]["codec"], c[0]["delay"]) == (codec, delay)]
            known = [p for curve in curves for p in curve if p["metrics"].get("lpips") is not None]
            best = _rising("lpips", sorted(known, key=lambda p: p["kbps"]))
            for voice in (v for v in voices if best and v in speech):
                points = [
                    {"point": p["point"], "kbps": round(p["kbps"] + speech[voice][rate], 4),
                     "lpips": p["metrics"]["lpips"]} for p in best
                ]  # fmt: skip
                out.append({"codec": codec, "delay": delay, "speech": voice, "points": points})
    return out


def analyse(rows: list[Row], speech: list[Row] | tuple[()] = ()) -> Row:
    """Everything above, over all clips and over those of 5 s and more (where there are some and others).

    ``speech``: rows of speech codecs, see `speech.collect`.
    """
    out: Row = {}
    long = [r for r in rows if r["seconds"] >= LONG_SECONDS]
    for name, of in (("all", rows), ("long", long)):
        if not of:
            continue
        curves = mean_curves(of)
        ladders = {}
        for key, curve in curves.items():
            if key.startswith("tfcodec") and all("lpips" in p["metrics"] for p in curve):
                hull = on_hull([(p["kbps"], p["metrics"]["lpips"]) for p in curve])
                ladders[key] = dict(zip([p["arm"] for p in curve], hull, strict=True))
        out[name] = {
            "clips": len({r["clip"] for r in of}), "curves": curves, "on_hull": ladders, "bd_rate": bd_rates(curves),
            "equal_lpips": equal_quality(of), "reach": reach(curves),
        }  # fmt: skip
        names = {r["clip"] for r in of}
        out[name]["speech"] = means([r for r in speech if r["clip"] in names])
        out[name]["whole"] = whole_streams(out[name], out[name]["speech"])
        out[name]["whole_curves"] = whole_curves(out[name], out[name]["speech"])
    return out
