"""What the lips network learns from, in one folder: log-mel of coded speech, the teacher's states, the mouth's numbers.

    items.json   [kind, person, name, first frame, frames] of every item: "train" and "val" clips, "speech" without
                 pictures
    mel.npy      [versions, 4 N, 80] uint8: log-mel (0...255 for -1...1) of the speech, coded at `QUALITIES`; a `val`
                 clip's always at 5
    states.npy   [2 N, STATES] float16: the teacher's hidden states, 50 a second, as principal components of variance 1
    mouth.npy    [M, 5] float32 for the M frames of clips: numbers of the mouth in inter-ocular units, relative to the
                 mean of the clip's landmarks, and the gap of the inner lips (`tfcodec.metrics.faces.mouth_opening`);
                 NaN where no face was found

The teacher is an ONNX file of a Whisper encoder that takes 8 s of log-mel `input_features` [1, 80, 800], such as
`smart-turn-v3.2-cpu.onnx` in the wheel of pipecat-ai 1.14.0 (BSD-2-Clause). It is needed here alone.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import MediaError, WeightsError
from ..files import write_atomically
from ..media.frames import opened
from ..media.sound import SoundTrack
from ..metrics.faces import mouth_opening
from ..model.inputs import MEL_BANDS, MEL_PER_FRAME
from ..model.logmel import log_mel, mel_bank
from ..model.mouth import MOUTH_NUMBERS, MOUTH_PART, key_features
from ..motion import UNIT, analyse
from ..rates import SAMPLE_RATE
from ..speech import decode_speech, encode_speech
from .compact import mel_to_bytes

VERSIONS = 2
QUALITIES = (2, 8)
"""Lowest and highest speech quality that the network hears in training."""
STATES = 192
LAYERS = ("add_268", "add_390")
"""What comes out of the second and third block of the teacher: its tensors of this name."""
FRAME_SAMPLES = SAMPLE_RATE // 25
MIN_FRAMES = 12
_WIDTH = 384
_WINDOW, _HOP = 8 * SAMPLE_RATE, SAMPLE_RATE // 50  # of the teacher, samples
_MARGIN, _GAP = SAMPLE_RATE // 2, SAMPLE_RATE // 5

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """One sound: a clip's or a recording's; frames `first` ... `first + frames - 1` of the folder's arrays."""

    kind: str
    person: str
    name: str
    first: int
    frames: int


def read_sound(path: Path, frames: int) -> Floats | None:
    """The sound of a clip from its first picture on, or a recording's, [640 * frames] float32; None without any."""
    track = SoundTrack()
    start = Fraction(0)
    with path.open("rb") as file, opened(file, str(path)) as container:
        if not container.streams.audio:
            return None
        if container.streams.video:
            video = container.streams.video[0]
            start = (video.start_time or 0) * Fraction(video.time_base or 1)
        for frame in container.decode(container.streams.audio[0]):
            track.add(frame)
    return track.aligned(start, Fraction(frames, 25))


