// A call in a page: packets in, pictures on a canvas and sound out, and what the sender is to be told.
//
//     const call = new Tfc.Receiver(canvas, { model: "model/", runtime: "runtime/" });
//     connection.ondatachannel = ({ channel }) => call.attach(channel);
//
// or, over a way of one's own, `call.push(packet)` and call.addEventListener("feedback", ({ detail }) => send(detail)).

import { Call, FPS, sceneOf } from "./call.js";
import { MediaError, TfcodecError } from "./errors.js";
import { SAMPLES_PER_FRAME } from "./jitter.js";
import { decodeKeyframe } from "./keyframe.js";
import { Remote, absolute } from "./remote.js";
import { SAMPLE_RATE } from "./speech.js";
import { loadTables } from "./tables.js";
import { Voice } from "./voice.js";

const PACKETS = "tfcodec";
const KEYFRAMES = "tfcodec.keyframes";
const PROTOCOL = "tfcodec.call.1";
const SIDE = 256;
const SENT = 1; // behind a frame's motion numbers: they are its own
const PERIOD = 1 / FPS;
const TURN = 10; // ms from one look at the clock to the next
const DELAY = 0.06; // seconds from a tick to when it is seen and heard: speech has to be decoded, a picture to be drawn
const LATE = 0.5; // seconds behind which the clock goes on from now
const MOST_EARLY = 1024; // packets that wait for the tables
const MOST_THREADS = 4;
const KEPT = 8; // pictures that wait for their time

/**
 * The receiving end of a call. Its clock is the sound card's while there is sound, else the page's. Sound leads:
 * pictures that cannot be drawn in time are left out.
 *
 * Events: "feedback" (a CustomEvent whose `detail` is a packet for the sender; an attached channel has sent it unless
 * that is prevented), "picture" (`detail` is { number, time } of what is on the canvas now), "error" (`detail` is the
 * error: TfcodecErrors that only another call can heal).
 */
export class Receiver extends EventTarget {
  /**
   * `model` and `runtime` are the addresses of the network's folder and of onnxruntime-web's, `threads` how many
   * WebAssembly may take, `lookahead` (0, 1 or 2) how many frames are waited for so that the network sees them.
   */
  constructor(canvas, { model = "model/", runtime = "runtime/", lookahead = 0, volume = 1, ...rest } = {}) {
    super();
    this.canvas = canvas;
    canvas.width = canvas.height = SIDE;
    this.context = canvas.getContext("2d");
    /** Number of the frame on the canvas, -1 before the first; pictures drawn; blocks of sound played. */
    this.pictured = -1;
    this.drawn = 0;
    this.spoken = 0;
    this.call = null;
    this.voice = null;
    this.loudness = volume;
    this.audio = null;
    this.early = [];
    this.senders = 0;
    this.network = null; // a promise, once the call has named one
    this.forget();
    this.cost = 0; // seconds that a picture takes, of late
    this.drawing = this.closed = false;
    this.channel = null;
    this.remote = new Remote();
    // A call has other things to do than to draw: one core is left to them.
    const threads = rest.threads ?? Math.min(Math.max(navigator.hardwareConcurrency - 1, 1), MOST_THREADS);
    this.remote.call("prepare", { where: { model: absolute(model), runtime: absolute(runtime), ...rest, threads } })
      .catch((error) => this.fail(error));
    loadTables().then((tables) => {
      this.call = new Call(tables, decodeKeyframe, { lookahead });
      for (const packet of this.early.splice(0)) this.push(packet);
    }).catch((error) => this.fail(error));
    this.due = this.now();
    this.timer = setInterval(() => this.turn(), TURN);
  }

  /** Forget what belongs to one sender. */
  forget() {
    this.ticks = []; // [{ at, position }] that are not on the screen yet
    this.onScreen = -1; // the clock's frame that is to be seen now
    this.begun = -1; // newest frame that was given to the network
    this.pictures = new Map(); // frames that are drawn and not shown
    this.blocks = []; // [{ at, first }] of sound that are not decoded yet
    this.key = null; // the keyframe that the worker has
    this.voice?.close();
    this.voice = null;
  }

  /** Take a data channel, as the connection's "datachannel" event gives it; any but a call's two is ignored. */
  attach(channel) {
    if (![PACKETS, KEYFRAMES].includes(channel.label) || channel.protocol !== PROTOCOL) return;
    channel.binaryType = "arraybuffer";
    if (channel.label === PACKETS) this.channel = channel;
    channel.addEventListener("message", ({ data }) => this.push(data));
  }

