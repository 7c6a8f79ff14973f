"""The pages, in a real browser: one plays a stream, and its pictures and sound are Python's; one is called."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import psnr, there
from test_spec import DATA as EXAMPLE
from web_streams import SPEECH_FRAMES, chained, displaced, moved, other_speech, pausing, speech_without_a_decoder

import tfcodec
from tfcodec.bench import folder as beside
from tfcodec.bench.arms import Arm
from tfcodec.bench.codecs import codec_of
from tfcodec.cli import main
from tfcodec.codec.file.decoder import read_exact
from tfcodec.codec.parts import speech
from tfcodec.errors import BitstreamError, MediaError
from tfcodec.media import write_video
from tfcodec.web import page
from tfcodec.web.flatten import flatten
from tfcodec.web.server import Server

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 10
PICTURES = """async (numbers) => {
  const out = [];
  for (const number of numbers) {
    const { data } = await tfc.clip.picture(number);
    let text = "";
    for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
    out.push(btoa(text));
  }
  return out;
}"""
DRAW = """async ([text, frame]) => {
  const clip = await tfc.Tfc.open(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  const { data } = await clip.picture(frame);
  await clip.close();
  let out = "";
  for (let at = 0; at < data.length; at += 32768) out += String.fromCharCode(...data.subarray(at, at + 32768));
  return btoa(out);
}"""
KEYFRAME = """async ([text, frame]) => {
  try {
    const clip = await tfc.Tfc.open(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    const { pixels } = await clip.keyframe(frame);
    await clip.close();
    return [...new Uint8Array(await crypto.subtle.digest("SHA-256", pixels))];
  } catch ({ name, rule }) {
    return [name, rule];
  }
}"""
OPEN = """async (text) => {
  const clip = await tfc.Tfc.open(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  const { info, speech } = clip;
  const failure = await clip.picture(0).catch(({ name }) => name);
  await clip.close();
  return [info, speech && [...speech], failure];
}"""
VOICE = """async ([items, audio]) => {
  const { Voice } = await import("./tfc/voice.js");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const end = items.at(-1)[0] + audio.packetSamples / 3;
  return new Promise((done) => {
    const out = [];
    const voice = new Voice(audio, () => {
      for (let piece; (piece = voice.read(out.length, 8)); ) out.push(...piece);
      if (voice.end >= end) done(out);
    });
    for (const [first, text] of items) voice.feed([{ first, packet: text === null ? null : bytes(text) }]);
  });
}"""
DROP = """([text, name]) => {
  const file = new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name);
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(file);
  document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


@functools.cache
def _encoded(length: int, frames: bytes, sound: bytes) -> bytes:
    pictures = np.frombuffer(frames, np.uint8).reshape(length, 256, 256, 3)
    audio = np.frombuffer(sound, np.float32)
    return tfcodec.encode(pictures, audio=audio, sample_rate=16000, fps=25, refine=False, crop="none")


@functools.cache
def _decoded(data: bytes) -> tfcodec.Clip:
    return tfcodec.decode(data)


@pytest.fixture(scope="module")
def plain(moving_face: tuple[np.ndarray, np.ndarray]) -> bytes:
    """Ten frames with sound, and with motion where the tracker sees a face, by which the keyframe moves."""
    frames, sound = moving_face
    return moved(_encoded(FRAMES, frames[:FRAMES].tobytes(), sound[: 640 * FRAMES].tobytes()))


@pytest.fixture(scope="module")
def stream(plain: bytes) -> bytes:
    """The same with displacement."""
    return displaced(plain)


@pytest.fixture(scope="module")
def folder(stream: bytes, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page")
    source = made.parent / "talk.tfc"
    source.write_bytes(stream)
    page.write(made, page.Sources(str(source), str(exported)))
    return made


@pytest.fixture(scope="module")
def player(folder: Path, browser: Any) -> Iterator[Any]:
    """The page, with its clip ready."""
    with Server(str(folder)) as server:
        tab = browser.new_page(viewport={"width": 400, "height": 900})
        tab.goto(server.address)
        tab.wait_for_function("window.tfc?.ready || window.tfc?.error", timeout=120_000)
        assert tab.evaluate("tfc.error") is None
        yield tab
        tab.close()


def test_pictures_and_sound_are_those_of_python(player: Any, stream: bytes, plain: bytes) -> None:
    clip = _decoded(stream)
    found = [np.frombuffer(base64.b64decode(text), np.uint8) for text in player.evaluate(PICTURES, list(range(FRAMES)))]
    drawn = np.stack(found).reshape(FRAMES, 256, 256, 4)
    assert (drawn[..., 3] == 255).all()
    error = np.square(drawn[..., :3].astype(np.float64) - there(clip.frames)).mean((1, 2, 3))
    assert 10 * np.log10(255**2 / max(1e-9, error.max())) >= 46
    unmoved = player.evaluate(DRAW, [base64.b64encode(plain).decode(), FRAMES - 1])
    shift = found[-1].astype(np.float64) - np.frombuffer(base64.b64decode(unmoved), np.uint8)
    assert np.square(shift).mean() > 16 * error.max(), "the displacement does something"
    numbers = player.evaluate(f"tfc.clip.exact({FRAMES - 1}).then((exact) => Array.from(exact.displacement))")
    assert numbers == read_exact(stream).layers["displacement"][-1].tolist()
    sound = np.array(player.evaluate("Array.from(tfc.clip.speech)"), np.float32)
    assert clip.audio is not None
    assert sound.shape == clip.audio.shape
    lags = range(-320, 321, 16)
    scores = [float(np.dot(np.roll(sound, lag), clip.audio)) for lag in lags]
    assert abs(list(lags)[int(np.argmax(scores))]) <= 16
    assert np.abs(sound - clip.audio).max() < 0.02
    info = player.evaluate("tfc.clip.info")
    wanted = tfcodec.probe(stream)
    assert (info["frames"], info["keyframes"], info["modelHash"]) == (FRAMES, wanted.keyframes, wanted.model_hash)
    assert info["hasDisplacement"]
    assert info["bytes"] == wanted.bytes


def test_lips_move_with_the_speech_where_no_motion_was_sent(
    player: Any, moving_face: tuple[np.ndarray, np.ndarray]
) -> None:
    frames, sound = moving_face[0][:FRAMES], moving_face[1][: 640 * FRAMES]
    options: dict[str, Any] = {"fps": 25, "refine": False, "crop": "none", "motion": False, "silence": "send"}
    heard, mute = (tfcodec.encode(frames, audio=audio, sample_rate=16000, **options) for audio in (sound, None))
    wanted, unmoved = (there(tfcodec.decode(data).frames) for data in (heard, mute))
    found = player.evaluate(DRAW, [base64.b64encode(heard).decode(), FRAMES - 1])
    drawn = np.frombuffer(base64.b64decode(found), np.uint8).reshape(256, 256, 4)[..., :3]
    error, without = (np.square(drawn.astype(np.float64) - x[-1]).mean() for x in (wanted, unmoved))
    assert error < 255**2 / 10**4.6
    assert without > 4 * error, "the sound does something"


def test_threads_need_isolation_and_have_it(player: Any) -> None:
    assert player.evaluate("crossOriginIsolated")
    assert player.evaluate("tfc.threads") >= 1


def test_what_only_a_browser_decodes_is_exact_and_refused_alike(player: Any, stream: bytes) -> None:
    """Keyframes bit by bit; frames of rubbish and packets that are none, which the layers before cannot notice."""
    layers = Path(__file__).parent / "vectors/layers"
    for data in (EXAMPLE, stream, chained()):
        for frame, wanted in tfcodec.decode(data, pixels=False).keyframes:
            digest = player.evaluate(KEYFRAME, [base64.b64encode(data).decode(), frame])
            assert bytes(digest) == hashlib.sha256(wanted.tobytes()).digest()
    for name, rule in (("r45_rubbish", 45), ("r49_lengths", 49)):
        data = (layers / f"{name}.tfc").read_bytes()
        assert player.evaluate(KEYFRAME, [base64.b64encode(data).decode(), 0]) == ["BitstreamError", rule]


def test_pauses_keep_their_length(player: Any) -> None:
    """What was sent is Python's and at its place; what was not is noise of the same level, at first silence."""
    data, sent = pausing()
    _, speech, _ = player.evaluate(OPEN, base64.b64encode(data).decode())
    clip = tfcodec.decode(data, pixels=False)
    assert clip.audio is not None
    assert len(speech) == len(clip.audio) == 640 * SPEECH_FRAMES
    found, wanted = (np.pad(np.array(x, np.float32), (104, 0)) for x in (speech, clip.audio))
    for k, here in enumerate(sent):
        late = 160 if k and sent[k - 1] != here else 0  # one fades into the other
        place = slice(1920 * k + late, 1920 * (k + 1))
        a, b = found[place], wanted[place]
        if here:
            assert np.abs(a - b).max() < 0.002, k
        elif k == 0:
            assert not a.any()
        elif a.size:
            assert 0.7 < a.std() / b.std() < 1.4, k


def test_speech_of_a_call_is_decoded_as_it_comes(player: Any) -> None:
    """Packets are Python's, but for a lost one; a damaged one counts as lost; pauses are noise."""
    data, sent = pausing()
    chunks = tfcodec.bitstream.read_stream(data).chunks
    packets: list[bytes | None] = [p for c in chunks if isinstance(c, tfcodec.bitstream.SpeechChunk) for p in c.packets]
    lost, damaged = 3, 6
    assert sent[lost]
    assert sent[damaged]
    packets[lost], packets[damaged] = None, b"\xff\xff"
    coded = [None if p is None else base64.b64encode(p).decode() for p in packets]
    items = [[1920 * k - 104, text] for k, text in enumerate(coded)]
    found = np.array(player.evaluate(VOICE, [items, {"codec": 1, "packetSamples": 5760}]), np.float32)
    found = np.pad(found, (104, 0))
    decoder = speech.decoder(tfcodec.bitstream.AudioConfig(5760, 312))
    for k, here in enumerate(sent):
        wanted = decoder.decode(None if k == damaged else packets[k])
        late = 160 if k and sent[k - 1] != here else 0
        a, b = found[1920 * k + late : 1920 * (k + 1)], wanted[late:]
        if here:
            assert np.abs(a - b).max() < (0.2 if k in (lost, damaged) else 0.02), k
        elif k:
            assert 0.5 < a.std() / b.std() < 2, k


def test_the_api_of_the_module(player: Any) -> None:
    """Frames one after another; keyframes that refer to others; speech of another codec is left out, which is said."""
    walk = """async () => {
      const out = [];
      for await (const { number, time, picture } of tfc.clip.frames(3, 5)) out.push([number, time, picture.width]);
      return out;
    }"""
    assert player.evaluate(walk) == [[3, 0.12, 256], [4, 0.16, 256]]
    for name, data in {"codec 193": other_speech(), **speech_without_a_decoder()}.items():
        info, speech, failure = player.evaluate(OPEN, base64.b64encode(data).decode())
        assert "no sound" in info["notice"]
        assert name in info["notice"]
        assert speech is None
        assert failure == "WeightsError", "the stream names no network"
    for data in (chained(), moved(chained())):
        info, *_ = player.evaluate(OPEN, base64.b64encode(data).decode())
        assert (info["keyframes"], info["interKeyframes"]) == (3, [1, 2])
        assert info["bytes"] == tfcodec.probe(data).bytes


def test_plays_to_the_end_seeks_and_steps(player: Any) -> None:
    assert player.evaluate("tfc.player.state") == "paused"
    player.wait_for_function("tfc.player.shown === 0")
    player.click("#play")
    # Slow machines leave pictures out, but never the last one.
    player.wait_for_function(f"tfc.player.state === 'ended' && tfc.player.shown === {FRAMES - 1}", timeout=60_000)
    assert player.evaluate("tfc.player.time") == pytest.approx(FRAMES / 25, abs=0.05)
    assert player.evaluate("tfc.player.drawn") >= 2
    player.evaluate("tfc.player.time = 0.2")
    player.wait_for_function("tfc.player.shown === 5")
    player.focus("#picture")
    player.keyboard.press(".")
    player.wait_for_function("tfc.player.shown === 6")
    player.keyboard.press("Home")
    player.wait_for_function("tfc.player.shown === 0")
    player.keyboard.press("ArrowDown")
    assert player.evaluate("tfc.player.volume") == pytest.approx(0.9)
    player.select_option("#rate", "2")
    assert player.evaluate("tfc.player.rate") == 2
    assert player.locator("#play").get_attribute("aria-label") == "Play"
    assert float(player.locator("#tiny-mean").inner_text()) > 0


def test_the_page_fits_a_phone(player: Any) -> None:
    player.set_viewport_size({"width": 340, "height": 700})
    assert player.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unlabelled = """() => [...document.querySelectorAll("button, input, select, canvas")].filter(
        (x) => !(x.getAttribute("aria-label") || x.closest("label"))).map((x) => x.id)"""
    assert player.evaluate(unlabelled) == []


def test_dropped_streams_are_opened_or_refused(player: Any, stream: bytes) -> None:
    damaged = bytearray(stream)
    damaged[200] ^= 1
    with pytest.raises(BitstreamError) as caught:
        tfcodec.decode(bytes(damaged))
    player.evaluate(DROP, [base64.b64encode(damaged).decode(), "damaged.tfc"])
    player.wait_for_function("tfc.error")
    assert player.evaluate("tfc.error.name") == type(caught.value).__name__
    assert str(caught.value).split(":")[0] in player.evaluate("tfc.error.message")
    assert player.locator("#error").is_visible()
    player.evaluate(DROP, [base64.b64encode(stream).decode(), "again.tfc"])
    player.wait_for_function("tfc.ready", timeout=60_000)
    assert player.locator("#title").inner_text() == "again.tfc"
    assert not player.locator("#error").is_visible()


def test_server_isolates_and_types_its_files(folder: Path) -> None:
    with Server(str(folder)) as server:
        for name, kind in (("", "text/html"), ("tfc/tfc.js", "text/javascript"), ("talk.tfc", "video/x.tfcodec")):
            with urllib.request.urlopen(server.address + name) as answer:
                assert answer.headers["Content-Type"].startswith(kind)
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_workers_come_in_one_file(tmp_path: Path) -> None:
    page.copy_module(tmp_path / "tfc")
    text = (tmp_path / "tfc/worker.js").read_text()
    assert "\nimport " not in text
    assert "\nexport " not in text
    assert text.count("planesToRgb(luma, u, v)") == 1
    for bad in ("export default 1;\n", 'import * as a from "./a.js";\n', 'import { a } from "./b.js";\n'):
        (tmp_path / "b.js").write_text(bad)
        with pytest.raises(ValueError, match=r"b\.js"):
            flatten(tmp_path, "b")


def test_pages_are_whole_or_not_written(tmp_path: Path, stream: bytes) -> None:
    source = tmp_path / "talk.tfc"
    source.write_bytes(stream)
    for name in page.MODEL_FILES:
        (tmp_path / name).write_bytes(b"{}")
    remote = page.Sources(str(source), str(tmp_path), "https://example.org/ort/")
    command = ["play", str(source), "--page", str(tmp_path / "page"), "--model", str(tmp_path), "--runtime"]
    assert main([*command, "https://example.org/ort/", "--quiet"]) == 0
    about = json.loads((tmp_path / "page/page.json").read_text())
    assert about == {"model": "model/", "runtime": "https://example.org/ort/", "clip": "talk.tfc"}
    assert not (tmp_path / "page/runtime").exists()
    for name in ("index.html", "page.js", "tfc/tfc.js", "tfc/worker.js", "tfc/tiny.bin", "model/frame.onnx"):
        assert (tmp_path / "page" / name).is_file()
    with pytest.raises(MediaError, match="not empty"):
        page.write(tmp_path / "page", remote)
    with pytest.raises(MediaError, match="make web"):
        page.write(tmp_path / "other", page.Sources(str(source), str(tmp_path), str(tmp_path)))
    source.write_bytes(stream[:-3])
    with pytest.raises(BitstreamError):
        page.write(tmp_path / "other", remote)


# ---- the benchmark's report ----


class Plain(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


BESIDE = """() => {
  const { data } = document.querySelector("canvas").getContext("2d").getImageData(0, 0, 256, 256);
  let pixels = "";
  for (let at = 0; at < data.length; at += 32768) pixels += String.fromCharCode(...data.subarray(at, at + 32768));
  const videos = [...document.querySelectorAll("video")].map((v) => [v.videoWidth, v.duration, v.currentTime]);
  return [btoa(pixels), videos, crossOriginIsolated, document.getElementById("served").checkVisibility()];
}"""


def test_the_report_plays_the_streams_side_by_side(
    stream: bytes, exported: Path, moving_face: tuple[np.ndarray, np.ndarray], browser: Any, tmp_path: Path
) -> None:
    """From a server without any headers: tfcodec's picture is Python's, and all begin, run and stop together."""
    frames, (clip, out) = moving_face[0][:FRAMES], (tmp_path / "a face #1.mp4", tmp_path / "out")
    write_video(clip, frames, 25)
    (out / "streams" / clip.name).mkdir(parents=True)
    rows = []
    for arm in (Arm("tfcodec", "file", 256, 5), Arm("x264", "file", 256, 51), Arm("x265", "file", 64, 51)):
        file = out / "streams" / clip.name / (arm.name + arm.suffix)
        if arm.codec == "tfcodec":
            file.write_bytes(stream)
        else:
            codec_of(arm).encode(arm, frames, None, file)
        figures = {"kbps": 2.5, "seconds": 0.4, "frames": FRAMES, "metrics": {"lpips": 0.2}}
        rows.append({**asdict(arm), "arm": arm.name, "clip": clip.name, **figures})
    made = beside.write(out, {clip.name: clip}, rows, "none", page.Sources(model=str(exported)))
    report = out / "report.html"
    report.write_text(f"<!doctype html><body>{beside.section(made, 1)}</body>")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Plain, directory=str(out)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        tab = browser.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/report.html")
        tab.wait_for_function("window.report?.players[0]?.shown === 0", timeout=60_000)
        pixels, videos, isolated, told = tab.evaluate(BESIDE)
        assert (isolated, told) == (False, False)
        assert [(width, round(length, 1)) for width, length, _ in videos] == 3 * [(256, 0.4)]
        drawn = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(256, 256, 4)[..., :3].astype(float)
        assert drawn.std() > 20
        assert psnr(drawn, there(_decoded(stream).frames)[0]) >= 40
        assert "LPIPS 0.200" in tab.inner_text(".pictures")
        tab.click("button")
        ended = f"report.players[0].state === 'ended' && report.players[0].shown === {FRAMES - 1}"
        tab.wait_for_function(ended, timeout=60_000)
        assert tab.inner_text("button") == "Play"
        assert all(at > 0.2 for _, _, at in tab.evaluate(BESIDE)[1])
        assert tab.evaluate("report.errors") == []
        tab.goto(report.as_uri())
        assert tab.locator("#served").is_visible(), "from a file it says what it needs"
        tab.close()
    finally:
        server.shutdown()
        server.server_close()


# ---- the page that is called ----


@pytest.fixture
def call_page(
    browser: Any, exported_light: Path, moving_face: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> Iterator[Any]:
    """The example, running, and its page."""
    pytest.importorskip("aiohttp", reason="needs the extra webrtc")
    pytest.importorskip("aiortc", reason="needs the extra webrtc")
    frames, audio = moving_face[0][:20], moving_face[1][: 20 * 640]
    clip = tmp_path / "face.mp4"
    write_video(clip, np.concatenate([frames, frames[::-1]]), 25, np.tile(audio, 2), 16000)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "examples/call/call.py"), "--input", str(clip), "--port", str(port)]
    peers = subprocess.Popen(
        [*command, "--model", str(exported_light)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 150
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert peers.poll() is None, peers.communicate()[0]
            assert time.monotonic() < end, "the example does not answer"
            time.sleep(0.2)
        tab = browser.new_page(viewport={"width": 960, "height": 1000})
        tab.goto(f"http://127.0.0.1:{port}/")
        yield tab
        tab.close()
    finally:
        peers.send_signal(signal.SIGTERM)
        output = peers.communicate(timeout=30)[0]
    assert "Traceback" not in output, output


def test_a_call_to_a_page(call_page: Any, browser: Any) -> None:
    """Over WebRTC: the page decodes and draws by itself, and says what it lacks."""
    from playwright.sync_api import TimeoutError

    tab = call_page
    pixels = "id => Array.from(document.getElementById(id).getContext('2d').getImageData(0, 0, 256, 256).data)"

    def picture(canvas: str) -> np.ndarray:
        return np.array(tab.evaluate(pixels, canvas)).reshape(256, 256, 4)[..., :3]

    def wait(condition: str, seconds: float = 100) -> None:
        try:
            tab.wait_for_function(f"window.failure || ({condition})", timeout=1000 * seconds)
        except TimeoutError:
            raise AssertionError(f"after {seconds} s not yet {condition}: {tab.evaluate('window.figures')}") from None
        assert tab.evaluate("window.failure") is None

    wait("window.figures && figures.pictured > 0")
    first, shown = picture("decoded"), tab.evaluate("figures.pictured")
    wait(f"figures.pictured > {shown} + 3 && figures.kbps.total > 0")
    again = picture("decoded")
    assert first.std() > 20, "a picture, not a grey square"
    assert (first != again).any()
    assert np.abs(again - picture("source")).mean() < 40
    kbps = tab.evaluate("figures.kbps")
    names = ("motion", "tiny", "header", "keyframe", "redundancy", "speech", "transport")
    assert sum(kbps[name] for name in names) == pytest.approx(kbps["total"])
    assert kbps["transport"] > kbps["tiny"] > 0
    assert "ms" in tab.inner_text("#delay")
    # Feedback, and sound, whose clock then leads.
    wait("figures.kbps.feedback > 0")
    tab.click("#sound")
    wait("call.spoken > 20")
    assert tab.evaluate("call.notice") is None
    tab.click("#sound")
    # A keyframe; all is lost for a while, and then nothing any more.
    tab.click("#keyframe")
    wait("figures.kbps.keyframe > 0")
    tab.evaluate("loss.value = 100; loss.oninput()")
    held = tab.evaluate("call.stats.held")
    wait(f"call.stats.held > {held} + 12")
    stuck = tab.evaluate("call.shown.number")
    tab.evaluate("loss.value = 0; loss.oninput()")
    wait(f"call.pictured > {stuck} && !call.stats.waitingForKeyframe && call.stats.lost > 0")
    # A second page takes the call; nobody is left hanging.
    other = browser.new_page()
    other.goto(tab.url)
    other.wait_for_function("window.figures && figures.received > 0 && !call.stats.waitingForKeyframe", timeout=100_000)
    wait("document.getElementById('state').textContent.startsWith('another page')")
    other.close()
