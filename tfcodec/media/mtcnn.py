"""MTCNN, the face detector, run by torch on the weights that the `mtcnn` package carries.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016).
The package's own code needs TensorFlow; its three small networks are run here instead, so that only its
weight files are used (2 MB, MIT). Thresholds and box arithmetic follow the package, version 1.0.0.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfcodec.errors import MediaError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

_SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
_THRESHOLDS = (0.6, 0.7, 0.8)
_PYRAMID_STEP = 0.709  # about 1/sqrt(2)
_CELL = 12  # the proposal network looks at 12x12 pixels, one step is 2 pixels
_MAX_PROPOSALS = 100


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the picture it was found in."""

    score: float
    box: tuple[float, float, float, float]  # left, top, right, bottom
    points: Floats  # [5, 2]: eye, eye, nose tip, mouth corner, mouth corner; x, y; left in the picture first


class DetectorMissing(MediaError):
    """The face detector is not installed."""


class Detector:
    """Finds faces. `Detector()(picture)` -> list of Face, best first. Raises MediaError without the `face` extra.

    `device` is where it looks, as torch calls it.
    """

    def __init__(self, device: str = "cpu") -> None:
        import torch

        folder = _weights_folder()
        self._device = torch.device(device)
        self._nets = {name: [torch.from_numpy(w).to(self._device) for w in _load(folder, name)] for name in _SHA256}

    def __call__(self, picture: Picture, min_face: float = 20.0) -> list[Face]:
        """Faces at least `min_face` pixels wide in `picture`, [H, W, 3] uint8 RGB."""
        import torch

        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            image = torch.from_numpy(np.array(picture)).to(self._device).permute(2, 0, 1)[None].float()
            image = (image - 127.5) / 128
            boxes = self._propose(image, min_face)
            if not len(boxes):
                return []
            scores, offsets, _ = self._refine(image, boxes, "rnet", 24)
            boxes = _filtered(boxes, scores, offsets, _THRESHOLDS[1])
            boxes = _square(boxes[_suppress(boxes, 0.7)])
            if not len(boxes):
                return []
            scores, offsets, points = self._refine(image, boxes, "onet", 48)
            keep = scores > _THRESHOLDS[2]
            width, height = _sides(boxes)
            xs = points[:, :5] * width[:, None] + boxes[:, 0:1] - 1
            ys = points[:, 5:] * height[:, None] + boxes[:, 1:2] - 1
            landmarks = np.stack([xs, ys], axis=2)[keep]
            boxes = _filtered(boxes, scores, offsets, _THRESHOLDS[2])
            order = _suppress(boxes, 0.7, of_smaller=True)
        faces = []
        for i in order:
            left, top, right, bottom, score = (float(value) for value in boxes[i])
            faces.append(Face(score, (left, top, right, bottom), landmarks[i]))
        return faces

    def _propose(self, image: torch.Tensor, min_face: float) -> Floats:
        import torch.nn.functional as F

        found = []
        scale = _CELL / min_face
        while min(image.shape[2:]) * scale >= _CELL:
            size = [max(_CELL, round(side * scale)) for side in image.shape[2:]]
            level = F.interpolate(image, size=size, mode="bilinear", antialias=True)
            score, offset = _pnet(level, self._nets["pnet"])
            score_map = score.cpu().numpy()
            rows, columns = np.nonzero(score_map > _THRESHOLDS[0])
            corner = np.stack([columns, rows], axis=1) * 2.0
            boxes = np.concatenate([corner, corner + _CELL], axis=1)
            boxes += offset.cpu().numpy()[:, rows, columns].T * _CELL
            ratio = np.array([image.shape[3] / size[1], image.shape[2] / size[0]] * 2)
            boxes = np.concatenate([boxes * ratio, score_map[rows, columns, None]], axis=1).astype(np.float32)
            found.append(boxes[_suppress(boxes, 0.5)])
            scale *= _PYRAMID_STEP
        if not found:
            return np.zeros((0, 5), np.float32)
        boxes = np.concatenate(found)
        return _square(boxes[_suppress(boxes, 0.7)][:_MAX_PROPOSALS])

    def _refine(self, image: torch.Tensor, boxes: Floats, net: str, size: int) -> tuple[Floats, Floats, Floats]:
        """(score [n], box offsets [n, 4], landmarks [n, 10] or [n, 0]) for the picture inside each box."""
        import torch
        import torch.nn.functional as F

        height, width = image.shape[2:]
        patches = []
        for left, top, right, bottom in np.rint(boxes[:, :4]).astype(int):
            x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
            if x1 <= x0 or y1 <= y0:
                patches.append(torch.zeros(1, 3, size, size, dtype=torch.float32, device=self._device))
                continue
            inside = image[:, :, y0:y1, x0:x1]
            outside = (x0 - left, right - x1, y0 - top, bottom - y1)  # beyond the picture: the mean grey, 0
            patches.append(F.interpolate(F.pad(inside, outside), size=(size, size), mode="bilinear", antialias=True))
        run = _rnet if net == "rnet" else _onet
        scores, offsets, points = run(torch.cat(patches), self._nets[net])
        return scores.cpu().numpy(), offsets.cpu().numpy(), points.cpu().numpy()


