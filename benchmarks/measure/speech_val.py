"""Speech codecs on `val`: kbit/s in files and in calls, and how the speech sounds; with --whole the whole stream.

    TFCODEC_LYRA=FOLDER python -m benchmarks.measure.speech_val [--metrics pesq,stoi,...] [--whole]

Writes benchmarks/results/speech_val.json, and goes on from what is there. Metrics (the extra `bench-speech`) that do
not load are named there with the reason. Half a second of silence is put around a clip before it is judged, since PESQ
takes 0.1 for 5 ms that are missing at the end. PER is the edit distance between what the recogniser `hama` hears in the
decoded sound and in the source, as a share of the latter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tfcodec
from benchmarks.common import RESULTS, clips, environment, write
from tfcodec.media import open_source
from tfcodec.rates import SAMPLE_RATE
from tfcodec.speech import lyra
from tfcodec.speech.choice import Choice, choose

Sound = NDArray[np.float32]
Metric = Callable[[Sound, Sound], float]
CODECS = (
    *(f"opus:{rate}" for rate in (6000, 7600, 9000, 12500, 24000)),
    *(f"lyra:{rate}" for rate in (6000, 3200, 2400, 1600)),
    *(f"codec2:{rate}" for rate in (3200, 2400, 1600, 1300, 1200)), "amr:4750",
)  # fmt: skip
SHORTEST = 4.5
"""Seconds of a clip that is judged: shorter ones are single words."""
QUIETEST = -45.0
"""dBFS below which a clip is taken to be without speech."""
WHOLE = ((5, "opus"), (5, "lyra:3200"), (0, "lyra:1600"), (0, "codec2:1200"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", default=",".join(METRICS), help="comma-separated (default: all)")
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--whole", action="store_true", help="encode the pictures too, at qualities 5 and 0")
    args = parser.parse_args()
    path = RESULTS / "speech_val.json"
    rows: dict[str, Any] = json.loads(path.read_text())["clips"] if path.exists() else {}
    skipped: dict[str, str] = {}
    metrics: dict[str, Metric] = {}
    for name in filter(None, args.metrics.split(",")):
        try:
            metrics[name] = METRICS[name]()
        except Exception as error:  # whatever keeps a metric from loading is what the result has to say
            skipped[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    for clip in clips():
        sound = read_sound(clip)
        if sound is None:
            continue
        mine = rows.setdefault(clip.name, {"seconds": len(sound) / SAMPLE_RATE, "codecs": {}})
        for codec in args.codecs.split(","):
            if codec.startswith("lyra") and lyra.missing():
                skipped[codec] = lyra.missing()
                continue
            try:
                row = mine["codecs"].get(codec)
                decoded = None
                if row is None:
                    row, decoded = measure_rate(codec, sound)
                    mine["codecs"][codec] = row
                for name, metric in metrics.items():
                    if name not in row:
                        decoded = measure_rate(codec, sound)[1] if decoded is None else decoded
                        row[name] = round(float(metric(padded(sound), padded(decoded))), 4)
            except tfcodec.TfcodecError as error:
                skipped[codec] = str(error)
        if args.whole and len(sound) >= 5 * SAMPLE_RATE:
            measure_whole(clip, mine.setdefault("whole", {}))
        print(clip.name, {c: r["kbps"] for c, r in mine["codecs"].items()}, flush=True)
        write("speech_val", {"environment": environment(), "skipped": skipped, "mean": means(rows), "clips": rows})


def measure_whole(clip: Path, known: dict[str, Any]) -> None:
    """Rates of whole streams. Pictures are coded once a quality: their bytes do not depend on the speech's codec."""
    pictures: dict[int, tfcodec.StreamInfo] = {}
    for quality, speech in WHOLE:
        if f"{quality} {speech}" in known:
            continue
        if quality not in pictures:
            pictures[quality] = tfcodec.probe(tfcodec.encode(clip, quality=quality))
        heard = tfcodec.probe(tfcodec.encode(clip, quality=quality, speech=speech, refine=False, motion=False))
        kbps = pictures[quality].video_kbps + heard.audio_kbps
        known[f"{quality} {speech}"] = {"kbps": round(kbps, 4), "video_kbps": round(pictures[quality].video_kbps, 4)}


def means(rows: dict[str, Any]) -> dict[str, Any]:
    """By codec: rates over all seconds, metrics over clips; and the whole stream over clips."""
    out: dict[str, Any] = {}
    for codec in CODECS:
        found = [(row["seconds"], row["codecs"][codec]) for row in rows.values() if codec in row["codecs"]]
        if not found:
            continue
        seconds = sum(length for length, _ in found)
        out[codec] = {"clips": len(found), "seconds": round(seconds, 2)}
        for key in found[0][1]:
            pairs = [(length, row[key]) for length, row in found if key in row]
            rate = key.endswith("kbps")
            weights = [length if rate else 1.0 for length, _ in pairs]
            out[codec][key] = round(float(np.average([value for _, value in pairs], weights=weights)), 4)
    for quality, speech in WHOLE:
        step = f"{quality} {speech}"
        found = [row["whole"][step] for row in rows.values() if step in row.get("whole", {})]
        if found:
            out[f"whole stream, quality {quality}, {speech}"] = {
                "clips": len(found), **{key: round(float(np.mean([row[key] for row in found])), 3) for key in found[0]}
            }  # fmt: skip
    return out


def read_sound(path: Path) -> Sound | None:
    """A clip's speech, [n] float32; None if it is too short or too quiet."""
    with open_source(path, crop="none") as source:
        sound = source.audio
    if sound is None or len(sound) < SHORTEST * SAMPLE_RATE:
        return None
    return sound if 10 * np.log10(np.square(sound).mean() + 1e-12) > QUIETEST else None


