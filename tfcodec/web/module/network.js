// The network: which way it is computed, and what it is given for a frame.

import { hex } from "./bytes.js";
import { MediaError, WeightsError } from "./errors.js";
import { Graphs, hasWebGpu } from "./graphs.js";
import { NO_DISPLACEMENT } from "./layers.js";
import { synthesise } from "./marks.js";
import { tinyToRgb } from "./planes.js";
import { Programs } from "./programs.js";
import { fetchBytes } from "./tables.js";

const SIDE = 256;
const REACH = 2; // tiny frames on either side of the one to draw
const HALF = SIDE / 2;
const [ABSENT, SENT] = [0, 1]; // behind a frame's motion numbers: there are none; they are its own
const PIXEL = 32; // a displacement's numbers are in parts of one
const THREADS = 4;

/**
 * An export's card. Throws WeightsError if it is none, as where a server answers with a page of its own, or that of an
 * earlier version.
 */
export function cardOf(content, model) {
  let card = null;
  try {
    card = JSON.parse(new TextDecoder().decode(content));
  } catch {
    // It is said below.
  }
  const file = (entry) => typeof entry?.file === "string" && typeof entry?.sha256 === "string";
  const whole = (parts) => ["keyframe", "frame"].every((name) => file(parts?.[name]));
  if (!card?.network?.sha256 || !whole(card.graphs) || (card.programs && !whole(card.programs.files))) {
    throw new WeightsError(`${model}card.json is no card of a network that \`tfcodec export onnx\` wrote`);
  }
  if (!card.programs || !card.graphs.frame.inputs?.some(({ name }) => name === "displacement")) {
    throw new WeightsError("the network was exported by an earlier version: export it again");
  }
  return card;
}

/**
 * Draws frames.
 *
 * `model` is the folder that `tfcodec export onnx` wrote, `runtime` that of onnxruntime-web's files, both as addresses
 * that end in a slash; `threads` is how many WebAssembly takes, where the page is isolated from others; `backend` is
 * "webgpu", "wasm", or undefined: WebGPU where there is an adapter that is no software.
 */
export class Network {
  static async load({ model, runtime, threads, backend }) {
    const asked = backend === "wasm" ? Promise.resolve(false) : hasWebGpu(backend);
    asked.catch(() => {}); // it is waited for below
    const card = cardOf(await fetchBytes(`${model}card.json`), model);
    const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
    const taken = globalThis.crossOriginIsolated ? (threads ?? Math.min(THREADS, cores)) : 1;
    // Browsers take a while to say that there is no graphics card.
    const stop = new AbortController();
    const begin = (signal) => {
      const loading = Programs.load({ model, threads: taken }, card, signal);
      loading.catch(() => {}); // it is waited for below
      return loading;
    };
    const begun = backend !== "webgpu" ? begin(stop.signal) : null;
    if (await asked) {
      stop.abort();
      try {
        return new Network(await Graphs.load({ model, runtime }, card), card);
      } catch (error) {
        if (backend === "webgpu" || !(error instanceof MediaError)) throw error; // otherwise the files may not be there
      }
    }
    return new Network(await (stop.signal.aborted ? begin() : begun), card);
  }

  constructor(backend, card) {
    this.backend = backend;
    this.card = card;
    /** "webgpu" or "wasm". */
    this.provider = backend.provider;
    this.keys = new Map(); // what was computed of the last keyframes, by group
  }

  get threads() {
    return this.backend.threads;
  }

  /** Throw WeightsError unless a stream names this network. */
  check({ modelId, modelHash }) {
    const { model_id: id, sha256: hash } = this.card.network;
    if (modelId === id && hex(modelHash) === hash.slice(0, 8)) return;
    const missing = modelId ? `network ${modelId} (hash ${hex(modelHash)})` : "no network";
    throw new WeightsError(`the stream names ${missing}, but the one here is ${id} (${hash.slice(0, 8)})`);
  }

  /** What the keyframe part makes of a group's keyframe: { face, reference in pixels, ... }. */
  async keyOf(group) {
    const known = this.keys.get(group);
    if (known) return known;
    const picture = await group.picture();
    const planes = new Float32Array(3 * SIDE * SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      for (let c = 0; c < 3; c++) planes[c * SIDE * SIDE + i] = picture[3 * i + c] / 255;
    }
    const key = await this.backend.keyframe(planes);
    key.reference = Float64Array.from(key.marks, (mark) => (mark + 1) * HALF);
    this.keys.set(group, key);
    while (this.keys.size > 2) {
      const [oldest, unused] = this.keys.entries().next().value;
      this.keys.delete(oldest);
      this.backend.release(unused);
    }
    return key;
  }

  /** The tiny frames around one, [5 * 192] in RGB. The ends of the keyframe's frames repeat. */
  windows(group, frame) {
    const out = new Uint8Array((2 * REACH + 1) * 3 * 64);
    for (let k = 0; k <= 2 * REACH; k++) out.set(tinyToRgb(group.tinyOf(frame + k - REACH)), k * 3 * 64);
    return out;
  }

  /**
   * Draw a frame: RGBA [256 * 256 * 4]; `mel` is a LogMel of the speech, or null. Throws BitstreamError where the layers
   * are malformed.
   */
  async draw(group, frame, synthesis, mel) {
    await group.upTo(frame + REACH + 1);
    const motion = group.motionOf(frame);
    const displacement = group.displacementOf(frame);
    const sound = this.hears(motion) && mel ? mel.window(frame) : null;
    const windows = this.windows(group, frame);
    return this.drawFrom(group, { windows, motion, displacement, sound }, synthesis);
  }

  /** Whether the sound moves the lips of a frame with this motion. */
  hears(motion) {
    return motion[16] !== SENT && this.backend.has("lips");
  }

  /**
   * Draw from a keyframe (whatever has a `picture()`), the tiny frames around the frame [5 * 192], its motion [17], its
   * displacement [12] if it has one, and log-mel [148 * 80] or null.
   */
  async drawFrom(group, { windows, motion, displacement = NO_DISPLACEMENT, sound }, synthesis) {
    const key = await this.keyOf(group);
    const tiny = new Float32Array(windows.length);
    for (let at = 0; at < windows.length; at++) {
      const [k, pixel, c] = [Math.floor(at / 192), Math.floor(at / 3) % 64, at % 3];
      tiny[(k * 3 + c) * 64 + pixel] = windows[at] / 255;
    }
    let marks = await this.marks(key, motion, tiny, synthesis);
    if (sound && key.face && this.hears(motion)) {
      marks = await this.backend.lips(key, sound, marks, motion[16] === ABSENT);
    }
    const pixels = Float32Array.from(displacement, (number) => number / PIXEL);
    const picture = await this.backend.frame(key, tiny, marks, pixels);
    const out = new Uint8ClampedArray(SIDE * SIDE * 4);
    for (let i = 0, at = 0; i < out.length; i += 4) {
      out[i] = picture[at++];
      out[i + 1] = picture[at++];
      out[i + 2] = picture[at++];
      out[i + 3] = 255;
    }
    return out;
  }

  /** Landmarks [140] of a frame: as its motion says, or as the tiny frames do where none was sent. */
  async marks(key, motion, tiny, synthesis) {
    if (motion[16] && key.face) {
      return Float32Array.from(synthesise(synthesis, key.reference, motion), (pixel) => pixel / HALF - 1);
    }
    return this.backend.guess(key, tiny);
  }
}
