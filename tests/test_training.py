"""Training: the pack and its parts, batches, losses, state, real steps, variants."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")

import cv2
import torch
from conftest import PACK_FRAMES, by_chance, there
from torch.utils._python_dispatch import TorchDispatchMode

from tfcodec.errors import MediaError, TfcodecError
from tfcodec.metrics.lpips import find_weights
from tfcodec.model.blocks import box_down, luma_of, refine_chroma
from tfcodec.model.config import NetworkConfig
from tfcodec.model.landmarks import MOUTH
from tfcodec.model.registry import default_model, weights_file
from tfcodec.model.weights import read_weights, save_weights
from tfcodec.training import (
    ablate,
    batch,
    compact,
    data,
    evaluate,
    feed,
    losses,
    options,
    plans,
    report,
    restoration,
    start,
    state,
    train,
)  # fmt: skip
from tfcodec.training.export import main as export
from tfcodec.training.prepare import averaged_i420
from tfcodec.training.steps import psnr

COUNT = PACK_FRAMES
needs_metrics = pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")


@pytest.fixture(scope="module")
def carried(prepared_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is carried to another machine: the index and the parts alone."""
    folder = tmp_path_factory.mktemp("carried")
    for path in (prepared_pack / "index.json", *prepared_pack.glob("part-*.tar")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_prepared_pack(loaded_pack: data.Pack, prepared_pack: Path) -> None:
    assert [(name, count) for name, _, count in loaded_pack.clips] == [("d1_00.mp4", COUNT), ("n1_00.mp4", COUNT)]
    assert len(loaded_pack.keys) == 4
    keys = data.Pack(prepared_pack, "val").keys
    assert [clip for clip, _, _ in keys] == [0, 0, 1, 1]
    for (_, frame, quality), (_, other, same) in zip(keys[::2], keys[1::2], strict=True):
        assert abs(frame - other) == COUNT // 2
        assert quality == same
    assert loaded_pack.mel[: 4 * COUNT].max() > 60  # a voice
    assert (loaded_pack.mel[4 * COUNT :] == 0).all()  # no sound, and the row of silence
    assert len(loaded_pack.mel) == 8 * COUNT + 1
    assert (loaded_pack.marks[3] == -1).all()
    assert (loaded_pack.marks[4, :, 1] == 128).all()


def test_parts_hold_the_pack(prepared_pack: Path, carried: Path, loaded_pack: data.Pack) -> None:
    index = json.loads((carried / "index.json").read_text())
    assert len(index["parts"]) > 1
    assert all((carried / part["file"]).stat().st_size <= 0.12 * 2**20 for part in index["parts"])
    again = data.Pack(carried, "train")
    assert again.clips == loaded_pack.clips
    assert again.keys == loaded_pack.keys
    # Source frames are carried as they are and decoded by OpenCV, expanded ones came through PyAV: not a pixel differs.
    assert torch.equal(again.frames, loaded_pack.frames)
    error = (again.key_pictures.float() - loaded_pack.key_pictures.float())[:, :256].square().mean()
    assert 10 * np.log10(255**2 / float(error)) > 42  # keyframes are coded again
    assert (again.mel.float() - loaded_pack.mel.float()).abs().max() <= 1
    assert torch.equal(again.marks, loaded_pack.marks)
    assert torch.equal(again.tiny, loaded_pack.tiny)
    # On a GPU the same is decoded into device memory, without the expanded files.
    direct = data.Pack.__new__(data.Pack)
    direct.device = torch.device("cpu")
    direct._take(compact.open_compact(carried, "train"), "train", 2)
    assert torch.equal(direct.frames, loaded_pack.frames)
    assert torch.equal(direct.key_pictures, again.key_pictures)
    assert torch.equal(direct.mel, again.mel)
    assert torch.equal(direct.marks, again.marks)


def test_damaged_parts_are_named(carried: Path, tmp_path: Path) -> None:
    for path in carried.glob("*"):
        if path.name == "index.json" or path.suffix == ".tar":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    part = bytearray((tmp_path / "part-01.tar").read_bytes())
    part[700] ^= 1
    (tmp_path / "part-01.tar").write_bytes(part)
    with pytest.raises(MediaError, match=r"part-01\.tar.*damaged"):
        data.Pack(tmp_path, "train")
    (tmp_path / "part-01.tar").unlink()
    with pytest.raises(MediaError, match=r"part-01\.tar is missing"):
        data.Pack(tmp_path, "train")
    with pytest.raises(MediaError, match="no training pack"):
        data.Pack(tmp_path, "test")
    assert not list(tmp_path.glob("train*"))


@pytest.mark.parametrize("kind", [np.int16, np.uint8])
def test_integers_survive_packing(kind: type) -> None:
    info = np.iinfo(kind)
    values: np.ndarray = np.random.default_rng(0).integers(info.min, info.max, (50, 7, 2), endpoint=True).astype(kind)
    assert np.array_equal(compact.unpack_integers(compact.pack_integers(values)), values)


def test_colours_of_keyframes_are_means() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    planes = averaged_i420(noise)
    assert np.array_equal(planes[:256], cv2.cvtColor(noise, cv2.COLOR_RGB2YUV_I420)[:256])
    means = noise.reshape(128, 2, 128, 2, 3).mean((1, 3))
    rows = np.array([[-0.148, -0.291, 0.439], [0.439, -0.368, -0.071]])  # BT.601, limited range
    for plane, row in zip(planes[256:].reshape(2, 128, 128), rows, strict=True):
        assert np.abs(plane - (128 + means @ row)).max() < 1.5


def test_colours_and_box_means_are_opencvs(loaded_pack: data.Pack) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 384, 256)).astype(np.uint8))
    for pictures in (loaded_pack.frames[:2], noise):
        ours = data.rgb(pictures)
        theirs = np.stack([cv2.cvtColor(p.numpy(), cv2.COLOR_YUV2RGB_I420) for p in pictures]).transpose(0, 3, 1, 2)
        assert np.abs(ours.numpy() - theirs).max() <= 1  # rounding of halves
        assert (ours.numpy() != theirs).mean() < 1e-4
        exact = theirs.astype(np.float64).reshape(2, 3, 8, 32, 8, 32).mean((3, 5))
        assert np.abs(data.box8(torch.from_numpy(theirs).float()).numpy() - exact).max() < 1e-3
        assert np.abs(data.tiny_frames(pictures, torch.device("cpu")).numpy() - exact).max() < 1e-3
    flip = torch.tensor([True, False])
    mirrored = data.rgb(loaded_pack.frames[:2], flip)
    assert torch.equal(mirrored[0], data.rgb(loaded_pack.frames[:1])[0].flip(-1))
    assert torch.equal(mirrored[1], data.rgb(loaded_pack.frames[1:2])[0])


