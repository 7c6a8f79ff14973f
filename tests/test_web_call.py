"""The receiver of calls in JavaScript against the package's: what it shows, what it hears, and what it says back.

Both get the same packets and the same ticks of the clock; Node runs the module once (tests/web/call.mjs).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_inter_streams import frames

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.bitstream.primitives import crc16
from tfcodec.codec import policy
from tfcodec.codec.call import encoder as call_encoder
from tfcodec.codec.call.conceal import Scene
from tfcodec.codec.parts import keyframes
from tfcodec.errors import BitstreamError
from tfcodec.simulator import Link
from tfcodec.web.page import TABLES

ROOT = Path(__file__).resolve().parents[1]
NODE = shutil.which("node")
Face = tuple[np.ndarray, np.ndarray]
TICK = 0.04

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node, which runs the module: apt-get install nodejs")


def sha(*values: Any) -> str:
    whole = hashlib.sha256()
    for value in values:
        whole.update(bytes(value) if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes())
    return whole.hexdigest()


def said(packet: bytes | None) -> list[Any] | None:
    """Feedback without its number, which begins anywhere."""
    if packet is None:
        return None
    p = bs.parse_packet(packet)
    assert isinstance(p, bs.FeedbackPacket)
    return [
        p.timestamp, p.keyframe_tag, p.highest_sequence, p.fraction_lost, p.state, p.broken, p.wanted,
        [list(part) for part in p.missing], p.orphaned,
    ]  # fmt: skip


@dataclass
class Watched:
    """A decoder of the package: every packet and tick is noted, and what came of it."""

    lookahead: int = 0
    events: list[str | None] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoder = tfcodec.Decoder(lookahead=self.lookahead)
        self._heard: list[str | None] = []

    def push(self, packet: bytes) -> None:
        self.events.append(packet.hex())
        try:
            self.decoder.push(packet)
        except tfcodec.TfcodecError as error:
            self.results.append(type(error).__name__)
        speech = self.decoder.call.receiver.speech
        if speech is not None and not hasattr(speech, "watched"):
            speech.watched = True  # type: ignore[attr-defined]
            decode = speech._decoder.decode

            def note(packet: bytes | None) -> Any:
                self._heard.append(None if packet is None else packet.hex())
                return decode(packet)

            speech._decoder.decode = note  # type: ignore[method-assign]

    def pull(self) -> bytes | None:
        self.events.append(None)
        decoder, before, self._heard = self.decoder, self.decoder.shown, []
        decoder.pull(draw=False)
        heard = self._heard
        shown, receiver = decoder.shown, decoder.call.receiver
        new = shown is not None and shown.state != "held"
        assert new or shown is None or before is not None
        frame = shown.number if new and shown is not None else None
        scene = exact = None
        if frame is not None:
            # without speech, which it would decode ahead of the clock
            drawn = Scene(SimpleNamespace(frames=receiver.frames, newest=receiver.newest, speech=None), frame)  # type: ignore[arg-type]
            scene = [
                sha(drawn.windows), None if drawn.motion is None else drawn.motion[0].tolist(), drawn.keyframe.tag
            ]  # fmt: skip
            if frame in receiver.frames:
                found = receiver.frames[frame].layers
                motion = found.get("motion")
                exact = [sha(found["tiny"]), None if motion is None else motion.tolist()]
        feedback, stats = decoder.feedback(), decoder.stats
        self.results.append({
            "frame": frame, "shown": None if shown is None else [shown.number, shown.state], "scene": scene,
            "exact": exact, "speech": heard, "feedback": said(feedback),
            "stats": [
                stats.received, stats.lost, stats.duplicates, stats.reordered, stats.damaged, stats.lost_share,
                stats.shown, stats.held, stats.skipped, stats.delay_frames, stats.waiting_for_keyframe,
            ],
            "senders": decoder.call.senders,
        })  # fmt: skip
        return feedback


def loop(face: Face) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The face, to and fro, with a second of silence in every two."""
    for t in itertools.count():
        i = abs(t % 118 - 59)
        sound = face[1][640 * i : 640 * (i + 1)] if t % 50 < 25 else np.zeros(640, np.float32)
        yield face[0][i], sound


