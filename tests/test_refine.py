"""Tiny frames that the network draws best from: better pictures, cheap streams, and an encoder that can do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tfcodec
from tfcodec.cli import main
from tfcodec.codec.encoder import Encoder
from tfcodec.codec.file.decoder import read_exact, render_exact
from tfcodec.codec.file.encoder import encode_clip
from tfcodec.codec.file.refine import Descent, Refiner, _to_rgb
from tfcodec.codec.options import EncodeOptions
from tfcodec.errors import WeightsError
from tfcodec.keyframe import decode_keyframe, encode_keyframe
from tfcodec.metrics.pixels import psnr
from tfcodec.model.registry import default_model
from tfcodec.model.weights import load_model
from tfcodec.tinyframe import TinyPlanes, tiny_from_frames, tiny_to_rgb

Face = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def clip(moving_face: Face) -> tuple[np.ndarray, np.ndarray, TinyPlanes]:
    """Decoded keyframe, frames, box means."""
    frames = moving_face[0][:18]
    return decode_keyframe(encode_keyframe(frames[9], 5)), frames, tiny_from_frames(frames)


def refiner(**how: float) -> Refiner:
    return Refiner(load_model(default_model()), Descent(**how))  # type: ignore[arg-type]


def change(a: TinyPlanes, b: TinyPlanes) -> float:
    """Root mean square, in grey levels."""
    return float(np.sqrt(np.square(a.samples() - b.samples()).mean()) / TinyPlanes.scale)


def test_pictures_are_better_and_the_stream_hardly_longer(moving_face: Face) -> None:
    frames, some = moving_face[0][:40], np.arange(1, 40, 3)
    plain, refined = (tfcodec.encode(frames, fps=25, refine=refine) for refine in (False, True))
    shown = [np.concatenate(list(render_exact(read_exact(data), only=some))) for data in (plain, refined)]
    before, after = (float(psnr(frames[some], x).mean()) for x in shown)
    assert after > before + 0.2
    sizes = [tfcodec.probe(data).bytes for data in (plain, refined)]
    assert sizes[0]["keyframe"] == sizes[1]["keyframe"]
    assert sizes[1]["tiny"] < 2 * sizes[0]["tiny"] + 20


def test_stage_1_is_nearer_to_the_picture(clip: tuple[np.ndarray, np.ndarray, TinyPlanes]) -> None:
    keyframe, frames, planes = clip
    model = load_model(default_model())
    target = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255

    def error(planes: TinyPlanes) -> float:
        tiny = torch.from_numpy(tiny_to_rgb(planes)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            key = model.encode_keyframe(torch.from_numpy(keyframe).permute(2, 0, 1)[None].float() / 255)
            key = key.select(torch.zeros(len(tiny), dtype=torch.long))
            out = model.stage1(key, tiny[:, None].repeat(1, 5, 1, 1, 1), torch.full((len(tiny), 20, 80), -1.0))
        return float((out.picture - torch.nn.functional.avg_pool2d(target, 4)).square().mean())

    every = refiner(stride=1).refine(keyframe, frames, planes)
    some = refiner(stride=4).refine(keyframe, frames, planes)
    assert error(every) < 0.9 * error(planes)
    assert error(some) < 0.95 * error(planes)


def test_what_the_motion_says_is_drawn_along(clip: tuple[np.ndarray, np.ndarray, TinyPlanes]) -> None:
    """Given the motion, tiny frames are chosen for the picture that will be drawn with it."""
    keyframe, frames, planes = clip[0], clip[1][:3], clip[2][:3]

    def refined(motion: np.ndarray | None) -> TinyPlanes:
        return refiner(steps=4).refine(keyframe, frames, planes, motion)

    seen = np.zeros((len(frames), 17), np.int32)
    none = refined(None)
    assert refined(seen) == none  # numbers that were not sent
    seen[:, 16] = 1
    still = refined(seen)
    seen[:, 2] = 200  # all of the face to the right, by a fifth of the eyes' distance
    assert change(refined(seen), still) > 0.2
    assert still != none


@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_any_number_of_frames(clip: tuple[np.ndarray, np.ndarray, TinyPlanes], count: int) -> None:
    keyframe, frames, planes = clip
    found = refiner(steps=2).refine(keyframe, frames[:count], planes[:count])
    assert len(found) == count
    assert 0 < change(found, planes[:count]) < 6
    again = refiner(steps=2).refine(keyframe, frames[:count], planes[:count])
    assert found == again


def test_the_price_keeps_tiny_frames_near_the_box_means(clip: tuple[np.ndarray, np.ndarray, TinyPlanes]) -> None:
    keyframe, frames, planes = clip
    far, near, none = (refiner(price=p).refine(keyframe, frames, planes) for p in (0.0, 10.0, 100.0))
    assert change(far, planes) > change(near, planes) > change(none, planes)
    assert refiner(steps=0).refine(keyframe, frames, planes) == planes


def test_frames_between_get_what_lies_between(clip: tuple[np.ndarray, np.ndarray, TinyPlanes]) -> None:
    keyframe, frames, planes = clip
    moved = refiner(stride=6).refine(keyframe, frames, planes).samples() - planes.samples()
    assert np.abs(moved[3] - (moved[0] + moved[6]) / 2).max() <= 1 + 1e-9  # rounded to whole units
    assert np.abs(moved[0]).max() > 0
    assert np.abs(moved[17]).max() > 0


def test_bright_and_dark_pictures_stay_in_range() -> None:
    for value in (0, 255):
        frames = np.full((5, 256, 256, 3), value, np.uint8)
        frames[:, 100:150, 100:150] = 255 - value
        planes = tiny_from_frames(frames)
        found = refiner().refine(frames[0], frames, planes)
        assert found.luma.min() >= 0
        assert max(found.luma.max(), found.chroma.max()) <= 4080


def test_colours_are_those_of_the_tiny_frames() -> None:
    planes = TinyPlanes.from_samples(np.random.default_rng(0).integers(800, 3200, (6, 96)))
    ours = 255 * _to_rgb(torch.from_numpy(planes.samples() / TinyPlanes.scale)).clamp(0, 1)
    theirs = tiny_to_rgb(planes).transpose(0, 3, 1, 2)
    assert np.abs(ours.numpy() - theirs).max() < 0.51


def test_inside_inference_mode(clip: tuple[np.ndarray, np.ndarray, TinyPlanes]) -> None:
    keyframe, frames, planes = clip
    with torch.inference_mode():
        inside = refiner(steps=1).refine(keyframe, frames, planes)
    with torch.no_grad():
        assert refiner(steps=1).refine(keyframe, frames, planes) == inside


def test_packets_do_not_depend_on_pieces_and_calls_are_not_refined(moving_face: Face) -> None:
    frames = moving_face[0][:12]
    one, many = Encoder(latency="file", audio=False), Encoder(latency="file", audio=False)
    whole = b"".join([*one.push(frames), *one.flush()])
    pieces = b"".join([*(p for f in frames for p in many.push(f)), *many.flush()])
    assert whole == pieces
    call = [Encoder(latency="call", audio=False, refine=refine, origin=0).push(frames) for refine in (False, True)]
    assert call[0] == call[1]


def test_another_network_can_be_given(moving_face: Face) -> None:
    frames = moving_face[0][:8]

    def coded(refine: bool | Refiner) -> bytes:
        return encode_clip(iter(frames), None, EncodeOptions(refine=refine), len(frames))

    assert coded(refiner()) == coded(True)
    still, means = (read_exact(coded(refine)) for refine in (refiner(steps=0), False))
    np.testing.assert_array_equal(still.tiny, means.tiny)
    assert sorted(still.layers) == ["displacement", "motion"]  # who looks at what is drawn says where it lies, too


def test_without_it_the_encoder_needs_no_torch(moving_face: Face, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", moving_face[0][:4])
    code = (
        "import sys\nsys.modules['torch'] = None\nimport numpy as np, tfcodec\n"
        f"data = tfcodec.encode(np.load({str(tmp_path / 'frames.npy')!r}), fps=25, refine=False, motion=False)\n"
        "print(tfcodec.probe(data).frames)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "4", done.stderr


def test_missing_weights_are_named(moving_face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfcodec.model import registry, weights

    (tmp_path / "registry.json").write_bytes((registry.FOLDER / "registry.json").read_bytes())
    weights._load.cache_clear()
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    for refine in (True, False):
        with pytest.raises(WeightsError, match="weights"):
            tfcodec.encode(moving_face[0][:2], tmp_path / "x.tfc", fps=25, refine=refine, motion=not refine)
    assert not list(tmp_path.glob("*.tfc"))
    assert tfcodec.probe(tfcodec.encode(moving_face[0][:2], fps=25, refine=False, motion=False)).frames == 2


def test_command_line(moving_face: Face, tmp_path: Path) -> None:
    from tfcodec.media import write_video

    source = tmp_path / "in.mp4"
    write_video(source, moving_face[0][:12], 25)
    assert main(["encode", str(source), str(tmp_path / "a.tfc"), "--no-refine", "--quiet"]) == 0
    assert main(["encode", str(source), str(tmp_path / "b.tfc"), "--quiet"]) == 0
    assert (tmp_path / "a.tfc").read_bytes() == tfcodec.encode(source, refine=False)
    assert (tmp_path / "a.tfc").read_bytes() != (tmp_path / "b.tfc").read_bytes()