def reference_quantiser(tiny: np.ndarray, key: np.ndarray, luma: float, chroma: float) -> np.ndarray:
    """The quantiser in plain numpy, on [8, 8, 3], written down once more."""
    delta = (tiny - key) @ batch.TO_YCC.T
    out = np.zeros_like(delta)
    planes = [delta[..., 0], *(delta[..., c].reshape(4, 2, 4, 2).mean((1, 3)) for c in (1, 2))]
    for c, (plane, step) in enumerate(zip(planes, (luma, chroma, chroma), strict=True)):
        basis = batch.dct(len(plane))
        levels = basis @ plane @ basis.T / step
        levels = np.sign(levels) * np.floor(np.abs(levels) + 0.4)
        coded = basis.T @ (levels * step) @ basis
        out[..., c] = coded if c == 0 else coded.repeat(2, 0).repeat(2, 1)
    return np.clip(key + out @ batch.FROM_YCC.T, 0, 255)


def test_quantiser() -> None:
    rng = np.random.default_rng(3)
    tiny, key = (rng.uniform(40, 200, shape).astype(np.float32) for shape in ((4, 8, 8, 3), (8, 8, 3)))
    tiny_t, key_t = (torch.from_numpy(np.moveaxis(a, -1, -3).copy()) for a in (tiny, key))
    for luma, chroma in ((3.0, 4.0), (16.0, 9.0)):
        steps = (torch.full((4, 1, 1), luma), torch.full((4, 1, 1), chroma))
        ours = batch.quantise_tiny(tiny_t, key_t, *steps).numpy()
        for i in range(4):
            expected = reference_quantiser(tiny[i], key, luma, chroma)
            assert np.abs(np.moveaxis(ours[i], 0, -1) - expected).max() < 0.02
        # An orthonormal transform rounded with a dead zone of 0.6: no coefficient is off by more than 0.6 steps.
        error = (ours - tiny_t.numpy()).transpose(0, 2, 3, 1) @ batch.TO_YCC.T
        assert np.sqrt(np.square(error[..., 0]).mean()) <= 0.6 * luma
    same = batch.quantise_tiny(key_t, key_t, torch.full((1, 1), 5.0), torch.full((1, 1), 5.0))
    assert torch.allclose(same, key_t, atol=1e-3)


