"""`tfcodec.model.renderer.Renderer` without torch: ncnn draws, numpy does the rest."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError, TfcodecError, WeightsError
from ..model.config import NetworkConfig
from ..model.displacement import field, in_pixels
from ..model.mouth import MOUTH_PART, moved
from ..model.places import COUNT, FLOW_UNIT, FOUND, HALF
from ..model.registry import ModelEntry, weights_files
from ..motion.geometry import ABSENT, NUMBERS, SENT, analyse, synthesise
from . import landmarks, lips
from .landmarks import NOW, SQUARES, Floats
from .network import build, check
from .tracker import track

_MAPS = ("picture", "small", "f128", "f64", "f32", "f16", "k16", "k8")
"""Inputs of the frame's part that the keyframe's part makes."""
_PACKED = 1
"""Asks ncnn for a blob as it lies in memory."""


@dataclass(frozen=True)
class _Keyframe:
    """What is computed once a keyframe."""

    blobs: dict[str, Any]
    """ncnn's Mats by the name of the input that they are for."""
    key8: Floats
    """Box means [3, 8, 8] in 0..1."""
    marks: Floats
    face: bool
    net: Net
    """Whose memory the blobs are in: it must outlive them."""


class NcnnRenderer:
    """The network with one keyframe; the methods are those of `tfcodec.model.renderer.Renderer`.

    Args:
        entry: which network.

    Raises:
        MediaError: ncnn is not installed.
        WeightsError: the weights are not there or do not fit, or the network is of a kind that cannot be drawn here.
    """

    def __init__(self, entry: ModelEntry) -> None:
        self._net = load_net(entry)
        self._key: _Keyframe | None = None
        self.keyframe: NDArray[np.uint8] | None = None
        """The picture given to `set_keyframe` last."""

    @property
    def hears(self) -> bool:
        """Networks that are drawn here do not."""
        return False

    def begin(
        self, tiny: NDArray[np.uint8], mel: NDArray[np.float32], coarse: bool = False,
        motion: NDArray[np.int32] | None = None, sound: NDArray[np.float32] | None = None,
        displacement: NDArray[np.int32] | None = None,
    ) -> Callable[[], NDArray[np.uint8]]:  # fmt: skip
        """`render`, whose pictures the function gives that is returned."""
        drawn = self.render(tiny, mel, coarse, motion, sound, displacement)
        return lambda: drawn

    def prepare(self, coarse: bool = False) -> None:
        """Nothing: the network is ready when it is loaded."""

    def set_keyframe(self, picture: NDArray[np.uint8]) -> None:
        """Use the decoded keyframe [256, 256, 3] uint8 from now on."""
        self._key = self._net.keyframe(picture)
        self.keyframe = picture

    def render(
        self, tiny: NDArray[np.uint8], mel: NDArray[np.float32], coarse: bool = False,
        motion: NDArray[np.int32] | None = None, sound: NDArray[np.float32] | None = None,
        displacement: NDArray[np.int32] | None = None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """Draw frames, one after the other: see `tfcodec.model.renderer.Renderer.render`.

        ncnn's Python interface keeps the interpreter's lock while it computes: side by side no more would be drawn.
        ``mel`` is not listened to: networks that are drawn here hear speech through ``sound`` alone.
        """
        key = self._key
        if key is None:
            raise RuntimeError("set_keyframe comes first")
        windows = landmarks.windows_of(tiny)
        refined = np.stack([landmarks.refine_chroma(window, key.key8) for window in windows])
        marks = self._net.marks(key, refined, motion, sound)
        displaced = field(in_pixels(displacement, len(tiny)))
        size = 64 if coarse else 256
        out = np.empty((len(tiny), size, size, 3), np.uint8)
        for i in range(len(tiny)):
            out[i] = self._net.frame(key, refined[i], marks[i], coarse, displaced[i])
        return out


class Net:
    """One network, loaded; any number of threads may draw with it.

    Args:
        state: weights by name, in float16 as they are stored.
    """

    def __init__(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._ncnn = ncnn = _ncnn()
        made = build(state)
        self._net = ncnn.Net()
        self._net.opt.num_threads = 1
        self._net.opt.use_vulkan_compute = False
        self._net.opt.use_fp16_storage = self._net.opt.use_fp16_packed = self._net.opt.use_fp16_arithmetic = False
        # 4x4 pixels at a time are faster than 6x6 at these sizes, and take half the memory.
        self._net.opt.use_winograd63_convolution = False
        _load(self._net, made.text(), made.weights())
        small = ("stage1.prior.", "tracker.present.", "tracker.coarse.shape", "tracker.face.shape",
                 "tracker.mouth.shape", "tracker.eye.shape")  # fmt: skip
        self._state = {n: v.astype(np.float32) for n, v in state.items() if n.startswith(small)}
        self._inputs = frozenset(made.inputs)
        self._maps = [name for name in _MAPS if name in made.inputs]
        self._fixed = {name: self._mat(value) for name, value in _fixed(made.inputs).items()}

    def keyframe(self, picture: NDArray[np.uint8]) -> _Keyframe:
        """What a decoded keyframe [256, 256, 3] uint8 is to the network."""
        centred = np.ascontiguousarray(np.moveaxis(picture, -1, 0), np.float32) / np.float32(255) - np.float32(0.5)
        given = self._mat(centred)

        def look(name: str, grid: Floats | None) -> dict[str, NDArray[Any]]:
            run = self._run({"look.picture": given} | ({} if grid is None else {f"look.{name}.grid": self._mat(grid)}))
            return {part: self._floats(run, f"look.{name}.{part}") for part in ("seen", "narrow", "heat")}

        marks, score = track(self._state, look)
        run = self._run({"look.picture": given})
        blobs = {name: self._extract(run, f"made.{name}", packed=True) for name in self._maps}
        small = np.array(self._extract(run, "made.small.plain"))
        face = score > FOUND
        if face:
            head = landmarks.head_frame(marks)
            for name in SQUARES:
                run = self._run({
                    "picture": blobs["picture"], f"{name}.grid": self._mat(landmarks.square_grid(name, head)),
                    f"{name}.dots": self._mat(landmarks.dots(name, marks, head)),
                })  # fmt: skip
                blobs[name] = self._extract(run, f"made.{name}", packed=True)
                blobs[f"{name}.stem"] = self._extract(run, f"made.{name}.stem", packed=True)
        return _Keyframe(blobs, small.reshape(3, 8, 8, 8, 8).mean((2, 4)) + np.float32(0.5), marks, face, self)

    def marks(
        self, key: _Keyframe, windows: Floats, motion: NDArray[np.int32] | None, sound: NDArray[np.float32] | None
    ) -> Floats:  # fmt: skip
        """Landmarks [N, 70, 2] of frames; see `tfcodec.model.marks.frame_marks`."""
        count = len(windows)
        state = np.full(count, ABSENT) if motion is None or not key.face else motion[:, NUMBERS]
        marks = np.empty((count, COUNT, 2), np.float32)
        reference = (key.marks + 1) * HALF
        for i in np.flatnonzero(state == ABSENT):
            marks[i] = landmarks.guess(self._state, key.marks, key.key8, windows[i])
        if motion is not None and (sent := np.flatnonzero(state != ABSENT)).size:
            marks[sent] = _placed(reference, motion[sent, :NUMBERS])
        if sound is not None and key.face and (heard := np.flatnonzero(state != SENT)).size:
            numbers = analyse(reference, (marks[heard] + 1) * HALF)
            said = lips.of_frames(sound[heard])
            alone, guessed = lips.relative(said, reference), state[heard] == ABSENT
            numbers[:, MOUTH_PART.numbers] = moved(reference, numbers, said, alone, guessed)
            marks[heard] = _placed(reference, numbers)
        return marks

    def frame(
        self, key: _Keyframe, window: Floats, marks: Floats, coarse: bool, displaced: Floats
    ) -> NDArray[np.uint8]:  # fmt: skip
        """A picture [256, 256, 3] uint8, or stage 1's of 64, of a window [5, 3, 8, 8] with its chroma refined, with
        ``displaced`` [2, 64, 64] in its flow."""
        hints = landmarks.draw(self._state, key.marks, marks)
        unit = np.float32(1 / FLOW_UNIT)
        now = window[NOW] - np.float32(0.5)
        error = 4 * (window[NOW] - key.key8)
        centred = key.key8 - np.float32(0.5)
        tiny = np.concatenate((window.reshape(-1, 8, 8) - np.float32(0.5), centred, error))
        given = {
            "tiny": tiny, "now": now, "error16": landmarks.enlarged(error, 16), "shape": hints.shape,
            "told": np.concatenate((hints.motion * unit, hints.cover, landmarks.enlarged(now, 64))),
            "drawn": np.concatenate((hints.shape * unit, hints.drawing)), "displaced": displaced,
        }  # fmt: skip
        head = landmarks.head_frame(marks)
        if key.face and not coarse:
            for name in SQUARES:
                given[f"{name}.place"] = landmarks.square_grid(name, head)
                given[f"{name}.now"] = landmarks.dots(name, marks, head)
        run = self._run(key.blobs | {name: self._mat(value) for name, value in given.items() if name in self._inputs})
        if coarse:
            return _pixels(self._floats(run, "coarse"))
        picture = self._floats(run, "frame")
        if key.face:
            for name in SQUARES:
                change = self._extract(run, f"made.{name}.change")
                if (where := landmarks.paste(name, head)) is not None:
                    pasting = self._run({"square": change, "paste": self._mat(where.grid)})
                    picture[:, where.rows, where.columns] += self._floats(pasting, "pasted")
        return _pixels(picture)

    def _run(self, given: Mapping[str, Any]) -> Any:
        run = self._net.create_extractor()
        for name, value in (*self._fixed.items(), *given.items()):
            if run.input(name, value):
                raise WeightsError(f"ncnn does not take {name}")
        return run

    def _extract(self, run: Any, name: str, packed: bool = False) -> Any:
        failed, value = run.extract(name, _PACKED if packed else 0)
        if failed:
            raise WeightsError(f"ncnn cannot compute {name} (error {failed}): there may be too little memory")
        return value

    def _floats(self, run: Any, name: str) -> Floats:
        return np.array(self._extract(run, name), np.float32)

    def _mat(self, value: Floats) -> Any:
        # ncnn's Mat of an array looks at its memory and does not keep it: the array has to live until it is cloned.
        array = np.ascontiguousarray(value, np.float32)
        return self._ncnn.Mat(array).clone()


def _placed(reference: Floats, numbers: NDArray[Any]) -> Floats:
    return np.asarray(synthesise(reference, numbers) / HALF - 1, np.float32)


def _pixels(picture: Floats) -> NDArray[np.uint8]:
    """[3, S, S] in -0.5..0.5 -> [S, S, 3] uint8."""
    picture += np.float32(0.5)
    np.clip(picture, 0, 1, out=picture)
    picture *= np.float32(255)
    return np.moveaxis(np.rint(picture, out=picture).astype(np.uint8), 0, -1)


def _fixed(inputs: Mapping[str, Any]) -> dict[str, Floats]:
    """The inputs that are always the same: where pixels are, and how close-ups fade out."""
    found = {}
    for name, blob in inputs.items():
        if name.startswith("grid"):
            found[name] = landmarks.identity(blob.height, blob.width)
        elif name.endswith(".fade"):
            found[name] = landmarks.fade(name.removesuffix(".fade"))
    return found


def _ncnn() -> Any:
    try:
        import ncnn
    except ImportError as error:
        raise MediaError(f"runtime=\"ncnn\" needs ncnn ({error}): pip install 'tfcodec[fast]'") from None
    return ncnn


def _load(net: Any, text: str, weights: bytes) -> None:
    # From a file: what is given in memory would have to stay there, which ncnn's Python interface does not see to.
    try:
        handle, path = tempfile.mkstemp(".bin", "tfcodec-")
    except OSError as error:
        raise _cannot_store(error) from None
    try:
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(weights)
        except OSError as error:
            raise _cannot_store(error) from None
        if net.load_param_mem(text) or net.load_model(path):
            raise WeightsError("ncnn does not take the network")
    finally:
        with contextlib.suppress(OSError):  # Windows keeps what is mapped into memory
            Path(path).unlink()


def _cannot_store(error: OSError) -> MediaError:
    where = error.filename or tempfile.gettempdir()
    return MediaError(f"ncnn reads weights from a temporary file, which cannot be written ({where}: {error.strerror})")


_loading = threading.Lock()


def load_net(entry: ModelEntry) -> Net:
    """A registered network, ready to draw; kept in memory for the next call, and the same for all threads."""
    with _loading:
        return _loaded(entry)


@lru_cache(maxsize=2)
def _loaded(entry: ModelEntry) -> Net:
    from safetensors import SafetensorError, safe_open

    _ncnn()
    path, *bases = weights_files(entry)
    try:
        with safe_open(path, framework="numpy") as file:
            config = NetworkConfig.from_json((file.metadata() or {}).get("config"))
            check(config, entry.title)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        for base in bases:
            with safe_open(base, framework="numpy") as file:
                missing = [name for name in file.keys() if name not in state]  # noqa: SIM118
                state |= {name: file.get_tensor(name) for name in missing}
        return Net(state)
    except TfcodecError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} does not hold weights of this network: {error}") from None
