"""Speech codecs on the clips' sound: kbit/s in files and in calls, packets alone, and how the speech sounds.

OUT/speech/CLIP/CODEC.json  one row each; kept as long as the clip, the codec and the metrics are the same
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError, TfcodecError
from ..files import write_json
from ..metrics.speech import judge
from ..rates import FRAME_MS, SAMPLE_RATE
from ..samples import Samples
from ..speech.choice import Choice
from ..speech.opus import bitrate_of
from .measure import Metric
from .own import _state
from .runner import FORMAT, Row, read_row
from .sources import MAX_SECONDS, digest

CODECS: dict[str, tuple[int, ...]] = {
    "opus": tuple(bitrate_of(quality) for quality in (0, 3, 5, 7, 10)),
    "lyra": (6000, 3600, 2600, 1800),
    "codec2": (3200, 2400, 1600, 1300, 1200),
    "amr": (4750,),
}
"""Rates in bit/s: Opus' at qualities of tfcodec's ladder, the others' own."""
TITLES = {"opus": "Opus", "lyra": "Lyra v2", "codec2": "Codec2", "amr": "AMR-NB"}
QUICK = ("opus:9000", "lyra:3600", "codec2:1200", "amr:4750")
METRICS: dict[str, Metric] = {
    "pesq": Metric("PESQ", "MOS", +1, "P.862.2, wide-band", 2),
    "stoi": Metric("STOI", "", +1, "short-time objective intelligibility", 3),
    "visqol": Metric("ViSQOL", "MOS", +1, "speech mode, mapped by the lattice network", 2),
    "dnsmos": Metric("DNSMOS", "MOS", +1, "P.808, without reference", 2),
}
_PACKAGES = {"pesq": "pesq", "stoi": "pystoi", "visqol": "visqol-python", "dnsmos": "speechmos"}
QUIETEST = -45.0
"""dBFS below which a clip is taken to be without speech."""
SHORTEST = 0.5
"""Seconds of sound in which something can be judged."""


@dataclass(frozen=True)
class SpeechJob:
    """One clip's sound by one codec, such as "opus:9000"."""

    clip: Path
    clip_hash: str
    codec: str
    out: Path
    metrics: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.clip.name}, {self.codec}"

    @property
    def row(self) -> Path:
        return self.out / "speech" / self.clip.name / f"{self.codec.replace(':', '-')}.json"

    def unfinished(self) -> bool:
        """Whether there is anything to do."""
        row = self.known()
        return row is None or bool(self.stale(row))

    def known(self) -> Row | None:
        """The row, if it is of this clip and this codec."""
        row = read_row(self.row)
        same = row is not None and row["clip_sha256"] == self.clip_hash and row["state"] == _codec_state(self.codec)
        return row if same else None

    def stale(self, row: Row) -> list[str]:
        """Metrics that a row lacks, or has by another definition."""
        if not row["speech"]:
            return []
        return [m for m in self.metrics if row["definitions"].get(m) != _definition(m)]

    def run(self) -> None:
        """Bring the row up to date. Raises TfcodecError."""
        sound, row = read_sound(self.clip), self.known()
        decoded = None
        if row is None:
            row = {
                "format": FORMAT, "clip": self.clip.name, "clip_sha256": self.clip_hash, "codec": self.codec,
                "state": _codec_state(self.codec), "speech": sound is not None, "metrics": {}, "definitions": {},
            }  # fmt: skip
            if sound is not None:
                rates, decoded = measure_rate(self.codec, sound)
                row |= {"seconds": len(sound) / SAMPLE_RATE, **rates}
        if sound is not None and (stale := self.stale(row)):
            decoded = measure_rate(self.codec, sound)[1] if decoded is None else decoded
            row["metrics"] |= {m: measure(m, sound, decoded) for m in stale}
            row["definitions"] |= {m: _definition(m) for m in stale}
        self.row.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.row, row)


def label(codec: str) -> str:
    """"Opus 9000"."""
    name, _, rate = codec.partition(":")
    return f"{TITLES[name]} {rate}"


def select(names: Iterable[str], quick: bool) -> list[str]:
    """The named codecs at all their rates, such as "opus:9000"; with ``quick`` one of each."""
    codecs = [f"{name}:{rate}" for name in names for rate in CODECS[name]]
    return [codec for codec in codecs if not quick or codec in QUICK]


def missing(name: str) -> str:
    """What keeps a codec from being measured here, in one line; empty if nothing does."""
    try:
        if name == "amr":
            _amr_coders(4750)
            return ""
        return Choice.named(name, 5).missing()
    except TfcodecError as error:
        return str(error)


def make_jobs(clips: list[Path], codecs: list[str], out: Path, metrics: tuple[str, ...]) -> list[SpeechJob]:
    """All clips by all codecs."""
    hashes = {clip: digest(clip) for clip in clips}
    return [SpeechJob(clip, hashes[clip], codec, out, metrics) for clip in clips for codec in codecs]