def test_windows(loaded_pack: data.Pack) -> None:
    assert plans.window(loaded_pack, 0, 0).tolist() == [0, 0, 0, 1, 2]
    assert plans.window(loaded_pack, 0, 10, future=0).tolist() == [8, 9, 10, 10, 10]
    assert plans.window(loaded_pack, 0, 10, lost=2).tolist() == [8, 9, 9, 11, 12]
    assert plans.window(loaded_pack, 0, 10, speed=2).tolist() == [6, 8, 10, 12, 14]
    assert plans.window(loaded_pack, 1, COUNT - 1).tolist() == [2 * COUNT - 3, 2 * COUNT - 2] + 3 * [2 * COUNT - 1]
    frames = [[0, 10], [3, 19]]
    many = plans.window(loaded_pack, [[0], [1]], frames, [[0], [2]], [[-1, 1], [0, 4]], 2)
    assert many.shape == (2, 2, 5)
    assert many[0, 1].tolist() == plans.window(loaded_pack, 0, 10, 0, 1, 2).tolist() == [6, 6, 10, 10, 10]
    assert many[1, 1].tolist() == plans.window(loaded_pack, 1, 19, 2, 4, 2).tolist()
    silence = len(loaded_pack.mel) - 1
    whole, past = plans.mel_window(loaded_pack, 0, 10), plans.mel_window(loaded_pack, 0, 10, future=0)
    assert whole.tolist() == list(range(32, 52))
    assert past.tolist() == list(range(32, 44)) + 8 * [silence]
    assert plans.mel_window(loaded_pack, 0, 0)[:8].tolist() == 8 * [silence]
    assert plans.mel_window(loaded_pack, 1, 10)[0] == 4 * COUNT + 32
    assert plans.mel_window(loaded_pack, 0, 10, speed=2).tolist() == [*range(22, 60, 2), silence]


@pytest.mark.parametrize("full", [False, True])
def test_batches_are_what_the_decoder_will_see(loaded_pack: data.Pack, full: bool) -> None:
    sampler = plans.Sampler(loaded_pack, plans.Drawing(keys=3, targets=3, seed=1, full=full))
    got = batch.make_batch(loaded_pack, sampler.plan(0))
    assert got.key.shape == (3, 3, 256, 256)
    assert got.target.shape == (9, 3, 256, 256)
    assert got.owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert got.mel.shape == (9, 20, 80)
    assert all(value.dtype == torch.float32 for value in (got.key, got.target, got.tiny, got.mel, got.marks))
    key8 = box_down(got.key, 8)[got.owner]
    assert torch.allclose(refine_chroma(got.tiny, key8), got.tiny, atol=0.02)
    # With the finest steps and the target in the middle the tiny frame is the box mean of the picture to be drawn,
    # whatever was done to that: luma all of it, chroma within 2x2 squares.
    plan = sampler.plan(1)
    plan.step[:] = 1e-3
    plan.window[:] = plan.frame[:, :, None]
    got = batch.make_batch(loaded_pack, plan)
    exact = got.target.double().reshape(9, 3, 8, 32, 8, 32).mean((3, 5)).float()
    assert (luma_of(got.tiny[:, 2]) - luma_of(exact)).abs().max() < 5e-5
    halves = [torch.nn.functional.avg_pool2d(x, 2) for x in (got.tiny[:, 2], exact)]
    assert (halves[0] - halves[1]).abs().max() < 5e-5


def test_landmarks_follow_the_picture(loaded_pack: data.Pack) -> None:
    """A bright dot painted at a landmark is found at the changed landmark of the changed picture."""
    painted = data.Pack.__new__(data.Pack)
    vars(painted).update(vars(loaded_pack))
    painted.frames = loaded_pack.frames.clone()
    painted.frames[:, :256] = 60
    painted.frames[:, 256:] = 128
    painted.marks = torch.full_like(loaded_pack.marks, -1.0)
    painted.marks[:, 36] = torch.tensor([90.0, 140.0])  # outer corner of one eye; mirrored, of the other
    painted.frames[:, 137:143, 87:93] = 230
    plan = plans.Sampler(painted, plans.Drawing(keys=8, targets=1, seed=5, full=True)).plan(0)
    assert plan.flip.any()
    assert not plan.flip.all()
    got = batch.make_batch(painted, plan)
    for picture, marks, flipped in zip(got.target, got.marks, plan.flip, strict=True):
        x, y = marks[45 if flipped else 36].tolist()
        assert (marks[36 if flipped else 45] == -1).all()
        bright = picture.mean(0)
        where = torch.nonzero(bright > 0.75 * bright.max()).float().mean(0) + 0.5
        assert abs(float(where[1]) - x) < 1
        assert abs(float(where[0]) - y) < 1


