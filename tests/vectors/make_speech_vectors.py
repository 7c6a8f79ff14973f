"""Write tests/vectors/lyra_indices.json: indices of Lyra, and the packets that they make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfcodec.speech.indices import TABLES_SHA256, IndexEncoder

FILE = Path(__file__).with_name("lyra_indices.json")
CASES = (("a call's packet", 16, 2, 2), ("a file's packet", 12, 50, 20), ("one frame", 1, 250, 1), ("fine", 46, 4, 4))


def likely(quantisers: int, frames: int, seed: int) -> list[list[int]]:
    """Indices that change slowly, so that the network has something to expect."""
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 16, quantisers)
    out = []
    for _ in range(frames):
        value = np.where(rng.random(quantisers) < 0.3, rng.integers(0, 16, quantisers), value)
        out.append(value.tolist())
    return out


def main() -> None:
    rows = []
    for seed, (name, quantisers, packet, frames) in enumerate(CASES):
        indices = likely(quantisers, frames, seed)
        data = IndexEncoder(quantisers, packet).encode(np.array(indices))
        rows.append({"name": name, "packet_frames": packet, "indices": indices, "packet": data.hex()})
    random = np.random.default_rng(9).integers(0, 16, (2, 16))
    rows.append(
        {
            "name": "noise, which is coded plainly if that is shorter", "packet_frames": 2, "indices": random.tolist(),
            "packet": IndexEncoder(16, 2).encode(random).hex(),
        }
    )  # fmt: skip
    FILE.write_text(json.dumps({"tables": TABLES_SHA256, "packets": rows}) + "\n")


if __name__ == "__main__":
    main()
