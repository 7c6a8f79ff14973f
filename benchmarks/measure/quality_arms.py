"""What `quality_val` does with one clip: draw it in every way that is compared, and judge the pictures."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

import tfcodec
from benchmarks.common import call_as_file, read_clip
from tfcodec.codec.file.decoder import ExactParts, read_exact
from tfcodec.codec.file.encoder import encode_clip
from tfcodec.codec.file.refine import Refiner
from tfcodec.codec.options import EncodeOptions
from tfcodec.files import write_atomically
from tfcodec.media import open_source
from tfcodec.metrics import faces, pixels
from tfcodec.metrics.faces import FaceMeter
from tfcodec.metrics.frames import frozen_keyframes
from tfcodec.metrics.frechet import Backbone, find_backbone
from tfcodec.metrics.lpips import LPIPS, lpips_of_arms
from tfcodec.metrics.openings import EYE_NOISE, FPS, MOUTH_NOISE, BlinkCount, compare_blinks, moves, opening_correlation
from tfcodec.model.blocks import from_pixels, to_pixels
from tfcodec.model.displacement import in_pixels
from tfcodec.model.inputs import MEL_BANDS, MEL_COLUMNS, MEL_PER_FRAME, REACH, WINDOW
from tfcodec.model.logmel import log_mel
from tfcodec.model.marks import frame_marks
from tfcodec.model.renderer import BATCH, MEL_SILENCE, mel_windows, tiny_windows
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import read_weights

Frames = NDArray[np.uint8]
Features = dict[str, NDArray[np.float64]]

# The network's ways: as it ships; without the speech; without the other tiny frames of the window; stage 1 alone.
DECODED, SILENT, SINGLE, COARSE = "decoded", "without_speech", "single_frame", "coarse"
STILL, FAR = "without_motion", "without_closeups"
FROZEN, BICUBIC = "frozen_keyframe", "bicubic_8x8"
# As it ships, but for the tiny frames, which are the pictures' box means.
PLAIN = "box_means"
SOURCE = "source"
# What the meter itself can do: landmarks of another method, and the source's own pictures coded as JPEG.
LABELS, JPEG = "other_landmarks", "source_as_jpeg"
JPEG_QUALITY = 35
# Of sound in a frame.


@dataclass
class Network:
    """A network by its weights file, so that one that is not registered can be judged as well."""

    path: Path
    model: Upsampler
    in_time: bool = True
    """Draw all frames and judge their changes in time as well."""
    stand_in: bool = False
    """Draw the stream that was encoded with the first network."""

    @classmethod
    def load(cls, path: Path, in_time: bool = True, stand_in: bool = False) -> Network:
        return cls(path, read_weights(path), in_time, stand_in)

    def describe(self) -> dict[str, Any]:
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"file": self.path.name, "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()[:16],
                "bytes": self.path.stat().st_size, "parameters": parameters, **self.gflop()}  # fmt: skip

    def gflop(self) -> dict[str, float]:
        """Convolutions and matrix products, 2 for a multiplication with its addition; sampling is not counted."""
        tiny, mel = torch.zeros(1, WINDOW, 3, 8, 8), torch.zeros(1, MEL_COLUMNS, MEL_BANDS)
        with torch.no_grad():
            with FlopCounterMode(display=False) as once:
                key = self.model.encode_keyframe(torch.zeros(1, 3, 256, 256))
            with FlopCounterMode(display=False) as each:
                self.model(key, tiny, mel)
        return {"gflop_per_keyframe": once.get_total_flops() / 1e9, "gflop_per_frame": each.get_total_flops() / 1e9}

    def draw(
        self, parts: ExactParts, frames: NDArray[np.int64], *, speech: bool = True, window: bool = True,
        motion: bool = True, closeups: bool = True,
    ) -> tuple[Frames, Frames]:  # fmt: skip
        """The given frames (ascending) as the decoder draws them, and stage 1's picture of them enlarged to 256.

        Without ``speech`` the network hears what it hears of a silent clip; without ``window`` the current tiny frame
        takes the place of its neighbours; without ``motion`` the tiny frames say how the face moves; without
        ``closeups`` mouth and eyes stay as they are drawn with the rest.
        """
        mel = np.full((MEL_PER_FRAME * len(parts.tiny), MEL_BANDS), MEL_SILENCE, np.float32)
        if speech and parts.audio is not None:
            mel = log_mel(parts.audio, len(parts.tiny), parts.header.fps)
        moved = parts.layers.get("motion") if motion else None
        displaced = parts.layers.get("displacement") if motion else None  # it was found with the motion
        fine, coarse = [], []
        starts = [0, *(first for first, _ in parts.keyframes[1:]), len(parts.tiny)]
        with torch.inference_mode():
            for (_, picture), begin, end in zip(parts.keyframes, starts, starts[1:], strict=False):
                key = self.model.encode_keyframe(_tensor(picture[None]))
                here = frames[(frames >= begin) & (frames < end)]
                for at in range(0, len(here), BATCH):
                    some = here[at : at + BATCH]
                    tiny = tiny_windows(parts.tiny[begin:end], some - begin)
                    if not window:
                        tiny = np.repeat(tiny[:, REACH, None], WINDOW, 1)
                    around = torch.from_numpy(tiny).permute(0, 1, 4, 2, 3).float() / 255
                    marks = frame_marks(self.model, key, around, None if moved is None else moved[some])
                    out = self.model(
                        key.select(torch.zeros(len(some), dtype=torch.long)), around,
                        torch.from_numpy(mel_windows(mel, some)), marks=marks if self.model.config.motion else None,
                        displacement=torch.from_numpy(
                            in_pixels(None if displaced is None else displaced[some], len(some))
                        ),
                    )  # fmt: skip
                    fine.append(_pixels(out.frame if closeups or out.plain is None else out.plain))
                    coarse.append(_pixels(_enlarge(out.coarse.picture)))
        return np.concatenate(fine), np.concatenate(coarse)


def _tensor(frames: Frames) -> torch.Tensor:
    return from_pixels(torch.tensor(frames))


def _pixels(picture: torch.Tensor) -> Frames:
    return to_pixels(picture).numpy()


def _enlarge(picture: torch.Tensor) -> torch.Tensor:
    return F.interpolate(picture, size=(256, 256), mode="bicubic", align_corners=False)


@dataclass
class Judges:
    """Everything that judges, loaded once in a process."""

    lpips: LPIPS
    meter: FaceMeter
    backbone: Backbone

    @classmethod
    def load(cls) -> Judges:
        return cls(LPIPS("alex"), FaceMeter(), find_backbone())


@dataclass
class Own:
    """What is known of the source's judged frames."""

    frames: Frames
    landmarks: NDArray[np.float64]
    identity: NDArray[np.float64]
    crops: dict[str, Frames]
    """Of mouths and eyes; none without a face in every judged frame."""