def test_mirroring_landmarks_twice_changes_nothing() -> None:
    assert np.array_equal(batch.FLIP[batch.FLIP], np.arange(70))


def test_a_plan_depends_on_seed_process_and_step_alone(loaded_pack: data.Pack) -> None:
    def plan(step: int, seed: int = 0, rank: int = 0) -> dict[str, object]:
        drawn = plans.Sampler(loaded_pack, plans.Drawing(seed=seed), rank).plan(step)
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(drawn).items()}

    sampler = plans.Sampler(loaded_pack, plans.Drawing())
    for step in (3, 0, 7):
        drawn = sampler.plan(step)
        assert plan(step) == {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(drawn).items()}
    assert plan(3) != plan(4)
    assert plan(3) != plan(3, seed=1)
    assert plan(3) != plan(3, rank=1)


def test_pairs_are_neighbours(loaded_pack: data.Pack) -> None:
    plan = plans.Sampler(loaded_pack, plans.Drawing(keys=6, targets=4, pairs=True)).plan(0)
    gaps = plan.frame[:, 1::2] - plan.frame[:, ::2]
    assert set(gaps.flatten().tolist()) <= {1, 2}


def test_batches_are_made_ahead_in_order_and_errors_come_through(loaded_pack: data.Pack) -> None:
    sampler = plans.Sampler(loaded_pack, plans.Drawing(keys=1, targets=1))
    stream = feed.batches(sampler, 5)
    for step in (5, 6):
        got, expected = next(stream), batch.make_batch(loaded_pack, sampler.plan(step))
        assert torch.equal(got.target, expected.target)
        assert torch.equal(got.tiny, expected.tiny)
    stream.close()
    other = plans.Sampler(loaded_pack, plans.Drawing(keys=1, targets=1, full=True))
    stream = feed.batches([sampler, other], 4)
    for step, one in ((4, sampler), (5, other)):
        assert torch.equal(next(stream).target, batch.make_batch(loaded_pack, one.plan(step)).target)
    stream.close()
    broken = data.Pack.__new__(data.Pack)
    vars(broken).update(vars(loaded_pack) | {"frames": loaded_pack.frames[:0]})
    with pytest.raises(IndexError):
        next(feed.batches(plans.Sampler(broken, plans.Drawing(keys=1, targets=1)), 0))


def test_landmark_loss_wants_the_right_direction() -> None:
    marks = torch.full((1, 70, 2), 120.0)
    key_marks = marks + torch.tensor([8.0, 0.0])  # the keyframe's points lie 8 pixels to the right
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = 8 / 128
    assert float(losses.landmark_loss(flow, marks, key_marks)) < 1e-6
    still = float(losses.landmark_loss(0 * flow, marks, key_marks))
    assert float(losses.landmark_loss(-flow, marks, key_marks)) > still > 0
    eyes = marks + torch.linspace(0, 60, 70)[:, None]
    shift = torch.tensor([6.0, 0.0])
    apart = float((eyes[0, 36:42].mean(0) - eyes[0, 42:48].mean(0)).norm())
    assert float(evaluate.landmark_error(0 * flow, eyes, eyes + shift, MOUTH)) == pytest.approx(6 / apart)


def test_region_weight_is_high_at_the_mouth() -> None:
    marks = torch.full((1, 70, 2), -1.0)
    marks[:, MOUTH] = torch.tensor([128.0, 200.0])
    weight = losses.region_weight(marks, 64, 4.0)
    assert float(weight[0, 0, 50, 32]) > 4
    assert float(weight[0, 0, 5, 5]) == pytest.approx(1)


def test_loss_settings() -> None:
    assert losses.LossWeights().changed(["temporal=2", "perceptual=0"]).temporal == 2
    for wrong in ("nothing=1", "pixels=much", "pixels"):
        with pytest.raises(TfcodecError, match="--loss"):
            losses.LossWeights().changed([wrong])


