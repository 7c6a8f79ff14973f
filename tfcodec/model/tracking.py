"""Following a face through the frames of a clip or a call: the tracker, frame by frame, smoothed in time.

Smoothing has no lag: a frame's landmarks are a weighted mean of its own and those of the frames beside it, so that in
calls they are known when the next frame is there. Lips and lids move from one frame to the next, so that they are
smoothed least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import MediaError, WeightsError
from . import graph
from .blocks import from_pixels
from .landmarks import COUNT
from .registry import default_model
from .threads import side_by_side
from .tracker import FOUND, FaceTracker
from .weights import load_model

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]
Weights = Mapping[tuple[int, ...], tuple[float, ...]]

_BATCH = 16
_DEVICE_BATCH = 128
"""Of a graphics card."""
_SIZE = 256
_JUMP = 0.35
"""How far the landmarks may go between frames, in eye distances: the mean of all, beyond which it is another scene."""
_EYES = (*range(36, 48), 68, 69)
_MOUTH = tuple(range(48, 68))
_HEAD = tuple(range(36))
GROUPS = (_HEAD, _MOUTH, _EYES)
"""Landmarks that are smoothed alike: jaw, brows and nose; lips; lids and irises."""

FILE: Weights = {_HEAD: (0.25,), _MOUTH: (0.1,), _EYES: (0.1,)}
"""Weights of the frames at a distance of 1, 2, ... to either side, by group of landmarks; the rest is the frame's own.
These are for files, where all frames are known. More smoothing than this takes openings further from the labels, which
follow every frame; this takes away a third of the jitter for nothing (`benchmarks/search/tracker_smoothing.py`)."""
CALL: Weights = FILE
"""... with one frame to come: none of those weights asks for more."""
RAW: Weights = {}


def runs(marks: Points, found: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the run that each frame belongs to, [T]: of frames in a row with a face that goes on from the last."""
    number = np.zeros(len(marks), np.int64)
    for t in range(1, len(marks)):
        number[t] = number[t - 1] + (not (found[t] and found[t - 1] and _goes_on(marks[t - 1], marks[t])))
    return number


def _goes_on(before: Points, after: Points) -> bool:
    size = float(np.linalg.norm(before[36:42].mean(0) - before[42:48].mean(0)))
    return float(np.linalg.norm(after - before, axis=-1).mean()) < _JUMP * size


def smooth(marks: Points, found: NDArray[np.bool_], weights: Weights = FILE) -> Points:
    """Landmarks [T, 70, 2] smoothed within each run of frames with a face.

    Frames to one side count only with those to the other: what moves evenly is left as it is, at a run's ends too.
    """
    number, out, every = runs(marks, found), marks.copy(), np.arange(len(marks))
    for group, kernel in weights.items():
        points = marks[:, list(group)]
        total = points.astype(np.float64)
        for distance, weight in enumerate(kernel, 1):
            before, after = np.maximum(every - distance, 0), np.minimum(every + distance, len(marks) - 1)
            whole = (after - before == 2 * distance) & (number[before] == number[after])
            bend = points[before] - 2 * points + points[after]
            total += weight * whole[:, None, None] * bend
        out[:, list(group)] = total
    return out


def default_tracker(device: str = "cpu") -> FaceTracker:
    """The tracker that comes with the newest network, on one of torch's devices. Raises WeightsError when its weights
    are not there."""
    tracker = load_model(default_model(), device).tracker
    if tracker is None:
        raise WeightsError("the newest network here comes without a face tracker")
    return tracker


Looking = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What a tracker does: pictures [B, 3, 256, 256] in 0..1 -> landmarks [B, 70, 2] in -1..1 and scores [B]."""
_recorded: WeakKeyDictionary[FaceTracker, Looking | None] = WeakKeyDictionary()


def recorded(tracker: FaceTracker, *sizes: int) -> Looking:
    """A tracker on a processor as a graph, which finds the same landmarks in four fifths of the time.

    Takes half a second; made once, and shared by all threads. ``sizes``: numbers of pictures that it will be given at
    once, for which it is made ready. Where this torch records no graphs, or the tracker is elsewhere, it is the tracker
    itself.
    """
    with graph.recording:
        if tracker not in _recorded:
            _recorded[tracker] = _record(tracker, *sizes)
        return _recorded[tracker] or tracker


def _record(tracker: FaceTracker, *sizes: int) -> Looking | None:
    if next(tracker.parameters()).device.type != "cpu":
        return None
    pictures = torch.zeros(max(1, *sizes), 3, _SIZE, _SIZE, dtype=torch.float32, device="cpu")
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        looking = graph.traced(tracker, [pictures])
        if looking is None:
            return None
        for size in sizes:
            for _ in range(graph.WARM_UP):
                looking(pictures[:size])

    def look(pictures: Tensor) -> tuple[Tensor, Tensor]:
        marks, scores = looking(pictures)
        return marks, scores

    return look


def find(
    frames: Frames, tracker: FaceTracker | None = None, work: Looking | None = None
) -> tuple[Points, NDArray[np.float32]]:
    """Landmarks [T, 70, 2] in pixels and scores [T] of frames [T, 256, 256, 3] uint8, each by itself.

    ``work``: what does the tracker's work in its place, as `recorded`.

    Raises MediaError on frames of another shape or type, WeightsError when there are no weights.
    """
    if frames.ndim != 4 or frames.shape[1:] != (_SIZE, _SIZE, 3) or frames.dtype != np.uint8:
        raise MediaError(f"the face tracker needs [T, 256, 256, 3] uint8 frames, got {frames.shape} {frames.dtype}")
    tracker = default_tracker() if tracker is None else tracker
    device = next(tracker.parameters()).device
    work = tracker if work is None else work
    marks, scores = np.empty((len(frames), COUNT, 2), np.float32), np.empty(len(frames), np.float32)

    def look(first: int) -> None:
        some = slice(first, first + size)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            points, score = work(from_pixels(torch.from_numpy(np.ascontiguousarray(frames[some])).to(device)))
        marks[some], scores[some] = ((points + 1) * (_SIZE / 2)).cpu().numpy(), score.cpu().numpy()

    size = _BATCH if device.type == "cpu" else _DEVICE_BATCH
    side_by_side(look, range(0, len(frames), size))
    return marks, scores


def track(
    frames: Frames, tracker: FaceTracker | None = None, ahead: int | None = None
) -> tuple[Points, NDArray[np.bool_]]:  # fmt: skip
    """Landmarks [T, 70, 2] in pixels of the face in frames [T, 256, 256, 3] uint8, and whether it was found, [T].

    ``ahead``: how many frames to come are known: None all, as in files; 1 as in calls; 0 none, so that
    nothing is smoothed. Landmarks mean nothing where no face was found. Raises as `find`.
    """
    marks, scores = find(frames, tracker)
    found = scores > FOUND
    return smooth(marks, found, FILE if ahead is None else CALL if ahead else RAW), found
