// The network by WebGPU: its graphs in ONNX, run by onnxruntime-web.

import { sha256 } from "./bytes.js";
import { MediaError, WeightsError } from "./errors.js";
import { fetchBytes } from "./tables.js";

const SIDE = 256;
const POINTS = 70;
const WINDOW = 5;
const BANDS = 80;
const NUMBERS = 12; // of a displacement
const ON_CPU = ["key_marks", "key_face"];

/** Whether there is a graphics card to compute with; `backend` "webgpu" takes an adapter in software, too. */
export async function hasWebGpu(backend) {
  const adapter = await globalThis.navigator?.gpu?.requestAdapter().catch(() => null);
  const software = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  if (backend === "webgpu" && !adapter) throw new MediaError("this browser has no WebGPU");
  return Boolean(adapter) && (backend === "webgpu" || !software);
}

/** As Programs, of which see there what the methods do. */
export class Graphs {
  static async load({ model, runtime }, card) {
    let ort;
    try {
      ort = await import(`${runtime}ort.webgpu.min.mjs`);
    } catch (error) {
      throw new MediaError(`cannot load onnxruntime-web from ${runtime}: ${error.message}`);
    }
    ort.env.wasm.wasmPaths = runtime;
    ort.env.wasm.numThreads = 1;
    const graphs = new Graphs(ort);
    for (const [name, { file, sha256: wanted, outputs }] of Object.entries(card.graphs)) {
      const content = await fetchBytes(`${model}${file}`);
      if ((await sha256(content)) !== wanted) throw new WeightsError(`${file} is not the file that the network's card names`);
      const options = { executionProviders: ["webgpu"], graphOptimizationLevel: "all" };
      if (name === "keyframe") {
        // What the other graphs take stays where they are; what is looked at here comes out.
        options.preferredOutputLocation = Object.fromEntries(outputs.map((output) =>
          [output.name, ON_CPU.includes(output.name) ? "cpu" : "gpu-buffer"]));
      }
      graphs.sessions[name] = await ort.InferenceSession.create(content, options);
    }
    return graphs;
  }

  constructor(ort) {
    this.ort = ort;
    this.sessions = {};
    this.threads = 1;
  }

  get provider() {
    return "webgpu";
  }

  has(name) {
    return name in this.sessions;
  }

  async need() {} // all are there

  tensor(values, shape) {
    return new this.ort.Tensor("float32", values, [1, ...shape]);
  }

  marks(values) {
    return this.tensor(values, [POINTS, 2]);
  }

  tiny(values) {
    return this.tensor(values, [WINDOW, 3, 8, 8]);
  }

  async keyframe(planes) {
    const tensors = await this.sessions.keyframe.run({ keyframe: this.tensor(planes, [3, SIDE, SIDE]) });
    return { tensors, marks: tensors.key_marks.data, face: tensors.key_face.data[0] > 0 };
  }

  release({ tensors }) {
    for (const tensor of Object.values(tensors)) tensor.dispose();
  }

  async guess({ tensors: { key_small, key_marks } }, tiny) {
    return (await this.sessions.guess.run({ tiny: this.tiny(tiny), key_small, key_marks })).marks.data;
  }

  async lips({ tensors: { key_marks } }, sound, marks, isGuess) {
    const mel = this.tensor(sound, [sound.length / BANDS, BANDS]);
    const guessed = this.tensor(Float32Array.of(isGuess ? 1 : 0), [1]);
    return (await this.sessions.lips.run({ mel, key_marks, marks: this.marks(marks), guessed })).heard.data;
  }

  async frame({ tensors }, tiny, marks, displacement) {
    const given = {
      tiny: this.tiny(tiny), marks: this.marks(marks), displacement: this.tensor(displacement, [NUMBERS]), ...tensors,
    };
    return (await this.sessions.frame.run(given)).picture.data;
  }
}