def test_mouth_squares() -> None:
    pictures = torch.rand(2, 3, 256, 256)
    marks = torch.full((2, 70, 2), 100.0)
    marks[1, MOUTH] = torch.tensor([250.0, 128.0])
    got = evaluate.mouths(pictures, marks)
    assert torch.equal(got[0], pictures[0, :, 52:148, 52:148])
    assert torch.equal(got[1], pictures[1, :, 80:176, 160:256])


def test_state_in_pieces(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {f"{kind}.w{i}": torch.randn(600, 700) for kind in ("model", "ema", "exp_avg") for i in range(5)}
    tensors["step.w0"] = torch.tensor(7.0)
    for i in range(5):
        tensors[f"model.w{i}"] = tensors[f"ema.w{i}"] + 1e-3 * tensors[f"model.w{i}"]
    state.save_state(tmp_path, tensors, {"step": 7, "config": "x"})
    files = sorted(tmp_path.glob("state-*"))
    assert len(files) > 1
    assert all(f.stat().st_size <= 15 * 2**20 for f in files)
    again, about = state.load_state(tmp_path)
    assert about["step"] == 7
    assert about["config"] == "x"
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[k], v) for k, v in tensors.items())
    whole = sum(f.stat().st_size for f in files)
    state.save_state(tmp_path, tensors, {"step": 8}, small=True)
    small = sorted(tmp_path.glob("state-*"))
    assert not set(files) & set(small)
    assert sum(f.stat().st_size for f in small) < 0.7 * whole
    again, _ = state.load_state(tmp_path)
    assert torch.equal(again["ema.w1"], tensors["ema.w1"])
    assert (again["model.w1"] - tensors["model.w1"]).abs().max() < 3e-5
    assert torch.allclose(again["exp_avg.w1"], tensors["exp_avg.w1"], rtol=0.01)
    small[0].write_bytes(small[0].read_bytes()[:-1] + b"?")
    with pytest.raises(TfcodecError, match="damaged"):
        state.load_state(tmp_path)
    small[0].unlink()
    with pytest.raises(TfcodecError, match="missing"):
        state.load_state(tmp_path)
    with pytest.raises(TfcodecError, match="no training state"):
        state.load_state(tmp_path / "nowhere")


def test_curve_and_rows(tmp_path: Path) -> None:
    for step in range(5):
        report.append_row(tmp_path / "train.csv", {"step": step, "total": 2 - 0.1 * step})
        report.append_row(tmp_path / "val.csv", {"step": step, "psnr": 20 + step, "lpips": "", "other": 1})
    assert report.read_rows(tmp_path / "val.csv")["psnr"] == [20, 21, 22, 23, 24]
    report.draw_curve(tmp_path)
    picture: np.ndarray = there(cv2.imread(str(tmp_path / "curve.png")))
    assert picture.shape == (320, 1380, 3)
    left = (picture != 255).any(-1)[40:280, 70:440]
    assert left[:60, :60].sum() > left[:60, -60:].sum()  # it falls


def run(pack: Path, folder: Path, *more: str) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    common = ["--keys", "1", "--targets", "2", "--eval-every", "1000", "--quiet", "--warm-up", "2", "--threads", "1"]
    common += ["--shape", "narrow"]
    train.main([str(pack), str(folder), *common, *more])
    return state.load_state(folder / "state")[0]


@needs_metrics
@pytest.mark.usefixtures("narrow")
def test_a_resumed_run_is_an_uninterrupted_one(prepared_pack: Path, tmp_path: Path) -> None:
    schedule = ["--schedule-steps", "2", "--anneal", "--accumulate", "2", "--loss", "adversarial=0.1", "temporal=1"]
    whole = run(prepared_pack, tmp_path / "whole", *schedule)
    run(prepared_pack, tmp_path / "cut", *schedule, "--steps", "1")
    assert json.loads((tmp_path / "cut" / "state" / "manifest.json").read_text())["step"] == 1
    cut = run(prepared_pack, tmp_path / "cut", *schedule)
    assert whole.keys() == cut.keys()
    different = [name for name, value in whole.items() if not torch.equal(value, cut[name])]
    assert not different
    card = json.loads((tmp_path / "cut" / "card.json").read_text())
    assert [(c["from_step"], c["to_step"]) for c in card["calls"]] == [(0, 1), (1, 2)]
    assert card["losses"]["temporal"] == 1
    # A finished schedule stays finished.
    run(prepared_pack, tmp_path / "cut", *schedule)
    assert json.loads((tmp_path / "cut" / "state" / "manifest.json").read_text())["step"] == 2