def run(
    watched: Watched, sender: tfcodec.Encoder, pictures: Any, ticks: int, there: Link, back: Link, keyframe: int = -1
) -> None:
    """A call over links, in simulated time; ``keyframe``: the tick at which one is asked for."""
    for tick in range(ticks):
        now = tick * TICK
        if tick == keyframe:
            sender.request_keyframe()
        packets = list(sender.push(*next(pictures)))
        for feedback in back.receive(now):
            packets += sender.push_feedback(feedback)
        for packet in packets:
            there.send(packet, now)
        for arrived in there.receive(now + TICK / 2):
            watched.push(arrived)
        said_now = watched.pull()
        if said_now is not None:
            back.send(said_now, now)


def moved(packet: bytes, frames: int, numbers: int) -> bytes:
    """The same packet of a call that began earlier."""
    p = bs.parse_packet(packet)
    wrap = 1 << 16
    return replace(p, timestamp=(p.timestamp + frames) % wrap, sequence=(p.sequence + numbers) % wrap).to_bytes()


@pytest.fixture(scope="module")
def calls(moving_face: Face) -> dict[str, Watched]:
    """Calls of all kinds."""
    patch = pytest.MonkeyPatch()
    starts = itertools.count(40_000, 20_011)  # far apart, so that ends can be told apart
    patch.setattr(call_encoder, "first_number", lambda: next(starts) % 65_536)
    try:
        return _calls(moving_face, patch)
    finally:
        patch.undo()


def _calls(face: Face, patch: pytest.MonkeyPatch) -> dict[str, Watched]:
    rng = random.Random(5)

    def sender(motion: bool = False, **options: Any) -> tfcodec.Encoder:
        return tfcodec.Encoder(latency="call", audio=True, motion=motion, **options)

    found: dict[str, Watched] = {}
    # With motion, without losses: the rest is made of its packets, or goes without motion, which is faster.
    found["good"] = good = Watched()
    encoder, packets = sender(motion=True), []
    pictures = loop(face)
    for _ in range(60):
        sent = list(encoder.push(*next(pictures)))
        packets.append(sent)
        for packet in sent:
            good.push(packet)
        good.pull()
    for packet in encoder.flush():
        good.push(packet)
    for _ in range(6):
        good.pull()
    found["lookahead"] = late = Watched(lookahead=1)
    for tick, sent in enumerate(packets):
        for packet in sent if tick < 30 else [*sent, *sent]:  # and every packet twice
            late.push(packet)
        late.pull()
    # Numbers that wrap, 20 % of the packets lost, some doubled, damaged, out of order.
    found["wraps"] = wraps = Watched()
    link = Link(0.2, 2, reorder=0.2, reorder_delay=0.1, duplicate=0.1, seed=3)
    first = bs.parse_packet(packets[next(i for i, sent in enumerate(packets) if sent)][0]).sequence
    for tick, sent in enumerate(packets):
        for packet in sent:
            link.send(moved(packet, 65_536 - 20, 65_536 - 15 - first), tick * TICK)
        for arrived in link.receive(tick * TICK + TICK / 2):
            bent = bytearray(arrived)
            if rng.random() < 0.05:
                bent[rng.randrange(len(bent))] ^= 1 << rng.randrange(8)
            wraps.push(bytes(bent))
        wraps.pull()
    # 20 % loss both ways with feedback, keyframes anew, some of which refer to others; then the sender begins anew.
    found["lossy"] = lossy = Watched()
    links = Link(0.2, 3, delay=0.04, jitter=0.02, reorder=0.1, seed=11), Link(0.2, 1.5, delay=0.04, seed=12)
    run(lossy, sender(), pictures, 150, *links, keyframe=60)
    run(lossy, sender(bundle=1), pictures, 60, Link(0.2, 2, seed=13), Link(seed=14), keyframe=30)
    # A receiver that joins late, an outage, and rubbish.
    found["late"] = joins = Watched()
    joins.push(b"")
    joins.push(bs.SIGNATURE + b"and so on")
    there, back = Link(delay=0.04), Link(delay=0.04)
    encoder = sender()
    for _ in range(40):
        encoder.push(*next(pictures))
    run(joins, encoder, pictures, 30, there, back, keyframe=12)
    there.set_loss(1.0)
    run(joins, encoder, pictures, 40, there, back)
    there.set_loss(0.0)
    joins.push(rng.randbytes(40))
    run(joins, encoder, pictures, 30, there, back)
    # Keyframes that refer to others, of which some are lost; and a receiver that does not have those others.
    found["chained"] = chained = Watched()
    still = itertools.cycle([(frame, None) for frame in (*frames(), *frames()[::-1])])
    patch.setattr(policy.CallPolicy, "wants", lambda self, frame, mark: frame % 12 == 0)
    encoder = tfcodec.Encoder(3, "call", audio=False, motion=False)
    run(chained, encoder, still, 84, Link(0.25, 1.5, delay=0.03, seed=5), Link(delay=0.03))
    found["orphaned"] = orphaned = Watched()
    run(orphaned, encoder, still, 12, Link(), Link(1.0))
    run(orphaned, encoder, still, 30, Link(), Link())
    return found


