// The page that plays a stream. `window.tfc` tells tests, and whoever is curious, how things stand.

import { about as asked, beside, stream } from "./start.js";
import { Clips as Tfc } from "./tfc/clip.js";

const $ = (id) => document.getElementById(id);
const PARTS = {
  keyframe: "keyframes", motion: "motion", tiny: "tiny frames", displacement: "displacement", audio: "speech",
};
const canvas = $("picture");
const state = { clip: null, player: null, error: null, ready: false, threads: 0, Tfc };
window.tfc = state;

let about = {};
let opened = 0; // streams so far: one that is dropped while another is being opened comes after it

const clockText = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const rateText = (bytes, seconds) => ((8 * bytes) / seconds / 1000).toFixed(2);

function complain(error) {
  state.error = { name: error.name, message: error.message };
  $("error").textContent = `${error.name}: ${error.message}`;
  $("error").hidden = false;
  say("");
  console.warn(error);
}

function say(text) {
  $("wait").textContent = text;
  $("wait").hidden = !text;
}

/** Open a stream in place of the one that is there. */
async function open(source, name) {
  const turn = ++opened;
  state.player?.close();
  state.clip?.close();
  Object.assign(state, { clip: null, player: null, error: null, ready: false });
  $("error").hidden = true;
  say("Opening …");
  try {
    const { model, runtime } = about;
    const clip = await Tfc.open(source, { model, runtime, threads: about.threads, preload: true });
    if (turn !== opened) return void clip.close();
    state.clip = clip;
    $("title").textContent = name;
    document.title = `${name} – tfcodec`;
    describe(clip);
    say("Loading the network …");
    const { threads } = await clip.load();
    if (turn !== opened) return; // the clip is closed already
    state.threads = threads;
    const player = clip.player(canvas, { volume: Number($("volume").value), rate: Number($("rate").value) });
    state.player = player;
    player.addEventListener("time", () => showTime(player));
    player.addEventListener("state", () => showState(player));
    player.addEventListener("error", ({ detail }) => complain(detail));
    $("seek").max = player.duration;
    $("seek").step = 1 / clip.info.fps;
    $("seek").disabled = $("play").disabled = false;
    player.show();
    showState(player);
    showTime(player);
    say(clip.info.notice ?? "");
    state.ready = true;
  } catch (error) {
    if (turn === opened) complain(error);
  }
}

function describe({ info, seconds }) {
  $("rates").replaceChildren(...Object.entries(PARTS).map(([part, label]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    const colour = document.createElement("i");
    colour.className = part;
    head.append(colour, label);
    const cells = ["now", "mean"].map((when) => {
      const cell = document.createElement("td");
      cell.id = `${part}-${when}`;
      return cell;
    });
    row.append(head, ...cells);
    return row;
  }));
  for (const part of Object.keys(PARTS)) {
    const bytes = seconds.reduce((sum, second) => sum + second[part], 0);
    $(`${part}-mean`).textContent = rateText(bytes, info.durationSeconds);
  }
  const mean = rateText(info.bytes.total, info.durationSeconds);
  $("facts").textContent =
    `${info.frames} frames, ${info.durationSeconds.toFixed(2)} s, ${info.bytes.total} bytes: ${mean} kbit/s in all. ` +
    `${info.keyframes} keyframe${info.keyframes === 1 ? "" : "s"}, network ${info.modelId} (${info.modelHash}).`;
}

function showTime(player) {
  $("seek").value = player.time;
  $("seek").setAttribute("aria-valuetext", clockText(player.time));
  $("time").textContent = `${clockText(player.time)} / ${clockText(player.duration)}`;
  const { seconds } = player.clip;
  const at = Math.min(Math.floor(player.time), seconds.length - 1);
  const left = Math.min(1, player.clip.info.durationSeconds - at) || 1;
  const bars = [];
  for (const part of Object.keys(PARTS)) {
    $(`${part}-now`).textContent = rateText(seconds[at][part], left);
    const bar = document.createElement("span");
    bar.className = part;
    bar.style.flexGrow = seconds[at][part];
    bars.push(bar);
  }
  $("bars").replaceChildren(...bars);
}

function showState(player) {
  const playing = !player.paused;
  $("sign").setAttribute("d", playing ? "M6 4h4v16H6zm8 0h4v16h-4z" : "M7 4v16l13-8z");
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  if (player.state === "waiting") say("Drawing …");
  else if (player.state !== "failed") say(player.clip.info.notice ?? "");
}

const actions = {
  toggle: () => state.player && (state.player.paused ? state.player.play() : state.player.pause()),
  step: (seconds) => {
    if (!state.player) return;
    state.player.time += seconds;
    showTime(state.player);
  },
  louder: (by) => {
    $("volume").value = Number($("volume").value) + by;
    $("volume").dispatchEvent(new Event("input"));
  },
  full: () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen()),
  mute: () => {
    const volume = $("volume");
    volume.dataset.before = Number(volume.value) ? volume.value : volume.dataset.before ?? "1";
    volume.value = Number(volume.value) ? 0 : volume.dataset.before;
    volume.dispatchEvent(new Event("input"));
  },
};

const KEYS = {
  " ": () => actions.toggle(),
  k: () => actions.toggle(),
  ArrowLeft: () => actions.step(-1),
  ArrowRight: () => actions.step(1),
  ",": () => actions.step(-1 / (state.clip?.info.fps ?? 25)),
  ".": () => actions.step(1 / (state.clip?.info.fps ?? 25)),
  ArrowUp: () => actions.louder(0.1),
  ArrowDown: () => actions.louder(-0.1),
  Home: () => actions.step(-Infinity),
  f: () => actions.full(),
  m: () => actions.mute(),
};

document.addEventListener("keydown", (event) => {
  const own = event.target.closest("input, select, button");
  if (event.ctrlKey || event.metaKey || event.altKey || own || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
$("play").addEventListener("click", actions.toggle);
canvas.addEventListener("click", actions.toggle);
$("full").addEventListener("click", actions.full);
$("seek").addEventListener("input", () => {
  state.player.time = Number($("seek").value);
  showTime(state.player);
});
$("volume").addEventListener("input", () => state.player && (state.player.volume = Number($("volume").value)));
$("rate").addEventListener("change", () => state.player && (state.player.rate = Number($("rate").value)));
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) open(file, file.name);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
  });
}
document.addEventListener("drop", ({ dataTransfer }) => {
  const [file] = dataTransfer.files;
  if (file) open(file, file.name);
});

state.open = open;
try {
  about = await asked;
  if (about.clip) await open(await stream.catch(() => beside(about.clip)), about.clip); // the module says what is wrong
  else say("Drop a .tfc file here.");
} catch (error) {
  complain(error);
}