@needs_metrics
@pytest.mark.usefixtures("narrow")
def test_training_learns_resumes_and_exports(prepared_pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run(prepared_pack, folder, "--coarse-only", "--steps", "2", "--log-every", "1")
    second = run(prepared_pack, folder, "--steps", "3", "--small-state", "--sheet-every", "1")
    assert not torch.equal(first["model.stage2.paint.weight"], second["model.stage2.paint.weight"])
    assert all(torch.isfinite(value).all() for value in second.values())
    assert len(report.read_rows(folder / "val.csv")["psnr"]) == 3
    assert len(report.read_rows(folder / "train.csv")["total"]) == 2
    assert (folder / "curve.png").is_file()
    assert there(cv2.imread(str(folder / "sheet-0000003.jpg"))).shape == (512, 1280, 3)
    with pytest.raises(TfcodecError, match="shape standard, not narrow"):
        run(prepared_pack, tmp_path / "other", "--weights", str(weights_file(default_model())))
    with pytest.raises(TfcodecError, match="another network"):
        run(prepared_pack, folder, "--without", "closeups", "--steps", "4")
    export([str(folder), "9", "--folder", str(tmp_path)])
    (line,) = json.loads((tmp_path / "registry.json").read_text())
    assert line["model_id"] == 9
    weights = tmp_path / line["file"]
    export([str(folder), "--to", str(tmp_path / "alone.safetensors")])
    assert (tmp_path / "alone.safetensors").read_bytes() == weights.read_bytes()
    export([str(folder), "9", "--mix", str(folder), "0.5", "--folder", str(tmp_path / "mixed")])  # with itself
    mixed = read_weights(next((tmp_path / "mixed").glob("*.safetensors"))).state_dict()
    assert all(torch.equal(value, mixed[name]) for name, value in read_weights(weights).state_dict().items())
    third = run(prepared_pack, tmp_path / "next", "--weights", str(weights), "--minutes", "0")
    for name, value in read_weights(weights).state_dict().items():
        assert torch.equal(third[f"model.{name}"], value), name
    evaluate.main([str(prepared_pack), str(folder), "--targets", "1", "-o", str(tmp_path / "scores.json")])
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert scores["psnr"] > 10
    assert scores["flow_mouth"] >= 0


@needs_metrics
@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", list(options.VARIANTS))
def test_every_variant_takes_a_step(loaded_pack: data.Pack, prepared_pack: Path, tmp_path: Path, name: str) -> None:
    command = [str(prepared_pack), str(tmp_path / name), "--variant", name, "--threads", "1", "--warm-up", "1"]
    # What a variant leaves out or adds has nothing to do with the number of channels.
    of_a_shape = name == "full" or "--shape" in options.VARIANTS[name]
    trainer = train.Trainer(options.parse([*command, *([] if of_a_shape else ["--shape", "narrow"])]))
    before = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    pairs = trainer.drawing().pairs
    drawing = dataclasses.replace(trainer.drawing(), keys=1, targets=1 + pairs)
    got = batch.make_batch(loaded_pack, plans.Sampler(loaded_pack, drawing).plan(0))
    trainer.update(iter([got]), 0.0)
    values = trainer.read_log()
    assert all(np.isfinite(v) for v in values.values()), values
    assert ("perceptual" in values) == (name not in ("no-lpips", "no-keyframe-l1"))
    assert ("temporal" in values) == (name in ("temporal", "recurrence"))
    assert ("critic" in values) == (name == "adversarial")
    moved = {n for n, v in trainer.model.state_dict().items() if not torch.equal(v, before[n])}
    assert any(n.startswith("stage1.") for n in moved)
    assert (trainer.config.stage2) == any(n.startswith("stage2.") for n in moved)
    scores = trainer.evaluate(loaded_pack, plans.fixed_plans(loaded_pack, 1, at_a_time=1)[:1])
    assert np.isfinite(list(scores.values())).all()
    lacking = {"no-motion": {"motion", "closeups"}, "no-closeups": {"closeups"}, "no-restoration": {"restoration"},
               "no-landmarks": {"landmarks", "motion", "closeups"}}.get(name)  # fmt: skip
    if lacking is not None:
        config = dataclasses.asdict(trainer.config)
        usual = dataclasses.asdict(NetworkConfig(shape="narrow"))
        assert lacking == {part for part, on in usual.items() if on != config[part]}
        assert ("closer" in values) == ("closeups" not in lacking)
        trainer.update(iter([got]), 0.0)
        assert all(np.isfinite(v) for v in trainer.read_log().values())
    if name in ("recurrence", "second-reference"):
        trainer.update(iter([got]), 0.0)  # heads begin at zero: what is behind them learns from the second step on
        moved = {n for n, v in trainer.model.state_dict().items() if not torch.equal(v, before[n])}
        assert any(n.startswith(("stage1.recall", "stage2.second")) for n in moved)
        scores = evaluate.measure(trainer.ema, loaded_pack, 1)
        assert np.isfinite(list(scores.values())).all()
        assert scores["change_key"] > 0


def test_a_second_keyframe_is_of_another_frame(loaded_pack: data.Pack) -> None:
    plain, more = (
        vars(plans.Sampler(loaded_pack, plans.Drawing(keys=6, second=second)).plan(1)) for second in (False, True)
    )
    for name in plain.keys() - {"second"}:
        assert np.array_equal(plain[name], more[name]), name
    assert plain["second"] is None
    for key, second in zip(more["key"], more["second"], strict=True):
        (clip, frame, _), (other_clip, other_frame, _) = loaded_pack.keys[key], loaded_pack.keys[second]
        assert clip == other_clip
        assert frame != other_frame
    pictures = loaded_pack.key_pictures[more["second"]]
    got = batch.make_batch(loaded_pack, plans.Sampler(loaded_pack, plans.Drawing(keys=6, second=True)).plan(1))
    assert got.second is not None
    gain = torch.from_numpy(more["gain"]).float()[:, :, None, None]
    expected = data.rgb(pictures, torch.from_numpy(more["flip"])) * gain / 255
    assert torch.allclose(got.second, expected, atol=1e-4)


@needs_metrics
@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_prior_stays_as_it_is(
    loaded_pack: data.Pack, prepared_pack: Path, tmp_path: Path, frozen: bool
) -> None:
    # With motion the prior is never asked to learn beside the rest.
    more = ["--without", "motion", "--shape", "narrow", *(["--freeze-prior"] if frozen else [])]
    args = options.parse([str(prepared_pack), str(tmp_path), "--threads", "1", "--warm-up", "1", *more])
    trainer = train.Trainer(args)
    prior = trainer.model.stage1.prior
    assert prior is not None
    before = {n: v.clone() for n, v in prior.state_dict().items()}
    got = batch.make_batch(loaded_pack, plans.Sampler(loaded_pack, plans.Drawing(keys=1, targets=1)).plan(0))
    trainer.update(iter([got]), 0.0)
    assert all(torch.equal(v, before[n]) for n, v in prior.state_dict().items()) == frozen
    assert ("prior" in trainer.read_log()) == (not frozen)


@needs_metrics
@pytest.mark.usefixtures("narrow")
def test_a_step_that_blows_up_changes_nothing_and_nothing_waits(
    loaded_pack: data.Pack, prepared_pack: Path, tmp_path: Path
) -> None:
    command = [str(prepared_pack), str(tmp_path), "--threads", "1", "--shape", "narrow"]
    args = options.parse([*command, "--loss", "adversarial=0.1", "temporal=1"])
    trainer = train.Trainer(args)
    good = batch.make_batch(
        loaded_pack, plans.Sampler(loaded_pack, plans.Drawing(keys=1, targets=2, pairs=True)).plan(0)
    )
    bad = dataclasses.replace(good, target=good.target * float("nan"))
    trainer.update(iter([good]), 0.0)
    before = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    trainer.update(iter([bad]), 0.0)
    assert all(torch.equal(v, before[n]) for n, v in trainer.model.state_dict().items())
    assert all(torch.isfinite(v).all() for v in trainer.ema.state_dict().values())
    seen: list[str] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    watch: Any = Watch  # its constructor has no types
    sampler = plans.Sampler(loaded_pack, plans.Drawing(keys=1, targets=2, full=True, pairs=True))
    trainer.update(iter([batch.make_batch(loaded_pack, sampler.plan(1))]), 0.0)  # constants are made once
    plan = sampler.plan(2)
    with watch():
        got = batch.make_batch(loaded_pack, plan)
    # The plan itself is all that comes from the host; it is sent without waiting.
    assert sum("lift_fresh" in name for name in seen) == sum(isinstance(v, np.ndarray) for v in vars(plan).values())
    seen = [name for name in seen if "lift_fresh" not in name]
    with watch():
        trainer.update(iter([got]), 0.0)
    # Reading a value, counting what is true, and constants made on the host all wait for a GPU.
    waits = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero", "masked_select", "unique")
    assert not [name for name in seen if any(w in name for w in waits)]
    assert any("convolution" in name for name in seen)
    assert trainer.count_flops(loaded_pack, plans.Drawing(keys=2, targets=2)) > 2 * 2 * 3 * 1.5e9


@needs_metrics
@pytest.mark.usefixtures("narrow")
def test_ablations_make_a_table(prepared_pack: Path, tmp_path: Path) -> None:
    start = tmp_path / "start" / "narrow.safetensors"
    start.parent.mkdir()
    save_weights(by_chance("narrow"), start)
    command = [
        str(prepared_pack), str(tmp_path / "out"), "--steps", "1", "--variants", "full", "no-closeups",
        "--results", str(tmp_path), "--keys", "1", "--targets", "1", "--quiet", "--targets-measured", "1",
        "--threads", "1", "--shape", "narrow", "--weights", str(start), "--name", "tuned",
    ]  # fmt: skip
    ablate.main([*command, "--call-minutes", "0"])
    assert not (tmp_path / "tuned.json").exists()
    ablate.main(command)
    text = (tmp_path / "tuned.json").read_text()
    assert str(tmp_path) not in text
    assert start.name in text
    result = json.loads(text)
    assert list(result["variants"]) == ["full", "no-closeups"]
    assert result["variants"]["no-closeups"]["network"]["closeups"] is False
    assert result["variants"]["full"]["steps"] == 1
    lines = (tmp_path / "tuned.md").read_text().splitlines()
    assert len(lines) == 5
    (tmp_path / "tuned.json").unlink()
    ablate.main(command)  # nothing left to train
    assert json.loads((tmp_path / "tuned.json").read_text())["variants"] == result["variants"]
    assert lines[-1].startswith("| frozen keyframe | - |")


def test_training_imports_nothing_that_a_gpu_machine_lacks() -> None:
    code = (
        "import sys\nfor name in ('av', 'librosa', 'constriction', 'tqdm', 'scipy', 'matplotlib', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "import tfcodec.training.train, tfcodec.training.export, tfcodec.training.evaluate, tfcodec.training.ablate\n"
        "print('fine')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "fine"


@needs_metrics
def test_two_processes_train_one_network(carried: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
        "tfcodec.training.train", str(carried), str(tmp_path), "--keys", "1", "--targets", "1", "--steps", "2",
        "--coarse-only", "--threads", "1", "--shape", "light",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    assert state.load_state(tmp_path / "state")[1]["step"] == 2
    assert report.read_rows(tmp_path / "val.csv")["step"] == [0, 2]  # one process evaluates


@needs_metrics
@pytest.mark.usefixtures("processor_clock")
def test_training_the_restorer(prepared_pack: Path, tmp_path: Path) -> None:
    """It learns, its weights reach the network, and pixels under mouth and eyes count more."""
    pack = data.Pack(prepared_pack, "val")
    keys = torch.tensor([0, 0])
    decoded, source, weight = restoration.examples(pack, keys, torch.tensor([False, True]))
    for x in (decoded, source, weight):
        assert torch.allclose(x[0].flip(-1), x[1], atol=1e-5)
    assert 20 < psnr(decoded, source).mean() < 50
    x, y = pack.marks[pack.clips[pack.keys[0][0]][1] + pack.keys[0][1], 48:68].mean(0).long()
    assert weight[0, 0, y, x] > 2 * weight.min()
    out = tmp_path / "restorer.safetensors"
    restoration.main([str(prepared_pack), str(out), "--minutes", "0.03", "--batch", "2", "--threads", "1"])
    with safetensors.safe_open(out, framework="pt") as file:
        figures = json.loads(file.metadata()["restorer"])["figures"]
    assert figures["steps"] > 2
    assert figures["psnr"] != figures["psnr_key"]
    weights = ["--weights", str(weights_file(default_model())), "--restorer"]
    network = start.start_network(options.parse([str(prepared_pack), str(tmp_path / "run"), *weights, str(out)]))
    assert network.restorer is not None
    assert network.restorer.paint.weight.abs().sum() > 0
    with pytest.raises(TfcodecError, match="--restorer"):
        restoration.read_restorer(weights_file(default_model()), network.restorer)
