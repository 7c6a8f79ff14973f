"""What silence costs behind the gate, and whether the gate clips the beginnings of words.

    python -m benchmarks.measure.silence [--onsets 200]

*Rates*: a minute of digital silence, and of white noise at levels from -60 to -30 dBFS, in packets of calls at quality
5; from the first packet on, and after the first five seconds, when the background is known. Sentences of `speech` with
pauses of two seconds between them say what the gate saves where people talk.

*Onsets*: sentences at a speech level of -23 dBFS with noise added to the whole of them. A block of 10 ms is heard if,
without that noise, it is within 35 dB of the loudest, 3 dB above the noise, and 6 dB above the recording's own
background (the least tenth of its blocks). An onset is the first such block after 300 ms without. It is clipped if the
packet that it lies in is not sent, or one of the next 100 ms is not that has such a block.
Clips: TFCODEC_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import clip_list, data_folder, environment, write
from tfcodec.codec.parts import speech
from tfcodec.rates import SAMPLE_RATE
from tfcodec.speech.choice import Choice
from tfcodec.speech.gate import GatedEncoder

CALL_MS = 40
LEVELS_DB = (-60, -50, -40, -30)
BLOCK = SAMPLE_RATE // 100
LEAD_SECONDS = 4.0

Sound = NDArray[np.float32]


def read(path: Path) -> Sound:
    """A sentence at -23 dBFS, [n] float32."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in frames + resampler.resample(None)])
    rms = float(np.sqrt(np.square(sound).mean()))
    return np.asarray(np.clip(sound * 10 ** (-23 / 20) / max(rms, 1e-6), -1, 1), np.float32)


def white(count: int, level_db: float, seed: int) -> Sound:
    noise = np.random.default_rng(seed).standard_normal(count, np.float32)
    return np.asarray(noise * np.float32(10 ** (level_db / 20)))


def packets(sound: Sound, silence: speech.Silence, quality: int = 5) -> list[bytes]:
    """Those of a call of the default ``bundle``, two of which leave together."""
    coder = speech.encoder(Choice.named("opus", quality), CALL_MS, silence, lookback=1)
    size, sent = SAMPLE_RATE * CALL_MS // 1000, list[bytes]()
    for number, i in enumerate(range(0, len(sound), size)):
        sent += coder.push(sound[i : i + size])
        if isinstance(coder, GatedEncoder) and number % 2:
            sent += coder.release()
    return sent


def kbps(sent: list[bytes]) -> float:
    """Payloads, and a byte for the length of every packet in the neighbourhood of one that is sent."""
    listed = sum(bool(a or b) for a, b in zip(sent, [*sent[1:], b""], strict=True))
    return 8 * (sum(map(len, sent)) + listed) / CALL_MS / max(1, len(sent))


def blocks(sound: Sound) -> NDArray[np.float64]:
    """Level of each block in dBFS, without what is below 80 Hz: that is the room's rumble."""
    spectrum = np.fft.rfft(sound)
    spectrum[: 80 * len(sound) // SAMPLE_RATE] = 0
    sound = np.asarray(np.fft.irfft(spectrum, len(sound)), np.float32)
    whole = sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK)
    return np.asarray(10 * np.log10(np.square(whole.astype(np.float64)).mean(1) + 1e-12))


def onsets(clean: Sound, noise_db: float) -> Iterator[tuple[int, list[int]]]:
    """Each onset's block, and the blocks of the 100 ms from it on that must be heard."""
    level = blocks(clean)
    own = float(np.percentile(level[level > -90], 10))
    heard = (level > level.max() - 35) & (level > noise_db + 3) & (level > own + 6)
    for block in np.flatnonzero(heard).tolist():
        if block >= 30 and not heard[block - 30 : block].any():
            yield block, [b for b in range(block, min(block + 10, len(heard))) if heard[b]]


def clipped(paths: list[Path], most: int) -> dict[str, Any]:
    """Onsets at each level, and those that the gate clips."""
    rows: dict[str, Any] = {}
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    for level in LEVELS_DB:
        count, lost, where = 0, 0, []
        for number, path in enumerate(paths):
            if count >= most // len(LEVELS_DB):
                break
            clean = np.concatenate([np.zeros(lead, np.float32), read(path), np.zeros(SAMPLE_RATE, np.float32)])
            sent = packets(clean + white(len(clean), level, number), "gate")
            for onset, need in onsets(clean, level):
                if count >= most // len(LEVELS_DB):
                    break
                count += 1
                missing = [b for b in need if b * 10 // CALL_MS < len(sent) and not sent[b * 10 // CALL_MS]]
                if missing:
                    lost += 1
                    where.append({"clip": path.name, "onset_ms": 10 * onset, "missing": [10 * b for b in missing]})
        rows[str(level)] = {"onsets": count, "clipped": lost, "where": where}
        print(level, rows[str(level)], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onsets", type=int, default=200)
    args = parser.parse_args()
    # Clips of many people, and of both collections, in the order of their names' hashes: any order will do.
    found = sorted((data_folder() / "speech").glob("*.opus"))
    paths = [found[i] for i in np.random.default_rng(1).permutation(len(found))[: args.onsets]]
    rates: dict[str, Any] = {}
    for name, sound in [("digital silence", np.zeros(60 * SAMPLE_RATE, np.float32)),
                        *((f"{db} dBFS", white(60 * SAMPLE_RATE, db, 7)) for db in LEVELS_DB)]:  # fmt: skip
        gated = packets(sound, "gate")
        rates[name] = {"kbps": round(kbps(gated), 3), "kbps_after_5_s": round(kbps(gated[125:]), 3),
                       "kbps_sent": round(kbps(packets(sound[: 10 * SAMPLE_RATE], "send")), 3)}  # fmt: skip
        print(name, rates[name], flush=True)
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    talk = np.concatenate([np.concatenate([read(path), pause]) for path in paths[:10]])
    talk += white(len(talk), -60, 3)
    rates["sentences with pauses of 2 s"] = {
        "kbps": round(kbps(packets(talk, "gate")), 3), "kbps_sent": round(kbps(packets(talk, "send")), 3)
    }  # fmt: skip
    print(rates["sentences with pauses of 2 s"], flush=True)
    rows = clipped(paths, args.onsets)
    total = {key: sum(row[key] for row in rows.values()) for key in ("onsets", "clipped")}
    print(total)
    write("silence", {"environment": environment(), "packet_ms": CALL_MS, "rates": rates, "total": total,
                      "onsets": rows, "clip_list": clip_list(paths)})  # fmt: skip


if __name__ == "__main__":
    main()
