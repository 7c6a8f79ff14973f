// The worker that decodes and draws, and the calls that wait for its answer.

import { MediaError, revive } from "./errors.js";

export class Remote {
  constructor(worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" })) {
    this.worker = worker;
    this.waiting = new Map();
    this.next = 1;
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(revive(error));
      else resolve(result);
    };
    this.worker.onerror = (event) => {
      const error = new MediaError(`the decoder's worker failed: ${event.message ?? "it could not be loaded"}`);
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  call(method, args, transfer = []) {
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

/** The worker that all clips of a page share: the one in `tfcWorker` if the page has begun one before this module came. */
export const common = () => (shared ??= new Remote(globalThis.tfcWorker));

const FIRST = ["card.json", "keyframe.program", "frame.program"];

/**
 * Begin to load a network, before it is known what for. Whoever draws hears if that fails. With `fetching` its files are
 * fetched here, which is sooner where the worker is still on its way.
 */
export function preload(where, fetching = false) {
  const files = fetching ? FIRST.map((name) => `${where.model}${name}`) : [];
  common().call("preload", { where, files }).catch(() => {});
  for (const url of files) {
    fetch(url)
      .then((response) => (response.ok ? response.arrayBuffer() : null))
      .catch(() => null) // the worker tries itself, and says what is wrong
      .then((bytes) => common().worker.postMessage({ method: "file", args: { url, bytes } }, bytes ? [bytes] : []));
  }
}

/** The address of a folder, whole, and ending in a slash. */
export const absolute = (url) => new URL(url.endsWith("/") ? url : `${url}/`, globalThis.location?.href).href;

/** What `Tfc.open` takes, as the worker takes it. */
export const place = ({ model = "model/", runtime = "runtime/", threads, backend }) =>
  ({ model: absolute(model), runtime: absolute(runtime), threads, backend });
