"""Write the README's table of measured figures from the committed results: ``python benchmarks/update_readme.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- measured: written by benchmarks/update_readme.py -->\n"
END = "<!-- end of measured -->"


def load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return result


def faces(mean: dict[str, dict[str, float]], key: dict[str, float]) -> list[tuple[str, str]]:
    """What face metrics and the changes in time say."""
    ours, still, silent = mean["decoded"], mean["frozen_keyframe"], mean["without_speech"]

    def both(metric: str) -> str:
        return f"{ours[metric]:.4f} / {still[metric]:.4f}"

    return [
        ("mouth-landmark distance, inter-ocular units: decoded / frozen keyframe", both("mouth_distance")),
        ("... of the mouth's shape alone, heads aligned", both("mouth_shape_distance")),
        ("... decoded with / without the speech", f"{ours['mouth_distance']:.4f} / {silent['mouth_distance']:.4f}"),
        ("LPIPS(alex) of the mouth region: decoded / frozen keyframe", both("mouth_lpips")),
        ("identity cosine to the source: decoded / frozen keyframe", both("identity_cosine")),
        ("... of the keyframe to the frame that it was made of", f"{key['identity_cosine']:.4f}"),
        ("flicker over the source's own: all / where the source is still",
         f"{ours['flicker_ratio']:.2f} / {ours['flicker_ratio_still']:.2f}"),
    ]  # fmt: skip


def table() -> str:
    codec, speed, quality = load("codec_val"), load("speed"), load("quality_val")
    summary = codec["summary"]
    mean, long = summary["mean"], summary["mean_of_clips_of_5_s_and_more"]
    one, two = (row["frames_per_second"] for row in speed["rows"])
    machine = speed["environment"]
    higher = summary["share_of_clips_with_higher_psnr_than_frozen"]
    lower = summary["share_of_clips_with_lower_lpips_than_frozen"]
    long_clips = summary["clips_of_5_s_and_more"]
    rows = [
        ("video (container + keyframe + tiny frames), clips of 5 s and more", f"{long['video_kbps']:.2f} kbit/s"),
        ("... all clips (1.2 to 10.6 s)", f"{mean['video_kbps']:.2f} kbit/s"),
        ("speech", f"{mean['audio_kbps']:.2f} kbit/s"),
        ("tiny frames, file mode", f"{mean['tiny_bits_per_frame']:.1f} bits/frame"),
        ("tiny frames, call mode", f"{mean['call_tiny_bits_per_frame']:.1f} bits/frame"),
        ("keyframe", f"{mean['keyframe_bytes']:.0f} bytes, {mean['keyframe_psnr']:.1f} dB"),
        ("container and checksums, of the video's bytes, 5 s and more", f"{100 * long['container_share']:.1f} %"),
        ("PSNR: decoded / frozen keyframe", f"{mean['psnr']:.2f} / {mean['frozen_psnr']:.2f} dB"),
        ("... higher than the frozen keyframe's on", f"{100 * higher:.0f} % of the clips"),
        ("LPIPS(alex): decoded / frozen keyframe", f"{mean['lpips']:.4f} / {mean['frozen_lpips']:.4f}"),
        ("... lower than the frozen keyframe's on", f"{100 * lower:.0f} % of the clips"),
        *faces(quality["mean"], load("face_meter")["keyframe_by_quality"][str(codec["quality"])]),
        ("decode, 1 / 2 threads", f"{one['decode']:.0f} / {two['decode']:.0f} frames/s"),
        ("encode, file mode, 1 / 2 threads", f"{one['encode']:.0f} / {two['encode']:.0f} frames/s"),
        ("`import tfcodec`", f"{speed['rows'][0]['import_seconds']:.2f} s"),
    ]
    head = (
        f"`val`: {summary['clips']} clips of real talking heads, {long_clips} of them of 5 s and more; "
        f"quality {codec['quality']}; mean over clips; {codec['environment']['date']}. "
        f"Speed on {machine['cores']} cores of {machine['processor']}.\n\n| measure | |\n|---|---|\n"
    )
    return head + "".join(f"| {name} | {value} |\n" for name, value in rows)


def updated(readme: str) -> str:
    """The README with its table replaced."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))
