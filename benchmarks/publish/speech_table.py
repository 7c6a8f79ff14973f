"""Puts the figures of speech codecs into docs/speech.md: ``python -m benchmarks.publish.speech_table``.

They are those of `results/speech_val.json` and `results/silence.json`.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.common import RESULTS, ROOT, replaced
from tfcodec.speech.choice import Choice

DOCUMENT = ROOT / "docs" / "speech.md"
BEGIN, END = "<!-- measured: written by benchmarks/publish/speech_table.py -->\n", "<!-- end of measured -->\n"
COLUMNS = {
    "kbps": "file, kbit/s", "call_kbps": "call, kbit/s", "pesq": "PESQ", "stoi": "STOI", "visqol": "ViSQOL",
    "dnsmos": "DNSMOS", "distillmos": "Distill-MOS", "per": "PER", "per_pooled": "PER, pooled",
}  # fmt: skip


def load(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def label(codec: str) -> str:
    """As `tfcodec info` names a codec; of Opus with its bit rate."""
    name, _, rate = codec.partition(":")
    if name in ("source", "amr"):
        return "source" if name == "source" else "AMR-NB 4750"
    return f"Opus {rate}" if name == "opus" else Choice.named(codec, 5).label


def measured() -> str:
    result, silence = load("speech_val"), load("silence")
    means, machine = result["mean"], result["environment"]
    codecs = {codec: row for codec, row in means.items() if not codec.startswith("whole")}
    shown = {key: name for key, name in COLUMNS.items() if any(key in row for row in codecs.values())}
    clips = max(row["clips"] for row in codecs.values())
    seconds = max(row["seconds"] for row in codecs.values())
    lines = [
        f"{machine['date']}, {clips} clips of `val` with speech of 4.5 s and more, {seconds:.0f} s: packets alone, "
        "decoded against the source.", "",
        "| codec | " + " | ".join(shown.values()) + " |", "|---" * (len(shown) + 1) + "|",
    ]  # fmt: skip
    for codec, row in codecs.items():
        cells = [f"{row[key]:.2f}" if key in row else "" for key in shown]
        lines.append(f"| {label(codec)} | " + " | ".join(cells) + " |")
    few = result["mean_of_first"]
    lines += ["", f"Clips differ more than codecs. Of the first {few['source']['clips']} clips alone, and of all:", "",
              "| codec | Distill-MOS | of all | PER | of all |", "|---|---|---|---|---|"]  # fmt: skip
    for codec in (codec for codec, row in few.items() if "distillmos" in row and codec in codecs):
        pairs = [f"{of[codec][key]:.2f}" for key in ("distillmos", "per") for of in (few, codecs)]
        lines.append(f"| {label(codec)} | {' | '.join(pairs)} |")
    lines += ["", "Whole streams, mean of the clips of 5 s and more:", "",
              "| quality, speech | clips | in all, kbit/s | video, kbit/s |", "|---|---|---|---|"]  # fmt: skip
    for name, row in means.items():
        if name.startswith("whole"):
            _, quality, codec = name.split(", ")
            said = "Opus" if codec == "opus" else label(codec)
            rates = f"{row['kbps']:.2f} | {row['video_kbps']:.2f}"
            lines.append(f"| {quality.removeprefix('quality ')}, {said} | {row['clips']} | {rates} |")
    lines += ["", "Pauses in calls at quality 5, kbit/s of speech, sent in full and as it is:", "",
              "| sound | all sent | gated |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {row['kbps_sent']:.2f} | {row['kbps']:.3f} |" for name, row in silence["rates"].items()]
    total = silence["total"]
    clipped = f"{total['clipped']} of {total['onsets']}"
    lines += ["", f"Beginnings of speech that the gate clips, in noise of −60 to −30 dB: {clipped}."]
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """The document with today's figures."""
    return replaced(text, BEGIN, END, measured())


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text()))
