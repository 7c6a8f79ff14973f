"""Write the README's measured figures from the committed results: ``python -m benchmarks.publish.update_readme``."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.common import RESULTS, ROOT, replaced
from tfcodec.bench.report import number
from tfcodec.bench.speech import METRICS as SPEECH_METRICS
from tfcodec.bench.speech import label

BEGIN = "<!-- measured: written by benchmarks/publish/update_readme.py -->\n"
END = "<!-- end of measured -->"
GIVES = "<!-- at a glance: written by benchmarks/publish/update_readme.py -->\n"
GIVES_END = "<!-- end of at a glance -->"
COMPARED = "<!-- compared: written by benchmarks/publish/update_readme.py -->\n"
COMPARED_END = "<!-- end of compared -->"
PRIORS = "<!-- priors: written by benchmarks/publish/update_readme.py -->\n"
PRIORS_END = "<!-- end of priors -->"
WHOLE = "<!-- whole streams: written by benchmarks/publish/update_readme.py -->\n"
WHOLE_END = "<!-- end of whole streams -->"
DELAYS = {"file": "random access", "call": "low delay"}
NAMES = {"frozen": "frozen keyframe", "x264": "x264", "x265": "x265", "svtav1": "SVT-AV1", "keypoint": "keypoint codec"}


def load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def faces(mean: dict[str, dict[str, float]], key: dict[str, float]) -> list[tuple[str, str]]:
    """What face metrics and the changes in time say."""
    ours, still = mean["decoded"], mean["frozen_keyframe"]

    def both(metric: str) -> str:
        return f"{ours[metric]:.4f} / {still[metric]:.4f}"

    return [
        ("mouth-landmark distance, inter-ocular units: decoded / frozen keyframe", both("mouth_distance")),
        ("... of the mouth's shape alone, heads aligned", both("mouth_shape_distance")),
        *(
            (f"... decoded with / without {name}", f"{ours['mouth_distance']:.4f} / {mean[arm]['mouth_distance']:.4f}")
            for arm, name in (("without_motion", "the motion layer"), ("without_closeups", "close-ups"))
            if arm in mean
        ),
        ("LPIPS(alex) of the mouth region: decoded / frozen keyframe", both("mouth_lpips")),
        ("identity cosine to the source: decoded / frozen keyframe", both("identity_cosine")),
        ("... of the keyframe to the frame that it was made of", f"{key['identity_cosine']:.4f}"),
        ("flicker over the source's own: all / where the source is still",
         f"{ours['flicker_ratio']:.2f} / {ours['flicker_ratio_still']:.2f}"),
    ]  # fmt: skip


def openings(quality: dict[str, Any]) -> list[tuple[str, str]]:
    """How mouth and eyes follow over time, as far as it was measured; beside it what the meter itself can do."""
    mean, blinks = quality["mean"], quality.get("blinks", {}).get("decoded")
    ours, still, ceiling = mean["decoded"], mean["frozen_keyframe"], mean.get("source_as_jpeg", {})
    rows = []
    for metric, of in (("mouth", "the mouth's opening"), ("eye", "the eyes' opening, clips whose eyes move")):
        key = f"{metric}_opening_correlation"
        if key in ours:
            best = f" / {ceiling[key]:.2f}" if key in ceiling else ""
            which = ": decoded / the source as JPEG" if best else ""
            rows.append((f"correlation of {of}, within clips{which}", f"{ours[key]:.2f}{best}"))
    if blinks:
        false = "–" if blinks["false_share"] is None else f"{100 * blinks['false_share']:.0f} %"
        shown = "–" if blinks["shown_share"] is None else f"{100 * blinks['shown_share']:.0f} %"
        rows.append((f"blinks of the source that are shown, of {blinks['source']} / blinks that are false, of "
                     f"{blinks['decoded']}", f"{shown} / {false}"))  # fmt: skip
    if "eye_lpips" in ours:
        both = f"{ours['eye_lpips']:.4f} / {still['eye_lpips']:.4f}"
        rows.append(("LPIPS(alex) of the eyes: decoded / frozen keyframe", both))
    return rows


def calls() -> list[tuple[str, str]]:
    """How the mouth follows in calls, if that was measured."""
    if not (RESULTS / "quality_val_call.json").exists():
        return []
    ours = load("quality_val_call")["mean"]["decoded"]
    return [("correlation of the mouth's opening in call mode", f"{ours['mouth_opening_correlation']:.2f}")]


def motion(mean: dict[str, float]) -> list[tuple[str, str]]:
    """Bits of the motion layer, if there is one."""
    keys = {"file": "motion_bits_per_frame", "call": "call_motion_bits_per_frame"}
    return [(f"motion layer, {mode} mode", f"{mean[key]:.1f} bits/frame") for mode, key in keys.items() if key in mean]


def against(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Speed as a multiple of the other codecs', with as many threads, and every codec's energy, all in the same run."""
    others = [row for row in rows if row["codec"] != "tfcodec"]

    def multiples(what: str) -> str:
        names = dict.fromkeys(row["codec"] for row in others)
        found = {n: [r["tfcodec_is_faster_by"][what] for r in others if r["codec"] == n] for n in names}
        return ", ".join(f"{NAMES[n]} {' / '.join(f'{x:.2g}' for x in values)}" for n, values in found.items())

    def energy(what: str) -> str:
        used = {row["codec"]: row["processor_seconds_per_second"][what] for row in rows if row["threads"] == 1}
        return ", ".join(f"{NAMES.get(codec, codec)} {seconds:.2g}" for codec, seconds in used.items())

    return [
        ("encode, times as fast as, 1 / 2 threads", multiples("encode")),
        ("decode, times as fast as, 1 / 2 threads", multiples("decode")),
        ("energy: processor seconds per second of video, encode", energy("encode")),
        ("... decode", energy("decode")),
    ]


