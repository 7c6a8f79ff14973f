"""Speech codecs on `val`: kbit/s in files and in calls, and how the speech sounds; with --whole the whole stream.

    TFCODEC_LYRA=FOLDER python -m benchmarks.measure.speech_val [--metrics pesq,stoi,...] [--whole]

Writes benchmarks/results/speech_val.json, and goes on from what is there. Metrics (the extra `bench-speech`) that do
not load are named there with the reason; what they are, says tfcodec/metrics/speech.py. "source" is the clip's own
sound. PER is the mean over clips; pooled, all clips' errors as a share of all clips' phonemes, as error rates of
recognisers are given: a clip in which nearly nothing is said counts for nearly nothing there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import tfcodec
from benchmarks.common import RESULTS, clips, environment, write
from tfcodec.bench.speech import CODECS as LADDERS
from tfcodec.bench.speech import mean_of, measure_rate, read_sound
from tfcodec.metrics.speech import METRICS, Judge, judge, phonemes
from tfcodec.rates import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from tfcodec.samples import Samples
from tfcodec.speech import lyra

CODECS = ("source", *(f"{name}:{rate}" for name, rates in LADDERS.items() for rate in rates))
SHORTEST = 4.5
"""Seconds of a clip that is judged: shorter ones are single words."""
FIRST = 10
"""Clips (71 s) of which there are means of their own: the codecs were chosen by them."""
WHOLE = ((5, "opus"), (5, "lyra:3600"), (0, "lyra:1800"), (0, "codec2:1200"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", default=",".join(METRICS), help="comma-separated (default: all)")
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--whole", action="store_true", help="encode the pictures too, at qualities 5 and 0")
    args = parser.parse_args()
    path = RESULTS / "speech_val.json"
    rows: dict[str, Any] = json.loads(path.read_text())["clips"] if path.exists() else {}
    skipped: dict[str, str] = {}
    metrics: dict[str, Judge] = {}
    for name in filter(None, args.metrics.split(",")):
        try:
            metrics[name] = judge(name)
        except tfcodec.TfcodecError as error:
            skipped[name] = str(error)
    for clip in clips():
        sound = read_sound(clip, SHORTEST)
        if sound is None:
            continue
        mine = rows.setdefault(clip.name, {"seconds": len(sound) / SAMPLE_RATE, "codecs": {}})
        if "per" in metrics and "phonemes" not in mine:
            mine["phonemes"] = phonemes(sound)
        for codec in args.codecs.split(","):
            if codec.startswith("lyra") and lyra.missing():
                skipped[codec] = lyra.missing()
                continue
            try:
                row = mine["codecs"].get(codec)
                decoded = None
                if codec == "source":
                    row, decoded = row or {}, sound
                elif row is None:
                    row, decoded = measure_rate(codec, sound)
                mine["codecs"][codec] = row
                for name, metric in metrics.items():
                    if name not in row:
                        decoded = measure_rate(codec, sound)[1] if decoded is None else decoded
                        row[name] = round(metric(sound, decoded), 4)
            except tfcodec.TfcodecError as error:
                skipped[codec] = str(error)
        if args.whole and len(sound) >= 5 * SAMPLE_RATE:
            measure_whole(clip, sound, mine.setdefault("whole", {}))
        print(clip.name, {c: r.get("kbps") for c, r in mine["codecs"].items()}, flush=True)
        first = dict(list(rows.items())[:FIRST])
        found = {"mean": means(rows), "mean_of_first": means(first), "clips": rows}
        write("speech_val", {"environment": environment(), "skipped": skipped, **found})


def measure_whole(clip: Path, sound: Samples, known: dict[str, Any]) -> None:
    """Rates of whole streams. Pictures are coded once a quality: their bytes do not depend on the speech's codec."""
    video = {int(step.split()[0]): row["video_kbps"] for step, row in known.items()}
    for quality, speech in WHOLE:
        if f"{quality} {speech}" in known:
            continue
        if quality not in video:
            video[quality] = round(tfcodec.probe(tfcodec.encode(clip, quality=quality)).video_kbps, 4)
        grey = np.full((len(sound) // SAMPLES_PER_FRAME, 256, 256, 3), 128, np.uint8)
        heard = tfcodec.encode(
            grey, fps=FPS, audio=sound, sample_rate=SAMPLE_RATE, quality=quality, speech=speech, crop="none",
            refine=False, motion=False,
        )  # fmt: skip
        kbps = round(video[quality] + tfcodec.probe(heard).audio_kbps, 4)
        known[f"{quality} {speech}"] = {"kbps": kbps, "video_kbps": video[quality]}


def means(rows: dict[str, Any]) -> dict[str, Any]:
    """By codec: rates over all seconds, metrics over clips; and the whole stream over clips."""
    out: dict[str, Any] = {}
    known = {codec for row in rows.values() for codec in row["codecs"]}
    for codec in sorted(known, key=lambda c: (CODECS.index(c) if c in CODECS else len(CODECS), c)):
        found = [(row["seconds"], row["codecs"][codec]) for row in rows.values() if codec in row["codecs"]]
        if not found:
            continue
        out[codec] = mean_of(found)
        spoken = [(row["phonemes"], row["codecs"][codec]["per"]) for row in rows.values()
                  if "phonemes" in row and "per" in row["codecs"].get(codec, {})]  # fmt: skip
        if spoken:
            counts, rates = zip(*spoken, strict=True)
            out[codec]["per_pooled"] = round(float(np.average(rates, weights=counts)), 4)
    for step in dict.fromkeys(step for row in rows.values() for step in row.get("whole", {})):
        quality, speech = step.split()
        found = [row["whole"][step] for row in rows.values() if step in row.get("whole", {})]
        if found:
            out[f"whole stream, quality {quality}, {speech}"] = {
                "clips": len(found), **{key: round(float(np.mean([row[key] for row in found])), 3) for key in found[0]}
            }  # fmt: skip
    return out


if __name__ == "__main__":
    main()
