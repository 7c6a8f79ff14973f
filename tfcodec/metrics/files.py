"""Where the third-party networks of metrics are found, and what is said when they are not. Imports no torch."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

from ..errors import TfcodecError, WeightsError


class MissingPackage(TfcodecError):
    """A metric needs a package that is not installed; the message says which, and how to get it."""


def find_weights() -> Path | None:
    """The folder of metric networks: TFCODEC_METRIC_WEIGHTS, else ../shared/weights beside the repository, or None."""
    named = os.environ.get("TFCODEC_METRIC_WEIGHTS")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "weights"
    return folder if folder.is_dir() else None


def weights_path(what: str, name: str, folder: str | Path | None = None) -> Path:
    """Path of a file in ``folder`` or in the folder of metric networks. Raises WeightsError when it is missing."""
    root = Path(folder) if folder is not None else find_weights()
    if root is None:
        raise WeightsError(f"{what} needs {name}: set TFCODEC_METRIC_WEIGHTS to the folder of metric networks")
    path = root / name
    if not path.is_file():
        raise WeightsError(f"{what} needs {name}, which is not in {root}")
    return path


def need(package: str, what: str, install: str = "'tfcodec[bench]'") -> ModuleType:
    """Import a package, or raise MissingPackage saying what needs it."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError, RuntimeError) as error:  # not there, or there and broken
        raise MissingPackage(f"{what} needs the package {package} ({error}): pip install {install}") from None
