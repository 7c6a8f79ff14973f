"""Runs the network: decoded keyframe, tiny frames and speech in, pictures out. numpy outside, torch inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError
from .displacement import in_pixels
from .inputs import LIPS_COLUMNS, LIPS_REACH, MEL_BANDS, MEL_COLUMNS, MEL_PER_FRAME, REACH, WINDOW
from .registry import ModelEntry

if TYPE_CHECKING:
    from torch import Tensor

    from .graph import Recording
    from .keyframing import Keyframes
    from .marks import Standing
    from .stage1 import KeyframeFeatures
    from .upsampler import Upsampler

MEL_SILENCE = -1.0
BATCH = 8
PREPARE_FROM = 64
"""Number of frames from which on recording the network saves more time than it takes."""


class Drawer(Protocol):
    """The network with one keyframe; what `Renderer` has, and whatever else draws (`tfcodec.runtime`)."""

    keyframe: NDArray[np.uint8] | None

    @property
    def hears(self) -> bool: ...

    def begin(
        self, tiny: NDArray[np.uint8], mel: NDArray[np.float32], coarse: bool = False,
        motion: NDArray[np.int32] | None = None, sound: NDArray[np.float32] | None = None,
        displacement: NDArray[np.int32] | None = None,
    ) -> Callable[[], NDArray[np.uint8]]: ...  # fmt: skip

    def prepare(self, coarse: bool = False) -> None: ...

    def set_keyframe(self, picture: NDArray[np.uint8]) -> None: ...

    def render(
        self, tiny: NDArray[np.uint8], mel: NDArray[np.float32], coarse: bool = False,
        motion: NDArray[np.int32] | None = None, sound: NDArray[np.float32] | None = None,
        displacement: NDArray[np.int32] | None = None,
    ) -> NDArray[np.uint8]: ...  # fmt: skip


class Renderer:
    """The network with one keyframe.

    Args:
        entry: which network; or the network itself, where ``device`` is.
        fast: compute in bfloat16 where this processor has instructions for it, which takes less than half of the
            time; elsewhere without effect. Pixels move by a grey level or two: a test holds it above 54 dB, and the
            specification asks a decoder for 48.
        device: where to draw, as `device.find_device` names it.
        keyframes: what is computed of keyframes, shared with other renderers of the same network, device and ``fast``.

    Raises:
        WeightsError: the weights are not there or do not fit.
        TfcodecError: the device cannot be used, or has not enough memory; also raised later.
    """

    def __init__(
        self, entry: ModelEntry | Upsampler, *, fast: bool = False, device: str = "cpu",
        keyframes: Keyframes | None = None,
    ) -> None:  # fmt: skip
        import torch

        from . import graph, keyframing, marks
        from .weights import load_model

        self._keyframes = keyframing.Keyframes(kept=0) if keyframes is None else keyframes
        self._torch, self._graph, self._marks = torch, graph, marks
        self._device = torch.device(device)
        with self._explained():
            self._model = load_model(entry, device) if isinstance(entry, ModelEntry) else entry
        self.fast = fast and has_bfloat16(device)
        self._key: KeyframeFeatures | None = None
        self._stands: Standing | None = None
        self._drawings: dict[bool, Recording | None] = {}  # by `coarse`
        self._threads: ThreadPoolExecutor | None = None
        self.keyframe: NDArray[np.uint8] | None = None
        """The picture given to `set_keyframe` last."""

    @property
    def hears(self) -> bool:
        """Whether the network uses the ``mel`` that `render` is given."""
        return self._model.config.audio

    def prepare(self, coarse: bool = False) -> None:
        """Record the network as a graph (see `tfcodec.model.graph`), from which `render` draws from now on.

        Takes half a second the first time, which pays after 50 frames. Without effect on a graphics card.
        """
        if self._device.type == "cpu":
            self._drawings[coarse] = self._graph.drawing(self._model, fast=self.fast, coarse=coarse, record=True)

    def _drawing(self, coarse: bool) -> Recording | None:
        """What draws in place of the network itself: before `prepare` only with ``fast``."""
        if self.fast and self._device.type == "cpu" and coarse not in self._drawings:
            self._drawings[coarse] = self._graph.drawing(self._model, fast=True, coarse=coarse, record=False)
        return self._drawings.get(coarse)

    def set_keyframe(self, picture: NDArray[np.uint8]) -> None:
        """Use the decoded keyframe [256, 256, 3] uint8 from now on; costs as much as a frame, with ``fast`` half."""
        with self._explained():
            known = self._keyframes.of(picture, self._model, self.fast, self._device)
        self._key, self._stands = known.key, known.stands
        if not self._drawings:
            self._drawing(coarse=False)
        with self._torch.inference_mode(), self._torch.autocast(self._device.type, enabled=False):
            for drawing in self._drawings.values():
                if drawing is not None:
                    drawing.know(known.key)
        self.keyframe = picture

    def render(
        self, tiny: NDArray[np.uint8], mel: NDArray[np.float32], coarse: bool = False,
        motion: NDArray[np.int32] | None = None, sound: NDArray[np.float32] | None = None,
        displacement: NDArray[np.int32] | None = None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """Draw frames; after `prepare` as many side by side as torch has threads.

        Args:
            tiny: windows [N, 5, 8, 8, 3] uint8, each with the frame to draw in the middle.
            mel: log-mel windows [N, 20, 80].
            coarse: return stage 1's 64x64 pictures instead.
            sound: log-mel [N, 148, 80] of 33 frames before each to 3 after, to which the lips move where the motion of
                the mouth was not sent; None without speech.
            motion: numbers of the motion layer and whether they were sent, [N, 17] (see `tfcodec.motion`); None if the
                stream has no such layer. Where they were not, the tiny frames say how the face moved.
            displacement: numbers of the displacement layer, [N, 12] (see `displacement`); None: nothing is displaced.

        Returns:
            [N, 256, 256, 3] uint8 RGB, or [N, 64, 64, 3] with ``coarse``.
        """
        return self.begin(tiny, mel, coarse, motion, sound, displacement)()

    def begin(
        self, tiny: NDArray[np.uint8], mel: NDArray[np.float32], coarse: bool = False,
        motion: NDArray[np.int32] | None = None, sound: NDArray[np.float32] | None = None,
        displacement: NDArray[np.int32] | None = None,
    ) -> Callable[[], NDArray[np.uint8]]:  # fmt: skip
        """`render` in two parts, so that a graphics card draws while the caller does something else.

        Returns:
            A function that waits until the pictures are there, and gives them.
        """
        torch, device = self._torch, self._device
        key, drawing = self._key, self._drawing(coarse)
        if key is None:
            raise RuntimeError("set_keyframe comes first")
        with self._explained(), torch.inference_mode(), torch.autocast(device.type, enabled=False):
            windows = self._marks.to_device(tiny, device).permute(0, 1, 4, 2, 3).float() / 255
            heard = self._marks.to_device(np.asarray(mel, np.float32), device)
            marks = self._marks.frame_marks(self._model, key, windows, motion, sound, self._stands)
            displaced = self._marks.to_device(in_pixels(displacement, len(tiny)), device)
            if drawing is None:
                key = key.select(torch.zeros(len(tiny), dtype=torch.long, device=device))
                with torch.autocast(device.type, torch.bfloat16, enabled=self.fast):
                    pictures = self._graph.picture(self._model, key, windows, heard, marks, coarse, displaced)
            else:
                pictures = self._in_groups(drawing, key, windows, heard, marks, displaced)
            if device.type != "cuda":
                drawn = np.ascontiguousarray(pictures.cpu().numpy())
                return lambda: drawn
            # Into memory that the card writes to by itself, while it goes on with what it is given next.
            out = torch.empty(pictures.shape, dtype=torch.uint8, device="cpu", pin_memory=True)
            out.copy_(pictures, non_blocking=True)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))

        def wait() -> NDArray[np.uint8]:
            with self._explained():
                done.synchronize()
            return np.array(out.numpy())

        return wait

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What a graphics card complains of, as a TfcodecError."""
        try:
            yield
        except RuntimeError as error:  # torch's OutOfMemoryError and AcceleratorError are such
            if self._device.type == "cpu":
                raise
            first = str(error).strip().partition("\n")[0]
            enough = "; draw fewer frames at once (batch=)" if "out of memory" in first else ""
            raise TfcodecError(f'device="{self._device}" cannot draw: {first}{enough}') from error

    def _in_groups(self, draw: Recording, key: KeyframeFeatures, *given: Tensor) -> Tensor:
        """Pictures, some frames at once in each thread; ``draw`` gets the key and of each tensor the frames' part."""
        torch, count = self._torch, len(given[0])
        threads = min(torch.get_num_threads(), BATCH)
        step = min(draw.together, -(-count // threads))
        parts = [[whole[at : at + step] for whole in given] for at in range(0, count, step)]

        def drawn(part: list[Tensor]) -> Tensor:
            with torch.inference_mode():  # each thread has a mode of its own
                return draw(key, *part)

        alone = threads == 1 or len(parts) == 1
        return torch.cat(list((map if alone else self._pool(threads).map)(drawn, parts)))

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(threads, "tfcodec-drawing", self._torch.set_num_threads, (1,))
        return self._threads


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether this processor or card multiplies in bfloat16; where it does not, emulation is slower than float32."""
    import torch

    if device != "cpu":
        return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def tiny_windows(tiny: NDArray[np.uint8], frames: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Windows [N, 5, 8, 8, 3] around the given frames of ``tiny`` [T, 8, 8, 3]; the ends are repeated."""
    offsets = np.arange(-REACH, WINDOW - REACH)
    return tiny[np.clip(frames[:, None] + offsets, 0, len(tiny) - 1)]


def silent_windows(count: int) -> NDArray[np.float32]:
    """Windows as `mel_windows` gives them of silence, [count, 20, 80]."""
    return np.full((count, MEL_COLUMNS, MEL_BANDS), MEL_SILENCE, np.float32)


def mel_windows(mel: NDArray[np.float32], frames: NDArray[np.int64]) -> NDArray[np.float32]:
    """Windows [N, 20, 80], 0.2 s centred on the given frames, of ``mel`` [4 T, 80]; silence outside."""
    first = MEL_PER_FRAME * frames + MEL_PER_FRAME // 2 - MEL_COLUMNS // 2
    index = first[:, None] + np.arange(MEL_COLUMNS)
    inside = (index >= 0) & (index < len(mel))
    out = silent_windows(len(frames))
    out[inside] = mel[index[inside]]
    return out


def sound_windows(mel: NDArray[np.float32], frames: NDArray[np.int64]) -> NDArray[np.float32]:
    """Windows [N, 148, 80] for lips from speech around the given frames of ``mel`` [4 T, 80]; silence outside."""
    index = MEL_PER_FRAME * (frames[:, None] - LIPS_REACH) + np.arange(LIPS_COLUMNS)
    inside = (index >= 0) & (index < len(mel))
    out = np.full((*index.shape, MEL_BANDS), MEL_SILENCE, np.float32)
    out[inside] = mel[index[inside]]
    return out


def render_all(
    renderer: Drawer,
    keyframes: list[tuple[int, NDArray[np.uint8]]],
    tiny: NDArray[np.uint8],
    mel: NDArray[np.float32] | None,
    coarse: bool = False,
    *,
    only: NDArray[np.int64] | None = None,
    motion: NDArray[np.int32] | None = None,
    displacement: NDArray[np.int32] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Draw a clip in batches [n, 256, 256, 3]; windows do not reach across a keyframe (it may be a scene cut).

    Args:
        only: ascending indices of the frames to draw (frames do not depend on one another's pictures); None: all.
        motion: of all frames, [T, 17], as `Renderer.render` takes it.
        displacement: of all frames, [T, 12], likewise.
    """
    heard = mel
    if only is None:
        only = np.arange(len(tiny))
    if mel is None:
        mel = np.full((MEL_PER_FRAME * len(tiny), MEL_BANDS), MEL_SILENCE, np.float32)
    starts = [first for first, _ in keyframes]
    for i, (first, picture) in enumerate(keyframes):
        # Frames before the first keyframe exist only in damaged streams; they are drawn with it as well.
        begin = 0 if i == 0 else first
        end = starts[i + 1] if i + 1 < len(starts) else len(tiny)
        wanted = only[(only >= begin) & (only < end)]
        if len(wanted):
            renderer.set_keyframe(picture)
        for at in range(0, len(wanted), BATCH):
            frames = wanted[at : at + BATCH]
            windows = tiny_windows(tiny[begin:end], frames - begin)
            yield renderer.render(
                windows, mel_windows(mel, frames), coarse, None if motion is None else motion[frames],
                None if heard is None else sound_windows(heard, frames),
                None if displacement is None else displacement[frames],
            )  # fmt: skip
            if len(only) >= PREPARE_FROM:  # after the first batch, so that it does not delay the first frame
                renderer.prepare(coarse)
