"""The face tracker on `val`, against the labels: sources, decoded keyframes, faces turned and of other sizes, no faces.

    python -m benchmarks.measure.tracker_val [--weights FILE] [--every 5] [--name tracker_val]

Errors are in eye distances (between the middles of the eyes). Openings (mean gaps of the inner lips; of the lids of
both eyes) are correlated with the labels' within each clip, then averaged over clips; eyes over the clips whose eyes
move: those where the labels' opening has a standard deviation of more than 0.01 eye distances. `--every` skips frames
in the tests on changed pictures alone; tracking itself sees every frame.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import clip_list, clips, data_folder, environment, read_clip, write
from tfcodec.codec import policy
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.model.registry import default_model
from tfcodec.model.tracker import FOUND, FaceTracker, eye_distances, read_tracker
from tfcodec.model.tracking import CALL, FILE, default_tracker, find, smooth
from tfcodec.training.tracker import EYES_MOVE, agreement

Frames = NDArray[np.uint8]
QUALITY = 5
TARGETS = {"error": 0.035, "mouth_r": 0.93, "eye_r": 0.90}


def changed(frames: Frames, angle: float, size: float) -> tuple[Frames, NDArray[np.float32]]:
    """Frames turned (degrees) and scaled about their middle, and the matrix [2, 3] for their landmarks."""
    move = cv2.getRotationMatrix2D((127.5, 127.5), angle, size)
    out = [cv2.warpAffine(frame, move, (256, 256), borderMode=cv2.BORDER_REPLICATE) for frame in frames]
    # OpenCV counts from the middle of the first pixel.
    shift = move[:, 2] + 0.5 - move[:, :2] @ np.array([0.5, 0.5])
    return np.stack(out), np.column_stack((move[:, :2], shift)).astype(np.float32)


def no_faces(frames: Frames, marks: NDArray[np.float32], rng: np.random.Generator) -> Frames:
    """Of each frame: tiles of 32 pixels in another order, and, where one is free of landmarks, a corner, enlarged."""
    out = []
    for frame, points in zip(frames, marks, strict=True):
        tiles = frame.reshape(8, 32, 8, 32, 3).swapaxes(1, 2).reshape(64, 32, 32, 3)[rng.permutation(64)]
        out.append(tiles.reshape(8, 8, 32, 32, 3).swapaxes(1, 2).reshape(256, 256, 3))
        free = [x for x in (0, 176) if not (np.abs(points - [x + 40, 40]) < 48).all(1).any()]
        out += [cv2.resize(frame[:80, x : x + 80], (256, 256)) for x in free]
    return np.stack(out)


def jitter(marks: NDArray[np.float32]) -> float:
    """Mean length of second differences in time, in eye distances."""
    size = eye_distances(torch.from_numpy(marks)).numpy()[1:-1, None]
    return float((np.linalg.norm(np.diff(marks, 2, axis=0), axis=-1) / size).mean())


def error(found: NDArray[np.float32], marks: NDArray[np.float32]) -> float:
    size = eye_distances(torch.from_numpy(marks)).numpy()[:, None]
    return float((np.linalg.norm(found - marks, axis=-1) / size).mean())


def cost(tracker: FaceTracker) -> dict[str, float]:
    picture = torch.rand(16, 3, 256, 256)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tracker(picture[:1])
    times = []
    with torch.no_grad():
        for _ in range(6):
            begin = time.perf_counter()
            tracker(picture)
            times.append((time.perf_counter() - begin) / 16 * 1000)
    return {
        "parameters": sum(p.numel() for p in tracker.parameters()), "gflop": counter.get_total_flops() / 1e9,
        "ms_a_frame_batch_16": min(times), "threads": torch.get_num_threads(),
    }  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", type=Path, help="default: that of the newest network")
    p.add_argument("--every", type=int, default=5)
    p.add_argument("--name", default="tracker_val")
    args = p.parse_args()
    tracker = read_tracker(args.weights) if args.weights else default_tracker()
    weights = {"file": default_model().file, "sha256": default_model().sha256}
    if args.weights:
        weights = {"file": args.weights.name, "sha256": hashlib.sha256(args.weights.read_bytes()).hexdigest()}
    labels = np.load(data_folder() / "landmarks_val.npz")
    rng = np.random.default_rng(0)
    tracks: dict[str, list[NDArray[np.float32]]] = {"frame": [], "file": [], "call": []}
    wanted, ends, jitters = [], [0], []
    found_share, false_alarms, not_faces = [], 0, 0
    other: dict[str, list[float]] = {}
    rows = []
    for clip in clips():
        frames = read_clip(clip)
        marks = labels[clip.stem][: len(frames)].astype(np.float32) / 16
        raw, scores = find(frames, tracker)
        found = scores > FOUND
        now = {"frame": raw, "file": smooth(raw, found, FILE), "call": smooth(raw, found, CALL)}
        for name, points in now.items():
            tracks[name].append(points)
        wanted.append(marks)
        ends.append(ends[-1] + len(marks))
        jitters.append([jitter(x) for x in (marks, *now.values())])
        found_share.append(float(found.mean()))
        row: dict[str, Any] = {"clip": clip.name, "found": found_share[-1]}
        row |= agreement(torch.from_numpy(now["file"]), torch.from_numpy(marks), [(0, len(marks))])
        key = policy.choose_keyframe([policy.signature(f) for f in frames], list(frames))
        for quality in (0.0, policy.keyframe_quality(QUALITY, len(frames))):
            decoded = decode_keyframe(encode_keyframe(frames[key], quality))
            points, score = find(decoded[None], tracker)
            name = "keyframe, least quality" if quality == 0 else f"keyframe, quality {QUALITY}"
            other.setdefault(name, []).append(error(points, marks[key : key + 1]))
            found_share.append(float(score[0] > FOUND))
        some = slice(None, None, args.every)
        for angle, size in ((15.0, 1.0), (-25.0, 1.0), (0.0, 0.7), (0.0, 1.3)):
            pictures, move = changed(frames[some], angle, size)
            points, _ = find(pictures, tracker)
            name = f"turned by {angle:g} degrees" if angle else f"{size:g} times as large"
            other.setdefault(name, []).append(error(points, marks[some] @ move[:, :2].T + move[:, 2]))
        _, score = find(no_faces(frames[some], marks[some], rng), tracker)
        false_alarms, not_faces = false_alarms + int((score > FOUND).sum()), not_faces + len(score)
        rows.append(row)
        print(clip.name, {k: round(v, 3) for k, v in row.items() if k != "clip"}, flush=True)
    spans = list(pairwise(ends))
    truth = torch.from_numpy(np.concatenate(wanted))
    result: dict[str, Any] = {
        name: agreement(torch.from_numpy(np.concatenate(x)), truth, spans) for name, x in tracks.items()
    }
    names = ("labels", *tracks)
    result["jitter"] = {n: float(v) for n, v in zip(names, np.mean(jitters, 0), strict=True)}
    summary = {
        "weights": weights,
        "targets": TARGETS, "eyes_move": EYES_MOVE, **result,
        "other_pictures": {name: float(np.mean(values)) for name, values in other.items()},
        "found": float(np.mean(found_share)), "false_alarms": false_alarms, "pictures_without_a_face": not_faces,
        "cost": cost(tracker),
    }  # fmt: skip
    for name, value in summary.items():
        print(name, value)
    write(args.name, {"environment": environment(), "summary": summary, "clips": rows, "sources": clip_list(clips())})


if __name__ == "__main__":
    main()
