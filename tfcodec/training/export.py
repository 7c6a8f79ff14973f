"""Turn a run's averaged weights into the package's: ``python -m tfcodec.training.export RUN MODEL_ID``.

``RUN --to FILE`` writes them to a file of their own, as of an ablation that is to be measured.
``FILE MODEL_ID --base OTHER`` registers a network's file, without what is the same in the registered network OTHER.
``FILE MODEL_ID --stand-in NAME`` registers a network as one that may stand in for the network MODEL_ID, which has to be
registered in the same folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from ..errors import TfcodecError
from ..model.registry import FOLDER
from ..model.upsampler import Upsampler
from ..model.weights import read_weights, save_weights
from .evaluate import run_weights
from .state import load_state


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="tfcodec.training.export", description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("model_id", type=int, nargs="?")
    p.add_argument("--to", type=Path, metavar="FILE", help="write this file alone")
    p.add_argument("--mix", nargs=2, metavar=("OTHER_RUN", "SHARE"), help="average with another state of it")
    p.add_argument("--stand-in", metavar="NAME", help="RUN is the file of a network that may stand in for MODEL_ID's")
    p.add_argument("--base", type=int, metavar="OTHER_ID", help="RUN is a network's file: leave out what is that one's")
    p.add_argument("--closeups", type=Path, metavar="FILE", help="of a stand-in: take the close-ups from this file")
    p.add_argument("--folder", type=Path, default=FOLDER)
    args = p.parse_args(argv)
    if (args.model_id is None) == (args.to is None):
        p.error("a MODEL_ID, or a file with --to")
    if args.stand_in:
        if args.model_id is None:
            p.error("--stand-in needs a MODEL_ID")
        model = read_weights(args.run)
        if args.closeups and model.closeups is not None:
            model.load_state_dict({
                n: t for n, t in read_weights(args.closeups).state_dict().items() if n.startswith("closeups.")
            }, strict=False)  # fmt: skip
        print(register_stand_in(model, args.folder, args.model_id, args.stand_in))
        return
    if args.base is not None:
        if args.model_id is None:
            p.error("--base needs a MODEL_ID")
        partial = args.folder / "new.safetensors"
        save_weights(read_weights(args.run), partial, args.folder / _line(args.folder, args.base)["file"])
        print(register(partial, args.model_id, args.base))
        return
    _, about = load_state(args.run / "state")
    model = run_weights(args.run)
    if args.mix:
        other, share = run_weights(Path(args.mix[0])).state_dict(), float(args.mix[1])
        model.load_state_dict({n: (1 - share) * t + share * other[n] for n, t in model.state_dict().items()})
    if args.to is not None:
        save_weights(model, args.to)
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    partial = args.folder / "new.safetensors"
    save_weights(model, partial)
    path = register(partial, args.model_id)
    print(f"{path}: step {about['step']}, {about['seconds'] / 60:.0f} minutes of training")


def register_stand_in(model: Upsampler, folder: Path, number: int, name: str) -> Path:
    """Write a network's file, without what it has in common with the registered one, and enter it into the registry.

    Raises TfcodecError when it finds other landmarks in keyframes than that one: what is sent is relative to them.
    """
    file = folder / "registry.json"
    lines = [x for x in json.loads(file.read_text()) if (x["model_id"], x.get("name")) != (number, name)]
    full = _line(folder, number)
    theirs = read_weights(folder / full["file"]).state_dict()
    of_tracker = {n: t for n, t in model.state_dict().items() if n.startswith("tracker.")}
    if not all(n in theirs and torch.equal(t.half(), theirs[n].half()) for n, t in of_tracker.items()):
        raise TfcodecError(f"its tracker is not that of network {number}, so that it may not stand in for it")
    partial = folder / "new.safetensors"
    save_weights(model, partial, folder / full["file"])
    sha = hashlib.sha256(partial.read_bytes()).hexdigest()
    path = folder / f"tfcodec-{number}-{name}-{sha[:8]}.safetensors"
    partial.rename(path)
    lines.append({"model_id": number, "name": name, "file": path.name, "sha256": sha})
    file.write_text(json.dumps(lines, indent=1) + "\n")
    return path


def _line(folder: Path, number: int) -> dict[str, Any]:
    """What a folder's registry says of a network that streams may name. Raises TfcodecError if it has none."""
    for line in json.loads((folder / "registry.json").read_text()):
        if line["model_id"] == number and "name" not in line:
            return dict(line)
    raise TfcodecError(f"{folder} has no network {number}")


def register(partial: Path, number: int, base: int | None = None) -> Path:
    """Name a network's file by number and hash, and enter it into the registry beside it; ``base``: the number of the
    network that it leaves parts to."""
    sha = hashlib.sha256(partial.read_bytes()).hexdigest()
    path = partial.with_name(f"tfcodec-{number}-{sha[:8]}.safetensors")
    partial.rename(path)
    file = partial.with_name("registry.json")
    lines = json.loads(file.read_text()) if file.exists() else []
    lines = [x for x in lines if x["model_id"] != number or "name" in x]
    lines.append({"model_id": number, "file": path.name, "sha256": sha} | ({} if base is None else {"base": base}))
    file.write_text(json.dumps(lines, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()