def displacement(rows: list[dict[str, Any]]) -> float:
    """Mean over clips, in bits a frame."""
    return sum(8 * row["bytes"].get("displacement", 0) / row["frames"] for row in rows) / len(rows)


def table() -> str:
    codec, speed, quality = load("codec_val"), load("speed"), load("quality_val")
    summary = codec["summary"]
    mean, long = summary["mean"], summary["mean_of_clips_of_5_s_and_more"]
    one, two = (row["frames_per_second"] for row in speed["rows"] if row["codec"] == "tfcodec")
    machine = speed["environment"]
    higher = summary["share_of_clips_with_higher_psnr_than_frozen"]
    lower = summary["share_of_clips_with_lower_lpips_than_frozen"]
    long_clips = summary["clips_of_5_s_and_more"]
    rows = [
        ("video (all but the speech), clips of 5 s and more", f"{long['video_kbps']:.2f} kbit/s"),
        ("... all clips (1.2 to 10.6 s)", f"{mean['video_kbps']:.2f} kbit/s"),
        ("speech", f"{mean['audio_kbps']:.2f} kbit/s"),
        ("tiny frames, file mode", f"{mean['tiny_bits_per_frame']:.1f} bits/frame"),
        ("... if they were box means", f"{mean['box_means_bits_per_frame']:.1f} bits/frame"),
        ("tiny frames, call mode", f"{mean['call_tiny_bits_per_frame']:.1f} bits/frame"),
        *motion(mean),
        ("displacement layer (files)", f"{displacement(codec['rows']):.1f} bits/frame"),
        ("keyframe", f"{mean['keyframe_bytes']:.0f} bytes, {mean['keyframe_psnr']:.1f} dB"),
        ("container and checksums, of the video's bytes, 5 s and more", f"{100 * long['container_share']:.1f} %"),
        ("PSNR: decoded / frozen keyframe", f"{mean['psnr']:.2f} / {mean['frozen_psnr']:.2f} dB"),
        ("... higher than the frozen keyframe's on", f"{100 * higher:.0f} % of the clips"),
        ("LPIPS(alex): decoded / frozen keyframe", f"{mean['lpips']:.4f} / {mean['frozen_lpips']:.4f}"),
        ("... lower than the frozen keyframe's on", f"{100 * lower:.0f} % of the clips"),
        *faces(quality["mean"], load("face_meter")["keyframe_by_quality"][str(codec["quality"])]),
        *openings(quality),
        *calls(),
        ("decode, 1 / 2 threads", f"{one['decode']:.0f} / {two['decode']:.0f} frames/s"),
        ("... in bfloat16 (`fast=True`)", f"{one['decode_fast']:.0f} / {two['decode_fast']:.0f} frames/s"),
        ("encode, file mode, 1 / 2 threads", f"{one['encode']:.0f} / {two['encode']:.0f} frames/s"),
        ("... with `refine=False`", f"{one['encode_plain']:.0f} / {two['encode_plain']:.0f} frames/s"),
        *against(speed["rows"]),
        (
            "`import tfcodec` / first frame from a fresh interpreter",
            f"{speed['rows'][0]['import_seconds']:.2f} / {speed['rows'][0]['first_frame_seconds']:.1f} s",
        ),
        ("peak memory of decoding", f"{speed['rows'][0]['peak_memory_mb']['decode']:.0f} MB"),
    ]
    head = (
        f"`val`: {summary['clips']} clips of real talking heads, {long_clips} of them of 5 s and more; "
        f"quality {codec['quality']}; mean over clips; {codec['environment']['date']}. "
        f"Speed on {machine['cores']} cores of {machine['processor']}.\n\n| measure | |\n|---|---|\n"
    )
    return head + "".join(f"| {name} | {value} |\n" for name, value in rows)


