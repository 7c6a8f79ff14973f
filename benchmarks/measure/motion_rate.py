"""Bits and errors of the motion layer alone, on the landmarks of the `val` clips.

    python -m benchmarks.measure.motion_rate [--quality 0 3 5 7 10]

Each clip is one keyframe group that begins at its first face, and is coded in file mode (payloads of up to 128 frames,
landmarks smoothed over two frames before and after) and in call mode (one payload a frame, smoothed with one frame of
look-ahead). Bits are whole payload bytes; `information` is what the range coder holds before it is rounded up to bytes,
by part of the face. Errors and correlations compare the landmarks that the decoded numbers make with the labels
(smoothed with two frames of look-ahead), within each clip: errors in inter-ocular distances, openings as Pearson's r.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.common import data_folder, environment, write
from benchmarks.search.fit_motion import FloatArray, eye_opening, mouth_opening
from tfcodec.motion import (
    BASES_SHA256,
    NUMBERS,
    PARTS,
    TABLES_SHA256,
    MotionDecoder,
    MotionEncoder,
    analyse,
    distance,
    smooth,
    synthesise,
)
from tfcodec.motion.geometry import HEAD
from tfcodec.tinyframe import MAX_FRAMES
from tfcodec.tinyframe.entropy import GroupContext, History, clip_score
from tfcodec.tinyframe.rangecoder import RangeEncoder
from tfcodec.tinyframe.rows import update
from tfcodec.tinyframe.search import Group

EYES_MOVE = 0.02  # standard deviation of the eyes' opening, inter-ocular distances
MIN_FRAMES = 10


class CountingEncoder(MotionEncoder):
    """Notes the information of every number, and of the flags that say whether a row holds any."""

    def __init__(self, quality: int, mode: str) -> None:
        super().__init__(quality, mode)  # type: ignore[arg-type]
        self.bits = np.zeros(NUMBERS)
        self.row_bits = 0.0

    def _write(self, coder: RangeEncoder, groups: list[Group], history: History) -> History:
        search, after = self._search, history.copy()
        zeros, ones = search._zeros, search._ones
        for group in groups:
            context = GroupContext(self._model, group.size, self._step, after)
            for row in group.rows:
                scores = context.scores()
                filled, score, sign, kind = scores
                at = clip_score(filled)
                self.row_bits += ones[at] if row.any() else zeros[at]
                for k in range(NUMBERS) if row.any() else ():
                    at, level = clip_score(int(score[k])), int(row[k])
                    if not level:
                        self.bits[k] += zeros[at]
                        continue
                    negative = clip_score(-int(sign[k]))
                    self.bits[k] += ones[at] + (ones[negative] if level < 0 else zeros[negative])
                    self.bits[k] += search._magnitude_cost(kind, k, at, abs(level))
                    update(self._model, scores, k, level)
                context.push(row)
            after.add(group.size, group.rows)
        return super()._write(coder, groups, history)


def load() -> dict[str, tuple[FloatArray, Any]]:
    """Landmarks [T, 70, 2] in pixels and presence [T] of every clip, from the first frame with a face on."""
    clips = {}
    with np.load(data_folder() / "landmarks_val.npz") as archive:
        for name in sorted(archive.files):
            labels = archive[name]
            present = (labels >= 0).all(axis=(1, 2))
            if present.sum() >= MIN_FRAMES:
                first = int(present.argmax())
                clips[name] = labels[first:].astype(np.float64) / 16, present[first:]
    return clips


def numbers_of(marks: FloatArray, present: Any) -> FloatArray:
    out = np.zeros((len(marks), NUMBERS))
    out[present] = analyse(marks[0], marks[present])
    return out


def correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def measure(marks: FloatArray, present: Any, mode: str, quality: int) -> tuple[dict[str, Any], FloatArray]:
    numbers = smooth(numbers_of(marks, present), present, ahead=2 if mode == "file" else 1)
    truth = smooth(marks.reshape(len(marks), -1), present).reshape(marks.shape)[present]
    encoder, decoder = CountingEncoder(quality, mode), MotionDecoder()
    part = MAX_FRAMES if mode == "file" else 1
    size, encoding, decoding, decoded = 0, 0.0, 0.0, []
    for start in range(0, len(marks), part):
        rows, there = numbers[start : start + part], present[start : start + part]
        t0 = time.perf_counter()
        payload = encoder.encode(rows, there)
        t1 = time.perf_counter()
        got, face = decoder.decode(payload, len(rows))
        t2 = time.perf_counter()
        if not np.array_equal(face, there):
            raise RuntimeError("presence came back wrong")
        decoded.append(got[face])
        size, encoding, decoding = size + len(payload), encoding + t1 - t0, decoding + t2 - t1
    shown = synthesise(marks[0], np.concatenate(decoded)).astype(np.float64)
    unit = distance(marks[0])
    error = np.linalg.norm(shown - truth, axis=-1).mean(axis=0) / unit
    return {
        "frames": len(marks),
        "bytes": size,
        "error": float(error.mean()),
        "part_error": {p.name: float(error[list(p.points)].mean()) for p in PARTS},
        "mouth_r": correlation(mouth_opening(shown), mouth_opening(truth)),
        "eye_r": correlation(eye_opening(shown), eye_opening(truth)),
        "eyes_move": bool(eye_opening(truth).std() > EYES_MOVE * unit),
        "encode_seconds": encoding,
        "decode_seconds": decoding,
        "row_bits": encoder.row_bits,
    }, encoder.bits


def summary(rows: list[dict[str, Any]], bits: FloatArray) -> dict[str, Any]:
    frames = sum(r["frames"] for r in rows)
    moving = [r["eye_r"] for r in rows if r["eyes_move"]]
    parts = {"head": slice(0, HEAD)} | {p.name: p.numbers for p in PARTS}
    information = {name: round(float(bits[part].sum()) / frames, 2) for name, part in parts.items()}
    information["rows"] = round(sum(r["row_bits"] for r in rows) / frames, 2)
    return {
        "bits_per_frame": round(8 * sum(r["bytes"] for r in rows) / frames, 2),
        "information": information | {"total": round(sum(information.values()), 2)},
        "error": round(float(np.mean([r["error"] for r in rows])), 4),
        "part_error": {p.name: round(float(np.mean([r["part_error"][p.name] for r in rows])), 4) for p in PARTS},
        "mouth_opening_r": round(float(np.mean([r["mouth_r"] for r in rows])), 3),
        "eye_opening_r": round(float(np.mean([r["eye_r"] for r in rows])), 3),
        "eye_opening_r_moving": round(float(np.mean(moving)), 3),
        "clips_with_moving_eyes": len(moving),
        "encode_ms_per_frame": round(1000 * sum(r["encode_seconds"] for r in rows) / frames, 2),
        "decode_ms_per_frame": round(1000 * sum(r["decode_seconds"] for r in rows) / frames, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=int, nargs="+", default=[0, 3, 5, 7, 10])
    parser.add_argument("--dry", action="store_true", help="print, but write no result")
    options = parser.parse_args()
    clips, results = load(), {}
    for quality in options.quality:
        for mode in ("file", "call"):
            measured = [measure(*clip, mode, quality) for clip in clips.values()]
            results[f"{mode}, quality {quality}"] = result = summary(
                [r for r, _ in measured], np.sum([b for _, b in measured], axis=0)
            )
            print(f"{mode}, quality {quality}: {result}", flush=True)
    if not options.dry:
        write(
            "motion_rate",
            {
                "environment": environment(),
                "bases": BASES_SHA256,
                "tables": TABLES_SHA256,
                "clips": {name: len(marks) for name, (marks, _) in clips.items()},
                "results": results,
            },
        )


if __name__ == "__main__":
    main()
