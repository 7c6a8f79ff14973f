"""Training of the close-ups alone: other faces, pasting, and the whole of it in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_landmarks import face_marks

from tfcodec.errors import TfcodecError
from tfcodec.metrics.files import find_weights
from tfcodec.model.closeup import SQUARES, head_frame, in_head, points
from tfcodec.model.registry import default_model, weights_file
from tfcodec.model.weights import read_weights
from tfcodec.training import closeups
from tfcodec.training.closeups import Example, _Shape, enlarged, pasted, seen


def example(count: int = 6) -> Example:
    torch.manual_seed(0)
    pictures = tuple(
        F.interpolate(255 * torch.rand(count, 3, 9, 11), (s.height, s.width), mode="bilinear").byte()
        for s in map(enlarged, SQUARES)
    )
    marks = face_marks().expand(count, -1, -1)
    inside = in_head(marks, head_frame(marks))
    return Example(pictures, pictures, pictures, inside, inside)


def test_another_shape_and_back() -> None:
    torch.manual_seed(1)
    for square in SQUARES:
        change = _Shape(4, square, enlarged(square))
        places = points(square, 12, 8, torch.device("cpu")).reshape(1, -1, 2).expand(4, -1, -1)
        there = change.there(places)
        assert (there - places).abs().mean() > 0.02
        assert (change.back(there) - places).abs().mean() < 0.01


def test_what_is_seen_unchanged_is_the_middle_of_what_is_kept() -> None:
    some = example()
    for part, square in enumerate(SQUARES):
        x = seen(some, part, changed=False)
        assert x.key.shape == (6, 3, square.height, square.width)
        top, left = ((a - b) // 2 for a, b in zip(some.key[part].shape[-2:], x.key.shape[-2:], strict=True))
        middle = some.key[part][..., top : top + square.height, left : left + square.width].float() / 255
        assert (x.key - middle).abs().mean() < 0.02
        other = seen(some, part, changed=True)
        assert (other.key - other.wanted).abs().max() < 1e-6  # all of them change alike
        assert (other.key - x.key).abs().mean() > 0.03


def test_pasting_keeps_what_is_smooth_and_blurs_what_is_not() -> None:
    torch.manual_seed(2)
    square = SQUARES[0]
    smooth = F.interpolate(torch.randn(2, 3, 5, 6), (square.height, square.width), mode="bicubic", align_corners=False)
    sharp = torch.randn(2, 3, square.height, square.width)
    inner = (..., slice(6, -6), slice(6, -6))
    for distance in closeups.DISTANCES:
        assert (pasted(smooth, square, distance) - smooth)[inner].abs().mean() < 0.06 * smooth.abs().mean()
        assert pasted(sharp, square, distance)[inner].std() < 0.9 * sharp.std()


@pytest.mark.skipif(find_weights() is None, reason="needs metric networks: set TFCODEC_METRIC_WEIGHTS")
def test_close_ups_are_trained_and_nothing_else(
    prepared_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.safetensors"
    options = ["--minutes", "0.02", "--frames", "8", "--batch", "2", "--threads", "1"]
    closeups.main([str(prepared_pack), str(out), *options])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["steps"] >= 1
    assert said["before"]["mouth_lpips_key"] == pytest.approx(said["mouth_lpips_key"])
    old, new = (read_weights(path).state_dict() for path in (weights_file(default_model()), out))
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"closeups"}
    closeups.main([str(prepared_pack), str(out), *options, "--only", "eyes"])
    new = read_weights(out).state_dict()
    changed = {".".join(name.split(".")[:3]) for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"closeups.parts.1"}
    with pytest.raises(TfcodecError, match="CPU"):
        closeups.main([str(prepared_pack), str(out), "--device", "meta"])
