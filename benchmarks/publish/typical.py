"""The tables of tfcodec/codec/typical.py, put together from results: `python -m benchmarks.publish.typical` shows them.

Layers of calls: tiny frames at their qualities 1 (`call_loss`) and 5 (`tiny_rate`), others by the step between them;
motion by `motion_rate`. Headers: `call_live`. Files: keyframe (`keyframe_rate`), layers and container put together in
the same way, displacement (`align_search`) beside them, and then brought to what whole files of quality 0
(`speech_val`, from before displacement) and 5 (`codec_val`) take. Speech: `speech_val`; of Opus, whose packets are the
same since, `val/results` has all qualities.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS
from tfcodec.codec import policy
from tfcodec.rates import FPS
from tfcodec.speech.choice import Choice

SECONDS = 8
"""Length of a file that is typical."""
QUALITIES = range(11)


def load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def layers(mode: str, tiny: float) -> list[float]:
    """kbit/s of motion and tiny frames by quality; ``tiny``: bits a frame at the coder's quality 1."""
    at_5 = load("tiny_rate")["summary"][f"{mode}_q5"]["bits_per_frame_mean_over_clips"]
    motion = load("motion_rate")["results"]
    rows = sorted((int(name.split()[-1]), row["bits_per_frame"]) for name, row in motion.items() if mode in name)
    steps, bits = zip(*rows, strict=True)
    out = []
    for quality in QUALITIES:
        tiny_bits = tiny * (at_5 / tiny) ** ((policy.tiny_quality(quality) - 1) / 4)
        out.append((tiny_bits + float(np.interp(policy.motion_quality(quality), steps, bits))) * FPS / 1000)
    return out


def call_layers() -> list[float]:
    long = [row for row in load("call_loss")["payload"]["clips"] if row["seconds"] >= 5]
    rates = [row["tiny_kbps"] for row in long if row["options"].startswith("default")]
    return [round(float(kbps), 2) for kbps in layers("call", float(np.mean(rates)) * 1000 / FPS)]


def header() -> float:
    senders = [row["sender"] for name, row in load("call_live")["live"].items() if name.startswith("default")]
    return round(float(senders[0]["kbps"]["header"]), 2)


def files() -> list[float]:
    steps = load("tiny_rate")["summary"]
    ratio = steps["file_q5"]["bits_per_frame_mean_over_clips"] / steps["call_q5"]["bits_per_frame_mean_over_clips"]
    of_calls = [row for row in load("call_loss")["payload"]["clips"] if row["seconds"] >= 5]
    tiny = float(np.mean([row["tiny_kbps"] for row in of_calls if row["options"].startswith("default")]))
    stills = sorted((row["quality"], row["bytes_mean"]) for row in load("keyframe_rate")["keyframe"] if not row["fast"])
    grades, sizes = zip(*stills, strict=True)
    served = SECONDS * FPS
    sums = [
        layer + float(np.interp(policy.keyframe_quality(q, served), grades, sizes)) * 8 / 1000 / SECONDS
        for q, layer in zip(QUALITIES, layers("file", tiny * ratio * 1000 / FPS), strict=True)
    ]
    means = load("speech_val")["mean"]
    lowest = next(m["video_kbps"] for n, m in means.items() if "quality 0," in n)
    middle = load("codec_val")["summary"]["mean_of_clips_of_5_s_and_more"]["video_kbps"]
    wanted = {0: lowest, 5: middle - displacement()[5]}
    share = np.interp(QUALITIES, [0, 5], [wanted[q] / sums[q] for q in (0, 5)])
    return [round(float(kbps), 2) for kbps in share * sums + displacement()]


def displacement() -> NDArray[np.float64]:
    """kbit/s of the layer of displacement, by quality; on clips of `train`."""
    found = {name.partition(":")[0]: row["displacement_bits"] for name, row in load("align_search")["mean"].items()}
    octaves = np.polyfit([5, 6, 8], np.log2([found["quality 5"], found["quality 6"], found["quality 8"]]), 1)
    return 2 ** np.polyval(octaves, [policy.displacement_quality(q) for q in QUALITIES]) * FPS / 1000


def speech() -> dict[str, dict[str, dict[int, float]]]:
    out: dict[str, dict[str, dict[int, float]]] = {"file": {}, "call": {}}
    curves = load("val/results")["analysis"]["long"]["curves"]
    for latency, table in out.items():
        points = {p["point"]: p["speech_kbps"] for p in curves[f"tfcodec-{latency}-256"]}
        table["opus"] = {Choice.named("opus", q).bit_rate: round(kbps, 2) for q, kbps in sorted(points.items())}
        for codec, row in load("speech_val")["mean"].items():
            name, _, rate = codec.partition(":")
            # Other rates than the ladder's were measured before Lyra's indices were chosen for their bits.
            if name in ("codec2", "lyra") and int(rate) in {Choice.named(name, q).bit_rate for q in QUALITIES}:
                table.setdefault(name, {})[int(rate)] = round(row["kbps" if latency == "file" else "call_kbps"], 2)
        for name in ("codec2", "lyra"):
            table[name] = dict(sorted(table[name].items()))
    return out


if __name__ == "__main__":
    print("FILE_KBPS =", tuple(files()))
    print("LAYERS_KBPS =", tuple(call_layers()))
    print("HEADER_KBPS =", header())
    print("SPEECH_KBPS =", speech())
