// The network: keyframe part, frame part and guess as ONNX, run by onnxruntime-web.

import { hex, sha256 } from "./bytes.js";
import { MediaError, WeightsError } from "./errors.js";
import { synthesise } from "./marks.js";
import { tinyToRgb } from "./planes.js";
import { fetchBytes } from "./tables.js";

const SIDE = 256;
const REACH = 2; // tiny frames on either side of the one to draw
const POINTS = 70;
const HALF = SIDE / 2;
const BANDS = 80;
const SENT = 1; // behind a frame's motion numbers: they are its own
const THREADS = 4;
const ON_CPU = ["key_marks", "key_face"];

/** onnxruntime-web, and how it is to compute: `backend` says so, or what there is. */
async function runtimeOf(runtime, backend) {
  const load = async (file) => {
    try {
      return await import(`${runtime}${file}`);
    } catch (error) {
      throw new MediaError(`cannot load onnxruntime-web from ${runtime}: ${error.message}`);
    }
  };
  if (backend !== "wasm") {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter().catch(() => null);
    const software = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
    if (backend === "webgpu" || (adapter && !software)) {
      if (!adapter) throw new MediaError("this browser has no WebGPU");
      try {
        return { ort: await load("ort.webgpu.min.mjs"), provider: "webgpu" };
      } catch (error) {
        if (backend === "webgpu") throw error; // otherwise the files may not be there
      }
    }
  }
  return { ort: await load("ort.wasm.min.mjs"), provider: "wasm" };
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
    const card = JSON.parse(new TextDecoder().decode(await fetchBytes(`${model}card.json`)));
    const names = Object.keys(card.graphs);
    const files = Promise.all(names.map((name) => fetchBytes(`${model}${card.graphs[name].file}`)));
    files.catch(() => {}); // it is waited for below
    const { ort, provider } = await runtimeOf(runtime, backend);
    ort.env.wasm.wasmPaths = runtime;
    const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? (threads ?? Math.min(THREADS, cores)) : 1;
    const network = new Network(ort, card, provider);
    for (const [i, name] of names.entries()) {
      const content = (await files)[i];
      const { file, sha256: wanted, outputs } = card.graphs[name];
      if ((await sha256(content)) !== wanted) throw new WeightsError(`${file} is not the file that the network's card names`);
      const options = { executionProviders: [provider], graphOptimizationLevel: "all" };
      if (provider === "webgpu" && name === "keyframe") {
        // What the other graphs take stays where they are; what is looked at here comes out.
        options.preferredOutputLocation = Object.fromEntries(outputs.map((output) =>
          [output.name, ON_CPU.includes(output.name) ? "cpu" : "gpu-buffer"]));
      }
      network.graphs[name] = await ort.InferenceSession.create(content, options);
    }
    return network;
  }

  constructor(ort, card, provider) {
    this.ort = ort;
    this.card = card;
    /** "webgpu" or "wasm". */
    this.provider = provider;
    this.graphs = {};
    this.keys = new Map(); // what was computed of the last keyframes, by group
  }

  get threads() {
    return this.ort.env.wasm.numThreads;
  }

  /** Throw WeightsError unless a stream names this network. */
  check({ modelId, modelHash }) {
    const { model_id: id, sha256: hash } = this.card.network;
    if (modelId === id && hex(modelHash) === hash.slice(0, 8)) return;
    const missing = modelId ? `network ${modelId} (hash ${hex(modelHash)})` : "no network";
    throw new WeightsError(`the stream names ${missing}, but the one here is ${id} (${hash.slice(0, 8)})`);
  }

  tensor(values, shape) {
    return new this.ort.Tensor("float32", values, [1, ...shape]);
  }

  /** What the keyframe part makes of a group's keyframe: { tensors by name, face, reference in pixels }. */
  async keyOf(group) {
    const known = this.keys.get(group);
    if (known) return known;
    const picture = await group.picture();
    const planes = new Float32Array(3 * SIDE * SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      for (let c = 0; c < 3; c++) planes[c * SIDE * SIDE + i] = picture[3 * i + c] / 255;
    }
    const tensors = await this.graphs.keyframe.run({ keyframe: this.tensor(planes, [3, SIDE, SIDE]) });
    const reference = Float64Array.from(tensors.key_marks.data, (mark) => (mark + 1) * HALF);
    const key = { tensors, reference, face: tensors.key_face.data[0] > 0 };
    this.keys.set(group, key);
    while (this.keys.size > 2) {
      const [oldest, { tensors: unused }] = this.keys.entries().next().value;
      this.keys.delete(oldest);
      for (const tensor of Object.values(unused)) tensor.dispose();
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
    const sound = this.hears(motion) && mel ? mel.window(frame) : null;
    return this.drawFrom(group, { windows: this.windows(group, frame), motion, sound }, synthesis);
  }

  /** Whether the sound moves the lips of a frame with this motion. */
  hears(motion) {
    return motion[16] !== SENT && "lips" in this.graphs;
  }

  /**
   * Draw from a keyframe (whatever has a `picture()`), the tiny frames around the frame [5 * 192], its motion [17], and
   * log-mel [148 * 80] or null.
   */
  async drawFrom(group, { windows, motion, sound }, synthesis) {
    const key = await this.keyOf(group);
    const tiny = new Float32Array(windows.length);
    for (let at = 0; at < windows.length; at++) {
      const [k, pixel, c] = [Math.floor(at / 192), Math.floor(at / 3) % 64, at % 3];
      tiny[(k * 3 + c) * 64 + pixel] = windows[at] / 255;
    }
    const input = this.tensor(tiny, [2 * REACH + 1, 3, 8, 8]);
    let marks = await this.marks(key, motion, input, synthesis);
    if (sound && key.face && this.hears(motion)) {
      const mel = this.tensor(sound, [sound.length / BANDS, BANDS]);
      marks = (await this.graphs.lips.run({ mel, key_marks: key.tensors.key_marks, marks })).heard;
    }
    const { picture } = await this.graphs.frame.run({ tiny: input, marks, ...key.tensors });
    const out = new Uint8ClampedArray(SIDE * SIDE * 4);
    for (let i = 0, at = 0; i < out.length; i += 4) {
      out[i] = picture.data[at++];
      out[i + 1] = picture.data[at++];
      out[i + 2] = picture.data[at++];
      out[i + 3] = 255;
    }
    return out;
  }

  /** Landmarks of a frame: as its motion says, or as the tiny frames do where none was sent. */
  async marks(key, motion, tiny, synthesis) {
    if (motion[16] && key.face) {
      const points = synthesise(synthesis, key.reference, motion);
      return this.tensor(points.map((pixel) => pixel / HALF - 1), [POINTS, 2]);
    }
    const { key_small, key_marks } = key.tensors;
    return (await this.graphs.guess.run({ tiny, key_small, key_marks })).marks;
  }
}
