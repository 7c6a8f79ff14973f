// The network by WebAssembly: programs that `tfcodec export onnx` makes of its graphs, and the engine that runs them.

import { sha256 } from "./bytes.js";
import { MediaError, WeightsError } from "./errors.js";
import { fetchBytes } from "./tables.js";

const MAGIC = "TFPROG01";
const PAGE = 65536;
const STACK = 65536;
const FIRST = ["keyframe", "frame"]; // the parts that every stream needs
const WIDTH = { i32: 4, f32: 4, f16: 2 };

/** The engine, compiled: with fused multiply-add where the browser has it. */
async function engineOf() {
  const compile = async (name) => {
    const answer = await fetch(new URL(name, import.meta.url));
    if (!answer.ok) throw new MediaError(`cannot fetch ${name}: status ${answer.status}`);
    return WebAssembly.compile(await answer.arrayBuffer());
  };
  try {
    return await compile("engine-relaxed.wasm");
  } catch (error) {
    if (error instanceof MediaError) throw error;
    return compile("engine.wasm");
  }
}

/** The header of a program's file, and its pieces of memory: { program, inputs, ..., pieces: [kind, address, bytes, inputs] }. */
export function parseProgram(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const text = (from, to) => new TextDecoder().decode(content.subarray(from, to));
  if (content.length < 12 || text(0, 8) !== MAGIC) throw new WeightsError("this is no program of the network");
  let at = 12 + view.getUint32(8, true);
  const header = JSON.parse(text(12, at));
  const pieces = header.pieces.map(([kind, address, count, inputs]) => {
    const size = count * WIDTH[kind];
    const bytes = content.subarray(at, at + size);
    at += size + (-size & 3);
    return [kind, address, bytes, inputs];
  });
  if (at !== content.length) throw new WeightsError("a program of the network is not whole");
  return { ...header, pieces };
}

/** A program's file, if it is the one that the card names. */
async function contentOf(model, { file, sha256: wanted }, signal) {
  const content = await fetchBytes(`${model}${file}`, signal);
  if ((await sha256(content)) !== wanted) throw new WeightsError(`${file} is not the file that the network's card names`);
  return content;
}

/** The keyframe part, the frame part and what else a network has, each loaded when it is needed first. */
export class Programs {
  /** Begin to fetch what every stream needs: promises of the engine and of the contents. */
  static begin(model, card, signal) {
    const engine = engineOf();
    const contents = FIRST.map((name) => contentOf(model, card.programs.files[name], signal));
    for (const promise of [engine, ...contents]) promise.catch(() => {}); // load() waits for them
    return { engine, contents };
  }

  static async load({ model, threads }, card, { engine, contents } = Programs.begin(model, card)) {
    const programs = new Programs(model, card.programs);
    await programs.start(await engine, threads);
    for (const [i, name] of FIRST.entries()) programs.put(name, await contents[i]);
    return programs;
  }

  constructor(model, { memory, shared, stacks, threads, staging, files }) {
    this.model = model;
    this.files = files;
    Object.assign(this, { shared, stacks, staging, most: threads });
    this.memory = new WebAssembly.Memory({ initial: memory / PAGE, maximum: memory / PAGE, shared: true });
    this.parts = {}; // by name: where the program is, and what goes in and comes out
    this.loading = {};
    this.threads = 1;
    this.key = null; // whose features are where programs look for them
  }

  get provider() {
    return "wasm";
  }

  has(name) {
    return name in this.files;
  }

  /** Begin to compute, with threads that help. */
  async start(engine, threads) {
    this.engine = (await WebAssembly.instantiate(engine, { env: { memory: this.memory } })).exports;
    const wanted = Math.min(threads, this.most);
    const ready = [];
    for (let thread = 1; thread < wanted; thread++) {
      const worker = new Worker(new URL("thread.js", import.meta.url), { type: "module" });
      ready.push(new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => (data === "ready" ? resolve() : reject(new MediaError(`a thread failed: ${data}`)));
        worker.onerror = (event) => reject(new MediaError(`a thread failed: ${event.message ?? "not loaded"}`));
      }));
      const stack = this.stacks + (thread + 1) * STACK; // it grows down
      worker.postMessage({ engine, memory: this.memory, stack, thread, threads: wanted, shared: this.shared });
    }
    try {
      await Promise.all(ready);
      this.threads = Math.max(wanted, 1);
    } catch {
      // Those that came take part in nothing.
    }
  }

  /** Put a program into the memory, with its weights. */
  put(name, content) {
    const { pieces, ...part } = parseProgram(content);
    const bytes = new Uint8Array(this.memory.buffer);
    for (const [kind, address, piece, inputs] of pieces) {
      const count = piece.length / WIDTH[kind];
      // Weights of convolutions are transformed on their way.
      const target = inputs ? this.staging : address;
      if (kind === "f16") {
        const halves = inputs ? this.staging + 4 * count : this.staging;
        bytes.set(piece, halves);
        this.engine.widen(halves, target, count);
      } else bytes.set(piece, target);
      if (inputs) this.engine.transform(target, address, count / (36 * inputs), inputs);
    }
    this.parts[name] = part;
  }

  /** Load a part that is not needed by every stream. */
  need(name) {
    this.loading[name] ??= this.parts[name] ? Promise.resolve() : contentOf(this.model, this.files[name]).then((x) => this.put(name, x));
    this.loading[name].catch(() => delete this.loading[name]);
    return this.loading[name];
  }

  /** Run a part; what goes in, as arrays by name. What comes out lies in the memory until the next run. */
  run(name, given) {
    const { inputs, program } = this.parts[name];
    for (const [input, values] of Object.entries(given)) this.at(inputs[input]).set(values);
    this.engine.run(program, this.threads, this.shared);
  }

  at([address, count]) {
    return new Float32Array(this.memory.buffer, address, count);
  }

  output(name, output) {
    return this.at(this.parts[name].outputs[output]);
  }

  /** What the keyframe part makes of a picture [3 * 256 * 256]: { marks, face }, and what the others take of it. */
  async keyframe(planes) {
    this.keep();
    this.run("keyframe", { keyframe: planes });
    const marks = this.output("keyframe", "key_marks").slice();
    this.key = { marks, face: this.output("keyframe", "key_face")[0] > 0, features: null };
    return this.key;
  }

  /** Copy the features of the present keyframe, whose place another's are to take. */
  keep() {
    if (this.key && !this.key.gone) {
      const { outputs } = this.parts.keyframe;
      this.key.features ??= Object.values(outputs).map((output) => this.at(output).slice());
    }
  }

  use(key) {
    if (this.key === key) return;
    this.keep();
    Object.values(this.parts.keyframe.outputs).forEach((output, i) => this.at(output).set(key.features[i]));
    this.key = key;
  }

  release(key) {
    key.gone = true;
    key.features = null;
  }

  /** Landmarks [140] by tiny frames [5 * 3 * 64]. */
  async guess(key, tiny) {
    await this.need("guess");
    this.use(key);
    this.run("guess", { tiny });
    return this.output("guess", "marks").slice();
  }

  /** Landmarks with lips that are moved to log-mel [148 * 80]. */
  async lips(key, mel, marks) {
    await this.need("lips");
    this.use(key);
    this.run("lips", { mel, marks });
    return this.output("lips", "heard").slice();
  }

  /** A picture [256 * 256 * 3] in 0..255. */
  async frame(key, tiny, marks) {
    this.use(key);
    this.run("frame", { tiny, marks });
    return this.output("frame", "picture");
  }
}