def measure_rate(codec: str, sound: Sound) -> tuple[dict[str, float], Sound]:
    """kbit/s nominal, in files and in calls, packets alone; and what a file's packets decode to."""
    seconds = len(sound) / SAMPLE_RATE
    name, _, rate = codec.partition(":")
    if name == "amr":
        size, decoded = amr(sound, int(rate))
        kbps = round(8 * size / 1000 / seconds, 4)
        return {"nominal_kbps": int(rate) / 1000, "kbps": kbps}, decoded
    choice = choose(codec, 5)
    assert choice is not None
    size, decoded = coded(choice, sound, choice.file_packet_ms)
    call, _ = coded(choice, sound, 40, decode=False)
    return {
        "nominal_kbps": choice.bit_rate / 1000, "kbps": round(8 * size / 1000 / seconds, 4),
        "call_kbps": round(8 * call / 1000 / seconds, 4),
    }, decoded  # fmt: skip


def coded(choice: Choice, sound: Sound, packet_ms: int, *, decode: bool = True) -> tuple[int, Sound]:
    """Bytes of all packets, and the decoded sound."""
    encoder = choice.encoder(packet_ms)
    packets = encoder.push(sound) + encoder.flush()
    size = sum(map(len, packets))
    if not decode:
        return size, sound
    decoder = choice.decoder(packet_ms)
    decoded = np.concatenate([decoder.decode(packet) for packet in packets])[choice.pre_skip :]
    return size, np.pad(decoded, (0, max(0, len(sound) - len(decoded))))[: len(sound)]


def amr(sound: Sound, rate: int) -> tuple[int, Sound]:
    """AMR-NB through PyAV, with its delay (5 ms at 8 kHz) taken out."""
    import av
    from scipy.signal import resample_poly

    narrow = resample_poly(sound, 1, 2)
    narrow = np.pad(narrow, (0, 320 - len(narrow) % 160))
    try:
        encoder: Any = av.codec.CodecContext.create("libopencore_amrnb", "w")
        encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = 8000, "mono", "s16", rate
        encoder.open()
        decoder: Any = av.codec.CodecContext.create("amrnb", "r")
        decoder.sample_rate, decoder.layout = 8000, "mono"
        decoder.open()
    except (av.FFmpegError, ValueError) as error:
        raise tfcodec.MediaError(f"this PyAV has no AMR-NB: {error}") from error
    pcm = np.clip(np.round(narrow * 32768), -32768, 32767).astype(np.int16)
    packets = []
    for start in range(0, len(pcm), 160):
        frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 160], "s16", "mono")
        frame.sample_rate, frame.pts = 8000, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    parts = [frame.to_ndarray().reshape(-1) for packet in packets for frame in decoder.decode(av.Packet(packet))]
    heard = np.concatenate(parts).astype(np.float32)
    heard = heard / np.float32(32768) if np.abs(heard).max() > 2 else heard
    wide = resample_poly(heard, 2, 1).astype(np.float32)
    size = 1 << (2 * len(wide)).bit_length()
    match = np.fft.irfft(np.fft.rfft(wide, size) * np.conj(np.fft.rfft(sound, size)), size)
    late = int(match[:800].argmax())
    wide = wide[late:]
    return sum(map(len, packets)), np.pad(wide, (0, max(0, len(sound) - len(wide))))[: len(sound)]


def padded(sound: Sound) -> Sound:
    return np.pad(np.clip(sound, -1, 1), SAMPLE_RATE // 2)


# Metrics: each function loads one


def _pesq() -> Metric:
    from pesq import pesq

    return lambda source, decoded: pesq(SAMPLE_RATE, source, decoded, "wb")


def _stoi() -> Metric:
    from pystoi import stoi

    return lambda source, decoded: stoi(source, decoded, SAMPLE_RATE)


def _dnsmos() -> Metric:
    from speechmos import dnsmos

    return lambda source, decoded: dnsmos.run(decoded, SAMPLE_RATE)["p808_mos"]


def _distillmos() -> Metric:
    import sys
    from types import ModuleType

    import torch

    # Only its command reads sound with torchaudio, which has stopped at torch 2.11 and does not load beside later ones.
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    import distillmos

    model = distillmos.ConvTransformerSQAModel().eval()

    @torch.no_grad()
    def judge(source: Sound, decoded: Sound) -> float:
        return float(model(torch.from_numpy(decoded)[None]))

    return judge


def _visqol() -> Metric:
    from visqol import VisqolApi

    judge = VisqolApi()
    judge.create(mode="speech")
    return lambda source, decoded: judge.measure_from_arrays(
        source.astype(np.float64), decoded.astype(np.float64), SAMPLE_RATE
    ).moslqo


def _per() -> Metric:
    from hama import ASRModel

    model = ASRModel()

    @cache
    def heard(data: bytes) -> tuple[str, ...]:
        result = model.transcribe_waveform(np.frombuffer(data, np.float32), SAMPLE_RATE)
        return tuple(result.phonemes)

    def judge(source: Sound, decoded: Sound) -> float:
        wanted, got = heard(source.tobytes()), heard(decoded.tobytes())
        return edits(wanted, got) / max(1, len(wanted))

    return judge


def edits(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


METRICS: dict[str, Callable[[], Metric]] = {
    "pesq": _pesq, "stoi": _stoi, "visqol": _visqol, "dnsmos": _dnsmos, "distillmos": _distillmos, "per": _per,
}  # fmt: skip

if __name__ == "__main__":
    main()
