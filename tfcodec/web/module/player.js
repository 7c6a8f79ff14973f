// Shows a clip on a canvas: the sound's clock leads, pictures follow it as fast as they can be drawn.

import { SAMPLE_RATE } from "./rates.js";

const AHEAD = 12; // frames that are drawn before they are due
const KEPT = 48;

/**
 * Events: "time" at every picture shown, "state" when it plays, pauses, ends or waits, "error" with `detail` the error.
 */
export class Player extends EventTarget {
  constructor(clip, canvas, { volume = 1, rate = 1, loop = false } = {}) {
    super();
    this.clip = clip;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    canvas.width = canvas.height = 256;
    /** "paused", "playing", "waiting" (for the first picture), "ended" or "failed". */
    this.state = "paused";
    this.loop = loop;
    /** Number of the frame on the canvas, -1 before the first. */
    this.shown = -1;
    /** Pictures drawn, and frames whose time went by before they were. */
    this.drawn = 0;
    this.skipped = 0;
    this.pictures = new Map();
    this.place = 0; // seconds, while no clock runs
    this.speed = rate;
    this.loudness = volume;
    this.drawing = false;
    this.cost = 0; // seconds that a picture takes, of late
    this.started = null;
    this.closed = false;
  }

  get duration() {
    const { info, speech } = this.clip;
    return Math.max(info.durationSeconds, speech ? speech.length / SAMPLE_RATE : 0);
  }

  /** Seconds from the beginning. */
  get time() {
    if (this.started === null) return this.place;
    const elapsed = (this.clock() - this.started) * this.speed;
    return Math.min(this.place + Math.max(elapsed, 0), this.duration);
  }

  /** Begin at another time. */
  set time(seconds) {
    this.stopClock();
    this.place = Math.min(Math.max(seconds, 0), this.duration);
    this.set(this.state === "playing" || this.state === "waiting" ? "waiting" : "paused");
    this.follow();
  }

  get volume() {
    return this.loudness;
  }

  set volume(value) {
    this.loudness = Math.min(Math.max(value, 0), 1);
    if (this.gain) this.gain.gain.value = this.loudness;
  }

  get rate() {
    return this.speed;
  }

  set rate(value) {
    const playing = this.started !== null;
    this.stopClock();
    this.speed = Math.min(Math.max(value, 0.25), 4);
    if (playing) this.startClock();
  }

  get paused() {
    return !["playing", "waiting"].includes(this.state);
  }

  frameAt(seconds) {
    const { frames, fps } = this.clip.info;
    return Math.min(Math.floor(seconds * fps + 1e-6), frames - 1);
  }

  play() {
    if (this.closed || !this.paused) return;
    if (this.state === "ended" || this.place >= this.duration) this.place = 0;
    // Browsers let sound begin in answer to a click alone: so this comes first, before anything is waited for.
    if (this.clip.speech && !this.audio) {
      this.audio = new AudioContext({ latencyHint: "interactive" });
      this.gain = this.audio.createGain();
      this.gain.gain.value = this.loudness;
      this.gain.connect(this.audio.destination);
      this.buffer = this.audio.createBuffer(1, Math.max(this.clip.speech.length, 1), SAMPLE_RATE);
      this.buffer.copyToChannel(this.clip.speech, 0);
    }
    this.audio?.resume();
    this.set("waiting");
    this.follow();
  }

  pause() {
    this.stopClock();
    if (!this.paused) this.set("paused");
  }

  /** Show the frame at the present time, without playing. */
  show() {
    this.follow();
  }

  close() {
    this.closed = true;
    this.stopClock();
    this.audio?.close();
    this.pictures.clear();
    this.clip.players.delete(this);
  }

  set(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  /** Seconds of the clock that leads: the sound's, as it is heard. */
  clock() {
    if (!this.audio) return performance.now() / 1000;
    return this.audio.currentTime - (this.audio.outputLatency || this.audio.baseLatency || 0);
  }

  startClock() {
    if (this.audio) {
      this.source = this.audio.createBufferSource();
      this.source.buffer = this.buffer;
      this.source.playbackRate.value = this.speed;
      this.source.connect(this.gain);
      const begin = this.audio.currentTime + 0.02;
      if (this.place < this.buffer.duration) this.source.start(begin, this.place);
      this.started = begin;
    } else this.started = this.clock();
    this.set("playing");
    this.tick();
  }

  stopClock() {
    if (this.started === null) return;
    this.place = this.time;
    this.started = null;
    try {
      this.source?.stop();
    } catch {
      // it was never started
    }
    this.source = null;
    cancelAnimationFrame(this.ticking);
  }

  tick() {
    if (this.started === null) return;
    this.paint();
    this.follow();
    if (this.time >= this.duration) {
      if (this.loop) {
        this.time = 0;
        return;
      }
      this.stopClock();
      this.set("ended");
      this.follow(); // the last picture, if it was left out
      return;
    }
    this.ticking = requestAnimationFrame(() => this.tick());
  }

  /** Put the newest picture on the canvas that is due and not older than the one there. */
  paint() {
    const due = this.frameAt(this.time);
    let best = -1;
    for (const frame of this.pictures.keys()) if (frame <= due && frame > best) best = frame;
    if (best < 0 || best === this.shown) return;
    if (best > this.shown + 1 && this.started !== null && this.shown >= 0) this.skipped += best - this.shown - 1;
    this.context.putImageData(this.pictures.get(best), 0, 0);
    this.shown = best;
    for (const frame of this.pictures.keys()) if (frame < best) this.pictures.delete(frame);
    this.dispatchEvent(new Event("time"));
  }

  /** The next frame worth drawing; -1 if there are enough. */
  wanted() {
    const now = this.frameAt(this.time);
    if (this.started === null) return this.pictures.has(now) ? -1 : now;
    const { frames, fps } = this.clip.info;
    // What cannot be ready in time is left out.
    const first = Math.max(now, this.frameAt(Math.min(this.time + this.cost * this.speed, this.duration)));
    const reach = Math.min(first + Math.max(AHEAD, Math.ceil(this.cost * fps)), frames);
    for (let frame = first; frame < reach; frame++) {
      if (!this.pictures.has(frame) && frame !== this.shown) return frame;
    }
    return -1;
  }

  /** Keep drawing what is wanted. */
  async follow() {
    if (this.drawing) return;
    this.drawing = true;
    try {
      for (let frame = this.wanted(); frame >= 0 && !this.closed; frame = this.wanted()) {
        const before = performance.now();
        const picture = await this.clip.picture(frame);
        const took = (performance.now() - before) / 1000;
        this.cost = this.drawn > 1 ? 0.7 * this.cost + 0.3 * took : 0;
        this.drawn++;
        this.pictures.set(frame, picture);
        if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
        if (this.started === null) this.rest(frame);
      }
    } catch (error) {
      this.stopClock();
      this.set("failed");
      this.dispatchEvent(new CustomEvent("error", { detail: error }));
    } finally {
      this.drawing = false;
    }
    if (this.started === null && this.state !== "failed" && this.pictures.has(this.frameAt(this.time))) {
      this.rest(this.frameAt(this.time));
    }
  }

  /** A picture came while no clock ran: show it, and begin if that was waited for. */
  rest(frame) {
    if (frame !== this.frameAt(this.time)) return;
    this.shown = -1;
    this.paint();
    if (this.state !== "waiting") return;
    if (this.audio && this.audio.state !== "running") {
      // The browser wants a click first; its clock stands still until then.
      this.audio.resume().then(() => this.state === "waiting" && this.started === null && this.follow());
      return;
    }
    this.startClock();
  }
}