def _pair(entry: dict[str, Any], metric: str, digits: int) -> str:
    theirs, ours = entry["metrics"].get(metric), entry["tfcodec_metrics"].get(metric)
    return "–" if theirs is None or ours is None else f"{theirs:.{digits}f} / {ours:.{digits}f}"


def _ratio(entry: dict[str, Any]) -> str:
    r = entry["ratio"]
    floor = f", at most on {entry['at_most']}" if entry["at_most"] else ""
    floor += f", at least on {entry['at_least']}" if entry["at_least"] else ""
    return f"**{r['median']:.1f}×** ({r['p10']:.1f} to {r['p90']:.1f}{floor})"


def _wins(reach: list[dict[str, Any]], metric: str) -> str:
    """Where each classical codec has what tfcodec's ladder reaches at best."""
    bounds = {"=": "", "<": "at most ", ">": "more than "}
    found = [r for r in reach if r["metric"] == metric and r["rival"] in ("x265", "svtav1")]
    return "; ".join(
        f"{NAMES[r['rival']]}, {DELAYS[r['delay']]}, {bounds[r['bound']]}{r['kbps']:.1f} kbit/s (tfcodec "
        f"{r['tfcodec_kbps']:.1f})"
        for r in found
    )


def _against_frozen(curves: dict[str, list[dict[str, Any]]], quality: int) -> str:
    """What tiny frames and network add to the keyframe, and what they do to the change from frame to frame."""
    ours, still = (
        next(p["metrics"] for p in curves[name] if p["point"] == quality)
        for name in ("tfcodec-file-256", "frozen-file-256")
    )
    worse = ours["frame_difference"] > still["frame_difference"]
    flicker = (
        "larger than a still picture's: some of the motion is flicker" if worse else "smaller than a still picture's"
    )
    return (
        f"\nThe same keyframes without tiny frames and network: LPIPS {still['lpips']:.3f} instead of "
        f"{ours['lpips']:.3f}, PSNR {still['psnr']:.1f} instead of {ours['psnr']:.1f} dB, mouth landmarks "
        f"{still['mouth']:.3f} instead of {ours['mouth']:.3f}, frame difference {still['frame_difference']:.2f} "
        f"instead of {ours['frame_difference']:.2f}. The error of the frame differences is {flicker}.\n"
    )


def coarsest(curves: dict[str, list[dict[str, Any]]]) -> str:
    """The coarsest setting of each classical codec that was measured."""
    last = {codec: max((p["point"] for name, curve in curves.items() if name.startswith(f"{codec}-") for p in curve),
                       default=None) for codec in ("x264", "x265", "svtav1")}  # fmt: skip
    return ", ".join(f"{NAMES[codec]} {crf}" for codec, crf in last.items() if crf is not None)


