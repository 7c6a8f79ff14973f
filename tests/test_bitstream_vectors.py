"""Golden container files: good ones are read and written back byte by byte, bad ones refused by rule."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tfcodec import errors
from tfcodec.bitstream import Limits, account_bytes, read_stream, write_signature

VECTORS = Path(__file__).parent / "vectors"
README = (VECTORS / "README.md").read_text(encoding="utf-8")
VALID = re.findall(r"^\| `(valid/\w+\.tfc)` \| .+ \|$", README, re.M)
FAULTY = re.findall(r"^\| `(faulty/\w+\.tfc)` \| (R\d+) \| (\w+) \| .+ \|$", README, re.M)

NOT_REWRITTEN = {"valid/newer_version.tfc"}
"""Holds fields that this version does not know and therefore does not write back."""


def test_readme_lists_every_file() -> None:
    listed = {*VALID, *(name for name, _, _ in FAULTY)}
    found = {path for group in ("valid", "faulty") for path in (VECTORS / group).glob("*")}
    assert listed == {path.relative_to(VECTORS).as_posix() for path in found}
    assert len(VALID) >= 16
    assert len(FAULTY) >= 60


def test_every_rule_of_files_has_a_vector() -> None:
    assert {int(rule[1:]) for _, rule, _ in FAULTY} == {*range(1, 38), 61, 63, 64, 65, 66, 67, 72, 74, 75, 76, 77, 78}


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    data = (VECTORS / name).read_bytes()
    parsed = read_stream(data)
    assert parsed.damaged == ()
    assert parsed.frame_count == parsed.tiny[-1].end_frame
    assert read_stream(data, errors="conceal") == parsed
    account = account_bytes(data)
    assert account.pop("total") == len(data) == sum(account.values())
    if name not in NOT_REWRITTEN:
        assert write_signature() + b"".join(chunk.to_bytes() for chunk in parsed.chunks) == data


@pytest.mark.parametrize(("name", "rule", "error"), FAULTY)
def test_faulty(name: str, rule: str, error: str) -> None:
    data = (VECTORS / name).read_bytes()
    with pytest.raises(errors.BitstreamError) as caught:
        read_stream(data)
    assert type(caught.value) is getattr(errors, error)
    message = re.fullmatch(r"byte (\d+): .+ \[(R\d+)\]", str(caught.value))
    assert message is not None
    assert message[2] == rule
    assert 0 <= int(message[1]) <= len(data)


@pytest.mark.parametrize("name", [name for name, _, _ in FAULTY])
def test_faulty_concealed(name: str) -> None:
    """Concealing never raises anything but BitstreamError, and never calls a faulty file sound."""
    data = (VECTORS / name).read_bytes()
    try:
        parsed = read_stream(data, errors="conceal")
    except errors.BitstreamError:
        return
    # What ties frames to keyframes and totals may be broken by damage elsewhere, so it is left to the decoder
    # then.
    tolerated = {f"R{n}" for n in (23, 24, 25, 26, 29, 34, 61, 64, 65, 66, 67, 72, 75, 76, 77)}
    rule = next(rule for other, rule, _ in FAULTY if other == name)
    assert parsed.damaged or rule in tolerated


def test_experimental_streams_can_be_allowed() -> None:
    data = (VECTORS / "faulty/r16_experimental.tfc").read_bytes()
    assert read_stream(data, limits=Limits(allow_experimental=True)).header.experimental


def test_generator_reproduces_the_files(tmp_path: Path) -> None:
    module = runpy.run_path(str(VECTORS / "make_bitstream_vectors.py"))
    for vector in module["valid"]():
        assert (VECTORS / f"valid/{vector.name}.tfc").read_bytes() == vector.data
    for vector in module["faulty"]():
        assert (VECTORS / f"faulty/r{vector.rule:02d}_{vector.name}.tfc").read_bytes() == vector.data
