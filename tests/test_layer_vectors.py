"""Files with a sound container and a fault above it, and the specification's example, through the whole decoder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_spec import DATA, LETTERS, rules_of_the_spec

from tfcodec import bitstream as bs
from tfcodec.codec.file.decoder import read_exact
from tfcodec.errors import BitstreamError

LAYERS = Path(__file__).parent / "vectors/layers"
ROWS = re.findall(r"^\| `(\w+\.tfc)` \| R(\d+) \|", (LAYERS / "README.md").read_text(encoding="utf-8"), re.M)


def test_every_file_is_listed_and_every_rule_has_one() -> None:
    """Rules from 55 on are those of call packets, which are no files (test_call_packets.py)."""
    assert {name for name, _ in ROWS} == {path.name for path in LAYERS.glob("*.tfc")}
    assert {int(rule) for _, rule in ROWS} == {rule for rule in rules_of_the_spec() if 40 <= rule <= 54}


@pytest.mark.parametrize(("name", "rule"), ROWS)
def test_refused_by_the_layer_and_not_by_the_container(name: str, rule: str) -> None:
    data = (LAYERS / name).read_bytes()
    assert bs.read_stream(data).frame_count == 2
    with pytest.raises(BitstreamError) as caught:
        read_exact(data)
    assert LETTERS[type(caught.value).__name__] in rules_of_the_spec()[int(rule)].split(", ")


@pytest.mark.parametrize(("name", "rule"), ROWS)
def test_concealed(name: str, rule: str) -> None:
    """With damage allowed, a decoder gives all frames, unless nothing is left to give them from."""
    try:
        exact = read_exact((LAYERS / name).read_bytes(), errors="conceal")
    except BitstreamError:
        assert 40 <= int(rule) <= 45
        return
    assert exact.tiny.shape == (2, 8, 8, 3)


def test_example_decodes() -> None:
    exact = read_exact(DATA)
    assert exact.tiny.shape == (2, 8, 8, 3)
    assert exact.audio is not None
    assert exact.audio.shape == (1280,)
    assert not exact.damaged