def payloads() -> list[bytes]:
    """Packets of all kinds, cut, and with bits inverted under checksums that are made right again."""
    rng = random.Random(16)
    unit = bs.TinyUnit(2, 1, b"abc")
    good: list[bs.CallPacket] = [
        bs.MediaPacket(7, 9, 1, (unit, bs.TinyUnit(4, 63, b"")), (b"one", b"two")),
        bs.MediaPacket(7, 9, 1, (), (b"x",)),
        bs.MediaPacket(65_535, 65_535, 3, (unit,) * 7), bs.KeyframePacket(1, 2, 3, 900, 100, bytes(800)),
        bs.FeedbackPacket(1, 2, 3, 4, 0.5, 6, True, True, ((1, 2), (700, 100))),
        bs.FeedbackPacket(1, 2, 3, 4, 1.0, None, False, True, (), True), bs.FeedbackPacket(1, 2, 0, 4, 0.01),
        bs.EndPacket(5, 6),
    ]  # fmt: skip
    found = [b"", bytes(7), *(p.to_bytes() for p in good)]
    for p in good:
        data = p.to_bytes()
        found.append(data[:-1])
        for _ in range(40):
            bent = bytearray(data[:-2])
            bent[rng.randrange(len(bent))] ^= 1 << rng.randrange(8)
            bent = bent[: rng.randrange(5, len(bent) + 1)] if rng.random() < 0.5 else bent
            found.append(bytes(bent) + crc16(bytes(bent)).to_bytes(2, "big"))
    return [*found, bytes(65_537)]


def parsed(packet: bytes) -> dict[str, Any]:
    try:
        p = bs.parse_packet(packet)
    except BitstreamError as error:
        rule = re.search(r"\[R(\d+)\]$", str(error))
        assert rule is not None
        return {"error": type(error).__name__, "rule": int(rule[1])}
    common: dict[str, Any] = {"again": None, "data": None, "speech": None, "units": None, "sequence": p.sequence}
    common["timestamp"] = p.timestamp
    if isinstance(p, bs.MediaPacket):
        units = [[u.frames, u.reference, u.payload.hex()] for u in p.units]
        return common | {
            "kind": "MEDIA", "tag": p.keyframe_tag, "units": units, "speech": [x.hex() for x in p.speech],
        }  # fmt: skip
    if isinstance(p, bs.KeyframePacket):
        return common | {
            "kind": "KEYFRAME", "tag": p.keyframe_tag, "total": p.total, "offset": p.offset, "data": p.data.hex()
        }  # fmt: skip
    if isinstance(p, bs.FeedbackPacket):
        names = (
            "timestamp", "tag", "highestSequence", "fractionLost", "state", "broken", "wanted", "missing", "orphaned",
        )  # fmt: skip
        fields = dict(zip(names, said(packet) or [], strict=True))
        return common | fields | {"kind": "FEEDBACK", "again": p.to_bytes().hex()}
    return common | {"kind": "END", "tag": 0}


def parts() -> list[dict[str, Any]]:
    rng = random.Random(17)
    data = rng.randbytes(300)
    pieces = [(at, data[at : at + 40]) for at in range(0, 300, 30)]
    rng.shuffle(pieces)
    return [{"total": 300, "pieces": [[at, piece.hex()] for at, piece in pieces]}]