def coded_mel(sound: Floats, quality: int) -> NDArray[np.uint8]:
    """Log-mel `[4 * frames, 80]` as bytes of what a decoder hears."""
    return mel_to_bytes(log_mel(decode_speech(encode_speech(sound, quality)), len(sound) // FRAME_SAMPLES))


class SpeechTeacher:
    """The hidden states of a Whisper encoder in ONNX."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        # Two serialised messages one after the other are one message with the fields of both (Protocol Buffers,
        # "last one wins, repeated fields are joined"): so outputs are added without the package onnx.
        model = path.read_bytes() + b"".join(_onnx_output(name) for name in LAYERS)
        try:
            self._session = onnxruntime.InferenceSession(model, options)
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise WeightsError(f"{path} is no ONNX file with tensors {', '.join(LAYERS)}: {error}") from None

    def states(self, window: Floats) -> Floats:
        """`[n <= 128000]` samples -> `[400, 768]`; state `j` stands for the time `20 j` ms."""
        features = whisper_mel(window)[None]
        parts = self._session.run(list(LAYERS), {"input_features": features})
        return np.concatenate([part[0] for part in parts], 1).astype(np.float32)

    def of_sounds(self, sounds: list[Floats]) -> list[Floats]:
        """States `[2 * frames, 768]` of sounds of one person: short ones share a window, long ones take several."""
        out = [np.zeros((len(s) // _HOP, _WIDTH * len(LAYERS)), np.float32) for s in sounds]
        waiting: list[tuple[int, int]] = []  # (which, where its first sample is in the window)
        window = np.zeros(_WINDOW, np.float32)
        used = 0

        def run() -> None:
            if waiting:
                states = self.states(window)
                for which, at in waiting:
                    begin = at // _HOP
                    out[which][:] = states[begin : begin + len(out[which])]
            waiting.clear()
            window[:] = 0

        for which, sound in enumerate(sounds):
            if len(sound) > _WINDOW:
                self._long(sound, out[which])
                continue
            if used + len(sound) > _WINDOW:
                run()
                used = 0
            window[used : used + len(sound)] = sound
            waiting.append((which, used))
            used += -(-(len(sound) + _GAP) // _HOP) * _HOP
        run()
        return out

    def _long(self, sound: Floats, out: Floats) -> None:
        step = _WINDOW - 2 * _MARGIN
        for begin in range(0, max(1, len(sound) - 2 * _MARGIN), step):
            begin = max(0, min(begin, len(sound) - _WINDOW)) // _HOP * _HOP
            states = self.states(sound[begin : begin + _WINDOW])
            at, skip = begin // _HOP, _MARGIN // _HOP if begin else 0
            part = states[skip : len(out) - at]
            out[at + skip : at + skip + len(part)] = part


def _onnx_output(name: str) -> bytes:
    value = b"\x0a" + bytes([len(name)]) + name.encode()  # ValueInfoProto.name
    graph = b"\x62" + bytes([len(value)]) + value  # GraphProto.output
    return b"\x3a" + bytes([len(graph)]) + graph  # ModelProto.graph


def whisper_mel(sound: Floats) -> Floats:
    """Log-mel `[80, 800]` as Whisper takes it, of at most 8 s: power in mel bands, log10, within 8 of its maximum."""
    from scipy.fft import rfft

    whole = np.zeros(_WINDOW, np.float32)
    whole[: len(sound)] = sound
    whole = (whole - whole.mean()) / np.sqrt(whole.var() + 1e-7)
    padded = np.pad(whole, 200, mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:800]
    power = np.abs(rfft(views * np.hanning(401)[:-1].astype(np.float32), axis=1)) ** 2
    level = np.log10(np.maximum(power @ _whisper_bank(), 1e-10))
    return ((np.maximum(level, level.max() - 8) + 4) / 4).T.astype(np.float32)


def _whisper_bank() -> Floats:
    bank, widths = mel_bank(400)
    return (bank * 2 / widths).astype(np.float32)


# The folder


def find_items(data: Path) -> list[tuple[Item, Path]]:
    """Train and val clips and recordings of `data`, each with its file; silent clips are left out."""
    found: list[tuple[Item, Path]] = []
    first = 0

    def add(kind: str, person: str, path: Path, frames: int) -> None:
        nonlocal first
        if frames >= MIN_FRAMES:
            found.append((Item(kind, person, path.stem, first, frames), path))
            first += frames

    marks = read_landmarks(data)
    with (data / "manifest.tsv").open(newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            key = line["clip"].removesuffix(".mp4")
            if line["audio"] == "audio" and key in marks:
                add(line["split"], line["person"], data / line["split"] / line["clip"], len(marks[key]))
    if (data / "speech" / "manifest.tsv").is_file():
        with (data / "speech" / "manifest.tsv").open(newline="") as file:
            for line in csv.DictReader(file, delimiter="\t"):
                name = line["file"]
                add("speech", name.split("_")[0], data / "speech" / name, int(float(line["seconds"]) * 25 - 0.5))
    if not found:
        raise MediaError(f"{data} holds no clips with speech")
    return found


def read_landmarks(data: Path) -> dict[str, Floats]:
    """Landmarks [frames, 70, 2] in pixels of all clips; negative where no face was found."""
    marks: dict[str, Floats] = {}
    for path in sorted(data.glob("landmarks_*.npz")):
        with np.load(path) as file:
            marks |= {key: file[key].astype(np.float32) / 16 for key in file.files}
    return marks


def write_items(folder: Path, items: list[Item]) -> None:
    rows = [[i.kind, i.person, i.name, i.first, i.frames] for i in items]
    write_atomically(folder / "items.json", json.dumps(rows).encode())


def read_items(folder: Path) -> list[Item]:
    try:
        return [Item(*row) for row in json.loads((folder / "items.json").read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise MediaError(f"{folder} holds no prepared speech ({error})") from None


def _by_person(found: list[tuple[Item, Path]], at_a_time: int) -> Iterator[list[tuple[Item, Path]]]:
    part: list[tuple[Item, Path]] = []
    for pair in found:
        if part and (part[0][0].person != pair[0].person or len(part) == at_a_time):
            yield part
            part = []
        part.append(pair)
    if part:
        yield part


def write_sound(data: Path, folder: Path, teacher: Path | None, seed: int = 0) -> None:
    """Write items.json, mel.npy and, given a teacher, states.npy."""
    found = find_items(data)
    total = found[-1][0].first + found[-1][0].frames
    rng = np.random.default_rng(seed)
    mel = _store(folder / "mel.npy", np.uint8, (VERSIONS, MEL_PER_FRAME * total, MEL_BANDS))
    network = SpeechTeacher(teacher) if teacher is not None else None
    states = _store(folder / "states.npy", np.float16, (2 * total, STATES)) if network else None
    project: Callable[[Floats], Floats] | None = None
    held: list[tuple[Item, Floats]] = []
    bar = tqdm(total=total // 25, desc="speech", unit="s")
    for part in _by_person(found, 48):
        sounds = []
        for item, path in part:
            sound = read_sound(path, item.frames)
            sounds.append(np.zeros(item.frames * FRAME_SAMPLES, np.float32) if sound is None else sound)
            at = slice(MEL_PER_FRAME * item.first, MEL_PER_FRAME * (item.first + item.frames))
            for version in mel:
                quality = 5 if item.kind == "val" else int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
                version[at] = coded_mel(sounds[-1], quality)
            bar.update(item.frames // 25)
        if network is None or states is None:
            continue
        # The clips come first: their states say which components are kept.
        held += zip([item for item, _ in part], network.of_sounds(sounds), strict=True)
        if project is None and part[0][0].kind == "speech":
            project = components(np.concatenate([s for i, s in held if i.kind == "train"]))
        if project is not None:
            for item, values in held:
                states[2 * item.first : 2 * (item.first + item.frames)] = project(values)
            held.clear()
    if states is not None and held:
        project = components(np.concatenate([s for i, s in held if i.kind == "train"]))
        for item, values in held:
            states[2 * item.first : 2 * (item.first + item.frames)] = project(values)
    bar.close()
    write_items(folder, [item for item, _ in found])


def components(states: Floats) -> Callable[[Floats], Floats]:
    """Principal components of states [n, 768], each dimension of which counts alike, scaled to variance 1."""
    mean, scale = states.mean(0), states.std(0) + 1e-6
    unit = (states - mean) / scale
    values, vectors = np.linalg.eigh(unit.T @ unit / len(unit))
    matrix = (vectors[:, ::-1][:, :STATES] / np.sqrt(values[::-1][:STATES])).astype(np.float32)
    return lambda s: ((s - mean) / scale) @ matrix


def write_mouths(data: Path, folder: Path) -> None:
    """Write mouth.npy."""
    items = [item for item in read_items(folder) if item.kind != "speech"]
    out = np.full((items[-1].first + items[-1].frames, MOUTH_NUMBERS + 1), np.nan, np.float32)
    marks = read_landmarks(data)
    for item in items:
        points = marks[item.name][: item.frames]
        seen = np.flatnonzero((points >= 0).all((1, 2)))
        if len(seen) >= MIN_FRAMES:
            out[item.first + seen] = mouth_of(points[seen])
    partial = folder / "mouth.partial.npy"
    np.save(partial, out)
    os.replace(partial, folder / "mouth.npy")


def mouth_of(marks: Floats) -> Floats:
    """Landmarks [T, 70, 2] in pixels -> [T, 5]: what mouth.npy holds."""
    numbers = analyse(mean_face(marks), marks)[:, MOUTH_PART.numbers] / UNIT
    return np.concatenate([numbers, mouth_opening(marks[:, :68].astype(np.float64))[:, None]], 1).astype(np.float32)


def mean_face(marks: Floats) -> Floats:
    """Mean [70, 2] of landmarks [T, 70, 2] after each frame was shifted, turned and scaled to lie best on it."""
    points = marks[..., 0] + 1j * marks[..., 1]
    centred = points - points.mean(1, keepdims=True)
    mean = centred[len(centred) // 2]
    for _ in range(3):
        turn = (centred.conj() @ mean) / (np.abs(centred) ** 2).sum(1)
        mean = (turn[:, None] * centred).mean(0)
    mean = mean + points.mean()
    return np.stack([mean.real, mean.imag], -1).astype(np.float32)


def fit_key(
    marks: dict[str, Floats], items: list[Item], mouth: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """A mean face [70, 2] in inter-ocular units, and the map [6, 4] of `Lips.key`, by least squares on single frames.

    ``mouth`` is mouth.npy.
    """
    whole = [(i, marks[i.name][: i.frames]) for i in items]
    whole = [(i, points) for i, points in whole if (points >= 0).all()]
    face = np.mean([_upright(mean_face(points)) for _, points in whole], 0).astype(np.float32)
    x, y = [], []
    for item, points in whole:
        states = mouth[item.first : item.first + item.frames, :MOUTH_NUMBERS]
        for k in rng.choice(item.frames, min(item.frames, 3 if item.frames < 64 else 12), replace=False):
            x.append(key_features(face, points[k]))
            y.append(states[k] - states.mean(0))
    return face, np.linalg.lstsq(np.array(x), np.array(y), rcond=None)[0].astype(np.float32)


def _upright(marks: Floats) -> Floats:
    eyes = marks[42:48].mean(0) - marks[36:42].mean(0)
    length = float(np.hypot(*eyes))
    x, y = eyes / length
    return (marks - marks.mean(0)) @ np.array([[x, -y], [y, x]]) / length


def _store(path: Path, kind: Any, shape: tuple[int, ...]) -> Any:
    return np.lib.format.open_memmap(path, "w+", kind, shape)
