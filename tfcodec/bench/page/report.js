// Plays a clip's pictures side by side: tfcodec's stream on a canvas, decoded here, and the other codecs' files.
// `window.report` tells tests how things stand.

import { Tfc } from "./tfc/tfc.js";

const [model, runtime] = ["model/", "runtime/"].map((name) => new URL(name, import.meta.url).href);
const FAR = 0.5; // seconds; these files have one keyframe, so that a jump costs what all before it costs
const state = { players: [], errors: [], ready: false };
window.report = state;

document.getElementById("served").hidden = true;

const seconds = (time) => `${time.toFixed(1)} s`;

/** The pictures of all codecs belong to the time of tfcodec's, whose clock is the sound's. */
function align(video, time) {
  const late = time - video.currentTime;
  if (Math.abs(late) > FAR) video.currentTime = time;
  video.playbackRate = Math.min(Math.max(1 + late, 0.5), 2);
}

/** Load a file as a whole: many servers do not give parts of one, and then a browser cannot go to a time in it. */
async function whole(video) {
  video.controls = false;
  video.preload = "auto";
  const response = await fetch(video.src);
  if (!response.ok) throw new Error(`cannot fetch ${video.src}: status ${response.status}`);
  video.src = URL.createObjectURL(await response.blob());
}

function setUp(section, player, videos) {
  const button = section.querySelector("button");
  const showTime = () => {
    section.querySelector("output").textContent = `${seconds(player.time)} of ${seconds(player.duration)}`;
  };
  player.addEventListener("time", () => {
    showTime();
    if (player.state === "playing") for (const video of videos) align(video, player.time);
  });
  player.addEventListener("state", () => {
    button.textContent = player.paused ? "Play" : "Pause";
    for (const video of videos) {
      if (player.state !== "playing") video.pause();
      else {
        if (video.ended) video.currentTime = player.time;
        align(video, player.time);
        video.play().catch(() => {}); // it was paused again before it began
      }
    }
  });
  button.addEventListener("click", () => {
    if (!player.paused) return player.pause();
    for (const other of state.players) if (other !== player) other.pause();
    player.play();
  });
  showTime();
  button.disabled = false;
  player.show();
}

for (const section of document.querySelectorAll(".beside")) {
  const say = (text) => {
    state.errors.push(text);
    const line = section.querySelector("[role=status]");
    line.textContent = [line.textContent, text].filter(Boolean).join("; ");
  };
  const videos = [...section.querySelectorAll("video")];
  try {
    await Promise.all(videos.map(whole));
    for (const video of videos) {
      video.addEventListener("error", () => say(`${video.getAttribute("aria-label")}: this browser does not play it`));
    }
    const canvas = section.querySelector("canvas");
    const clip = await Tfc.open(canvas.dataset.stream, { model, runtime, preload: true });
    const player = clip.player(canvas);
    player.addEventListener("error", ({ detail }) => say(`${detail.name}: ${detail.message}`));
    state.players.push(player);
    setUp(section, player, videos);
  } catch (error) {
    say(`${error.name}: ${error.message}`);
  }
}
state.ready = true;