@pytest.fixture(scope="module")
def answers(calls: dict[str, Watched], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("call")
    package = ROOT / "tfcodec"
    pictures = {}
    for chain, picture in (found for watched in calls.values() for found in decoded(watched).items()):
        name = ",".join(map(sha, chain))
        pictures[name] = str(folder / f"{sha(name.encode())}.rgb")
        Path(pictures[name]).write_bytes(picture.tobytes())
    job = {
        "tables": {name: str(path) for name, path in TABLES.items()},
        "pictures": pictures, "packets": [packet.hex() for packet in payloads()], "parts": parts(),
        "calls": [{"events": w.events, "lookahead": w.lookahead} for w in calls.values()],
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(NODE), str(ROOT / "tests/web/call.mjs"), str(package / "web/module")]
    subprocess.run([*command, str(folder / "job.json"), str(folder / "answers.json")], check=True)
    return json.loads((folder / "answers.json").read_text())


def decoded(watched: Watched) -> dict[tuple[bytes, ...], np.ndarray]:
    """All keyframes of a call that can be decoded, by their chain."""
    objects: dict[tuple[int, int], bs.KeyframeParts] = {}
    found: list[bs.KeyframeChunk] = []
    for event in watched.events:
        try:
            packet = bs.parse_packet(bytes.fromhex(event or ""))
        except BitstreamError:
            continue
        if isinstance(packet, bs.KeyframePacket):
            held = objects.setdefault((packet.timestamp, packet.total), bs.KeyframeParts(packet.total))
            if held.add(packet.offset, packet.data):
                found += [c for c in bs.iter_chunks(held.data) if isinstance(c, bs.KeyframeChunk)]
    out: dict[tuple[bytes, ...], np.ndarray] = {}
    for chunk in found:
        for chain in ((), *out):
            decoder = keyframes.KeyframeDecoder(chain)
            try:
                picture = decoder.decode(chunk)
            except BitstreamError:
                continue
            out[decoder.chain] = picture
            break
    return out


@pytest.mark.parametrize("which", range(7))
def test_every_tick_is_the_packages(which: int, calls: dict[str, Watched], answers: Any) -> None:
    """Which frame is shown, made up or not, what it is drawn from, what is heard, what is said back."""
    name, watched = list(calls.items())[which]
    found = answers["calls"][which]
    assert len(found) == len(watched.results)
    for tick, (mine, theirs) in enumerate(zip(found, watched.results, strict=True)):
        assert mine == theirs, f"{name}, {tick}"


def test_the_calls_have_what_they_are_for(calls: dict[str, Watched]) -> None:
    results = {name: [r for r in watched.results if isinstance(r, dict)] for name, watched in calls.items()}
    assert any(r["exact"] and r["exact"][1] and any(r["exact"][1][:16]) for r in results["good"])
    assert any("" in r["speech"] for r in results["good"]), "a pause"
    for name in ("wraps", "lossy"):
        states = [r["shown"][1] for r in results[name] if r["shown"]]
        assert set(states) >= {"fresh", "concealed"}, name
        assert any(None in r["speech"] for r in results[name]), name
    said_back = [r["feedback"] for r in results["lossy"] if r["feedback"]]
    assert any(f[5] for f in said_back), "broken"
    assert any(f[6] for f in said_back), "wanted"
    assert results["wraps"][-1]["shown"][0] > 65_536
    assert results["wraps"][-1]["stats"][4] > 0, "damaged"
    assert {r["senders"] for r in results["lossy"]} == {1, 2}
    assert "BitstreamError" in calls["late"].results
    chains = [len(chain) for watched in calls.values() for chain in decoded(watched)]
    assert max(chains) > 1, "keyframes that refer to others"
    assert any(r["feedback"] and r["feedback"][8] for r in results["orphaned"]), "orphaned"


def test_a_lossy_call_shows_a_frame_at_every_tick(answers: Any, calls: dict[str, Watched]) -> None:
    found = answers["calls"][list(calls).index("lossy")]
    began = next(i for i, r in enumerate(found) if r["shown"])
    assert began < 25
    shown = [r["shown"] for r in found[began:]]
    assert all(one is not None for one in shown)
    ends = next(i for i, r in enumerate(found) if r["senders"] == 2) - began
    numbers = [number for number, state in shown[:ends] if state == "fresh"]
    assert all(b > a for a, b in itertools.pairwise(numbers))
    assert sum(state == "held" for _, state in shown) < 0.35 * len(shown)


def test_packets_and_parts_are_read_alike(answers: Any) -> None:
    for packet, found in zip(payloads(), answers["packets"], strict=True):
        assert found == parsed(packet), packet.hex()
    rules = {found.get("rule") for found in answers["packets"]}
    assert rules >= {None, 6, 10, 11, 55, 56, 57, 58, 59, 60}
    [job], [found] = parts(), answers["parts"]
    whole = bs.KeyframeParts(job["total"])
    for (offset, data), (complete, missing, content) in zip(job["pieces"], found, strict=True):
        assert complete == whole.add(offset, bytes.fromhex(data))
        assert [tuple(part) for part in missing] == list(whole.missing)
        assert content == whole.data.hex()
    assert found[-1][0]
