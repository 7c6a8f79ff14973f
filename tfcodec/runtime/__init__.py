"""What draws: torch, which is the reference, or ncnn, which needs no torch in the process.

`open_renderer` gives either; both have the methods of `Drawer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..errors import TfcodecError
from ..model.registry import ModelEntry
from ..model.renderer import Drawer, Renderer

if TYPE_CHECKING:
    from ..model.keyframing import Keyframes

Runtime = Literal["torch", "ncnn"]
RUNTIMES: tuple[Runtime, ...] = ("torch", "ncnn")


def check_runtime(runtime: str) -> Runtime:
    """Raises TfcodecError unless it is one of `RUNTIMES`."""
    if runtime not in RUNTIMES:
        raise TfcodecError(f"runtime must be {' or '.join(map(repr, RUNTIMES))}, not {runtime!r}")
    return runtime


def device_for(device: str, runtime: Runtime) -> str:
    """The device that ``runtime`` draws on when ``device`` is asked for. Raises TfcodecError where it cannot."""
    if runtime == "torch":
        return device
    if device not in ("auto", "cpu"):
        raise TfcodecError(f'runtime="ncnn" draws on the processor: device must be "cpu" or "auto", not {device!r}')
    return "cpu"


def open_renderer(
    entry: ModelEntry, *, fast: bool = False, device: str = "cpu", runtime: Runtime = "torch",
    keyframes: Keyframes | None = None,
) -> Drawer:  # fmt: skip
    """A network, ready to draw.

    Args:
        entry: which network.
        fast: as of `tfcodec.model.renderer.Renderer`; of no effect with ncnn, which is no faster in 16 bits.
        device: where torch draws.
        runtime: what draws.
        keyframes: as of `tfcodec.model.renderer.Renderer`; of no effect with ncnn.

    Raises:
        MediaError: ncnn is not installed.
        WeightsError: the weights are not there or do not fit, or ncnn cannot draw networks of this kind.
    """
    if runtime == "ncnn":
        from .renderer import NcnnRenderer

        return NcnnRenderer(entry)
    return Renderer(entry, fast=fast, device=device, keyframes=keyframes)
