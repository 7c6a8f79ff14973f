"""A call over a bad network: quality against loss, payload, recovery, lost keyframes. In simulated time.

    python -m benchmarks.measure.call_loss [--clips 8] [--seeds 2] [--every 8] [--only quality]

Each packet of 0 to 30 % is lost, in bursts of 1, 3 and 8 on average (Gilbert-Elliott), on the way there and on the way
back, where the receiver's feedback travels; each way takes 50 ms. `val` clips of 6 s and more, their first 8 s.
Quality: what the receiver shows at a tick against the source's frame that its playout clock stands at; when the picture
stands because of a loss, the clock goes on. The clock's delay behind the source is given beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import RESULTS, clip_list, clips, environment, write
from tfcodec.codec.call.overhead import DATA_CHANNEL, RTP
from tfcodec.media import open_source
from tfcodec.metrics.lpips import LPIPS
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model
from tfcodec.simulator import Link
from tfcodec.simulator.call import TICK, CallReport, Network, simulate

DELAY = 0.05
LOSSES = (0.05, 0.1, 0.2, 0.3)
BURSTS = (1, 3, 8)
LENGTH = 200
ARMS: dict[str, tuple[dict[str, Any], int]] = {
    "default: bundle 2, lookahead 0": ({}, 0),
    "bundle 1, lookahead 0": ({"bundle": 1}, 0),
    "bundle 1, lookahead 1": ({"bundle": 1}, 1),
    "bundle 4, lookahead 0": ({"bundle": 4}, 0),
}

Frames = NDArray[np.uint8]
Clip = tuple[Frames, NDArray[np.float32] | None]


def load(path: Path, length: int = LENGTH) -> Clip:
    with open_source(path, crop="none") as source:
        frames = np.stack([frame for _, frame in zip(range(length), source.frames_iter(), strict=False)])
        return frames, source.audio


def links(loss: float, burst: float, seed: int) -> tuple[Link, Link]:
    return Link(loss, burst, delay=DELAY, seed=2 * seed), Link(loss, burst, delay=DELAY, seed=2 * seed + 1)


def run(
    clip: Clip, there: Link, back: Link, *, every: int = 0, lookahead: int = 0, feedback: bool = True,
    before_tick: Callable[[int], None] | None = None, **options: Any,
) -> tuple[CallReport, dict[int, Frames]]:  # fmt: skip
    """One call; pictures of every so many ticks (0: none)."""
    frames, audio = clip
    report, pictures = CallReport(), {}
    encoder = tfcodec.Encoder(latency="call", audio=audio is not None, origin=0, **options)
    decoder = tfcodec.Decoder(lookahead=lookahead)

    def drawn(tick: int) -> bool:
        return every > 0 and tick >= 25 and tick % every == 0

    shown = simulate(
        frames, audio, Network(there, back, feedback), encoder=encoder, decoder=decoder, report=report,
        draw=drawn, before_tick=before_tick,
    )  # fmt: skip
    for tick, (picture, _) in enumerate(shown):
        if drawn(tick):
            pictures[tick] = picture
    return report, pictures


def score(judge: LPIPS, source: Frames, pictures: dict[int, Frames], report: CallReport) -> tuple[float, float]:
    """Mean LPIPS and PSNR against the frames that are due."""
    shown = np.stack(list(pictures.values()))
    due = np.stack([source[max(report.due[tick], 0)] for tick in pictures])
    with torch.inference_mode():
        a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (shown, due))
        values = [judge(a[i : i + 4], b[i : i + 4]).flatten() for i in range(0, len(a), 4)]
    return float(torch.cat(values).mean()), float(psnr(shown, due).mean())


def rates(report: CallReport) -> dict[str, float]:
    return {
        "video_kbps_without_keyframes": report.video_kbps,
        "tiny_kbps": report.kbps(report.parts.get("tiny", 0)),
        "redundancy_kbps": report.kbps(report.parts.get("redundancy", 0)),
        "keyframe_kbps": report.kbps(report.parts.get("keyframe", 0)),
        "wire_kbps": report.kbps(report.wire_bytes),
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def quality(paths: list[Path], seeds: int, every: int) -> dict[str, Any]:
    judge = LPIPS("alex")
    material = [load(path) for path in paths]

    def point(loss: float, burst: float, count: int, lookahead: int = 0, **options: Any) -> dict[str, float]:
        rows = []
        for number, clip in enumerate(material):
            for seed in range(count):
                report, pictures = run(
                    clip, *links(loss, burst, 100 * number + seed), every=every, lookahead=lookahead, **options
                )
                lpips, db = score(judge, clip[0], pictures, report)
                rows.append({
                    "lpips": lpips, "psnr": db, "held": 1 - float(np.mean(report.fresh[25:])),
                    "clock_delay_ms": 1000 * TICK * float(np.mean([t - due for t, due in enumerate(report.due)][25:])),
                    "pictures": float(len(report.fresh) == len(clip[0])), **rates(report),
                })  # fmt: skip
        return mean(rows)

    began = time.time()
    arms = {name: point(0, 1, 1, lookahead, **options) for name, (options, lookahead) in ARMS.items()}
    none = arms["default: bundle 2, lookahead 0"]
    curve = [{"loss": 0.0, "burst": 1, **none, "lpips_ratio": 1.0}]
    for burst in BURSTS:
        for loss in LOSSES:
            row = point(loss, burst, seeds)
            curve.append({"loss": loss, "burst": burst, **row, "lpips_ratio": row["lpips"] / none["lpips"]})
            ratio = curve[-1]["lpips_ratio"]
            print(f"{time.time() - began:5.0f} s: loss {loss:.2f} burst {burst}: {ratio:.3f}", flush=True)
    redundancy = []
    for repeats in (0, 1, 2):
        row = point(0.1, 3, seeds, redundancy=repeats)
        redundancy.append({"redundancy": repeats, **row, "lpips_ratio": row["lpips"] / none["lpips"]})
    blind = point(0.1, 3, seeds, feedback=False)
    return {
        "arms_without_loss": arms, "loss": curve, "redundancy_at_10_percent_burst_3": redundancy,
        "without_feedback_at_10_percent_burst_3": {**blind, "lpips_ratio": blind["lpips"] / none["lpips"]},
    }  # fmt: skip


def payload(paths: list[Path]) -> dict[str, Any]:
    """Rates of calls without loss and without speech; of whole clips."""
    rows: list[dict[str, Any]] = []
    tries: tuple[dict[str, Any], ...] = ({}, {"bundle": 1}, {"bundle": 2, "redundancy": 1})
    for path in paths:
        frames, _ = load(path, 10**6)
        for options in tries:
            report, _ = run((frames, None), *links(0, 1, 0), **options)
            name = ", ".join(f"{k} {v}" for k, v in options.items()) or "default (bundle 2)"
            extra = {"rtp_wire_kbps": report.kbps(sum([report.bytes, report.packets * RTP.fixed]))}
            rows.append({"clip": path.name, "seconds": report.seconds, "options": name, **rates(report), **extra})
    out: dict[str, Any] = {"transport": DATA_CHANNEL.name, "clips": rows}
    for name in dict.fromkeys(row["options"] for row in rows):
        values = [row["video_kbps_without_keyframes"] for row in rows if row["options"] == name]
        wire = [row["wire_kbps"] for row in rows if row["options"] == name]
        out[name] = {
            "mean_kbps": float(np.mean(values)), "worst_clip_kbps": max(values), "mean_wire_kbps": float(np.mean(wire))
        }  # fmt: skip
    return out


def recovery(paths: list[Path], seeds: int) -> dict[str, Any]:
    """30 % loss in bursts of 8 for 4 s, ending within a burst; seconds from then until every tick has a new frame."""
    stop, times, frames_every_tick = 100, [], True
    for number, path in enumerate(paths):
        clip = load(path, 175)
        for seed in range(seeds):
            there, back = links(0.3, 8, 100 * number + seed)

            def change(tick: int, there: Link = there, back: Link = back) -> None:
                if tick == stop - 8:
                    there.set_loss(1.0)  # the last burst, so that there is something to recover from
                elif tick == stop:
                    there.set_loss(0.0)
                    back.set_loss(0.0)

            report, _ = run(clip, there, back, before_tick=change)
            held = [tick for tick, fresh in enumerate(report.fresh) if tick >= stop and not fresh]
            times.append((max(held, default=stop - 1) + 1 - stop) * TICK)
            frames_every_tick &= len(report.fresh) == len(clip[0])
    return {
        "runs": len(times), "seconds_mean": float(np.mean(times)), "seconds_worst": max(times),
        "seconds_95_percent": float(np.percentile(times, 95)), "a_frame_every_tick": frames_every_tick,
    }  # fmt: skip


class Dropping(Link):
    """Loses the packets that a rule names."""

    def __init__(self, rule: Callable[[Any], bool]) -> None:
        super().__init__(delay=DELAY)
        self._rule = rule

    def send(self, packet: bytes, now: float) -> None:
        if not self._rule(packet):
            super().send(packet, now)


def lost_keyframe(paths: list[Path]) -> dict[str, Any]:
    """The first sending of a keyframe is lost, whole or in part: seconds from its frame's capture to the screen."""
    out: dict[str, Any] = {"round_trip_ms": 2000 * DELAY}
    for name, at in (("the call's first", 0), ("a later one", 50)):
        for what in ("all parts", "first part"):
            times = []
            for path in paths:
                lost: set[int] = set()

                def rule(packet: Any, lost: set[int] = lost, what: str = what, at: int = at) -> bool:
                    parsed = tfcodec.bitstream.parse_packet(packet)
                    if not isinstance(parsed, tfcodec.bitstream.KeyframePacket) or parsed.timestamp != at:
                        return False
                    first = parsed.offset not in lost and (what == "all parts" or not lost)
                    lost.add(parsed.offset)
                    return first

                encoder = tfcodec.Encoder(latency="call", audio=False)
                decoder = tfcodec.Decoder()
                report = CallReport()
                clip = load(path, 100)
                ticks = simulate(
                    clip[0], None, Network(Dropping(rule), Link(delay=DELAY)), encoder=encoder, decoder=decoder,
                    report=report, draw=lambda tick: False,
                    before_tick=lambda tick: encoder.request_keyframe() if tick == at and at else None,  # noqa: B023
                )  # fmt: skip
                for tick, _ in enumerate(ticks):
                    position = decoder.position
                    if position is not None and position >= at:
                        times.append((tick - at) * TICK)
                        break
            out[f"{name}, {what} lost"] = {"seconds_mean": float(np.mean(times)), "seconds_worst": max(times)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--every", type=int, default=8, help="LPIPS of every so many ticks")
    parser.add_argument("--only", choices=("quality", "payload", "recovery", "lost_keyframe"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    every_clip = clips()
    long = [path for path in every_clip if len(load(path, LENGTH)[0]) >= 150][: options.clips]
    # With --only the other parts stay as they are.
    known = RESULTS / "call_loss.json"
    result: dict[str, Any] = json.loads(known.read_text()) if options.only and known.is_file() else {}
    result |= environment()
    result |= {"clips": clip_list(long), "seeds": options.seeds, "lpips_every": options.every}
    parts: dict[str, Callable[[], Any]] = {
        "payload": lambda: payload(every_clip),
        "recovery": lambda: recovery(long, 5 * options.seeds),
        "lost_keyframe": lambda: lost_keyframe(long),
        "quality": lambda: quality(long, options.seeds, options.every),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            # Each part says which network it was measured with: another run may have left the others.
            result[name] = part() | {"date": result["date"], "model": default_model().title}
            print(name, {k: v for k, v in result[name].items() if k != "clips"}, flush=True)
    write("call_loss", result)


if __name__ == "__main__":
    main()