CROPS = {"mouth_lpips": faces.mouth_crops, "eye_lpips": faces.eye_crops}


@dataclass
class ClipResult:
    row: dict[str, Any]
    features: Features
    """For the Frechet distances: [judged frames, D] of the source and of each arm."""


@dataclass(frozen=True)
class Plan:
    """What is measured of a clip, and how closely."""

    quality: int
    every: int
    """Pictures: every n-th frame."""
    openings_every: int = 1
    """Mouth and eyes over time: every n-th frame, of what is drawn in full."""
    call: bool = False
    """Streams as calls code them (without refining), in place of files."""
    ways: bool = True
    """Draw with the first network in every way, or only as it ships."""
    streams: Path | None = None
    """Folder where streams of files are kept; what is there is not encoded again."""


def measure(path: Path, plan: Plan, networks: dict[str, Network], judges: Judges) -> ClipResult:
    """Encode a clip, draw it with each network, judge every n-th frame (changes in time: all of them).

    The first network is drawn in every way; those after it only as they would ship. Each draws the stream that was
    encoded with it; those that are not judged in time, and the ways without a network, the one with box means.
    """
    source = read_clip(path)
    plain = encode_call(path, plan.quality) if plan.call else tfcodec.encode(path, quality=plan.quality, refine=False)
    exact = read_exact(plain)
    streams: dict[str, bytes] = {}
    for name, network in networks.items():
        if network.in_time and network.stand_in:
            streams[name] = next(iter(streams.values()))
        elif network.in_time:
            streams[name] = plain if plan.call else kept_stream(network, path, plan)
    info = tfcodec.probe(next(iter(streams.values())))
    at = np.arange(0, len(source), plan.every)
    judged = np.ascontiguousarray(source[at])
    landmarks = judges.meter.landmarks(judged)
    seen = bool(np.isfinite(landmarks).all())
    own = Own(judged, landmarks, judges.meter.identity(judged, landmarks),
              {name: cut(judged, landmarks) for name, cut in CROPS.items() if seen})  # fmt: skip

    whole = {FROZEN: frozen_keyframes(exact.keyframes, len(source))}
    arms = {FROZEN: whole[FROZEN][:: plan.every]}
    if plan.ways:
        arms[BICUBIC] = _pixels(_enlarge(_tensor(exact.tiny[at])))
    everything = np.arange(len(source))
    for i, (name, network) in enumerate(networks.items()):
        if not network.in_time:
            arms[name], _ = network.draw(exact, at)
            continue
        parts = read_exact(streams[name])
        whole[name], coarse = network.draw(parts, everything)
        arms[name] = whole[name][at]
        if i == 0 and plan.ways:
            arms[COARSE] = coarse[at]
            arms[PLAIN], _ = network.draw(exact, at)
            arms[SINGLE], _ = network.draw(parts, at, window=False)
            if "motion" in parts.layers:
                arms[STILL], _ = network.draw(parts, at, motion=False)
            if network.model.closeups is not None:
                arms[FAR], _ = network.draw(parts, at, closeups=False)
            if parts.audio is not None and network.model.config.audio:
                arms[SILENT], _ = network.draw(parts, at, speech=False)

    scores = judge(arms, own, judges)
    for name, frames in whole.items():
        scores[name] |= in_time(frames, source)
    followed = follow(path, source, whole, plan.openings_every, judges.meter)
    for name, values in followed.correlations.items():
        scores.setdefault(name, {}).update(values)
    row = {
        "clip": path.name, "frames": len(source), "judged_frames": len(at), "keyframes": len(exact.keyframes),
        "speech": exact.audio is not None, "video_kbps": info.video_kbps,
        "video_kbps_box_means": tfcodec.probe(plain).video_kbps,
        "faces_found": float(np.isfinite(landmarks).all((1, 2)).mean()), **followed.moving,
        "arms": {name: {k: round(v, 6) for k, v in values.items()} for name, values in scores.items()},
        "blinks": {name: asdict(count) for name, count in followed.blinks.items()},
    }  # fmt: skip
    # Without priors (bicubic), without stage 2, and as it ships.
    pooled = {SOURCE: judged, **{n: f for n, f in arms.items() if n in (FROZEN, BICUBIC, COARSE, PLAIN, *networks)}}
    return ClipResult(row, {name: judges.backbone.features(frames) for name, frames in pooled.items()})


