"""Which networks exist: registry number, file and hash. Needs no torch, so that encoding and probing stay light.

A number is never given to other weights: a stream names its network by number and by the first four bytes of the
file's SHA-256, and decodes with that network or not at all. The package holds the file of the newest network alone, for
its size; the others stay registered, and their files can be put beside it.

Beside them there are networks that no stream names, but that may stand in for one that streams name: they take the same
inputs and draw the same streams, faster and not quite as well. They go by a name.
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
    """One line of the registry: ``model_id``, file name, hexadecimal SHA-256 of the safetensors file.

    A stand-in has a ``name``, and ``model_id`` is the network that it stands in for. Its file leaves out what it has in
    common with that one. So does that of a network with a ``base``, the number of an earlier one.
    """

    model_id: int
    file: str
    sha256: str
    name: str = ""
    base: int | None = None

    @property
    def hash_prefix(self) -> bytes:
        """What a stream's header carries: the first 4 bytes of the SHA-256."""
        return bytes.fromhex(self.sha256)[:4]

    @property
    def title(self) -> str:
        """Number and start of the hash, as results name it."""
        number = f"{self.model_id} ({self.hash_prefix.hex()})"
        return f"{self.name} {number}" if self.name else number

    @property
    def full(self) -> ModelEntry:
        """The network that streams name: this one, or the one that it stands in for."""
        return self if not self.name else next(x for x in models() if x.model_id == self.model_id)


def _entries() -> list[ModelEntry]:
    lines = json.loads((FOLDER / "registry.json").read_text())
    return [
        ModelEntry(int(x["model_id"]), str(x["file"]), str(x["sha256"]), str(x.get("name", "")), x.get("base"))
        for x in lines
    ]


def models() -> list[ModelEntry]:
    """All registered networks that streams may name, oldest first."""
    return [entry for entry in _entries() if not entry.name]


def stand_ins(entry: ModelEntry) -> dict[str, ModelEntry]:
    """The networks that may stand in for one that streams name, by their names."""
    return {x.name: x for x in _entries() if x.name and x.model_id == entry.model_id}


def stand_in(entry: ModelEntry, name: str | None) -> ModelEntry:
    """The network that draws what names ``entry``: that one (``None`` or ``"full"``), or its stand-in of a name.

    Raises WeightsError when there is none of that name for it.
    """
    if name is None or name == "full":
        return entry
    found = stand_ins(entry)
    if name not in found:
        check_network(name)
        raise WeightsError(
            f"the network {name!r} may not stand in for network {entry.title}, which the stream names; that is drawn "
            f"by {' or '.join(['full', *sorted(found)])}"
        )
    return found[name]


def check_network(name: str | None) -> None:
    """Raises WeightsError when no network has that name: None, ``"full"`` or a stand-in's."""
    known = ["full", *sorted({x.name for x in _entries() if x.name})]
    if name is not None and name not in known:
        raise WeightsError(f"there is no network {name!r}: there is {' and '.join(known)}")


def default_model() -> ModelEntry:
    """The network that new streams name: the newest."""
    return models()[-1]


def find_model(model_id: int, hash_prefix: bytes, network: str | None = None) -> ModelEntry:
    """The network that a stream names, or with ``network`` its stand-in of that name.

    Raises WeightsError, saying which is missing, when it is not registered here, or none of that name is for it.
    """
    for entry in models():
        if entry.model_id == model_id:
            if entry.hash_prefix != hash_prefix:
                raise WeightsError(
                    f"the stream names network {model_id} with hash {hash_prefix.hex()}, but the one here has hash "
                    f"{entry.hash_prefix.hex()}; tiny frames, keyframes and speech can be decoded with pixels=False"
                )
            return stand_in(entry, network)
    raise WeightsError(
        f"the stream names network {model_id} (hash {hash_prefix.hex()}), which this version of tfcodec does not have: "
        "a newer version may; tiny frames, keyframes and speech can be decoded with pixels=False"
    )


def weights_files(entry: ModelEntry) -> list[Path]:
    """Paths of the weights, as `weights_file`'s: its own, and those of the networks that it leaves parts to."""
    below = entry.full if entry.name else next((x for x in models() if x.model_id == entry.base), None)
    return [weights_file(entry), *(weights_files(below) if below else [])]


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
