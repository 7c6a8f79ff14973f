"""Which networks exist: registry number, file and hash. Needs no torch, so that encoding and probing stay light.

A number is never given to other weights: a stream names its network by number and by the first four bytes of the
file's SHA-256, and decodes with that network or not at all. The package holds the file of the newest network alone, for
its size; the others stay registered, and their files can be put beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError

FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelEntry:
    """One line of the registry: ``model_id``, file name, hexadecimal SHA-256 of the safetensors file."""

    model_id: int
    file: str
    sha256: str

    @property
    def hash_prefix(self) -> bytes:
        """What a stream's header carries: the first 4 bytes of the SHA-256."""
        return bytes.fromhex(self.sha256)[:4]

    @property
    def title(self) -> str:
        """Number and start of the hash, as results name it."""
        return f"{self.model_id} ({self.hash_prefix.hex()})"


def models() -> list[ModelEntry]:
    """All registered networks, oldest first."""
    lines = json.loads((FOLDER / "registry.json").read_text())
    return [ModelEntry(int(x["model_id"]), str(x["file"]), str(x["sha256"])) for x in lines]


def default_model() -> ModelEntry:
    """The network that new streams name: the newest."""
    return models()[-1]


def find_model(model_id: int, hash_prefix: bytes) -> ModelEntry:
    """The network that a stream names. Raises WeightsError, saying which is missing, when it is not registered here."""
    for entry in models():
        if entry.model_id == model_id:
            if entry.hash_prefix != hash_prefix:
                raise WeightsError(
                    f"the stream names network {model_id} with hash {hash_prefix.hex()}, but the one here has hash "
                    f"{entry.hash_prefix.hex()}; tiny frames, keyframes and speech can be decoded with pixels=False"
                )
            return entry
    raise WeightsError(
        f"the stream names network {model_id} (hash {hash_prefix.hex()}), which this version of tfcodec does not have: "
        "a newer version may; tiny frames, keyframes and speech can be decoded with pixels=False"
    )


def weights_file(entry: ModelEntry) -> Path:
    """Path of the weights, hash checked: in TFCODEC_WEIGHTS_DIR if that is set and has them, else in the package."""
    folders = [Path(os.environ["TFCODEC_WEIGHTS_DIR"])] if "TFCODEC_WEIGHTS_DIR" in os.environ else []
    for folder in [*folders, FOLDER]:
        path = folder / entry.file
        if path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != entry.sha256:
                raise WeightsError(f"{path} is damaged: SHA-256 {found}, expected {entry.sha256}")
            return path
    raise WeightsError(
        f"the weights {entry.file} of network {entry.model_id} are not here: the package holds those of the newest "
        "network alone. Put the file from the version that brought it into a folder that TFCODEC_WEIGHTS_DIR names; "
        "without it, tiny frames, keyframes and speech can be decoded with pixels=False"
    )
