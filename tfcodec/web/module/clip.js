// Clips: what a page that plays streams needs of this module, and no more.

import { MediaError } from "./errors.js";
import { Player } from "./player.js";
import { common, place, preload as preloadNetwork } from "./remote.js";

const SIDE = 256;

async function bytesOf(source) {
  if (source instanceof ArrayBuffer) return source.slice(0);
  if (ArrayBuffer.isView(source)) {
    return source.buffer.slice(source.byteOffset, source.byteOffset + source.byteLength);
  }
  if (source instanceof Blob) return source.arrayBuffer();
  let response;
  try {
    response = await fetch(source);
  } catch (error) {
    throw new MediaError(`cannot fetch ${source}: ${error.message}`);
  }
  if (!response.ok) throw new MediaError(`cannot fetch ${source}: status ${response.status}`);
  return response.arrayBuffer();
}

/** An opened clip. */
export class Clip extends EventTarget {
  constructor(remote, { clip, info, speech, seconds }, where) {
    super();
    this.remote = remote;
    this.number = clip;
    /** What the stream holds. */
    this.info = info;
    /** The decoded speech, Float32Array at 16 kHz; null without any. */
    this.speech = speech;
    /** Bytes of each part of the stream, by second. */
    this.seconds = seconds;
    this.where = where;
    this.loading = null;
    this.players = new Set();
  }

  /** Load the network; `picture` and `play` do so by themselves. Throws WeightsError if the stream names another one. */
  load() {
    this.loading ??= this.remote.call("load", { clip: this.number, where: this.where });
    this.loading.catch(() => (this.loading = null));
    return this.loading;
  }

  /** Draw a frame: ImageData of 256 x 256 pixels. */
  async picture(frame) {
    if (!(Number.isInteger(frame) && frame >= 0 && frame < this.info.frames)) {
      throw new RangeError(`frame ${frame} of ${this.info.frames}`);
    }
    await this.load();
    const { pixels } = await this.remote.call("draw", { clip: this.number, frame });
    return new ImageData(pixels, SIDE, SIDE);
  }

  /** What is exact of a frame: { tiny: [96] in 1/16 grey level, motion: [17], displacement: [12] in 1/32 pixel, keyframe }. */
  exact(frame) {
    return this.remote.call("exact", { clip: this.number, frame });
  }

  /** The keyframe that a frame is drawn from: { first, number, pixels: RGB [256 * 256 * 3] }. */
  keyframe(frame) {
    return this.remote.call("keyframe", { clip: this.number, frame });
  }

  /** Frames one after another: { number, time, picture }. */
  async *frames(first = 0, end = this.info.frames) {
    for (let number = first; number < end; number++) {
      yield { number, time: number / this.info.fps, picture: await this.picture(number) };
    }
  }

  /** A player on a canvas; it is there at once, and begins to play when the first frame is drawn. */
  play(canvas, options = {}) {
    const player = this.player(canvas, options);
    player.play();
    return player;
  }

  /** The same, at rest. */
  player(canvas, options = {}) {
    const player = new Player(this, canvas, options);
    this.players.add(player);
    return player;
  }

  /** Stop all players and forget the clip. */
  close() {
    for (const player of this.players) player.close();
    this.players.clear();
    return this.remote.call("close", { clip: this.number });
  }
}

/** Opens streams. */
export const Clips = {
  /**
   * Open a stream: an address, a Blob or bytes.
   *
   * `model` and `runtime` are the addresses of the network's folder and of onnxruntime-web's, `threads` how many
   * WebAssembly may take, `backend` "webgpu" or "wasm" (by default WebGPU where there is a graphics card), `limits` stricter ones than the specification's, `preload` whether the network is loaded at once, and not with the first picture. Throws BitstreamError or one of its kinds,
   * MediaError.
   */
  async open(source, { limits, preload = false, ...options } = {}) {
    const shared = common();
    const where = place(options);
    if (preload) preloadNetwork(where);
    const bytes = await bytesOf(source);
    return new Clip(shared, await shared.call("open", { bytes, limits, where: preload ? where : null }, [bytes]), where);
  },
};
