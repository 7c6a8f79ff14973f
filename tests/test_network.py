"""The simulated network: its losses are those it was asked for, and its time is the caller's."""

from __future__ import annotations

import random
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfcodec
from tfcodec.codec.call.overhead import DATA_CHANNEL, RTP, UDP
from tfcodec.simulator import GilbertElliott, Link


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 1), (0.1, 3), (0.3, 8), (0.3, 2), (0.5, 20)])
def test_loss_and_bursts_are_as_long_as_asked(loss: float, burst: float) -> None:
    process = GilbertElliott(loss, burst, random.Random(5))
    fate = [process.lost() for _ in range(200_000)]
    assert sum(fate) / len(fate) == pytest.approx(loss, rel=0.1)
    runs = [len(list(group)) for lost, group in groupby(fate) if lost]
    assert sum(runs) / len(runs) == pytest.approx(burst, rel=0.1)


def test_all_and_nothing() -> None:
    assert not any(GilbertElliott(0).lost() for _ in range(1))
    assert all(GilbertElliott(1).lost() for _ in range(9))
    everything = GilbertElliott(0.0, 8, random.Random(1))
    assert not any(everything.lost() for _ in range(1000))


@pytest.mark.parametrize("options", [{"loss": 1.1}, {"loss": -0.1}, {"loss": 0.9, "burst": 1}, {"burst": 0.5}])
def test_impossible_losses(options: dict[str, float]) -> None:
    with pytest.raises(tfcodec.TfcodecError):
        Link(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"reorder": 2}, {"duplicate": -1}, {"delay": -1}, {"jitter": 99}])
def test_impossible_links(options: dict[str, float]) -> None:
    with pytest.raises(tfcodec.TfcodecError, match=next(iter(options))):
        Link(**options)  # type: ignore[arg-type]


@given(st.floats(0, 0.4), st.floats(0, 0.1), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 99))
def test_what_is_not_lost_arrives_and_the_seed_decides(
    loss: float, jitter: float, reorder: float, duplicate: float, seed: int
) -> None:
    def received() -> tuple[list[bytes], Link]:
        link = Link(loss, 3, delay=0.05, jitter=jitter, reorder=reorder, duplicate=duplicate, seed=seed)
        out = []
        for i in range(60):
            link.send(bytes([i]), i * 0.04)
            early = link.receive(i * 0.04 + 0.049)
            assert bytes([i]) not in early
            out += early
        assert (link.next_arrival is None) == (len(set(out)) + link.lost == 60 and not link._under_way)
        return out + link.receive(1e9), link

    out, link = received()
    assert len(set(out)) == 60 - link.lost
    assert out == received()[0]
    if not reorder:
        assert out == sorted(out)


def test_overheads_are_those_of_the_standards() -> None:
    assert UDP.wire_bytes(100) == 128
    assert RTP.wire_bytes(20) == 70
    assert DATA_CHANNEL.wire_bytes(20) == 113
    assert DATA_CHANNEL.wire_bytes(21) == 117
