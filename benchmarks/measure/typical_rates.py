"""What pictures typically take at each quality, in files and in calls: `tfcodec/codec/typical.py` has the means.

    python -m benchmarks.measure.typical_rates [--clips 3]

The first 6 s of clips of `train` with speech, without their sound. Files: everything, without refinement, which changes
the bits little. Calls: layers and headers at the default two frames a packet, nothing lost, and apart from it the bytes
of keyframes.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tfcodec
from benchmarks.common import clips, environment, read_clip, write
from tfcodec.bench.speech import read_sound
from tfcodec.codec.file.encoder import encode_clip
from tfcodec.codec.options import EncodeOptions
from tfcodec.model.tracking import default_tracker
from tfcodec.rates import FPS, SAMPLES_PER_FRAME

SECONDS = 6
KEYS = ("file_kbps", "call_layers_kbps", "call_header_kbps", "call_keyframe_bytes")
SPOKEN = "call_header_kbps_with_speech"
WITH_SPEECH = 5
"""Quality at which packets' headers are measured with speech as well: there are more of them, and that is all."""
QUALITIES = (0, 2, 4, 5, 6, 8, 10)
"""That are measured; those between by interpolation."""


class Remembering(nn.Module):
    """A face tracker that looks at each picture once: every quality has the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = default_tracker()
        self.known: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for picture in pictures:
            key = hash(picture.numpy().tobytes())
            if key not in self.known:
                self.known[key] = self.tracker(picture[None])
            found.append(self.known[key])
        return torch.cat([marks for marks, _ in found]), torch.cat([score for _, score in found])


def measure(frames: Any, sound: Any, quality: int, tracker: Any) -> dict[str, Any]:
    """Rates of one clip, [T, 256, 256, 3] uint8."""
    options = EncodeOptions(quality, refine=False, motion=tracker)
    info = tfcodec.probe(encode_clip(iter(frames), None, options, len(frames)))
    silent, spoken = call(frames, None, quality, tracker), {}
    if quality == WITH_SPEECH:
        spoken = {SPOKEN: call(frames, sound, quality, tracker)["header"]}
    return {
        "file_kbps": round(info.video_kbps, 4), "file_keyframes": info.keyframes,
        "call_layers_kbps": round(silent["motion"] + silent["tiny"], 4), "call_header_kbps": silent["header"],
        "call_keyframe_bytes": silent["keyframe_bytes"], **spoken,
    }  # fmt: skip


def call(frames: Any, sound: Any, quality: int, tracker: Any) -> dict[str, float]:
    """kbit/s of a call's parts, without keyframes; and those' bytes."""
    encoder = tfcodec.Encoder(quality, "call", audio=sound is not None, motion=tracker)
    receiver, sent = tfcodec.Decoder(), []
    for i, frame in enumerate(frames):
        new = encoder.push(frame, None if sound is None else sound[i * SAMPLES_PER_FRAME : (i + 1) * SAMPLES_PER_FRAME])
        for packet in new:
            receiver.push(packet)
        receiver.pull(draw=False)
        if (feedback := receiver.feedback()) is not None:
            new += encoder.push_feedback(feedback)
        sent += new
    sent += encoder.flush()
    rates = {
        part: round(sum(p.parts.get(part, 0) for p in sent if not p.keyframe) * 8 / 1000 / len(frames) * FPS, 4)
        for part in ("header", "motion", "tiny")
    }  # fmt: skip
    return {**rates, "keyframe_bytes": sum(len(p) for p in sent if p.keyframe)}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=int, default=3)
    args = p.parse_args()
    chosen: list[str] = []
    rows: list[dict[str, Any]] = []
    known = [path for path in clips("train") if path.name.startswith("d")]
    for i in np.random.default_rng(15).permutation(len(known)).tolist():
        if len(chosen) == args.clips:
            break
        frames, sound = read_clip(known[i])[: SECONDS * FPS], read_sound(known[i], SECONDS)
        if len(frames) < SECONDS * FPS or sound is None:
            continue
        chosen.append(known[i].name)
        tracker = Remembering()
        for quality in QUALITIES:
            rows.append({"clip": known[i].name, "quality": quality, **measure(frames, sound, quality, tracker)})
            print(rows[-1], flush=True)
        rates = {key: by_quality(rows, key) for key in KEYS}
        spoken = np.mean([r[SPOKEN] for r in rows if SPOKEN in r])
        mean = {**rates, SPOKEN: round(float(spoken), 3)}
        write("typical_rates", {"environment": environment(), "clips": chosen, "mean": mean, "rows": rows})


def by_quality(rows: list[dict[str, Any]], key: str) -> list[float]:
    """Means for qualities 0 to 10."""
    known = [np.mean([r[key] for r in rows if r["quality"] == quality]) for quality in QUALITIES]
    return np.round(np.interp(range(11), QUALITIES, known), 3).tolist()


if __name__ == "__main__":
    main()
