"""A quarter of an hour's training, rehearsed: shares, a clock, and the few small files that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="training needs OpenCV: pip install 'tfcodec[train]'")

import torch

from tfcodec.errors import TfcodecError
from tfcodec.metrics.files import find_weights
from tfcodec.model.config import NetworkConfig
from tfcodec.model.upsampler import Upsampler
from tfcodec.model.weights import read_weights, save_weights
from tfcodec.training import quarter, shares
from tfcodec.training.data import Pack
from tfcodec.training.options import parse
from tfcodec.training.report import read_rows
from tfcodec.training.start import start_network
from tfcodec.training.state import load_state

MIB = 2**20
needs_metrics = pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")


@pytest.fixture(scope="module")
def shared(drawn_clips: Path, prepared_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The drawn clips' pack in two shares."""
    folder = tmp_path_factory.mktemp("shares")
    shares.main([str(drawn_clips), str(prepared_pack), str(folder), "--mib", "1.1", "1"])
    return sorted(folder.glob("share-*"))


def test_shares_hold_other_people_and_all_of_their_frames(shared: list[Path], loaded_pack: Pack) -> None:
    packs = [Pack(share, "train") for share in shared]
    assert sorted(name for pack in packs for name, _, _ in pack.clips) == ["d1_00.mp4", "n1_00.mp4"]
    both = packs[0]
    order = [name for pack in packs for name, _, _ in pack.clips]
    both.extend(packs[1])
    assert len(both.frames) == len(loaded_pack.frames)
    assert both.ends.tolist() == [[0, 20], [20, 20]]
    for i, name in enumerate(order):
        j = [n for n, _, _ in loaded_pack.clips].index(name)
        ours, theirs = slice(20 * i, 20 * i + 20), slice(20 * j, 20 * j + 20)
        assert torch.equal(both.frames[ours], loaded_pack.frames[theirs])
        assert (both.marks[ours] - loaded_pack.marks[theirs]).abs().max() <= 0.125  # quarters of a pixel
        assert {clip for clip, _, _ in both.keys if clip == i} == {i}
    assert len(both.key_pictures) == len(both.keys) == len(both.key_seen) == 4
    assert (both.mel == 0).all()
    assert len(Pack(shared[0], "val").clips) == 2
    assert all(file.stat().st_size < 1.2 * MIB for share in shared for file in share.glob("part-*.tar"))


def test_smoothing_stays_within_clips_and_keeps_what_is_straight(loaded_pack: Pack) -> None:
    line = torch.arange(40.0)[:, None, None].expand(40, 70, 2).clone()
    assert torch.allclose(quarter.smoothed(line, loaded_pack), line, atol=1e-4)
    jump = torch.zeros(40, 70, 2)
    jump[20:] = 1  # the next clip
    assert torch.equal(quarter.smoothed(jump, loaded_pack), jump)
    noise = torch.randn(40, 70, 2, generator=torch.Generator().manual_seed(0))
    assert float(quarter.smoothed(noise, loaded_pack)[2:18].std()) < 0.8


COMMON = [
    "--keys", "1", "--targets", "2", "--threads", "1", "--warm-up", "1", "--save-every", "1000", "--reserve", "0",
    "--loss", "temporal=1", "--keep-state", "--plan-seconds", "1000",
]  # fmt: skip


def check_files(out: Path) -> None:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "seconds"]
    assert len(files) <= 8, files
    assert all(path.stat().st_size <= 16 * MIB for path in files), files
    assert {"network.safetensors", "card.json", "val.csv"} <= {path.name for path in files}


@needs_metrics
def test_an_hour_in_seconds_and_on_from_there(shared: list[Path], tmp_path: Path) -> None:
    """It needs nothing but torch, numpy, OpenCV and safetensors; its files are few and small; the next call goes on."""
    start = tmp_path / "start.safetensors"
    torch.manual_seed(0)
    save_weights(Upsampler(), start)
    out = tmp_path / "out"
    (shared[1] / "whole").touch()
    code = (
        "import sys\nfor name in ('av', 'librosa', 'constriction', 'tqdm', 'scipy', 'matplotlib', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "from tfcodec.training.quarter import main\nmain(sys.argv[1:])"
    )
    command = [
        sys.executable, "-c", code, str(out), *map(str, shared), "--start", str(start), "--seconds", "1",
        "--restorer-seconds", "0.3", "--tracker-seconds", "0.3", *COMMON,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0, done.stderr[-2000:]
    check_files(out)
    card = json.loads((out / "card.json").read_text())
    assert card["data"]["clips"] == 2  # of both shares
    assert card["network"]["motion"]
    assert card["steps"] >= 1
    assert any("restorer: " in line for line in card["said"])
    assert str(tmp_path) not in json.dumps(card["said"])
    first, begin = read_weights(out / "network.safetensors").state_dict(), read_weights(start).state_dict()
    for part in ("tracker.", "restorer.", "stage2."):
        assert any(not torch.equal(value, begin[name]) for name, value in first.items() if name.startswith(part)), part
    tensors, about = load_state(out / "state")
    assert about["step"] == card["steps"]
    assert not any("tracker" in name for name in tensors if name.startswith("exp_avg"))
    for name, value in first.items():
        assert torch.equal(tensors[f"ema.{name}"], value)
        assert (tensors[f"model.{name}"] - value).abs().max() < 0.1

    (out / "seconds").write_text("1")  # the clock is told anew
    quarter.main([str(out), *map(str, shared), "--start", str(start), "--seconds", "10000", *COMMON])
    check_files(out)
    card = json.loads((out / "card.json").read_text())
    assert card["calls"][1]["from_step"] == about["step"]
    assert card["calls"][1]["to_step"] > about["step"]
    assert not any("restorer: " in line for line in card["said"])  # that was done before
    assert read_rows(out / "val.csv")["step"] == [about["step"], card["steps"]]
    assert read_rows(out / "val.csv")["seconds"][1] > read_rows(out / "val.csv")["seconds"][0]
    second = read_weights(out / "network.safetensors").state_dict()
    assert all(torch.equal(value, first[name]) for name, value in second.items() if name.startswith("tracker."))
    assert any(not torch.equal(value, first[name]) for name, value in second.items() if name.startswith("stage2."))
    (out / "network.safetensors").write_bytes(start.read_bytes())
    with pytest.raises(TfcodecError, match="not the one"):
        load_state(out / "state")


def test_a_larger_network_takes_what_fits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = Upsampler()
    save_weights(small, tmp_path / "small.safetensors")
    command = ["-", str(tmp_path), "--weights", str(tmp_path / "small.safetensors"), "--shape", "large"]
    with pytest.raises(TfcodecError, match="shape standard, not large"):
        start_network(parse(command))
    large = start_network(parse([*command, "--fitting"]))
    assert large.config == NetworkConfig(shape="large")
    taken = read_weights(tmp_path / "small.safetensors").state_dict()
    same = [name for name, value in large.state_dict().items() if torch.equal(value, taken.get(name, torch.zeros(())))]
    assert len(same) > 0.7 * len(taken)
    for part in ("tracker.", "restorer.", "closeups.", "stage1.prior.", "stage1.trunk8."):
        assert all(name in same for name in taken if name.startswith(part)), part
    save_weights(large, tmp_path / "large.safetensors")
    assert (tmp_path / "large.safetensors").stat().st_size <= 16 * MIB
