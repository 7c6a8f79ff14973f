"""The page and its module, in a real browser, where something about them is broken: an error, never a wait for ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcodec
from tfcodec.web import page
from tfcodec.web.server import Server

TRY = """async (what) => {
  try {
    return await Promise.race([eval(what), new Promise((done) => setTimeout(() => done("waits for ever"), 8000))]);
  } catch ({ name, message }) {
    return [name, message];
  }
}"""
OPEN = "(async () => { const { Tfc } = await import('./tfc/tfc.js'); await Tfc.open('%s'); })()"


def coded(frames: int) -> bytes:
    return tfcodec.encode(np.full((frames, 256, 256, 3), 128, np.uint8), fps=25, refine=False, motion=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page without a network, in whose place a server has a page of its own."""
    page.copy_module(tmp_path / "tfc")
    shutil.copytree(page.HERE / "page", tmp_path, dirs_exist_ok=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/card.json").write_text("<!doctype html><title>Not here</title>")
    (tmp_path / "page.json").write_text(json.dumps({"model": "model/", "runtime": "runtime/", "clip": "a.tfc"}))
    for name, frames in (("a.tfc", 3), ("b.tfc", 5)):
        (tmp_path / name).write_bytes(coded(frames))
    return tmp_path


@pytest.fixture
def tab(browser: Any, folder: Path) -> Iterator[Any]:
    with Server(str(folder)) as server:
        tab = browser.new_page()
        tab.address = server.address
        yield tab
        tab.close()


def test_cards_that_are_none_or_old_closed_clips_and_times_that_are_none(tab: Any) -> None:
    tab.goto(tab.address)
    tab.wait_for_function("window.tfc?.error")
    error = tab.evaluate("tfc.error")
    assert error["name"] == "WeightsError"
    assert "card.json is no card" in error["message"]
    assert tab.evaluate(TRY, "tfc.clip.keyframe(0).then(({ first }) => first)") == 0
    assert tab.evaluate(TRY, "tfc.clip.player(document.createElement('canvas')).time = NaN")[0] == "RangeError"
    assert tab.evaluate(TRY, "tfc.clip.close().then(() => tfc.clip.exact(0))") == ["MediaError", "the clip is closed"]
    file = {"file": "x", "sha256": "y"}
    parts = {"keyframe": file, "frame": {**file, "inputs": [{"name": "tiny"}, {"name": "marks"}]}}
    card = json.dumps({"network": file, "graphs": parts, "programs": {"files": parts}})
    earlier = f"import('./tfc/network.js').then(({{ cardOf }}) => cardOf(new TextEncoder().encode('{card}'), 'model/'))"
    message = "the network was exported by an earlier version: export it again"
    assert tab.evaluate(TRY, earlier) == ["WeightsError", message]


def test_a_stream_s_name_may_have_anything_in_it(tab: Any, folder: Path) -> None:
    name = "why? #1 100%25 ü.tfc"
    (folder / "b.tfc").rename(folder / name)
    (folder / "page.json").write_text(json.dumps({"model": "model/", "runtime": "runtime/", "clip": name}))
    tab.goto(tab.address)
    tab.wait_for_function("window.tfc?.error")
    assert tab.evaluate("tfc.clip?.info.frames") == 5


def test_of_two_streams_that_are_dropped_the_later_one_stays(tab: Any) -> None:
    tab.goto(tab.address)
    tab.wait_for_function("window.tfc?.error")
    tab.evaluate(
        """async () => {
          let letGo;
          const late = new Promise((done) => (letGo = done));
          const [a, b] = await Promise.all(["a.tfc", "b.tfc"].map(async (x) => (await fetch(x)).blob()));
          const slow = Object.assign(a.slice(), { arrayBuffer: () => late.then(() => a.arrayBuffer()) });
          const first = tfc.open(slow, "a");
          await tfc.open(b, "b");
          letGo();
          await first;
        }"""
    )
    assert tab.evaluate("tfc.clip.info.frames") == 5
    assert tab.title().startswith("b")


def test_a_worker_that_does_not_load_fails_every_call(tab: Any, folder: Path) -> None:
    (folder / "tfc/worker.js").unlink()
    tab.goto(tab.address)
    for name in ("a.tfc", "b.tfc"):
        assert tab.evaluate(TRY, OPEN % name)[0] == "MediaError"


START = """(async () => {
  const { Programs } = await import("./tfc/programs.js");
  const engine = await WebAssembly.compile(await (await fetch("tfc/engine.wasm")).arrayBuffer());
  const memory = { memory: 2 ** 23, shared: 131072, stacks: 135168, threads: 8, staging: 0 };
  const programs = new Programs("", { ...memory, files: {} });
  await programs.start(engine, programs.helpers(2));
  while (programs.present < programs.threads) await new Promise((done) => setTimeout(done, 50));
  return programs.present;
})()"""


def test_without_threads_that_cannot_begin(tab: Any, folder: Path) -> None:
    tab.goto(tab.address)
    assert tab.evaluate(TRY, START) == 2
    thread = folder / "tfc/thread.js"
    thread.write_text(thread.read_text().replace("instantiate(engine", "instantiate(new Uint8Array(8)"))
    tab.reload()
    assert tab.evaluate(TRY, START) == 1


RUN = START.replace("return programs.present;", """
  const [code, parallel, program] = [99, 1, 65536]; // no operation, for which threads meet
  new Int32Array(programs.memory.buffer).set([code, 3, parallel, 0], program / 4);
  programs.parts.nothing = { inputs: {}, program };
  try {
    for (let i = 0; i < 100; i++) programs.run("nothing", {});
    return "all of them";
  } catch ({ name, message }) {
    programs.run("nothing", {}); // goes on alone
    return [name, message, programs.present];
  }""")


IN_WORKER = """new Promise((done, fail) => {
  const worker = new Worker("run.js", { type: "module" });
  worker.onmessage = ({ data }) => done(data);
  worker.onerror = ({ message }) => fail(new Error(message));
})"""


def test_a_thread_that_fails_while_it_draws_is_not_waited_for(tab: Any, folder: Path) -> None:
    (folder / "run.js").write_text(f"postMessage(await {RUN});")  # a page itself may not wait
    tab.goto(tab.address)
    assert tab.evaluate(TRY, IN_WORKER) == "all of them"
    thread = folder / "tfc/thread.js"
    thread.write_text(thread.read_text().replace("exports.serve(", "throw new Error('forced'); exports.serve("))
    tab.reload()
    name, message, threads = tab.evaluate(TRY, IN_WORKER)
    assert (name, threads) == ("MediaError", 1)
    assert "a thread failed" in message
