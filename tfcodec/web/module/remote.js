// The worker that decodes and draws, and the calls that wait for its answer.

import { MediaError, revive } from "./errors.js";

export class Remote {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.next = 1;
    /** Why the worker answers nothing more, if that is so. */
    this.failure = null;
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      if (!this.waiting.has(id)) return;
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(revive(error));
      else resolve(result);
    };
    this.worker.onerror = (event) => {
      this.fail(new MediaError(`the decoder's worker failed: ${event.message ?? "it could not be loaded"}`));
    };
  }

  /** Whoever waits for an answer, or asks from now on, hears of it: a worker that failed gives none. */
  fail(error) {
    this.failure = error;
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  call(method, args, transfer = []) {
    if (this.failure) return Promise.reject(this.failure);
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, method, args }, transfer);
    });
  }

  /** End the worker; what is under way is never answered. */
  end() {
    this.worker.terminate();
    this.waiting.clear();
  }
}

let shared = null;

/** The worker that all clips of a page share; a new one when it has failed. */
export const common = () => (shared && !shared.failure ? shared : (shared = new Remote()));

/** Begin to load a network, before it is known what for. Whoever draws hears if that fails. */
export function preload(where) {
  common().call("preload", { where }).catch(() => {});
}

/** The address of a folder, whole, and ending in a slash. */
export const absolute = (url) => new URL(url.endsWith("/") ? url : `${url}/`, globalThis.location?.href).href;

/** What `Tfc.open` takes, as the worker takes it. */
export const place = ({ model = "model/", runtime = "runtime/", threads, backend }) =>
  ({ model: absolute(model), runtime: absolute(runtime), threads, backend });
