"""How much Lyra's encoder should look at what an index costs: `ECONOMY` in tfcodec/speech/lyra.py.

    TFCODEC_LYRA=FOLDER python -m benchmarks.search.lyra_economy [--clips 8] [--judge]

Speech of clips of `train`. For numbers of quantisers, economies, and beginnings of a frame's indices that the encoder
keeps (`KEPT` in tfcodec/speech/indices.py): kbit/s of a file's packets, and the squared
distance of what the indices stand for from the features. --judge: how they sound, too (extra `bench-speech`).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, clips, environment, write
from tfcodec.bench.speech import read_sound
from tfcodec.metrics.speech import judge, phonemes
from tfcodec.rates import SAMPLE_RATE
from tfcodec.samples import Samples
from tfcodec.speech import indices
from tfcodec.speech.indices import IndexDecoder
from tfcodec.speech.lyra import LyraDecoder, LyraEncoder, codebooks

SECONDS = 6
PACKET_MS = 5000
GRID = (
    (8, 0.0, 1), (9, 1.0, 1), (9, 1.0, 16), (10, 1.5, 16), (18, 1.0, 1), (18, 1.0, 16), (20, 1.4, 16), (19, 1.2, 16),
    (18, 0.5, 16),
)  # fmt: skip
LISTENING = ("stoi", "distillmos", "per")


def coded(sound: Samples, quantisers: int, economy: float) -> tuple[list[bytes], float]:
    """A file's packets, and the mean squared distance of a frame's features."""
    encoder = LyraEncoder(quantisers, PACKET_MS, economy)
    wanted: list[Samples] = []
    frame = encoder._frame

    def remember(samples: Samples) -> Samples:
        wanted.append(frame(samples))
        return wanted[-1]

    encoder._frame = remember  # type: ignore[method-assign]
    packets = encoder.push(sound) + encoder.flush()
    reader = IndexDecoder(quantisers, PACKET_MS // 20)
    found = np.concatenate([reader.decode(packet) for packet in packets])
    books = codebooks()
    said = sum(books[at][found[:, at]] for at in range(quantisers))
    return packets, float(np.square(np.stack(wanted) - said).sum(1).mean())


def decoded(packets: list[bytes], quantisers: int, length: int) -> Samples:
    decoder = LyraDecoder(quantisers, PACKET_MS // 20)
    sound = np.concatenate([decoder.decode(packet) for packet in packets])
    return np.pad(sound, (0, max(0, length - len(sound))))[:length]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", type=int, default=8)
    p.add_argument("--judge", action="store_true")
    args = p.parse_args()
    paths = [path for path in clips("train") if path.name.startswith("d")]
    chosen: list[tuple[str, Samples]] = []
    for i in np.random.default_rng(5).permutation(len(paths)).tolist():
        sound = read_sound(paths[i], SECONDS)
        if sound is not None and (not args.judge or phonemes(sound) > 5 * SECONDS):
            chosen.append((paths[i].name, sound[: SECONDS * SAMPLE_RATE]))
        if len(chosen) == args.clips:
            break
    metrics = {name: judge(name) for name in LISTENING} if args.judge else {}
    weights = [phonemes(sound) if args.judge else 1 for _, sound in chosen]
    path, names = RESULTS / "lyra_economy.json", [name for name, _ in chosen]
    known = json.loads(path.read_text()) if path.exists() else {}
    rows: list[dict[str, Any]] = [row for row in known["rows"] if "kept" in row] if known.get("clips") == names else []
    for quantisers, economy, kept in GRID:
        if any((row["quantisers"], row["economy"], row["kept"]) == (quantisers, economy, kept) for row in rows):
            continue
        vars(indices)["KEPT"] = kept
        made = [(sound, *coded(sound, quantisers, economy)) for _, sound in chosen]
        size = sum(len(packet) for _, packets, _ in made for packet in packets)
        row: dict[str, Any] = {
            "quantisers": quantisers, "economy": economy, "kept": kept,
            "kbps": round(size * 8 / 1000 / sum(len(sound) / SAMPLE_RATE for sound, _, _ in made), 4),
            "distance": round(float(np.mean([far for _, _, far in made])), 2),
        }  # fmt: skip
        for name, metric in metrics.items():
            heard = [metric(sound, decoded(packets, quantisers, len(sound))) for sound, packets, _ in made]
            row[name] = round(float(np.average(heard, weights=weights if name == "per" else None)), 4)
        rows.append(row)
        print(row, flush=True)
        write("lyra_economy", {"environment": environment(), "seconds": SECONDS, "clips": names, "rows": rows})


if __name__ == "__main__":
    main()
