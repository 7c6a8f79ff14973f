"""Landmarks and identity of faces: do mouth and eyes look as they should, and is it still the same person?

Networks, supplied by the user (see `tfcodec.metrics.files`): YuNet (Wu et al., MIR 2023) finds the face, PFLD (Guo et
al., arXiv 1902.10859) gives 68 landmarks, MobileFaceNet (Chen et al., CCBR 2018) with ArcFace loss gives an identity
vector. Packages: OpenCV, onnxruntime, ncnn, from the extra ``bench``.

Landmarks are in pixels with the corner of the picture at 0 (the middle of the first pixel is 0.5), in the 68-point
layout: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, outer lips 48-59, inner lips 60-67.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TfcodecError, WeightsError
from .files import need, weights_path
from .frames import Frames, check_frames

Landmarks = NDArray[np.float64]
Scores = NDArray[np.float64]

MOUTH = slice(48, 68)
RIGID = slice(27, 48)  # nose and eyes: what moves with the head alone, near enough
OUTER_EYE_CORNERS = (36, 45)
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]
# Picture of both eyes: width and height in inter-ocular units. Mouths and eyes have the same scale.
_EYES = (1.5, 0.5)

_YUNET, _PFLD = "face_detection_yunet_2026may.onnx", "pfld_68.onnx"
_MOBILEFACENET = "mobilefacenet/mobilefacenet"
_LEAST_SCORE = 0.5
_SIDE = 112
# Second look: a square around the landmarks of the first, so that the detector's box does not shake them. This and
# averaging with the mirrored picture halve what a shift of the picture by a fraction of a pixel does to them.
_MARGIN = 1.25
_BATCH = 32
# What ArcFace (Deng et al., CVPR 2019) aligns faces to: eyes, nose, corners of the mouth in a picture of 112x112.
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
     41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
"""Which of 68 landmarks is where another was, in a mirrored picture."""


class FaceMeter:
    """Finds the largest face of each frame and measures it: about 15 ms a frame for landmarks, 5 more for identity.

    Args:
        weights: folder with the networks; default as `tfcodec.metrics.files.find_weights`.

    Raises WeightsError or MissingPackage, naming what is missing.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        self._cv2 = need("cv2", "FaceMeter")
        self._runtime = need("onnxruntime", "FaceMeter")
        self._ncnn = need("ncnn", "FaceMeter")
        what = "FaceMeter"
        self._yunet = weights_path(what, _YUNET, weights)
        self._pfld = weights_path(what, _PFLD, weights)
        self._identity = [weights_path(what, _MOBILEFACENET + end, weights) for end in (".param", ".bin")]

    @cached_property
    def _detector(self) -> Any:
        logging = self._cv2.utils.logging
        level = logging.getLogLevel()
        logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # it warns that there is no choice of processors
        try:
            return self._cv2.FaceDetectorYN.create(str(self._yunet), "", (256, 256), _LEAST_SCORE)
        except self._cv2.error as error:
            raise WeightsError(f"{self._yunet} is not a face detector: {error}") from None
        finally:
            logging.setLogLevel(level)

    @cached_property
    def _session(self) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            return self._runtime.InferenceSession(str(self._pfld), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise WeightsError(f"{self._pfld} is not a landmark network: {error}") from None

    @cached_property
    def _net(self) -> Any:
        net = self._ncnn.Net()
        net.opt.num_threads = 1
        param, weights = (str(path) for path in self._identity)
        if net.load_param(param) or net.load_model(weights):
            raise WeightsError(f"{self._identity[0].parent} does not hold an identity network")
        return net

    def detect(self, frames: Frames) -> NDArray[np.float64]:
        """Box and five points of the largest face: [T, 14] x, y, width, height, then right eye, left eye, nose, right
        and left corner of the mouth (the person's right) as x, y; NaN where no face was found."""
        check_frames(frames)
        self._detector.setInputSize((frames.shape[2], frames.shape[1]))
        out = np.full((len(frames), 14), np.nan)
        for i, frame in enumerate(frames):
            _, faces = self._detector.detect(np.ascontiguousarray(frame[..., ::-1]))
            if faces is not None:
                out[i] = max(faces, key=lambda f: f[2] * f[3])[:14]
        return out

    def landmarks(self, frames: Frames) -> Landmarks:
        """68 landmarks of the largest face of each frame, [T, 68, 2] in pixels; NaN where no face was found."""
        found = self.detect(frames)
        out = np.full((len(frames), 68, 2), np.nan)
        at = np.flatnonzero(np.isfinite(found[:, 0]))
        for begin in range(0, len(at), _BATCH):
            which = at[begin : begin + _BATCH]
            box = found[which, :4]
            points = self._look(frames[which], box[:, :2] + box[:, 2:] / 2, box[:, 2:].max(1))
            low, high = points.min(1), points.max(1)
            side = _MARGIN * (high - low).max(1)
            out[which] = self._look(frames[which], (low + high) / 2, side, mirror=True)
        return out

    def _look(
        self, frames: Frames, centre: NDArray[np.float64], side: NDArray[np.float64], mirror: bool = False
    ) -> Landmarks:
        crops = np.empty((len(frames), _SIDE, _SIDE, 3), np.uint8)
        for crop, frame, (x, y), s in zip(crops, frames, centre, side, strict=True):
            k = _SIDE / s
            # OpenCV counts from the middle of the first pixel.
            move = np.array([[k, 0, k * (0.5 - x) + (_SIDE - 1) / 2], [0, k, k * (0.5 - y) + (_SIDE - 1) / 2]])
            self._cv2.warpAffine(frame, move, (_SIDE, _SIDE), dst=crop)
        points = self._pfld_points(crops)
        if mirror:
            other = self._pfld_points(crops[:, :, ::-1])[:, MIRRORED]
            other[..., 0] = 1 - other[..., 0]
            points = (points + other) / 2
        return (points - 0.5) * side[:, None, None] + centre[:, None]

    def _pfld_points(self, crops: Frames) -> Landmarks:
        data = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        with _tiny_numbers_as_zero():
            (points,) = self._session.run(None, {self._session.get_inputs()[0].name: data})
        return np.asarray(points.reshape(-1, 68, 2), np.float64)

    def identity(self, frames: Frames, landmarks: Landmarks | None = None) -> NDArray[np.float64]:
        """Identity vector of the largest face of each frame, [T, 128], of length 1; NaN where no face was found.

        Faces are aligned by their landmarks, which lie better than the detector's five points; they are found first if
        they are not given.
        """
        check_frames(frames)
        found = self.landmarks(frames) if landmarks is None else landmarks
        if found.shape != (len(frames), 68, 2):
            raise TfcodecError(f"landmarks must be [{len(frames)}, 68, 2], not {list(found.shape)}")
        out = np.full((len(frames), 128), np.nan)
        for i in np.flatnonzero(np.isfinite(found).all((1, 2))):
            eyes = found[i, 36:42].mean(0), found[i, 42:48].mean(0)
            # The template and OpenCV count from the middle of the first pixel.
            move = _similarity(np.stack((*eyes, *found[i, [30, 48, 54]])) - 0.5, _TEMPLATE)
            face = self._cv2.warpAffine(frames[i], move, (_SIDE, _SIDE))
            run = self._net.create_extractor()
            picture = self._ncnn.Mat.from_pixels(face, self._ncnn.Mat.PixelType.PIXEL_RGB, _SIDE, _SIDE)
            run.input("data", picture)
            failed, vector = run.extract("fc1")
            if failed:
                raise WeightsError(f"{self._identity[0].parent} does not hold an identity network")
            vector = np.asarray(vector, np.float64)
            out[i] = vector / np.linalg.norm(vector)
        return out


@contextmanager
def _tiny_numbers_as_zero() -> Iterator[None]:
    """Count as zero what is too small for a normalised float, in this thread, where onnxruntime runs.

    PFLD's inner values are full of such numbers. Its landmarks stay the same to the last bit, but some processors
    calculate with them in microcode, thirty times as slowly.
    """
    import torch

    before = bool(np.float32(1e-40) * np.float32(1) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _similarity(points: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    # Least squares over scale, turn and shift, [2, 3]: in the complex plane it is to = a * points + b.
    p, q = points @ [1, 1j], to @ [1, 1j]
    p0, q0 = p.mean(), q.mean()
    a = np.vdot(p - p0, q - q0) / np.vdot(p - p0, p - p0)
    b = q0 - a * p0
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _check_landmarks(a: Landmarks, b: Landmarks) -> None:
    if a.shape != b.shape or a.ndim != 3 or a.shape[1:] != (68, 2):
        raise TfcodecError(f"landmarks must be two arrays [T, 68, 2], not {list(a.shape)} and {list(b.shape)}")


def inter_ocular(landmarks: Landmarks) -> Scores:
    """Distance of the outer corners of the eyes, [T] in pixels: the unit of landmark errors (as in 300-W)."""
    left, right = OUTER_EYE_CORNERS
    return np.asarray(np.linalg.norm(landmarks[:, left] - landmarks[:, right], axis=-1), np.float64)


def mouth_distance(a: Landmarks, b: Landmarks) -> Scores:
    """Mean distance of the 20 mouth landmarks of ``a`` [T, 68, 2] from those of ``b``, [T], in inter-ocular units.

    The place of the mouth in the picture, so that a head in the wrong place counts too. NaN where either has no face.
    """
    _check_landmarks(a, b)
    distance = np.linalg.norm(a[:, MOUTH] - b[:, MOUTH], axis=-1).mean(-1)
    return np.asarray(distance / inter_ocular(b), np.float64)


def mouth_shape_distance(a: Landmarks, b: Landmarks) -> Scores:
    """As `mouth_distance`, after ``a`` was shifted, turned and scaled so that eyes and nose lie best on those of ``b``.

    What is left is the mouth's own shape and the jaw's opening: does it say the same?
    """
    _check_landmarks(a, b)
    moved = np.full_like(a, np.nan)
    for t in np.flatnonzero(np.isfinite(a).all((1, 2)) & np.isfinite(b).all((1, 2))):
        move = _similarity(a[t, RIGID], b[t, RIGID])
        moved[t] = a[t] @ move[:, :2].T + move[:, 2]
    return mouth_distance(moved, b)


def mouth_opening(landmarks: Landmarks) -> Scores:
    """Mean gap of the inner lips, [T] in inter-ocular units: does it follow the speech?"""
    upper, lower = landmarks[:, [61, 62, 63]], landmarks[:, [67, 66, 65]]
    return np.asarray(np.linalg.norm(upper - lower, axis=-1).mean(-1) / inter_ocular(landmarks), np.float64)


def eye_opening(landmarks: Landmarks) -> Scores:
    """Mean gap of the lids over both eyes, [T] in inter-ocular units: what blinks close. About 0.1 for open eyes.

    Landmarks of shut eyes still lie a little apart. Curves are compared by `tfcodec.metrics.openings`.
    """
    gap = np.linalg.norm(landmarks[:, UPPER_LIDS] - landmarks[:, LOWER_LIDS], axis=-1).mean(-1)
    return np.asarray(gap / inter_ocular(landmarks), np.float64)


def identity_cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> Scores:
    """Cosine of identity vectors [T, 128] frame by frame, [T] in -1..1; NaN where either has no face."""
    if a.shape != b.shape or a.ndim != 2:
        raise TfcodecError(f"identity vectors must be two arrays [T, 128], not {list(a.shape)} and {list(b.shape)}")
    return np.asarray((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)), np.float64)


def mouth_crops(frames: Frames, landmarks: Landmarks, size: int = 128) -> Frames:
    """Squares around the mouth, [T, size, size, 3] uint8, as wide as the outer corners of the eyes are apart.

    Give the source's landmarks for both videos, so that the same pixels are compared. Raises TfcodecError where a frame
    has no landmarks.
    """
    _check_crops("mouth_crops", frames, landmarks)
    scale = size / np.maximum(inter_ocular(landmarks), 1)
    return _cut(frames, landmarks[:, MOUTH].mean(1), scale, np.zeros(len(frames)), (size, size))


def eye_crops(frames: Frames, landmarks: Landmarks, size: int = 128) -> Frames:
    """Both eyes with their lids, [T, size/2, 1.5 size, 3] uint8, turned so that the eyes' outer corners lie level.

    As `mouth_crops`, ``size`` pixels are the distance of the eyes' outer corners. Give the source's landmarks for both
    videos. Raises TfcodecError where a frame has no landmarks.
    """
    _check_crops("eye_crops", frames, landmarks)
    left, right = (landmarks[:, i] for i in OUTER_EYE_CORNERS)
    across = right - left
    scale = size / np.maximum(inter_ocular(landmarks), 1)
    centre = landmarks[:, UPPER_LIDS + LOWER_LIDS].mean(1)
    width, height = (round(size * side) for side in _EYES)
    return _cut(frames, centre, scale, np.arctan2(across[:, 1], across[:, 0]), (width, height))


def _check_crops(name: str, frames: Frames, landmarks: Landmarks) -> None:
    check_frames(frames)
    if landmarks.shape != (len(frames), 68, 2) or not np.isfinite(landmarks).all():
        raise TfcodecError(f"{name} needs finite landmarks [T, 68, 2], one set a frame")


def _cut(frames: Frames, centre: NDArray[np.float64], scale: Scores, angle: Scores, size: tuple[int, int]) -> Frames:
    # Enlarged ``scale`` times about ``centre``, turned back by ``angle``. OpenCV counts from the middle of a pixel.
    cv2 = need("cv2", "crops of faces")
    width, height = size
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for crop, frame, (x, y), k, turn in zip(out, frames, centre - 0.5, scale, angle, strict=True):
        c, s = k * np.cos(turn), k * np.sin(turn)
        move = np.array([[c, s, (width - 1) / 2 - c * x - s * y], [-s, c, (height - 1) / 2 + s * x - c * y]])
        cv2.warpAffine(frame, move, size, dst=crop, borderMode=cv2.BORDER_REPLICATE)
    return out