@dataclass
class Followed:
    """How mouth and eyes follow the source's over time."""

    moving: dict[str, bool]
    """``mouth_moves``, ``eyes_move``: whether the source's do."""
    correlations: dict[str, dict[str, float]]
    """Of the openings, by arm."""
    blinks: dict[str, BlinkCount]


def follow(path: Path, source: Frames, whole: dict[str, Frames], every: int, meter: FaceMeter) -> Followed:
    """Openings of every n-th frame of what is drawn in full, and what the meter itself makes of the source.

    An eye's opening counts only in clips whose eyes move, as elsewhere it is noise that is correlated.
    """
    some = source[::every]
    own = meter.landmarks(some)
    marks = {name: _once_for_stills(frames[::every], meter.landmarks) for name, frames in whole.items()}
    marks[JPEG] = meter.landmarks(np.stack([as_jpeg(frame) for frame in some]))
    labels = labelled_landmarks(path)
    if labels is not None and len(labels) == len(source):
        marks[LABELS] = labels[::every]
    mouth, eyes = faces.mouth_opening(own), faces.eye_opening(own)
    moving = {"mouth_moves": moves(mouth, MOUTH_NOISE), "eyes_move": moves(eyes, EYE_NOISE)}
    correlations, blinks = {}, {}
    for name, found in marks.items():
        correlations[name] = {"mouth_opening_correlation": opening_correlation(faces.mouth_opening(found), mouth)}
        if moving["eyes_move"]:
            correlations[name]["eye_opening_correlation"] = opening_correlation(faces.eye_opening(found), eyes)
        blinks[name] = compare_blinks(faces.eye_opening(found), eyes, FPS / every)
    return Followed(moving, correlations, blinks)


