"""What is done to each file of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import TfcodecError

if TYPE_CHECKING:
    from ..runtime import Runtime

NoFace = Literal["crop", "skip", "fail"]


@dataclass(frozen=True)
class Encoding:
    """Videos to streams. ``no_face``: what becomes of a file without a face; the rest is as for `tfcodec.encode`."""

    quality: int | None = None
    kbps: float | None = None
    crop: Literal["auto", "none"] = "auto"
    no_face: NoFace = "fail"
    refine: bool = True
    motion: bool = True
    speech: str = "auto"
    inter_keyframes: bool = True
    silence: Literal["gate", "send"] = "gate"
    strict: bool = False
    device: str = "cpu"

    def check(self) -> None:
        """Raises TfcodecError where an option is out of range, SpeechCodecMissing."""
        from ..codec.file.budget import check_kbps
        from ..codec.options import EncodeOptions
        from ..model.device import check_device

        if self.kbps is not None and self.quality is not None:
            raise TfcodecError("quality and kbps are two ways to say the same: give one of them")
        if self.kbps is not None:
            check_kbps(self.kbps)
        _check_switches(self, "refine", "motion", "inter_keyframes", "strict")
        if self.crop not in ("auto", "none"):
            raise TfcodecError(f'crop must be "auto" or "none", not {self.crop!r}')
        if self.no_face not in ("crop", "skip", "fail"):
            raise TfcodecError(f'no_face must be "crop", "skip" or "fail", not {self.no_face!r}')
        EncodeOptions(5 if self.quality is None else self.quality, speech=self.speech, silence=self.silence)
        check_device(self.device)


def _check_switches(options: object, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(options, name), bool):
            raise TfcodecError(f"{name} must be True or False, not {getattr(options, name)!r}")


@dataclass(frozen=True)
class Decoding:
    """Streams to videos, as `tfcodec.decode_to` takes them."""

    lossless: bool = False
    conceal: bool = False
    coarse: bool = False
    fast: bool = False
    device: str = "cpu"
    network: str | None = None
    runtime: Runtime = "torch"
    batch: int | None = None

    def check(self) -> None:
        """Raises TfcodecError where an option is out of range."""
        from ..model.device import check_batch, check_device
        from ..model.registry import check_network
        from ..runtime import check_runtime, device_for

        _check_switches(self, "lossless", "conceal", "coarse", "fast")
        check_device(device_for(self.device, check_runtime(self.runtime)))
        check_network(self.network)
        check_batch(self.batch)


Options = Encoding | Decoding
COLUMNS = {"quality": int, "kbps": float, "crop": str, "no_face": str, "speech": str}
"""Options of encoding that a table may give for each file, and their types."""


def with_columns(options: Options, row: Mapping[str, Any]) -> Options:
    """The options with what a row of a table says otherwise; an empty cell says nothing.

    Raises:
        TfcodecError: a cell is not of its column's type, or out of range.
    """
    said: dict[str, Any] = {}
    for name, kind in COLUMNS.items():
        cell = row.get(name)
        if cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell:
            continue  # the last of these is pandas' NaN
        if not isinstance(options, Encoding):
            raise TfcodecError(f"column {name}: is an option of encoding")
        said[name] = _value(name, cell, kind)
    if not said:
        return options
    if "kbps" in said or "quality" in said:
        said = {"quality": None, "kbps": None, **said}
    made = dataclasses.replace(options, **said)
    made.check()
    return made


def _value(name: str, cell: Any, kind: type) -> Any:
    if kind is str:
        return str(cell).strip()
    try:  # a column of whole numbers with empty cells is one of floats in pandas
        number = float("nan") if isinstance(cell, bool) else float(cell)
        if kind is float or number.is_integer():
            return kind(number)
    except (TypeError, ValueError):
        pass
    raise TfcodecError(f"column {name}: {cell!r} is no {'whole ' * (kind is int)}number")


def same(before: Mapping[str, Any], options: Options) -> bool:
    """Whether a row of the manifest was made with these options.

    Where networks compute is no difference, nor how many frames at once; and neither is, for a file that has a face,
    what becomes of one without.
    """
    # An option that is newer than the row was what it is by default.
    then, now = dataclasses.asdict(type(options)()) | (before.get("options") or {}), dataclasses.asdict(options)
    for name in ("device", "batch"):
        then.pop(name, None)
        now.pop(name, None)
    if before.get("face") is not False:
        then.pop("no_face", None)
        now.pop("no_face", None)
    return then == now