def available(metrics: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics of these that can be computed here, and why the others cannot."""
    found, reasons = [], {}
    for metric in metrics:
        try:
            judge(metric)
            found.append(metric)
        except TfcodecError as error:
            reasons[metric] = str(error)
    return tuple(found), reasons


def collect(jobs: list[SpeechJob]) -> list[Row]:
    """The rows that are up to date, of clips with speech."""
    rows = []
    for job in jobs:
        row = job.known()
        if row is not None and row["speech"] and not job.stale(row):
            kept = ("clip", "codec", "seconds", "nominal_kbps", "kbps", "call_kbps")
            rows.append({k: row[k] for k in kept} | {"metrics": {m: row["metrics"][m] for m in job.metrics}})
    return rows


def means(rows: list[Row]) -> dict[str, Row]:
    """By codec, in order of their first row: rates over all seconds, metrics over clips."""
    out: dict[str, Row] = {}
    for codec in dict.fromkeys(row["codec"] for row in rows):
        of = [row for row in rows if row["codec"] == codec]
        rates = ("nominal_kbps", "kbps", "call_kbps")
        out[codec] = mean_of([(row["seconds"], {n: row[n] for n in rates} | row["metrics"]) for row in of])
    return out


def mean_of(found: list[tuple[float, Row]]) -> Row:
    """Of values of clips of so many seconds: rates (kbps) over all seconds, others over the clips that have them."""
    out: Row = {"clips": len(found), "seconds": round(sum(seconds for seconds, _ in found), 2)}
    for name in found[0][1]:
        there = [(seconds, values[name]) for seconds, values in found if values.get(name) is not None]
        if there:
            weights = [seconds if name.endswith("kbps") else 1.0 for seconds, _ in there]
            out[name] = round(float(np.average([value for _, value in there], weights=weights)), 4)
    return out


def measure(metric: str, source: Samples, decoded: Samples) -> float | None:
    """A metric's value; None where it finds no speech to judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # STOI says so of sounds that are too short for it
        try:
            value = judge(metric)(source, decoded)
        except Exception as error:
            # PESQ's errors are of its own kind and reach here for clips in which nobody says anything.
            if type(error).__module__.partition(".")[0] not in ("pesq", "visqol"):
                raise
            return None
    return round(value, 4) if np.isfinite(value) else None


def read_sound(path: Path, shortest: float = SHORTEST) -> Samples | None:
    """A clip's speech, [n] float32 at 16 kHz, a minute at most; None if it is too short or too quiet.

    Raises MediaError.
    """
    from ..media import open_source

    with open_source(path, crop="none") as source:
        sound = source.audio
    if sound is None or len(sound) < shortest * SAMPLE_RATE:
        return None
    sound = sound[: MAX_SECONDS * SAMPLE_RATE]
    return sound if 10 * np.log10(np.square(sound).mean() + 1e-12) > QUIETEST else None


def measure_rate(codec: str, sound: Samples) -> tuple[dict[str, float], Samples]:
    """kbit/s nominal, in files and in calls, packets alone and all sent; and what a file's packets decode to.

    Raises SpeechCodecMissing; MediaError without AMR-NB, or for an unknown codec or rate.
    """
    seconds = len(sound) / SAMPLE_RATE
    name, _, rate = codec.partition(":")
    if name == "amr":
        size, decoded = _amr(sound, int(rate))
        kbps = round(8 * size / 1000 / seconds, 4)
        return {"nominal_kbps": int(rate) / 1000, "kbps": kbps, "call_kbps": kbps}, decoded
    choice = Choice.named(codec, 5)
    size, decoded = _coded(choice, sound, choice.file_packet_ms)
    call, _ = _coded(choice, sound, FRAME_MS, decode=False)
    return {
        "nominal_kbps": choice.bit_rate / 1000, "kbps": round(8 * size / 1000 / seconds, 4),
        "call_kbps": round(8 * call / 1000 / seconds, 4),
    }, decoded  # fmt: skip


def _coded(choice: Choice, sound: Samples, packet_ms: int, *, decode: bool = True) -> tuple[int, Samples]:
    """Bytes of all packets, and the decoded sound."""
    encoder = choice.encoder(packet_ms)
    packets = encoder.push(sound) + encoder.flush()
    size = sum(map(len, packets))
    if not decode:
        return size, sound
    decoder = choice.decoder(packet_ms)
    decoded = np.concatenate([decoder.decode(packet) for packet in packets])[choice.pre_skip :]
    return size, np.pad(decoded, (0, max(0, len(sound) - len(decoded))))[: len(sound)]


def _amr_coders(rate: int) -> tuple[Any, Any]:
    import av

    try:
        encoder: Any = av.codec.CodecContext.create("libopencore_amrnb", "w")
        encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = 8000, "mono", "s16", rate
        encoder.open()
        decoder: Any = av.codec.CodecContext.create("amrnb", "r")
        decoder.sample_rate, decoder.layout = 8000, "mono"
        decoder.open()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"this PyAV has no AMR-NB: {error}") from error
    return encoder, decoder


def _amr(sound: Samples, rate: int) -> tuple[int, Samples]:
    """AMR-NB through PyAV, its delay taken out. The byte before each frame, which says its mode, is not counted: a
    call agrees on one."""
    import av
    from scipy.signal import resample_poly

    narrow = resample_poly(sound, 1, 2)
    narrow = np.pad(narrow, (0, 320 - len(narrow) % 160))
    encoder, decoder = _amr_coders(rate)
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
    wide = wide[int(match[:800].argmax()) :]
    return sum(len(packet) - 1 for packet in packets), np.pad(wide, (0, max(0, len(sound) - len(wide))))[: len(sound)]


def _definition(metric: str) -> str:
    """What decides a metric's value besides the sounds."""
    return f"{METRICS[metric].definition}, {_PACKAGES[metric]} {metadata.version(_PACKAGES[metric])}"


def _codec_state(codec: str) -> str:
    """Whatever decides a codec's bytes and sound besides the clip."""
    import av

    return f"{codec}, PyAV {av.__version__}, {_state(('speech/*',))}"
