// The page's end of the call: it answers the sender, and decodes and draws by itself. `window.figures` tells tests, and
// whoever is curious, how things stand.

import { Tfc } from "./tfc/tfc.js";

const $ = (id) => document.getElementById(id);
const PARTS = {
  motion: "motion", tiny: "tiny frames", redundancy: "repeated frames", header: "packet headers", keyframe: "keyframes",
  speech: "speech", transport: "IP, UDP, DTLS, SCTP", total: "all, to this page", feedback: "feedback, to the sender",
};
const SPAN = 2; // seconds over which rates are taken
const HEADERS = 93; // bytes of IP, UDP, DTLS and SCTP around a packet, which is padded to a multiple of 4

const about = await (await fetch("page.json")).json();
const call = new Tfc.Receiver($("decoded"), about);
const loss = { loss: 0, burst: 1 };
const pictures = []; // when they were shown
const feedback = []; // [when, bytes]
const sent = []; // what the sender says of its bytes
let connection = null;
let socket = null;
let began = null;
let losing = false;
let elsewhere = false;
let state = "waiting for the call ...";

const seconds = () => performance.now() / 1000;
const recent = (list, at = (x) => x) => {
  while (list.length && at(list[0]) < seconds() - SPAN) list.shift();
  return list;
};

/** Answer an offer. The sender takes no candidates afterwards, so they are waited for. */
async function answer(sdp) {
  connection?.close();
  connection = new RTCPeerConnection();
  connection.ondatachannel = ({ channel }) => call.attach(channel);
  await connection.setRemoteDescription({ type: "offer", sdp });
  await connection.setLocalDescription(await connection.createAnswer());
  while (connection.iceGatheringState !== "complete") {
    await new Promise((done) => connection.addEventListener("icegatheringstatechange", done, { once: true }));
  }
  socket.send(JSON.stringify({ answer: connection.localDescription.sdp }));
  Object.assign(window, { connection });
}

async function showSource(data) {
  const picture = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
  $("source").getContext("2d").drawImage(picture, 0, 0, 256, 256);
  picture.close();
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/watch`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = async ({ data }) => {
    if (typeof data !== "string") return showSource(data);
    const said = JSON.parse(data);
    if (said.offer) await answer(said.offer);
    if (said.began) ({ began } = said);
    if (said.elsewhere) {
      elsewhere = true;
      socket.onclose = null;
      socket.close();
      connection?.close();
    }
    if (said.bytes) {
      sent.push(said);
      if (sent.length > 8) sent.shift();
    }
    return null;
  };
  socket.onclose = () => {
    state = "the call has ended";
    setTimeout(connect, 1000);
  };
}

call.addEventListener("feedback", (event) => {
  // Losses in bursts, as on the way here: a burst ends with the chance 1 / length.
  const { loss: share, burst } = loss;
  losing = Math.random() < (losing ? 1 - 1 / burst : share < 1 ? share / burst / (1 - share) : 1) || share === 1;
  if (losing && share > 0) event.preventDefault();
  feedback.push([seconds(), Math.ceil(event.detail.length / 4) * 4 + HEADERS]);
});
call.addEventListener("picture", ({ detail }) => {
  state = "";
  pictures.push(seconds());
  window.picture = detail;
});
call.addEventListener("error", ({ detail }) => {
  state = `${detail.name}: ${detail.message}`;
  window.failure = { name: detail.name, message: detail.message };
});

/** Rates in kbit/s. */
function rates() {
  const found = { feedback: (8 * recent(feedback, ([at]) => at).reduce((sum, [, bytes]) => sum + bytes, 0)) / 1000 / SPAN };
  if (sent.length < 2) return found;
  const [old, now] = [sent[0], sent.at(-1)];
  const rate = (bytes) => (8 * bytes) / 1000 / (now.at - old.at);
  const wire = now.bytes.wire - old.bytes.wire;
  let parts = 0;
  for (const [part, bytes] of Object.entries(now.bytes)) {
    if (part === "wire") continue;
    found[part] = rate(bytes - (old.bytes[part] ?? 0));
    parts += bytes - (old.bytes[part] ?? 0);
  }
  return { ...found, transport: rate(wire - parts), total: rate(wire) };
}

function show() {
  const { stats, shown } = call;
  if (!stats) return;
  const kbps = rates();
  const pictured = call.pictured < 0 ? null : call.pictured;
  const figures = {
    ...stats, ...loss, kbps, frame: shown && shown.number, state: shown && shown.state, pictured,
    picturesPerSecond: recent(pictures).length / SPAN,
    delay: began && pictured !== null ? Date.now() - 1000 * (began + pictured / 25) : null,
  };
  window.figures = figures;
  const most = Math.max(1, kbps.total ?? 1);
  $("rates").innerHTML = Object.entries(PARTS).map(([key, name]) => {
    const rate = kbps[key] ?? 0;
    const sum = ["total", "feedback"].includes(key);
    const bar = sum ? "kbit/s" : `<div class="bar" style="width:${(100 * rate) / most}%"></div>`;
    const row = key === "total" ? "sum" : "";
    return `<tr class="${row}"><td>${name}</td><td data-part="${key}">${rate.toFixed(2)}</td><td>${bar}</td></tr>`;
  }).join("");
  $("fps").textContent = figures.picturesPerSecond.toFixed(1);
  $("delay").textContent = figures.delay === null ? "" : `${figures.delay.toFixed(0)} ms`;
  $("lost").textContent = `${stats.lost} of ${stats.lost + stats.received} (${(100 * stats.lostShare).toFixed(1)} %)`;
  $("held").textContent = stats.held;
  $("skipped").textContent = stats.skipped;
  $("undrawn").textContent = Math.max(0, stats.shown - stats.drawn);
  $("frame").textContent = figures.frame ?? "";
  const waiting = stats.waitingForKeyframe ? "waiting for a keyframe ..." : pictured === null ? state : "";
  $("state").textContent = elsewhere ? "another page has the call" : state || waiting || (call.notice ?? "");
}

const ask = (wish) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(wish));

function network() {
  loss.loss = $("loss").value / 100;
  // a burst must be long enough for so much loss
  loss.burst = Math.max($("burst").value, loss.loss < 1 ? loss.loss / (1 - loss.loss) : 1);
  $("lossvalue").textContent = `${$("loss").value} %`;
  $("burstvalue").textContent = $("burst").value;
  ask(loss);
}
$("loss").oninput = network;
$("burst").oninput = network;
$("keyframe").onclick = () => ask({ keyframe: true });
$("sound").onclick = () => {
  call.muted = !call.muted;
  $("sound").textContent = call.muted ? "sound" : "no sound";
};
window.call = call;
connect();
setInterval(show, 250);
