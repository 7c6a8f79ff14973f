"""How exact the face metrics are: landmarks against those of another method, against themselves, and identity.

    python -m benchmarks.measure.face_meter

On `val`, every 25th frame. The other method's landmarks (a 478-point face mesh) come with the clips. How far the
meter's landmarks of a picture are from those of the same picture after JPEG, noise, blur or a shift is its own noise:
a mouth distance of that size means nothing. Distances are in inter-ocular units, means over frames.

The keyframe's compression alone already costs identity: the cosine of the decoded keyframe to the very frame that it
was made of is about the most that a decoder can keep.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import tfcodec
from benchmarks.common import clip_list, clips, data_folder, environment, read_clip, write
from tfcodec.metrics import faces
from tfcodec.metrics.pixels import psnr

EVERY = 25
SHIFT = (2.3, -1.7)
QUALITIES = (3, 5, 7, 10)


def disturbed(frame: NDArray[np.uint8], how: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    if how == "jpeg_35":
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 35])[1], 1))
    if how == "noise_5":
        return np.clip(frame + rng.normal(0, 5, frame.shape), 0, 255).astype(np.uint8)
    if how == "blur_1.5":
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), 1.5))
    move = np.array([[1, 0, SHIFT[0]], [0, 1, SHIFT[1]]])
    return np.asarray(cv2.warpAffine(frame, move, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE))


def keyframes(paths: list[Path], quality: int, meter: faces.FaceMeter) -> dict[str, float]:
    """First keyframes of the streams against the source frames nearest to them; means over clips."""
    rows = []
    for path in paths:
        stream = tfcodec.encode(path, quality=quality, refine=False)
        source, clip = read_clip(path), tfcodec.decode(stream, pixels=False)
        key = clip.keyframes[0][1]
        fidelity = psnr(np.broadcast_to(key, source.shape), source)
        both = np.stack((key, source[fidelity.argmax()]))
        landmarks = meter.landmarks(both)
        vectors = meter.identity(both, landmarks)
        rows.append((fidelity.max(), faces.identity_cosine(vectors[:1], vectors[1:])[0],
                     faces.mouth_distance(landmarks[:1], landmarks[1:])[0]))  # fmt: skip
    mean = np.nanmean(rows, 0)
    return {"psnr": round(float(mean[0]), 2), "identity_cosine": round(float(mean[1]), 4),
            "mouth_distance": round(float(mean[2]), 4)}  # fmt: skip


def main() -> None:
    meter, rng = faces.FaceMeter(), np.random.default_rng(0)
    marks = np.load(data_folder() / "landmarks_val.npz")
    paths = clips()
    frames, mesh, person = [], [], []
    for path in tqdm(paths, unit="clip"):
        clip = read_clip(path)[::EVERY]
        frames.append(clip)
        mesh.append(marks[path.stem][::EVERY][: len(clip), :68].astype(np.float64) / 16)
        person += [path.stem.split("_")[0]] * len(clip)
    pictures, other = np.concatenate(frames), np.concatenate(mesh)
    other[other[:, 0, 0] < 0] = np.nan
    own = meter.landmarks(pictures)

    def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float]:
        return {"mouth_distance": round(float(np.nanmean(faces.mouth_distance(a, b))), 4),
                "mouth_shape_distance": round(float(np.nanmean(faces.mouth_shape_distance(a, b))), 4)}  # fmt: skip

    # The methods place some points differently by design: that is the median offset, and no error.
    unit = faces.inter_ocular(other)[:, None, None]
    offset = np.nanmedian((own - other) / unit, 0)
    result: dict[str, Any] = {
        "environment": environment(), "clip_list": clip_list(paths), "frames": len(pictures),
        "faces_found": round(float(np.isfinite(own).all((1, 2)).mean()), 4),
        "against_face_mesh": distances(own, other),
        "against_face_mesh_without_median_offset": distances(own - offset * unit, other),
    }  # fmt: skip
    identity = meter.identity(pictures, own)
    noise = {}
    for how in ("jpeg_35", "noise_5", "blur_1.5", "shift"):
        changed = np.stack([disturbed(frame, how, rng) for frame in pictures])
        seen = meter.landmarks(changed)
        cosine = faces.identity_cosine(meter.identity(changed, seen), identity)
        back = seen - SHIFT if how == "shift" else seen
        noise[how] = {**distances(back, own), "identity_cosine": round(float(np.nanmean(cosine)), 4)}
    result["noise"] = noise

    who, cosines = np.array(person), identity @ identity.T
    pairs = np.array(list(combinations(range(len(who)), 2)))
    values = cosines[pairs[:, 0], pairs[:, 1]]
    same = who[pairs[:, 0]] == who[pairs[:, 1]]
    result["identity"] = {
        "same_person_mean": round(float(np.nanmean(values[same])), 4),
        "same_person_5th_percentile": round(float(np.nanpercentile(values[same], 5)), 4),
        "strangers_mean": round(float(np.nanmean(values[~same])), 4),
        "strangers_95th_percentile": round(float(np.nanpercentile(values[~same], 95)), 4),
    }
    result["keyframe_by_quality"] = {quality: keyframes(paths, quality, meter) for quality in QUALITIES}
    print({k: v for k, v in result.items() if k not in ("environment", "clip_list")})
    write("face_meter", result)


if __name__ == "__main__":
    main()