def _conv(x: torch.Tensor, w: list[torch.Tensor], at: int) -> torch.Tensor:
    """Convolution and PReLU from the three arrays beginning at `at`, in TensorFlow's order."""
    import torch.nn.functional as F

    x = F.conv2d(x, w[at].permute(3, 2, 0, 1), w[at + 1])
    return F.prelu(x, w[at + 2].reshape(-1))


def _pool(x: torch.Tensor, size: int, *, same: bool) -> torch.Tensor:
    """Maximum over size x size, in steps of 2. By slices: for so few channels far faster than max_pool2d."""
    import torch
    import torch.nn.functional as F

    for axis in (2, 3):
        n = x.shape[axis]
        out = -(-n // 2) if same else (n - size) // 2 + 1
        if same:  # TensorFlow's "same" padding: an odd one goes to the far side
            total = max(0, (out - 1) * 2 + size - n)
            sides = (total // 2, total - total // 2)
            x = F.pad(x, (0, 0, *sides) if axis == 2 else sides, value=float("-inf"))
        parts = [x.narrow(axis, i, 2 * out - 1) for i in range(size)]
        step = (slice(None), slice(None), slice(None, None, 2)) if axis == 2 else (..., slice(None, None, 2))
        x = parts[0][step]
        for part in parts[1:]:
            x = torch.maximum(x, part[step])
    return x


def _pnet(x: torch.Tensor, w: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch.nn.functional as F

    x = _pool(_conv(x, w, 0), 2, same=True)
    x = _conv(_conv(x, w, 3), w, 6)
    offset = F.conv2d(x, w[9].permute(3, 2, 0, 1), w[10])[0]
    score = F.conv2d(x, w[11].permute(3, 2, 0, 1), w[12])[0]
    return score.softmax(0)[1], offset


def _dense(x: torch.Tensor, w: list[torch.Tensor], at: int) -> torch.Tensor:
    return x @ w[at] + w[at + 1]


def _hidden(x: torch.Tensor, w: list[torch.Tensor], at: int) -> torch.Tensor:
    import torch.nn.functional as F

    # columns before rows, as the weights want it
    x = _dense(x.permute(0, 3, 2, 1).reshape(len(x), -1), w, at)
    return F.prelu(x, w[at + 2])


def _rnet(x: torch.Tensor, w: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = _pool(_conv(x, w, 0), 3, same=True)
    x = _pool(_conv(x, w, 3), 3, same=False)
    x = _hidden(_conv(x, w, 6), w, 9)
    return _dense(x, w, 14).softmax(1)[:, 1], _dense(x, w, 12), x[:, :0]


def _onet(x: torch.Tensor, w: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = _pool(_conv(x, w, 0), 3, same=True)
    x = _pool(_conv(x, w, 3), 3, same=False)
    x = _pool(_conv(x, w, 6), 2, same=True)
    x = _hidden(_conv(x, w, 9), w, 12)
    return _dense(x, w, 19).softmax(1)[:, 1], _dense(x, w, 15), _dense(x, w, 17)


def _sides(boxes: Floats) -> tuple[Floats, Floats]:
    return boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1


def _filtered(boxes: Floats, scores: Floats, offsets: Floats, threshold: float) -> Floats:
    width, height = _sides(boxes)
    moved = boxes[:, :4] + offsets * np.stack([width, height, width, height], axis=1)
    return np.concatenate([moved, scores[:, None]], axis=1)[scores > threshold].astype(np.float32)


def _square(boxes: Floats) -> Floats:
    side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])[:, None] / 2
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return np.concatenate([middle - side, middle + side, boxes[:, 4:]], axis=1)


def _suppress(boxes: Floats, limit: float, *, of_smaller: bool = False) -> NDArray[np.intp]:
    """Indices of the boxes [n, 5] that are kept, best score first, when none may overlap a better one by `limit`."""
    area = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    order = np.argsort(-boxes[:, 4], kind="stable")
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:4], boxes[rest, 2:4])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        whole = np.minimum(area[best], area[rest]) if of_smaller else area[best] + area[rest] - common
        order = rest[common <= limit * np.maximum(whole, 1e-6)]
    return np.array(kept, np.intp)


def _weights_folder() -> Path:
    # found, not imported: importing the package would look for TensorFlow
    spec = importlib.util.find_spec("mtcnn")
    have = all(importlib.util.find_spec(name) for name in ("joblib", "lz4"))
    if spec is None or not spec.submodule_search_locations or not have:
        raise DetectorMissing(
            "finding the face needs the face detector: pip install 'tfcodec[face]'; "
            'crop="none" (--crop none) takes the centre of the picture instead'
        )
    return Path(spec.submodule_search_locations[0]) / "assets" / "weights"


def _load(folder: Path, name: str) -> Any:
    path = folder / f"{name}.lz4"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MediaError(f"face detector: {path} cannot be read: pip install 'tfcodec[face]'") from error
    # The file is a pickle, which could run anything: only the bytes that are known are loaded.
    if hashlib.sha256(data).hexdigest() != _SHA256[name]:
        raise MediaError(f"face detector: {path} is not the file of mtcnn 1.0.0: pip install 'tfcodec[face]'")
    import io

    import joblib  # type: ignore[import-untyped]

    return joblib.load(io.BytesIO(data))