def as_jpeg(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as JPEG of quality 35 leaves it: what the meter reads differently there is its own noise."""
    coded = cv2.imencode(".jpg", np.ascontiguousarray(frame), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def labelled_landmarks(path: Path) -> NDArray[np.float64] | None:
    """The landmarks that come with a clip, [T, 68, 2] in pixels, NaN without a face; None where there are none."""
    for file in sorted(path.parent.parent.glob(f"landmarks_{path.parent.name}*.npz")):
        with np.load(file) as marks:
            if path.stem in marks:
                found = marks[path.stem][:, :68].astype(np.float64) / 16
                found[found[:, 0, 0] < 0] = np.nan
                return np.asarray(found)
    return None


def encode_call(path: Path, quality: int) -> bytes:
    """The clip as a call codes it, in the chunks of a file; without its sound."""
    with open_source(path, crop="auto") as clip:
        return call_as_file(clip.frames_iter(), quality)


def kept_stream(network: Network, path: Path, plan: Plan) -> bytes:
    """The clip as an encoder with this network codes it, from the plan's folder where it is there."""
    if plan.streams is None:
        return encode_with(network, path, plan.quality)
    file = plan.streams / f"{path.stem}-{network.path.stem}-q{plan.quality}.tfc"
    if not file.is_file():
        write_atomically(file, encode_with(network, path, plan.quality))
    return file.read_bytes()


def encode_with(network: Network, path: Path, quality: int) -> bytes:
    """The clip as an encoder with this network codes it."""
    with open_source(path, crop="auto") as clip:
        refiner = Refiner(network.model)
        tracker = network.model.tracker or False
        options = EncodeOptions(quality, refiner, tracker)
        return encode_clip(clip.frames_iter(), clip.audio, options, clip.frame_count_hint)


def judge(arms: dict[str, Frames], own: Own, judges: Judges) -> dict[str, dict[str, float]]:
    """Mean scores of each arm over the judged frames; a frame whose decoded face is not found has none in it."""
    names = list(arms)
    distances = lpips_of_arms(judges.lpips, list(arms.values()), own.frames)
    scores = {name: {"lpips": float(row.mean())} for name, row in zip(names, distances, strict=True)}
    for name, frames in arms.items():
        scores[name]["psnr"] = float(pixels.psnr(frames, own.frames).mean())
        scores[name]["ms_ssim"] = float(pixels.ms_ssim(frames, own.frames).mean())
        marks = _once_for_stills(frames, judges.meter.landmarks)
        found = np.isfinite(marks).all((1, 2))
        scores[name]["faces_found"] = float(found.mean())
        if not (found & np.isfinite(own.landmarks).all((1, 2))).any():
            continue
        person = judges.meter.identity(frames, marks)
        scores[name] |= {
            "mouth_distance": float(np.nanmean(faces.mouth_distance(marks, own.landmarks))),
            "mouth_shape_distance": float(np.nanmean(faces.mouth_shape_distance(marks, own.landmarks))),
            "identity_cosine": float(np.nanmean(faces.identity_cosine(person, own.identity))),
            "mouth_opening_correlation": opening_correlation(
                faces.mouth_opening(marks), faces.mouth_opening(own.landmarks)
            ),
        }
    for metric, reference in own.crops.items():
        cut = [CROPS[metric](frames, own.landmarks) for frames in arms.values()]
        for name, row in zip(names, lpips_of_arms(judges.lpips, cut, reference), strict=True):
            scores[name][metric] = float(row.mean())
    return scores


def _once_for_stills(frames: Frames, measure: Any) -> NDArray[np.float64]:
    if frames.strides[0] == 0 and len(frames):
        return np.repeat(measure(frames[:1]), len(frames), 0)
    return np.asarray(measure(frames))


def in_time(frames: Frames, source: Frames) -> dict[str, float]:
    """Scores of the changes from frame to frame, over all frames."""
    return {
        "frame_difference_error": float(pixels.frame_difference_error(frames, source).mean()),
        "flicker_ratio": pixels.flicker_ratio(frames, source),
        "flicker_ratio_still": pixels.flicker_ratio(frames, source, still=True),
        "flicker_ratio_box32": pixels.flicker_ratio(frames, source, box=32),
    }
