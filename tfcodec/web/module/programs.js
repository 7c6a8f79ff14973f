// The network by WebAssembly: programs that `tfcodec export onnx` makes of its graphs, and the engine that runs them.

import { sha256 } from "./bytes.js";
import { MediaError, WeightsError } from "./errors.js";
import { fetchBytes } from "./tables.js";

const MAGIC = "TFPROG02";
const PAGE = 65536;
const STACK = 65536;
const FIRST = ["keyframe", "frame"]; // the parts that every stream needs
const WIDTH = { i32: 4, f32: 4, f16: 2 };
/** The engine's convolutions, and how often they run to be compiled well. */
const CONV = 1;
const CONV4 = 13;
const TIMES = 4;

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
  if (content.length >= 12 && text(0, 6) === MAGIC.slice(0, 6) && text(0, 8) !== MAGIC) {
    throw new WeightsError("the network was exported by another version: export it again");
  }
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

/** A program's file, as promises: its content, and that it is the one that the card names. */
function fetched(model, { file, sha256: wanted }, signal) {
  const content = fetchBytes(`${model}${file}`, signal);
  const whole = content.then(async (bytes) => {
    if ((await sha256(bytes)) !== wanted) throw new WeightsError(`${file} is not the file that the network's card names`);
  });
  for (const promise of [content, whole]) promise.catch(() => {}); // they are waited for later
  return { content, whole };
}

let compiled = null;

/** Begin to load the engine before it is known what for. */
export function prepareEngine() {
  compiled ??= engineOf();
  compiled.catch(() => (compiled = null)); // whoever needs it hears of it
  return compiled;
}

/** The keyframe part, the frame part and what else a network has, each loaded when it is needed first. */
export class Programs {
  /** Load what every stream needs; `signal` says when nobody wants it any more. */
  static async load({ model, threads }, card, signal) {
    const engine = prepareEngine();
    const files = FIRST.map((name) => fetched(model, card.programs.files[name], signal));
    const programs = new Programs(model, card.programs);
    const helpers = programs.helpers(threads);
    signal?.addEventListener("abort", () => helpers.forEach((helper) => helper.terminate()));
    await programs.start(await engine, helpers);
    programs.warm();
    for (const [i, name] of FIRST.entries()) await programs.take(name, files[i]);
    await Promise.all(files.map(({ whole }) => whole));
    return programs;
  }

  constructor(model, { memory, shared, stacks, threads, staging, files }) {
    this.model = model;
    this.files = files;
    Object.assign(this, { shared, stacks, staging, most: threads });
    this.memory = new WebAssembly.Memory({ initial: memory / PAGE, maximum: memory / PAGE, shared: true });
    this.parts = {}; // by name: where the program is, and what goes in and comes out
    this.loading = {};
    /** Threads in all, and those that are there yet. */
    this.threads = this.present = 1;
    this.key = null; // whose features are where programs look for them
  }

  get provider() {
    return "wasm";
  }

  has(name) {
    return name in this.files;
  }

  /** Workers that are to be the threads but the first; it takes them a while to come. */
  helpers(threads) {
    const count = Math.min(threads, this.most) - 1;
    return Array.from({ length: Math.max(count, 0) }, () => new Worker(new URL("thread.js", import.meta.url), { type: "module" }));
  }

  /** Begin to compute, with threads that help from when all of them are there. */
  async start(engine, helpers = []) {
    this.engine = (await WebAssembly.instantiate(engine, { env: { memory: this.memory } })).exports;
    const threads = helpers.length + 1;
    const ready = helpers.map((worker, i) => new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data === "ready" ? resolve() : reject(new MediaError(`a thread failed: ${data}`)));
      worker.onerror = (event) => reject(new MediaError(`a thread failed: ${event.message ?? "not loaded"}`));
      const thread = i + 1;
      const stack = this.stacks + (thread + 1) * STACK; // it grows down
      worker.postMessage({ engine, memory: this.memory, stack, thread, threads, shared: this.shared });
    }));
    this.threads = threads;
    Promise.all(ready).then(() => (this.present = threads), () => (this.threads = 1)); // if one is missing, none takes part
  }

  /**
   * Run small convolutions of nothing a few times, before there are programs. Browsers compile what runs often once more,
   * and better, while this thread waits for files.
   */
  warm() {
    const program = this.stacks + (this.most + 1) * STACK; // what is there is overwritten later
    const nothing = program + 4096;
    const target = nothing + 4 * 16 * 66 * 66;
    const scratch = target + 4 * 16 * 64 * 64;
    const size = 24 * (2 * 16 * 64 + 32) + 2 * 16 * 80 + 64;
    if (scratch + 4 * size > this.staging) return;
    const operations = [
      [CONV4, nothing, nothing, 0, target, 16, 16, 64, 64, scratch, size, 2, 0, 1, 1, nothing, 16, 64 * 64, 64],
      [CONV, nothing, nothing, nothing, 0, target, 16, 16, 32, 64, 66 * 66, 66, 9, nothing],
    ];
    const words = new Int32Array(this.memory.buffer, program, 256);
    let at = 0;
    for (const [code, ...values] of operations) {
      words.set([code, values.length + 3, 0, ...values], at);
      at += values.length + 3;
    }
    for (let i = 0; i < TIMES; i++) this.engine.run(program, 1, this.shared);
    words.fill(0);
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

  /** Put a file in while it is still being checked: whoever calls waits for that. */
  async take(name, { content, whole }) {
    const bytes = await content;
    try {
      this.put(name, bytes);
    } catch (error) {
      await whole; // it says so if the file is damaged
      throw error;
    }
  }

  async fetchPart(name) {
    const file = fetched(this.model, this.files[name]);
    await file.whole;
    await this.take(name, file);
  }

  /** Load a part that is not needed by every stream. */
  need(name) {
    this.loading[name] ??= this.parts[name] ? Promise.resolve() : this.fetchPart(name);
    this.loading[name].catch(() => delete this.loading[name]);
    return this.loading[name];
  }

  /** Run a part; what goes in, as arrays by name. What comes out lies in the memory until the next run. */
  run(name, given) {
    const { inputs, program } = this.parts[name];
    for (const [input, values] of Object.entries(given)) this.at(inputs[input]).set(values);
    try {
      this.engine.run(program, this.present, this.shared);
    } catch (error) {
      if (this.present === 1) throw error;
      this.present = this.threads = 1; // those that are left do not count
      throw new MediaError(`a thread failed while it drew: ${error.message}`);
    }
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

  /** Landmarks with lips that are moved to log-mel [148 * 80]; `isGuess`: they are `guess`'s, and were not held. */
  async lips(key, mel, marks, isGuess) {
    await this.need("lips");
    this.use(key);
    this.run("lips", { mel, marks, guessed: Float32Array.of(isGuess ? 1 : 0) });
    return this.output("lips", "heard").slice();
  }

  /** A picture [256 * 256 * 3] in 0..255; the displacement [12] is in pixels. */
  async frame(key, tiny, marks, displacement) {
    this.use(key);
    this.run("frame", { tiny, marks, displacement });
    return this.output("frame", "picture");
  }
}