  /** Take a packet: bytes; text is ignored. */
  push(data) {
    if (this.closed || typeof data === "string") return;
    const packet = ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data);
    if (!this.call) {
      if (this.early.length < MOST_EARLY) this.early.push(packet);
      return;
    }
    this.call.push(packet).catch((error) => this.fail(error));
  }

  /** What the clock shows: { number, time, state: "fresh" | "concealed" | "held" }; null before the first frame. */
  get shown() {
    return this.call?.shown ?? null;
  }

  /** How the call goes; { drawn, spoken } say how much of it was drawn and heard. */
  get stats() {
    return this.call && { ...this.call.stats, drawn: this.drawn, spoken: this.spoken };
  }

  /** What the user should be told, such as that the speech cannot be decoded; null if there is nothing. */
  get notice() {
    return this.voice?.notice ?? null;
  }

  /** Whether there is no sound, as in the beginning. Browsers let it begin in answer to a click alone. */
  get muted() {
    return this.audio === null;
  }

  set muted(value) {
    if (value === this.muted || this.closed) return;
    if (value) {
      this.audio.close();
      this.audio = null;
    } else {
      this.audio = new AudioContext({ latencyHint: "interactive", sampleRate: SAMPLE_RATE });
      this.gain = this.audio.createGain();
      this.gain.gain.value = this.loudness;
      this.gain.connect(this.audio.destination);
      this.audio.resume();
    }
  }

  /** 0 to 1. */
  get volume() {
    return this.loudness;
  }

  set volume(value) {
    this.loudness = Math.min(Math.max(value, 0), 1);
    if (this.audio) this.gain.gain.value = this.loudness;
  }

  /** End it: the clock stands, and the worker is gone. */
  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.forget();
    this.audio?.close();
    this.audio = null;
    this.remote.end();
  }

  fail(error) {
    if (this.closed) return;
    const known = error instanceof TfcodecError ? error : new MediaError(String(error?.message ?? error));
    this.dispatchEvent(new CustomEvent("error", { detail: known }));
  }

  /** Seconds of the clock that leads. */
  now() {
    const sounding = this.audio?.state === "running";
    const now = sounding ? this.audio.currentTime : performance.now() / 1000;
    if (sounding !== this.sounding) { // another clock has begun to lead: what was planned keeps its distance
      const moved = this.sounding === undefined ? 0 : now - this.last;
      for (const planned of [...(this.ticks ?? []), ...(this.blocks ?? [])]) planned.at += moved;
      this.due += moved;
      this.sounding = sounding;
    }
    this.last = now;
    return now;
  }

  turn() {
    const now = this.now();
    if (now - this.due > LATE) this.due = now;
    if (this.call) {
      for (; this.due <= now; this.due += PERIOD) this.tick(this.due);
      this.show(now);
      this.draw().catch((error) => this.fail(error));
    } else this.due = now;
  }

  tick(at) {
    const { call } = this;
    if (call.senders !== this.senders) {
      this.forget();
      this.senders = call.senders;
    }
    call.pull();
    const said = call.feedback();
    if (said && this.dispatchEvent(new CustomEvent("feedback", { detail: said, cancelable: true }))) {
      if (this.channel?.readyState === "open") this.channel.send(said);
    }
    const { header } = call.reception;
    if (!header) return;
    this.network ??= this.load(header);
    const { position } = call.playout;
    if (position === null) return;
    this.ticks.push({ at: at + DELAY, position });
    if (!header.audio) return;
    this.voice ??= new Voice(header.audio, () => this.speak());
    this.blocks.push({ at: at + DELAY, first: call.heard * SAMPLES_PER_FRAME });
    this.voice.feed(call.listen());
    this.speak();
  }

  /** See to it that the network is the one that the call names. */
  async load({ modelId, modelHash }) {
    try {
      this.ready = await this.remote.call("loadCall", { modelId, modelHash });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Give the sound card what has been decoded. */
  speak() {
    for (; this.blocks.length; this.blocks.shift()) {
      const [{ at, first }] = this.blocks;
      const samples = this.voice?.read(first, SAMPLES_PER_FRAME);
      if (!samples) return;
      if (!this.sounding || at < this.audio.currentTime) continue; // nobody hears it, or it is too late
      const buffer = this.audio.createBuffer(1, SAMPLES_PER_FRAME, SAMPLE_RATE);
      buffer.copyToChannel(samples, 0);
      const source = this.audio.createBufferSource();
      source.buffer = buffer;
      source.connect(this.gain);
      source.start(at);
      this.spoken++;
    }
  }

  /** Put the newest picture on the canvas whose time has come. */
  show(now) {
    while (this.ticks.length && this.ticks[0].at <= now) this.onScreen = this.ticks.shift().position;
    let best = -1;
    for (const frame of this.pictures.keys()) if (frame <= this.onScreen && frame > best) best = frame;
    if (best < 0) return;
    this.context.putImageData(this.pictures.get(best), 0, 0);
    this.pictured = best;
    for (const frame of this.pictures.keys()) if (frame <= best) this.pictures.delete(frame);
    this.dispatchEvent(new CustomEvent("picture", { detail: { number: best, time: best / FPS } }));
  }

  /** The frame to draw now: the next one, or one that can be there when it is to be seen; null if there is none. */
  wanted() {
    const { playout: { position }, reception: { newest } } = this.call;
    if (position === null || this.call.senders !== this.senders || this.pictures.size >= KEPT) return null;
    const ahead = Math.floor((this.now() + this.cost - DELAY - (this.due - PERIOD)) / PERIOD);
    const frame = Math.min(Math.max(this.begun + 1, position + Math.max(ahead, 0)), Math.max(newest, position));
    return frame > this.begun ? frame : null;
  }

  /** Keep drawing what is wanted. */
  async draw() {
    if (this.drawing || !this.ready) return;
    this.drawing = true;
    try {
      for (let frame = this.wanted(); frame !== null && !this.closed; frame = this.wanted()) {
        const { senders } = this;
        const { keyframe, windows, motion } = sceneOf(this.call.reception, frame);
        const sound = motion?.[16] === SENT ? null : this.voice?.heardBy(frame) ?? null;
        this.begun = frame;
        const before = performance.now();
        const picture = keyframe === this.key ? null : keyframe.picture;
        this.key = keyframe;
        const { pixels } = await this.remote.call("scene", { picture, windows, motion, sound });
        const took = (performance.now() - before) / 1000;
        this.cost = this.drawn > 1 ? 0.7 * this.cost + 0.3 * took : 0;
        this.drawn++;
        if (senders === this.senders) this.pictures.set(frame, new ImageData(pixels, SIDE, SIDE));
      }
    } finally {
      this.drawing = false;
    }
  }
}
