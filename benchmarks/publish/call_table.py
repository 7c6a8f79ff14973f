"""Puts the figures of calls into docs/calls.md: ``python -m benchmarks.publish.call_table``.

They are those of `results/call_loss.json`, `call_live.json` and `motion_rate.json`.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.common import RESULTS, ROOT, replaced

DOCUMENT = ROOT / "docs" / "calls.md"
BEGIN, END = "<!-- measured: written by benchmarks/publish/call_table.py -->\n", "<!-- end of measured -->\n"
DEFAULT = "default: bundle 2, lookahead 0"
OTHERS = ("bundle 1, lookahead 0", "bundle 1, lookahead 1")


def load(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def rows() -> list[tuple[str, str]]:
    loss, live = load("call_loss"), load("call_live")
    call, soak = live["live"][DEFAULT], live["soak"]
    there, here = call["receiver"], call["sender"]
    delay, first, last = there["delay_ms"], there["delay_ms_first_minute"], there["delay_ms_last_minute"]
    loops = [side["event_loop_late_ms"] for side in (there, here)]
    quality, recovery = loss["quality"], loss["recovery"]
    two, one = loss["payload"]["default (bundle 2)"], loss["payload"]["bundle 1"]
    point = {(row["loss"], row["burst"]): row for row in quality["loss"]}[0.1, 3]
    bare = quality["redundancy_at_10_percent_burst_3"][0]["lpips_ratio"]
    blind = quality["without_feedback_at_10_percent_burst_3"]["lpips_ratio"]
    keyframe = max(row["seconds_worst"] for row in loss["lost_keyframe"].values() if isinstance(row, dict))
    arms = [quality["arms_without_loss"][name]["lpips"] for name in (DEFAULT, *OTHERS)]
    motion = [load("motion_rate")["results"][f"{mode}, quality 5"] for mode in ("call", "file")]
    late = f"{max(x['p99.9'] for x in loops):.1f} / {max(x['worst'] for x in loops):.1f} ms"
    hours, minutes = soak["call_seconds"] / 3600, soak["wall_seconds"] / 60
    times = " / ".join(f"{delay[name]:.0f}" for name in ("mean", "p99", "worst"))
    out = {
        f"both ends, {call['seconds']:.0f} s: new frames / ticks": f"{there['new_frames']} / {there['ticks']}",
        "delay, capture to display: mean / 99 % / worst": f"{times} ms",
        "... frames later than 100 / 200 ms": f"{there['later_than_100_ms']} / {there['later_than_200_ms']}",
        "... mean of the first / of the last minute": f"{first:.0f} / {last:.0f} ms",
    }
    for name in live["live"]:
        if name in OTHERS:
            out[f"... mean, {name}"] = f"{live['live'][name]['receiver']['delay_ms']['mean']:.0f} ms"
    out |= {
        "drawing a frame, one core, bfloat16": f"{there['drawing_ms']:.0f} ms",
        "event loops late, both ends: 99.9 % / worst": late,
        "video with packet headers, without keyframes: mean / worst clip": _rate(two),
        "... bundle 1": _rate(one),
        "... with transport headers and keyframes, mean": f"{two['mean_wire_kbps']:.1f} kbit/s",
        "motion layer, frame by frame as in calls / in groups as in files": f"{_both(motion, 'total')} bits/frame",
        "... if it had payloads of its own, in whole bytes": f"{_both(motion, 'bits_per_frame')} bits/frame",
        "LPIPS at 10 % loss in bursts of 3, against no loss": f"{point['lpips_ratio']:.3f} times",
        "... without redundancy / without feedback": f"{bare:.3f} / {blind:.3f} times",
        f"after 30 % loss in bursts of 8, {recovery['runs']} runs: normal again, mean / worst": (
            f"{recovery['seconds_mean']:.2f} / {recovery['seconds_worst']:.2f} s"
        ),
        "lost keyframe, round trip 100 ms: on the screen after, worst": f"{keyframe:.2f} s",
        "LPIPS without loss: bundle 2 / bundle 1 / ... with lookahead 1": " / ".join(f"{x:.4f}" for x in arms),
        f"memory after {hours:.0f} h of call (run in {minutes:.0f} min)": f"{soak['growth_mib']:+.1f} MiB",
    }
    return list(out.items())


def _both(rows: list[dict[str, Any]], name: str) -> str:
    return " / ".join(f"{(row | row['information'])[name]:.1f}" for row in rows)


def _rate(row: dict[str, float]) -> str:
    return f"{row['mean_kbps']:.2f} / {row['worst_clip_kbps']:.2f} kbit/s"


def measured() -> str:
    loss, live = load("call_loss"), load("call_live")
    clips = ", ".join(row["clip"].removesuffix(".mp4") for row in loss["clips"])
    machine = live["live"]
    lines = [
        f"{machine['date']}, {machine['cores']} cores of {machine['processor']}; network {machine['model']}. "
        f"Loss (network {loss['quality']['model']}): `val` clips {clips}; each way 50 ms, the same loss on both ways. "
        f"Payload (network {loss['payload']['model']}): all 30 `val` clips.",
        "", "| measure | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows()), "",
        "LPIPS against no loss, and share of ticks at which the picture stood:", "",
        "| loss | bursts of 1 | of 3 | of 8 |", "|---|---|---|---|",
    ]  # fmt: skip
    points = {(row["loss"], row["burst"]): row for row in loss["quality"]["loss"]}
    for share in sorted({share for share, _ in points if share}):
        cells = [points[share, burst] for burst in (1, 3, 8)]
        text = " | ".join(f"{row['lpips_ratio']:.3f}, {100 * row['held']:.0f} %" for row in cells)
        lines.append(f"| {100 * share:.0f} % | {text} |")
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """The document with today's figures."""
    return replaced(text, BEGIN, END, measured())


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text()))