def compared() -> str:
    """The comparison with classical codecs."""
    result = load("val/results")
    which = "long" if "long" in result["analysis"] else "all"
    part = result["analysis"][which]
    quality, machine = part["equal_lpips"][0]["quality"], result["environment"]
    out = (
        "![Rate-distortion curves of tfcodec, x264, x265, SVT-AV1, frozen keyframe](docs/rate_distortion.png)\n\n"
        f"Bits that others need for tfcodec's LPIPS at quality {quality}: `val`, {part['clips']} clips of 5 s and "
        f"more, every {result['every']}th frame, network {result['network']}, {machine['date']}. "
        'Median of the clips and the range of 80 % of them; "at most" where the codec\'s coarsest setting is better '
        'already, "at least" where its '
        f"finest is still worse; the coarsest CRF: {coarsest(part['curves'])}. "
        "Right of it, at that rate, the other's figure / tfcodec's.\n\n"
        "| codec | class | kbit/s / tfcodec | multiple of tfcodec's bits | PSNR, dB | mouth | frame difference |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for e in part["equal_lpips"]:
        out += (
            f"| {NAMES[e['rival']]} | {DELAYS[e['delay']]} | {e['kbps']:.1f} / {e['tfcodec_kbps']:.2f} | {_ratio(e)} | "
            f"{_pair(e, 'psnr', 1)} | {_pair(e, 'mouth', 3)} | {_pair(e, 'frame_difference', 2)} |\n"
        )
    out += (
        "\nThe ladder (random access; rate with container, without speech):\n\n"
        "| quality | kbit/s | bits/pixel | bytes/frame | LPIPS | PSNR, dB | MS-SSIM | mouth landmarks | frame "
        "difference |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for p in part["curves"]["tfcodec-file-256"]:
        m = p["metrics"]
        out += (
            f"| {p['point']} | {p['kbps']:.2f} | {p['bpp']:.5f} | {p['bytes_per_frame']:.1f} | {m['lpips']:.3f} | "
            f"{m['psnr']:.1f} | {m['ms_ssim']:.3f} | {m['mouth']:.3f} | {m['frame_difference']:.2f} |\n"
        )
    out += _against_frozen(part["curves"], quality)
    return out + (
        f"\nWhere classical codecs win. They have the best LPIPS of the ladder at: {_wins(part['reach'], 'lpips')}. "
        f"The best PSNR at: {_wins(part['reach'], 'psnr')}. The best MS-SSIM, to which the background's detail counts "
        f"as much as the face, at: {_wins(part['reach'], 'ms_ssim')}. Beyond that they are the better codecs.\n"
    )


def glance() -> str:
    """The comparison in short, for the beginning: files, classical codecs alone."""
    part = load("val/results")["analysis"]
    part = part["long" if "long" in part else "all"]
    rivals = [e for e in part["equal_lpips"] if e["delay"] == "file" and e["rival"] in ("x264", "x265", "svtav1")]
    formats = {"x264": "H.264", "x265": "H.265", "svtav1": "AV1"}
    ours = rivals[0]
    rate, psnr = ours["tfcodec_kbps"], ours["tfcodec_metrics"]["psnr"]
    out = (
        "| at equal LPIPS (perceptual distance), without sound | kbit/s | times tfcodec's bits, median | PSNR, dB |\n"
        "|---|---|---|---|\n"
        f"| tfcodec, quality {ours['quality']} | **{rate:.1f}** | 1 | {psnr:.1f} |\n"
    )
    for e in sorted(rivals, key=lambda e: e["kbps"]):
        name = f"{formats[e['rival']]} ({NAMES[e['rival']]})"
        out += f"| {name} | {e['kbps']:.1f} | {e['ratio']['median']:.1f} | {e['metrics']['psnr']:.1f} |\n"
    speech = sorted((s["speech_kbps"], label(s["speech"])) for s in part.get("whole", ()))
    if speech:
        (least, coarse), (most, fine) = speech[0], speech[-1]
        out += f"\nSpeech comes on top: {least:.1f} kbit/s ({coarse}) to {most:.1f} ({fine}). "
    best = next(r for r in part["reach"] if (r["rival"], r["delay"], r["metric"]) == ("svtav1", "file", "lpips"))
    return out + (
        "The face is drawn anew: it looks like the source, while its pixels differ more (PSNR). From "
        f"{best['kbps']:.0f} kbit/s on AV1 is better by LPIPS, too, than tfcodec at its best quality "
        f"({best['tfcodec_kbps']:.0f} kbit/s).\n"
    )


def whole() -> str:
    """Pictures and speech together; empty until `tfcodec bench` has measured speech codecs too."""
    result = load("val/results")
    part = result["analysis"]["long" if "long" in result["analysis"] else "all"]
    if not part.get("whole"):
        return ""
    heard = [m for m in SPEECH_METRICS if any(m in row for row in part["speech"].values())]
    head = ["pictures", "speech", "in all, kbit/s", "pictures", "speech", *(SPEECH_METRICS[m].title for m in heard)]
    out = (
        "### Whole streams\n\n![LPIPS against the rate of pictures and speech, and how the speech sounds]"
        "(docs/whole_stream.png)\n\n"
        f"Files, pictures and speech together; `val`, {part['clips']} clips, {result['environment']['date']}. "
        "The others at tfcodec's LPIPS at quality 5. Speech: packets alone, mean of the clips with speech.\n\n"
        f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    )
    for stream in sorted(part["whole"], key=lambda s: s["video_kbps"] + s["speech_kbps"]):
        row = part["speech"][stream["speech"]]
        cells = [stream["title"], label(stream["speech"]), f"**{stream['video_kbps'] + stream['speech_kbps']:.1f}**",
                 f"{stream['video_kbps']:.2f}", f"{stream['speech_kbps']:.2f}",
                 *(number(row.get(m), SPEECH_METRICS[m].digits) for m in heard)]  # fmt: skip
        out += f"| {' | '.join(cells)} |\n"
    return out


def priors() -> str:
    """What the keyframe, stage 2, the window and the speech bring, and the keypoint codec."""
    quality, keypoints = load("quality_val"), load("keypoint_val")
    mean, frechet = quality["mean"], quality["frechet"]
    arms = {
        "decoded": "tfcodec", "box_means": "... from tiny frames that are box means",
        "without_motion": "... the motion layer withheld", "without_closeups": "... without close-ups",
        "without_speech": "... hearing silence", "single_frame": "... seeing one tiny frame",
        "coarse": "... stage 1 alone, enlarged", "no-audio": "a network without speech",
        "no-keyframe": "super-resolution of the tiny frames alone, perceptual loss",
        "no-keyframe-l1": "super-resolution of the tiny frames alone, L1 loss",
        "bicubic_8x8": "tiny frames, bicubic", "frozen_keyframe": "frozen keyframe",
    }  # fmt: skip
    out = (
        f"`val` at quality {quality['quality']}, every {quality['judged_every']}th frame. tfcodec's tiny frames were "
        "chosen for its network; the second row, and the other methods, use box means. "
        f"{frechet['backbone']}: distance of {frechet['frames']} frames from the source's.\n\n"
        "| drawn by | LPIPS | PSNR, dB | LPIPS of the mouth | mouth landmarks | Frechet |\n|---|---|---|---|---|---|\n"
    )
    for arm, name in arms.items():
        if arm in mean:
            cells = [f"{mean[arm][m]:.{d}f}" if m in mean[arm] else "–"
                     for m, d in (("lpips", 4), ("psnr", 2), ("mouth_lpips", 4), ("mouth_distance", 4))]  # fmt: skip
            distance = frechet["distance"].get(arm)
            out += f"| {name} | {' | '.join(cells)} | {'–' if distance is None else f'{distance:.3f}'} |\n"
    part = keypoints["summary"]["clips_of_5_s_and_more"]
    floor = f", at least on {part['at_least']} of {part['clips']} clips" if part["at_least"] else ""
    ceiling = f", at most on {part['at_most']}" if part["at_most"] else ""
    points = keypoints["summary"]["mean_of_clips_of_5_s_and_more"]
    ours = next(p for p in points if p["codec"] == "tfcodec")
    theirs = next(p for p in points if p["codec"] == "keypoint" and (p["quality"], p["steps"]) == (5, 64))
    trained = keypoints["keypoint_network"]["training"]
    return out + (
        f"\nA keypoint codec in the style of FOMM (10 keypoints, the same keyframes, {trained}) needs "
        f"**{part['median']:.1f}×** tfcodec's bits for its LPIPS ({part['p10']:.1f} to "
        f"{part['p90']:.1f}{floor}{ceiling}; clips of 5 s and more). At the same keyframe it has LPIPS "
        f"{theirs['lpips']:.3f} and PSNR "
        f"{theirs['psnr']:.1f} dB with {theirs['keypoints_bits_per_frame']:.0f} bits a frame beside the keyframe, "
        "tfcodec, here with box means, "
        f"{ours['lpips']:.3f} and {ours['psnr']:.1f} dB with {ours['tiny_bits_per_frame']:.0f}.\n"
    )


def updated(readme: str) -> str:
    """The README with its figures replaced."""
    readme = replaced(readme, BEGIN, END, table())
    if COMPARED in readme and (RESULTS / "val" / "results.json").exists():
        readme = replaced(readme, GIVES, GIVES_END, glance())
        readme = replaced(readme, COMPARED, COMPARED_END, compared())
        readme = replaced(readme, WHOLE, WHOLE_END, whole())
    return replaced(readme, PRIORS, PRIORS_END, priors())


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text()))
