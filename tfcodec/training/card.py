"""The card of a run: what was trained, on what, for how long, with which outcome. RUN/card.json."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..files import write_json
from ..model.config import NetworkConfig
from .data import Pack
from .losses import LossWeights


class Card:
    """Kept in memory and written with every save; a resumed run adds a call to it."""

    def __init__(self, args: argparse.Namespace, config: NetworkConfig, weights: LossWeights) -> None:
        self.path: Path = args.run / "card.json"
        self.known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.is_file() else {"calls": []}
        options = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("run", "pack")}
        self.known |= {"variant": args.variant, "network": asdict(config), "losses": asdict(weights)}
        self._options, self._first, self._base = options, 0, 0.0

    def note(self, **facts: Any) -> None:
        self.known |= facts

    def open_call(self, pack: Pack, step: int) -> None:
        names = "\n".join(f"{name} {count}" for name, _, count in pack.clips)
        self.known["data"] = {
            "clips": len(pack.clips), "frames": len(pack.frames), "keyframes": len(pack.keys),
            "clip_list_sha256": hashlib.sha256(names.encode()).hexdigest()[:16],
        }  # fmt: skip
        self.known["calls"].append(
            {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "from_step": step,
                "options": self._options, **machine(pack.device), "tfcodec": __version__,
            }
        )  # fmt: skip

    def write(self, step: int, seconds: float) -> None:
        """Write the card."""
        self.known |= {"steps": step, "device_hours": round(seconds / 3600, 4)}
        if self.known["calls"]:
            self.known["calls"][-1]["to_step"] = step
        write_json(self.path, self.known)


def machine(device: torch.device) -> dict[str, Any]:
    """Device, cores and versions, for the record."""
    name = platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    threads = torch.get_num_threads()
    return {"device": name, "cores": os.cpu_count(), "threads": threads, "torch": torch.__version__}
